//! What came back: replies, connections, ids, and what they mean for the lanes.

use std::time::Instant;

use super::{Event, Sender};
use crate::connection::{Connection, Outcome};
use crate::error::ClientError;
use crate::producer::batch::Identity;
use crate::producer::lane::Round;
use crate::producer::request::{self, Part};

impl Sender {
    pub(super) fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected { node, outcome } => self.connected(node, outcome, now),
            Event::Answered { node, request, outcome } => {
                self.answered(node, request, outcome, now);
            }
            Event::Identified(outcome) => self.identified(&outcome, now),
            Event::Doubted { node } => {
                self.follow_leaders(now);
                self.give_up_if_replaced(node);
            }
            Event::Refreshed => {
                self.is_refreshing = false;
                self.shared.topics_changed();
                self.follow_leaders(now);
            }
        }
    }

    fn connected(&mut self, id: i32, outcome: Result<Connection, ClientError>, now: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.is_connecting = false;
        match outcome {
            Ok(connection) => node.connection = Some(connection),
            Err(_) => {
                // The line breaks up: each looks for its leader again after a pause.
                for at in std::mem::take(&mut node.waiting) {
                    self.in_line.remove(&at);
                    if let Some(lane) = self.lanes.get_mut(at).and_then(Option::as_mut) {
                        lane.failures = lane.failures.saturating_add(1);
                        self.stale_topics.insert(lane.queue.topic.clone());
                    }
                    self.delay(at, now);
                }
            }
        }
    }

    fn identified(&mut self, outcome: &Result<Identity, ClientError>, now: Instant) {
        self.is_identifying = false;
        self.identity = outcome.as_ref().ok().copied();
        for at in 0..self.lanes.len() {
            let lane = self.lanes.get_mut(at).and_then(Option::as_mut);
            let Some(lane) = lane.filter(|lane| lane.lacks_identity()) else { continue };
            match outcome {
                Err(error) if error.is_retriable() => {
                    lane.failures = lane.failures.saturating_add(1);
                    self.delay(at, now);
                }
                Err(error) => {
                    for settled in lane.abandon(error) {
                        self.shared.settle(&lane.queue, settled, now);
                    }
                }
                Ok(_) => {}
            }
            self.visit(at, now);
        }
    }

    fn answered(&mut self, id: i32, request: u64, outcome: Outcome, now: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(request) = node.answered(request) else { return };
        let answers =
            outcome.and_then(|frame| request::answers(&frame, request.version, &request.parts));
        match answers {
            Ok(answers) => {
                if !answers.throttle.is_zero() {
                    node.muted_until = Some(now + answers.throttle);
                }
                for (part, outcome) in request.parts.iter().zip(answers.outcomes) {
                    self.settle_part(request.id, part, outcome, now);
                }
            }
            Err(error) => self.settle_parts(request.id, &request.parts, &Err(error), now),
        }
    }

    pub(super) fn settle_parts(
        &mut self,
        request: u64,
        parts: &[Part],
        outcome: &Result<(), ClientError>,
        now: Instant,
    ) {
        for part in parts {
            self.settle_part(request, part, outcome.clone().map(|()| -1), now);
        }
    }

    fn settle_part(
        &mut self,
        request: u64,
        part: &Part,
        outcome: Result<i64, ClientError>,
        now: Instant,
    ) {
        let Some(lane) = self.lanes.get_mut(part.lane).and_then(Option::as_mut) else { return };
        match outcome {
            Ok(base_offset) => {
                self.budget.earn();
                lane.not_before = None;
                if let Some(settled) = lane.confirm(request, base_offset) {
                    self.shared.settle(&lane.queue, settled, now);
                }
            }
            Err(error) => lane.fail(request, error),
        }
        if lane.is_broken() {
            let round = lane.regroup(now);
            self.regrouped(part.lane, round, now, true);
        }
        self.visit(part.lane, now);
    }

    /// Another broker leads a lane's partition: what is on its way goes to that one now.
    pub(super) fn move_on(&mut self, at: usize, now: Instant) {
        let Some(lane) = self.lanes.get_mut(at).and_then(Option::as_mut) else { return };
        lane.leave();
        if !lane.is_broken() {
            return;
        }
        let round = lane.regroup(now);
        // It has not failed where it goes now.
        lane.failures = 0;
        self.regrouped(at, round, now, false);
        self.visit(at, now);
    }

    fn regrouped(&mut self, at: usize, round: Round, now: Instant, may_pause: bool) {
        let Some(lane) = self.lanes.get(at).and_then(Option::as_ref) else { return };
        let Round { settled, repeats, reason, splits } = round;
        for one in settled {
            self.shared.settle(&lane.queue, one, now);
        }
        for _ in 0..splits {
            lane.queue.split();
        }
        if lane.lacks_identity() {
            // Its epochs are used up: the id at hand is the same.
            self.identity = None;
        }
        if let (Some(error), true) = (reason, repeats > 0) {
            self.shared.tell_retry(lane, &error, now);
            if may_pause {
                self.stale_topics.insert(lane.queue.topic.clone());
            }
            if may_pause && splits == 0 {
                self.delay(at, now);
            }
        }
    }
}
