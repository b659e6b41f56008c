//! Structures that stand alone, as in the records of `__consumer_offsets`: the first byte picks one,
//! the rest is its version and fields. What follows is also read as a key.
//!
//! What decodes must encode to bytes that decode to the same, and decoding must not allocate more
//! than a small multiple of the input.

use bytes::Bytes;
use sawlog_protocol::consumer_protocol;
use sawlog_protocol::group_records::{self, Key};
use sawlog_protocol::wire::{
    Arbitrary as _, Decode as _, DecodeError, Encode as _, Family, FamilyVisitor, Generator,
    Reader, Writer,
};

use crate::allocated_by;

/// Bytes allocated in all for each byte of input, and on top: see `tests/message_bounds.rs`.
const EXPANSION_MAX: usize = 64;
const FIRST_ALLOCATIONS: usize = 16 << 10;

/// Seeds for each structure in each version.
const SEEDS: u64 = 6;

const COUNT: usize = consumer_protocol::STRUCTURES + group_records::STRUCTURES;

fn visit<V: FamilyVisitor>(place: usize, visitor: V) -> Option<V::Output> {
    match place.checked_sub(consumer_protocol::STRUCTURES) {
        None => consumer_protocol::visit_structure(place, visitor),
        Some(place) => group_records::visit_structure(place, visitor),
    }
}

struct Check<'a> {
    version: i16,
    body: &'a [u8],
}

impl FamilyVisitor for Check<'_> {
    type Output = ();

    fn visit<F: Family>(self) {
        if !F::versions().contains(&self.version) {
            return;
        }
        let flexible = F::is_flexible(self.version);
        let bytes = Bytes::copy_from_slice(self.body);
        let again;
        let (allocated, decoded) = allocated_by(|| {
            let mut reader = Reader::new(&bytes, self.version, flexible);
            let structure = F::Message::decode(&mut reader)?;
            Ok::<_, DecodeError>(structure)
        });
        let limit = EXPANSION_MAX * bytes.len() + FIRST_ALLOCATIONS;
        assert!(allocated <= limit, "{} bytes allocated {allocated}", bytes.len());
        let Ok(structure) = decoded else { return };
        let mut written = Vec::new();
        structure.encode(&mut Writer::new(&mut written, self.version, flexible));
        again = Bytes::from(written);
        let same = F::Message::decode(&mut Reader::new(&again, self.version, flexible));
        assert_eq!(same.as_ref(), Ok(&structure));
    }
}

/// Runs one input; one too short to choose by is none.
pub fn check(input: &[u8]) {
    let key_bytes = Bytes::copy_from_slice(input);
    if let Ok(key) = Key::from_bytes(&key_bytes) {
        let written = key.to_bytes();
        assert_eq!(Key::from_bytes(&written), Ok(key));
    }
    let [place, high, low, body @ ..] = input else { return };
    let version = i16::from_be_bytes([*high, *low]);
    visit(usize::from(*place) % COUNT, Check { version, body });
}

struct Seeds {
    place: u8,
}

impl FamilyVisitor for Seeds {
    type Output = Vec<(String, Vec<u8>)>;

    fn visit<F: Family>(self) -> Self::Output {
        let all = F::versions().flat_map(|version| (0..SEEDS).map(move |seed| (version, seed)));
        all.map(|(version, seed)| {
            let flexible = F::is_flexible(version);
            let mut bytes = vec![self.place];
            bytes.extend(version.to_be_bytes());
            let structure = F::Message::arbitrary(&mut Generator::new(seed, version, flexible));
            structure.encode(&mut Writer::new(&mut bytes, version, flexible));
            (format!("{}-{version}-{seed}", F::NAME), bytes)
        })
        .collect()
    }
}

/// Random structures of every kind in every version, as inputs.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let places = (0u8..).take(COUNT);
    places.filter_map(|place| visit(usize::from(place), Seeds { place })).flatten().collect()
}
