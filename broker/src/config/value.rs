//! Text to values: amounts with units, booleans, endpoints, and the types settings have.

use std::fmt;

use super::property::{Unit, list_items};

/// A type that a setting is read into. Texts are canonical here: checked by the property's row.
pub(crate) trait FromText: Sized {
    /// The value, or `None` if the text is not one.
    fn from_text(text: &str) -> Option<Self>;
}

macro_rules! from_text_by_parse {
    ($($type:ty),*) => { $(
        impl FromText for $type {
            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )* };
}
from_text_by_parse!(bool, f64, i16, i32, i64, u32, u64, usize, String);

/// A limit: -1 means there is none.
impl FromText for Option<u64> {
    fn from_text(text: &str) -> Option<Self> {
        if text == "-1" { Some(None) } else { text.parse().ok().map(Some) }
    }
}

/// -1 is "as many as it takes".
impl FromText for Option<u32> {
    fn from_text(text: &str) -> Option<Self> {
        if text == "-1" { Some(None) } else { text.parse().ok().map(Some) }
    }
}

impl FromText for Vec<String> {
    fn from_text(text: &str) -> Option<Self> {
        Some(list_items(text).map(str::to_owned).collect())
    }
}

impl FromText for Vec<Endpoint> {
    fn from_text(text: &str) -> Option<Self> {
        list_items(text).map(|item| parse_endpoint(item).ok()).collect()
    }
}

/// An address to listen on or to tell clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The listener's name; `PLAINTEXT` unless given.
    pub name: String,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port; 0 lets the operating system choose.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Parses `host:port`, `[v6]:port`, `:port` (all addresses) or Kafka's `NAME://host:port`.
///
/// # Errors
/// What is expected instead.
pub fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    let expected = || "expected host:port, such as 127.0.0.1:9092".to_owned();
    let (name, address) = text.split_once("://").unwrap_or(("PLAINTEXT", text));
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Err(expected());
    }
    if !name.eq_ignore_ascii_case("PLAINTEXT") && name.contains("SSL") {
        return Err("TLS and SASL listeners are not supported yet; use host:port".to_owned());
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(expected)?;
    let port = port.parse().map_err(|_| expected())?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').ok_or_else(expected)?,
        None if host.contains(':') => {
            return Err("an IPv6 address needs brackets: [::1]:9092".to_owned());
        }
        None => host,
    };
    if host.chars().any(|c| c.is_whitespace() || c.is_control() || "/,[]".contains(c))
        || host.len() > 255
    {
        return Err(expected());
    }
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    Ok(Endpoint { name: name.to_owned(), host: host.to_owned(), port })
}

/// `true` or `false` in the forms people write.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A whole number, with the suffixes its unit allows (`10MiB`, `7d`).
///
/// # Errors
/// What is expected instead.
pub(crate) fn parse_amount(text: &str, unit: Unit) -> Result<i64, String> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number);
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    let scale = scale_of(suffix.trim(), unit);
    match (number.parse::<i64>(), scale) {
        (Ok(number), Some(scale)) => {
            number.checked_mul(scale).ok_or_else(|| "the number is too large".to_owned())
        }
        _ => Err(match unit {
            Unit::Bytes => "expected a number of bytes, or one with a unit such as 10MiB",
            Unit::Milliseconds => {
                "expected a number of milliseconds, or one with a unit such as 7d"
            }
            Unit::None | Unit::Minutes | Unit::Hours => "expected a whole number",
        }
        .to_owned()),
    }
}

fn scale_of(suffix: &str, unit: Unit) -> Option<i64> {
    const KIB: i64 = 1024;
    let suffix = suffix.to_ascii_lowercase();
    match unit {
        Unit::Bytes => Some(match suffix.as_str() {
            "b" => 1,
            "k" | "kib" => KIB,
            "m" | "mib" => KIB * KIB,
            "g" | "gib" => KIB * KIB * KIB,
            "t" | "tib" => KIB * KIB * KIB * KIB,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return None,
        }),
        Unit::Milliseconds => Some(match suffix.as_str() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        }),
        Unit::None | Unit::Minutes | Unit::Hours => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_take_units() {
        assert_eq!(parse_amount("10MiB", Unit::Bytes), Ok(10 * 1024 * 1024));
        assert_eq!(parse_amount("10 MB", Unit::Bytes), Ok(10_000_000));
        assert_eq!(parse_amount("7d", Unit::Milliseconds), Ok(604_800_000));
        assert_eq!(parse_amount("-1", Unit::Milliseconds), Ok(-1));
        assert_eq!(parse_amount("250", Unit::None), Ok(250));
    }

    #[test]
    fn amounts_that_make_no_sense_are_refused() {
        for (text, unit) in [
            ("", Unit::Bytes),
            ("7d", Unit::Bytes),
            ("10MiB", Unit::Milliseconds),
            ("-7d", Unit::Milliseconds),
            ("9223372036854775807d", Unit::Milliseconds),
            ("9223372036854775808", Unit::None),
            ("1k", Unit::None),
            ("ten", Unit::None),
            ("٣", Unit::None),
        ] {
            assert!(parse_amount(text, unit).is_err(), "{text}");
        }
    }

    #[test]
    fn endpoints_are_host_and_port() {
        let host = |text| parse_endpoint(text).map(|e| (e.name, e.host, e.port));
        let plain = |h: &str, p| Ok(("PLAINTEXT".to_owned(), h.to_owned(), p));
        assert_eq!(host("127.0.0.1:9092"), plain("127.0.0.1", 9092));
        assert_eq!(host("PLAINTEXT://broker.example:1"), plain("broker.example", 1));
        assert_eq!(host(":9092"), plain("0.0.0.0", 9092));
        assert_eq!(host("[::1]:0"), plain("::1", 0));
        assert_eq!(parse_endpoint("[::1]:9092").unwrap().to_string(), "[::1]:9092");
        for wrong in
            ["localhost", "a:b", "::1:9092", "a:99999", "SSL://a:1", "a b:1", "://a:1", "[::1:2"]
        {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
