//! One row of a property table: what a setting is called, what it may be, what it means.
//!
//! A row checks text and brings it into canonical form (`7d` becomes `604800000`), so that what is
//! stored and shown is what Kafka's tools parse. It knows nothing of where a value comes from.

use std::borrow::Cow;

use super::value::{parse_amount, parse_boolean};

/// The type of a property, as DescribeConfigs tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    String,
    /// A 32-bit integer.
    Int,
    /// A 64-bit integer.
    Long,
    /// A 64-bit floating-point number.
    Double,
    /// Comma-separated texts.
    List,
}

impl Kind {
    /// The type's number in DescribeConfigs.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }

    /// The type's name in documentation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
        }
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nothing, or things.
    None,
    /// Bytes; `10MiB` is accepted.
    Bytes,
    /// Milliseconds; `7d` is accepted.
    Milliseconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Read once at start.
    Static,
    /// Changed by AlterConfigs at any time.
    Dynamic,
}

/// The values a property takes.
#[derive(Clone, Copy, Debug)]
pub enum Valid {
    /// Anything of its type.
    Any,
    /// Numbers from the first to the second, both included.
    Range(i64, i64),
    /// These words.
    OneOf(&'static [&'static str]),
    /// These words now; the others exist in Kafka and are refused with the reason given.
    OneOfSoFar(&'static [&'static str], &'static [(&'static str, &'static str)]),
    /// What the function accepts; it returns the reason otherwise.
    Check(fn(&str) -> Result<(), String>),
}

/// A setting: one row of the topic or broker table.
#[derive(Clone, Debug)]
pub struct Property {
    /// Kafka's name for it.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// Its canonical value when nothing sets it; `None` reads as null.
    pub default: Option<Cow<'static, str>>,
    /// The values it takes.
    pub valid: Valid,
    /// Whether it can change while the broker runs.
    pub mode: Mode,
    /// Whether its value must never be shown.
    pub sensitive: bool,
    /// For topic properties: the broker properties it inherits from, the strongest first.
    pub broker: &'static [&'static str],
    /// What it does, one sentence or two.
    pub doc: Cow<'static, str>,
}

impl Property {
    /// Checks `text` and returns it in canonical form.
    ///
    /// # Errors
    /// What is expected instead, as the end of a sentence.
    pub fn canonical(&self, text: &str) -> Result<String, String> {
        let text = text.trim();
        match self.kind {
            Kind::Boolean => parse_boolean(text)
                .ok_or_else(|| "expected true or false".to_owned())
                .and_then(|value| self.check_word(if value { "true" } else { "false" })),
            Kind::String => self.check_word(text),
            Kind::Int | Kind::Long => self.check_number(text),
            Kind::Double => self.check_double(text),
            Kind::List => {
                let mut items: Vec<String> = Vec::new();
                for item in list_items(text) {
                    let item = self.check_word(item)?;
                    if !items.contains(&item) {
                        items.push(item);
                    }
                }
                match self.valid {
                    Valid::OneOf(words) | Valid::OneOfSoFar(words, _) if items.is_empty() => {
                        Err(format!("expected {}", words.join(" or ")))
                    }
                    _ => Ok(items.join(",")),
                }
            }
        }
    }

    fn check_number(&self, text: &str) -> Result<String, String> {
        let (least, most) = self.bounds();
        let number = parse_amount(text, self.unit)?;
        if number < least || number > most {
            return Err(format!("expected {} to {}", least, self.show_bound(most)));
        }
        let number = number.to_string();
        if let Valid::Check(check) = self.valid {
            check(&number)?;
        }
        Ok(number)
    }

    fn check_double(&self, text: &str) -> Result<String, String> {
        let (least, most) = match self.valid {
            Valid::Range(least, most) => (least, most),
            Valid::Any | Valid::OneOf(_) | Valid::OneOfSoFar(..) | Valid::Check(_) => {
                (i64::MIN, i64::MAX)
            }
        };
        // Bounds of doubles are small whole numbers.
        let bound = |bound| i32::try_from(bound).map_or(f64::INFINITY, f64::from);
        match text.parse::<f64>() {
            Ok(number) if number >= bound(least) && number <= bound(most) => Ok(number.to_string()),
            Ok(_) | Err(_) => Err(format!("expected a number from {least} to {most}")),
        }
    }

    /// The smallest and largest number allowed.
    #[must_use]
    pub fn bounds(&self) -> (i64, i64) {
        let (least, most) = match self.valid {
            Valid::Range(least, most) => (least, most),
            Valid::Any | Valid::OneOf(_) | Valid::OneOfSoFar(..) | Valid::Check(_) => {
                (i64::MIN, i64::MAX)
            }
        };
        match self.kind {
            Kind::Int => (least.max(i32::MIN.into()), most.min(i32::MAX.into())),
            Kind::Boolean | Kind::String | Kind::Long | Kind::Double | Kind::List => (least, most),
        }
    }

    fn show_bound(&self, bound: i64) -> String {
        if self.unit == Unit::Bytes && bound == i64::from(i32::MAX) {
            format!("{bound} (2 GiB)")
        } else {
            bound.to_string()
        }
    }

    fn check_word(&self, word: &str) -> Result<String, String> {
        match self.valid {
            Valid::Any | Valid::Range(..) => Ok(word.to_owned()),
            Valid::Check(check) => check(word).map(|()| word.to_owned()),
            Valid::OneOf(words) => {
                pick(word, words).ok_or_else(|| format!("expected {}", words.join(" or ")))
            }
            Valid::OneOfSoFar(words, later) => pick(word, words).ok_or_else(|| {
                match later.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
                    Some((_, reason)) => {
                        format!("{reason}; only {} is accepted", words.join(" or "))
                    }
                    None => format!("expected {}", words.join(" or ")),
                }
            }),
        }
    }

    /// The values allowed, for documentation.
    #[must_use]
    pub fn valid_text(&self) -> String {
        match self.valid {
            Valid::OneOf(words) | Valid::OneOfSoFar(words, _) => words.join(", "),
            Valid::Check(_) => String::new(),
            Valid::Any => match self.kind {
                Kind::Boolean => "true, false".to_owned(),
                Kind::String | Kind::Int | Kind::Long | Kind::Double | Kind::List => String::new(),
            },
            Valid::Range(..) => {
                let (least, most) = self.bounds();
                if most == i64::MAX || most == i64::from(i32::MAX) {
                    format!("{least} or more")
                } else {
                    format!("{least} to {most}")
                }
            }
        }
    }
}

/// The items of a comma-separated list, trimmed, empty ones dropped.
pub(crate) fn list_items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn pick(word: &str, words: &[&str]) -> Option<String> {
    words.iter().find(|known| known.eq_ignore_ascii_case(word)).map(|known| (*known).to_owned())
}

/// Declares a struct of typed settings and the table of their properties, one row each:
///
/// ```text
/// "kafka.name" => field: Type, Kind Unit, default "text", valid, Mode, broker ["inherits.from"],
///     "What it does.";
/// ```
macro_rules! properties {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $( $(#[$extra_meta:meta])* $extra_vis:vis $extra:ident: $extra_type:ty, )* }
        $(#[$table_meta:meta])*
        static $table:ident;
        $(
            $key:literal => $field:ident: $type:ty, $kind:ident $unit:ident, default $default:expr,
            $valid:expr, $mode:ident, broker [$($broker:literal),*], $doc:literal;
        )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( #[doc = concat!("`", $key, "`: ", $doc)] pub $field: $type, )*
            $( $(#[$extra_meta])* $extra_vis $extra: $extra_type, )*
        }

        $(#[$table_meta])*
        static $table: &[$crate::config::property::Property] = &[
            $( $crate::config::property::Property {
                name: $key,
                kind: $crate::config::property::Kind::$kind,
                unit: $crate::config::property::Unit::$unit,
                default: Some(std::borrow::Cow::Borrowed($default)),
                valid: $valid,
                mode: $crate::config::property::Mode::$mode,
                sensitive: false,
                broker: &[$($broker),*],
                doc: std::borrow::Cow::Borrowed($doc),
            }, )*
        ];

        impl $name {
            /// Reads every field from its canonical text; what does not parse takes the default.
            fn read(value: &dyn Fn(&'static str) -> Option<String>, $($extra: $extra_type),*) -> Self {
                Self {
                    $( $field: value($key)
                        .as_deref()
                        .and_then(<$type as $crate::config::value::FromText>::from_text)
                        .or_else(|| <$type as $crate::config::value::FromText>::from_text($default))
                        .expect(concat!("the table's default of ", $key, " parses (tested)")), )*
                    $($extra,)*
                }
            }
        }
    };
}
pub(crate) use properties;
