//! Request and response headers.
//!
//! Two exceptions rule here: a request header's client id is never compact, and the response header
//! of ApiVersions is version 0 whatever the version, because the client does not know yet what the
//! broker speaks (KIP-511).

use bytes::Bytes;

use crate::api::ApiKey;
use crate::wire::{Decode as _, DecodeError, Reader, Sink};

/// The header of a request, version 1 (plain) or 2 (flexible).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// Which API; may be one we do not know.
    pub api_key: i16,
    /// Which version of it.
    pub api_version: i16,
    /// Comes back with the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<&'a str>,
}

impl RequestHeader<'_> {
    pub(crate) fn encode<S: Sink>(&self, sink: &mut S, flexible: bool) {
        sink.put(&self.api_key.to_be_bytes());
        sink.put(&self.api_version.to_be_bytes());
        sink.put(&self.correlation_id.to_be_bytes());
        let client_id =
            self.client_id.map(|id| id.get(..id.floor_char_boundary(32_767)).unwrap_or(id));
        let length = client_id.map_or(-1, |id| i16::try_from(id.len()).unwrap_or(i16::MAX));
        sink.put(&length.to_be_bytes());
        sink.put(client_id.unwrap_or_default().as_bytes());
        if flexible {
            sink.put(&[0]);
        }
    }
}

/// Parses the header of a request frame (without its length prefix); also returns where the body
/// starts. Of an API or version we do not know, only key, version and correlation id can be relied
/// on: its header is read as plain, and the body must not be.
///
/// # Errors
/// The frame is too short or its client id is malformed.
pub fn decode_request_header(frame: &Bytes) -> Result<(RequestHeader<'_>, usize), DecodeError> {
    let mut reader = Reader::new(frame, 0, false);
    let api_key = i16::decode(&mut reader)?;
    let api_version = i16::decode(&mut reader)?;
    let correlation_id = i32::decode(&mut reader)?;
    let client_id = Option::<&str>::decode(&mut reader)?;
    let known = ApiKey::from_i16(api_key).filter(|key| key.versions().contains(&api_version));
    let mut reader = reader.with_flexible(known.is_some_and(|key| key.is_flexible(api_version)));
    reader.tagged(|_, _| Ok(false))?;
    let body_at = frame.len() - reader.remaining();
    Ok((RequestHeader { api_key, api_version, correlation_id, client_id }, body_at))
}

/// Whether the response header has tagged fields (version 1).
pub(crate) fn response_header_is_flexible(key: ApiKey, version: i16) -> bool {
    key != ApiKey::ApiVersions && key.is_flexible(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ApiVersionsResponse, MetadataResponse};
    use crate::{ErrorCode, encode_response};

    #[test]
    fn a_flexible_header_has_a_plain_client_id_and_tagged_fields() {
        // Metadata 12: key 3, version 12, correlation 7, client id "ab", no tags, then the body.
        let frame = Bytes::from_static(&[0, 3, 0, 12, 0, 0, 0, 7, 0, 2, b'a', b'b', 0, 99]);
        let (header, body_at) = decode_request_header(&frame).unwrap();
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (3, 12, 7));
        assert_eq!(header.client_id, Some("ab"));
        assert_eq!(body_at, 13);
    }

    #[test]
    fn the_response_header_of_api_versions_never_has_tagged_fields() {
        let error = ApiVersionsResponse {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            ..Default::default()
        };
        for version in ApiKey::ApiVersions.versions() {
            let frame = encode_response(&error, ApiKey::ApiVersions, version, 0x0102_0304);
            // Correlation id, then at once the error code.
            assert_eq!(&frame.to_bytes()[4..10], [1, 2, 3, 4, 0, 35], "{version}");
        }
        let frame = encode_response(&MetadataResponse::default(), ApiKey::Metadata, 9, 1);
        assert_eq!(&frame.to_bytes()[4..9], [0, 0, 0, 1, 0], "others end with a count of 0");
    }

    #[test]
    fn a_null_client_id_is_legal() {
        let frame = Bytes::from_static(&[0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff]);
        let (header, body_at) = decode_request_header(&frame).unwrap();
        assert_eq!(header.client_id, None);
        assert_eq!(body_at, 10);
    }

    #[test]
    fn an_unknown_version_of_api_versions_still_has_a_correlation_id() {
        let frame = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 5, 0, 1, b'x', 0xff]);
        let (header, _) = decode_request_header(&frame).unwrap();
        assert_eq!((header.api_version, header.correlation_id), (99, 5));
    }
}
