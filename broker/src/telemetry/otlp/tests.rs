//! Pushes as clients write them, and as nobody should.

use super::*;

/// A field that holds a message, a text or bytes.
pub(in crate::telemetry) fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend(content);
    out
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn fixed64(number: u8, value: [u8; 8]) -> Vec<u8> {
    [vec![number << 3 | 1], value.to_vec()].concat()
}

fn label(number: u8, name: &str, value: &str) -> Vec<u8> {
    let value = bytes(2, &bytes(1, value.as_bytes()));
    bytes(number, &[bytes(1, name.as_bytes()), value].concat())
}

fn whole(value: i64) -> Vec<u8> {
    fixed64(6, value.to_le_bytes())
}

fn real(value: f64) -> Vec<u8> {
    fixed64(4, value.to_le_bytes())
}

fn metric(name: &str, shape: u8, data: &[Vec<u8>]) -> Vec<u8> {
    bytes(2, &[bytes(1, name.as_bytes()), bytes(shape, &data.concat())].concat())
}

/// A gauge with one value.
pub(in crate::telemetry) fn gauge(name: &str, value: f64) -> Vec<u8> {
    metric(name, 5, &[bytes(1, &real(value))])
}

/// A sum that only grows, told as a whole (2) or since the push before (1).
pub(in crate::telemetry) fn sum(name: &str, value: i64, temporality: u8) -> Vec<u8> {
    metric(name, 7, &[bytes(1, &whole(value)), varint(2, temporality), varint(3, 1)])
}

/// A push of one resource.
pub(in crate::telemetry) fn push(metrics: &[Vec<u8>]) -> Vec<u8> {
    let resource = bytes(1, &label(1, "group_id", "g"));
    bytes(1, &[resource, bytes(2, &metrics.concat())].concat())
}

fn told(push: &[u8]) -> Vec<(String, String, Kind, f64, bool)> {
    let readings = read(push).unwrap();
    readings
        .by_series
        .iter()
        .map(|(s, r)| (s.name.to_string(), s.labels.to_string(), r.kind, r.value, r.is_delta))
        .collect()
}

#[test]
fn values_have_the_labels_of_their_resource_and_their_own() {
    let labels =
        [label(7, "node.id", "1"), label(7, "client_id", "x\"y"), label(7, "group_id", "h")];
    let point = [vec![whole(-3)], labels.to_vec()].concat().concat();
    let told = told(&push(&[
        metric("org.apache.kafka.consumer.lag", 5, &[bytes(1, &point)]),
        sum("org.apache.kafka.producer.record.send.total", 7, 2),
        gauge("my-own.metric", 0.5),
    ]));
    let group = "group_id=\"g\"".to_owned();
    let own = "group_id=\"g\",metric_client_id=\"x\\\"y\",node_id=\"1\"".to_owned();
    let expected = [
        ("kafka_client_consumer_lag", own, Kind::Gauge, -3.0, false),
        ("kafka_client_my_own_metric", group.clone(), Kind::Gauge, 0.5, false),
        ("kafka_client_producer_record_send_total", group, Kind::Counter, 7.0, false),
    ];
    let expected =
        expected.map(|(name, l, kind, value, delta)| (name.to_owned(), l, kind, value, delta));
    assert_eq!(told, expected);
}

#[test]
fn of_histograms_and_summaries_count_and_sum_are_kept() {
    let point = [fixed64(4, 5_u64.to_le_bytes()), fixed64(5, 2.5_f64.to_le_bytes())].concat();
    for (shape, attribute) in [(9, 9), (10, 1), (11, 7)] {
        let point = bytes(1, &[point.clone(), label(attribute, "a", "b")].concat());
        let told = told(&push(&[metric("h", shape, &[point, varint(2, 1)])]));
        let is_delta = shape != 11;
        let labels = "a=\"b\",group_id=\"g\"".to_owned();
        assert_eq!(
            told,
            [
                ("kafka_client_h_count".to_owned(), labels.clone(), Kind::Counter, 5.0, is_delta),
                ("kafka_client_h_sum".to_owned(), labels, Kind::Counter, 2.5, is_delta),
            ]
        );
    }
}

#[test]
fn no_more_is_kept_of_a_client_than_there_is_room_for() {
    let many: Vec<_> = (0..CLIENT_SERIES_MAX + 5).map(|n| gauge(&format!("m{n}"), 1.0)).collect();
    let readings = read(&push(&many)).unwrap();
    assert_eq!((readings.by_series.len(), readings.dropped), (CLIENT_SERIES_MAX, 5));
    let labels: Vec<_> =
        (0..100).map(|n| label(7, &format!("l{n}"), &"v".repeat(10_000))).collect();
    let point = bytes(1, &[whole(1), labels.concat()].concat());
    let told = told(&push(&[metric(&"n".repeat(10_000), 5, &[point])]));
    assert_eq!(told[0].0.len(), PREFIX.len() + CLIENT_TEXT_BYTES_MAX);
    assert_eq!(told[0].1.matches("=\"").count(), CLIENT_LABELS_MAX);
    assert!(told[0].1.len() < CLIENT_LABELS_MAX * (CLIENT_TEXT_BYTES_MAX + 10));
}

#[test]
fn a_push_that_is_cut_or_changed_anywhere_is_read_or_refused() {
    let whole = push(&[gauge("a", 1.0), sum("b", 2, 1), metric("c", 9, &[bytes(1, &whole(1))])]);
    for cut in 0..whole.len() {
        let _ = read(&whole[..cut]);
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            let _ = read(&changed);
        }
    }
    assert!(read(&whole[..whole.len() - 1]).is_err());
    assert!(read(b"not a push").is_err());
    assert_eq!(read(&[]), Ok(Readings::default()));
    let nameless = push(&[metric("", 5, &[bytes(1, &real(1.0))])]);
    assert_eq!(read(&nameless), Err(Malformed));
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_of_no_meaning_are_read_or_refused(noise in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&noise);
            // In the right place, too.
            let _ = read(&push(&[bytes(2, &noise)]));
            let _ = read(&push(&[metric("m", 7, &[bytes(1, &noise)])]));
        }
    }
}
