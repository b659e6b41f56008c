//! What is compared: a broker and how it syncs.

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sawlog,
    Kafka,
}

/// One column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// `flush.mode` of every topic; none leaves the broker's default.
    pub(crate) flush_mode: Option<&'static str>,
}

/// Kafka is last: the others are divided by it.
pub(crate) const VARIANTS: [Variant; 3] = [
    Variant { name: "Sawlog flush.mode=group", kind: Kind::Sawlog, flush_mode: Some("group") },
    Variant { name: "Sawlog flush.mode=os", kind: Kind::Sawlog, flush_mode: Some("os") },
    Variant { name: "Apache Kafka", kind: Kind::Kafka, flush_mode: None },
];
