//! Facts about what brokers say to the controller and hear from it.

use proptest::prelude::*;
use sawlog_protocol::Uuid;

use super::super::error::{AdminError, AdminErrorKind};
use super::super::replicas::{Elected, Election};
use super::super::request::{
    AlterRequest, CreatedTopic, ElectedLeader, FeatureUpdate, Reassignment, Response, Standing,
    UpgradeType,
};
use super::*;
use crate::base::{BrokerEpoch, LeaderEpoch};
use crate::config::{Endpoint, Overrides};
use crate::metadata::{AlterAnswer, AlterPartition, AlterRefusal, InSyncReplica, ReplicaReport};
use crate::quorum::{QuorumReplica, QuorumStatus, VoterChange};

fn endpoint() -> Endpoint {
    Endpoint { name: "PLAINTEXT".to_owned(), host: "h".to_owned(), port: 9093 }
}

fn start() -> BrokerStart {
    BrokerStart {
        registration: Registration {
            id: BrokerId(3),
            incarnation: Uuid([1; 16]),
            storage_ids: vec![Uuid([2; 16]), Uuid([3; 16])],
            listeners: vec![endpoint()],
            peer: Some(endpoint()),
            rack: Some("r".to_owned()),
        },
        was_clean: true,
        damaged: vec![(Uuid([4; 16]), 5)],
        gives_up_missing: true,
        has_session: false,
    }
}

fn requests() -> Vec<Request> {
    let topic = CreateTopic {
        name: "t".to_owned(),
        partitions: Some(3),
        replication_factor: Some(-1),
        assignments: vec![(0, vec![BrokerId(1), BrokerId(2)])],
        configs: vec![("a".to_owned(), Some("b".to_owned())), ("c".to_owned(), None)],
        is_internal: true,
    };
    let change =
        |operation| ConfigChange { name: "n".to_owned(), operation, value: Some("v".to_owned()) };
    let operations = [
        ConfigOperation::Set,
        ConfigOperation::Delete,
        ConfigOperation::Append,
        ConfigOperation::Subtract,
    ];
    let incremental = Alteration::Incremental(operations.map(change).to_vec());
    let replace = Alteration::Replace(vec![("x".to_owned(), None)]);
    let targets = [
        (ConfigTarget::Topic("t".to_owned()), incremental),
        (ConfigTarget::Broker(BrokerId(1)), replace.clone()),
        (ConfigTarget::Cluster, replace.clone()),
        (ConfigTarget::Group("g".to_owned()), replace.clone()),
        (ConfigTarget::ClientMetrics("m".to_owned()), replace),
    ];
    let question = AlterPartition {
        number: u64::MAX,
        leader: BrokerId(1),
        broker_epoch: BrokerEpoch(7),
        leader_epoch: LeaderEpoch(8),
        partition_epoch: 9,
        in_sync: vec![InSyncReplica { broker: BrokerId(1), epoch: BrokerEpoch(-1) }],
    };
    let levels = [UpgradeType::Upgrade, UpgradeType::SafeDowngrade, UpgradeType::UnsafeDowngrade]
        .map(|upgrade| FeatureUpdate { name: "f".to_owned(), level: -3, upgrade });
    vec![
        Request::CreateTopics { topics: vec![topic, CreateTopic::default()], validate_only: true },
        Request::DeleteTopics(vec![
            DeleteTopic::Name("t".to_owned()),
            DeleteTopic::Id(Uuid([9; 16])),
        ]),
        Request::CreatePartitions {
            topics: vec![
                CreatePartitions { name: "t".to_owned(), count: 4, assignments: None },
                CreatePartitions {
                    name: "u".to_owned(),
                    count: -4,
                    assignments: Some(vec![vec![BrokerId(1)], vec![]]),
                },
            ],
            validate_only: false,
        },
        Request::AlterConfigs {
            resources: targets.map(|(target, change)| AlterConfigs { target, change }).to_vec(),
            validate_only: true,
        },
        Request::AllocateProducerIds { broker: BrokerId(2) },
        Request::RegisterBroker(start()),
        Request::Heartbeat(Heartbeat {
            broker: BrokerId(2),
            epoch: 3,
            applied: MetadataOffset(4),
            wants_to_leave: true,
        }),
        Request::AlterPartitions(vec![AlterRequest { topic: Uuid([6; 16]), index: 2, question }]),
        Request::ReportReplicas(ReplicaReport {
            broker: BrokerId(2),
            epoch: 3,
            placed: vec![(Uuid([5; 16]), vec![(Uuid([6; 16]), 7), (Uuid([6; 16]), 8)])],
            damaged: vec![(Uuid([6; 16]), 9)],
        }),
        Request::BrokerGone { broker: BrokerId(2), epoch: 3, by_itself: true },
        Request::ElectLeaders { election: Election::Preferred, partitions: None },
        Request::ElectLeaders {
            election: Election::Unclean,
            partitions: Some(vec![("t".to_owned(), 7)]),
        },
        Request::AlterReassignments {
            partitions: vec![
                Reassignment { topic: "t".to_owned(), index: 7, replicas: None },
                Reassignment { topic: "u".to_owned(), index: 0, replicas: Some(vec![BrokerId(4)]) },
            ],
            may_change_factor: true,
        },
        Request::UnregisterBroker(BrokerId(9)),
        Request::DescribeQuorum,
        Request::ChangeVoters(VoterChange::Add {
            broker: BrokerId(4),
            directory: Uuid([8; 16]),
            patience: std::time::Duration::from_millis(1500),
        }),
        Request::ChangeVoters(VoterChange::Remove {
            broker: BrokerId(4),
            directory: Uuid([8; 16]),
        }),
        Request::ChangeVoters(VoterChange::Forget(BrokerId(4))),
        Request::UpdateFeatures { updates: levels.to_vec(), validate_only: true },
    ]
}

fn replies() -> Vec<Reply> {
    let told = |kind, text: &str| AdminError::Told { kind, text: text.to_owned() };
    let created = CreatedTopic {
        name: "t".to_owned(),
        id: Uuid([9; 16]),
        partitions: 3,
        replication_factor: 2,
        configs: Overrides::from([("a".to_owned(), "b".to_owned())]),
    };
    let altered = AlterAnswer::Altered {
        leader_epoch: LeaderEpoch(1),
        partition_epoch: 2,
        in_sync: vec![BrokerId(1), BrokerId(3)],
    };
    let refusals = [
        AlterRefusal::UnknownPartition,
        AlterRefusal::StaleBrokerEpoch,
        AlterRefusal::FencedLeaderEpoch,
        AlterRefusal::InvalidUpdateVersion,
        AlterRefusal::NewLeaderElected,
        AlterRefusal::IneligibleReplica,
        AlterRefusal::NotController,
    ];
    let refused = refusals.map(AlterAnswer::Refused);
    let replica = |last: Option<i64>, is_voter| QuorumReplica {
        broker: BrokerId(2),
        directory: Uuid([5; 16]),
        is_voter,
        last: last.map(MetadataOffset),
        heard_of: last.map(|_| std::time::Duration::from_millis(30)),
    };
    let standing = Standing { fenced: true, leaving: false, may_leave: true };
    let responses = [
        Response::CreateTopics(vec![
            Ok(created),
            Err(told(AdminErrorKind::TopicExists, "it is there")),
        ]),
        Response::DeleteTopics(vec![Ok(("t".to_owned(), Uuid([9; 16])))]),
        Response::CreatePartitions(vec![Ok(()), Err(told(AdminErrorKind::Storage, ""))]),
        Response::AlterConfigs(vec![Ok(())]),
        Response::AllocateProducerIds(Ok((1000, 1000))),
        Response::RegisterBroker(Err(told(AdminErrorKind::DuplicateBroker, "taken"))),
        Response::Heartbeat(Ok(standing)),
        Response::AlterPartitions([vec![altered], refused.to_vec()].concat()),
        Response::BrokerGone(true),
        Response::ReportReplicas(Ok(())),
        Response::ElectLeaders(vec![
            ElectedLeader {
                topic: "t".to_owned(),
                index: 7,
                result: Ok(Elected { leader: BrokerId(3), is_unclean: true }),
            },
            ElectedLeader {
                topic: "t".to_owned(),
                index: 8,
                result: Err(told(AdminErrorKind::ElectionNotNeeded, "it leads")),
            },
        ]),
        Response::AlterReassignments(vec![
            Ok(()),
            Err(told(AdminErrorKind::NoReassignment, "there is none")),
        ]),
        Response::UnregisterBroker(Err(told(AdminErrorKind::NotRegistered, "who"))),
        Response::DescribeQuorum(QuorumStatus {
            leader: Some(BrokerId(1)),
            term: 7,
            committed: MetadataOffset(9),
            replicas: vec![replica(None, true), replica(Some(5), false)],
        }),
        Response::UpdateFeatures(vec![Err(told(AdminErrorKind::FeatureUpdate, "no"))]),
    ];
    let answered = responses.map(|response| Reply::Answered(MetadataOffset(5), response));
    let others = [
        Reply::NotLeader(Some(BrokerId(1))),
        Reply::NotLeader(None),
        Reply::UnknownOutcome,
        Reply::Failed("disk".to_owned()),
        Reply::NotUnderstood("what".to_owned()),
    ];
    answered.into_iter().chain(others).collect()
}

#[test]
fn requests_arrive_as_they_were_sent_and_cut_ones_are_refused() {
    for request in requests() {
        let bytes = encode_request(&request);
        assert_eq!(decode_request(&bytes).as_ref(), Ok(&request));
        for end in 0..bytes.len() {
            assert!(decode_request(&bytes[..end]).is_err(), "{request:?} cut at {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode_request(&longer), Err(DecodeError::Trailing(1)));
    }
}

#[test]
fn replies_arrive_as_they_were_sent_and_cut_ones_are_refused() {
    for reply in replies() {
        let bytes = encode_reply(&reply);
        assert_eq!(decode_reply(&bytes).as_ref(), Ok(&reply));
        for end in 0..bytes.len() {
            assert!(decode_reply(&bytes[..end]).is_err(), "{reply:?} cut at {end}");
        }
    }
}

#[test]
fn a_refusal_keeps_its_kind_and_its_words() {
    let error = AdminError::UnknownTopic("nowhere".to_owned());
    let response = Response::AlterConfigs(vec![Err(error.clone())]);
    let reply = Reply::Answered(MetadataOffset(1), response);
    let Ok(Reply::Answered(_, Response::AlterConfigs(results))) =
        decode_reply(&encode_reply(&reply))
    else {
        panic!("not an answer")
    };
    let told = results[0].as_ref().unwrap_err();
    assert_eq!((told.kind(), told.to_string()), (error.kind(), error.to_string()));
}

#[test]
fn a_message_of_another_version_is_refused_and_not_guessed_at() {
    let mut bytes = encode_request(&Request::AllocateProducerIds { broker: BrokerId(1) });
    bytes[0] = VERSION + 1;
    let refused = Err(DecodeError::UnknownRecord { kind: 5, version: VERSION + 1 });
    assert_eq!(decode_request(&bytes), refused);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..24) {
        let _ = decode_request(&bytes);
        let _ = decode_reply(&bytes);
        let framed = [&[VERSION, kind], &bytes[..]].concat();
        let _ = decode_request(&framed);
        let _ = decode_reply(&framed);
    }
}
