//! Hash maps that are walked through.
//!
//! The order in which a map of the standard library is walked differs from process to process. In
//! the simulator, where a seed is to mean the same for ever, it must not.

/// How keys are hashed.
#[cfg(not(any(test, feature = "sim")))]
pub type Hashing = std::hash::RandomState;

/// How keys are hashed: in the same way always.
#[cfg(any(test, feature = "sim"))]
pub type Hashing = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// A hash map.
pub type HashMap<K, V> = std::collections::HashMap<K, V, Hashing>;
