//! Record batches: the first byte picks the codec, the second what the rest is.
//!
//! | second byte, modulo 3 | the rest |
//! |---|---|
//! | 0 | batches as they come in, header and all |
//! | 1 | a count of records, then the (compressed) records of a batch with a fitting header |
//! | 2 | what to build a batch from, which must read back the same |
//!
//! Checksums are not compared: no fuzzer guesses one, and all that lies behind would go untested.

use bytes::Bytes;
use sawlog_protocol::records::{
    BATCH_OVERHEAD, Batch, BatchBuilder, BatchError, BatchHeader, Compression, Record, check_crc,
    control_type, coordinator_epoch, decompress, inspect, inspect_inflated, set_log_append_time,
    split,
};

/// Inflated bytes at most.
const LIMIT: usize = 256 << 10;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Runs one input; one too short to choose by is none.
pub fn check(input: &[u8]) {
    let [codec, kind, rest @ ..] = input else { return };
    let codec = CODECS[usize::from(*codec) % CODECS.len()];
    match kind % 3 {
        0 => check_batches(rest),
        1 => check_records(codec, rest),
        _ => check_building(codec, rest),
    }
}

fn check_batches(bytes: &[u8]) {
    let mut total = 0;
    let all = Bytes::copy_from_slice(bytes);
    for batch in split(&all) {
        let Ok((header, bytes)) = batch else { break };
        total += bytes.len();
        assert_eq!(bytes.len(), header.total_len());
        assert_eq!(bytes[..BATCH_OVERHEAD], header.to_bytes());
        let _fits = check_crc(&bytes, &header);
        check_batch(&Batch { header, bytes });
    }
    assert!(total <= all.len());
}

/// A batch whose header fits what follows it, but for the count, which is the first byte's.
fn check_records(codec: Compression, input: &[u8]) {
    let [count, records @ ..] = input else { return };
    if codec != Compression::None {
        match decompress(codec, records, LIMIT) {
            Ok(inflated) => assert!(inflated.len() <= LIMIT),
            Err(error) => drop(error.to_string()),
        }
    }
    let mut builder = BatchBuilder::new(Compression::None);
    if builder.append(1000, None, None, &[]).is_err() {
        return;
    }
    let built = builder.build();
    let mut header = BatchHeader::parse(&built).expect("our own header");
    header.attributes = codec.id();
    header.records_count = i32::from(*count);
    header.last_offset_delta = i32::from(*count) - 1;
    header.batch_length = i32::try_from(BATCH_OVERHEAD - 12 + records.len()).expect("small input");
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(records);
    check_batch(&Batch::parse(bytes.into()).expect("a whole batch"));
}

/// What holds for a batch whatever is in it.
fn check_batch(batch: &Batch) {
    let Batch { header, bytes } = batch;
    let _shallow = inspect(bytes, header);
    let deep = inspect_inflated(bytes, header, LIMIT);
    let records: Result<Vec<Record>, BatchError> = match batch.records(LIMIT) {
        Ok(records) => records.collect(),
        Err(error) => Err(error),
    };
    if deep.is_ok() {
        // The strict look accepts no more than the reader, and sees the same records.
        let records = records.as_ref().expect("records of a batch that was accepted");
        assert_eq!(i32::try_from(records.len()), Ok(header.records_count));
        let offsets = (0..).map(|index| header.base_offset.wrapping_add(index));
        assert!(records.iter().map(|record| record.offset).eq(offsets.take(records.len())));
    }
    for record in records.iter().flatten() {
        let _marker = (control_type(record), coordinator_epoch(record));
    }
    let mut appended = bytes.to_vec();
    if let Ok(header) = set_log_append_time(&mut appended, 5) {
        assert_eq!(check_crc(&appended, &header), Ok(()));
    }
}

/// Builds a batch of records cut from the input and reads it back.
fn check_building(codec: Compression, input: &[u8]) {
    let mut builder = BatchBuilder::new(codec);
    let mut expected = Vec::new();
    let mut rest = input;
    while let [shape, length, tail @ ..] = rest {
        let (data, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        let (key, value) = data.split_at(data.len() / 2);
        let key = (shape & 1 == 0).then_some(key);
        let value = (shape & 2 == 0).then_some(value);
        let headers: &[(&str, Option<&[u8]>)] =
            if shape & 4 == 0 { &[] } else { &[("h", value), ("", None)] };
        let timestamp = i64::from(*shape) * 1000;
        if builder.append(timestamp, key, value, headers).is_ok() {
            expected.push((timestamp, key, value, headers.len()));
        }
    }
    if expected.is_empty() {
        return;
    }
    let batch = Batch::parse(builder.build()).expect("our own batch");
    assert_eq!(check_crc(&batch.bytes, &batch.header), Ok(()));
    assert!(inspect_inflated(&batch.bytes, &batch.header, LIMIT).is_ok());
    let records: Result<Vec<Record>, _> =
        batch.records(LIMIT).expect("our own compression").collect();
    let records = records.expect("our own records");
    assert_eq!(records.len(), expected.len());
    for (record, (timestamp, key, value, headers)) in records.iter().zip(expected) {
        assert_eq!(record.timestamp, timestamp);
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (key, value));
        assert_eq!(record.headers.len(), headers);
    }
}

/// Batches of every codec, as inputs of every kind.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (choice, codec) in (0u8..).zip(CODECS) {
        for count in [1u8, 3, 40] {
            let mut builder = BatchBuilder::new(codec);
            for index in 0..count {
                let value = vec![b'a' + index % 3; usize::from(index) * 5];
                let headers: &[(&str, Option<&[u8]>)] = &[("trace", Some(b"on")), ("empty", None)];
                let headers = &headers[..usize::from(index) % 3];
                let appended = builder.append(1000, Some(b"key"), Some(&value), headers);
                appended.expect("small records");
            }
            let batch = builder.build();
            let name = |kind| format!("{}-{count}-{kind}", codec.name());
            let mut whole = vec![choice, 0];
            whole.extend_from_slice(&batch);
            whole.extend_from_slice(&batch);
            seeds.push((name("batches"), whole));
            let mut records = vec![choice, 1, count];
            records.extend_from_slice(&batch[BATCH_OVERHEAD..]);
            seeds.push((name("records"), records));
        }
        let mut parts = vec![choice, 2];
        for shape in 0..8u8 {
            parts.extend_from_slice(&[shape, 10]);
            parts.extend_from_slice(b"0123456789");
        }
        seeds.push((format!("{}-parts", codec.name()), parts));
    }
    seeds
}
