//! Records as JSON, one a line, the same in both directions.
//!
//! `{"topic":"t","partition":0,"offset":7,"timestamp":1700000000000,"key":"k","value":"v",
//! "headers":[["name","value"]]}`. Null is `null`, empty is `""`. Bytes that are not UTF-8 are
//! `{"base64":"..."}`. On input only `value` is looked for, the rest is optional; `topic` and
//! `offset` are ignored.

use sawlog_client::{ConsumedRecord, Record};
use serde_json::{Map, Value, json};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A record as one JSON object.
pub(crate) fn encode(record: &ConsumedRecord) -> Value {
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| json!([String::from_utf8_lossy(name), field(value.as_deref())]))
        .collect();
    json!({
        "topic": &*record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": field(record.key.as_deref()),
        "value": field(record.value.as_deref()),
        "headers": headers,
    })
}

/// A record with kcat's names; bytes that are not UTF-8 are replaced, as kcat does.
pub(crate) fn encode_kcat(record: &ConsumedRecord) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<Value> = record
        .headers
        .iter()
        .flat_map(|(name, value)| [json!(text(name)), json!(value.as_deref().map(text))])
        .collect();
    json!({
        "topic": &*record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "ts": record.timestamp,
        "key": record.key.as_deref().map(text),
        "payload": record.value.as_deref().map(text),
        "headers": headers,
    })
}

/// Where a record is and how large it is, without its content.
pub(crate) fn encode_meta(record: &ConsumedRecord) -> Value {
    json!({
        "topic": &*record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key_bytes": record.key.as_ref().map(|key| key.len()),
        "value_bytes": record.value.as_ref().map(|value| value.len()),
        "headers": record.headers.len(),
    })
}

fn field(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => json!({ "base64": to_base64(bytes) }),
        },
    }
}

/// Reads a record from one line.
pub(crate) fn decode(line: &str) -> Result<Record, String> {
    let object: Map<String, Value> =
        serde_json::from_str(line).map_err(|error| format!("not a JSON object: {error}"))?;
    let known = ["topic", "partition", "offset", "timestamp", "key", "value", "headers"];
    if let Some(unknown) = object.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("unknown field \"{unknown}\": expected {}", known.join(", ")));
    }
    let partition = match object.get("partition") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
            Some(number.ok_or("partition is no number")?)
        }
    };
    let timestamp = match object.get("timestamp") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_i64().ok_or("timestamp is no number of milliseconds")?),
    };
    Ok(Record {
        partition,
        timestamp,
        key: bytes("key", object.get("key"))?,
        value: bytes("value", object.get("value"))?,
        headers: headers(object.get("headers"))?,
    })
}

fn bytes(name: &str, value: Option<&Value>) -> Result<Option<Vec<u8>>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone().into_bytes())),
        Some(Value::Object(object)) if object.len() == 1 && object.contains_key("base64") => {
            let text = object.get("base64").and_then(Value::as_str);
            text.and_then(from_base64).map(Some).ok_or_else(|| format!("{name} is no base64"))
        }
        // Any other JSON is its own text: handy for values that are documents.
        Some(document) => Ok(Some(document.to_string().into_bytes())),
    }
}

/// Names and values, in order.
type Headers = Vec<(String, Option<Vec<u8>>)>;

fn headers(value: Option<&Value>) -> Result<Headers, String> {
    let wrong = "headers are no list of [name, value]";
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| {
                let [name, value] = item.as_array().map(Vec::as_slice).ok_or(wrong)? else {
                    return Err(wrong.to_owned());
                };
                Ok((name.as_str().ok_or(wrong)?.to_owned(), bytes("header", Some(value))?))
            })
            .collect(),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| Ok((name.clone(), bytes("header", Some(value))?)))
            .collect(),
        Some(_) => Err(wrong.to_owned()),
    }
}

/// RFC 4648 base64 with padding.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = usize::try_from(word >> (18 - 6 * digit) & 63).unwrap_or(0);
            let character = if digit <= chunk.len() { ALPHABET[index] } else { b'=' };
            text.push(char::from(character));
        }
    }
    text
}

pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in digits.as_bytes().chunks(4) {
        let mut word = 0u32;
        for byte in chunk {
            let digit = ALPHABET.iter().position(|known| known == byte)?;
            word = word << 6 | u32::try_from(digit).ok()?;
        }
        word <<= 6 * (4 - chunk.len());
        let [_, all @ ..] = word.to_be_bytes();
        bytes.extend(all.get(..chunk.len() - 1)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_byte_for_byte() {
        for key in [None, Some(&b""[..]), Some(b"k\"\n"), Some(b"\xff\x00"), Some("ü".as_bytes())]
        {
            let record = ConsumedRecord {
                topic: "t".into(),
                partition: 3,
                offset: 9,
                leader_epoch: 0,
                timestamp: 12,
                key: key.map(bytes::Bytes::from_static),
                value: key.map(bytes::Bytes::from_static),
                headers: vec![
                    (bytes::Bytes::from_static(b"h"), None),
                    (bytes::Bytes::from_static(b"h"), key.map(bytes::Bytes::from_static)),
                ],
            };
            let back = decode(&encode(&record).to_string()).unwrap();
            assert_eq!(back.key.as_deref(), key);
            assert_eq!(back.value.as_deref(), key);
            assert_eq!(back.headers[0], ("h".to_owned(), None));
            assert_eq!(back.headers[1].1.as_deref(), key);
            assert_eq!((back.partition, back.timestamp), (Some(3), Some(12)));
        }
    }

    #[test]
    fn base64_is_rfc_4648s() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in vectors {
            assert_eq!(to_base64(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded).unwrap(), plain.as_bytes());
        }
        for wrong in ["Z", "Z===", "Zg=a", "Z!=="] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        assert!(decode("[1]").unwrap_err().contains("JSON object"));
        assert!(decode(r#"{"vale":"x"}"#).unwrap_err().contains("\"vale\""));
        assert!(decode(r#"{"partition":"x"}"#).unwrap_err().contains("partition"));
    }
}
