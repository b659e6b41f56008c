//! How consumed records are printed: `-f '%p %o %k=%v\n'`, `-f json`, `-f value`.
//!
//! The verbs are kcat's: `%t` topic, `%p` partition, `%o` offset, `%k` key, `%v` or `%s` value, `%K` and
//! `%S` their lengths (-1 for null), `%T` timestamp in milliseconds, `%h` headers as `name=value`
//! separated by commas, `%%` a percent sign; `\n \t \r \\ \0 \xHH` as usual.

use sawlog_client::ConsumedRecord;

use crate::jsonl;

/// A piece of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    KeyLength,
    ValueLength,
    Timestamp,
    Headers,
}

/// How records are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object a line.
    Json,
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
                let piece = match rest.next() {
                    Some('t') => Piece::Topic,
                    Some('p') => Piece::Partition,
                    Some('o') => Piece::Offset,
                    Some('k') => Piece::Key,
                    Some('v' | 's') => Piece::Value,
                    Some('K') => Piece::KeyLength,
                    Some('S' | 'V') => Piece::ValueLength,
                    Some('T' | 'd') => Piece::Timestamp,
                    Some('h') => Piece::Headers,
                    Some('%') => {
                        literal.push(b'%');
                        continue;
                    }
                    other => {
                        let verb = other.map_or(String::new(), String::from);
                        return Err(format!(
                            "\"%{verb}\" is no verb: expected %t %p %o %k %v %K %S %T %h or %%"
                        ));
                    }
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

fn escape(rest: &mut std::str::Chars<'_>) -> Result<Vec<u8>, String> {
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
    /// Appends one record to `out`.
    pub(crate) fn write(&self, record: &ConsumedRecord, out: &mut Vec<u8>) {
        let pieces = match self {
            Self::Json => {
                out.extend(jsonl::encode(record).to_string().as_bytes());
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
                Piece::Key => out.extend(record.key.as_deref().unwrap_or_default()),
                Piece::Value => out.extend(record.value.as_deref().unwrap_or_default()),
                Piece::KeyLength => out.extend(length(record.key.as_deref()).as_bytes()),
                Piece::ValueLength => out.extend(length(record.value.as_deref()).as_bytes()),
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
            timestamp: 1234,
            key: None,
            value: Some(Bytes::from_static(b"hello")),
            headers: vec![
                (Bytes::from_static(b"a"), Some(Bytes::from_static(b"1"))),
                (Bytes::from_static(b"b"), None),
            ],
        };
        let mut out = Vec::new();
        parse(format).unwrap().write(&record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn verbs_print_their_part() {
        assert_eq!(print("%t[%p]@%o %k=%v\\n"), "t[2]@40 =hello\n");
        assert_eq!(print("%K %S %T %h 100%% \\x41\\\\"), "-1 5 1234 a=1,b=NULL 100% A\\");
        assert_eq!(print("value"), "hello\n");
    }

    #[test]
    fn unknown_verbs_and_escapes_are_named() {
        assert!(parse("%q").unwrap_err().contains("%q"));
        assert!(parse("%").unwrap_err().contains("is no verb"));
        assert!(parse("\\q").unwrap_err().contains("\\q"));
        assert!(parse("\\xZZ").unwrap_err().contains("hex"));
    }
}
