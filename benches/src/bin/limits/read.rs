//! Fetches over loopback beside `sendfile` of the same file in the same pieces.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use sawlog_protocol::records;

use crate::sawlog::Sawlog;
use crate::wire::{Wire, fetched};
use crate::{Failure, batch, median};

const REPETITIONS: usize = 5;
const TOPIC: &str = "read";
const BATCH_BYTES: usize = 60 << 10;
const BATCHES: usize = 16 << 10;

pub(crate) fn measure(program: &Path, data: &Path) -> Result<(), Failure> {
    let scratch = tempfile::tempdir_in(data)?;
    let settings = ["log.flush.mode=os".to_owned(), "log.segment.bytes=2147483647".to_owned()];
    let broker = Sawlog::start(program, scratch.path(), &settings)?;
    let mut wire = Wire::connect(&broker.address)?;
    wire.create_topic(TOPIC, 1)?;
    let batch = batch(BATCH_BYTES)?;
    for _ in 0..BATCHES {
        wire.produce_batch(TOPIC, &batch)?;
    }
    let segment = segment(scratch.path())?;
    let bytes = batch.len() * BATCHES;
    println!("\n| read over loopback, pieces of | fetch MB/s | sendfile MB/s | ratio |");
    println!("|---|---|---|---|");
    for (name, piece) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("8 MiB", 8 << 20)] {
        let (mut fetches, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..REPETITIONS {
            fetches.push(fetch_seconds(&mut wire, piece, bytes)?);
            bare.push(sendfile_seconds(&segment, piece, bytes)?);
        }
        let ratio = median(bare.iter().zip(&fetches).map(|(bare, fetch)| bare / fetch).collect());
        let rate = |seconds| bytes as f64 / seconds / 1e6;
        println!(
            "| {name} | {:.0} | {:.0} | {ratio:.2} |",
            rate(median(fetches)),
            rate(median(bare))
        );
    }
    broker.stop("-TERM")
}

/// The only segment of the only partition.
fn segment(home: &Path) -> Result<PathBuf, Failure> {
    for partition in std::fs::read_dir(home.join("data/topics"))? {
        let path = partition?.path().join("00000000000000000000.log");
        if path.exists() {
            return Ok(path);
        }
    }
    Err("no segment was found".into())
}

fn fetch_seconds(wire: &mut Wire, piece: usize, bytes: usize) -> Result<f64, Failure> {
    let (mut offset, mut seen) = (0, 0);
    let mut frame = Vec::new();
    let begun = Instant::now();
    while seen < bytes {
        let reply = wire.fetch(TOPIC, offset, i32::try_from(piece)?, frame)?;
        let got = fetched(&reply)?;
        let mut next = None;
        for part in records::split(&got) {
            let (header, whole) = part?;
            next = Some(header.base_offset + i64::from(header.last_offset_delta) + 1);
            seen += whole.len();
        }
        offset = next.ok_or("an empty fetch before the end")?;
        drop(got);
        frame = reply.into();
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn sendfile_seconds(segment: &Path, piece: usize, bytes: usize) -> Result<f64, Failure> {
    let file = File::open(segment)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let (mut at, mut asked) = (0_u64, [0]);
        while stream.read_exact(&mut asked).is_ok() {
            let mut left = piece.min(bytes - usize::try_from(at).unwrap_or(bytes));
            while left > 0 {
                left -= rustix::fs::sendfile(&stream, &file, Some(&mut at), left)?;
            }
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; piece];
    let (mut seen, begun) = (0, Instant::now());
    while seen < bytes {
        let wanted = piece.min(bytes - seen);
        stream.write_all(&[1])?;
        stream.read_exact(&mut buffer[..wanted])?;
        seen += wanted;
    }
    let took = begun.elapsed().as_secs_f64();
    drop(stream);
    server.join().map_err(|_| "the sender panicked")??;
    Ok(took)
}
