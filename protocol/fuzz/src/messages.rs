//! Requests and responses: the first byte picks the API, the second the version, the rest is the
//! body.
//!
//! What decodes must encode to bytes that decode to the same message and encode to themselves, and
//! decoding must not allocate more than a small multiple of the input.

use bytes::Bytes;
use sawlog_protocol::api::visit_messages;
use sawlog_protocol::wire::{
    ApiFamily, Arbitrary as _, Decode as _, DecodeError, Encode as _, Generator, Reader, Side,
    Visitor, Writer,
};
use sawlog_protocol::{ApiKey, decode_request_header};

use crate::allocated_by;

/// Bytes allocated in all for each byte of input, and on top: see `tests/message_bounds.rs`.
const EXPANSION_MAX: usize = 64;
const FIRST_ALLOCATIONS: usize = 16 << 10;

/// Seeds for each message in each version.
const SEEDS: u64 = 3;

struct Check<'a> {
    version_choice: u8,
    body: &'a [u8],
}

impl Visitor for Check<'_> {
    type Output = ();

    fn visit<F: ApiFamily>(self) {
        let versions: Vec<i16> = F::KEY.versions().collect();
        let version = versions[usize::from(self.version_choice) % versions.len()];
        let flexible = F::KEY.is_flexible(version);
        let frame = Bytes::copy_from_slice(self.body);
        let again;
        let (allocated, decoded) = allocated_by(|| {
            let mut reader = Reader::new(&frame, version, flexible);
            let message = F::Message::decode(&mut reader)?;
            // Bytes behind the message are for whoever reads the frame to judge.
            Ok::<_, DecodeError>(message)
        });
        let limit = EXPANSION_MAX * frame.len() + FIRST_ALLOCATIONS;
        assert!(allocated <= limit, "{} bytes allocated {allocated}", frame.len());
        let Ok(message) = decoded else { return };
        let encode = |message: &F::Message<'_>| {
            let mut bytes = Vec::new();
            message.encode(&mut Writer::new(&mut bytes, version, flexible));
            Bytes::from(bytes)
        };
        again = encode(&message);
        let mut reader = Reader::new(&again, version, flexible);
        let same = F::Message::decode(&mut reader);
        assert_eq!(same.as_ref(), Ok(&message));
        assert_eq!(reader.remaining(), 0);
        assert_eq!(same.map(|same| encode(&same)).as_ref(), Ok(&again));
    }
}

/// Runs one input; one too short to choose by is none.
pub fn check(side: Side, input: &[u8]) {
    if side == Side::Request {
        let frame = Bytes::copy_from_slice(input);
        if let Ok((_, body_at)) = decode_request_header(&frame) {
            assert!(body_at <= frame.len());
        }
    }
    let [api, version_choice, body @ ..] = input else { return };
    let key = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
    visit_messages(key, side, Check { version_choice: *version_choice, body });
}

struct Seeds {
    api: u8,
}

impl Visitor for Seeds {
    type Output = Vec<(String, Vec<u8>)>;

    fn visit<F: ApiFamily>(self) -> Self::Output {
        let versions = (0u8..).zip(F::KEY.versions());
        let all = versions.flat_map(|choice| (0..SEEDS).map(move |seed| (choice, seed)));
        all.map(|((choice, version), seed)| {
            let flexible = F::KEY.is_flexible(version);
            let mut bytes = vec![self.api, choice];
            let message = F::Message::arbitrary(&mut Generator::new(seed, version, flexible));
            message.encode(&mut Writer::new(&mut bytes, version, flexible));
            (format!("{}-{version}-{seed}", F::KEY.name()), bytes)
        })
        .collect()
    }
}

/// Random messages of every API in every version, as inputs.
pub fn seeds(side: Side) -> Vec<(String, Vec<u8>)> {
    let apis = (0u8..).zip(ApiKey::ALL);
    apis.flat_map(|(api, key)| visit_messages(*key, side, Seeds { api })).collect()
}
