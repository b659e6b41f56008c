//! What people write for times, sizes and places in a log.

use std::time::Duration;

use jiff::Timestamp;
use sawlog_client::Position;

/// `500ms`, `30s`, `5m`, `2h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let wrong =
        || format!("\"{text}\" is no time: expected a number and ms, s, m, h or d, such as 30s");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// `512`, `64KiB`, `10MiB`, `1GiB`; and `KB`, `MB`, `GB` in thousands.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let wrong = || {
        format!(
            "\"{text}\" is no size: expected bytes, or a number and KiB, MiB or GiB, such as 10MiB"
        )
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_bytes = match unit {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_bytes).ok_or_else(wrong)
}

/// Where to begin and end: `start`, `end`, `17`, `-10` (that many before the end), `+5` (that many
/// after the start), `@TIME`; `A:B` for a range. A time is milliseconds since the Unix epoch, RFC
/// 3339, a date, or a span before now such as `2h` or `-15m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Position,
    pub(crate) until: Option<Position>,
}

/// Parses a [`Span`].
pub(crate) fn parse_span(text: &str) -> Result<Span, String> {
    let span = any_span(text)?;
    match (span.from, span.until) {
        (Position::Offset(from), Some(Position::Offset(until)))
        | (Position::AfterStart(from), Some(Position::AfterStart(until)))
        | (Position::BeforeEnd(until), Some(Position::BeforeEnd(from)))
        | (Position::Time(from), Some(Position::Time(until)))
            if from > until =>
        {
            Err(format!("\"{text}\" ends before it begins"))
        }
        _ => Ok(span),
    }
}

fn any_span(text: &str) -> Result<Span, String> {
    let whole = text;
    if let Some(times) = text.strip_prefix('@') {
        // Times have colons of their own: the range is cut where both sides make sense.
        for (at, _) in times.match_indices(':') {
            let (from, until) = (times.get(..at).unwrap_or(""), times.get(at + 1..).unwrap_or(""));
            let Ok(from) = parse_time(from).map(Position::Time) else { continue };
            let until = match until.strip_prefix('@').unwrap_or(until) {
                "" => Ok(None),
                "end" => Ok(Some(Position::End)),
                time => parse_time(time).map(|time| Some(Position::Time(time))),
            };
            if let Ok(until) = until {
                return Ok(Span { from, until });
            }
        }
        return Ok(Span { from: Position::Time(parse_time(times)?), until: None });
    }
    match text.split_once(':') {
        Some((from, until)) => {
            let from = if from.is_empty() { Position::Start } else { parse_position(from)? };
            let until = if until.is_empty() { None } else { Some(parse_position(until)?) };
            Ok(Span { from, until })
        }
        None => Ok(Span { from: parse_position(whole)?, until: None }),
    }
}

/// Parses one place.
pub(crate) fn parse_position(text: &str) -> Result<Position, String> {
    let wrong =
        || format!("\"{text}\" is no offset: expected start, end, N, -N, +N or @TIME, such as -10");
    if let Some(time) = text.strip_prefix('@') {
        return Ok(Position::Time(parse_time(time)?));
    }
    let count = |digits: &str| match digits.parse::<i64>() {
        Ok(count) if count >= 0 && !digits.starts_with('+') => Ok(count),
        _ => Err(wrong()),
    };
    match text {
        "start" | "beginning" | "earliest" => Ok(Position::Start),
        "end" | "latest" => Ok(Position::End),
        _ => match text.as_bytes().first() {
            Some(b'-') => Ok(Position::BeforeEnd(count(text.get(1..).unwrap_or_default())?)),
            Some(b'+') => Ok(Position::AfterStart(count(text.get(1..).unwrap_or_default())?)),
            _ => Ok(Position::Offset(count(text)?)),
        },
    }
}

fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(ms) =
        text.parse::<i64>().map_err(|_| ()).and_then(|ms| if ms >= 0 { Ok(ms) } else { Err(()) })
    {
        return Ok(ms);
    }
    if let Ok(ago) = parse_duration(text.trim_start_matches('-')) {
        let now = Timestamp::now().as_millisecond();
        return Ok(now.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)).max(0));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    if let Ok(time) = format!("{text}T00:00:00Z").parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    Err(format!(
        "\"{text}\" is no time: expected milliseconds, 2026-01-31T12:00:00Z, 2026-01-31, or a span \
         before now such as 2h"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: Position, until: Option<Position>) -> Result<Span, String> {
        Ok(Span { from, until })
    }

    #[test]
    fn places_in_a_log() {
        assert_eq!(parse_span("start"), span(Position::Start, None));
        assert_eq!(parse_span("end"), span(Position::End, None));
        assert_eq!(parse_span("17"), span(Position::Offset(17), None));
        assert_eq!(parse_span("-10"), span(Position::BeforeEnd(10), None));
        assert_eq!(parse_span("+5"), span(Position::AfterStart(5), None));
        assert_eq!(parse_span("3:9"), span(Position::Offset(3), Some(Position::Offset(9))));
        assert_eq!(parse_span(":end"), span(Position::Start, Some(Position::End)));
        assert_eq!(parse_span("@1000"), span(Position::Time(1000), None));
        assert_eq!(
            parse_span("@1970-01-01T00:00:01Z:@1970-01-02"),
            span(Position::Time(1000), Some(Position::Time(86_400_000)))
        );
        assert_eq!(
            parse_span("@1970-01-01T00:00:01Z:1970-01-01T00:01:00Z"),
            span(Position::Time(1000), Some(Position::Time(60_000)))
        );
        assert_eq!(parse_span("@5:end"), span(Position::Time(5), Some(Position::End)));
        assert_eq!(parse_span("@5:6"), span(Position::Time(5), Some(Position::Time(6))));
        for wrong in ["", "x", "--3", "@yesterday", "3:x"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("100"), Ok(100));
        assert_eq!(parse_bytes("10MiB"), Ok(10_485_760));
        assert_eq!(parse_bytes("1KB"), Ok(1000));
        for wrong in ["", "KiB", "1 KiB", "1.5KiB", "-1", "99999999999G"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert!(parse_duration("2").is_err());
        assert!(parse_duration("h").is_err());
        assert!(parse_duration("99999999999999999d").is_err());
    }
}
