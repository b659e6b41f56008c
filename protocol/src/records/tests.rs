//! Facts about whole batches: golden bytes, round trips, damage, sequence numbers.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

/// Two records written by hand: ("k1", "v1", header a = null) at 1000, (null, "") at 1005; checksum
/// by another implementation.
const GOLDEN: [u8; GOLDEN_LEN] = [
    0, 0, 0, 0, 0, 0, 0, 0, // base offset
    0, 0, 0, 70, // length
    0xff, 0xff, 0xff, 0xff, // leader epoch
    2,    // magic
    0xc8, 0x42, 0x9e, 0x66, // crc
    0, 0, // attributes
    0, 0, 0, 1, // last offset delta
    0, 0, 0, 0, 0, 0, 0x03, 0xe8, // base timestamp 1000
    0, 0, 0, 0, 0, 0, 0x03, 0xed, // max timestamp 1005
    0, 0, 0, 0, 0, 0, 0, 7, // producer id
    0, 3, // producer epoch
    0, 0, 0, 9, // base sequence
    0, 0, 0, 2, // records
    26, 0, 0, 0, 4, b'k', b'1', 4, b'v', b'1', 2, 2, b'a', 1, // one header
    12, 0, 10, 2, 1, 0, 0, // null key, empty value
];
const GOLDEN_LEN: usize = 82;

fn golden_builder() -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(7, 3, 9);
    builder.append(1000, Some(b"k1"), Some(b"v1"), &[("a", None)]).unwrap();
    builder.append(1005, None, Some(b""), &[]).unwrap();
    builder
}

/// A batch of `count` records whose values are `value_len` compressible bytes.
fn plain_batch(compression: Compression, count: usize, value_len: usize) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for index in 0..count {
        let key = index.to_string();
        let value = "sawlog ".repeat(value_len / 7 + 1);
        builder.append(5000, Some(key.as_bytes()), value.as_bytes().get(..value_len), &[]).unwrap();
    }
    builder.build()
}

/// Everything a broker or a consumer does with received bytes.
fn accept(bytes: &Bytes) -> Result<Vec<Record>, BatchError> {
    let batch = Batch::parse(bytes.clone())?;
    check_crc(&batch.bytes, &batch.header)?;
    check_structure(&batch.bytes, &batch.header)?;
    batch.records(LIMIT)?.collect()
}

/// The batch with a changed byte and the checksum made right again.
fn forged(bytes: &[u8], position: usize, byte: u8) -> Bytes {
    let mut forged = BytesMut::from(bytes);
    forged[position] = byte;
    let crc = crc32c(&forged[21..]);
    forged[17..21].copy_from_slice(&crc.to_be_bytes());
    forged.freeze()
}

#[test]
fn builder_writes_the_golden_bytes() {
    let builder = golden_builder();
    assert_eq!(builder.estimated_len(), GOLDEN.len());
    assert_eq!(builder.count(), 2);
    assert_eq!(builder.build(), &GOLDEN[..]);
}

#[test]
fn golden_bytes_read_as_written() {
    let bytes = Bytes::from_static(&GOLDEN);
    let header = BatchHeader::parse(&bytes).unwrap();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 3, 9));
    assert_eq!((header.total_len(), header.last_offset(), header.next_offset()), (82, 1, 2));
    assert_eq!((header.last_sequence(), header.max_timestamp), (10, 1005));
    assert!(!header.is_control() && !header.is_transactional() && !header.has_delete_horizon());
    assert_eq!(header.to_bytes(), GOLDEN[..BATCH_OVERHEAD]);
    let records = accept(&bytes).unwrap();
    let expected = [
        Record {
            offset: 0,
            timestamp: 1000,
            attributes: 0,
            key: Some(Bytes::from("k1")),
            value: Some(Bytes::from("v1")),
            headers: vec![(Bytes::from("a"), None)],
        },
        Record { offset: 1, timestamp: 1005, value: Some(Bytes::new()), ..Record::default() },
    ];
    assert_eq!(records, expected);
}

#[test]
fn records_share_the_bytes_of_an_uncompressed_batch() {
    let bytes = plain_batch(Compression::None, 1, 100);
    let records = accept(&bytes).unwrap();
    let value = records[0].value.as_ref().unwrap().as_ptr_range();
    let whole = bytes.as_ptr_range();
    assert!(whole.start < value.start && value.end <= whole.end);
}

#[test]
fn prefix_patching_leaves_the_checksum_valid() {
    let header = BatchHeader::parse(&GOLDEN).unwrap();
    let mut stored = patched_prefix(&header, 1 << 40, 17).to_vec();
    stored.extend_from_slice(&GOLDEN[16..]);
    let header = BatchHeader::parse(&stored).unwrap();
    assert_eq!((header.base_offset, header.partition_leader_epoch), (1 << 40, 17));
    check_crc(&stored, &header).unwrap();
    let records = accept(&Bytes::from(stored)).unwrap();
    assert_eq!(records[1].offset, (1 << 40) + 1);
}

#[test]
fn append_time_replaces_all_timestamps() {
    let mut bytes = GOLDEN;
    let header = set_log_append_time(&mut bytes, 9999).unwrap();
    assert_eq!(header, BatchHeader::parse(&bytes).unwrap());
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    let stamped = Inspection { max_timestamp: 9999, min_timestamp: 9999, has_null_key: true };
    assert_eq!(inspect(&bytes, &header), Ok(stamped));
    let records = accept(&Bytes::copy_from_slice(&bytes)).unwrap();
    assert!(records.iter().all(|record| record.timestamp == 9999));
    let cut = set_log_append_time(&mut bytes[..70], 1).unwrap_err();
    assert_eq!(cut, BatchError::Truncated { needed: 82, available: 70 });
}

#[test]
fn missing_max_timestamp_is_found_and_set() {
    let mut bytes = GOLDEN;
    let header = set_max_timestamp(&mut bytes, -1).unwrap();
    let found = inspect(&bytes, &header).unwrap().max_timestamp;
    assert_eq!((header.max_timestamp, found), (-1, 1005));
    set_max_timestamp(&mut bytes, found).unwrap();
    assert_eq!(bytes, GOLDEN);
}

#[test]
fn split_yields_whole_batches_and_stops_at_the_cut_one() {
    let one = plain_batch(Compression::None, 3, 10);
    let joined = Bytes::from([&one[..], &GOLDEN[..], &one[..]].concat());
    for end in 0..=joined.len() {
        let part = joined.slice(..end);
        let whole: Vec<_> = split(&part).map(Result::unwrap).collect();
        let ends = [one.len(), one.len() + GOLDEN.len(), joined.len()];
        assert_eq!(whole.len(), ends.iter().filter(|&&at| at <= end).count());
        let yielded: usize = whole.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(whole.iter().map(|(header, _)| header.total_len()).sum::<usize>(), yielded);
    }
}

#[test]
fn split_reports_old_formats_once_and_ends() {
    // A message set v0 with one message of 26 bytes is shorter than a batch header.
    let mut old = [0; 26];
    old[11] = 14;
    let mut batches = split(&Bytes::copy_from_slice(&old));
    let error = batches.next().unwrap().unwrap_err();
    assert_eq!(error, BatchError::UnsupportedMagic(0));
    assert_eq!(error.fault(), BatchFault::OldMessageFormat);
    assert!(batches.next().is_none());
    old[16] = 3;
    assert_eq!(BatchHeader::parse(&old).unwrap_err().fault(), BatchFault::Corrupt);
}

#[test]
fn lengths_below_the_header_are_refused() {
    for length in [i32::MIN, -1, 0, 48] {
        let mut bytes = GOLDEN;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert_eq!(BatchHeader::parse(&bytes), Err(BatchError::InvalidLength(length)));
        let mut batches = split(&Bytes::copy_from_slice(&bytes));
        assert!(batches.next().unwrap().is_err());
        assert!(batches.next().is_none());
    }
}

#[test]
fn truncation_at_every_byte_is_an_error() {
    for codec in Compression::ALL {
        let bytes = plain_batch(codec, 5, 50);
        for end in 0..bytes.len() {
            let cut = bytes.slice(..end);
            assert!(accept(&cut).is_err(), "{codec} cut at {end}");
            // The same with a length that agrees, so that the records themselves are cut.
            if end >= BATCH_OVERHEAD {
                let mut cut = BytesMut::from(&cut[..]);
                let length = i32::try_from(end - 12).unwrap();
                cut[8..12].copy_from_slice(&length.to_be_bytes());
                let crc = crc32c(&cut[21..]);
                cut[17..21].copy_from_slice(&crc.to_be_bytes());
                assert!(accept(&cut.freeze()).is_err(), "{codec} cut and sealed at {end}");
            }
        }
    }
}

#[test]
fn every_bit_flip_is_detected() {
    for codec in Compression::ALL {
        let bytes = plain_batch(codec, 5, 50);
        // Base offset and leader epoch lie outside the checksum; a broker overwrites them.
        for position in (8..12).chain(16..bytes.len()) {
            for bit in 0..8 {
                let mut damaged = BytesMut::from(&bytes[..]);
                damaged[position] ^= 1 << bit;
                assert!(accept(&damaged.freeze()).is_err(), "{codec} bit {bit} of {position}");
            }
        }
    }
}

#[test]
fn sealed_damage_never_panics_and_stays_within_the_limit() {
    for codec in Compression::ALL {
        let bytes = plain_batch(codec, 5, 50);
        for position in 21..bytes.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let batch = Batch::parse(forged(&bytes, position, byte)).unwrap();
                let _ = check_structure(&batch.bytes, &batch.header);
                let _ = inspect_inflated(&batch.bytes, &batch.header, 4096);
                if let Ok(records) = batch.records(4096) {
                    assert!(records.remaining_bytes() <= 4096);
                    let _ = records.collect::<Vec<_>>();
                }
            }
        }
    }
}

#[test]
fn each_fault_of_a_record_is_named_with_its_index() {
    use RecordFault as F;
    // Position in the golden bytes, new byte, index of the record, fault.
    let cases = [
        (61, 1, 0, F::Length),
        (75, 40, 1, F::Length),
        (61, 0, 0, F::Prefix),
        (64, 2, 0, F::OffsetDelta { actual: 1 }),
        (78, 0, 1, F::OffsetDelta { actual: 0 }),
        (65, 3, 0, F::KeyLength),
        (65, 60, 0, F::KeyLength),
        (68, 60, 0, F::ValueLength),
        (71, 1, 0, F::HeaderCount),
        (71, 60, 0, F::HeaderCount),
        (72, 1, 0, F::HeaderKeyLength),
        (74, 2, 0, F::HeaderValueLength),
        (71, 0, 0, F::TrailingBytes),
        (60, 3, 2, F::Missing),
        (60, 1, 0, F::TrailingRecords),
    ];
    for (position, byte, index, fault) in cases {
        let mut bytes = BytesMut::from(&forged(&GOLDEN, position, byte)[..]);
        // The offset range follows the count, so that the walk is reached.
        bytes[26] = bytes[60] - 1;
        let header = BatchHeader::parse(&bytes).unwrap();
        let error = check_structure(&bytes, &header).unwrap_err();
        assert_eq!(error, BatchError::InvalidRecord { index, fault }, "at {position}");
        assert_eq!((error.fault(), error.record_index()), (BatchFault::Invalid, Some(index)));
        assert!(error.to_string().starts_with(&format!("record {index}: ")));
    }
}

#[test]
fn counts_and_offset_ranges_must_agree() {
    let bytes = plain_batch(Compression::Zstd, 3, 10);
    for (count, last_delta) in [(0, 0), (-1, -2), (3, 3), (2, 2), (i32::MIN, i32::MAX)] {
        let mut header = BatchHeader::parse(&bytes).unwrap();
        header.records_count = count;
        header.last_offset_delta = last_delta;
        assert_eq!(
            check_structure(&bytes, &header).unwrap_err().fault(),
            BatchFault::Invalid,
            "{count} {last_delta}"
        );
    }
}

#[test]
fn a_lying_count_of_a_compressed_batch_is_found_when_inflated() {
    let bytes = plain_batch(Compression::Lz4, 3, 10);
    let mut header = BatchHeader::parse(&bytes).unwrap();
    header.records_count = 1_000_000;
    header.last_offset_delta = 999_999;
    check_structure(&bytes, &header).unwrap();
    assert_eq!(
        inspect_inflated(&bytes, &header, LIMIT),
        Err(BatchError::InvalidRecord { index: 3, fault: RecordFault::Missing })
    );
}

#[test]
fn unknown_codecs_are_refused() {
    for id in 5..8 {
        let bytes = forged(&GOLDEN, 22, id);
        let error = accept(&bytes).unwrap_err();
        assert_eq!(error, BatchError::UnsupportedCompression(i16::from(id)));
        assert_eq!(error.fault(), BatchFault::UnsupportedCompression);
    }
}

#[test]
fn iterator_accepts_the_gaps_of_compaction() {
    // Record 0 removed: one record with offset delta 1 in a batch that still spans two offsets.
    let mut bytes = GOLDEN[..BATCH_OVERHEAD].to_vec();
    bytes.extend_from_slice(&GOLDEN[75..]);
    bytes[11] = u8::try_from(bytes.len() - 12).unwrap();
    bytes[60] = 1;
    let batch = Batch::parse(Bytes::from(bytes)).unwrap();
    let records: Vec<_> = batch.records(LIMIT).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].offset, 1);
    assert_eq!(batch.header.next_offset(), 2);
}

#[test]
fn iteration_ends_after_a_fault() {
    let batch = Batch::parse(forged(&GOLDEN, 78, 0x80)).unwrap();
    let results: Vec<_> = batch.records(LIMIT).unwrap().collect();
    assert_eq!(results.len(), 2);
    assert!(results[0].is_ok() && results[1].is_err());
}

#[test]
fn sequence_numbers_wrap_to_zero() {
    let mut header = BatchHeader::parse(&GOLDEN).unwrap();
    header.base_sequence = i32::MAX;
    header.last_offset_delta = 0;
    assert_eq!(header.last_sequence(), i32::MAX);
    header.last_offset_delta = 1;
    assert_eq!(header.last_sequence(), 0);
    header.last_offset_delta = i32::MAX;
    assert_eq!(header.last_sequence(), i32::MAX - 1);
    header.base_sequence = -1;
    assert_eq!(header.last_sequence(), -1);
    assert_eq!(increment_sequence(i32::MAX - 1, 3), 1);
}

#[test]
fn hostile_headers_do_not_overflow() {
    let mut header = BatchHeader::parse(&GOLDEN).unwrap();
    header.base_offset = i64::MAX;
    header.base_timestamp = i64::MAX;
    assert_eq!(header.next_offset(), i64::MAX);
    assert!(inspect(&GOLDEN, &header).is_ok());
    let batch = Batch { header, bytes: Bytes::from_static(&GOLDEN) };
    assert_eq!(batch.records(LIMIT).unwrap().filter(Result::is_ok).count(), 2);
    header.batch_length = -1;
    assert!(check_crc(&GOLDEN, &header).is_err());
}

#[test]
fn markers_have_the_bytes_consumers_expect() {
    for (control, id) in [(ControlType::Abort, 0), (ControlType::Commit, 1)] {
        let marker = EndTransactionMarker {
            control,
            producer_id: 77,
            producer_epoch: 5,
            coordinator_epoch: 12,
            timestamp: 1234,
        };
        let bytes = marker.build();
        let header = BatchHeader::parse(&bytes).unwrap();
        assert!(header.is_control() && header.is_transactional());
        assert_eq!((header.attributes, header.base_sequence), (0x30, -1));
        assert_eq!((header.producer_id, header.producer_epoch), (77, 5));
        let records = accept(&bytes).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].key.as_deref(), Some(&[0, 0, 0, id][..]));
        assert_eq!(records[0].value.as_deref(), Some(&[0, 0, 0, 0, 0, 12][..]));
        assert_eq!(control_type(&records[0]), Ok(control));
        assert_eq!(coordinator_epoch(&records[0]), Ok(12));
    }
}

#[test]
fn unknown_control_records_are_not_taken_for_markers() {
    let keyed = |key: &'static [u8]| Record { key: Some(Bytes::from(key)), ..Record::default() };
    assert_eq!(control_type(&keyed(&[0, 9, 0, 2])), Ok(ControlType::Other(2)));
    assert_eq!(control_type(&keyed(&[0xff, 0xff, 0, 1])), Err(BatchError::InvalidControlRecord));
    assert_eq!(control_type(&keyed(&[0, 0, 0])), Err(BatchError::InvalidControlRecord));
    assert_eq!(control_type(&Record::default()), Err(BatchError::InvalidControlRecord));
    assert_eq!(coordinator_epoch(&keyed(b"")), Err(BatchError::InvalidControlRecord));
}

type OwnedHeader = (String, Option<Vec<u8>>);
type OwnedRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<OwnedHeader>);

fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
    let headers = proptest::collection::vec((".{0,8}", bytes()), 0..4);
    (any::<i64>(), bytes(), bytes(), headers)
}

proptest! {
    #[test]
    fn reading_inverts_building(
        records in proptest::collection::vec(any_record(), 1..40),
        codec in proptest::sample::select(Compression::ALL.to_vec()),
        base_sequence in 0..i32::MAX,
    ) {
        let mut builder = BatchBuilder::new(codec);
        builder.producer(1, 2, base_sequence).transactional();
        for (timestamp, key, value, headers) in &records {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            builder.append(*timestamp, key.as_deref(), value.as_deref(), &headers).unwrap();
        }
        let bytes = builder.build();
        let header = BatchHeader::parse(&bytes).unwrap();
        prop_assert_eq!(header.compression(), Ok(codec));
        prop_assert!(header.is_transactional());
        check_crc(&bytes, &header).unwrap();
        let expected_max = records.iter().map(|record| record.0).max().unwrap();
        prop_assert_eq!(header.max_timestamp, expected_max);
        let batch = Batch::parse(bytes).unwrap();
        inspect_inflated(&batch.bytes, &header, LIMIT).unwrap();
        let read: Vec<_> = batch.records(LIMIT).unwrap().map(Result::unwrap).collect();
        let read: Vec<OwnedRecord> = read
            .into_iter()
            .map(|record| {
                let owned = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.to_vec());
                let headers = record
                    .headers
                    .into_iter()
                    .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), owned(value)))
                    .collect();
                (record.timestamp, owned(record.key), owned(record.value), headers)
            })
            .collect();
        prop_assert_eq!(read, records);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        let _ = split(&bytes).count();
        for codec in Compression::ALL {
            if let Ok(inflated) = decompress(codec, &bytes, 4096) {
                prop_assert!(inflated.len() <= 4096);
            }
        }
        // The same bytes as the records of a valid header.
        let mut batch = GOLDEN[..BATCH_OVERHEAD].to_vec();
        batch.extend_from_slice(&bytes);
        let mut header = BatchHeader::parse(&batch).unwrap();
        header.batch_length = i32::try_from(batch.len() - 12).unwrap();
        let _ = check_structure(&batch, &header);
        let batch = Batch { header, bytes: Bytes::from(batch) };
        let _ = batch.records(4096).unwrap().count();
    }
}
