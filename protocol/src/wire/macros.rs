//! `wire!` declares messages, `apis!` the table of APIs.
//!
//! ```text
//! wire! {
//!     /// Sent by ...
//!     SomeRequest<'a> {                                         // <'a> if it holds strings
//!         /// The group.
//!         group_id: &'a str,
//!         rebalance_timeout_ms: i32 = -1,                       // a default other than zero
//!         subscribed_topic_regex: Option<&'a str> [1..],        // versions: a pattern
//!         topics: Option<Vec<i32>> [0.., null 2..],             // null only from version 2
//!         trace: Option<&'a str> [3.., tag 0],                  // a tagged field (KIP-482)
//!         unknown: TaggedFields [rest],                         // keeps the tags not declared
//!     }
//! }
//! ```
//!
//! Fields stand in wire order, tagged ones by ascending tag. A field outside the version is not
//! written and keeps its default when read; so does a tagged field that is absent, and one that has
//! its default is not written. `Option` is nullable: in every version, or in those said; in the
//! others null is refused when read and written as empty. Tags not declared are skipped, unless
//! there is a `[rest]` field: it keeps them and writes them back in order.

macro_rules! wire {
    ($( $(#[$meta:meta])* $name:ident $(<$life:lifetime>)? { $($fields:tt)* } )*) => { $(
        wire!(@with [$(#[$meta])*] $name [$($life)?] { $($fields)* });
    )* };
    (@with $meta:tt $name:ident [] $fields:tt) => {
        wire!(@emit $meta $name [] 'de $fields);
    };
    (@with $meta:tt $name:ident [$life:lifetime] $fields:tt) => {
        wire!(@emit $meta $name [<$life>] $life $fields);
    };
    (@emit [$($meta:tt)*] $name:ident [$($generics:tt)*] $life:lifetime {
        $(
            $(#[$field_meta:meta])*
            $field:ident : $type:ty $([$($when:tt)*])? $(= $default:expr)?
        ),* $(,)?
    }) => {
        $($meta)*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name $($generics)* { $( $(#[$field_meta])* pub $field: $type, )* }

        impl $($generics)* Default for $name $($generics)* {
            fn default() -> Self {
                Self { $( $field: wire!(@default $($default)?), )* }
            }
        }

        impl $($generics)* $crate::wire::Structure for $name $($generics)* {}

        impl<$life> $crate::wire::Decode<$life> for $name $($generics)* {
            #[allow(unused_variables, reason = "a struct may have no tagged fields")]
            fn decode(
                r: &mut $crate::wire::Reader<$life>,
            ) -> Result<Self, $crate::wire::DecodeError> {
                let mut message = Self::default();
                $( wire!(@read r, message.$field, [$($($when)*)?]); )*
                r.tagged(|tag, r| {
                    $( wire!(@read_tagged tag, r, message.$field, [$($($when)*)?]); )*
                    $( wire!(@keep_tagged tag, r, message.$field, [$($($when)*)?]); )*
                    Ok(false)
                })?;
                Ok(message)
            }
        }

        impl $($generics)* $crate::wire::Encode for $name $($generics)* {
            #[allow(unused_mut, unused_variables, reason = "a struct may have no tagged fields")]
            #[allow(unused_assignments, reason = "what is kept is set once, after its default")]
            fn encode<S: $crate::wire::Sink>(&self, w: &mut $crate::wire::Writer<'_, S>) {
                $( wire!(@write w, self.$field, [$($($when)*)?]); )*
                if w.is_flexible() {
                    let mut count = 0u32;
                    let absent = Self::default();
                    let mut kept = $crate::wire::KeptFields::default();
                    $( wire!(@count_tagged w, count, kept, self.$field, absent.$field,
                             [$($($when)*)?]); )*
                    w.varint(count);
                    $( wire!(@write_tagged w, kept, self.$field, absent.$field,
                             [$($($when)*)?]); )*
                    kept.write_rest(w);
                }
            }
        }

        #[cfg(any(test, feature = "arbitrary"))]
        impl $($generics)* $crate::wire::Arbitrary for $name $($generics)* {
            fn arbitrary(g: &mut $crate::wire::Generator) -> Self {
                let mut message = Self::default();
                g.nested(|g| {
                    $( wire!(@arbitrary g, message.$field, [$($($when)*)?]); )*
                });
                message
            }
        }
    };

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    (@read $r:ident, $place:expr, []) => { $place = $crate::wire::Decode::decode($r)?; };
    (@read $r:ident, $place:expr, [rest]) => {};
    (@read $r:ident, $place:expr, [$versions:pat, tag $tag:literal]) => {};
    (@read $r:ident, $place:expr, [$versions:pat, null $null:pat]) => {
        if matches!($r.version(), $null) {
            $place = $crate::wire::Decode::decode($r)?;
        } else if matches!($r.version(), $versions) {
            $place = Some($crate::wire::Decode::decode($r)?);
        }
    };
    (@read $r:ident, $place:expr, [$versions:pat]) => {
        if matches!($r.version(), $versions) {
            $place = $crate::wire::Decode::decode($r)?;
        }
    };

    (@read_tagged $seen:ident, $r:ident, $place:expr, [$versions:pat, tag $tag:literal]) => {
        if $seen == $tag && matches!($r.version(), $versions) {
            $place = $crate::wire::Decode::decode($r)?;
            return Ok(true);
        }
    };
    (@read_tagged $seen:ident, $r:ident, $place:expr, $when:tt) => {};

    (@keep_tagged $seen:ident, $r:ident, $place:expr, [rest]) => {
        $place.push($seen, $r.take_rest())?;
    };
    (@keep_tagged $seen:ident, $r:ident, $place:expr, $when:tt) => {};

    (@write $w:ident, $value:expr, []) => { $crate::wire::Encode::encode(&$value, $w); };
    (@write $w:ident, $value:expr, [rest]) => {};
    (@write $w:ident, $value:expr, [$versions:pat, tag $tag:literal]) => {};
    (@write $w:ident, $value:expr, [$versions:pat, null $null:pat]) => {
        if matches!($w.version(), $null) {
            $crate::wire::Encode::encode(&$value, $w);
        } else if matches!($w.version(), $versions) {
            $w.never_null(&$value);
        }
    };
    (@write $w:ident, $value:expr, [$versions:pat]) => {
        if matches!($w.version(), $versions) {
            $crate::wire::Encode::encode(&$value, $w);
        }
    };

    (@count_tagged $w:ident, $count:ident, $kept:ident, $value:expr, $absent:expr, [rest]) => {
        $kept = $crate::wire::KeptFields($value.as_slice());
        $count += u32::try_from($value.as_slice().len()).unwrap_or(u32::MAX);
    };
    (@count_tagged $w:ident, $count:ident, $kept:ident, $value:expr, $absent:expr,
     [$versions:pat, tag $tag:literal]) => {
        if matches!($w.version(), $versions) && $value != $absent {
            $count += 1;
        }
    };
    (@count_tagged $w:ident, $count:ident, $kept:ident, $value:expr, $absent:expr, $when:tt) => {};

    (@write_tagged $w:ident, $kept:ident, $value:expr, $absent:expr,
     [$versions:pat, tag $tag:literal]) => {
        if matches!($w.version(), $versions) && $value != $absent {
            $kept.write_below($tag, $w);
            $w.tagged($tag, &$value);
        }
    };
    (@write_tagged $w:ident, $kept:ident, $value:expr, $absent:expr, $when:tt) => {};

    (@arbitrary $g:ident, $place:expr, []) => { $place = $g.value(); };
    (@arbitrary $g:ident, $place:expr, [rest]) => {};
    (@arbitrary $g:ident, $place:expr, [$versions:pat, tag $tag:literal]) => {
        if $g.flexible && matches!($g.version, $versions) {
            $place = $g.value();
        }
    };
    (@arbitrary $g:ident, $place:expr, [$versions:pat, null $null:pat]) => {
        if matches!($g.version, $null) {
            $place = $g.value();
        } else if matches!($g.version, $versions) {
            $place = Some($g.value());
        }
    };
    (@arbitrary $g:ident, $place:expr, [$versions:pat]) => {
        if matches!($g.version, $versions) {
            $place = $g.value();
        }
    };
}

/// The table of APIs: key, name, versions, first flexible version, messages. Everything that must
/// agree about them is made from it. `[unserved]` marks those the code can encode and decode, for
/// clients of other brokers, but the broker does not answer yet. `[own]` marks those that are
/// Sawlog's own and no part of Kafka's protocol.
macro_rules! apis {
    (@served) => { true };
    (@served own) => { true };
    (@served unserved) => { false };
    (@own own) => { true };
    (@own $($other:ident)?) => { false };
    ($(
        $(#[$meta:meta])*
        $key:literal $name:ident $module:ident $first:literal ..= $last:literal
        $(advertised $advertised:literal)? $(flexible $flexible:literal)? $([$mark:ident])?
        : $request:ident $(<$request_life:lifetime>)? => $response:ident $(<$response_life:lifetime>)?;
    )*) => {
        /// An API of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey { $( $(#[$meta])* $name = $key, )* }

        impl ApiKey {
            /// Every API there are messages for, by key.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// The API with this key.
            #[must_use]
            pub const fn from_i16(key: i16) -> Option<Self> {
                match key { $( $key => Some(Self::$name), )* _ => None }
            }

            /// The key on the wire.
            #[must_use]
            pub const fn as_i16(self) -> i16 {
                match self { $( Self::$name => $key, )* }
            }

            /// Kafka's name of the API, or ours of one of our own.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )* }
            }

            /// The versions there are messages for.
            #[must_use]
            pub const fn versions(self) -> std::ops::RangeInclusive<i16> {
                match self { $( Self::$name => $first..=$last, )* }
            }

            /// Whether the broker answers it. One it does not answer is not advertised, and its
            /// requests are refused like those of unknown keys.
            #[must_use]
            pub const fn is_served(self) -> bool {
                match self { $( Self::$name => apis!(@served $($mark)?), )* }
            }

            /// Whether it is Sawlog's own. ApiVersions lists it for clients that call themselves
            /// [`OWN_CLIENT`](crate::OWN_CLIENT) alone, so that no other ever meets a key it does not
            /// know.
            #[must_use]
            pub const fn is_own(self) -> bool {
                match self { $( Self::$name => apis!(@own $($mark)?), )* }
            }

            /// The versions ApiVersions tells clients, if it is served.
            #[must_use]
            pub const fn advertised(self) -> std::ops::RangeInclusive<i16> {
                match self { $( Self::$name => {
                    let first = $first;
                    $( let first = { let _ = first; $advertised }; )?
                    first..=$last
                } )* }
            }

            /// Whether `version` has compact lengths and tagged fields (KIP-482).
            #[must_use]
            pub const fn is_flexible(self, version: i16) -> bool {
                match self { $( Self::$name => {
                    $( if version >= $flexible { return true; } )?
                    let _ = version;
                    false
                } )* }
            }
        }

        $(
            impl<'a> $crate::wire::Request<'a> for $module::$request $(<$request_life>)? {
                const KEY: ApiKey = ApiKey::$name;
                type Response<'r> = $module::$response $(<$response_life>)?;
            }
        )*

        /// Types that stand for the messages without their lifetimes, for tests that go over all.
        #[cfg(any(test, feature = "arbitrary"))]
        pub mod families {
            use super::{$($module,)*};
            use crate::wire::{ApiFamily, Family, Side};
            $(
                #[doc = concat!("The requests of ", stringify!($name), ".")]
                #[derive(Debug)]
                pub struct $request;

                impl Family for $request {
                    const NAME: &'static str = stringify!($request);
                    type Message<'a> = $module::$request $(<$request_life>)?;

                    fn versions() -> std::ops::RangeInclusive<i16> {
                        super::ApiKey::$name.versions()
                    }

                    fn is_flexible(version: i16) -> bool {
                        super::ApiKey::$name.is_flexible(version)
                    }
                }

                impl ApiFamily for $request {
                    const KEY: super::ApiKey = super::ApiKey::$name;
                    const SIDE: Side = Side::Request;
                }

                #[doc = concat!("The responses of ", stringify!($name), ".")]
                #[derive(Debug)]
                pub struct $response;

                impl Family for $response {
                    const NAME: &'static str = stringify!($response);
                    type Message<'r> = $module::$response $(<$response_life>)?;

                    fn versions() -> std::ops::RangeInclusive<i16> {
                        super::ApiKey::$name.versions()
                    }

                    fn is_flexible(version: i16) -> bool {
                        super::ApiKey::$name.is_flexible(version)
                    }
                }

                impl ApiFamily for $response {
                    const KEY: super::ApiKey = super::ApiKey::$name;
                    const SIDE: Side = Side::Response;
                }
            )*
        }

        /// Shows `visitor` the requests or responses of one API.
        #[cfg(any(test, feature = "arbitrary"))]
        pub fn visit_messages<V: $crate::wire::Visitor>(
            key: ApiKey,
            side: $crate::wire::Side,
            visitor: V,
        ) -> V::Output {
            match (key, side) {
                $(
                    (ApiKey::$name, $crate::wire::Side::Request) => {
                        visitor.visit::<families::$request>()
                    }
                    (ApiKey::$name, $crate::wire::Side::Response) => {
                        visitor.visit::<families::$response>()
                    }
                )*
            }
        }
    };
}

/// The structures of a module that have versions of their own: versions, first flexible one. Tests go
/// over the table.
macro_rules! versioned {
    ($( $structure:ident $(<$life:lifetime>)? $first:literal ..= $last:literal
        $(flexible $flexible:literal)?; )*) => {
        $(
            impl<'a> $crate::wire::Versioned<'a> for $structure $(<$life>)? {
                const VERSIONS: std::ops::RangeInclusive<i16> = $first..=$last;
                const FLEXIBLE: i16 = {
                    let flexible = i16::MAX;
                    $( let flexible = { let _ = flexible; $flexible }; )?
                    flexible
                };
            }
        )*

        /// Types that stand for the structures without their lifetimes, for tests that go over all.
        #[cfg(any(test, feature = "arbitrary"))]
        pub mod families {
            use crate::wire::{Family, Versioned as _};
            $(
                #[doc = concat!("Stands for ", stringify!($structure), ".")]
                #[derive(Debug)]
                pub struct $structure;

                impl Family for $structure {
                    const NAME: &'static str = stringify!($structure);
                    type Message<'a> = super::$structure $(<$life>)?;

                    fn versions() -> std::ops::RangeInclusive<i16> {
                        super::$structure::VERSIONS
                    }

                    fn is_flexible(version: i16) -> bool {
                        version >= super::$structure::FLEXIBLE
                    }
                }
            )*
        }

        /// How many structures there are.
        #[cfg(any(test, feature = "arbitrary"))]
        pub const STRUCTURES: usize = [$( stringify!($structure), )*].len();

        /// Shows `visitor` the structure with this place in the table; `None` beyond its end.
        #[cfg(any(test, feature = "arbitrary"))]
        pub fn visit_structure<V: $crate::wire::FamilyVisitor>(
            place: usize,
            visitor: V,
        ) -> Option<V::Output> {
            let mut next = 0;
            $(
                if place == next {
                    return Some(visitor.visit::<families::$structure>());
                }
                next += 1;
            )*
            let _ = next;
            None
        }
    };
}
