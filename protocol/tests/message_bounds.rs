//! Hostile bytes cannot make a decoder panic or allocate more than a small multiple of what was
//! really sent, for every message in every version, by a counting allocator. One test function: the
//! counter is the process's.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::alloc::System;

use bytes::Bytes;
use cap::Cap;
use sawlog_protocol::api::visit_messages;
use sawlog_protocol::wire::{
    ApiFamily, Arbitrary as _, Decode as _, Encode as _, Family, FamilyVisitor, Generator, Reader,
    Side, Visitor,
};
use sawlog_protocol::{ApiKey, Writer, consumer_protocol, decode_request_header, group_records};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes allocated in all for each byte sent. The worst is a list of small structs of mostly absent
/// fields; every time it grows it is allocated anew, which counts again.
const EXPANSION_MAX: usize = 64;
/// What a list may get before its first element is read, at each of a few levels of nesting.
const FIRST_ALLOCATIONS: usize = 16 << 10;

/// What a decoder was made to do.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    decodes: usize,
    accepted: usize,
    /// The most allocated for a byte sent, of frames large enough for it to mean something.
    expansion: usize,
    /// The most allocated for a frame of less than 4 KiB.
    small: usize,
}

struct Attack {
    seen: Seen,
}

impl Attack {
    fn decode<F: Family>(&mut self, version: i16, bytes: &[u8]) {
        let frame = Bytes::copy_from_slice(bytes);
        let before = ALLOCATOR.total_allocated();
        let mut reader = Reader::new(&frame, version, F::is_flexible(version));
        let outcome = F::Message::decode(&mut reader).is_ok();
        let allocated = ALLOCATOR.total_allocated() - before;
        let limit = EXPANSION_MAX * bytes.len() + FIRST_ALLOCATIONS;
        assert!(
            allocated <= limit,
            "{} {version}: {} bytes allocated {allocated}: {bytes:02x?}",
            F::NAME,
            bytes.len(),
        );
        self.seen.decodes += 1;
        self.seen.accepted += usize::from(outcome);
        if bytes.len() >= 4096 {
            self.seen.expansion = self.seen.expansion.max(allocated / bytes.len());
        } else {
            self.seen.small = self.seen.small.max(allocated);
        }
    }

    /// A message cut off at every byte, and with a lying length or count at every byte.
    fn cut_and_lie<F: Family>(&mut self, version: i16, bytes: &[u8]) {
        for cut in 0..=bytes.len() {
            self.decode::<F>(version, &bytes[..cut]);
        }
        for at in 0..bytes.len() {
            for lie in [
                &[0x7f, 0xff, 0xff, 0xff][..],   // i32::MAX
                &[0x7f, 0xff],                   // i16::MAX
                &[0xff, 0xff, 0xff, 0xff, 0x0f], // the largest varint
                &[0xff, 0xff, 0x03],             // 65,535
                &[0x80, 0, 0, 0],                // i32::MIN
                &[0xff, 0xff, 0xff, 0xfe],       // -2
            ] {
                let mut lying = bytes.to_vec();
                let end = (at + lie.len()).min(lying.len());
                lying[at..end].copy_from_slice(&lie[..end - at]);
                self.decode::<F>(version, &lying);
                lying.extend_from_slice(&[0; 300]);
                self.decode::<F>(version, &lying);
            }
        }
    }
}

impl Visitor for Attack {
    type Output = Seen;

    fn visit<F: ApiFamily>(self) -> Seen {
        FamilyVisitor::visit::<F>(self)
    }
}

impl FamilyVisitor for Attack {
    type Output = Seen;

    fn visit<F: Family>(mut self) -> Seen {
        for version in F::versions() {
            let flexible = F::is_flexible(version);
            let mut g = Generator::new(1, version, flexible);
            // The largest of a few messages below 400 bytes: more nesting, more to lie about.
            let mut sample = Vec::new();
            for _ in 0..20 {
                let mut bytes = Vec::new();
                let message = F::Message::arbitrary(&mut g);
                message.encode(&mut Writer::new(&mut bytes, version, flexible));
                if bytes.len() < 400 && bytes.len() > sample.len() {
                    sample = bytes;
                }
            }
            self.cut_and_lie::<F>(version, &sample);
            for _ in 0..200 {
                let length = g.below(300);
                let bytes: Vec<u8> = (0..length).map(|_| g.bits().to_be_bytes()[0]).collect();
                self.decode::<F>(version, &bytes);
            }
            self.many_small_elements::<F>(version, &sample);
        }
        self.seen
    }
}

impl Attack {
    /// Large frames of as many elements as fit: each place of a list in `sample` claims many, and
    /// what follows is bytes that read as tiny elements.
    fn many_small_elements<F: Family>(&mut self, version: i16, sample: &[u8]) {
        let flexible = F::is_flexible(version);
        for at in 0..sample.len().min(40) {
            for fill in [0u8, 1] {
                for count in [4_000u32, 16_000] {
                    let mut bytes = sample[..at].to_vec();
                    if flexible {
                        // `count` as a varint of three bytes.
                        bytes.extend([0, 7, 14].map(|shift| {
                            let low = (count >> shift).to_le_bytes()[0] & 0x7f;
                            if shift < 14 { low | 0x80 } else { low }
                        }));
                    } else {
                        bytes.extend_from_slice(&count.to_be_bytes());
                    }
                    bytes.resize(at + 32_000, fill);
                    self.decode::<F>(version, &bytes);
                }
            }
        }
    }
}

#[test]
fn hostile_bytes_never_panic_and_memory_follows_what_was_sent() {
    let mut all = Seen::default();
    let mut add = |seen: Seen| {
        all.decodes += seen.decodes;
        all.accepted += seen.accepted;
        all.expansion = all.expansion.max(seen.expansion);
        all.small = all.small.max(seen.small);
    };
    for key in ApiKey::ALL {
        for side in [Side::Request, Side::Response] {
            add(visit_messages(*key, side, Attack { seen: Seen::default() }));
        }
    }
    for place in 0..consumer_protocol::STRUCTURES {
        let attack = Attack { seen: Seen::default() };
        add(consumer_protocol::visit_structure(place, attack).unwrap());
    }
    for place in 0..group_records::STRUCTURES {
        let attack = Attack { seen: Seen::default() };
        add(group_records::visit_structure(place, attack).unwrap());
    }
    println!("{all:?}");
    assert!(all.decodes > 100_000 && all.accepted > 1_000, "{all:?}");

    headers_allocate_nothing();
    record_keys_allocate_nothing();
}

fn headers_allocate_nothing() {
    let mut g = Generator::new(3, 0, false);
    for _ in 0..50_000 {
        let length = g.below(40);
        let mut bytes: Vec<u8> = (0..length).map(|_| g.bits().to_be_bytes()[0]).collect();
        // Mostly known keys and versions, so that flexible headers are read too.
        for (at, byte) in [(0, 0), (1, g.below(40)), (2, 0), (3, g.below(14))] {
            if let Some(place) = bytes.get_mut(at) {
                *place = u8::try_from(byte).unwrap();
            }
        }
        let frame = Bytes::from(bytes);
        let before = ALLOCATOR.total_allocated();
        let outcome = decode_request_header(&frame).is_ok();
        let allocated = ALLOCATOR.total_allocated() - before;
        assert_eq!(allocated, 0, "{outcome} {frame:02x?}");
    }
}

fn record_keys_allocate_nothing() {
    let mut g = Generator::new(4, 0, false);
    let mut known = 0;
    for _ in 0..50_000 {
        let length = g.below(40);
        let mut bytes: Vec<u8> = (0..length).map(|_| g.bits().to_be_bytes()[0] & 0x7f).collect();
        // Mostly known types, and strings short enough to be there.
        for (at, byte) in [(0, 0), (1, g.below(20)), (2, 0), (3, g.below(8)), (4 + g.below(8), 0)] {
            if let Some(place) = bytes.get_mut(at) {
                *place = u8::try_from(byte).unwrap();
            }
        }
        let bytes = Bytes::from(bytes);
        let before = ALLOCATOR.total_allocated();
        let key = group_records::Key::from_bytes(&bytes);
        let allocated = ALLOCATOR.total_allocated() - before;
        assert_eq!(allocated, 0, "{key:?} {bytes:02x?}");
        known +=
            usize::from(matches!(key, Ok(key) if key != group_records::Key::Unknown(key.kind())));
    }
    assert!(known > 20, "{known}");
}
