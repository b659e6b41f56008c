//! What members subscribe to: topics by name, and patterns for them.
//!
//! A pattern is looked up when the first member gives it and when the topics have changed; what it
//! stands for is written down, so that a restart does not make partitions move. Looking up is quick
//! (linear in the names) and patterns are few, so it happens with the heartbeat that finds the need.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::group::ConsumerGroup;
use super::member::Member;
use crate::base::limits::GROUP_PATTERNS_MAX;
use crate::coordinator::record::{ConsumerPart, MemberRecord, PatternRecord, TopicPartitions};
use crate::coordinator::topic_pattern::TopicPattern;
use crate::coordinator::topics::Topics;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{GroupError, MemberId};

/// A pattern some members subscribe by.
#[derive(Clone, Debug, Default)]
pub(super) struct Pattern {
    /// How many.
    pub(super) subscribers: usize,
    /// The topics it stands for.
    pub(super) topics: BTreeSet<Arc<str>>,
    /// Whether `topics` have been looked up since the coordinator started.
    pub(super) is_fresh: bool,
}

impl ConsumerGroup {
    /// What the member `id` says of itself from now on.
    pub(super) fn say(&mut self, id: &MemberId, said: MemberRecord) {
        self.unsay(id);
        for name in &said.topics {
            *self.names.entry(name.clone()).or_default() += 1;
        }
        if let Some(pattern) = &said.pattern {
            self.patterns.entry(pattern.clone()).or_default().subscribers += 1;
        }
        if let Some(instance) = &said.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        let member = self.members.entry(id.clone());
        member.or_insert_with(|| Member::new(id.clone())).said = said;
    }

    /// Takes back what the member `id` has said of itself, if it is one.
    pub(super) fn unsay(&mut self, id: &MemberId) {
        let Some(member) = self.members.get(id) else { return };
        for name in &member.said.topics {
            if let Some(count) = self.names.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.names.remove(name);
                }
            }
        }
        if let Some(pattern) = &member.said.pattern
            && let Some(known) = self.patterns.get_mut(pattern)
        {
            known.subscribers -= 1;
        }
        let instance = member.said.instance.as_ref();
        if let Some(instance) = instance.filter(|it| self.instances.get(*it) == Some(id)) {
            self.instances.remove(instance);
        }
    }

    /// Whether the group can take `pattern`.
    ///
    /// # Errors
    /// It is no regular expression, or one too many.
    pub(super) fn validate_pattern(&self, pattern: &str) -> Result<(), GroupError> {
        if pattern.is_empty() || self.patterns.contains_key(pattern) {
            return Ok(());
        }
        if self.patterns.len() >= GROUP_PATTERNS_MAX {
            return Err(GroupError::InvalidRegularExpression);
        }
        TopicPattern::new(pattern).map(|_| ()).map_err(|_| GroupError::InvalidRegularExpression)
    }

    /// Looks up patterns: all of them if topics have changed, else those that are new. Those nobody
    /// subscribes by any more are forgotten.
    fn look_up(&mut self, turn: &mut Turn<'_>, topics_changed: bool) {
        let unused: Vec<Arc<str>> = self
            .patterns
            .iter()
            .filter(|(_, pattern)| pattern.subscribers == 0)
            .map(|(text, _)| text.clone())
            .collect();
        for text in unused {
            self.patterns.remove(&text);
            self.write(turn, ConsumerPart::Pattern(text, None));
        }
        let mut found = Vec::new();
        for (text, pattern) in &mut self.patterns {
            if pattern.is_fresh && !topics_changed {
                continue;
            }
            let compiled = TopicPattern::new(text).ok();
            let topics = compiled.map(|it| turn.topics.matching(&it)).unwrap_or_default();
            pattern.is_fresh = true;
            if topics != pattern.topics {
                pattern.topics.clone_from(&topics);
                found.push((text.clone(), topics));
            }
        }
        let at = turn.now.wall;
        for (text, topics) in found {
            let record = PatternRecord { topics, at };
            self.write(turn, ConsumerPart::Pattern(text, Some(record)));
        }
    }

    /// Whether topics have come, gone or changed since the group looked at them.
    pub(super) fn is_outdated(&self, turn: &Turn<'_>) -> bool {
        self.topics_version != turn.topics.version() && !planted!(ForgetTopics)
    }

    /// Looks at the topics subscribed to, as they are now. Whether they differ from those the group's
    /// epoch is for.
    pub(super) fn review(&mut self, turn: &mut Turn<'_>) -> bool {
        self.look_up(turn, self.is_outdated(turn));
        self.topics_version = turn.topics.version();
        let hash = turn.topics.hash(self.subscribed().into_iter());
        std::mem::replace(&mut self.topics_hash, hash) != hash
    }

    /// All topics subscribed to, whether they exist or not.
    pub(super) fn subscribed(&self) -> BTreeSet<&Arc<str>> {
        let of_patterns = self.patterns.values().filter(|pattern| pattern.subscribers > 0);
        self.names.keys().chain(of_patterns.flat_map(|pattern| &pattern.topics)).collect()
    }

    /// The topics a member subscribes to, whether they exist or not.
    pub(super) fn topics_of<'m>(
        &'m self,
        member: &'m Member,
    ) -> impl Iterator<Item = &'m Arc<str>> {
        let pattern = member.said.pattern.as_ref().and_then(|text| self.patterns.get(text));
        member.said.topics.iter().chain(pattern.into_iter().flat_map(|pattern| &pattern.topics))
    }

    /// What a member shall have, of the topics that exist and that it subscribes to.
    pub(super) fn wanted(&self, topics: &Topics, member: &Member) -> TopicPartitions {
        let pattern = member.said.pattern.as_ref().and_then(|text| self.patterns.get(text));
        let subscribes = |name: &Arc<str>| {
            member.said.topics.contains(name)
                || pattern.is_some_and(|pattern| pattern.topics.contains(name))
        };
        let wanted = member
            .target
            .iter()
            .filter(|(topic, _)| topics.name_of(**topic).is_some_and(subscribes));
        wanted.map(|(topic, set)| (*topic, set.clone())).collect()
    }
}
