//! Members that are processes of their own, killed and stopped for real.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::log::Log;
use super::sawlog::Bench;
use super::scenario::{Auditor, Source, until};
use crate::examples::built;
use crate::load::create;

const TOPIC: &str = "processes";
const GROUP: &str = "processes";
const PARTITIONS: i32 = 6;

/// Offsets that were printed, by partition.
type Printed = Arc<Mutex<BTreeMap<i32, BTreeSet<i64>>>>;

/// A member in a process of its own. Killed when dropped.
struct Process {
    child: Child,
    reading: Option<JoinHandle<()>>,
    /// What it printed alone.
    own: Printed,
}

impl Process {
    fn start(address: &str, all: &Printed) -> Self {
        let mut child = Command::new(built("group"))
            .args([address, TOPIC, GROUP, "1000000000", "2"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the example starts");
        let stdout = child.stdout.take().expect("piped");
        let (own, both) = (Printed::default(), all.clone());
        let printed = own.clone();
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // A line that the kill cut off may be there.
                let Some((place, _)) = line.split_once(": ") else { continue };
                let (partition, offset) = place.split_once('-').expect("partition-offset");
                let partition = partition.parse().expect("a partition");
                let offset = offset.parse().expect("an offset");
                for printed in [&printed, &both] {
                    let mut printed = printed.lock().expect("no panics");
                    printed.entry(partition).or_default().insert(offset);
                }
            }
        });
        Self { child, reading: Some(reading), own }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().expect("kill runs");
        assert!(status.success(), "{name}");
    }

    /// kill -9; returns once everything it printed is here.
    fn kill(mut self) {
        self.child.kill().expect("our child can be killed");
        self.child.wait().expect("a killed child ends");
        if let Some(reading) = self.reading.take() {
            reading.join().expect("no panic");
        }
    }

    fn count(&self) -> usize {
        count(&self.own)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn count(printed: &Printed) -> usize {
    printed.lock().expect("no panics").values().map(BTreeSet::len).sum()
}

/// Waits until records that do not exist yet come from every partition.
async fn all_go_on(printed: &Printed) {
    let ends = || -> Vec<i64> {
        let printed = printed.lock().expect("no panics");
        (0..PARTITIONS)
            .map(|index| printed.get(&index).map_or(-1, |all| *all.last().unwrap_or(&-1)))
            .collect()
    };
    let before = ends();
    until("every partition goes on", || {
        ends().iter().zip(&before).all(|(now, before)| *now > before + 20)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_killed_or_stopped_lose_nothing_and_commit_nothing_unprinted() {
    let bench = Bench::start().await;
    let address = bench.broker.address().to_string();
    create(&bench.client, TOPIC, PARTITIONS).await;
    let source = Source::start(&bench.client, TOPIC, PARTITIONS);
    let log = Arc::new(Log { has_others: true, ..Log::default() });
    let auditor = Auditor::start(&bench.client, GROUP, &log);
    let printed = Printed::default();
    let start = || Process::start(&address, &printed);
    let mut members: Vec<Process> = (0..3).map(|_| start()).collect();
    until("all three have some", || members.iter().all(|one| one.count() > 0)).await;
    all_go_on(&printed).await;

    members.remove(0).kill();
    all_go_on(&printed).await;

    // Longer than its session: others have its partitions by then.
    members[0].signal("-STOP");
    all_go_on(&printed).await;
    let before = members[0].count();
    members[0].signal("-CONT");
    until("it is back", || members[0].count() > before + 100).await;
    all_go_on(&printed).await;

    for member in members.drain(..) {
        member.kill();
    }
    for one in bench.client.committed_offsets(GROUP).await.expect("told") {
        let printed = printed.lock().expect("no panics");
        let seen = &printed[&one.partition];
        let missing = (0..one.offset).find(|offset| !seen.contains(offset));
        assert_eq!(missing, None, "committed and not printed: {one:?}");
    }

    let _members: Vec<Process> = (0..5).map(|_| start()).collect();
    all_go_on(&printed).await;
    let total = source.stop().await;
    until("everything is printed", || count(&printed) == total).await;
    auditor.stop().await;
}
