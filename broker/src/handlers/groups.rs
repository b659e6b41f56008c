//! What the handlers of groups share: error codes, times, and who asks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sawlog_protocol::{ErrorCode, Uuid};

use super::RequestContext;
use crate::base::limits::CLIENT_TEXT_BYTES_MAX;
use crate::coordinator::{Client, GroupError, InstanceId, MemberId};
use crate::metadata::Random;

/// What anybody may do with a group: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS, as
/// bits.
pub(super) const OPERATIONS: i32 = (1 << 3) | (1 << 6) | (1 << 8) | (1 << 10) | (1 << 11);

/// The one place where a refusal of the coordinator becomes a protocol error.
pub(super) fn code(error: GroupError) -> ErrorCode {
    match error {
        GroupError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
        GroupError::MemberIdRequired => ErrorCode::MEMBER_ID_REQUIRED,
        GroupError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        GroupError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        GroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        GroupError::InconsistentProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        GroupError::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
        GroupError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        GroupError::GroupMaxSizeReached => ErrorCode::GROUP_MAX_SIZE_REACHED,
        GroupError::GroupIdNotFound => ErrorCode::GROUP_ID_NOT_FOUND,
        GroupError::NonEmptyGroup => ErrorCode::NON_EMPTY_GROUP,
        GroupError::GroupSubscribedToTopic => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OFFSET_METADATA_TOO_LARGE,
        GroupError::FencedMemberEpoch => ErrorCode::FENCED_MEMBER_EPOCH,
        GroupError::StaleMemberEpoch => ErrorCode::STALE_MEMBER_EPOCH,
        GroupError::UnreleasedInstance => ErrorCode::UNRELEASED_INSTANCE_ID,
        GroupError::UnsupportedAssignor => ErrorCode::UNSUPPORTED_ASSIGNOR,
        GroupError::InvalidRegularExpression => ErrorCode::INVALID_REGULAR_EXPRESSION,
        GroupError::InvalidRequest => ErrorCode::INVALID_REQUEST,
        GroupError::OtherProtocol => ErrorCode::GROUP_ID_NOT_FOUND,
        GroupError::VersionTooOld => ErrorCode::UNSUPPORTED_VERSION,
        GroupError::LoadInProgress => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        GroupError::NotAvailable => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        GroupError::NotCoordinator => ErrorCode::NOT_COORDINATOR,
        GroupError::TooLarge => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// The code of a result.
pub(super) fn outcome<T>(result: &Result<T, GroupError>) -> ErrorCode {
    result.as_ref().map_or_else(|error| code(*error), |_| ErrorCode::NONE)
}

/// A time on the wire; negative ones mean none, and wait for nothing.
pub(super) fn milliseconds(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A member id on the wire; the empty one says that there is none yet.
pub(super) fn member(id: &str) -> Option<MemberId> {
    (!id.is_empty()).then(|| id.into())
}

/// Why a member comes or goes, in the client's words, if it has any.
pub(super) fn reason(text: Option<&str>) -> Option<Arc<str>> {
    text.filter(|text| !text.is_empty()).map(|text| short(text).into())
}

/// A text for people to read, cut: it is kept in the timeline of a group.
pub(super) fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(CLIENT_TEXT_BYTES_MAX)]
}

/// The program at the other end, as Kafka describes it.
pub(super) fn client(ctx: &RequestContext<'_>) -> Client {
    Client {
        id: short(ctx.client_id.unwrap_or_default()).into(),
        host: format!("/{}", ctx.address).into(),
    }
}

/// Where ids of members come from.
pub(crate) struct MemberIds(Mutex<Box<dyn Random>>);

impl MemberIds {
    /// Ids by `random`.
    pub(crate) fn new(random: Box<dyn Random>) -> Self {
        Self(Mutex::new(random))
    }

    /// An id nobody has.
    pub(super) fn next_uuid(&self) -> Uuid {
        self.0.lock().next_uuid()
    }
}

impl fmt::Debug for MemberIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberIds")
    }
}

/// A member id nobody has: the instance's name, else the client's, and a UUID. A long name is cut:
/// the id has to fit a string, and is kept for whoever asks for one.
pub(super) fn fresh_member(
    client: &Client,
    instance: Option<&InstanceId>,
    ids: &MemberIds,
) -> MemberId {
    let bits = u128::from_be_bytes(ids.next_uuid().0);
    // Version 4, variant 1: what UUID libraries expect of a random one.
    let bits = (bits & !(0xf << 76) | (0x4 << 76)) & !(0x3 << 62) | (0x2 << 62);
    let text = format!("{bits:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| text.get(range).unwrap_or(""));
    let name = instance.map_or(&*client.id, InstanceId::as_str);
    let name = short(name);
    MemberId(Arc::from(format!("{name}-{}", parts.join("-"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::SystemRandom;

    #[test]
    fn member_ids_are_a_name_and_a_random_uuid() {
        let ids = MemberIds::new(Box::new(SystemRandom));
        let client = Client { id: "consumer-1".into(), host: "/127.0.0.1".into() };
        let id = fresh_member(&client, None, &ids);
        let uuid = id.as_str().strip_prefix("consumer-1-").unwrap();
        let digits: Vec<&str> = uuid.split('-').collect();
        assert_eq!(digits.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(digits[2].starts_with('4'), "{uuid}");
        assert!("89ab".contains(digits[3].chars().next().unwrap()), "{uuid}");
        let fixed = fresh_member(&client, Some(&"instance".into()), &ids);
        assert!(fixed.as_str().starts_with("instance-"));
        assert_ne!(fresh_member(&client, None, &ids), id);
    }

    #[test]
    fn a_member_id_is_short_however_long_the_name() {
        let ids = MemberIds::new(Box::new(SystemRandom));
        let longest = "ü".repeat(16_000);
        let client = Client { id: longest.as_str().into(), host: "/127.0.0.1".into() };
        let id = fresh_member(&client, None, &ids);
        assert!(id.as_str().starts_with(&"ü".repeat(CLIENT_TEXT_BYTES_MAX / 2)));
        assert_eq!(id.as_str().len(), CLIENT_TEXT_BYTES_MAX - 1 + 37, "no character is cut in two");
        assert_eq!(fresh_member(&client, Some(&"i".into()), &ids).as_str().len(), 38);
    }
}
