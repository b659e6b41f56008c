//! GetTelemetrySubscriptions (KIP-714): which metrics a client is to push, and how often.
//!
//! Known differences from Kafka: all metrics are asked for with the empty beginning of a name, as KIP-714
//! has it, not with `*`; counts are asked for as a whole and not since the push before, so that a
//! push that is lost loses nothing; a client that was sent back here is answered before its time.

use sawlog_protocol::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use crate::telemetry::{CODECS, Refusal};

/// The one place where a refusal becomes a protocol error.
pub(super) fn code(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::InvalidRequest => ErrorCode::INVALID_REQUEST,
        Refusal::TooEarly => ErrorCode::THROTTLING_QUOTA_EXCEEDED,
        Refusal::UnknownSubscription => ErrorCode::UNKNOWN_SUBSCRIPTION_ID,
        Refusal::UnsupportedCompression => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        Refusal::TooLarge => ErrorCode::TELEMETRY_TOO_LARGE,
        Refusal::Malformed => ErrorCode::INVALID_RECORD,
    }
}

/// Tells a client what to push.
pub(crate) async fn handle(
    ctx: &RequestContext<'_>,
    request: GetTelemetrySubscriptionsRequest,
) -> Rope {
    let telemetry = &ctx.node.telemetry;
    let (client_instance_id, wanted) = match telemetry
        .subscribe(request.client_instance_id, &ctx.client_facts())
    {
        Ok(told) => told,
        Err(refusal) => {
            let error_code = code(refusal);
            return ctx
                .reply(&GetTelemetrySubscriptionsResponse { error_code, ..Default::default() });
        }
    };
    ctx.reply(&GetTelemetrySubscriptionsResponse {
        client_instance_id,
        subscription_id: wanted.subscription_id,
        accepted_compression_types: CODECS.iter().filter_map(|c| c.id().try_into().ok()).collect(),
        push_interval_ms: i32::try_from(wanted.interval_ms).unwrap_or(i32::MAX),
        telemetry_max_bytes: i32::try_from(telemetry.bytes_max()).unwrap_or(i32::MAX),
        delta_temporality: false,
        requested_metrics: wanted.metrics.iter().map(String::as_str).collect(),
        ..Default::default()
    })
}
