//! What clients of a topic were told, what its replicas hold in the end, and whether the two agree.
//!
//! A record says in its value who sent it, to which partition, and as which number: nothing has to be
//! looked up. Neighbours are told of as one [`Run`], so that a history of millions of records is small.
//! [`check()`] holds it against the logs; what it looks for stands beside each [`Property`].

mod check;
mod logs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use check::{Checked, Property, Violation, check};
pub use logs::{Batch, PartitionLog, RecordAt, Replica};

/// Microseconds since 1970, of the one machine that all clients run on.
pub type Micros = u64;

/// Records of one producer with neighbouring numbers at neighbouring offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The partition.
    pub partition: i32,
    /// Offset of the first.
    pub offset: i64,
    /// How many.
    pub count: u64,
    /// Who sent them.
    pub producer: u32,
    /// The number of the first: a producer counts for each partition, from 0.
    pub first: u64,
}

/// Records that were acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// Where they were said to be.
    pub run: Run,
    /// When the first of them was handed to the client.
    pub invoked: Micros,
    /// When the last of them was known to be there.
    pub done: Micros,
}

/// A record whose client gave up on it: it may be in the log, or not.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The partition.
    pub partition: i32,
    /// Its number.
    pub number: u64,
    /// What the client said.
    pub why: String,
    /// When.
    pub at: Micros,
}

/// What one producer did.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Its name, for people.
    pub name: String,
    /// What was acknowledged, in the order it was heard.
    pub acked: Vec<Acked>,
    /// What failed.
    pub failed: Vec<Failed>,
    /// How many records it sent to each partition; none where it did not say.
    pub totals: BTreeMap<i32, u64>,
}

/// What one consumer saw, from the beginning of each partition on, in order.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its name, for people.
    pub name: String,
    /// The records.
    pub runs: Vec<Run>,
    /// Errors it should never be told, and values nobody wrote.
    pub wrong: Vec<String>,
}

/// A question for the end of a partition, and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    /// The partition.
    pub partition: i32,
    /// When it was asked.
    pub asked: Micros,
    /// The high watermark it was told.
    pub end: i64,
}

/// Everything that clients of one topic were told.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By the number that stands in the values.
    pub producers: BTreeMap<u32, Sent>,
    /// Consumers.
    pub consumers: Vec<Seen>,
    /// The answers that one client got, in the order of its questions.
    pub looked: Vec<Looked>,
}

/// The value of a record: who, where, which, and something to fill it with.
pub fn value(producer: u32, partition: i32, number: u64) -> Vec<u8> {
    let mut value = format!("{producer}/{partition}/{number}/").into_bytes();
    let fill = usize::try_from(number % FILL).expect("small");
    value.resize(value.len() + fill, b'.');
    value
}

/// Producer and number in a value that was read from `partition`.
///
/// # Errors
/// If it is not as [`value`] makes it, or belongs elsewhere.
pub fn decode_value(bytes: &[u8], partition: i32) -> Result<(u32, u64), String> {
    let wrong = |why: &str| {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        format!("partition {partition}: {why}: {shown:?}")
    };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("not text"))?;
    let mut parts = text.split('/');
    let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok());
    let (Some(producer), Some(place), Some(number)) = (next(), next(), next()) else {
        return Err(wrong("not three numbers"));
    };
    let producer = u32::try_from(producer).map_err(|_| wrong("no such producer"))?;
    if u64::try_from(partition) != Ok(place) {
        return Err(wrong("sent to another partition"));
    }
    if text.as_bytes() != value(producer, partition, number) {
        return Err(wrong("not as it was written"));
    }
    Ok((producer, number))
}

/// Values have 0 to 99 bytes to fill them.
const FILL: u64 = 100;
