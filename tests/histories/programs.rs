//! Programs of other people's clients that write or read numbered records, and what they print.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sawlog_tests::history::{Acked, Failed, Micros, Run, Seen, Sent};

use crate::support::{available, installed, on_path, program};

/// Longest wait for a program to have everything acknowledged and end.
const END_WAIT_MAX: Duration = Duration::from_secs(120);

/// Lines that are kept of what a program says.
const SAID_MAX: usize = 500_000;

/// What a client has told so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) sent: Sent,
    pub(crate) seen: Seen,
    /// When the last acknowledgement was known, by partition.
    pub(crate) acked_at: Vec<Micros>,
    /// Whatever else it said.
    pub(crate) said: Vec<String>,
    closed: bool,
}

impl Told {
    pub(crate) fn new(name: &str, partitions: i32) -> Told {
        let mut told = Told::default();
        name.clone_into(&mut told.sent.name);
        name.clone_into(&mut told.seen.name);
        told.acked_at = vec![0; usize::try_from(partitions).expect("few")];
        told
    }

    pub(crate) fn acked(&mut self, acked: Acked) {
        if let Some(last) =
            usize::try_from(acked.run.partition).ok().and_then(|p| self.acked_at.get_mut(p))
        {
            *last = acked.done.max(*last);
        }
        self.sent.acked.push(acked);
    }

    /// A line of a program.
    fn hear(&mut self, producer: u32, line: &str) {
        if self.parse(producer, line).is_none() && self.said.len() < SAID_MAX {
            self.said.push(line.to_owned());
        }
    }

    fn parse(&mut self, producer: u32, line: &str) -> Option<()> {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = rest.split(' ');
        let mut next = || words.next()?.parse::<i64>().ok();
        let unsigned = |number: i64| u64::try_from(number).ok();
        match what {
            "ack" => {
                let partition = i32::try_from(next()?).ok()?;
                let (first, count) = (unsigned(next()?)?, unsigned(next()?)?);
                let run = Run { partition, offset: next()?, count, producer, first };
                let (invoked, done) = (unsigned(next()?)?, unsigned(next()?)?);
                self.acked(Acked { run, invoked, done });
            }
            "fail" => {
                let partition = i32::try_from(next()?).ok()?;
                let number = unsigned(next()?).unwrap_or(u64::MAX);
                let at = unsigned(next()?)?;
                let why = words.collect::<Vec<_>>().join(" ");
                self.sent.failed.push(Failed { partition, number, why, at });
            }
            "sent" => {
                let partition = i32::try_from(next()?).ok()?;
                self.sent.totals.insert(partition, unsigned(next()?)?);
            }
            "read" => {
                let partition = i32::try_from(next()?).ok()?;
                let (offset, count) = (next()?, unsigned(next()?)?);
                let producer = u32::try_from(next()?).ok()?;
                let run = Run { partition, offset, count, producer, first: unsigned(next()?)? };
                self.seen.runs.push(run);
            }
            "wrong" => self.seen.wrong.push(rest.to_owned()),
            "closed" => self.closed = true,
            _ => return None,
        }
        Some(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Java,
    Confluent,
    FranzGo,
}

impl Client {
    /// Those that are installed; says which are not.
    pub(crate) fn installed() -> Vec<Client> {
        let all = [Client::Java, Client::Confluent, Client::FranzGo];
        all.into_iter().filter(|one| one.is_available()).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Client::Java => "java-newest",
            Client::Confluent => "confluent-kafka",
            Client::FranzGo => "franz-go",
        }
    }

    fn is_available(self) -> bool {
        let needs = match self {
            Client::Java => {
                vec![on_path("java"), installed("java-newest").join("classes/Numbered.class")]
            }
            Client::Confluent => vec![installed("venv").join("bin/python")],
            Client::FranzGo => vec![installed("compat-go")],
        };
        available(&format!("histories of {}", self.name()), &needs)
    }

    fn command(self, mode: &str) -> Command {
        match self {
            Client::Java => {
                let (jars, classes) = (
                    installed("java-newest").join("jars"),
                    installed("java-newest").join("classes"),
                );
                let mut java = Command::new("java");
                java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-cp"]);
                java.arg(format!("{}:{}/*", classes.display(), jars.display())).arg("Numbered");
                java.arg(mode);
                java
            }
            Client::Confluent => {
                let mut python = Command::new(installed("venv").join("bin/python"));
                python.arg("-B").arg(program("python").join("confluent_numbered.py")).arg(mode);
                python
            }
            Client::FranzGo => {
                let mut go = Command::new(installed("compat-go"));
                go.arg(format!("franz-go-{mode}"));
                go
            }
        }
    }
}

/// What a program needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) partitions: i32,
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    client: Client,
    process: Child,
    listeners: Vec<JoinHandle<()>>,
    told: Arc<Mutex<Told>>,
}

impl Program {
    pub(crate) fn write(client: Client, target: &Target, producer: u32, rate: u32) -> Program {
        let mut command = client.command("write");
        command.args([&target.bootstrap, &target.topic, &target.partitions.to_string()]);
        command.args([producer.to_string(), rate.to_string()]);
        Program::start(&format!("{} {producer}", client.name()), client, command, producer, target)
    }

    pub(crate) fn read(client: Client, target: &Target) -> Program {
        let mut command = client.command("read");
        command.args([&target.bootstrap, &target.topic, &target.partitions.to_string()]);
        Program::start(&format!("{} reader", client.name()), client, command, 0, target)
    }

    fn start(
        name: &str,
        client: Client,
        mut command: Command,
        producer: u32,
        target: &Target,
    ) -> Program {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let out = process.stdout.take().expect("it is piped");
        let err = process.stderr.take().expect("it is piped");
        let told = Arc::new(Mutex::new(Told::new(name, target.partitions)));
        let listeners = vec![listen(out, producer, &told), listen(err, producer, &told)];
        Program { name: name.to_owned(), client, process, listeners, told }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared(&self) -> Arc<Mutex<Told>> {
        Arc::clone(&self.told)
    }

    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no holder panics")
    }

    /// What makes it say what its threads do, where there is such a thing.
    pub(crate) fn asker(&self) -> impl Fn() + Send + use<> {
        let (client, pid) = (self.client, self.process.id().to_string());
        move || {
            if client == Client::Java {
                let _asked = Command::new("kill").args(["-QUIT", &pid]).status();
            }
        }
    }

    /// Whether it ended although nobody asked it to.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("our child can be waited for").is_some()
    }

    /// Asks it to end, and waits until everything it sent has an outcome. What is wrong with that is told.
    pub(crate) fn end(mut self) -> (Told, Option<String>) {
        let pid = self.process.id().to_string();
        let _asked = Command::new("kill").arg(&pid).status();
        let deadline = Instant::now() + END_WAIT_MAX;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        if self.has_ended() {
            self.listeners.drain(..).for_each(|one| one.join().expect("a listener ends"));
        }
        let told = std::mem::take(&mut *self.told());
        let tail = told.said[told.said.len().saturating_sub(30)..].join("\n  ");
        let wrong =
            (!told.closed).then(|| format!("{} does not end as it should:\n  {tail}", self.name));
        (told, wrong)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

fn listen(
    from: impl Read + Send + 'static,
    producer: u32,
    told: &Arc<Mutex<Told>>,
) -> JoinHandle<()> {
    let told = Arc::clone(told);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            told.lock().expect("no holder panics").hear(producer, &line);
        }
    })
}
