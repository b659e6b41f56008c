//! For tests: a group on a stage. Machines of members play against a coordinator of a few lines;
//! requests get lost, members die, readers stay away. No clock, no socket.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::membership::{Action, Leaving, Membership, Partitions, Reply, Step, StepKind};
use super::retries::Retries;
use crate::backoff::{Backoff, Random};
use crate::error::ClientError;

/// A member of the play: its machine, its reader, and what is on its way.
#[derive(Debug)]
pub(super) struct Player<M, W> {
    pub(super) machine: M,
    /// What the reader has, by the steps it took.
    pub(super) has: Partitions,
    pub(super) replies: Vec<Reply>,
    /// What it waits for, in words of its protocol.
    pub(super) waits: W,
    step: Option<(Step, Instant)>,
    is_away: bool,
    reports: usize,
    is_over: bool,
}

/// What every play has.
#[derive(Debug)]
pub(super) struct Stage<M, W> {
    pub(super) random: Random,
    pub(super) now: Instant,
    pub(super) players: Vec<Player<M, W>>,
    /// Of a hundred requests or replies so many get lost.
    loss: u64,
}

/// A coordinator and the rules of its protocol.
pub(super) trait Play {
    type Machine: Membership;
    type Waits: Default + Debug;

    fn stage(&mut self) -> &mut Stage<Self::Machine, Self::Waits>;

    /// A machine of a new member.
    fn member(&mut self) -> Self::Machine;

    /// Time has passed.
    fn tick(&mut self);

    /// What the member at this place asks for.
    fn ask(&mut self, at: usize, action: Action);

    /// Everybody has done what can be done now: the coordinator goes on, and what holds is checked.
    fn turned(&mut self);

    /// Whether the coordinator waits for nothing, with so many partitions at its readers.
    fn is_at_rest(&self, has: usize) -> bool;

    /// There is one partition more.
    fn grow(&mut self);

    /// The members look at the topics.
    fn look(&mut self) {}

    /// What the coordinator does not know to be out.
    fn is_known(&self, member: &Arc<str>) -> bool;
}

impl<M: Membership, W: Default + Debug> Stage<M, W> {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::seeded(seed), now: Instant::now(), players: Vec::new(), loss: 0 }
    }

    pub(super) fn is_lost(&mut self) -> bool {
        self.random.below(100) < self.loss
    }

    pub(super) fn retries(&mut self) -> Retries {
        let backoff =
            Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(200) };
        Retries::new(backoff, Random::seeded(self.random.next()), Duration::from_secs(60))
    }

    fn enter(&mut self, machine: M) {
        self.players.push(Player {
            machine,
            has: Partitions::new(),
            replies: Vec::new(),
            waits: W::default(),
            step: None,
            is_away: false,
            reports: 0,
            is_over: false,
        });
    }

    /// The reader takes its step after a while, unless it is away.
    fn steps(&mut self, at: usize) {
        let player = &mut self.players[at];
        let is_due = player.step.as_ref().is_some_and(|(_, until)| *until <= self.now);
        if !is_due || player.is_away {
            return;
        }
        let Some((step, _)) = player.step.take() else { return };
        match step.kind {
            StepKind::Assign => player.has.extend(step.partitions),
            StepKind::Revoke | StepKind::Lose => {
                player.has.retain(|key| !step.partitions.contains(key));
            }
        }
        assert_eq!(player.has, step.owned, "what is said to be owned is what it has");
        player.machine.settled(self.now);
    }

    fn begin(&mut self, at: usize, step: Step) {
        if step.kind == StepKind::Lose {
            // Gone at once, whatever the reader is at.
            self.players[at].has.retain(|key| !step.partitions.contains(key));
        }
        let until = self.now + Duration::from_millis(self.random.below(60));
        assert!(self.players[at].step.replace((step, until)).is_none(), "one at a time");
    }
}

/// A connection that ended.
pub(super) fn disconnected() -> ClientError {
    ClientError::Disconnected { address: String::new(), reason: String::new() }
}

/// Some time passes and everything that can happen does.
fn turn<P: Play>(play: &mut P) {
    let stage = play.stage();
    stage.now += Duration::from_millis(1 + stage.random.below(20));
    play.tick();
    for at in 0..play.stage().players.len() {
        let stage = play.stage();
        stage.steps(at);
        for reply in std::mem::take(&mut stage.players[at].replies) {
            stage.players[at].machine.replied(reply, stage.now);
        }
        for round in 0.. {
            let stage = play.stage();
            let player = &mut stage.players[at];
            if player.is_over {
                break;
            }
            assert!(round < 50, "it does not come to rest: {player:?}");
            let Some(action) = player.machine.next(stage.now) else { break };
            match action {
                Action::Step(step) => stage.begin(at, step),
                Action::Hurry | Action::FindCoordinator => {}
                Action::Report(_) => player.reports += 1,
                Action::Done => player.is_over = true,
                request => play.ask(at, request),
            }
        }
        let stage = play.stage();
        let player = &stage.players[at];
        let timer = player.machine.timer().filter(|_| !player.is_over);
        assert!(timer.is_none_or(|timer| timer > stage.now), "a busy loop: {player:?}");
    }
    play.turned();
    check(play);
}

/// Of members the coordinator has not thrown out, which those cannot know, no two have the same.
fn check<P: Play>(play: &mut P) {
    let has: Vec<(Arc<str>, Partitions)> = {
        let players = play.stage().players.iter();
        players.map(|one| (one.machine.identity().member, one.has.clone())).collect()
    };
    let mut owners: BTreeMap<_, usize> = BTreeMap::new();
    for (at, (member, has)) in has.into_iter().enumerate() {
        for key in has.into_iter().filter(|_| play.is_known(&member)) {
            let before = owners.insert(key.clone(), at);
            assert_eq!(before, None, "{key:?} has two owners: {at} and {before:?}");
        }
    }
}

fn settle<P: Play>(play: &mut P, seed: u64) {
    play.stage().loss = 0;
    for _ in 0..3_000 {
        let stage = play.stage();
        let has = stage.players.iter().map(|player| player.has.len()).sum();
        let takes_none = stage.players.iter().all(|player| player.step.is_none());
        if takes_none && play.is_at_rest(has) {
            return;
        }
        turn(play);
        play.stage().players.retain(|player| !player.is_over);
        if play.stage().players.is_empty() {
            join(play);
        }
    }
    panic!("seed {seed}: it does not settle: {:#?}", play.stage().players);
}

fn join<P: Play>(play: &mut P) {
    let machine = play.member();
    play.stage().enter(machine);
}

/// Something happens to the group.
fn change<P: Play>(play: &mut P) {
    let stage = play.stage();
    stage.loss = stage.random.below(30);
    let now = stage.now;
    match stage.random.below(6) {
        0 | 1 => join(play),
        2 if stage.players.len() > 1 => {
            // It dies: its session has to end.
            stage.players.pop();
        }
        3 => {
            let count = u64::try_from(stage.players.len()).expect("few");
            let at = usize::try_from(stage.random.below(count)).expect("few");
            stage.players[at].machine.close(Leaving::ForGood, now);
        }
        4 => play.grow(),
        _ => {
            stage.players[0].is_away = true;
            stage.players[0].machine.not_polled();
        }
    }
}

/// A life of a group: it settles whatever happened, and what passes is told to nobody.
pub(super) fn live<P: Play>(mut play: P, seed: u64) {
    join(&mut play);
    settle(&mut play, seed);
    for _ in 0..6 {
        change(&mut play);
        play.look();
        for _ in 0..play.stage().random.below(200) {
            turn(&mut play);
        }
        for player in &mut play.stage().players {
            if std::mem::take(&mut player.is_away) {
                player.machine.polled();
            }
        }
        play.look();
        settle(&mut play, seed);
    }
    let reports: usize = play.stage().players.iter().map(|player| player.reports).sum();
    assert_eq!(reports, 0, "seed {seed}: what passes is not told");
}
