//! What clients push: OpenTelemetry's `MetricsData`, version 1, and the values in it that are kept.
//!
//! Gauges and sums, which is what clients send, and of histograms and summaries their count and sum. The
//! messages nest by a fixed number of levels, which this code walks without recursion; how many
//! values and labels are kept is bounded, and what is beyond is counted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::protobuf::{Field, Fields, Malformed};
use crate::base::limits::{CLIENT_LABELS_MAX, CLIENT_SERIES_MAX, CLIENT_TEXT_BYTES_MAX};
use crate::metrics::{Kind, Labelling, label_name, metric_name};

/// What the names of clients' metrics begin with, here and at the client.
const PREFIX: &str = "kafka_client_";
const PREFIX_THERE: &str = "org.apache.kafka.";

/// The labels that say whose metric it is.
pub(super) const OWNER_LABELS: [&str; 4] =
    ["client_id", "client_instance_id", "client_software_name", "client_software_version"];

/// `AGGREGATION_TEMPORALITY_DELTA`: what came since the push before.
const DELTA: u64 = 1;

/// A metric of a client, one of those of its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    pub(super) name: Box<str>,
    /// Its labels as a page has them, `a="b",c="d"`.
    pub(super) labels: Box<str>,
}

/// What a metric of a client is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) kind: Kind,
    pub(super) value: f64,
    /// To be added to what was known before.
    pub(super) is_delta: bool,
}

/// What was in one push.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Readings {
    pub(super) by_series: BTreeMap<Series, Reading>,
    /// Values beyond what is kept of one client.
    pub(super) dropped: u64,
}

/// Reads a push.
///
/// # Errors
/// It is no `MetricsData`.
pub(super) fn read(metrics_data: &[u8]) -> Result<Readings, Malformed> {
    let mut readings = Readings::default();
    for field in Fields::of(metrics_data) {
        if let (1, resource_metrics) = field? {
            read_resource(resource_metrics.bytes()?, &mut readings)?;
        }
    }
    Ok(readings)
}

fn read_resource(message: &[u8], readings: &mut Readings) -> Result<(), Malformed> {
    let mut shared = Vec::new();
    for field in Fields::of(message) {
        if let (1, resource) = field? {
            attributes(resource.bytes()?, 1, &mut shared)?;
        }
    }
    for field in Fields::of(message) {
        let (2, scope_metrics) = field? else { continue };
        for field in Fields::of(scope_metrics.bytes()?) {
            if let (2, metric) = field? {
                Metric::read(metric.bytes()?)?.points(&shared, readings)?;
            }
        }
    }
    Ok(())
}

/// `NAME=VALUE` of a resource or a value, not yet as a page has them.
type Attribute<'a> = (&'a str, Cow<'a, str>);

/// The attributes in field `number` of a message.
fn attributes<'a>(
    message: &'a [u8],
    number: u64,
    found: &mut Vec<Attribute<'a>>,
) -> Result<(), Malformed> {
    for field in Fields::of(message) {
        let (at, attribute) = field?;
        if at != number {
            continue;
        }
        let (mut key, mut value) = ("", None);
        for field in Fields::of(attribute.bytes()?) {
            match field? {
                (1, text) => key = text.text()?,
                (2, any) => value = any_value(any.bytes()?)?,
                _ => {}
            }
        }
        if let Some(value) = value.filter(|_| !key.is_empty() && found.len() < CLIENT_LABELS_MAX) {
            found.push((key, value));
        }
    }
    Ok(())
}

/// A text or a number; lists and maps are no labels.
fn any_value(message: &[u8]) -> Result<Option<Cow<'_, str>>, Malformed> {
    let mut value = None;
    for field in Fields::of(message) {
        value = match field? {
            (1, text) => Some(text.text()?.into()),
            (2, flag) => Some(if flag.varint()? == 0 { "false".into() } else { "true".into() }),
            (3, number) => Some(number.varint()?.cast_signed().to_string().into()),
            (4, number) => Some(f64::from_le_bytes(number.fixed64()?).to_string().into()),
            (5..=7, _) => None,
            _ => value,
        };
    }
    Ok(value)
}

/// How the values of a metric are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

/// One metric, its values not read yet.
#[derive(Debug)]
struct Metric<'a> {
    name: &'a str,
    data: Option<(Shape, &'a [u8])>,
}

impl<'a> Metric<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut metric = Self { name: "", data: None };
        for field in Fields::of(message) {
            let (number, field) = field?;
            let shape = match number {
                1 => {
                    metric.name = field.text()?;
                    continue;
                }
                5 => Shape::Gauge,
                7 => Shape::Sum,
                9 => Shape::Histogram,
                10 => Shape::ExponentialHistogram,
                11 => Shape::Summary,
                _ => continue,
            };
            metric.data = Some((shape, field.bytes()?));
        }
        Ok(metric)
    }

    fn points(&self, shared: &[Attribute<'_>], readings: &mut Readings) -> Result<(), Malformed> {
        let Some((shape, data)) = self.data else { return Ok(()) };
        if self.name.is_empty() {
            return Err(Malformed);
        }
        let name = self.name.strip_prefix(PREFIX_THERE).unwrap_or(self.name);
        let name = metric_name(PREFIX, cut(name));
        let (mut is_delta, mut is_monotonic) = (false, false);
        for field in Fields::of(data) {
            match (field?, shape) {
                ((2, field), Shape::Sum | Shape::Histogram | Shape::ExponentialHistogram) => {
                    is_delta = field.varint()? == DELTA;
                }
                ((3, field), Shape::Sum) => is_monotonic = field.varint()? != 0,
                _ => {}
            }
        }
        for field in Fields::of(data) {
            let (1, point) = field? else { continue };
            let point = Point::read(point.bytes()?, shape, shared)?;
            let kind = match shape {
                Shape::Gauge => Kind::Gauge,
                Shape::Sum if is_monotonic => Kind::Counter,
                // What goes up and down is a measure, however it is summed.
                Shape::Sum => Kind::Gauge,
                Shape::Histogram | Shape::ExponentialHistogram | Shape::Summary => Kind::Counter,
            };
            let ends = match shape {
                Shape::Gauge | Shape::Sum => [("", point.value), ("", None)],
                _ => [("_count", point.count), ("_sum", point.value)],
            };
            for (end, value) in ends {
                let Some(value) = value else { continue };
                let series =
                    Series { name: format!("{name}{end}").into(), labels: point.labels.clone() };
                readings.add(series, Reading { kind, value, is_delta });
            }
        }
        Ok(())
    }
}

impl Readings {
    fn add(&mut self, series: Series, reading: Reading) {
        if self.by_series.len() < CLIENT_SERIES_MAX || self.by_series.contains_key(&series) {
            self.by_series.insert(series, reading);
        } else {
            self.dropped += 1;
        }
    }
}

/// One value, of whatever shape.
#[derive(Debug)]
struct Point {
    labels: Box<str>,
    value: Option<f64>,
    count: Option<f64>,
}

impl Point {
    fn read(message: &[u8], shape: Shape, shared: &[Attribute<'_>]) -> Result<Self, Malformed> {
        let (mut value, mut count) = (None, None);
        for field in Fields::of(message) {
            match (shape, field?) {
                (Shape::Gauge | Shape::Sum, (4, real)) => {
                    value = Some(f64::from_le_bytes(real.fixed64()?));
                }
                (Shape::Gauge | Shape::Sum, (6, whole)) => {
                    value = Some(real_of(i64::from_le_bytes(whole.fixed64()?)));
                }
                (Shape::Gauge | Shape::Sum, _) => {}
                (_, (4, Field::Fixed64(whole))) => {
                    count = Some(real_of(u64::from_le_bytes(whole).cast_signed()));
                }
                (_, (5, Field::Fixed64(real))) => value = Some(f64::from_le_bytes(real)),
                _ => {}
            }
        }
        let number = match shape {
            Shape::Gauge | Shape::Sum | Shape::Summary => 7,
            Shape::Histogram => 9,
            Shape::ExponentialHistogram => 1,
        };
        let mut all = shared.to_vec();
        attributes(message, number, &mut all)?;
        Ok(Self { labels: labels(&all), value, count })
    }
}

/// As a page has them, sorted; the first of a name holds.
fn labels(attributes: &[Attribute<'_>]) -> Box<str> {
    let mut by_name = BTreeMap::new();
    for (name, value) in attributes {
        let mut name = label_name(cut(name));
        if OWNER_LABELS.contains(&name.as_str()) {
            name.insert_str(0, "metric_");
        }
        by_name.entry(name).or_insert_with(|| cut(value));
    }
    let mut out = Labelling::default();
    by_name.iter().for_each(|(name, value)| out.add(name, value));
    out.into_text().into()
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(CLIENT_TEXT_BYTES_MAX)]
}

/// Counts above 2^53 lose their last digits, as they do for whoever reads the page.
fn real_of(whole: i64) -> f64 {
    crate::base::units::real(whole)
}

#[cfg(test)]
pub(super) mod tests;
