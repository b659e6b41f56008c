//! Clients as they come, speak and go.

use super::*;
use crate::config::Overrides;
use crate::metrics::Kind;

const A: Uuid = Uuid([1; 16]);
const SECOND: Duration = Duration::from_secs(1);

fn client() -> ClientFacts {
    ClientFacts {
        id: "c".into(),
        software: Some(("java".into(), "4".into())),
        address: "127.0.0.1:1".parse().unwrap(),
    }
}

fn subscribed(pairs: &[(&str, &str)]) -> Arc<Subscriptions> {
    let overrides: Overrides =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Arc::new(Subscriptions::new(Arc::new(BTreeMap::from([(Arc::from("s"), overrides)]))))
}

/// Clients that are asked for everything every second.
fn instances() -> Instances {
    let mut instances = Instances::new(1_000);
    instances.subscribe(subscribed(&[("metrics", "*"), ("interval.ms", "1000")]));
    instances
}

fn head(subscription_id: i32) -> PushHead {
    PushHead { instance: A, subscription_id, terminating: false, is_codec_known: true, bytes: 10 }
}

fn reading(value: f64, is_delta: bool) -> Reading {
    Reading { kind: Kind::Counter, value, is_delta }
}

fn readings(values: &[(&str, Reading)]) -> Readings {
    let series = |name: &str| Series { name: name.into(), labels: "".into() };
    let by_series = values.iter().map(|(name, reading)| (series(name), *reading)).collect();
    Readings { by_series, dropped: 0 }
}

#[test]
fn a_push_comes_once_told_and_then_once_an_interval() {
    let mut all = instances();
    let now = 100 * SECOND;
    let id = all.on_get(now, A, &client()).unwrap().subscription_id;
    assert_eq!(all.on_get(now, A, &client()), Err(Refusal::TooEarly));
    // Clients begin anywhere within the interval.
    let early = now + SECOND / 2;
    assert_eq!(all.on_push(early, head(id), &client()), Ok(()));
    assert_eq!(all.on_push(early + SECOND / 2, head(id), &client()), Err(Refusal::TooEarly));
    assert_eq!(all.on_get(early + SECOND / 2, A, &client()), Err(Refusal::TooEarly));
    assert_eq!(all.on_push(early + SECOND, head(id), &client()), Ok(()));
    all.check();
}

#[test]
fn the_last_push_comes_whenever_and_nothing_after_it() {
    let mut all = instances();
    let now = 100 * SECOND;
    let id = all.on_get(now, A, &client()).unwrap().subscription_id;
    assert_eq!(all.on_push(now, head(id), &client()), Ok(()));
    let last = PushHead { terminating: true, ..head(id) };
    assert_eq!(all.on_push(now, last, &client()), Ok(()));
    for push in [last, head(id)] {
        let later = now + 5 * SECOND;
        assert_eq!(all.on_push(later, push, &client()), Err(Refusal::InvalidRequest));
    }
}

#[test]
fn what_is_wrong_with_a_push_is_said_in_kafkas_order() {
    let mut all = instances();
    let mut now = 100 * SECOND;
    let id = all.on_get(now, A, &client()).unwrap().subscription_id;
    let too_large = PushHead { bytes: 1_001, ..head(id) };
    let no_codec = PushHead { is_codec_known: false, ..too_large };
    let unknown = PushHead { subscription_id: id ^ 1, ..no_codec };
    for (push, refusal) in [
        (unknown, Refusal::UnknownSubscription),
        (no_codec, Refusal::UnsupportedCompression),
        (too_large, Refusal::TooLarge),
    ] {
        now += 2 * SECOND;
        assert_eq!(all.on_push(now, push, &client()), Err(refusal));
        // Whoever is sent back is answered at once, whoever sent too much has to wait.
        let again = all.on_get(now, A, &client()).map(|wanted| wanted.subscription_id);
        assert_eq!(again.is_ok(), refusal != Refusal::TooLarge, "{refusal:?}");
    }
    assert_eq!(all.on_push(now + SECOND, PushHead { bytes: 1_000, ..head(id) }, &client()), Ok(()));
}

#[test]
fn a_client_that_asked_another_broker_is_known_by_its_push() {
    let mut all = instances();
    let id = all.subscriptions().of(A, &client()).subscription_id;
    assert_eq!(all.on_push(SECOND, head(id), &client()), Ok(()));
}

#[test]
fn whoever_is_asked_for_something_else_is_told_at_once() {
    let mut all = instances();
    let now = 100 * SECOND;
    let id = all.on_get(now, A, &client()).unwrap().subscription_id;
    assert_eq!(all.on_push(now, head(id), &client()), Ok(()));
    all.subscribe(subscribed(&[("metrics", "a.")]));
    assert_eq!(all.on_push(now, head(id), &client()), Err(Refusal::UnknownSubscription));
    let wanted = all.on_get(now, A, &client()).unwrap();
    assert_eq!(wanted.metrics, ["a."]);
    assert_eq!(all.on_push(now, head(wanted.subscription_id), &client()), Ok(()));
    // A change that asks for the same as before changes nothing.
    all.subscribe(subscribed(&[("metrics", "a.")]));
    assert_eq!(all.on_get(now, A, &client()), Err(Refusal::TooEarly));
}

#[test]
fn what_is_counted_since_the_push_before_is_added_up() {
    let mut all = instances();
    all.on_get(SECOND, A, &client()).unwrap();
    all.on_read(
        A,
        readings(&[
            ("d", reading(2.0, true)),
            ("e", reading(1.0, true)),
            ("w", reading(9.0, false)),
        ]),
    );
    all.on_read(A, readings(&[("d", reading(3.0, true)), ("g", reading(4.0, false))]));
    let views = all.views(SECOND);
    let kept: Vec<_> =
        views[0].metrics.by_series.iter().map(|(s, r)| (s.name.to_string(), r.value)).collect();
    // What was told as a whole and is not told any more is gone.
    let expected = [("d", 5.0), ("e", 1.0), ("g", 4.0)];
    assert_eq!(kept, expected.map(|(name, value)| (name.to_owned(), value)));
    all.check();
}

#[test]
fn the_silent_are_forgotten_after_three_intervals_and_a_minute() {
    let mut all = instances();
    all.on_get(SECOND, A, &client()).unwrap();
    assert_eq!(all.views(60 * SECOND).len(), 1);
    assert_eq!(all.views(61 * SECOND).len(), 0);
    all.subscribe(subscribed(&[("metrics", "*"), ("interval.ms", "100000")]));
    all.on_get(100 * SECOND, A, &client()).unwrap();
    assert_eq!(all.views(399 * SECOND).len(), 1);
    assert_eq!(all.views(400 * SECOND).len(), 0);
    all.check();
}

#[test]
fn clients_and_their_metrics_take_no_more_than_their_room() {
    let mut all = instances();
    let id = |number: usize| Uuid((number as u128 + 2).to_be_bytes());
    for number in 0..CLIENT_INSTANCES_MAX + 10 {
        all.on_get(SECOND, id(number), &client()).unwrap();
    }
    assert_eq!(all.views(SECOND).len(), CLIENT_INSTANCES_MAX);
    assert_eq!(all.views(SECOND)[0].instance, id(10), "the most silent went first");
    all.check();
    let name = "n".repeat(1 << 20);
    for number in 0..40 {
        all.on_get(2 * SECOND, id(20_000 + number), &client()).unwrap();
        all.on_read(id(20_000 + number), readings(&[(&name, reading(1.0, false))]));
        all.check();
    }
    let views = all.views(2 * SECOND);
    assert_eq!(views.last().unwrap().instance, id(20_039));
    assert!(views.len() < 40, "{}", views.len());
}
