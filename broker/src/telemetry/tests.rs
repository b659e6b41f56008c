//! Pushes from the wire to the page.

use std::time::Duration;

use sawlog_protocol::records::{Compression, compress};

use super::otlp::tests::{gauge, push, sum};
use super::*;
use crate::base::{ManualClock, Timestamp};
use crate::config::BrokerConfig;
use crate::metadata::{ConfigResource, Image, MetadataOffset, Record};
use crate::metrics::Page;

fn image(settings: &[(&str, &str)]) -> Image {
    let set = |(key, value): &(&str, &str)| Record::Config {
        resource: ConfigResource::ClientMetrics("s".into()),
        key: (*key).to_owned(),
        value: Some((*value).to_owned()),
    };
    let records: Vec<_> = settings.iter().map(set).collect();
    let empty = Image::empty(Uuid([1; 16]), Arc::new(BrokerConfig::default()));
    empty.applied(MetadataOffset(1), &records).unwrap()
}

fn telemetry(settings: &[(&str, &str)]) -> (Telemetry, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp(0)));
    clock.advance(Duration::from_secs(1_000));
    let images = Arc::new(ImageCell::new(Arc::new(image(settings))));
    (Telemetry::new(clock.clone(), images, 1 << 20), clock)
}

fn client() -> ClientFacts {
    ClientFacts {
        id: "or\"ders".into(),
        software: Some(("apache-kafka-java".into(), "4.4.0".into())),
        address: "127.0.0.1:5000".parse().unwrap(),
    }
}

fn page_of(telemetry: &Telemetry) -> String {
    let mut page = Page::default();
    telemetry.describe(&mut page);
    page.into_text()
}

/// The codec's frame around `plain`, as a record batch has it.
fn compressed(codec: Compression, plain: &[u8]) -> Bytes {
    let mut out = Vec::new();
    compress(codec, None, plain, &mut out).unwrap();
    out.into()
}

#[test]
fn what_a_client_pushed_last_is_on_the_page() {
    let (telemetry, clock) = telemetry(&[("metrics", "*"), ("interval.ms", "1000")]);
    let (id, wanted) = telemetry.subscribe(Uuid::ZERO, &client()).unwrap();
    assert!(!is_reserved(id));
    for (round, codec) in (1..).zip(Compression::ALL) {
        let head = PushHead {
            instance: id,
            subscription_id: wanted.subscription_id,
            terminating: false,
            is_codec_known: true,
            bytes: 10,
        };
        telemetry.admit(head, &client()).unwrap();
        let plain =
            push(&[gauge("org.apache.kafka.producer.x", f64::from(round)), sum("s.total", 2, 1)]);
        telemetry.take(id, codec, &compressed(codec, &plain)).unwrap();
        clock.advance(Duration::from_secs(1));
    }
    let page = page_of(&telemetry);
    let owner = format!(
        "client_id=\"or\\\"ders\",client_instance_id=\"{id}\",\
         client_software_name=\"apache-kafka-java\",client_software_version=\"4.4.0\""
    );
    for line in [
        "sawlog_clients 1".to_owned(),
        "sawlog_client_pushes_total 5".to_owned(),
        "# TYPE kafka_client_producer_x gauge".to_owned(),
        format!("kafka_client_producer_x{{{owner},group_id=\"g\"}} 5"),
        "# TYPE kafka_client_s_total counter".to_owned(),
        format!("kafka_client_s_total{{{owner},group_id=\"g\"}} 10"),
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    let table = telemetry.table();
    assert!(table.contains("apache-kafka-java/4.4.0  127.0.0.1:5000  *"), "{table}");
}

#[test]
fn metrics_of_one_name_and_several_kinds_are_told_once() {
    let (telemetry, _clock) = telemetry(&[("metrics", "*")]);
    for metric in [gauge("m", 1.0), sum("m", 2, 2)] {
        let (id, _) = telemetry.subscribe(Uuid::ZERO, &client()).unwrap();
        telemetry.take(id, Compression::None, &push(&[metric]).into()).unwrap();
    }
    let page = page_of(&telemetry);
    assert_eq!(page.matches("# TYPE kafka_client_m ").count(), 1, "{page}");
    assert!(page.contains("# TYPE kafka_client_m untyped\n"), "{page}");
    assert_eq!(page.matches("\nkafka_client_m{").count(), 2, "{page}");
}

#[test]
fn what_is_no_push_is_refused_and_keeps_what_was() {
    let (telemetry, _clock) = telemetry(&[("metrics", "*")]);
    let (id, _) = telemetry.subscribe(Uuid::ZERO, &client()).unwrap();
    telemetry.take(id, Compression::None, &push(&[gauge("m", 1.0)]).into()).unwrap();
    for codec in Compression::ALL {
        let refused = telemetry.take(id, codec, &Bytes::from_static(b"\xff\xffnonsense"));
        assert_eq!(refused, Err(Refusal::Malformed), "{codec:?}");
    }
    let bomb = vec![0; CLIENT_PUSH_INFLATED_BYTES_MAX + 1];
    for codec in CODECS {
        let bomb = compressed(codec, &bomb);
        assert!(bomb.len() < 1 << 20, "{codec:?}: {}", bomb.len());
        assert_eq!(telemetry.take(id, codec, &bomb), Err(Refusal::TooLarge), "{codec:?}");
    }
    assert!(page_of(&telemetry).contains("\nkafka_client_m{"));
    for reserved in [Uuid::ZERO, Uuid(1_u128.to_be_bytes())] {
        let head = PushHead {
            instance: reserved,
            subscription_id: 0,
            terminating: false,
            is_codec_known: true,
            bytes: 0,
        };
        assert_eq!(telemetry.admit(head, &client()), Err(Refusal::InvalidRequest));
    }
}

#[test]
fn nobody_is_asked_for_anything_unless_somebody_subscribes() {
    let (telemetry, _clock) = telemetry(&[]);
    let (_, wanted) = telemetry.subscribe(Uuid::ZERO, &client()).unwrap();
    assert_eq!((wanted.metrics.len(), wanted.interval_ms), (0, 300_000));
    let page = page_of(&telemetry);
    assert!(page.contains("sawlog_clients 1\n") && !page.contains("kafka_client_"), "{page}");
}
