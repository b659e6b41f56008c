//! Groups changed from outside, on our broker and, by [`crate::kafka`], on Apache Kafka.

use sawlog_client::{
    Client, ClientError, ClientOptions, CommittedOffset, GroupFilter, MemberToRemove, Producer,
    ProducerOptions,
};
use sawlog_protocol::ErrorCode;
use tempfile::TempDir;

use crate::load::{connect, create, write};
use crate::process::{BrokerProcess, free_address};

const GROUP: &str = "moved from outside";
const TOPIC: &str = "moved";

fn at(partition: i32, offset: i64) -> CommittedOffset {
    let (topic, metadata) = (TOPIC.to_owned(), format!("by hand {partition}"));
    CommittedOffset { topic, partition, offset, leader_epoch: None, metadata }
}

fn code<T>(result: Result<T, ClientError>) -> Option<ErrorCode> {
    result.err().and_then(|error| error.code())
}

/// Everything an operator does to a group without members. Whether the broker is a Sawlog decides
/// about the timeline alone.
pub(crate) async fn a_group_is_administered(client: &Client, is_sawlog: bool) {
    create(client, TOPIC, 2).await;
    let producer = Producer::new(client.clone(), ProducerOptions::default());
    write(&producer, TOPIC, 2, |number| number >= 20).await;

    let offsets = [at(0, 3), at(1, 5)];
    let outcomes = client.alter_group_offsets(GROUP, &offsets).await.expect("answered");
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{outcomes:?}");
    assert_eq!(client.committed_offsets(GROUP).await.expect("told"), offsets);
    assert_eq!(client.committed_offsets("nobody's").await, Ok(vec![]));

    let of = |states: &[&str], types: &[&str]| GroupFilter {
        states: states.iter().map(|state| (*state).to_owned()).collect(),
        types: types.iter().map(|kind| (*kind).to_owned()).collect(),
    };
    for (filter, is_in) in [
        (of(&[], &[]), true),
        (of(&["Empty"], &["classic"]), true),
        (of(&["Stable"], &[]), false),
        (of(&[], &["consumer"]), false),
    ] {
        let listed = client.list_groups(&filter).await.expect("listed");
        assert_eq!(listed.iter().any(|group| group.group == GROUP), is_in, "{filter:?}");
    }
    let described = client.describe_group(GROUP).await.expect("described");
    assert_eq!((described.state.as_str(), described.members.len()), ("Empty", 0));
    let coordinator = client.coordinator_of(GROUP).await.expect("found");
    assert_eq!(described.coordinator, coordinator);
    let missing = client.describe_group("nobody's").await;
    assert_eq!(code(missing), Some(ErrorCode::GROUP_ID_NOT_FOUND));

    let nobody = [
        MemberToRemove::Member("nobody".to_owned()),
        MemberToRemove::Instance("nobody".to_owned()),
    ];
    let removed = client.remove_members(GROUP, &nobody, "a test").await.expect("answered");
    assert_eq!(removed.len(), 2);
    for outcome in removed {
        assert_eq!(code(outcome), Some(ErrorCode::UNKNOWN_MEMBER_ID));
    }

    let second = [(TOPIC.to_owned(), 1)];
    let outcomes = client.delete_group_offsets(GROUP, &second).await.expect("answered");
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{outcomes:?}");
    assert_eq!(client.committed_offsets(GROUP).await.expect("told"), [at(0, 3)]);

    match client.group_timeline(GROUP).await {
        Ok(_) if is_sawlog => {}
        Err(ClientError::Unsupported { .. }) if !is_sawlog => {}
        other => panic!("{other:?}"),
    }
    let info = client.topic(TOPIC).await.expect("known");
    let newest = client.newest_timestamps(&[info]).await.expect("told");
    assert_eq!(newest.len(), 2);

    assert_eq!(client.delete_group(GROUP).await, Ok(()));
    assert_eq!(code(client.delete_group(GROUP).await), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    assert_eq!(client.committed_offsets(GROUP).await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_administered_and_found_again_after_a_restart() {
    let directory = TempDir::new().expect("a scratch directory");
    let address = free_address();
    let mut broker = BrokerProcess::start(directory.path(), address, &[]);
    let client = connect(ClientOptions::new(&address.to_string())).await;
    a_group_is_administered(&client, true).await;

    let outcomes = client.alter_group_offsets(GROUP, &[at(0, 9)]).await.expect("answered");
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{outcomes:?}");
    broker.kill();
    let starting = tokio::task::spawn_blocking(move || {
        let broker = BrokerProcess::start(directory.path(), address, &[]);
        (broker, directory)
    });
    // Asked while the broker is down, or reads its groups: both pass.
    assert_eq!(client.committed_offsets(GROUP).await, Ok(vec![at(0, 9)]));
    let _running = starting.await.expect("it starts");
}
