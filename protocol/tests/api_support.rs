//! `docs/api-support.md` says what the table of APIs says.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use sawlog_protocol::ApiKey;

/// Key, name, first and last version a broker of Kafka 4.3 advertises, and what to know about it.
type Row = (i16, &'static str, Option<(i16, i16)>, &'static str);

/// Every API of Kafka.
#[rustfmt::skip]
const KAFKA: &[Row] = &[
    (0, "Produce", Some((0, 13)), "0 to 2 are advertised, for librdkafka before 2.11.1, and refused"),
    (1, "Fetch", Some((4, 18)), "message formats v0 and v1 are never sent"),
    (2, "ListOffsets", Some((1, 11)), "no tiered storage: -4 means -2, and -5 and -6 find nothing"),
    (3, "Metadata", Some((0, 13)), ""),
    (4, "LeaderAndIsr", None, "removed in Kafka 4.0"),
    (5, "StopReplica", None, "removed in Kafka 4.0"),
    (6, "UpdateMetadata", None, "removed in Kafka 4.0"),
    (7, "ControlledShutdown", None, "removed in Kafka 4.0"),
    (8, "OffsetCommit", Some((2, 10)), ""),
    (9, "OffsetFetch", Some((1, 10)), ""),
    (10, "FindCoordinator", Some((0, 6)), "transactions: COORDINATOR_NOT_AVAILABLE, they are not served yet"),
    (11, "JoinGroup", Some((0, 9)), ""),
    (12, "Heartbeat", Some((0, 4)), ""),
    (13, "LeaveGroup", Some((0, 5)), ""),
    (14, "SyncGroup", Some((0, 5)), ""),
    (15, "DescribeGroups", Some((0, 6)), ""),
    (16, "ListGroups", Some((0, 5)), ""),
    (17, "SaslHandshake", Some((0, 1)), ""),
    (18, "ApiVersions", Some((0, 4)), "unknown versions are answered in version 0 (KIP-511)"),
    (19, "CreateTopics", Some((2, 7)), ""),
    (20, "DeleteTopics", Some((1, 6)), ""),
    (21, "DeleteRecords", Some((0, 2)), ""),
    (22, "InitProducerId", Some((0, 5)), "idempotent producers; transactional ids are refused. 6, two-phase commit, is not stable in Kafka"),
    (23, "OffsetForLeaderEpoch", Some((2, 4)), ""),
    (24, "AddPartitionsToTxn", Some((0, 5)), ""),
    (25, "AddOffsetsToTxn", Some((0, 4)), ""),
    (26, "EndTxn", Some((0, 5)), ""),
    (27, "WriteTxnMarkers", Some((1, 2)), "between brokers and controllers"),
    (28, "TxnOffsetCommit", Some((0, 5)), ""),
    (29, "DescribeAcls", Some((1, 3)), ""),
    (30, "CreateAcls", Some((1, 3)), ""),
    (31, "DeleteAcls", Some((1, 3)), ""),
    (32, "DescribeConfigs", Some((1, 4)), ""),
    (33, "AlterConfigs", Some((0, 2)), ""),
    (34, "AlterReplicaLogDirs", Some((1, 2)), ""),
    (35, "DescribeLogDirs", Some((1, 5)), ""),
    (36, "SaslAuthenticate", Some((0, 2)), ""),
    (37, "CreatePartitions", Some((0, 3)), ""),
    (38, "CreateDelegationToken", Some((1, 3)), ""),
    (39, "RenewDelegationToken", Some((1, 2)), ""),
    (40, "ExpireDelegationToken", Some((1, 2)), ""),
    (41, "DescribeDelegationToken", Some((1, 3)), ""),
    (42, "DeleteGroups", Some((0, 2)), ""),
    (43, "ElectLeaders", Some((0, 2)), ""),
    (44, "IncrementalAlterConfigs", Some((0, 1)), ""),
    (45, "AlterPartitionReassignments", Some((0, 1)), ""),
    (46, "ListPartitionReassignments", Some((0, 0)), ""),
    (47, "OffsetDelete", Some((0, 0)), ""),
    (48, "DescribeClientQuotas", Some((0, 1)), ""),
    (49, "AlterClientQuotas", Some((0, 1)), ""),
    (50, "DescribeUserScramCredentials", Some((0, 0)), ""),
    (51, "AlterUserScramCredentials", Some((0, 0)), ""),
    (52, "Vote", Some((0, 2)), "between brokers and controllers"),
    (53, "BeginQuorumEpoch", Some((0, 1)), "between brokers and controllers"),
    (54, "EndQuorumEpoch", Some((0, 1)), "between brokers and controllers"),
    (55, "DescribeQuorum", Some((0, 2)), ""),
    (56, "AlterPartition", Some((2, 3)), "between brokers and controllers"),
    (57, "UpdateFeatures", Some((0, 2)), ""),
    (58, "Envelope", Some((0, 0)), "between brokers and controllers"),
    (59, "FetchSnapshot", Some((0, 1)), "between brokers and controllers"),
    (60, "DescribeCluster", Some((0, 2)), ""),
    (61, "DescribeProducers", Some((0, 0)), ""),
    (62, "BrokerRegistration", Some((0, 4)), "between brokers and controllers"),
    (63, "BrokerHeartbeat", Some((0, 2)), "between brokers and controllers"),
    (64, "UnregisterBroker", Some((0, 0)), ""),
    (65, "DescribeTransactions", Some((0, 0)), ""),
    (66, "ListTransactions", Some((0, 2)), ""),
    (67, "AllocateProducerIds", Some((0, 0)), "between brokers and controllers"),
    (68, "ConsumerGroupHeartbeat", Some((0, 1)), ""),
    (69, "ConsumerGroupDescribe", Some((0, 1)), ""),
    (70, "ControllerRegistration", Some((0, 0)), "between brokers and controllers"),
    (71, "GetTelemetrySubscriptions", Some((0, 0)), "Kafka advertises it with a metrics plugin only. All metrics are asked for by an empty beginning, counts as a whole"),
    (72, "PushTelemetry", Some((0, 0)), "Kafka advertises it with a metrics plugin only"),
    (73, "AssignReplicasToDirs", Some((0, 0)), "between brokers and controllers"),
    (74, "ListConfigResources", Some((0, 1)), ""),
    (75, "DescribeTopicPartitions", Some((0, 0)), ""),
    (76, "ShareGroupHeartbeat", Some((1, 1)), ""),
    (77, "ShareGroupDescribe", Some((1, 1)), ""),
    (78, "ShareFetch", Some((1, 2)), ""),
    (79, "ShareAcknowledge", Some((1, 2)), ""),
    (80, "AddRaftVoter", Some((0, 1)), "brokers vote by themselves up to metadata.voters; this is for one more"),
    (81, "RemoveRaftVoter", Some((0, 0)), "one that runs and would be made a voter again at once is refused"),
    (82, "UpdateRaftVoter", Some((0, 0)), "between brokers and controllers"),
    (83, "InitializeShareGroupState", Some((0, 0)), "between brokers and controllers"),
    (84, "ReadShareGroupState", Some((0, 0)), "between brokers and controllers"),
    (85, "WriteShareGroupState", Some((0, 1)), "between brokers and controllers"),
    (86, "DeleteShareGroupState", Some((0, 0)), "between brokers and controllers"),
    (87, "ReadShareGroupStateSummary", Some((0, 1)), "between brokers and controllers"),
    (88, "StreamsGroupHeartbeat", Some((0, 0)), ""),
    (89, "StreamsGroupDescribe", Some((0, 0)), ""),
    (90, "DescribeShareGroupOffsets", Some((0, 1)), ""),
    (91, "AlterShareGroupOffsets", Some((0, 0)), ""),
    (92, "DeleteShareGroupOffsets", Some((0, 0)), ""),
];

const HEAD: &str = "\
<!-- Generated from protocol/src/api.rs. Do not edit: UPDATE_DOCS=1 cargo test -p sawlog-protocol --test api_support -->
# API support

Which requests of the Apache Kafka protocol this broker answers, in which versions. A client picks
the highest version both sides know; the range it is told comes from the same table as this page.
*Flexible* is the first version with compact lengths and tagged fields (KIP-482).

A dash means that the API is not served: it is not advertised, and a request of it closes the
connection, as Kafka does with requests it does not know.

";

const OWN: &str = "
## Sawlog's own

No part of Kafka's protocol. ApiVersions lists these APIs for clients alone that call themselves
`sawlog-client` there (version 3 or later); whoever sends such a request is answered.

| key | API | versions | what it tells | layout |
|---:|---|---|---|---|
";

/// Name, what it does, and the page that says what its bytes are.
const OWN_APIS: &[(&str, &str, &str)] = &[(
    "GroupTimeline",
    "what happened to a group lately: who came, who went and why",
    "formats/group-timeline.md",
)];

fn text_of(versions: &RangeInclusive<i16>) -> String {
    match versions.start() == versions.end() {
        true => versions.start().to_string(),
        false => format!("{}-{}", versions.start(), versions.end()),
    }
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    let apis = KAFKA.iter().filter(|row| row.2.is_some()).count();
    let served = ApiKey::ALL.iter().filter(|key| key.is_served() && !key.is_own()).count();
    writeln!(page, "Served: {served} of the {apis} APIs of Kafka 4.3.\n").unwrap();
    page.push_str("| key | API | versions | flexible | Kafka 4.3 | note |\n");
    page.push_str("|---:|---|---|---|---|---|\n");
    for (key, name, kafka, note) in KAFKA {
        let (versions, flexible) = match ApiKey::from_i16(*key).filter(|key| key.is_served()) {
            None => ("-".to_owned(), String::new()),
            Some(api) => {
                let flexible = api.versions().find(|version| api.is_flexible(*version));
                (text_of(&api.versions()), flexible.map(|v| v.to_string()).unwrap_or_default())
            }
        };
        let kafka = kafka.map_or("-".to_owned(), |(first, last)| text_of(&(first..=last)));
        let line = format!("| {key} | {name} | {versions} | {flexible} | {kafka} | {note} |");
        writeln!(page, "{}", line.replace("|  |", "| |").replace("|  |", "| |")).unwrap();
    }
    page.push_str(OWN);
    for api in ApiKey::ALL.iter().filter(|api| api.is_own()) {
        let (key, name, versions) = (api.as_i16(), api.name(), text_of(&api.versions()));
        let (_, does, bytes) = OWN_APIS.iter().find(|own| own.0 == name).unwrap();
        writeln!(page, "| {key} | {name} | {versions} | {does} | [bytes]({bytes}) |").unwrap();
    }
    page
}

#[test]
fn api_support_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api-support.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == page, "docs/api-support.md is stale: run the test with UPDATE_DOCS=1");
}

#[test]
fn names_and_ranges_are_those_of_kafka() {
    for api in ApiKey::ALL.iter().filter(|api| !api.is_own()) {
        let row = KAFKA.iter().find(|row| row.0 == api.as_i16()).unwrap();
        assert_eq!(row.1, api.name());
        let (first, last) = row.2.unwrap();
        assert_eq!(api.advertised(), first..=last, "{}", api.name());
    }
}
