//! The greeting that begins a connection: who calls, whom it means, and whether they belong together.
//!
//! The caller greets first and names the service the connection is for; the other side answers with
//! its own greeting, or with the sentence that says why it refuses. What is judged here is pure: who
//! greets with what is decided without a socket.
//!
//! ```text
//! magic "SAWPEER\0"   8     versions spoken, lowest and highest   u16 u16
//! cluster id, zero if none yet   16      incarnation   16      raft id   u64
//! broker, optional    1 (+ 4)             broker that is meant, optional   1 (+ 4)
//! refusal, a text; empty in a greeting that is well
//! ```
//! A later version appends fields; what an older one does not know it leaves unread.

use sawlog_protocol::Uuid;

use crate::base::BrokerId;
use crate::metadata::{DecodeError, Decoder, Encoder};

use super::{PeerId, PeerIdentity, Service};

const MAGIC: u64 = u64::from_be_bytes(*b"SAWPEER\0");

/// Versions of the transport this node speaks.
const VERSION_LOWEST: u16 = 1;
const VERSION_HIGHEST: u16 = 1;

/// The largest greeting, refusal included.
pub(super) const GREETING_BYTES_MAX: usize = 4096;

/// A refusal is a sentence.
const REFUSAL_BYTES_MAX: usize = 1024;

/// What one side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    versions: (u16, u16),
    cluster_id: Option<Uuid>,
    pub(super) incarnation: Uuid,
    pub(super) id: PeerId,
    /// Whom the caller means to call; `None` if it only knows an address.
    meant: Option<BrokerId>,
    refusal: String,
}

impl Greeting {
    pub(super) fn of(me: &PeerIdentity, meant: Option<BrokerId>) -> Self {
        Self {
            versions: (VERSION_LOWEST, VERSION_HIGHEST),
            cluster_id: me.cluster_id,
            incarnation: me.incarnation,
            id: me.id,
            meant,
            refusal: String::new(),
        }
    }

    pub(super) fn refusing(me: &PeerIdentity, reason: &str) -> Self {
        let cut = reason.char_indices().take_while(|(at, _)| *at < REFUSAL_BYTES_MAX - 4);
        Self { refusal: cut.map(|(_, c)| c).collect(), ..Self::of(me, None) }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u64(MAGIC);
        out.u16(self.versions.0);
        out.u16(self.versions.1);
        out.uuid(self.cluster_id.unwrap_or(Uuid::ZERO));
        out.uuid(self.incarnation);
        out.u64(self.id.raft_id);
        out.optional(self.id.broker, |out, broker| out.i32(broker.0));
        out.optional(self.meant, |out, broker| out.i32(broker.0));
        out.text(&self.refusal);
        out.into_bytes()
    }

    /// # Errors
    /// Why it is none, as a sentence.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut input = Decoder::new(bytes);
        match input.u64() {
            Ok(MAGIC) => {}
            _ => return Err("it does not speak the protocol of Sawlog's brokers".to_owned()),
        }
        Self::decode_rest(&mut input).map_err(|error| format!("its greeting is damaged: {error}"))
    }

    fn decode_rest(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let broker = |input: &mut Decoder<'_>| Ok(BrokerId(input.i32()?));
        Ok(Self {
            versions: (input.u16()?, input.u16()?),
            cluster_id: Some(input.uuid()?).filter(|id| !id.is_zero()),
            incarnation: input.uuid()?,
            id: {
                let raft_id = input.u64()?;
                PeerId { raft_id, broker: input.optional(broker)? }
            },
            meant: input.optional(broker)?,
            refusal: input.text()?,
        })
    }

    fn check_version(&self) -> Result<(), String> {
        let (lowest, highest) = self.versions;
        if lowest <= VERSION_HIGHEST && highest >= VERSION_LOWEST {
            return Ok(());
        }
        Err(format!(
            "it speaks versions {lowest} to {highest} of the protocol between brokers, and this node \
             {VERSION_LOWEST} to {VERSION_HIGHEST}; run versions of sawlog that are closer together"
        ))
    }

    /// Whether this is my own directory in another process.
    fn check_clone(&self, me: &PeerIdentity) -> Result<(), String> {
        if self.id.raft_id != me.id.raft_id || self.incarnation == me.incarnation {
            return Ok(());
        }
        Err("both run on the same data directory, or one on a copy of the other's; start each on its \
             own"
            .to_owned())
    }
}

/// What the side that was called makes of a caller. An error is the sentence it is told.
pub(super) fn judge_caller(
    me: &PeerIdentity,
    caller: &Greeting,
    service: Service,
) -> Result<(), String> {
    caller.check_version()?;
    caller.check_clone(me)?;
    match (me.cluster_id, caller.cluster_id) {
        (Some(mine), Some(theirs)) if mine != theirs => Err(format!(
            "this node belongs to cluster {mine} and the caller to cluster {theirs}; a node changes \
             its cluster only with an empty data directory"
        )),
        (None, _) => Err("this node does not belong to a cluster yet".to_owned()),
        (Some(_), None) if service != Service::Join => {
            Err("the caller does not belong to the cluster yet, and may only ask to join"
                .to_owned())
        }
        (Some(_), _) => Ok(()),
    }?;
    match (caller.meant, me.id.broker) {
        (Some(meant), Some(mine)) if meant != mine => {
            Err(format!("the caller means broker {meant}, and this is broker {mine}"))
        }
        _ => check_broker(me, caller),
    }
}

/// What the caller makes of the side it has called.
pub(super) fn judge_called(
    me: &PeerIdentity,
    called: &Greeting,
    meant: Option<BrokerId>,
) -> Result<(), String> {
    if !called.refusal.is_empty() {
        return Err(called.refusal.clone());
    }
    called.check_version()?;
    called.check_clone(me)?;
    match (me.cluster_id, called.cluster_id) {
        (Some(mine), Some(theirs)) if mine != theirs => Err(format!(
            "it belongs to cluster {theirs}, and this node to cluster {mine}; a node changes its \
             cluster only with an empty data directory"
        )),
        _ => Ok(()),
    }?;
    match (meant, called.id.broker) {
        (Some(meant), Some(theirs)) if meant != theirs => {
            Err(format!("it is broker {theirs}, and broker {meant} was meant"))
        }
        (Some(meant), None) => Err(format!("it is not broker {meant}: it has not joined yet")),
        _ => check_broker(me, called),
    }
}

/// Two disks cannot be one broker.
fn check_broker(me: &PeerIdentity, other: &Greeting) -> Result<(), String> {
    match (me.id.broker, other.id.broker) {
        (Some(mine), Some(theirs)) if mine == theirs && me.id.raft_id != other.id.raft_id => {
            Err(format!("both call themselves broker {mine}; give one of them another node.id"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(cluster: u8, broker: i32, raft_id: u64, incarnation: u8) -> PeerIdentity {
        PeerIdentity {
            cluster_id: (cluster > 0).then_some(Uuid([cluster; 16])),
            id: PeerId { broker: (broker >= 0).then_some(BrokerId(broker)), raft_id },
            incarnation: Uuid([incarnation; 16]),
        }
    }

    fn judged(me: PeerIdentity, caller: PeerIdentity, service: Service) -> Result<(), String> {
        judge_caller(&me, &Greeting::of(&caller, None), service)
    }

    #[test]
    fn a_greeting_comes_back_as_it_was_and_later_fields_are_left_unread() {
        for greeting in [
            Greeting::of(&node(1, 2, 3, 4), Some(BrokerId(9))),
            Greeting::of(&node(0, -1, u64::MAX, 4), None),
            Greeting::refusing(&node(1, 2, 3, 4), "because"),
        ] {
            let mut bytes = greeting.encode();
            assert_eq!(Greeting::decode(&bytes), Ok(greeting.clone()));
            for cut in 0..bytes.len() {
                assert!(Greeting::decode(&bytes[..cut]).is_err(), "{cut}");
            }
            bytes.extend_from_slice(b"later");
            assert_eq!(Greeting::decode(&bytes), Ok(greeting));
        }
    }

    #[test]
    fn a_long_refusal_is_cut_between_characters_and_fits() {
        let greeting = Greeting::refusing(&node(1, 2, 3, 4), &"ü".repeat(10_000));
        assert!(greeting.encode().len() < GREETING_BYTES_MAX);
        assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
    }

    #[test]
    fn members_of_one_cluster_speak_and_strangers_may_only_ask_to_join() {
        let me = node(1, 1, 11, 1);
        assert_eq!(judged(me, node(1, 2, 12, 2), Service::Raft), Ok(()));
        assert_eq!(judged(me, node(0, -1, 12, 2), Service::Join), Ok(()));
        assert!(judged(me, node(0, -1, 12, 2), Service::Raft).is_err());
        let text = judged(me, node(2, 2, 12, 2), Service::Join).unwrap_err();
        assert!(text.contains("belongs to cluster"), "{text}");
        assert!(judged(node(0, -1, 11, 1), node(1, 2, 12, 2), Service::Raft).is_err());
    }

    #[test]
    fn copies_of_a_directory_and_two_disks_of_one_broker_are_told_apart_from_myself() {
        let me = node(1, 1, 11, 1);
        assert_eq!(judged(me, me, Service::Raft), Ok(()), "a broker may call itself");
        let copy = judged(me, node(1, 1, 11, 2), Service::Raft).unwrap_err();
        assert!(copy.contains("copy"), "{copy}");
        let twin = judged(me, node(1, 1, 12, 2), Service::Raft).unwrap_err();
        assert!(twin.contains("broker 1"), "{twin}");
        let called = Greeting::of(&node(1, 1, 11, 2), None);
        assert!(judge_called(&me, &called, None).unwrap_err().contains("copy"));
    }

    #[test]
    fn who_answers_has_to_be_who_was_meant() {
        let (me, other) = (node(1, 1, 11, 1), node(1, 2, 12, 2));
        let meant = Greeting::of(&me, Some(BrokerId(3)));
        assert!(judge_caller(&other, &meant, Service::Raft).unwrap_err().contains("broker 3"));
        let called = Greeting::of(&other, None);
        assert_eq!(judge_called(&me, &called, Some(BrokerId(2))), Ok(()));
        assert!(judge_called(&me, &called, Some(BrokerId(3))).unwrap_err().contains("broker 2"));
        let nobody = Greeting::of(&node(1, -1, 12, 2), None);
        assert!(judge_called(&me, &nobody, Some(BrokerId(2))).is_err());
        let refused = Greeting::refusing(&other, "not today");
        assert_eq!(judge_called(&me, &refused, None), Err("not today".to_owned()));
    }

    #[test]
    fn a_version_out_of_reach_is_named() {
        let newer = Greeting { versions: (2, 5), ..Greeting::of(&node(1, 2, 12, 2), None) };
        let text = judge_caller(&node(1, 1, 11, 1), &newer, Service::Raft).unwrap_err();
        assert!(text.contains("versions 2 to 5"), "{text}");
        let both = Greeting { versions: (1, 5), ..newer };
        assert_eq!(judge_caller(&node(1, 1, 11, 1), &both, Service::Raft), Ok(()));
    }
}
