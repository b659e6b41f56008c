//! `wire!` declares messages, `apis!` the table of APIs.
//!
//! ```text
//! wire! {
//!     /// Sent by ...
//!     SomeRequest<'a> {
//!         /// The group.
//!         group_id: &'a str,
//!         rebalance_timeout_ms: i32 = -1,                       // a default other than zero
//!         subscribed_topic_regex: Option<&'a str> [1..],         // versions: a pattern
//!         trace: Option<&'a str> [3.., tag 0],                   // a tagged field (KIP-482)
//!     }
//! }
//! ```
//!
//! Fields stand in wire order, tagged ones by ascending tag. A field outside the version is not
//! written and keeps its default when read; so does a tagged field that is absent, and one that has
//! its default is not written.

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
            $field:ident : $type:ty $([$versions:pat $(, tag $tag:literal)?])? $(= $default:expr)?
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
                $( wire!(@read r, message.$field, $($versions $(, tag $tag)?)?); )*
                r.tagged(|tag, r| {
                    $( wire!(@read_tagged tag, r, message.$field, $($versions $(, tag $tag)?)?); )*
                    Ok(false)
                })?;
                Ok(message)
            }
        }

        impl $($generics)* $crate::wire::Encode for $name $($generics)* {
            #[allow(unused_mut, unused_variables, reason = "a struct may have no tagged fields")]
            fn encode<S: $crate::wire::Sink>(&self, w: &mut $crate::wire::Writer<'_, S>) {
                $( wire!(@write w, self.$field, $($versions $(, tag $tag)?)?); )*
                if w.is_flexible() {
                    let mut count = 0u32;
                    let absent = Self::default();
                    $( wire!(@count_tagged w, count, self.$field, absent.$field,
                             $($versions $(, tag $tag)?)?); )*
                    w.varint(count);
                    $( wire!(@write_tagged w, self.$field, absent.$field,
                             $($versions $(, tag $tag)?)?); )*
                }
            }
        }

        #[cfg(any(test, feature = "arbitrary"))]
        impl $($generics)* $crate::wire::Arbitrary for $name $($generics)* {
            fn arbitrary(g: &mut $crate::wire::Generator) -> Self {
                let mut message = Self::default();
                g.nested(|g| {
                    $( wire!(@arbitrary g, message.$field, $($versions $(, tag $tag)?)?); )*
                });
                message
            }
        }
    };

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    (@read $r:ident, $place:expr, ) => { $place = $crate::wire::Decode::decode($r)?; };
    (@read $r:ident, $place:expr, $versions:pat, tag $tag:literal) => {};
    (@read $r:ident, $place:expr, $versions:pat) => {
        if matches!($r.version(), $versions) {
            $place = $crate::wire::Decode::decode($r)?;
        }
    };

    (@read_tagged $seen:ident, $r:ident, $place:expr, ) => {};
    (@read_tagged $seen:ident, $r:ident, $place:expr, $versions:pat) => {};
    (@read_tagged $seen:ident, $r:ident, $place:expr, $versions:pat, tag $tag:literal) => {
        if $seen == $tag && matches!($r.version(), $versions) {
            $place = $crate::wire::Decode::decode($r)?;
            return Ok(true);
        }
    };

    (@write $w:ident, $value:expr, ) => { $crate::wire::Encode::encode(&$value, $w); };
    (@write $w:ident, $value:expr, $versions:pat, tag $tag:literal) => {};
    (@write $w:ident, $value:expr, $versions:pat) => {
        if matches!($w.version(), $versions) {
            $crate::wire::Encode::encode(&$value, $w);
        }
    };

    (@count_tagged $w:ident, $count:ident, $value:expr, $absent:expr, ) => {};
    (@count_tagged $w:ident, $count:ident, $value:expr, $absent:expr, $versions:pat) => {};
    (@count_tagged $w:ident, $count:ident, $value:expr, $absent:expr,
     $versions:pat, tag $tag:literal) => {
        if matches!($w.version(), $versions) && $value != $absent {
            $count += 1;
        }
    };

    (@write_tagged $w:ident, $value:expr, $absent:expr, ) => {};
    (@write_tagged $w:ident, $value:expr, $absent:expr, $versions:pat) => {};
    (@write_tagged $w:ident, $value:expr, $absent:expr, $versions:pat, tag $tag:literal) => {
        if matches!($w.version(), $versions) && $value != $absent {
            $w.tagged($tag, &$value);
        }
    };

    (@arbitrary $g:ident, $place:expr, ) => { $place = $g.value(); };
    (@arbitrary $g:ident, $place:expr, $versions:pat, tag $tag:literal) => {
        if $g.flexible && matches!($g.version, $versions) {
            $place = $g.value();
        }
    };
    (@arbitrary $g:ident, $place:expr, $versions:pat) => {
        if matches!($g.version, $versions) {
            $place = $g.value();
        }
    };
}

/// The table of APIs: key, name, versions, first flexible version, messages. Everything that must
/// agree about them is made from it.
macro_rules! apis {
    ($(
        $(#[$meta:meta])*
        $key:literal $name:ident $module:ident $first:literal ..= $last:literal
        $(advertised $advertised:literal)? $(flexible $flexible:literal)?
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

            /// Kafka's name of the API.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )* }
            }

            /// The versions there are messages for.
            #[must_use]
            pub const fn versions(self) -> std::ops::RangeInclusive<i16> {
                match self { $( Self::$name => $first..=$last, )* }
            }

            /// The versions ApiVersions tells clients.
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

        /// Shows `visitor` every API's request and response type, for tests that go over all
        /// messages.
        #[cfg(any(test, feature = "arbitrary"))]
        pub fn visit_messages(visitor: &mut impl $crate::wire::Visitor) {
            $( visitor.visit::<$module::$request, $module::$response>(ApiKey::$name); )*
        }
    };
}
