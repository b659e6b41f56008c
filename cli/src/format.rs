//! How consumed records are printed: `-f '%p %o %k=%v\n'`, `-f json`, `-f value`.
//!
//! The verbs are kcat's: `%t` topic, `%p` partition, `%o` offset, `%k` key, `%v` or `%s` value, `%K` and
//! `%S` their lengths (-1 for null), `%R` the value's length as four bytes, `%T` timestamp in
//! milliseconds, `%h` headers as `name=value` separated by commas, `%%` a percent sign;
//! `\n \t \r \\ \0 \xHH` as usual. And rpk's: `%H` how many headers, `%i` number of the record,
//! from 1, `%k{hex}`, `%v{base64}`, `%d{strftime[%F %T]}` in UTC.

use sawlog_client::ConsumedRecord;

use crate::jsonl;

/// A piece of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key(Encoding),
    Value(Encoding),
    KeyLength,
    ValueLength,
    /// The value's length in four bytes, most significant first.
    ValueLengthBinary,
    Timestamp,
    /// The timestamp as this strftime format has it, which was tried.
    Time(String),
    Headers,
    HeaderCount,
    /// How many records were printed, with this one.
    Number,
}

/// How a key or value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Raw,
    Hex,
    Base64,
}

/// How records are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object a line.
    Json,
    /// The same without what is in keys, values and headers.
    Meta,
    /// One JSON object a line, with kcat's names.
    Kcat,
    /// By verbs.
    Verbs(Vec<FormatPiece>),
}

/// One piece of a format of verbs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FormatPiece(Piece);

/// Parses what follows `-f`.
pub(crate) fn parse(text: &str) -> Result<Format, String> {
    match text {
        "json" | "jsonl" => return Ok(Format::Json),
        "value" => return parse("%v\\n"),
        _ => {}
    }
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '%' => {
                let Some(piece) = verb(&mut rest)? else {
                    literal.push(b'%');
                    continue;
                };
                if !literal.is_empty() {
                    pieces.push(FormatPiece(Piece::Text(std::mem::take(&mut literal))));
                }
                pieces.push(FormatPiece(piece));
            }
            '\\' => literal.extend(escape(&mut rest)?),
            other => literal.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if !literal.is_empty() {
        pieces.push(FormatPiece(Piece::Text(literal)));
    }
    Ok(Format::Verbs(pieces))
}

/// The verb behind a percent sign; `None` for another percent sign.
fn verb(rest: &mut std::str::Chars<'_>) -> Result<Option<Piece>, String> {
    let Some(name) = rest.next() else {
        return Err("\"%\" at the end is no verb: a percent sign is %%".to_owned());
    };
    let argument = braces(rest)?;
    let piece = match (name, argument.as_deref()) {
        ('%', None) => return Ok(None),
        ('t', None) => Piece::Topic,
        ('p', None) => Piece::Partition,
        ('o', None) => Piece::Offset,
        ('k', encoding) => Piece::Key(parse_encoding(encoding)?),
        ('v' | 's', encoding) => Piece::Value(parse_encoding(encoding)?),
        ('K', None) => Piece::KeyLength,
        ('S' | 'V', None) => Piece::ValueLength,
        ('R', None) => Piece::ValueLengthBinary,
        ('T' | 'd', None) => Piece::Timestamp,
        ('d', Some(format)) => Piece::Time(parse_time_format(format)?),
        ('h', None) => Piece::Headers,
        ('H', None) => Piece::HeaderCount,
        ('i', None) => Piece::Number,
        (name, argument) => {
            let argument = argument.map_or(String::new(), |text| format!("{{{text}}}"));
            return Err(format!(
                "\"%{name}{argument}\" is no verb: expected %t %p %o %k %v %K %S %R %T %d %h %H %i or %%"
            ));
        }
    };
    Ok(Some(piece))
}

/// What stands in braces behind a verb, if there are any.
pub(crate) fn braces(rest: &mut std::str::Chars<'_>) -> Result<Option<String>, String> {
    let Some(inner) = rest.as_str().strip_prefix('{') else { return Ok(None) };
    let (argument, after) = inner.split_once('}').ok_or("a { behind a verb needs its }")?;
    let argument = argument.to_owned();
    *rest = after.chars();
    Ok(Some(argument))
}

fn parse_encoding(text: Option<&str>) -> Result<Encoding, String> {
    match text {
        None => Ok(Encoding::Raw),
        Some("hex") => Ok(Encoding::Hex),
        Some("base64") => Ok(Encoding::Base64),
        Some(other) => {
            Err(format!("\"{{{other}}}\" is no encoding: expected {{hex}} or {{base64}}"))
        }
    }
}

fn parse_time_format(text: &str) -> Result<String, String> {
    let format = text.strip_prefix("strftime[").and_then(|rest| rest.strip_suffix(']'));
    let format = format.ok_or("expected %d{strftime[%F %T]}")?;
    match jiff::fmt::strtime::format(format, jiff::Timestamp::UNIX_EPOCH) {
        Ok(_) => Ok(format.to_owned()),
        Err(error) => Err(format!("\"{format}\": {error}")),
    }
}

/// What a backslash and what follows it mean.
pub(crate) fn escape(rest: &mut std::str::Chars<'_>) -> Result<Vec<u8>, String> {
    Ok(match rest.next() {
        Some('n') => vec![b'\n'],
        Some('t') => vec![b'\t'],
        Some('r') => vec![b'\r'],
        Some('0') => vec![0],
        Some('\\') => vec![b'\\'],
        Some('x') => {
            let digits: String = rest.by_ref().take(2).collect();
            let byte = u8::from_str_radix(&digits, 16);
            vec![byte.map_err(|_| format!("\"\\x{digits}\" is no byte: expected two hex digits"))?]
        }
        other => {
            let character = other.map_or(String::new(), String::from);
            return Err(format!(
                "\"\\{character}\" is no escape: expected \\n \\t \\r \\0 \\\\ or \\xHH"
            ));
        }
    })
}

/// What separates two parts of a line; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delimiter(pub(crate) Vec<u8>);

/// Unescapes a delimiter given on the command line.
pub(crate) fn delimiter(text: &str) -> Result<Delimiter, String> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => bytes.extend(escape(&mut rest)?),
            other => bytes.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if bytes.is_empty() {
        return Err("a delimiter cannot be empty".to_owned());
    }
    Ok(Delimiter(bytes))
}

impl Format {
    /// The value and what ends it, behind the key and a delimiter where there is one.
    pub(crate) fn key_and_value(delimiter: Option<Vec<u8>>, end: Vec<u8>) -> Self {
        let key = delimiter.map(|text| [Piece::Key(Encoding::Raw), Piece::Text(text)]);
        let rest = [Piece::Value(Encoding::Raw), Piece::Text(end)];
        Self::Verbs(key.into_iter().flatten().chain(rest).map(FormatPiece).collect())
    }

    /// Appends the record, the `number`th printed, to `out`.
    pub(crate) fn write(&self, record: &ConsumedRecord, number: u64, out: &mut Vec<u8>) {
        let pieces = match self {
            Self::Json => {
                out.extend(jsonl::encode(record).to_string().as_bytes());
                out.push(b'\n');
                return;
            }
            Self::Meta => {
                out.extend(jsonl::encode_meta(record).to_string().as_bytes());
                out.push(b'\n');
                return;
            }
            Self::Kcat => {
                out.extend(jsonl::encode_kcat(record).to_string().as_bytes());
                out.push(b'\n');
                return;
            }
            Self::Verbs(pieces) => pieces,
        };
        for FormatPiece(piece) in pieces {
            match piece {
                Piece::Text(text) => out.extend(text),
                Piece::Topic => out.extend(record.topic.as_bytes()),
                Piece::Partition => out.extend(record.partition.to_string().as_bytes()),
                Piece::Offset => out.extend(record.offset.to_string().as_bytes()),
                Piece::Key(encoding) => encode(record.key.as_deref(), *encoding, out),
                Piece::Value(encoding) => encode(record.value.as_deref(), *encoding, out),
                Piece::KeyLength => out.extend(length(record.key.as_deref()).as_bytes()),
                Piece::ValueLength => out.extend(length(record.value.as_deref()).as_bytes()),
                Piece::ValueLengthBinary => {
                    let length = record.value.as_ref().map(|value| i32::try_from(value.len()));
                    out.extend(length.map_or(-1, |n| n.unwrap_or(i32::MAX)).to_be_bytes());
                }
                Piece::Time(format) => out.extend(time(record.timestamp, format).as_bytes()),
                Piece::HeaderCount => out.extend(record.headers.len().to_string().as_bytes()),
                Piece::Number => out.extend(number.to_string().as_bytes()),
                Piece::Timestamp => out.extend(record.timestamp.to_string().as_bytes()),
                Piece::Headers => {
                    for (at, (name, value)) in record.headers.iter().enumerate() {
                        if at > 0 {
                            out.push(b',');
                        }
                        out.extend(name);
                        out.push(b'=');
                        out.extend(value.as_deref().unwrap_or(b"NULL"));
                    }
                }
            }
        }
    }
}

fn encode(bytes: Option<&[u8]>, encoding: Encoding, out: &mut Vec<u8>) {
    let bytes = bytes.unwrap_or_default();
    match encoding {
        Encoding::Raw => out.extend(bytes),
        Encoding::Hex => {
            out.extend(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
        }
        Encoding::Base64 => out.extend(jsonl::to_base64(bytes).as_bytes()),
    }
}

/// Empty for a timestamp that is none (-1, or beyond the calendar).
fn time(timestamp_ms: i64, format: &str) -> String {
    let time = jiff::Timestamp::from_millisecond(timestamp_ms).ok().filter(|_| timestamp_ms >= 0);
    time.and_then(|time| jiff::fmt::strtime::format(format, time).ok()).unwrap_or_default()
}

fn length(bytes: Option<&[u8]>) -> String {
    bytes.map_or("-1".to_owned(), |bytes| bytes.len().to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn print(format: &str) -> String {
        let record = ConsumedRecord {
            topic: "t".into(),
            partition: 2,
            offset: 40,
            leader_epoch: 0,
            timestamp: 1234,
            key: None,
            value: Some(Bytes::from_static(b"hello")),
            headers: vec![
                (Bytes::from_static(b"a"), Some(Bytes::from_static(b"1"))),
                (Bytes::from_static(b"b"), None),
            ],
        };
        let mut out = Vec::new();
        parse(format).unwrap().write(&record, 7, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn verbs_print_their_part() {
        assert_eq!(print("%t[%p]@%o %k=%v\\n"), "t[2]@40 =hello\n");
        assert_eq!(print("%K %S %T %h 100%% \\x41\\\\"), "-1 5 1234 a=1,b=NULL 100% A\\");
        assert_eq!(print("value"), "hello\n");
        assert_eq!(print("%i %H %v{hex} %v{base64}%k{hex}"), "7 2 68656c6c6f aGVsbG8=");
        assert_eq!(print("%R"), "\0\0\0\u{5}");
        assert_eq!(print("%d{strftime[%F %T]}"), "1970-01-01 00:00:01");
    }

    #[test]
    fn unknown_verbs_and_escapes_are_named() {
        assert!(parse("%q").unwrap_err().contains("%q"));
        assert!(parse("%").unwrap_err().contains("is no verb"));
        assert!(parse("%k{rot13}").unwrap_err().contains("rot13"));
        assert!(parse("%v{hex").unwrap_err().contains('}'));
        assert!(parse("%o{hex}").unwrap_err().contains("%o{hex}"));
        assert!(parse("%d{strftime[%!]}").is_err());
        assert!(parse("\\q").unwrap_err().contains("\\q"));
        assert!(parse("\\xZZ").unwrap_err().contains("hex"));
    }
}
