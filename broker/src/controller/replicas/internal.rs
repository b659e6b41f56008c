//! Topics the brokers keep for themselves get the copies they would be made with today.
//!
//! A cluster that began with one broker has its groups on that one alone. Once three run, each
//! partition of such a topic that has a single replica gets two more. Whoever has chosen another number
//! by hand keeps it: nothing is done about two replicas, or about fewer brokers.

use crate::base::{BrokerId, TopicId};
use crate::metadata::{Image, Record, Topic};

use super::super::placement::Candidates;
use super::draft::Draft;
use super::reassignment::begin;

/// The topics.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// Copies of each partition.
const COPIES: usize = 3;

/// Begins to add replicas where there is a single one.
#[must_use]
pub fn raise_internal(image: &Image) -> Vec<Record> {
    let topics = INTERNAL.iter().filter_map(|name| image.topic(name));
    let single: Vec<_> = topics.flat_map(|topic| single(topic)).collect();
    if single.is_empty() {
        return Vec::new();
    }
    let candidates = Candidates::of(image);
    if candidates.count() < COPIES {
        return Vec::new();
    }
    let mut draft = Draft::new(image);
    for (topic, index, own) in single {
        let at = usize::try_from(index).unwrap_or(0);
        let others = candidates.place(at, 0, candidates.count()).into_iter();
        let others = others.filter(|id| *id != own).take(COPIES - 1);
        let target: Vec<BrokerId> = std::iter::once(own).chain(others).collect();
        // The brokers were just looked up: it cannot be refused.
        let _begun = begin(&mut draft, topic, index, &target);
    }
    draft.records
}

/// Partitions with one replica, which leads, and is not moving.
fn single(topic: &Topic) -> Vec<(TopicId, i32, BrokerId)> {
    let found = topic.indexed().filter_map(|(index, state)| {
        let moves = !state.adding.is_empty() || !state.removing.is_empty();
        match state.replicas.as_slice() {
            [own] if state.leader == Some(*own) && !moves => Some((topic.id, index, *own)),
            _ => None,
        }
    });
    found.collect()
}
