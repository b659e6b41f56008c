//! InitProducerId: an id for an idempotent or transactional producer.
//!
//! - 2: flexible
//! - 3: the current id and epoch, to bump them (KIP-360)
//! - 4: PRODUCER_FENCED may be answered (KIP-588)
//! - 5: for transactions v2 (KIP-890)

use crate::ErrorCode;

wire! {
    /// Who asks.
    InitProducerIdRequest<'a> {
        transactional_id: Option<&'a str>,
        transaction_timeout_ms: i32,
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
    }

    /// The id and epoch.
    InitProducerIdResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        producer_id: i64 = -1,
        producer_epoch: i16,
    }
}
