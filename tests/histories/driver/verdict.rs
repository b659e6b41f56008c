//! The end: clients are asked to end, disks read, everything is checked, and told.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use sawlog_tests::history::{History, Micros, Replica, Violation, check};

use super::stalls::Stalls;
use super::summary::Summary;
use super::{Driver, LOOK_AGAIN, PARTITIONS, TOPIC, WHOLE_WAIT_MAX};
use crate::programs::Program;

impl Driver {
    /// Ends the clients, reads the disks, checks.
    pub(super) fn finish(mut self) {
        let mut wrong = Vec::new();
        let waits = self.stalls.take().map(Stalls::end).unwrap_or_default();
        let loaded = self.started.elapsed();
        let history = self.collect(&mut wrong);
        if let Err(why) = self.wait_until_whole() {
            wrong.push(why);
        }
        for id in self.cluster.ids() {
            let text = self.cluster.output(id);
            wrong.extend(panics(id, &text));
        }
        let replicas = self.stop_and_read(&mut wrong);
        let checked = check(&history, &replicas);
        Summary { happened: &self.happened, loaded, waits: &waits, history: &history }
            .print(&checked);
        for violation in &checked.violations {
            wrong.push(self.explain(violation));
        }
        if !wrong.is_empty() {
            self.keep();
            panic!("seed {}: {}", self.plan.seed, wrong.join("\n\n"));
        }
    }

    fn collect(&mut self, wrong: &mut Vec<String>) -> History {
        let mut history = History::default();
        let mut ended = Vec::new();
        for (number, ours) in std::mem::take(&mut self.ours) {
            ended.push((number, self.runtime.block_on(ours.end())));
        }
        ended.extend(
            std::mem::take(&mut self.programs)
                .into_iter()
                .map(|(number, program)| (number, program.end())),
        );
        for (number, (told, why)) in ended {
            wrong.extend(why);
            self.said.push((told.sent.name.clone(), told.said));
            history.producers.insert(number, told.sent);
        }
        self.readers_have_read(&history, wrong);
        for reader in std::mem::take(&mut self.readers) {
            let (told, why) = reader.end();
            wrong.extend(why);
            history.consumers.push(told.seen);
        }
        if let Some(ours) = self.our_reader.take() {
            let (told, why) = self.runtime.block_on(ours.end());
            wrong.extend(why);
            history.consumers.push(told.seen);
        }
        if let Some(looking) = self.looking.take() {
            history.looked = self.runtime.block_on(looking.end());
        }
        history
    }

    /// Waits until every consumer has seen everything there is.
    fn readers_have_read(&mut self, history: &History, wrong: &mut Vec<String>) {
        let all: u64 = history.producers.values().flat_map(|sent| sent.totals.values()).sum();
        let ours = self.our_reader.iter().map(|ours| Arc::clone(&ours.told));
        let readers: Vec<_> = self.readers.iter().map(Program::shared).chain(ours).collect();
        let deadline = Instant::now() + WHOLE_WAIT_MAX;
        for reader in readers {
            loop {
                let (name, seen) = {
                    let told = reader.lock().expect("no holder panics");
                    let seen: u64 = told.seen.runs.iter().map(|run| run.count).sum();
                    (told.seen.name.clone(), seen)
                };
                if seen >= all {
                    break;
                }
                if Instant::now() > deadline {
                    wrong.push(format!("{name} has seen {seen} of {all} records"));
                    break;
                }
                thread::sleep(LOOK_AGAIN);
            }
        }
    }

    fn stop_and_read(&mut self, wrong: &mut Vec<String>) -> Vec<Replica> {
        let ids = self.cluster.ids();
        // All at once: nobody takes over, and nobody waits for another.
        ids.iter().for_each(|id| self.cluster.signal(*id, "TERM"));
        for id in &ids {
            if !self.cluster.wait_for_end(*id) {
                wrong.push(format!("broker {id} did not stop cleanly"));
            }
        }
        let read = |id: &i32| {
            let name = format!("broker {id}");
            Replica::read(&name, &self.cluster.data(*id), TOPIC, PARTITIONS)
                .expect("readable files")
        };
        ids.iter().map(read).collect()
    }

    /// A violation, and the faults that were at work.
    fn explain(&self, violation: &Violation) -> String {
        let mut text = violation.to_string();
        let Some(at) = violation.at else { return text };
        let before = self.happened.iter().filter(|one| one.from <= at);
        for one in before.rev().take(3).collect::<Vec<_>>().into_iter().rev() {
            let seconds =
                |micros: Micros| format!("{}.{:03} s", micros / 1_000_000, micros / 1000 % 1000);
            let (from, since) = (seconds(at - one.from), at.saturating_sub(one.healed));
            text.push_str(&format!(
                "\n  {from} after the start, {} after the end of {}",
                seconds(since),
                one.what
            ));
        }
        text
    }

    pub(super) fn give_up(&mut self, why: &str) -> ! {
        for one in self.happened.iter().rev().take(4).rev() {
            eprintln!("happened: {}", one.what);
        }
        for id in self.cluster.ids() {
            let output = self.cluster.output(id);
            let tail: Vec<&str> = output.lines().rev().take(25).collect();
            eprintln!("broker {id}:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
        for told in self.all_told() {
            let told = told.lock().expect("no holder panics");
            let tail = told.said[told.said.len().saturating_sub(8)..].join("\n  ");
            eprintln!("{}: {:?}\n  {tail}", told.sent.name, told.sent.failed.first());
        }
        for told in self.all_told() {
            let mut told = told.lock().expect("no holder panics");
            let acked = std::mem::take(&mut told.sent.acked);
            told.said.extend(acked.iter().map(|acked| format!("{acked:?}")));
            self.said.push((told.sent.name.clone(), std::mem::take(&mut told.said)));
        }
        self.keep();
        panic!("seed {}: {why}", self.plan.seed);
    }

    /// Copies what there is to look at.
    fn keep(&self) {
        let Ok(directory) = std::env::var("SAWLOG_HISTORIES_KEEP") else { return };
        let scratch = self.cluster.scratch();
        let copy = |from: &Path| {
            let _copied = Command::new("cp").arg("-a").arg(from).arg(&directory).status();
        };
        let _made = std::fs::create_dir_all(&directory);
        for id in self.cluster.ids() {
            copy(&scratch.join(format!("output-{id}")));
            copy(&self.cluster.data(id));
        }
        for (name, said) in &self.said {
            let file = Path::new(&directory).join(format!("said by {name}"));
            let _written = std::fs::write(file, said.join("\n"));
        }
    }
}

/// What a broker said as it panicked.
fn panics(id: i32, output: &str) -> Option<String> {
    let at = output.find("panicked at")?;
    Some(format!("broker {id}: {}", &output[at..output.len().min(at + 1000)]))
}
