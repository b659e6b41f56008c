//! Compressed batches: what is wrong inside is found before anything is stored, and what takes
//! long to look at holds up nobody else and no order.

use bytes::Bytes;
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{
    BATCH_OVERHEAD, BatchBuilder, BatchHeader, Codec, Compression, crc32c, recompress,
};
use sawlog_protocol::{ErrorCode, decode_response};

use super::{TOPIC, fixture, produce};

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn builder(codec: Compression, count: usize, value: &[u8]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    for _ in 0..count {
        builder.append(1, None, Some(value), &[]).unwrap();
    }
    builder
}

fn resealed(batch: &[u8], change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c(&bytes[21..]).to_be_bytes();
    bytes[17..21].copy_from_slice(&crc);
    bytes.into()
}

fn with_count(batch: &[u8], count: i32) -> Bytes {
    resealed(batch, |bytes| {
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
    })
}

#[test]
fn a_lie_inside_a_compressed_batch_is_refused_and_never_stored() {
    let fixture = fixture();
    let mut wire = fixture.connect();
    for codec in CODECS {
        let good = builder(codec, 3, b"value").build();
        let plain = builder(Compression::None, 3, b"value").build();
        let header = BatchHeader::parse(&plain).unwrap();
        let inside = |records: &[u8]| {
            let codec = Codec { compression: codec, level: None };
            Bytes::from(recompress(&header, records, codec).unwrap().1)
        };
        let records = &plain[BATCH_OVERHEAD..];
        let cases = [
            ("counts one more", with_count(&good, 4)),
            ("counts one less", with_count(&good, 2)),
            ("counts millions", with_count(&good, i32::MAX)),
            ("has trailing bytes", inside(&[records, b"more"].concat())),
            ("is cut off inside", inside(&records[..records.len() - 3])),
            ("has no records", inside(&[])),
            ("is not compressed", resealed(&good, |bytes| bytes[BATCH_OVERHEAD..].fill(0xff))),
        ];
        for (what, batch) in cases {
            let (code, message, _) = produce(&mut wire, 9, batch);
            assert_eq!(code, ErrorCode::INVALID_RECORD, "{codec} {what}: {message}");
        }
    }
    let (code, _, offset) = produce(&mut wire, 9, builder(Compression::Lz4, 1, b"v").build());
    assert_eq!((code, offset), (ErrorCode::NONE, 0), "nothing was stored before");
}

#[test]
fn requests_behind_a_large_compressed_batch_keep_their_order() {
    let fixture = fixture();
    let mut wire = fixture.connect();
    let mut sequence = 0;
    // All in flight at once: an append out of order would be an error of the producer's sequence.
    for round in 0..20 {
        let large = [Compression::Gzip, Compression::Zstd][round % 2];
        for (codec, count, value) in
            [(large, 40, &[7; 100_000][..]), (Compression::None, 1, b"small"), (large, 1, b"small")]
        {
            let mut builder = builder(codec, count, value);
            builder.producer(4711, 0, sequence);
            sequence += i32::try_from(count).unwrap();
            send(&mut wire, builder.build());
        }
    }
    let mut expected = 0;
    for _ in 0..20 {
        for count in [40, 1, 1] {
            let frame = wire.receive().unwrap();
            let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, 9).unwrap();
            let part = &response.responses[0].partition_responses[0];
            assert_eq!((part.error_code, part.base_offset), (ErrorCode::NONE, expected));
            expected += count;
        }
    }
}

#[test]
fn several_bombs_at_once_are_refused_one_by_one() {
    let fixture = fixture();
    let before = fixture.broker.resident_bytes();
    let bomb = builder(Compression::Zstd, 3, &vec![0; 48 << 20]).build();
    assert!(bomb.len() < 1 << 20);
    let mut wires: Vec<_> = (0..8).map(|_| fixture.connect()).collect();
    for wire in &mut wires {
        send(wire, bomb.clone());
    }
    // Meanwhile others are served.
    fixture.serves_others();
    for wire in &mut wires {
        let frame = wire.receive().unwrap();
        let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, 9).unwrap();
        let part = &response.responses[0].partition_responses[0];
        assert_eq!(part.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    }
    let grown = fixture.broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "kept {grown} bytes");
}

fn send(wire: &mut super::wire::Wire, records: Bytes) {
    let request = ProduceRequest {
        acks: 1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: TOPIC,
            partition_data: vec![PartitionProduceData { index: 0, records: Some(records) }],
            ..Default::default()
        }],
        ..Default::default()
    };
    wire.send(&request, 9).unwrap();
}
