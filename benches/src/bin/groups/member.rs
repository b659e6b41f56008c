//! A member of a classic group: joins, fetches its assignment, sends heartbeats, joins again when
//! told to, and leaves when told to.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sawlog_protocol::messages::find_coordinator::FindCoordinatorRequest;
use sawlog_protocol::messages::heartbeat::HeartbeatRequest;
use sawlog_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use sawlog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use sawlog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use sawlog_protocol::{ErrorCode, decode_response};
use tokio::sync::watch;

use crate::Failure;
use crate::board::{Board, Group, Seen};
use crate::wire::Wire;

const FIND_COORDINATOR: i16 = 4;
const JOIN: i16 = 9;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE: i16 = 5;

/// Bytes of a subscription and of an assignment: a topic name, owned partitions, a rack.
const METADATA: [u8; 100] = [0; 100];

/// How long a coordinator that is not ready is left alone.
pub(crate) const RETRY: Duration = Duration::from_millis(50);

const SESSION_TIMEOUT_MS: i32 = 45_000;
pub(crate) const REBALANCE_TIMEOUT_MS: i32 = 300_000;

/// Makes sure that there is a coordinator.
pub(crate) async fn find_coordinator(address: &str) -> Result<(), Failure> {
    let mut wire = Wire::connect(address).await?;
    let request = FindCoordinatorRequest { coordinator_keys: vec!["any"], ..Default::default() };
    loop {
        let frame = wire.call(&request, FIND_COORDINATOR).await?;
        let (_, reply) = decode_response::<FindCoordinatorRequest<'_>>(&frame, FIND_COORDINATOR)?;
        if reply.coordinators.first().is_some_and(|found| found.error_code == ErrorCode::NONE) {
            return Ok(());
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What a member is told.
pub(crate) struct Orders {
    pub(crate) address: Arc<str>,
    pub(crate) board: Arc<Board>,
    pub(crate) group: Arc<Group>,
    /// Tells the members of the group apart.
    pub(crate) number: usize,
    /// Time between heartbeats, and from the assignment to the first of them.
    pub(crate) interval: Duration,
    pub(crate) first: Duration,
    /// True once the member shall leave.
    pub(crate) leave: watch::Receiver<bool>,
}

/// Why a generation ended for a member.
#[derive(PartialEq, Eq)]
enum Ended {
    Rebalance,
    Forgotten,
    Left,
}

/// Lives until it is told to leave.
pub(crate) async fn live(mut orders: Orders) -> Result<(), Failure> {
    let mut wire = Wire::connect(&orders.address).await?;
    let mut id = String::new();
    loop {
        let asked = Instant::now();
        let Some((generation, others)) = join(&mut wire, &orders.group.name, &mut id).await? else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        if !sync(&mut wire, &orders.group.name, (&id, generation), others).await? {
            continue;
        }
        let seen = Seen { generation, share: 0, asked, at: Instant::now() };
        orders.group.report(orders.number, seen);
        match beat(&mut wire, &mut orders, (&id, generation)).await? {
            Ended::Left => return Ok(()),
            Ended::Forgotten => id.clear(),
            Ended::Rebalance => {}
        }
    }
}

/// The generation, and for its leader whom to assign to. None: ask again.
async fn join(
    wire: &mut Wire,
    group: &str,
    id: &mut String,
) -> Result<Option<(i32, Vec<String>)>, Failure> {
    let given = id.clone();
    let request = JoinGroupRequest {
        group_id: group,
        session_timeout_ms: SESSION_TIMEOUT_MS,
        rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
        member_id: &given,
        protocol_type: "consumer",
        protocols: vec![JoinGroupRequestProtocol {
            name: "range",
            metadata: Bytes::from_static(&METADATA),
        }],
        ..Default::default()
    };
    let frame = wire.call(&request, JOIN).await?;
    let (_, reply) = decode_response::<JoinGroupRequest<'_>>(&frame, JOIN)?;
    match reply.error_code {
        ErrorCode::NONE => {
            let members = reply.members.iter().map(|member| member.member_id.to_owned());
            Ok(Some((reply.generation_id, members.collect())))
        }
        ErrorCode::MEMBER_ID_REQUIRED => {
            reply.member_id.clone_into(id);
            Box::pin(join(wire, group, id)).await
        }
        ErrorCode::UNKNOWN_MEMBER_ID => {
            id.clear();
            Ok(None)
        }
        code if code.is_retriable() => Ok(None),
        code => Err(format!("JoinGroup of {group}: {code}").into()),
    }
}

/// Whether the member has its assignment.
async fn sync(
    wire: &mut Wire,
    group: &str,
    (id, generation): (&str, i32),
    others: Vec<String>,
) -> Result<bool, Failure> {
    let assignments = others.iter().map(|member| SyncGroupRequestAssignment {
        member_id: member,
        assignment: Bytes::from_static(&METADATA),
    });
    let request = SyncGroupRequest {
        group_id: group,
        generation_id: generation,
        member_id: id,
        protocol_type: Some("consumer"),
        protocol_name: Some("range"),
        assignments: assignments.collect(),
        ..Default::default()
    };
    let frame = wire.call(&request, SYNC).await?;
    let (_, reply) = decode_response::<SyncGroupRequest<'_>>(&frame, SYNC)?;
    match reply.error_code {
        ErrorCode::NONE => Ok(true),
        code if code == ErrorCode::REBALANCE_IN_PROGRESS || code.is_retriable() => Ok(false),
        code => Err(format!("SyncGroup of {group}: {code}").into()),
    }
}

/// Heartbeats until the generation is over.
async fn beat(
    wire: &mut Wire,
    orders: &mut Orders,
    (id, generation): (&str, i32),
) -> Result<Ended, Failure> {
    let mut pause = orders.first;
    loop {
        // Dropping either loses nothing: who leaves needs no pause, and an order stays to be seen.
        let shall_leave = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            order = orders.leave.wait_for(|leave| *leave) => order.is_ok(),
        };
        if shall_leave {
            leave(wire, &orders.group.name, id).await?;
            return Ok(Ended::Left);
        }
        pause = orders.interval;
        let request = HeartbeatRequest {
            group_id: &orders.group.name,
            generation_id: generation,
            member_id: id,
            ..Default::default()
        };
        let sent = Instant::now();
        let frame = wire.call(&request, HEARTBEAT).await?;
        let (_, reply) = decode_response::<HeartbeatRequest<'_>>(&frame, HEARTBEAT)?;
        match reply.error_code {
            ErrorCode::NONE => orders.board.heartbeat(sent.elapsed()),
            ErrorCode::REBALANCE_IN_PROGRESS => return Ok(Ended::Rebalance),
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                orders.board.refused.fetch_add(1, Ordering::Relaxed);
                return Ok(Ended::Forgotten);
            }
            _ => {
                orders.board.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn leave(wire: &mut Wire, group: &str, id: &str) -> Result<(), Failure> {
    let request = LeaveGroupRequest {
        group_id: group,
        members: vec![MemberIdentity { member_id: id, ..Default::default() }],
        ..Default::default()
    };
    wire.call(&request, LEAVE).await.map(|_| ())
}
