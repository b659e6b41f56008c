//! Structures that stand alone as bytes, their version (`i16`) before them: what members of a group
//! pass each other, and what `__consumer_offsets` stores.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;

use super::{Decode, DecodeError, Encode, Reader, Writer};

/// A structure with a version of its own, declared by `versioned!`.
pub trait Versioned<'a>: Decode<'a> + Encode {
    /// Versions that can be read and written.
    const VERSIONS: RangeInclusive<i16>;
    /// First version with compact lengths and tagged fields; `i16::MAX` if none has.
    const FLEXIBLE: i16;
}

/// Why bytes are not the structure they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionedError {
    /// A version this code does not know.
    UnsupportedVersion(i16),
    /// Bytes that are not what their version says.
    Malformed(DecodeError),
}

impl fmt::Display for VersionedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedVersion(version) => write!(f, "version {version} is not supported"),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for VersionedError {}

impl From<DecodeError> for VersionedError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

/// Reads a structure and the version before it, all of the bytes.
///
/// # Errors
/// The version is not known, or the bytes are not the structure.
pub fn decode_versioned<'a, M: Versioned<'a>>(bytes: &'a Bytes) -> Result<M, VersionedError> {
    let mut reader = Reader::new(bytes, 0, false);
    let version = i16::decode(&mut reader)?;
    if !M::VERSIONS.contains(&version) {
        return Err(VersionedError::UnsupportedVersion(version));
    }
    let mut reader = reader.with_version(version, version >= M::FLEXIBLE);
    let structure = M::decode(&mut reader)?;
    reader.finish()?;
    Ok(structure)
}

/// Reads a structure of a kind whose later versions only add fields at the end: a newer version is
/// read as the newest known, and bytes behind the last field are left alone.
///
/// # Errors
/// The version is below the first, or the bytes are not the structure.
pub fn decode_extensible<'a, M: Versioned<'a>>(bytes: &'a Bytes) -> Result<M, VersionedError> {
    let mut reader = Reader::new(bytes, 0, false);
    let version = i16::decode(&mut reader)?.min(*M::VERSIONS.end());
    if !M::VERSIONS.contains(&version) {
        return Err(VersionedError::UnsupportedVersion(version));
    }
    Ok(M::decode(&mut reader.with_version(version, version >= M::FLEXIBLE))?)
}

/// Writes a structure in this version, the version before it.
pub fn encode_versioned<'a, M: Versioned<'a>>(structure: &M, version: i16) -> Bytes {
    debug_assert!(M::VERSIONS.contains(&version), "there is no version {version}");
    let mut bytes = version.to_be_bytes().to_vec();
    structure.encode(&mut Writer::new(&mut bytes, version, version >= M::FLEXIBLE));
    bytes.into()
}
