//! PushTelemetry (KIP-714): metrics of a client.
//!
//! Reading a push takes a while and memory; it is done on a thread that may take its time, for a few clients
//! at once.

use sawlog_protocol::messages::{PushTelemetryRequest, PushTelemetryResponse};
use sawlog_protocol::records::Compression;
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::get_telemetry_subscriptions::code;
use crate::telemetry::{PushHead, Refusal};

/// Takes what a client says of itself.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: PushTelemetryRequest) -> Rope {
    let error_code = take(ctx, request).await.map_or_else(code, |()| ErrorCode::NONE);
    ctx.reply(&PushTelemetryResponse { error_code, ..Default::default() })
}

async fn take(ctx: &RequestContext<'_>, request: PushTelemetryRequest) -> Result<(), Refusal> {
    let codec = Compression::from_id(request.compression_type.into());
    let instance = request.client_instance_id;
    let head = PushHead {
        instance,
        subscription_id: request.subscription_id,
        terminating: request.terminating,
        is_codec_known: codec.is_some(),
        bytes: request.metrics.len(),
    };
    let telemetry = ctx.node.telemetry.clone();
    telemetry.admit(head, &ctx.client_facts())?;
    let codec = codec.ok_or(Refusal::UnsupportedCompression)?;
    let permit = ctx.node.heavy_requests.clone().acquire_owned().await;
    let read = move || {
        let _permit = permit;
        telemetry.take(instance, codec, &request.metrics)
    };
    // It panicked, which the hook has told, or the broker stops.
    tokio::task::spawn_blocking(read).await.unwrap_or(Err(Refusal::Malformed))
}
