//! What is written, and where it ended up.

/// A record to write.
///
/// ```
/// use sawlog_client::Record;
///
/// let deleted = Record { key: Some(b"alice".to_vec()), value: None, ..Record::default() };
/// # drop(deleted);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The partition; `None` to choose by key, and without a key one after the other, by the batch.
    pub partition: Option<i32>,
    /// `None` for null.
    pub key: Option<Vec<u8>>,
    /// `None` for null, which deletes the key in a compacted topic.
    pub value: Option<Vec<u8>>,
    /// In order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch; `None` for now.
    pub timestamp: Option<i64>,
}

/// A record to write, borrowed: a producer copies it into its batch at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// As in [`Record::partition`].
    pub partition: Option<i32>,
    /// As in [`Record::key`].
    pub key: Option<&'a [u8]>,
    /// As in [`Record::value`].
    pub value: Option<&'a [u8]>,
    /// As in [`Record::headers`].
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// As in [`Record::timestamp`].
    pub timestamp: Option<i64>,
}

impl RecordRef<'_> {
    /// Bytes it counts for in the buffer: what it takes in a batch, at most.
    pub(crate) fn weight(&self) -> usize {
        let part = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let mut weight = part(self.key) + part(self.value) + RECORD_OVERHEAD;
        for (name, value) in self.headers {
            weight += name.len() + part(*value) + HEADER_OVERHEAD;
        }
        weight
    }
}

/// Most bytes of lengths and deltas in a record: five varints of 5 bytes, one of 10, attributes.
const RECORD_OVERHEAD: usize = 36;
/// And in a header.
const HEADER_OVERHEAD: usize = 10;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its partition.
    pub partition: i32,
    /// Its offset; -1 if it is not told: nothing is confirmed ([`Acks::None`](super::Acks::None)), or
    /// the broker only knows that it has the record already.
    pub offset: i64,
}
