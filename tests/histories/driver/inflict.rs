//! Faults done to the cluster, and taken back.

use std::thread;
use std::time::{Duration, Instant};

use sawlog_client::TopicInfo;
use sawlog_tests::cluster::Direction;

use super::{ACK_WAIT_MAX, BROKERS, Driver, LOOK_AGAIN};
use crate::faults::{Fault, Who};

impl Driver {
    /// Does it, and takes it back.
    pub(super) fn inflict(&mut self, fault: &Fault) -> Result<(), String> {
        match fault {
            Fault::Kill(who, down) => {
                let id = self.resolve(*who);
                self.kill(id, *down);
            }
            Fault::KillAgain(who, after) => {
                let id = self.resolve(*who);
                self.kill(id, *after);
                thread::sleep(*after);
                self.kill(id, Duration::ZERO);
            }
            Fault::KillTwo(who, after, down) => self.kill_two(*who, *after, *down),
            Fault::KillNextLeader(partition) => self.kill_next_leader(*partition),
            Fault::KillAll(after) => self.kill_all(*after),
            Fault::Pause(who, hold) => {
                let id = self.resolve(*who);
                self.pause(id, *hold);
            }
            Fault::Stop(who, down) => {
                let id = self.resolve(*who);
                self.stop(id, *down)?;
            }
            Fault::Roll => self.roll()?,
            Fault::Wipe(who) => {
                let id = self.resolve(*who);
                self.cluster.kill(id);
                self.cluster.wipe(id).map_err(|why| format!("wiping broker {id}: {why}"))?;
                // While its session lives, another disk under its id is refused.
                self.wait_until_missed(id)?;
                self.cluster.run(id);
                // Until it has everything again it is as if it were down.
                self.wait_until_whole()?;
                self.all_vote();
            }
            Fault::PauseAndKill(who, hold) => {
                let id = self.resolve(*who);
                self.cluster.signal(id, "STOP");
                thread::sleep(*hold / 2);
                self.kill(other(id, 1), *hold / 2);
                self.cluster.signal(id, "CONT");
            }
            Fault::SlowDisk { who, by, hold } => {
                let id = self.resolve(*who);
                self.cluster.slow_disk(id, *by).map_err(|why| format!("strace: {why}"))?;
                thread::sleep(*hold);
                self.cluster.fast_disk(id);
            }
            _ => self.inflict_on_machine(fault)?,
        }
        Ok(())
    }

    fn inflict_on_machine(&mut self, fault: &Fault) -> Result<(), String> {
        let (who, hold) = match fault {
            Fault::Isolate(who, hold) | Fault::Mute(who, hold) | Fault::Deafen(who, hold) => {
                (*who, *hold)
            }
            Fault::Cut { from, hold, .. } => (*from, *hold),
            Fault::Lose(who, _, hold) | Fault::Narrow(who, _, hold) => (*who, *hold),
            Fault::IsolateAndKill(who, hold) => (*who, *hold),
            Fault::Reset(who) => (*who, Duration::from_millis(200)),
            Fault::FillDisk(hold) => (Who::Broker(BROKERS), *hold),
            _ => return Err(format!("{fault} is none of machines")),
        };
        let id = self.resolve(who);
        let machines = self.cluster.machines().ok_or("no machines")?;
        let others = [other(id, 1), other(id, 2)];
        match fault {
            Fault::Isolate(..) | Fault::IsolateAndKill(..) => {
                others.iter().for_each(|one| machines.cut(id, *one, Direction::Both));
            }
            Fault::Mute(..) => {
                others.iter().for_each(|one| machines.cut(id, *one, Direction::OneWay));
            }
            Fault::Deafen(..) => {
                others.iter().for_each(|one| machines.cut(*one, id, Direction::OneWay));
            }
            Fault::Cut { both: true, .. } => machines.cut(id, others[0], Direction::Both),
            Fault::Cut { .. } => machines.cut(id, others[0], Direction::OneWay),
            Fault::Lose(_, percent, _) => {
                machines.lose(id, f64::from(u32::try_from(*percent).expect("percent")) / 100.0);
            }
            Fault::Narrow(_, kilobits, _) => machines.narrow(id, *kilobits),
            Fault::Reset(_) => machines.reset_connections(id),
            Fault::FillDisk(_) => machines.fill_disk()?,
            _ => {}
        }
        if let Fault::IsolateAndKill(..) = fault {
            thread::sleep(hold / 2);
            self.kill(others[0], hold / 2);
        } else {
            thread::sleep(hold);
        }
        let machines = self.cluster.machines().ok_or("no machines")?;
        (1..=BROKERS).for_each(|one| machines.mend(one));
        if let Fault::FillDisk(_) = fault {
            machines.empty_disk();
        }
        Ok(())
    }

    /// Waits until nobody counts on a broker any more.
    fn wait_until_missed(&self, id: i32) -> Result<(), String> {
        let deadline = Instant::now() + ACK_WAIT_MAX;
        let is_missed =
            |topic: &TopicInfo| topic.partitions.iter().all(|one| !one.isr.contains(&id));
        while !self.topic().as_ref().is_ok_and(is_missed) {
            if Instant::now() > deadline {
                return Err(format!("broker {id} is gone, and counted as in sync"));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn kill(&mut self, id: i32, down: Duration) {
        self.cluster.kill(id);
        thread::sleep(down);
        self.cluster.run(id);
    }

    fn kill_two(&mut self, who: Who, after: Duration, down: Duration) {
        let one = self.resolve(who);
        let two = other(one, 1);
        self.cluster.kill(one);
        thread::sleep(after);
        self.cluster.kill(two);
        thread::sleep(down);
        let mut both = [one, two];
        self.draw.shuffle(&mut both);
        both.iter().for_each(|id| self.cluster.run(*id));
    }

    fn kill_all(&mut self, after: Duration) {
        let mut all = self.cluster.ids();
        self.draw.shuffle(&mut all);
        for id in &all {
            self.cluster.kill(*id);
            thread::sleep(after);
        }
        self.draw.shuffle(&mut all);
        all.iter().for_each(|id| self.cluster.run(*id));
    }

    fn kill_next_leader(&mut self, partition: i32) {
        let first = self.resolve(Who::LeaderOf(partition));
        self.cluster.kill(first);
        let deadline = Instant::now() + ACK_WAIT_MAX;
        let mut next = first;
        while Instant::now() < deadline && (next == first || next < 0) {
            thread::sleep(LOOK_AGAIN);
            next = self.leader_of(partition).unwrap_or(-1);
        }
        if next > 0 && next != first {
            self.cluster.kill(next);
            self.cluster.run(next);
        }
        self.cluster.run(first);
    }

    fn pause(&mut self, id: i32, hold: Duration) {
        self.cluster.signal(id, "STOP");
        thread::sleep(hold);
        self.cluster.signal(id, "CONT");
    }

    fn stop(&mut self, id: i32, down: Duration) -> Result<(), String> {
        if !self.cluster.terminate(id) {
            return Err(format!("broker {id} did not stop cleanly"));
        }
        thread::sleep(down);
        self.cluster.run(id);
        Ok(())
    }

    fn roll(&mut self) -> Result<(), String> {
        for id in self.cluster.ids() {
            self.wait_until_whole()?;
            self.all_vote();
            self.stop(id, Duration::ZERO)?;
        }
        Ok(())
    }
}

/// Brokers in a ring.
fn other(id: i32, further: i32) -> i32 {
    (id - 1 + further) % BROKERS + 1
}
