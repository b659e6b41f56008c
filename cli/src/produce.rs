//! `sawlog produce`: lines, JSON lines or whole files into a topic.

mod pattern;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::{Acks, ClientError, Compression, Delivery, Producer, ProducerOptions, Record};

use self::pattern::Pattern;
use crate::Global;
use crate::failure::{Failure, Kind, say};
use crate::format::{Delimiter, delimiter};
use crate::jsonl;
use crate::progress::Progress;

/// Records sent before the oldest of them is asked for its confirmation.
const UNCONFIRMED_MAX: usize = 100_000;

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How input becomes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// One record a line, without its line end.
    Lines,
    /// One JSON object a line, as `consume -f json` prints them.
    Json,
    /// One record a file.
    File,
    /// One record a line, by verbs.
    Pattern(Pattern),
}

fn input(text: &str) -> Result<Input, String> {
    match text {
        "lines" => Ok(Input::Lines),
        "json" | "jsonl" => Ok(Input::Json),
        "file" => Ok(Input::File),
        verbs if verbs.contains('%') => Pattern::parse(verbs).map(Input::Pattern),
        _ => Err("expected lines, json, file, or verbs such as '%k %v\\n'".to_owned()),
    }
}

/// What is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcksOption {
    /// All in-sync replicas have it, on disk
    #[value(alias = "-1")]
    All,
    /// The leader has it in memory
    #[value(name = "1")]
    Leader,
    /// Nothing
    #[value(name = "0")]
    None,
}

/// Write records to a topic, from files or standard input.
#[derive(Debug, Args)]
pub(crate) struct Produce {
    /// The topic
    #[arg(add = ArgValueCandidates::new(crate::complete::topics))]
    pub(crate) topic: String,
    /// Files to read; standard input if there is none
    pub(crate) files: Vec<PathBuf>,
    /// How input becomes records: lines, json (an object a line, as `consume -f json` prints them),
    /// file (each is one record), or verbs of a line: %k key, %v value, %p partition, %T timestamp,
    /// %h headers as name=value,..., %t and %o read and left alone, %k{hex} %v{base64}
    #[arg(short = 'f', long, default_value = "lines", value_parser = input)]
    pub(crate) format: Input,
    /// What separates key and value in a line; without it a line is all value
    #[arg(short = 'k', long, value_name = "DELIMITER", visible_short_alias = 'K', value_parser = delimiter)]
    pub(crate) key_delimiter: Option<Delimiter>,
    /// The key of every record
    #[arg(long, value_name = "KEY", conflicts_with = "key_delimiter")]
    pub(crate) key: Option<String>,
    /// A header of every record; may be given several times
    #[arg(short = 'H', long, value_name = "NAME:VALUE", value_parser = header)]
    pub(crate) header: Vec<(String, String)>,
    /// The partition; by key if not given
    #[arg(short = 'p', long)]
    pub(crate) partition: Option<i32>,
    /// Codec: none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none", value_parser = codec)]
    pub(crate) compression: Compression,
    /// An empty value is null: a tombstone
    #[arg(short = 'Z', long)]
    pub(crate) null: bool,
    /// What is confirmed
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) acks: AcksOption,
    /// Records a second; as fast as possible if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<u64>,
    /// Write each record this many times
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) repeat: u64,
    /// Say where each record is
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
}

pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once(':').or_else(|| text.split_once('=')).ok_or("expected name:value")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn codec(name: &str) -> Result<Compression, String> {
    Compression::from_name(name)
        .ok_or_else(|| format!("\"{name}\" is no codec: expected none, gzip, snappy, lz4 or zstd"))
}

/// Records on their way.
struct Sending {
    producer: Producer,
    unconfirmed: VecDeque<Delivery>,
    sent: u64,
    failed: u64,
    failure: Option<ClientError>,
    verbose: bool,
    /// Records a second.
    rate: Option<u64>,
    started: Instant,
    progress: Progress,
}

impl Produce {
    /// Records that are lines, or files, with nothing special about them.
    pub(crate) fn plain_lines(topic: String, files: Vec<PathBuf>) -> Self {
        Self {
            topic,
            files,
            format: Input::Lines,
            key_delimiter: None,
            key: None,
            header: Vec::new(),
            partition: None,
            compression: Compression::None,
            null: false,
            acks: AcksOption::All,
            rate: None,
            repeat: 1,
            verbose: false,
        }
    }

    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        let topic = crate::topic::known(&client, &self.topic).await?;
        // Said at once, whether or not anything is to be written.
        if let Some(partition) = self.partition {
            crate::topic::has_partition(&topic, partition)?;
        }
        let options = ProducerOptions {
            acks: match self.acks {
                AcksOption::All => Acks::All,
                AcksOption::Leader => Acks::Leader,
                AcksOption::None => Acks::None,
            },
            idempotent: self.acks == AcksOption::All,
            compression: self.compression,
            ..ProducerOptions::default()
        };
        let mut sending = Sending {
            producer: Producer::new(client, options),
            unconfirmed: VecDeque::new(),
            sent: 0,
            failed: 0,
            failure: None,
            verbose: self.verbose,
            rate: self.rate,
            started: Instant::now(),
            // Who types sees how far it is.
            progress: Progress::new("records", None, !std::io::stdin().is_terminal()),
        };
        let outcome = self.send_all(&mut sending).await;
        sending.producer.flush().await;
        while !sending.unconfirmed.is_empty() {
            sending.settle_oldest().await;
        }
        drop(sending.progress);
        outcome?;
        match sending.failure {
            None => Ok(()),
            Some(error) if sending.failed == sending.sent => Err(error.into()),
            Some(error) => Err(Failure::new(
                Kind::Partial,
                format!("{} of {} records were not written: {error}", sending.failed, sending.sent),
            )),
        }
    }

    async fn send_all(&self, sending: &mut Sending) -> Result<(), Failure> {
        if self.files.is_empty() {
            // Not the lock: it would be held across awaits.
            return self
                .send_from(sending, "standard input", BufReader::new(std::io::stdin()))
                .await;
        }
        for path in &self.files {
            let name = path.display().to_string();
            let file = std::fs::File::open(path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Failure::not_found(format!("no file {name}")),
                _ => Failure::failed(format!("cannot read {name}: {error}")),
            })?;
            self.send_from(sending, &name, BufReader::with_capacity(1 << 20, file)).await?;
        }
        Ok(())
    }

    async fn send_from(
        &self,
        sending: &mut Sending,
        name: &str,
        mut input: impl BufRead,
    ) -> Result<(), Failure> {
        let unreadable =
            |error: std::io::Error| Failure::failed(format!("cannot read {name}: {error}"));
        if self.format == Input::File {
            let mut content = Vec::new();
            input.take(LINE_BYTES_MAX).read_to_end(&mut content).map_err(unreadable)?;
            return sending.repeat(&self.topic, self.plain(content, None), self.repeat).await;
        }
        let mut number = 0u64;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.map_err(unreadable)? == 0 {
                return Ok(());
            }
            number += 1;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let record = match &self.format {
                Input::Pattern(pattern) => {
                    let mut record = self.plain(Vec::new(), None);
                    pattern
                        .read(&line, &mut record)
                        .map_err(|why| Failure::usage(format!("{name} line {number}: {why}")))?;
                    record.partition = self.partition.or(record.partition);
                    if self.null && record.value.as_ref().is_some_and(Vec::is_empty) {
                        record.value = None;
                    }
                    record
                }
                Input::Json => {
                    let text = std::str::from_utf8(&line).map_err(|_| "not UTF-8".to_owned());
                    if text.as_ref().is_ok_and(|text| text.trim().is_empty()) {
                        continue;
                    }
                    let mut record = text
                        .and_then(jsonl::decode)
                        .map_err(|why| Failure::usage(format!("{name} line {number}: {why}")))?;
                    record.partition = self.partition.or(record.partition);
                    record.headers.extend(self.headers());
                    record
                }
                Input::Lines | Input::File => {
                    let (key, value) = self.split(&line);
                    self.plain(value, key)
                }
            };
            sending.repeat(&self.topic, record, self.repeat).await?;
        }
    }

    fn split(&self, line: &[u8]) -> (Option<Vec<u8>>, Vec<u8>) {
        let Some(delimiter) = &self.key_delimiter else { return (None, line.to_vec()) };
        let found = line.windows(delimiter.0.len()).position(|window| window == delimiter.0);
        match found.and_then(|at| Some((line.get(..at)?, line.get(at + delimiter.0.len()..)?))) {
            Some((key, value)) => (Some(key.to_vec()), value.to_vec()),
            None => (None, line.to_vec()),
        }
    }

    fn plain(&self, value: Vec<u8>, key: Option<Vec<u8>>) -> Record {
        Record {
            partition: self.partition,
            key: key.or_else(|| self.key.clone().map(String::into_bytes)),
            value: (!self.null || !value.is_empty()).then_some(value),
            headers: self.headers().collect(),
            timestamp: None,
        }
    }

    fn headers(&self) -> impl Iterator<Item = (String, Option<Vec<u8>>)> {
        self.header.iter().map(|(name, value)| (name.clone(), Some(value.clone().into_bytes())))
    }
}

impl Sending {
    async fn repeat(&mut self, topic: &str, record: Record, times: u64) -> Result<(), Failure> {
        for _ in 1..times {
            self.send(topic, record.clone()).await?;
        }
        self.send(topic, record).await
    }

    /// Waits until the next record is due.
    async fn pace(&self) {
        let Some(rate) = self.rate else { return };
        let due_ns = u128::from(self.sent) * 1_000_000_000 / u128::from(rate);
        let due = Duration::from_nanos(u64::try_from(due_ns).unwrap_or(u64::MAX));
        let left = due.saturating_sub(self.started.elapsed());
        if !left.is_zero() {
            tokio::time::sleep(left).await;
        }
    }

    async fn send(&mut self, topic: &str, record: Record) -> Result<(), Failure> {
        self.pace().await;
        let delivery = self.producer.send(topic, record).await?;
        self.sent += 1;
        self.progress.update(self.sent);
        self.unconfirmed.push_back(delivery);
        if self.unconfirmed.len() >= UNCONFIRMED_MAX {
            self.settle_oldest().await;
        }
        Ok(())
    }

    async fn settle_oldest(&mut self) {
        let Some(delivery) = self.unconfirmed.pop_front() else { return };
        match delivery.confirmed().await {
            Ok(place) if self.verbose => {
                say(format!("partition {} offset {}", place.partition, place.offset));
            }
            Ok(_) => {}
            Err(error) => {
                self.failed += 1;
                self.failure.get_or_insert(error);
            }
        }
    }
}
