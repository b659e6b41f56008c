//! Record batches against another implementation: what we build it reads, what it builds we read,
//! with every codec. Uncompressed batches must be the same bytes.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use proptest::prelude::*;
use sawlog_protocol::records::{
    Batch, BatchBuilder, Compression, Record, check_crc, inspect_inflated, split,
};

const LIMIT: usize = 4 << 20;
const BASE_SEQUENCE: i32 = 40;

/// Timestamp, key, value, headers with distinct names (the oracle keeps them in a map).
type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn any_record() -> impl Strategy<Value = Plain> {
    let short = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100));
    let long =
        proptest::option::of((any::<u8>(), 0..40_000usize).prop_map(|(byte, n)| vec![byte; n]));
    let headers = proptest::collection::vec(short(), 0..4).prop_map(|values| {
        values.into_iter().enumerate().map(|(at, value)| (format!("h{at}"), value)).collect()
    });
    let value = prop_oneof![4 => short(), 1 => long];
    (1_600_000_000_000..1_700_000_000_000i64, short(), value, headers)
}

/// Records in the order of their timestamps: the oracle counts deltas from the smallest, we from
/// the first, as Java does.
fn any_records() -> impl Strategy<Value = Vec<Plain>> {
    proptest::collection::vec(any_record(), 1..30).prop_map(|mut records| {
        records.sort_by_key(|record| record.0);
        records
    })
}

fn ours(records: &[Plain], codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    builder.producer(1234, 5, BASE_SEQUENCE).transactional();
    for (timestamp, key, value, headers) in records {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        builder.append(*timestamp, key.as_deref(), value.as_deref(), &headers).unwrap();
    }
    builder.build()
}

fn theirs(records: &[Plain], codec: Compression) -> Bytes {
    let records: Vec<_> =
        (0i32..).zip(records).map(|(i, record)| oracle_record(i, record)).collect();
    let options = oracle::RecordEncodeOptions { version: 2, compression: oracle_codec(codec) };
    let mut buffer = BytesMut::new();
    oracle::RecordBatchEncoder::encode(&mut buffer, &records, &options).unwrap();
    buffer.freeze()
}

fn oracle_record(index: i32, (timestamp, key, value, headers): &Plain) -> oracle::Record {
    let shared = |bytes: &Option<Vec<u8>>| bytes.clone().map(Bytes::from);
    oracle::Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 1234,
        producer_epoch: 5,
        timestamp_type: oracle::TimestampType::Creation,
        offset: i64::from(index),
        sequence: BASE_SEQUENCE + index,
        timestamp: *timestamp,
        key: shared(key),
        value: shared(value),
        headers: headers
            .iter()
            .map(|(name, value)| (StrBytes::from_string(name.clone()), shared(value)))
            .collect(),
    }
}

fn oracle_codec(codec: Compression) -> oracle::Compression {
    match codec {
        Compression::None => oracle::Compression::None,
        Compression::Gzip => oracle::Compression::Gzip,
        Compression::Snappy => oracle::Compression::Snappy,
        Compression::Lz4 => oracle::Compression::Lz4,
        Compression::Zstd => oracle::Compression::Zstd,
    }
}

fn plain(record: Record) -> Plain {
    let owned = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.to_vec());
    let headers = record
        .headers
        .into_iter()
        .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), owned(value)))
        .collect();
    (record.timestamp, owned(record.key), owned(record.value), headers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_oracle_reads_what_we_build(
        records in any_records(),
        codec in proptest::sample::select(Compression::ALL.to_vec()),
    ) {
        let mut bytes = ours(&records, codec);
        let set = oracle::RecordBatchDecoder::decode(&mut bytes).unwrap();
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(set.compression, oracle_codec(codec));
        let expected: Vec<_> =
            (0i32..).zip(&records).map(|(i, record)| oracle_record(i, record)).collect();
        prop_assert_eq!(set.records, expected);
    }

    #[test]
    fn we_read_what_the_oracle_builds(
        records in any_records(),
        codec in proptest::sample::select(Compression::ALL.to_vec()),
    ) {
        let bytes = theirs(&records, codec);
        let batches: Vec<_> = split(&bytes).map(Result::unwrap).collect();
        prop_assert_eq!(batches.len(), 1);
        let (header, bytes) = batches.into_iter().next().unwrap();
        check_crc(&bytes, &header).unwrap();
        let found = inspect_inflated(&bytes, &header, LIMIT).unwrap();
        prop_assert_eq!(found.max_timestamp, header.max_timestamp);
        prop_assert_eq!((header.producer_id, header.producer_epoch), (1234, 5));
        prop_assert_eq!(header.base_sequence, BASE_SEQUENCE);
        prop_assert!(header.is_transactional() && !header.is_control());
        let batch = Batch::parse(bytes).unwrap();
        let read: Vec<_> =
            batch.records(LIMIT).unwrap().map(|record| plain(record.unwrap())).collect();
        prop_assert_eq!(read, records);
    }

    #[test]
    fn uncompressed_batches_are_the_same_bytes(records in any_records()) {
        prop_assert_eq!(ours(&records, Compression::None), theirs(&records, Compression::None));
    }
}
