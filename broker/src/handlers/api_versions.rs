//! ApiVersions: what this broker serves.
//!
//! The first request of most connections. A version this broker does not know is answered in
//! version 0 with our own range, so that the client asks again (KIP-511). Sawlog's own APIs are told
//! to Sawlog's own client alone.

use sawlog_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use sawlog_protocol::{ApiKey, ErrorCode, OWN_CLIENT, Rope, encode_response};

use super::RequestContext;
use super::groups::short;
use crate::controller::features::{self, FEATURES, Feature};
use crate::metadata::Image;

/// First version that carries the client's software name (KIP-511).
const SOFTWARE_VERSION_MIN: i16 = 3;

/// First version whose clients understand features that begin at level 0.
const FEATURES_FROM_ZERO: i16 = 4;

/// Answers with the table of served APIs and features.
pub(crate) fn handle(ctx: &RequestContext<'_>, request: ApiVersionsRequest<'_>) -> Rope {
    let named = ctx.version >= SOFTWARE_VERSION_MIN;
    if named
        && !(is_software_name(request.client_software_name)
            && is_software_name(request.client_software_version))
    {
        return ctx.reply(&ApiVersionsResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            ..Default::default()
        });
    }
    if named {
        // Told once; a client that tells something else later is still what it said first.
        let (name, version) = (request.client_software_name, request.client_software_version);
        let _known = ctx.peer.software.set((short(name).into(), short(version).into()));
    }
    let is_ours = named && request.client_software_name == OWN_CLIENT;
    let is_told = |key: &ApiKey| key.is_served() && (is_ours || !key.is_own());
    let api_keys = ApiKey::ALL.iter().copied().filter(is_told).map(range).collect();
    let image = ctx.node.images.peek();
    ctx.reply(&ApiVersionsResponse {
        api_keys,
        supported_features: FEATURES.iter().map(|it| supported(it, ctx.version)).collect(),
        finalized_features_epoch: image.offset().0,
        finalized_features: FEATURES.iter().filter_map(|it| finalized(it, &image)).collect(),
        ..Default::default()
    })
}

/// Answers a version we do not serve: version 0, and the one range the client needs.
pub(crate) fn unsupported(correlation_id: i32) -> Rope {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: vec![range(ApiKey::ApiVersions)],
        ..Default::default()
    };
    encode_response(&response, ApiKey::ApiVersions, 0, correlation_id)
}

fn supported(feature: &Feature, version: i16) -> SupportedFeatureKey<'static> {
    let least = i16::from(version < FEATURES_FROM_ZERO);
    SupportedFeatureKey {
        name: feature.name,
        min_version: wire(feature.min).max(least),
        max_version: wire(feature.max),
    }
}

/// Level 0 is as good as none, and is not told.
fn finalized(feature: &Feature, image: &Image) -> Option<FinalizedFeatureKey<'static>> {
    let level = wire(features::level(image, feature));
    let (max_version_level, min_version_level) = (level, level);
    (level > 0).then_some(FinalizedFeatureKey {
        name: feature.name,
        max_version_level,
        min_version_level,
    })
}

fn wire(level: u16) -> i16 {
    i16::try_from(level).unwrap_or(i16::MAX)
}

fn range(key: ApiKey) -> ApiVersion {
    let versions = key.advertised();
    ApiVersion {
        api_key: key.as_i16(),
        min_version: *versions.start(),
        max_version: *versions.end(),
    }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::is_software_name;

    #[test]
    fn software_names_follow_kip_511() {
        for good in ["a", "apache-kafka-java", "4.3.1", "librdkafka", "x-1.0-rc2"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "é", "a/b", "."] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }
}
