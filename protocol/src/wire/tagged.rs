//! Tagged fields no message declares, kept as raw bytes by a `[rest]` field of `wire!`.
//!
//! Most messages skip what they do not know, and so hold no memory for it. One that is stored or
//! passed on can keep it instead, and then gives back what a newer sender wrote.

use bytes::Bytes;

use super::{DecodeError, Sink, Writer};

/// Raw tagged fields; tags strictly ascend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaggedFields(Vec<(u32, Bytes)>);

impl TaggedFields {
    /// Adds a field behind the others.
    ///
    /// # Errors
    /// [`DecodeError::TagOrder`] if its tag is not above theirs.
    pub fn push(&mut self, tag: u32, value: Bytes) -> Result<(), DecodeError> {
        if self.0.last().is_some_and(|(last, _)| *last >= tag) {
            return Err(DecodeError::TagOrder);
        }
        self.0.push((tag, value));
        Ok(())
    }

    /// Tags and values, by ascending tag.
    #[must_use]
    pub fn as_slice(&self) -> &[(u32, Bytes)] {
        &self.0
    }
}

/// What is left to write of [`TaggedFields`] while a struct is encoded.
#[derive(Debug, Default)]
pub(crate) struct KeptFields<'a>(pub(crate) &'a [(u32, Bytes)]);

impl KeptFields<'_> {
    /// Writes those below `tag`, a declared field that comes next.
    pub(crate) fn write_below<S: Sink>(&mut self, tag: u32, w: &mut Writer<'_, S>) {
        let below = self.0.partition_point(|(kept, _)| *kept < tag);
        let (now, later) = self.0.split_at(below);
        Self(now).write_rest(w);
        self.0 = later;
    }

    pub(crate) fn write_rest<S: Sink>(&self, w: &mut Writer<'_, S>) {
        for (tag, value) in self.0 {
            w.raw_tagged(*tag, value);
        }
    }
}

#[cfg(test)]
#[allow(unreachable_pub, reason = "`wire!` declares what other crates see")]
mod tests {
    use super::*;
    use crate::wire::{Decode as _, Encode as _, Reader};

    wire! {
        /// Declares tags 1 and 5, keeps the others.
        Kept<'a> {
            name: &'a str,
            one: i16 [0.., tag 1],
            five: Option<&'a str> [2.., tag 5],
            others: TaggedFields [rest],
        }

        /// Declares tag 1 only.
        Skipped {
            one: i16 [0.., tag 1],
        }
    }

    fn written(message: &Kept<'_>, version: i16) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.encode(&mut Writer::new(&mut bytes, version, true));
        bytes
    }

    #[test]
    fn undeclared_tags_come_back_in_order() {
        // An empty name, then tags 0, 1, 3, 5 and 9.
        let frame = Bytes::from_static(
            b"\x01\x05\x00\x01a\x01\x02\x00\x07\x03\x00\x05\x03\x03xy\x09\x02zz",
        );
        let message = Kept::decode(&mut Reader::new(&frame, 2, true)).unwrap();
        assert_eq!((message.one, message.five), (7, Some("xy")));
        let tags: Vec<u32> = message.others.as_slice().iter().map(|(tag, _)| *tag).collect();
        assert_eq!(tags, [0, 3, 9]);
        assert_eq!(written(&message, 2), frame);
    }

    #[test]
    fn a_tag_of_a_later_version_is_undeclared_too() {
        let frame = Bytes::from_static(b"\x01\x01\x05\x03\x03xy");
        let message = Kept::decode(&mut Reader::new(&frame, 1, true)).unwrap();
        assert_eq!(message.five, None);
        assert_eq!(written(&message, 1), frame);
    }

    #[test]
    fn without_a_place_for_them_they_are_skipped() {
        let frame = Bytes::from_static(b"\x03\x00\x01a\x01\x02\x00\x07\x03\x00");
        let mut reader = Reader::new(&frame, 0, true);
        assert_eq!(Skipped::decode(&mut reader), Ok(Skipped { one: 7 }));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn kept_tags_must_ascend() {
        let frame = Bytes::from_static(b"\x01\x02\x03\x00\x03\x00");
        let outcome = Kept::decode(&mut Reader::new(&frame, 2, true));
        assert_eq!(outcome, Err(DecodeError::TagOrder));
    }
}
