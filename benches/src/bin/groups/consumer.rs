//! A member of a group of the consumer protocol (KIP-848): everything is said and heard by heartbeat.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sawlog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use sawlog_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use sawlog_protocol::{ErrorCode, decode_response};

use crate::Failure;
use crate::board::Seen;
use crate::member::{Orders, REBALANCE_TIMEOUT_MS, RETRY};
use crate::wire::Wire;

const CREATE_TOPICS: i16 = 7;
const HEARTBEAT: i16 = 1;
const LEAVES: i32 = -1;

/// Makes a topic for members to read.
pub(crate) async fn create_topic(
    address: &str,
    (name, partitions): (&str, usize),
) -> Result<(), Failure> {
    let topic = CreatableTopic {
        name,
        num_partitions: i32::try_from(partitions)?,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let frame = Wire::connect(address).await?.call(&request, CREATE_TOPICS).await?;
    let (_, reply) = decode_response::<CreateTopicsRequest<'_>>(&frame, CREATE_TOPICS)?;
    match reply.topics.first().map(|topic| topic.error_code) {
        Some(ErrorCode::NONE) => Ok(()),
        code => Err(format!("CreateTopics of {name}: {code:?}").into()),
    }
}

/// What a member knows of itself.
#[derive(Default)]
struct Known {
    id: String,
    epoch: i32,
    owned: Vec<TopicPartitions>,
    /// It has to say what it owns: it joins, or has taken or given up partitions since.
    is_news: bool,
}

/// What follows from a heartbeat.
enum Next {
    /// The next one at once: the coordinator waits for it.
    AtOnce,
    After(Duration),
}

/// Lives until it is told to leave.
pub(crate) async fn live(mut orders: Orders) -> Result<(), Failure> {
    let mut wire = Wire::connect(&orders.address).await?;
    let id = format!("{}-{}", orders.group.name, orders.number);
    let mut known = Known { id, is_news: true, ..Default::default() };
    let asked = Instant::now();
    let mut is_first = true;
    loop {
        let pause = match beat(&mut wire, &orders, &mut known, asked).await? {
            Next::AtOnce => continue,
            // Spread over the interval, as members are that came one by one.
            Next::After(_) if std::mem::take(&mut is_first) => orders.first,
            Next::After(pause) => pause,
        };
        // Dropping either loses nothing: who leaves needs no pause, and an order stays to be seen.
        let shall_leave = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            order = orders.leave.wait_for(|leave| *leave) => order.is_ok(),
        };
        if shall_leave {
            let request = ConsumerGroupHeartbeatRequest {
                group_id: &orders.group.name,
                member_id: &known.id,
                member_epoch: LEAVES,
                ..Default::default()
            };
            return wire.call(&request, HEARTBEAT).await.map(|_| ());
        }
    }
}

async fn beat(
    wire: &mut Wire,
    orders: &Orders,
    known: &mut Known,
    asked: Instant,
) -> Result<Next, Failure> {
    let joins = known.epoch == 0;
    let topic = orders.group.topic.map(|(name, _)| name);
    let request = ConsumerGroupHeartbeatRequest {
        group_id: &orders.group.name,
        member_id: &known.id,
        member_epoch: known.epoch,
        rebalance_timeout_ms: if joins { REBALANCE_TIMEOUT_MS } else { -1 },
        subscribed_topic_names: joins.then(|| topic.into_iter().collect()),
        topic_partitions: known.is_news.then(|| known.owned.clone()),
        ..Default::default()
    };
    let sent = Instant::now();
    let frame = wire.call(&request, HEARTBEAT).await?;
    let (_, reply) = decode_response::<ConsumerGroupHeartbeatRequest<'_>>(&frame, HEARTBEAT)?;
    match reply.error_code {
        ErrorCode::NONE => {
            orders.board.heartbeat(sent.elapsed());
            Ok(take_in(orders, known, asked, reply))
        }
        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_MEMBER_EPOCH => {
            orders.board.refused.fetch_add(1, Ordering::Relaxed);
            (known.epoch, known.owned, known.is_news) = (0, Vec::new(), true);
            Ok(Next::AtOnce)
        }
        code if code.is_retriable() => Ok(Next::After(RETRY)),
        code => Err(format!("ConsumerGroupHeartbeat of {}: {code}", orders.group.name).into()),
    }
}

fn take_in(
    orders: &Orders,
    known: &mut Known,
    asked: Instant,
    reply: ConsumerGroupHeartbeatResponse<'_>,
) -> Next {
    let before = (known.epoch, known.owned.clone());
    known.epoch = reply.member_epoch;
    known.is_news = false;
    if let Some(assignment) = reply.assignment {
        known.is_news = assignment.topic_partitions != known.owned;
        known.owned = assignment.topic_partitions;
    }
    if before.0 != known.epoch || before.1 != known.owned {
        let share = known.owned.iter().map(|topic| topic.partitions.len()).sum();
        let (generation, at) = (known.epoch, Instant::now());
        orders.group.report(orders.number, Seen { generation, share, asked, at });
    }
    if known.is_news {
        return Next::AtOnce;
    }
    Next::After(Duration::from_millis(u64::try_from(reply.heartbeat_interval_ms).unwrap_or(0)))
}
