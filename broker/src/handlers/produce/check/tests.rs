//! What is refused, what is changed, and what is stored as it was sent.

use sawlog_protocol::records::{BATCH_OVERHEAD, Batch, BatchBuilder, Record, crc32c, recompress};

use super::*;
use crate::config::{BrokerConfig, Overrides};

const NOW: i64 = 1_700_000_000_000;
const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn config(settings: &[(&str, &str)]) -> TopicConfig {
    let own: Overrides =
        settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    TopicConfig::resolve(&own, &BrokerConfig::default())
}

fn run<'b>(batch: &'b Bytes, config: &TopicConfig) -> Result<Checked<'b>, Rejected> {
    let rules = Rules { config, version: 9, now: Timestamp(NOW) };
    match check(Some(batch), &rules, &mut Allowance::unlimited()) {
        Ok(checked) => Ok(checked),
        Err(Refusal::Rejected(rejected)) => Err(rejected),
        Err(Refusal::TooMuch) => panic!("the allowance has no end"),
    }
}

fn code(batch: &Bytes, settings: &[(&str, &str)]) -> ErrorCode {
    run(batch, &config(settings)).map_or_else(|rejected| rejected.code, |_| ErrorCode::NONE)
}

/// Three records, of the given times.
fn batch(codec: Compression, times: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for time in times {
        builder.append(*time, Some(b"key"), Some(b"a value that repeats, a value"), &[]).unwrap();
    }
    builder.build()
}

/// A batch of these inflated records with the count of `like`, well-formed outside.
fn forged(like: &Bytes, codec: Compression, records: &[u8]) -> Bytes {
    let header = BatchHeader::parse(like).unwrap();
    recompress(&header, records, Codec { compression: codec, level: None }).unwrap().1.into()
}

/// The batch with header bytes changed and the checksum right again.
fn resealed(batch: &Bytes, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c(&bytes[21..]).to_be_bytes();
    bytes[17..21].copy_from_slice(&crc);
    bytes.into()
}

fn with_count(batch: &Bytes, count: i32) -> Bytes {
    resealed(batch, |bytes| {
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
    })
}

fn records(checked: &Checked<'_>) -> Vec<Record> {
    let batch = Batch::parse(Bytes::copy_from_slice(&checked.bytes)).unwrap();
    records::check_crc(&batch.bytes, &batch.header).unwrap();
    batch.records(1 << 20).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_compressed_batch_that_lies_about_its_records_is_refused() {
    for codec in CODECS {
        let good = batch(codec, &[NOW; 3]);
        let plain = batch(Compression::None, &[NOW; 3]);
        let inside = &plain[BATCH_OVERHEAD..];
        let third = inside.len() / 3;
        // Length, attributes, timestamp delta, offset delta: one byte each.
        let mut wrong_delta = inside.to_vec();
        wrong_delta[third + 3] = 8;
        let cases = [
            ("more records than counted", with_count(&good, 2)),
            ("fewer records than counted", with_count(&good, 4)),
            ("a count of millions", with_count(&good, 5_000_000)),
            ("an offset delta that is no index", forged(&good, codec, &wrong_delta)),
            ("bytes behind the last record", forged(&good, codec, &[inside, &[0]].concat())),
            ("a record cut off", forged(&good, codec, &inside[..inside.len() - 1])),
            ("no record at all", forged(&good, codec, &[])),
            ("no compressed data", resealed(&good, |bytes| bytes[BATCH_OVERHEAD..].fill(0xa5))),
        ];
        for (what, bytes) in cases {
            assert_eq!(code(&bytes, &[]), ErrorCode::INVALID_RECORD, "{codec}: {what}");
        }
        assert_eq!(code(&good, &[]), ErrorCode::NONE);
    }
}

#[test]
fn a_batch_with_nothing_to_change_is_stored_as_it_was_sent() {
    for codec in Compression::ALL {
        let sent = batch(codec, &[NOW, NOW + 5, NOW - 5]);
        for settings in [&[][..], &[("compression.type", codec.name())][..]] {
            let config = config(settings);
            let checked = run(&sent, &config).unwrap();
            assert!(matches!(checked.bytes, Cow::Borrowed(_)), "{codec} {settings:?}");
            assert!(*checked.bytes == *sent);
        }
    }
}

#[test]
fn a_wrong_largest_timestamp_is_put_right() {
    for codec in Compression::ALL {
        for claimed in [-1, NOW + 1000, 0] {
            let sent = resealed(&batch(codec, &[NOW, NOW + 5]), |bytes| {
                bytes[35..43].copy_from_slice(&claimed.to_be_bytes());
            });
            let config = config(&[]);
            let checked = run(&sent, &config).unwrap();
            assert_eq!(checked.header.max_timestamp, NOW + 5, "{codec} {claimed}");
            assert_eq!(records(&checked)[1].timestamp, NOW + 5);
        }
    }
}

#[test]
fn timestamps_out_of_range_are_refused_record_by_record() {
    let settings =
        [("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "2000")];
    for codec in Compression::ALL {
        let fine = batch(codec, &[NOW - 1000, -1, NOW + 2000]);
        assert_eq!(code(&fine, &settings), ErrorCode::NONE, "{codec}");
        let wrong = batch(codec, &[NOW, NOW + 2001, NOW, NOW - 1001]);
        let rejected = run(&wrong, &config(&settings)).unwrap_err();
        assert_eq!(rejected.code, ErrorCode::INVALID_TIMESTAMP, "{codec}");
        let indexes: Vec<i32> = rejected.records.iter().map(|(index, _)| *index).collect();
        assert_eq!(indexes, [1, 3], "{codec}");
        // The header does not save a batch: here it claims that all is well.
        let hidden = resealed(&wrong, |bytes| bytes[35..43].copy_from_slice(&NOW.to_be_bytes()));
        assert_eq!(code(&hidden, &settings), ErrorCode::INVALID_TIMESTAMP, "{codec}");
        let append_time = [settings[0], settings[1], ("message.timestamp.type", "LogAppendTime")];
        assert_eq!(code(&wrong, &append_time), ErrorCode::NONE, "{codec}: nobody looks");
    }
}

#[test]
fn a_reply_names_some_of_many_records_at_fault() {
    let sent = batch(Compression::Zstd, &[NOW + (1 << 40); 5000]);
    let rejected = run(&sent, &config(&[])).unwrap_err();
    assert_eq!(rejected.records.len(), RECORD_ERRORS_MAX);
    assert!(rejected.message.starts_with("5000 "), "{}", rejected.message);
}

#[test]
fn append_time_is_the_brokers_and_nobody_elses_claim() {
    for codec in Compression::ALL {
        let sent = batch(codec, &[5, 6]);
        let append_time = config(&[("message.timestamp.type", "LogAppendTime")]);
        let checked = run(&sent, &append_time).unwrap();
        assert_eq!(checked.header.max_timestamp, NOW);
        assert!(records(&checked).iter().all(|record| record.timestamp == NOW), "{codec}");
        let claimed = resealed(&sent, |bytes| bytes[22] |= 0x08);
        for kind in ["CreateTime", "LogAppendTime"] {
            let settings = [("message.timestamp.type", kind)];
            assert_eq!(code(&claimed, &settings), ErrorCode::INVALID_TIMESTAMP, "{codec} {kind}");
        }
    }
}

#[test]
fn the_topics_codec_replaces_any_other_and_the_records_stay() {
    let name = |codec: Compression| match codec {
        Compression::None => "uncompressed",
        Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd => {
            codec.name()
        }
    };
    for from in Compression::ALL {
        let sent = batch(from, &[NOW, NOW + 5, NOW + 2]);
        let original = records(&run(&sent, &config(&[])).unwrap());
        for to in Compression::ALL {
            for kind in ["CreateTime", "LogAppendTime"] {
                let topic =
                    config(&[("compression.type", name(to)), ("message.timestamp.type", kind)]);
                let checked = run(&sent, &topic).unwrap();
                assert_eq!(checked.header.compression(), Ok(to), "{from} to {to}");
                assert_eq!(checked.header, BatchHeader::parse(&checked.bytes).unwrap());
                let mut expected = original.clone();
                if kind == "LogAppendTime" {
                    expected.iter_mut().for_each(|record| record.timestamp = NOW);
                }
                assert_eq!(records(&checked), expected, "{from} to {to}, {kind}");
            }
        }
    }
}

#[test]
fn the_size_limit_holds_as_sent_and_as_stored() {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.append(NOW, None, Some(&[7; 5000]), &[]).unwrap();
    let small = builder.build();
    assert!(small.len() < 1000);
    let limit = ("max.message.bytes", "1000");
    assert_eq!(code(&small, &[limit]), ErrorCode::NONE);
    let inflated = [limit, ("compression.type", "uncompressed")];
    assert_eq!(code(&small, &inflated), ErrorCode::MESSAGE_TOO_LARGE, "as stored");
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(NOW, None, Some(&[7; 5000]), &[]).unwrap();
    let large = builder.build();
    let deflated = [limit, ("compression.type", "zstd")];
    assert_eq!(code(&large, &deflated), ErrorCode::MESSAGE_TOO_LARGE, "as sent");
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    for _ in 0..3 {
        builder.append(NOW, None, Some(&vec![0; BATCH_INFLATED_BYTES_MAX / 3]), &[]).unwrap();
    }
    let bomb = builder.build();
    assert!(bomb.len() < 100_000);
    assert_eq!(code(&bomb, &[]), ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn what_takes_long_is_left_for_another_thread() {
    let large = |codec| {
        let mut builder = BatchBuilder::new(codec);
        builder.append(NOW, None, Some(&vec![7; 4 << 20]), &[]).unwrap();
        builder.build()
    };
    let config = config(&[("max.message.bytes", "10MiB")]);
    let rules = Rules { config: &config, version: 9, now: Timestamp(NOW) };
    for codec in CODECS {
        let batch = large(codec);
        let mut allowance = Allowance::of_connections();
        let refusal = check(Some(&batch), &rules, &mut allowance).unwrap_err();
        assert_eq!(refusal, Refusal::TooMuch, "{codec}");
        assert!(run(&batch, &config).is_ok());
    }
    let plain = large(Compression::None);
    assert!(check(Some(&plain), &rules, &mut Allowance(0)).is_ok(), "nothing to inflate");
    let small = batch(Compression::Gzip, &[NOW; 100]);
    let mut allowance = Allowance::of_connections();
    let mut taken = 0;
    while check(Some(&small), &rules, &mut allowance).is_ok() {
        taken += 1;
    }
    assert!(taken > 10, "small batches are looked at at once");
    assert!(taken < 10_000, "until there are too many of them");
}
