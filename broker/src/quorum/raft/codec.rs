//! Bytes of what the nodes of the metadata log say to each other and keep: votes, positions,
//! configurations, entries.
//!
//! Integers are big-endian, texts and lists have their length in front. Reading never panics and never
//! allocates from a claimed length.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::{EntryPayload, LogId};

use crate::base::BrokerId;
use crate::metadata::{DecodeError, Decoder, Encoder};

use super::types::{Entry, Member, Membership, StoredMembership, Vote, log_id, term_of};

/// Most configurations, voters and nodes a configuration names; a cluster has far fewer.
const MEMBERS_MAX: usize = 10_000;

pub(super) fn put_vote(out: &mut Encoder, vote: &Vote) {
    out.u64(vote.leader_id.term);
    out.optional(vote.leader_id.voted_for, Encoder::u64);
    out.bool(vote.committed);
}

pub(super) fn take_vote(input: &mut Decoder<'_>) -> Result<Vote, DecodeError> {
    let term = input.u64()?;
    let voted_for = input.optional(Decoder::u64)?;
    let committed = input.bool()?;
    Ok(Vote { leader_id: openraft::LeaderId { term, voted_for }, committed })
}

pub(super) fn put_log_id(out: &mut Encoder, id: Option<&LogId<u64>>) {
    out.optional(id, |out, id| {
        out.u64(term_of(id));
        out.u64(id.index);
    });
}

pub(super) fn take_log_id(input: &mut Decoder<'_>) -> Result<Option<LogId<u64>>, DecodeError> {
    input.optional(|input| {
        let term = input.u64()?;
        Ok(log_id(term, input.u64()?))
    })
}

pub(super) fn put_member(out: &mut Encoder, member: &Member) {
    out.i32(member.broker.0);
    out.uuid(member.storage_id);
    out.endpoint(&member.endpoint);
}

pub(super) fn take_member(input: &mut Decoder<'_>) -> Result<Member, DecodeError> {
    Ok(Member {
        broker: BrokerId(input.i32()?),
        storage_id: input.uuid()?,
        endpoint: input.endpoint()?,
    })
}

pub(super) fn put_membership(out: &mut Encoder, membership: &Membership) {
    let configs: Vec<Vec<u64>> = membership
        .get_joint_config()
        .iter()
        .map(|voters| voters.iter().copied().collect())
        .collect();
    out.list(&configs, |out, voters| out.list(voters, |out, voter| out.u64(*voter)));
    let nodes: Vec<(&u64, &Member)> = membership.nodes().collect();
    out.list(&nodes, |out, (id, member)| {
        out.u64(**id);
        put_member(out, member);
    });
}

pub(super) fn take_membership(input: &mut Decoder<'_>) -> Result<Membership, DecodeError> {
    let configs = input.list(|input| Ok(BTreeSet::from_iter(input.list(Decoder::u64)?)))?;
    let nodes = input.list(|input| Ok((input.u64()?, take_member(input)?)))?;
    let count = configs.iter().map(BTreeSet::len).sum::<usize>().max(nodes.len());
    if configs.len() > 2 || count > MEMBERS_MAX {
        return Err(DecodeError::Trailing(count));
    }
    Ok(Membership::new(configs, BTreeMap::from_iter(nodes)))
}

pub(super) fn put_stored_membership(out: &mut Encoder, stored: &StoredMembership) {
    put_log_id(out, stored.log_id().as_ref());
    put_membership(out, stored.membership());
}

pub(super) fn take_stored_membership(
    input: &mut Decoder<'_>,
) -> Result<StoredMembership, DecodeError> {
    let id = take_log_id(input)?;
    Ok(StoredMembership::new(id, take_membership(input)?))
}

/// What kind of thing an entry is; also a byte in the log's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records.
    Records,
    /// Nothing: the first entry of a leader.
    Blank,
    /// A configuration.
    Membership,
}

impl Kind {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Records => 1,
            Self::Blank => 2,
            Self::Membership => 3,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Records, Self::Blank, Self::Membership].into_iter().find(|kind| kind.byte() == byte)
    }
}

/// An entry's kind and body.
pub(super) fn payload_bytes(payload: &EntryPayload<super::types::Types>) -> (Kind, Bytes) {
    match payload {
        EntryPayload::Blank => (Kind::Blank, Bytes::new()),
        EntryPayload::Normal(records) => (Kind::Records, records.clone()),
        EntryPayload::Membership(membership) => {
            let mut out = Encoder::default();
            put_membership(&mut out, membership);
            (Kind::Membership, out.into_bytes().into())
        }
    }
}

/// The entry of that kind and body.
pub(super) fn entry(id: LogId<u64>, kind: Kind, body: Bytes) -> Result<Entry, DecodeError> {
    let payload = match kind {
        Kind::Blank => EntryPayload::Blank,
        Kind::Records => EntryPayload::Normal(body),
        Kind::Membership => {
            let mut input = Decoder::new(&body);
            let membership = take_membership(&mut input)?;
            input.finish()?;
            EntryPayload::Membership(membership)
        }
    };
    Ok(Entry { log_id: id, payload })
}
