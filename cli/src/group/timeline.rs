//! `sawlog group timeline`: what happened to a group lately, with advice where something went wrong.

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use jiff::Timestamp;
use sawlog_client::{Client, ClientError, GroupEvent, GroupEventKind};
use serde_json::json;

use super::{is_unknown, unknown};
use crate::failure::{Failure, Kind};
use crate::output::{Output, Rows};

/// Show what happened to a group lately: who came, who left and why, which timeouts were over. The
/// broker keeps the newest events of each group in memory, since it last started
#[derive(Debug, Args)]
pub(crate) struct Timeline {
    /// The group
    #[arg(add = ArgValueCandidates::new(crate::complete::groups))]
    group: String,
    /// Only the newest N events
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<usize>,
    #[command(flatten)]
    output: Output,
}

impl Timeline {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let events = match client.group_timeline(&self.group).await {
            Ok(events) => events,
            Err(error) if is_unknown(&error) => return Err(unknown(client, &self.group).await),
            Err(ClientError::Unsupported { address, .. }) => {
                return Err(Failure::new(
                    Kind::Failed,
                    format!("the broker at {address} keeps no timeline: only Sawlog does"),
                ));
            }
            Err(error) => return Err(error.into()),
        };
        let skipped = self.count.map_or(0, |count| events.len().saturating_sub(count));
        let mut rows = Rows::new(&[
            "time", "event", "member", "instance", "client", "host", "detail", "advice",
        ]);
        for event in events.iter().skip(skipped) {
            rows.push(vec![
                json!(time(event.timestamp)),
                json!(name(event.kind)),
                json!(event.member_id),
                json!(event.instance_id),
                json!(event.client_id),
                json!(event.host),
                json!(detail(event)),
                json!(advice(event)),
            ]);
        }
        self.output.print(&rows)
    }
}

/// RFC 3339; plain milliseconds where a broker says what no calendar has.
pub(crate) fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| format!("{time:.3}"))
}

fn name(kind: GroupEventKind) -> String {
    match kind {
        GroupEventKind::Loaded => "loaded",
        GroupEventKind::Joined => "joined",
        GroupEventKind::Replaced => "replaced",
        GroupEventKind::Left => "left",
        GroupEventKind::SessionTimedOut => "session timeout",
        GroupEventKind::RejoinTimedOut => "rejoin timeout",
        GroupEventKind::SyncTimedOut => "sync timeout",
        GroupEventKind::FirstJoinTimedOut => "join timeout",
        GroupEventKind::RebalanceStarted => "rebalance",
        GroupEventKind::GenerationStarted => "generation",
        GroupEventKind::Assigned => "assigned",
        GroupEventKind::Emptied => "emptied",
        GroupEventKind::OffsetsExpired => "offsets expired",
        GroupEventKind::EpochStarted => "epoch",
        GroupEventKind::TargetAssigned => "target",
        GroupEventKind::Reconciled => "stable",
        GroupEventKind::RevokeTimedOut => "revoke timeout",
        GroupEventKind::Converted => "converted",
        GroupEventKind::Other(code) => return format!("event {code}"),
        // The list may grow.
        _ => "unknown",
    }
    .to_owned()
}

/// What is to say beside who it was.
fn detail(event: &GroupEvent) -> String {
    let mut parts = Vec::new();
    let many = |count: u32, one: &str, more: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {more}"),
    };
    if let Some(number) = event.generation {
        let what = if has_epoch(event.kind) { "epoch" } else { "generation" };
        parts.push(format!("{what} {number}"));
    }
    match (event.kind, event.count) {
        (GroupEventKind::OffsetsExpired, Some(count)) => {
            parts.push(many(count, "offset", "offsets"));
        }
        (_, Some(count)) => parts.push(many(count, "member", "members")),
        (_, None) => {}
    }
    if let Some(name) = &event.assignor {
        parts.push(match event.kind {
            GroupEventKind::Converted => format!("to the {name} protocol"),
            _ => format!("by {name}"),
        });
    }
    if let Some(former) = &event.former_member_id {
        parts.push(format!("was {former}"));
    }
    if let Some(timeout) = event.timeout {
        parts.push(format!("after {}", span(timeout)));
    }
    parts.extend(event.reason.clone());
    parts.join(", ")
}

/// Whether the number that comes with it is an epoch of the consumer protocol.
fn has_epoch(kind: GroupEventKind) -> bool {
    use GroupEventKind::{EpochStarted, Reconciled, TargetAssigned};
    matches!(kind, EpochStarted | TargetAssigned | Reconciled)
}

/// What to look at, where something went wrong.
fn advice(event: &GroupEvent) -> Option<String> {
    let limit = event.timeout.map(span);
    let within = |what: &str| match &limit {
        Some(limit) => format!("{what} for {limit}"),
        None => format!("{what} in time"),
    };
    match event.kind {
        GroupEventKind::SessionTimedOut => Some(format!(
            "{}: see whether it still runs and is reached, look at GC pauses, or raise \
             session.timeout.ms",
            within("no heartbeat")
        )),
        GroupEventKind::RejoinTimedOut => Some(format!(
            "{}: its poll loop was busy; handle less per poll (max.poll.records) or raise \
             max.poll.interval.ms",
            within("it did not join again")
        )),
        GroupEventKind::SyncTimedOut => Some(format!(
            "{}: look at the leader of the group, whose assignor may be slow, and at this member",
            within("no SyncGroup")
        )),
        GroupEventKind::RevokeTimedOut => Some(format!(
            "{}: its poll loop was busy, or what it does before it lets go of partitions; handle less \
             per poll (max.poll.records) or raise max.poll.interval.ms",
            within("it did not give partitions back")
        )),
        GroupEventKind::FirstJoinTimedOut => Some(
            "it was given a member id and never used it: look for a client that gave up or is \
             restarted in a loop"
                .to_owned(),
        ),
        GroupEventKind::Left if is_poll_timeout(event) => Some(
            "its poll loop took longer than max.poll.interval.ms: handle less per poll \
             (max.poll.records) or raise it"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Java's consumer says "consumer poll timeout has expired." when it leaves by itself.
fn is_poll_timeout(event: &GroupEvent) -> bool {
    let reason = event.reason.as_deref().unwrap_or_default().to_ascii_lowercase();
    reason.contains("poll timeout") || reason.contains("max.poll.interval")
}

/// `45 s`, `1500 ms`.
fn span(time: Duration) -> String {
    let ms = time.as_millis();
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: GroupEventKind) -> GroupEvent {
        GroupEvent {
            timestamp: 0,
            kind,
            member_id: None,
            instance_id: None,
            client_id: None,
            host: None,
            former_member_id: None,
            reason: None,
            timeout: None,
            generation: None,
            count: None,
            assignor: None,
        }
    }

    #[test]
    fn timeouts_come_with_advice_and_their_limit() {
        let late = GroupEvent {
            timeout: Some(Duration::from_secs(45)),
            ..event(GroupEventKind::SessionTimedOut)
        };
        assert!(advice(&late).unwrap().starts_with("no heartbeat for 45 s: "));
        assert_eq!(detail(&late), "after 45 s");
        let java = "consumer poll timeout has expired.".to_owned();
        let left = GroupEvent { reason: Some(java), ..event(GroupEventKind::Left) };
        assert!(advice(&left).unwrap().contains("max.poll.interval.ms"));
        let closed = "the consumer is being closed".to_owned();
        let left = GroupEvent { reason: Some(closed), ..event(GroupEventKind::Left) };
        assert_eq!(advice(&left), None);
        assert_eq!(detail(&left), "the consumer is being closed");
    }

    #[test]
    fn details_are_what_belongs_to_the_event() {
        let begun = GroupEvent {
            generation: Some(3),
            count: Some(2),
            assignor: Some("range".to_owned()),
            ..event(GroupEventKind::GenerationStarted)
        };
        assert_eq!(detail(&begun), "generation 3, 2 members, by range");
        let target = GroupEvent {
            count: Some(1),
            assignor: Some("uniform".to_owned()),
            ..GroupEvent { generation: Some(4), ..event(GroupEventKind::TargetAssigned) }
        };
        assert_eq!(detail(&target), "epoch 4, 1 member, by uniform");
        let converted = GroupEvent {
            assignor: Some("consumer".to_owned()),
            ..event(GroupEventKind::Converted)
        };
        assert_eq!(detail(&converted), "to the consumer protocol");
        let expired = GroupEvent { count: Some(1), ..event(GroupEventKind::OffsetsExpired) };
        assert_eq!(detail(&expired), "1 offset");
        assert_eq!(name(GroupEventKind::Other(77)), "event 77");
        assert_eq!(time(1500), "1970-01-01T00:00:01.500Z");
        assert_eq!(span(Duration::from_millis(1500)), "1500 ms");
    }
}
