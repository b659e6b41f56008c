//! How a line becomes a record by verbs: `produce -f '%k %v\n'`, the other way around from
//! [`crate::format`].
//!
//! `%k` key, `%v` or `%s` value, `%p` partition, `%T` or `%d` timestamp in milliseconds, `%h` headers
//! as `name=value` separated by commas, `%t` and `%o` read and left alone; `%k{hex}`, `%v{base64}`. What
//! stands between two verbs ends the first, so there must be something; the last goes on to the end of
//! the line. What stands first and last must be there.

use sawlog_client::Record;

use crate::format::{braces, escape};
use crate::jsonl;

/// What a part of a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Key(Coding),
    Value(Coding),
    Partition,
    Timestamp,
    Headers,
    /// Read and left alone.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Raw,
    Hex,
    Base64,
}

/// How a line is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Before the first part.
    start: Vec<u8>,
    /// Each part, its name, and what ends it: nothing, for the last, if that is the end of the line.
    parts: Vec<(Field, char, Vec<u8>)>,
}

impl Pattern {
    /// Parses what follows `-f`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut start, mut parts) = (Vec::new(), Vec::<(Field, char, Vec<u8>)>::new());
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            let literal = match character {
                '%' if rest.as_str().starts_with('%') => rest.next().map(|_| vec![b'%']),
                '%' => {
                    let (field, name) = verb(&mut rest)?;
                    if let Some((_, before, end)) =
                        parts.last().filter(|(_, _, end)| end.is_empty())
                    {
                        debug_assert!(end.is_empty(), "nothing ends it");
                        return Err(format!("nothing stands between %{before} and %{name}"));
                    }
                    parts.push((field, name, Vec::new()));
                    None
                }
                '\\' => Some(escape(&mut rest)?),
                other => Some(other.encode_utf8(&mut [0; 4]).as_bytes().to_vec()),
            };
            let literal = literal.unwrap_or_default();
            match parts.last_mut() {
                Some((_, _, end)) => end.extend(literal),
                None => start.extend(literal),
            }
        }
        let Some((_, _, end)) = parts.last_mut() else {
            return Err("a format has a verb such as %v".to_owned());
        };
        // The end of the line, which is where a record ends anyway.
        if end.last() == Some(&b'\n') {
            end.pop();
        }
        let all = parts.iter().map(|(_, _, end)| end).chain([&start]);
        if all.into_iter().any(|literal| literal.contains(&b'\n')) {
            return Err("a record is one line: \\n is the end of a format".to_owned());
        }
        Ok(Self { start, parts })
    }

    /// Reads a line into a record.
    pub(crate) fn read(&self, line: &[u8], record: &mut Record) -> Result<(), String> {
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut rest = line
            .strip_prefix(self.start.as_slice())
            .ok_or_else(|| format!("it does not begin with \"{}\"", told(&self.start)))?;
        let last = self.parts.len().saturating_sub(1);
        for (at, (field, name, end)) in self.parts.iter().enumerate() {
            let (part, after) = if at == last {
                (rest.strip_suffix(end.as_slice()), [].as_slice())
            } else {
                let found = rest.windows(end.len()).position(|window| window == end.as_slice());
                let split =
                    found.and_then(|at| Some((rest.get(..at)?, rest.get(at + end.len()..)?)));
                split.map_or((None, rest), |(part, after)| (Some(part), after))
            };
            let part = part.ok_or_else(|| format!("no \"{}\" behind %{name}", told(end)))?;
            set(*field, part, record).map_err(|why| format!("\"{}\" {why}", told(part)))?;
            rest = after;
        }
        Ok(())
    }
}

fn verb(rest: &mut std::str::Chars<'_>) -> Result<(Field, char), String> {
    let name = rest.next().ok_or("\"%\" at the end is no verb: a percent sign is %%")?;
    let argument = braces(rest)?;
    let coding = match argument.as_deref() {
        None => Some(Coding::Raw),
        Some("hex") => Some(Coding::Hex),
        Some("base64") => Some(Coding::Base64),
        Some(_) => None,
    };
    let field = match (name, coding) {
        ('k', Some(coding)) => Field::Key(coding),
        ('v' | 's', Some(coding)) => Field::Value(coding),
        ('p', Some(Coding::Raw)) => Field::Partition,
        ('T' | 'd', Some(Coding::Raw)) => Field::Timestamp,
        ('h', Some(Coding::Raw)) => Field::Headers,
        ('t' | 'o', Some(Coding::Raw)) => Field::Other,
        _ => {
            let argument = argument.map_or(String::new(), |text| format!("{{{text}}}"));
            return Err(format!(
                "\"%{name}{argument}\" is no verb of input: expected %k %v %p %T %h %t %o, with {{hex}} \
                 or {{base64}} behind %k and %v, or %%"
            ));
        }
    };
    Ok((field, name))
}

fn set(field: Field, part: &[u8], record: &mut Record) -> Result<(), &'static str> {
    let number = || std::str::from_utf8(part).ok().and_then(|text| text.parse::<i64>().ok());
    match field {
        Field::Key(coding) => record.key = Some(decoded(part, coding)?),
        Field::Value(coding) => record.value = Some(decoded(part, coding)?),
        Field::Partition => {
            let index = number().and_then(|index| i32::try_from(index).ok());
            record.partition = Some(index.ok_or("is no partition")?);
        }
        Field::Timestamp => record.timestamp = Some(number().ok_or("is no timestamp")?),
        Field::Headers => {
            for one in part.split(|byte| *byte == b',').filter(|one| !one.is_empty()) {
                let at = one.iter().position(|byte| *byte == b'=').ok_or("has no name=value")?;
                let (name, value) = (one.get(..at), one.get(at + 1..));
                let name = name.and_then(|name| std::str::from_utf8(name).ok());
                let name = name.ok_or("has a name that is not UTF-8")?.to_owned();
                // As `consume` prints a header without a value.
                let value = value.filter(|value| *value != b"NULL").map(<[u8]>::to_vec);
                record.headers.push((name, value));
            }
        }
        Field::Other => {}
    }
    Ok(())
}

fn decoded(part: &[u8], coding: Coding) -> Result<Vec<u8>, &'static str> {
    let text = std::str::from_utf8(part);
    match coding {
        Coding::Raw => Ok(part.to_vec()),
        Coding::Base64 => text.ok().and_then(jsonl::from_base64).ok_or("is no base64"),
        Coding::Hex => {
            let digit =
                |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let pair = |pair: &[u8]| match pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            };
            part.chunks(2).map(pair).collect::<Option<Vec<u8>>>().ok_or("is no hex")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: &str, line: &str) -> Result<Record, String> {
        let mut record = Record::default();
        Pattern::parse(pattern)?.read(line.as_bytes(), &mut record)?;
        Ok(record)
    }

    #[test]
    fn lines_become_records_by_verbs() {
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        let record = read("%k %v\\n", "a b c").expect("as the pattern says");
        assert_eq!((record.key, record.value), (bytes("a"), bytes("b c")));
        let record = read("%t[%p]@%T %h|%k{hex}=%v{base64};", "x[3]@77 a=1,b=NULL|6162=aGk=;");
        let record = record.expect("as the pattern says");
        assert_eq!((record.key, record.value), (bytes("ab"), bytes("hi")));
        assert_eq!((record.partition, record.timestamp), (Some(3), Some(77)));
        assert_eq!(record.headers, [("a".to_owned(), bytes("1")), ("b".to_owned(), None)]);
        assert_eq!(read("100%%: %v", "100%: ").expect("an empty value").value, bytes(""));
    }

    #[test]
    fn what_is_wrong_with_a_pattern_or_a_line_is_said() {
        let why = |pattern, line| read(pattern, line).expect_err("wrong");
        assert_eq!(why("%k%v", ""), "nothing stands between %k and %v");
        assert_eq!(why("no verb", ""), "a format has a verb such as %v");
        assert!(why("%q", "").contains("\"%q\" is no verb"));
        assert!(why("%p{hex}", "").contains("%p{hex}"));
        assert!(why("%k\\n%v", "").contains("one line"));
        assert_eq!(why("%k:%v", "ab"), "no \":\" behind %k");
        assert_eq!(why("<%v>", "<a"), "no \">\" behind %v");
        assert_eq!(why("<%v>", "a>"), "it does not begin with \"<\"");
        assert_eq!(why("%p %v", "x y"), "\"x\" is no partition");
        assert_eq!(why("%v{hex}", "abc"), "\"abc\" is no hex");
    }
}
