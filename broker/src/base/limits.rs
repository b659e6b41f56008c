//! Every bound of the broker, each with its reason.

/// Largest request frame by default (`socket.request.max.bytes`, Kafka's default): a client that
/// sends more is broken or hostile.
pub const REQUEST_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Largest frame of any API but Produce: decoded messages are up to 13 times their wire size.
pub const CONTROL_REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of requests held in memory at once, over all connections.
pub const REQUEST_MEMORY_BYTES: usize = 256 * 1024 * 1024;

/// Requests of one connection that may wait for an answer before the next is read.
pub const IN_FLIGHT_PER_CONNECTION_MAX: usize = 64;

/// Longest topic name (Kafka's limit: a directory name must hold it and a partition).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Partitions one topic may have; a directory and two file handles each.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;

/// Partitions one request may create, as in Kafka: they become one metadata entry.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// Partitions one fetch session may hold; a larger fetch is served without a session.
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 50_000;

/// Partitions all fetch sessions together hold, about 100 bytes each.
pub const FETCH_SESSION_PARTITIONS_TOTAL: usize = 500_000;

/// Output limit of one decompressed batch, where a producer sends it and where it is read again.
pub const BATCH_INFLATED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Records of one refused batch that the reply names one by one: enough to find the mistake.
pub const RECORD_ERRORS_MAX: usize = 100;

/// Events a group's timeline keeps, about 150 bytes each: a day of a group that is well.
pub const GROUP_TIMELINE_EVENTS_MAX: usize = 64;

/// Clients of one group that were given a member id and have not joined with it yet.
pub const GROUP_PENDING_MEMBERS_MAX: usize = 10_000;

/// Subscriptions and assignments of the members of all groups, which outlive their connections:
/// room for 400,000 ordinary members, or for 250 whose subscription takes a megabyte.
pub const GROUP_MEMBERS_BYTES_MAX: usize = 256 << 20;

/// Seconds that a client which was given a member id has to join with it, at the longest; clients do
/// at once.
pub const GROUP_PENDING_SECONDS_MAX: u64 = 60;

/// Bytes that are kept of what a client calls itself, and of why it joins or leaves a group (Java
/// clients cut that there, too): for people to read.
pub const CLIENT_TEXT_BYTES_MAX: usize = 255;

/// Members and partitions of a group of the consumer protocol up to which the broker assigns on the
/// thread of the request: about a millisecond. More is done on a thread of its own.
pub const GROUP_ASSIGN_AT_ONCE_MAX: usize = 1_000;

/// Different patterns for topics in one group: when topics change, each is looked up anew.
pub const GROUP_PATTERNS_MAX: usize = 64;

/// A regular expression for topics that a group subscribes to; real ones are a line.
pub const TOPIC_PATTERN_BYTES_MAX: usize = 4096;

/// Memory one such expression may take when compiled, and again when it matches.
pub const TOPIC_PATTERN_COMPILED_BYTES_MAX: usize = 1 << 20;

/// Groups and classes in one another in such an expression: compiling recurses.
pub const TOPIC_PATTERN_NESTING_MAX: u32 = 100;

/// A regular expression that tells clients; real ones are a word or two.
pub const CLIENT_PATTERN_BYTES_MAX: usize = 1024;

/// Memory one such expression may take when compiled, and again when it matches.
pub const CLIENT_PATTERN_COMPILED_BYTES_MAX: usize = 64 * 1024;

/// Subscriptions to metrics of clients: each is compared with every new client.
pub const CLIENT_SUBSCRIPTIONS_MAX: usize = 256;

/// Clients whose metrics are known at once (Kafka's number); those that have been silent for longest
/// make room.
pub const CLIENT_INSTANCES_MAX: usize = 16_384;

/// Bytes of metrics of all clients together, and so about the size of their page.
pub const CLIENT_METRICS_BYTES_MAX: usize = 32 << 20;

/// Values kept of one client: far above what its producer and consumer measure.
pub const CLIENT_SERIES_MAX: usize = 2_000;

/// Labels kept of one value.
pub const CLIENT_LABELS_MAX: usize = 24;

/// What one push may inflate to.
pub const CLIENT_PUSH_INFLATED_BYTES_MAX: usize = 8 << 20;

/// Connections to the HTTP listener at once: probes, a scraper or two, a person. Their descriptors come
/// out of what segments and clients leave.
pub const HTTP_CONNECTIONS_MAX: usize = 16;

/// Request line and headers of an HTTP request; browsers and proxies send a few KiB.
pub const HTTP_HEADER_BYTES_MAX: usize = 16 * 1024;

/// Pages of metrics in memory at once, each up to some megabytes.
pub const HTTP_PAGES_MAX: usize = 2;

const _: () = assert!(CONTROL_REQUEST_BYTES_MAX <= REQUEST_BYTES_MAX);
const _: () = assert!(REQUEST_BYTES_MAX <= REQUEST_MEMORY_BYTES);
const _: () = assert!(FETCH_SESSION_PARTITIONS_MAX <= FETCH_SESSION_PARTITIONS_TOTAL);
