//! Every message, every version: what is written is read back, what another implementation reads it
//! writes the same, and nothing a sender can do makes decoding panic.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey as OracleKey, RequestKind as OracleRequest, ResponseKind as OracleResponse,
};

use super::arbitrary::{Arbitrary, Generator, Visitor};
use super::{Decode, DecodeError, Encode, Reader, RopeSink, Sink as _, Writer};
use crate::api::{ApiKey, visit_messages};

fn encode<M: Encode>(message: &M, key: ApiKey, version: i16) -> Bytes {
    let mut sink = RopeSink::with_capacity(64);
    sink.put(&[0; 4]);
    message.encode(&mut Writer::new(&mut sink, version, key.is_flexible(version)));
    sink.finish_frame().to_bytes().slice(4..)
}

fn decode<M: Decode<'static>>(bytes: &Bytes, key: ApiKey, version: i16) -> Result<M, DecodeError> {
    // Tests may leak: borrowed messages then live long enough for any caller.
    let frame: &'static Bytes = Box::leak(Box::new(bytes.clone()));
    let mut reader = Reader::new(frame, version, key.is_flexible(version));
    let message = M::decode(&mut reader)?;
    reader.finish()?;
    Ok(message)
}

fn samples(key: ApiKey, count: u64) -> impl Iterator<Item = (i16, Generator)> {
    key.versions().flat_map(move |version| {
        (0..count)
            .map(move |seed| (version, Generator::new(seed, version, key.is_flexible(version))))
    })
}

#[test]
fn what_is_written_is_read_back() {
    struct Check;
    impl Check {
        fn one<M>(key: ApiKey)
        where
            M: Arbitrary + Encode + Decode<'static> + PartialEq + std::fmt::Debug,
        {
            for (version, mut g) in samples(key, 40) {
                let message: M = g.value();
                let bytes = encode(&message, key, version);
                let back = decode::<M>(&bytes, key, version);
                assert_eq!(back.as_ref(), Ok(&message), "{} {version}", key.name());
            }
        }
    }
    impl Visitor for Check {
        fn visit<Q, P>(&mut self, key: ApiKey)
        where
            Q: Arbitrary + Encode + Decode<'static> + PartialEq + std::fmt::Debug,
            P: Arbitrary + Encode + Decode<'static> + PartialEq + std::fmt::Debug,
        {
            Self::one::<Q>(key);
            Self::one::<P>(key);
        }
    }
    visit_messages(&mut Check);
}

/// How many messages the oracle took and gave back unchanged, and how many it does not know.
#[derive(Debug, Default)]
struct Oracle {
    same: usize,
    unknown_versions: usize,
    refused: usize,
}

impl Oracle {
    fn compare(
        &mut self,
        what: &str,
        ours: &Bytes,
        theirs: impl FnOnce(&mut Bytes, &mut BytesMut) -> Result<(), String>,
    ) {
        let mut written = BytesMut::new();
        match theirs(&mut ours.clone(), &mut written) {
            Ok(()) => {
                assert_eq!(written, *ours, "{what}");
                self.same += 1;
            }
            // Null where that version of the schema has no null: our types do not tell versions
            // of nullability apart, clients do not send it.
            Err(_) => self.refused += 1,
        }
    }
}

impl Visitor for Oracle {
    fn visit<Q, P>(&mut self, key: ApiKey)
    where
        Q: Arbitrary + Encode + Decode<'static> + PartialEq + std::fmt::Debug,
        P: Arbitrary + Encode + Decode<'static> + PartialEq + std::fmt::Debug,
    {
        let oracle = OracleKey::try_from(key.as_i16()).unwrap();
        let known = oracle.valid_versions();
        for (version, mut g) in samples(key, 40) {
            if !(known.min..=known.max).contains(&version) {
                self.unknown_versions += 1;
                continue;
            }
            let request: Q = g.value();
            let what = format!("{} request {version}: {request:?}", key.name());
            self.compare(&what, &encode(&request, key, version), |bytes, written| {
                let message = OracleRequest::decode(oracle, bytes, version)
                    .map_err(|error| error.to_string())?;
                message.encode(written, version).map_err(|error| error.to_string())
            });
            let response: P = g.value();
            let what = format!("{} response {version}: {response:?}", key.name());
            self.compare(&what, &encode(&response, key, version), |bytes, written| {
                let message = OracleResponse::decode(oracle, bytes, version)
                    .map_err(|error| error.to_string())?;
                message.encode(written, version).map_err(|error| error.to_string())
            });
        }
    }
}

#[test]
fn another_implementation_reads_and_writes_the_same_bytes() {
    let mut oracle = Oracle::default();
    visit_messages(&mut oracle);
    println!("{oracle:?}");
    assert!(oracle.same > 5_000, "{oracle:?}");
    assert!(oracle.refused * 2 < oracle.same, "{oracle:?}");
    assert_eq!(oracle.unknown_versions % 40, 0);
}

#[test]
fn a_cut_or_changed_message_is_an_error_or_another_message() {
    struct Cut;
    impl Cut {
        fn one<M>(key: ApiKey)
        where
            M: Arbitrary + Encode + Decode<'static>,
        {
            for (version, mut g) in samples(key, 2) {
                let bytes = encode(&g.value::<M>(), key, version);
                let bytes = bytes.slice(..bytes.len().min(400));
                for cut in 0..bytes.len() {
                    // Whatever comes out, it comes out: no panic, no endless allocation.
                    let _outcome = decode::<M>(&bytes.slice(..cut), key, version);
                }
                for _ in 0..30 {
                    let mut changed = bytes.to_vec();
                    if changed.is_empty() {
                        break;
                    }
                    for _ in 0..=g.below(3) {
                        let at = g.below(changed.len());
                        changed[at] = g.bits().to_be_bytes()[0];
                    }
                    let _outcome = decode::<M>(&changed.into(), key, version);
                }
            }
        }
    }
    impl Visitor for Cut {
        fn visit<Q, P>(&mut self, key: ApiKey)
        where
            Q: Arbitrary + Encode + Decode<'static> + PartialEq + std::fmt::Debug,
            P: Arbitrary + Encode + Decode<'static> + PartialEq + std::fmt::Debug,
        {
            Self::one::<Q>(key);
            Self::one::<P>(key);
        }
    }
    visit_messages(&mut Cut);
}

#[test]
fn librdkafkas_long_count_of_all_topics_is_understood() {
    // What librdkafka 2.16 sends: a null array as four bytes, then true, false, no tags.
    let body = Bytes::from_static(&[0, 0, 0, 0, 1, 0, 0]);
    let request: crate::messages::metadata::MetadataRequest<'_> =
        super::decode_request(&body, 13).unwrap();
    assert_eq!(request.topics, None);
    assert!(!request.allow_auto_topic_creation, "as the reference reads it");

    let body = Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0, 9]);
    let other =
        super::decode_request::<crate::messages::delete_topics::DeleteTopicsRequest<'_>>(&body, 6);
    assert!(other.is_err(), "elsewhere bytes behind the last field are refused");
}
