//! The form of every file of ours but the segments: magic, version, length, content, checksum.
//!
//! ```text
//! 0   4 bytes   magic
//! 4   u16       version
//! 6   u16       zero
//! 8   u32       length of the content
//! 12  ...       content
//!     u32       CRC-32 of all before it
//! ```
//! Numbers are big-endian. A file that does not fit exactly is no such file.

use std::path::Path;

use super::error::StorageError;

const HEADER_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;

/// Puts `content` into its envelope.
pub(crate) fn seal(magic: [u8; 4], version: u16, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len() + CHECKSUM_BYTES);
    bytes.extend(magic);
    bytes.extend(version.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(content);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_be_bytes());
    bytes
}

/// Takes the content out; `None` if it is not whole, not this kind, or not this version.
pub(crate) fn open(magic: [u8; 4], version: u16, bytes: &[u8]) -> Option<&[u8]> {
    let (covered, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    let (header, content) = covered.split_first_chunk::<HEADER_BYTES>()?;
    let length = u32::from_be_bytes(*header.last_chunk::<4>()?);
    let whole = header.starts_with(&magic)
        && header.get(4..6)? == version.to_be_bytes()
        && usize::try_from(length).ok()? == content.len()
        && crc32fast::hash(covered) == u32::from_be_bytes(*checksum);
    whole.then_some(content)
}

/// The version of a file that is whole and of this kind, whatever the version.
pub(super) fn version(magic: [u8; 4], bytes: &[u8]) -> Option<u16> {
    let version = u16::from_be_bytes(*bytes.get(4..)?.first_chunk::<2>()?);
    open(magic, version, bytes).map(|_| version)
}

/// Refuses a file of a later version, which is neither used nor replaced.
///
/// # Errors
/// It is one.
pub(super) fn refuse_newer(
    magic: [u8; 4],
    supported: u16,
    bytes: &[u8],
    path: &Path,
) -> Result<(), StorageError> {
    match version(magic, bytes) {
        Some(found) if found > supported => {
            Err(StorageError::UnsupportedFormat { path: path.to_owned(), found, supported })
        }
        Some(_) | None => Ok(()),
    }
}

/// Takes numbers from the front of a content.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_byte_and_any_cut_is_noticed() {
        let sealed = seal(*b"TEST", 1, b"content");
        assert_eq!(open(*b"TEST", 1, &sealed), Some(&b"content"[..]));
        assert_eq!(open(*b"TEST", 2, &sealed), None);
        assert_eq!(open(*b"TSET", 1, &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x10;
            assert_eq!(open(*b"TEST", 1, &changed), None, "byte {at}");
            assert_eq!(open(*b"TEST", 1, &sealed[..at]), None, "cut at {at}");
        }
        assert_eq!(open(*b"TEST", 1, &[0; 64]), None);
        assert_eq!(version(*b"TEST", &sealed), Some(1));
        assert_eq!(version(*b"TEST", &seal(*b"TEST", 7, b"")), Some(7));
        assert_eq!(version(*b"TEST", &[0; 64]), None);
    }
}
