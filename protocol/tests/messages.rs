//! Every message in every version: what is written is read back, another implementation reads it
//! and writes the same bytes, and what decodes from damaged bytes is a message like any other.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey as OracleKey, ConsumerProtocolAssignment as OracleAssignment,
    ConsumerProtocolSubscription as OracleSubscription, RequestKind as OracleRequest,
    ResponseKind as OracleResponse,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _};
use proptest::prelude::*;
use sawlog_protocol::api::{families, visit_messages};
use sawlog_protocol::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use sawlog_protocol::messages::{DeleteTopicsRequest, MetadataRequest};
use sawlog_protocol::wire::{
    ApiFamily, Arbitrary, Decode, Encode, Family, FamilyVisitor, Generator, Reader, Side,
    VersionedError, Visitor,
};
use sawlog_protocol::{
    ApiKey, DecodeError, Writer, consumer_protocol, decode_request, group_records,
};

fn encode<F: Family>(message: &F::Message<'_>, version: i16) -> Bytes {
    let mut bytes = Vec::new();
    message.encode(&mut Writer::new(&mut bytes, version, F::is_flexible(version)));
    bytes.into()
}

fn decode<F: Family>(bytes: &Bytes, version: i16) -> Result<F::Message<'_>, DecodeError> {
    let mut reader = Reader::new(bytes, version, F::is_flexible(version));
    let message = F::Message::decode(&mut reader)?;
    reader.finish().map(|()| message)
}

/// Both messages of every API, and the structures that stand alone.
const TYPES: usize =
    2 * ApiKey::ALL.len() + consumer_protocol::STRUCTURES + group_records::STRUCTURES;

/// Shows `visitor` one of [`TYPES`].
fn visit<V: FamilyVisitor>(place: usize, visitor: V) -> V::Output {
    /// Messages are types like others.
    struct Any<V>(V);

    impl<V: FamilyVisitor> Visitor for Any<V> {
        type Output = V::Output;

        fn visit<F: ApiFamily>(self) -> V::Output {
            self.0.visit::<F>()
        }
    }

    if let Some(key) = ApiKey::ALL.get(place / 2) {
        let side = [Side::Request, Side::Response][place % 2];
        return visit_messages(*key, side, Any(visitor));
    }
    let place = place - 2 * ApiKey::ALL.len();
    if place < consumer_protocol::STRUCTURES {
        return consumer_protocol::visit_structure(place, visitor).unwrap();
    }
    group_records::visit_structure(place - consumer_protocol::STRUCTURES, visitor).unwrap()
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

impl FamilyVisitor for RoundTrip {
    type Output = ();

    fn visit<F: Family>(self) {
        for version in F::versions() {
            let mut g = Generator::new(self.seed, version, F::is_flexible(version));
            let bytes;
            let message = F::Message::arbitrary(&mut g);
            bytes = encode::<F>(&message, version);
            let back = decode::<F>(&bytes, version);
            assert_eq!(back.as_ref(), Ok(&message), "{} {version}", F::NAME);
        }
    }
}

/// Damages a random message; what still decodes must survive another round.
struct Damage {
    seed: u64,
}

impl FamilyVisitor for Damage {
    /// Messages that decoded although damaged.
    type Output = usize;

    fn visit<F: Family>(self) -> usize {
        let mut accepted = 0;
        for version in F::versions() {
            let mut g = Generator::new(self.seed, version, F::is_flexible(version));
            let mut bytes = encode::<F>(&F::Message::arbitrary(&mut g), version).to_vec();
            for _ in 0..4 {
                if !bytes.is_empty() {
                    let at = g.below(bytes.len());
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff, g.bits().to_be_bytes()[0]][g.below(6)];
                }
                let (damaged, written);
                damaged = Bytes::from(bytes.clone());
                let Ok(message) = decode::<F>(&damaged, version) else {
                    continue;
                };
                accepted += 1;
                written = encode::<F>(&message, version);
                let again = decode::<F>(&written, version);
                assert_eq!(again.as_ref(), Ok(&message), "{} {version}", F::NAME);
            }
        }
        accepted
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(seed: u64) {
        for place in 0..TYPES {
            visit(place, RoundTrip { seed });
        }
    }

    #[test]
    fn what_decodes_from_damaged_bytes_is_a_message_like_any_other(seed: u64) {
        let mut accepted = 0;
        for place in 0..TYPES {
            accepted += visit(place, Damage { seed });
        }
        prop_assert!(accepted > 20, "{accepted} of some 1,600");
    }
}

/// Has another implementation read our bytes and write what it read. It gets only bytes our encoder
/// made: it allocates what a length claims, and would end this process on a hostile one.
struct Oracle {
    seeds: std::ops::Range<u64>,
}

/// Versions the oracle says it has, and then refuses.
const CLAIMED_ONLY: &[(ApiKey, i16)] = &[(ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10)];

/// Messages compared, and the versions the oracle has no schema for.
#[derive(Debug, Default)]
struct Compared {
    same: usize,
    unknown: Vec<String>,
}

impl Visitor for Oracle {
    type Output = Compared;

    fn visit<F: ApiFamily>(self) -> Compared {
        let mut compared = Compared::default();
        if F::KEY.is_own() {
            compared.unknown.push(F::NAME.to_owned());
            return compared;
        }
        let oracle = OracleKey::try_from(F::KEY.as_i16()).unwrap();
        let known = oracle.valid_versions();
        for version in F::versions() {
            let what = format!("{} {version}", F::NAME);
            let claimed_only = CLAIMED_ONLY.contains(&(F::KEY, version));
            if claimed_only || !(known.min..=known.max).contains(&version) {
                compared.unknown.push(what);
                continue;
            }
            for seed in self.seeds.clone() {
                let mut g = Generator::new(seed, version, F::is_flexible(version));
                let message = F::Message::arbitrary(&mut g);
                let ours = encode::<F>(&message, version);
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
fn another_implementation_reads_and_writes_the_same_consumer_protocol() {
    for (seed, version) in (0..200).flat_map(|seed| (0..4).map(move |version| (seed, version))) {
        let mut g = Generator::new(seed, version, false);
        let message = ConsumerProtocolSubscription::arbitrary(&mut g);
        let ours = message.to_bytes(version);
        let mut input = ours.slice(2..);
        let theirs = OracleSubscription::decode(&mut input, version).unwrap();
        let mut written = BytesMut::new();
        theirs.encode(&mut written, version).unwrap();
        assert_eq!((input.len(), &written[..]), (0, &ours[2..]), "{version}: {message:?}");

        let message = ConsumerProtocolAssignment::arbitrary(&mut g);
        let ours = message.to_bytes(version);
        let mut input = ours.slice(2..);
        let theirs = OracleAssignment::decode(&mut input, version).unwrap();
        let mut written = BytesMut::new();
        theirs.encode(&mut written, version).unwrap();
        assert_eq!((input.len(), &written[..]), (0, &ours[2..]), "{version}: {message:?}");
    }
}

#[test]
fn newer_subscriptions_are_read_as_the_newest_known_and_what_follows_is_left() {
    let known = ConsumerProtocolSubscription { topics: vec!["a"], ..Default::default() };
    let mut newer = known.to_bytes(3).to_vec();
    newer[..2].copy_from_slice(&9i16.to_be_bytes());
    newer.extend([1, 2, 3]);
    assert_eq!(ConsumerProtocolSubscription::from_bytes(&newer.clone().into()), Ok(known));
    newer[..2].copy_from_slice(&(-1i16).to_be_bytes());
    let outcome = newer.into();
    let outcome = ConsumerProtocolSubscription::from_bytes(&outcome);
    assert_eq!(outcome, Err(VersionedError::UnsupportedVersion(-1)));
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
    assert_eq!(encode::<families::MetadataRequest>(&all, 0), [0, 0, 0, 0][..]);
    assert_eq!(encode::<families::MetadataRequest>(&all, 1), [0xff; 4][..]);
}

#[test]
fn no_string_is_longer_than_a_record_key_can_hold_in_any_version() {
    use sawlog_protocol::messages::find_coordinator::FindCoordinatorRequest;
    use sawlog_protocol::wire::STRING_BYTES_MAX;
    let longest = "g".repeat(STRING_BYTES_MAX);
    let request = FindCoordinatorRequest { key: &longest, ..Default::default() };
    for version in [2, 3] {
        let mut bytes = Vec::new();
        request.encode(&mut Writer::new(&mut bytes, version, version >= 3));
        let bytes = bytes.into();
        let read: FindCoordinatorRequest<'_> = decode_request(&bytes, version).unwrap();
        assert_eq!(read.key.len(), STRING_BYTES_MAX);
    }
    // One byte more: the length is 32768, and one, as a varint.
    let mut bytes = vec![0x81, 0x80, 0x02];
    bytes.resize(bytes.len() + STRING_BYTES_MAX + 1, b'g');
    bytes.extend([0, 0]);
    let read = decode_request::<FindCoordinatorRequest<'_>>(&bytes.into(), 3).map(|_| ());
    assert_eq!(read, Err(DecodeError::StringTooLong));
}
