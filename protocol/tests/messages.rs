//! Every message in every version: what is written is read back, another implementation reads it
//! and writes the same bytes, and what decodes from damaged bytes is a message like any other.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey as OracleKey, RequestKind as OracleRequest, ResponseKind as OracleResponse,
};
use proptest::prelude::*;
use sawlog_protocol::api::visit_messages;
use sawlog_protocol::messages::{DeleteTopicsRequest, MetadataRequest};
use sawlog_protocol::wire::{Arbitrary, Decode, Encode, Family, Generator, Reader, Side, Visitor};
use sawlog_protocol::{ApiKey, DecodeError, Writer, decode_request};

fn encode<M: Encode>(message: &M, key: ApiKey, version: i16) -> Bytes {
    let mut bytes = Vec::new();
    message.encode(&mut Writer::new(&mut bytes, version, key.is_flexible(version)));
    bytes.into()
}

fn decode<'a, M: Decode<'a>>(
    bytes: &'a Bytes,
    key: ApiKey,
    version: i16,
) -> Result<M, DecodeError> {
    let mut reader = Reader::new(bytes, version, key.is_flexible(version));
    let message = M::decode(&mut reader)?;
    reader.finish().map(|()| message)
}

/// Runs `test` on both messages of every API.
fn every_message(mut test: impl FnMut(ApiKey, Side)) {
    for key in ApiKey::ALL {
        test(*key, Side::Request);
        test(*key, Side::Response);
    }
}

/// Encodes a random message per version and reads it back.
struct RoundTrip {
    seed: u64,
}

impl Visitor for RoundTrip {
    type Output = ();

    fn visit<F: Family>(self) {
        for version in F::KEY.versions() {
            let mut g = Generator::new(self.seed, version, F::KEY.is_flexible(version));
            let bytes;
            let message = F::Message::arbitrary(&mut g);
            bytes = encode(&message, F::KEY, version);
            let back = decode::<F::Message<'_>>(&bytes, F::KEY, version);
            assert_eq!(back.as_ref(), Ok(&message), "{} {version}", F::KEY.name());
        }
    }
}

/// Damages a random message; what still decodes must survive another round.
struct Damage {
    seed: u64,
}

impl Visitor for Damage {
    /// Messages that decoded although damaged.
    type Output = usize;

    fn visit<F: Family>(self) -> usize {
        let mut accepted = 0;
        for version in F::KEY.versions() {
            let mut g = Generator::new(self.seed, version, F::KEY.is_flexible(version));
            let mut bytes = encode(&F::Message::arbitrary(&mut g), F::KEY, version).to_vec();
            for _ in 0..4 {
                if !bytes.is_empty() {
                    let at = g.below(bytes.len());
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff, g.bits().to_be_bytes()[0]][g.below(6)];
                }
                let (damaged, written);
                damaged = Bytes::from(bytes.clone());
                let Ok(message) = decode::<F::Message<'_>>(&damaged, F::KEY, version) else {
                    continue;
                };
                accepted += 1;
                written = encode(&message, F::KEY, version);
                let again = decode::<F::Message<'_>>(&written, F::KEY, version);
                assert_eq!(again.as_ref(), Ok(&message), "{} {version}", F::KEY.name());
            }
        }
        accepted
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(seed: u64) {
        every_message(|key, side| visit_messages(key, side, RoundTrip { seed }));
    }

    #[test]
    fn what_decodes_from_damaged_bytes_is_a_message_like_any_other(seed: u64) {
        let mut accepted = 0;
        every_message(|key, side| accepted += visit_messages(key, side, Damage { seed }));
        prop_assert!(accepted > 20, "{accepted} of some 800");
    }
}

/// Has another implementation read our bytes and write what it read. It gets only bytes our encoder
/// made: it allocates what a length claims, and would end this process on a hostile one.
struct Oracle {
    seeds: std::ops::Range<u64>,
}

/// Messages compared, and the versions the oracle has no schema for.
#[derive(Debug, Default)]
struct Compared {
    same: usize,
    unknown: Vec<String>,
}

impl Visitor for Oracle {
    type Output = Compared;

    fn visit<F: Family>(self) -> Compared {
        let mut compared = Compared::default();
        let oracle = OracleKey::try_from(F::KEY.as_i16()).unwrap();
        let known = oracle.valid_versions();
        for version in F::KEY.versions() {
            let what = format!("{} {:?} {version}", F::KEY.name(), F::SIDE);
            if !(known.min..=known.max).contains(&version) {
                compared.unknown.push(what);
                continue;
            }
            for seed in self.seeds.clone() {
                let mut g = Generator::new(seed, version, F::KEY.is_flexible(version));
                let message = F::Message::arbitrary(&mut g);
                let ours = encode(&message, F::KEY, version);
                let mut theirs = BytesMut::new();
                let mut input = ours.clone();
                match F::SIDE {
                    Side::Request => OracleRequest::decode(oracle, &mut input, version)
                        .and_then(|request| request.encode(&mut theirs, version)),
                    Side::Response => OracleResponse::decode(oracle, &mut input, version)
                        .and_then(|response| response.encode(&mut theirs, version)),
                }
                .unwrap_or_else(|error| panic!("{what}: {error}: {message:?}"));
                assert_eq!(input.len(), 0, "{what}: the oracle left bytes of {message:?}");
                assert_eq!(theirs, ours, "{what}: {message:?}");
                compared.same += 1;
            }
        }
        compared
    }
}

#[test]
fn another_implementation_reads_and_writes_the_same_bytes() {
    let mut all = Compared::default();
    every_message(|key, side| {
        let compared = visit_messages(key, side, Oracle { seeds: 0..60 });
        all.same += compared.same;
        all.unknown.extend(compared.unknown);
    });
    println!("{} messages are the same; no schema for {:?}", all.same, all.unknown);
    assert!(all.same > 10_000, "{all:?}");
}

#[test]
fn librdkafkas_long_count_of_all_topics_is_understood() {
    // What librdkafka 2.16 sends: a null array as four bytes, then true, false, no tags.
    let body = Bytes::from_static(&[0, 0, 0, 0, 1, 0, 0]);
    let request: MetadataRequest<'_> = decode_request(&body, 13).unwrap();
    assert_eq!(request.topics, None);
    assert!(!request.allow_auto_topic_creation, "as the reference reads it");

    let body = Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0, 9]);
    let other = decode_request::<DeleteTopicsRequest<'_>>(&body, 6);
    assert!(other.is_err(), "elsewhere bytes behind the last field are refused");
}

#[test]
fn null_is_refused_and_never_written_where_the_version_has_none() {
    let none = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff]);
    assert_eq!(decode_request::<MetadataRequest<'_>>(&none, 1).unwrap().topics, None);
    let refused = decode_request::<MetadataRequest<'_>>(&none, 0);
    assert_eq!(refused, Err(DecodeError::UnexpectedNull));

    let all = MetadataRequest::default();
    assert_eq!(encode(&all, ApiKey::Metadata, 0), [0, 0, 0, 0][..]);
    assert_eq!(encode(&all, ApiKey::Metadata, 1), [0xff; 4][..]);
}
