//! What can be done to a cluster. A fault is drawn whole before it begins; who leads is only known then.

use std::fmt;
use std::time::Duration;

use crate::draw::Draw;

/// Which broker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    Broker(i32),
    Controller,
    /// Whoever leads this partition.
    LeaderOf(i32),
}

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// kill -9, and a restart after this.
    Kill(Who, Duration),
    /// Killed again this long after it was started.
    KillAgain(Who, Duration),
    /// Two, the second this long after the first; both down this long.
    KillTwo(Who, Duration, Duration),
    /// The one that takes over is killed as soon as it leads.
    KillNextLeader(i32),
    /// All, each this long after the one before.
    KillAll(Duration),
    /// SIGSTOP for this long.
    Pause(Who, Duration),
    /// SIGTERM, and a restart after this.
    Stop(Who, Duration),
    /// One after another is stopped and started.
    Roll,
    /// A new disk.
    Wipe(Who),
    /// Nobody hears it, and it hears nobody.
    Isolate(Who, Duration),
    /// Nobody hears it.
    Mute(Who, Duration),
    /// It hears nobody.
    Deafen(Who, Duration),
    /// Two do not hear each other, or one not the other; a third hears both.
    Cut { from: Who, both: bool, hold: Duration },
    /// It does not get this share, in percent, of what is sent to it.
    Lose(Who, u64, Duration),
    /// It sends no more than so many kbit/s.
    Narrow(Who, u32, Duration),
    /// All its connections are reset.
    Reset(Who),
    /// Each sync of its disk takes so long.
    SlowDisk { who: Who, by: Duration, hold: Duration },
    /// The only broker with a disk of its own has no room on it.
    FillDisk(Duration),
    /// One is cut off while another is killed.
    IsolateAndKill(Who, Duration),
    /// One is stopped while another is killed.
    PauseAndKill(Who, Duration),
}

/// What this machine can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    /// Networks and a disk of their own.
    pub(crate) machines: bool,
    /// System calls can be delayed.
    pub(crate) tracer: bool,
}

impl Fault {
    /// One of each kind.
    pub(crate) fn all(draw: &mut Draw, can: Abilities) -> Vec<Fault> {
        let mut all = Self::of_processes(draw);
        if can.machines {
            all.extend(Self::of_machines(draw));
        }
        if can.tracer {
            let (by, hold) = (draw.millis(20, 300), draw.millis(2000, 6000));
            all.push(Fault::SlowDisk { who: who(draw), by, hold });
        }
        draw.shuffle(&mut all);
        all
    }

    fn of_processes(draw: &mut Draw) -> Vec<Fault> {
        vec![
            Fault::Kill(Who::Broker(draw.one_of(&BROKERS)), draw.millis(0, 2000)),
            Fault::Kill(Who::Controller, draw.millis(0, 9000)),
            Fault::Kill(leader(draw), draw.millis(500, 4000)),
            Fault::KillAgain(who(draw), draw.millis(0, 1500)),
            Fault::KillTwo(who(draw), draw.millis(0, 1500), draw.millis(0, 2500)),
            Fault::KillNextLeader(draw.one_of(&[0, 1, 2, 3, 4, 5])),
            Fault::KillAll(draw.millis(0, 400)),
            Fault::Pause(who(draw), draw.millis(300, 4000)),
            Fault::Pause(who(draw), draw.millis(6500, 10_000)),
            Fault::Stop(who(draw), draw.millis(0, 2000)),
            Fault::Roll,
            Fault::Wipe(who(draw)),
            Fault::PauseAndKill(who(draw), draw.millis(1000, 8000)),
        ]
    }

    fn of_machines(draw: &mut Draw) -> Vec<Fault> {
        let (from, both, hold) = (who(draw), draw.one_in(2), draw.millis(1000, 12_000));
        vec![
            Fault::Isolate(leader(draw), draw.millis(1000, 12_000)),
            Fault::Isolate(Who::Controller, draw.millis(1000, 12_000)),
            Fault::Mute(who(draw), draw.millis(1000, 12_000)),
            Fault::Deafen(who(draw), draw.millis(1000, 12_000)),
            Fault::Cut { from, both, hold },
            Fault::Lose(who(draw), draw.between(5, 40), draw.millis(2000, 6000)),
            Fault::Narrow(who(draw), draw.one_of(&[300, 1000, 3000]), draw.millis(2000, 6000)),
            Fault::Reset(who(draw)),
            Fault::FillDisk(draw.millis(2000, 14_000)),
            Fault::IsolateAndKill(who(draw), draw.millis(1000, 8000)),
        ]
    }

    /// Whether only a cluster that has everything everywhere survives it.
    pub(crate) fn needs_all_in_sync(&self) -> bool {
        matches!(self, Fault::Wipe(_))
    }

    /// Its kind, for people.
    pub(crate) fn kind(&self) -> String {
        let shown = format!("{self:?}");
        let end = shown.find(|c: char| !c.is_alphanumeric()).unwrap_or(shown.len());
        shown[..end].to_owned()
    }
}

const BROKERS: [i32; 3] = [1, 2, 3];

fn leader(draw: &mut Draw) -> Who {
    Who::LeaderOf(draw.one_of(&[0, 1, 2, 3, 4, 5]))
}

fn who(draw: &mut Draw) -> Who {
    let broker = Who::Broker(draw.one_of(&BROKERS));
    let leader = leader(draw);
    draw.one_of(&[broker, leader, Who::Controller])
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
