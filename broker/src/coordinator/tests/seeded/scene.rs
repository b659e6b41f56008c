//! A world of one seed, event by event: things go wrong for a while, then the group has to come to rest.

use std::time::Duration;

use super::later::Later;
use super::shell::Shell;
use crate::base::disk_sim::SimRandom;
use crate::coordinator::Output;

/// How long things go wrong, and how long the group has then to come to rest.
const TROUBLE: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(100);

/// A core with its shell, and everybody who talks to it.
pub(in crate::coordinator::tests) trait Scene {
    type Packet;

    /// Of so many events one is followed by a restart of the coordinator.
    const RESTART_ODDS: u64;

    fn around(&mut self) -> (&mut Shell, &mut Later<Self::Packet>, &mut SimRandom);

    /// Something arrives.
    fn handle(&mut self, packet: Self::Packet);

    /// A deadline of the core was over, and led to this.
    fn on_deadline(&mut self, output: Output);

    /// The coordinator starts anew, and loses part of what was not committed.
    fn restart_and_lose(&mut self);

    /// Nothing goes wrong from now on.
    fn calm(&mut self);

    /// Lives through all of it. Panics where a promise is broken. Returns how many events there were.
    fn live(&mut self) -> u64 {
        let mut events = 0;
        let calm_at = self.time() + TROUBLE;
        while self.time() < calm_at {
            events += 1;
            self.step();
            if self.around().2.below(Self::RESTART_ODDS) == 0 {
                self.restart_and_lose();
            }
        }
        self.calm();
        while self.time() < calm_at + REST {
            events += 1;
            self.step();
        }
        events
    }

    fn time(&mut self) -> Duration {
        self.around().0.now.monotonic
    }

    /// The next thing that happens.
    fn step(&mut self) {
        let (shell, later, _) = self.around();
        match (later.next_at(), shell.core.next_deadline()) {
            (Some(at), deadline) if deadline.is_none_or(|deadline| at <= deadline) => {
                shell.jump(at);
                if let Some(packet) = later.pop() {
                    self.handle(packet);
                }
            }
            (_, Some(deadline)) => {
                shell.jump(deadline);
                let output = shell.core.on_timers(shell.now);
                self.on_deadline(output);
            }
            (_, None) => panic!("nothing will ever happen again"),
        }
    }
}
