//! Metrics nobody measured: pushes that are nothing, too much, or from clients without number.

use bytes::Bytes;
use sawlog_protocol::messages::{GetTelemetrySubscriptionsRequest, PushTelemetryRequest};
use sawlog_protocol::records::{Compression, compress};
use sawlog_protocol::{ErrorCode, Uuid, decode_response};

use super::process::{BrokerProcess, free_address};
use super::wire::Wire;
use super::{Fixture, fixture};

/// What the broker asks of this client: its id and that of the subscription.
fn ask(wire: &mut Wire, instance: Uuid) -> (ErrorCode, Uuid, i32) {
    let request = GetTelemetrySubscriptionsRequest { client_instance_id: instance };
    wire.send(&request, 0).unwrap();
    let frame = wire.receive().unwrap();
    let (_, told) = decode_response::<GetTelemetrySubscriptionsRequest>(&frame, 0).unwrap();
    (told.error_code, told.client_instance_id, told.subscription_id)
}

fn push(wire: &mut Wire, instance: Uuid, compression_type: i8, metrics: Bytes) -> ErrorCode {
    let (_, _, subscription_id) = ask(wire, instance);
    let request = PushTelemetryRequest {
        client_instance_id: instance,
        subscription_id,
        terminating: false,
        compression_type,
        metrics,
    };
    wire.send(&request, 0).unwrap();
    let frame = wire.receive().unwrap();
    decode_response::<PushTelemetryRequest>(&frame, 0).unwrap().1.error_code
}

/// Another client each time: each may push once at once.
fn instance(number: usize) -> Uuid {
    Uuid((number as u128 + 1_000).to_be_bytes())
}

#[test]
fn what_is_no_push_is_refused_with_its_error() {
    let fixture = fixture();
    let mut wire = fixture.connect();
    let mut number = 0;
    let mut pushed = |compression_type: i8, metrics: Bytes| {
        number += 1;
        push(&mut wire, instance(number), compression_type, metrics)
    };
    assert_eq!(pushed(0, Bytes::new()), ErrorCode::NONE, "a client may have nothing to say");
    for codec in 0..=4 {
        let refused = pushed(codec, Bytes::from_static(b"\xff\xff nonsense"));
        assert_eq!(refused, ErrorCode::INVALID_RECORD, "{codec}");
    }
    for codec in [5, 7, 127, -1, -128] {
        let refused = pushed(codec, Bytes::from_static(b"x"));
        assert_eq!(refused, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, "{codec}");
    }
    let too_large = Bytes::from(vec![0; (1 << 20) + 1]);
    assert_eq!(pushed(0, too_large), ErrorCode::TELEMETRY_TOO_LARGE);
    let request = PushTelemetryRequest { client_instance_id: Uuid::ZERO, ..Default::default() };
    wire.send(&request, 0).unwrap();
    let frame = wire.receive().unwrap();
    let (_, refused) = decode_response::<PushTelemetryRequest>(&frame, 0).unwrap();
    assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST);
    fixture.serves_others();
}

#[test]
fn a_push_that_unpacks_to_much_or_nests_without_end_costs_no_memory() {
    let fixture = fixture();
    let mut wire = fixture.connect();
    let before = fixture.broker.resident_bytes();
    // A gigabyte of zeros; empty messages by the million, two bytes each; a message in a message in a …
    let empty_messages = [0x0a, 0x00].repeat(4 << 20);
    let mut nested: Vec<u8> = Vec::new();
    for _ in 0..2_000 {
        let mut around = vec![0x0a];
        let length = nested.len();
        around.extend([
            u8::try_from(length & 0x7f).unwrap() | 0x80,
            u8::try_from(length >> 7).unwrap(),
        ]);
        around.extend(&nested);
        nested = around;
    }
    let mut number = 0;
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        for (plain, expected) in [
            (vec![0; 16 << 20], ErrorCode::TELEMETRY_TOO_LARGE),
            (empty_messages.clone(), ErrorCode::NONE),
            (nested.clone(), ErrorCode::INVALID_RECORD),
        ] {
            let mut packed = Vec::new();
            compress(codec, None, &plain, &mut packed).unwrap();
            if packed.len() <= 1 << 20 {
                number += 1;
                let code = push(
                    &mut wire,
                    instance(number),
                    codec.id().try_into().unwrap(),
                    packed.into(),
                );
                assert_eq!(code, expected, "{codec:?}, {} bytes", plain.len());
            }
        }
    }
    assert!(number >= 9, "only {number} were small enough to be sent");
    let grown = fixture.broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    fixture.serves_others();
}

#[test]
fn clients_without_number_push_out_the_silent_and_cost_bounded_memory() {
    let data = tempfile::tempdir().unwrap();
    let http = free_address();
    let setting = format!("http.listener={http}");
    let broker = BrokerProcess::start(data.path(), free_address(), &["-X", &setting]);
    let fixture = Fixture { broker, data };
    let mut wire = fixture.connect();
    let before = fixture.broker.resident_bytes();
    for number in 0..20_000 {
        let (code, given, _) = ask(&mut wire, instance(number));
        assert_eq!((code, given), (ErrorCode::NONE, instance(number)));
    }
    let page = sawlog_tests::http::get(&http.to_string(), "/metrics");
    assert_eq!(page.metric("sawlog_clients"), Some(16_384.0));
    let grown = fixture.broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
}
