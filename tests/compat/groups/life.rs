//! The life of one group: of one member, five, and everything between, through a kill of the broker, to a
//! new start of the whole group from what it had committed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::admin::Admin;
use super::clients::Client;
use super::history::{Event, History, What};
use super::member::Member;
use super::{LOOK_AGAIN, SETTLE_WAIT_MAX};

const PARTITIONS: i32 = 6;
/// How often the coordinator is asked what it has.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Life {
    client: Client,
    protocol: &'static str,
    address: String,
    /// Of the topic and the group.
    name: String,
    history: Arc<Mutex<History>>,
    members: Vec<Member>,
    produced: usize,
    watch: Watch,
    failed: Option<String>,
}

impl Life {
    pub(super) fn new(client: Client, protocol: &'static str, address: &str) -> Life {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let name = format!("{}-{protocol}-{now}", client.name());
        let history = Arc::new(Mutex::new(History::default()));
        let watch = Watch::start(address, &name, protocol, &history);
        let address = address.to_owned();
        let (members, produced, failed) = (Vec::new(), 0, None);
        Life { client, protocol, address, name, history, members, produced, watch, failed }
    }

    /// Lives a part, unless an earlier one failed.
    pub(super) fn live(&mut self, part: fn(&mut Life) -> Result<(), String>) {
        if self.failed.is_none() {
            self.failed = part(self).err();
        }
    }

    pub(super) fn members_come_and_go(&mut self) -> Result<(), String> {
        self.sawlog(&["topic", "create", &self.name, "--partitions", "6"], "")?;
        self.produce(200)?;
        self.join("a", None);
        self.settled("one member")?;
        for name in ["b", "c", "d", "e"] {
            self.join(name, None);
        }
        self.settled("five members")?;
        self.produce(200)?;
        self.all_processed("with five members")?;

        self.take("a").leave()?;
        self.settled("one has left")?;
        self.take("b").kill();
        self.produce(200)?;
        self.settled("one was killed")?;
        self.all_processed("after a kill")?;

        self.member("c").pause();
        self.produce(200)?;
        self.settled_without(&["c"], "one is stopped")?;
        self.all_processed("with one stopped")?;
        self.member("c").resume();
        self.settled("the one stopped is back")?;
        self.produce(200) // and the broker is killed while they are at it
    }

    pub(super) fn the_broker_is_back(&mut self) -> Result<(), String> {
        self.produce(200)?;
        self.settled("after a restart of the broker")?;
        self.all_processed("after a restart of the broker")
    }

    /// Everybody leaves; two new members, with names where the client has that, go on from the committed
    /// offsets. One goes, and is back before its session ends: with a name, nobody else notices.
    pub(super) fn the_group_starts_anew(&mut self) -> Result<(), String> {
        self.everybody_leaves()?;
        let committed = self.committed_now()?;
        let ends = self.ends()?;
        if committed != ends {
            return Err(format!(
                "everything was processed, committed is {committed:?} of {ends:?}"
            ));
        }
        self.produce(200)?;
        let named = self.client.has_static_members();
        self.join("f", named.then_some("static-f"));
        self.join("g", named.then_some("static-g"));
        self.settled("two new members")?;
        self.all_processed("by new members")?;
        let first = self.history().first_offsets(&["f", "g"]);
        if first.iter().any(|(partition, offset)| committed.get(partition) != Some(offset)) {
            return Err(format!("new members begin at {first:?}, committed was {committed:?}"));
        }
        if named {
            self.a_named_member_is_back_soon()?;
        }
        self.everybody_leaves()
    }

    fn a_named_member_is_back_soon(&mut self) -> Result<(), String> {
        let before = self.history().owned("f");
        let told = self.history().of("g").filter(|event| event.changes_ownership()).count();
        // The consumer protocol holds the place of a member that says it will be back: with another one of
        // its name still in the group, it is refused.
        match self.protocol {
            "consumer" => self.take("f").leave()?,
            _ => self.take("f").kill(),
        }
        self.join("f again", Some("static-f"));
        self.wait("the named member is back", |life| life.history().owned("f again") == before)?;
        self.produce(200)?;
        self.all_processed("after a named member is back")?;
        let history = self.history();
        let changes: Vec<_> =
            history.of("g").filter(|e| e.changes_ownership()).skip(told).collect();
        let gone = history.of("f").last();
        if changes.is_empty() {
            return Ok(());
        }
        Err(format!(
            "g was disturbed: {changes:?}, after {gone:?} until {:?}",
            history.of("f again").next()
        ))
    }

    /// What was wrong; nothing is the best.
    pub(super) fn verdict(mut self) -> Option<String> {
        self.members.clear();
        let watched = self.watch.stop();
        let history = self.history();
        let mut wrong: Vec<String> = self.failed.iter().cloned().chain(watched).collect();
        wrong.extend(history.check_generations().err());
        if self.client.tells_what_is_lost() {
            wrong.extend(history.check_times().err());
        }
        let tail = history.said.len().saturating_sub(40);
        (!wrong.is_empty()).then(|| {
            let said = history.said[tail..].join("\n  ");
            format!("{} {}:\n{}\n  {said}", self.client.name(), self.protocol, wrong.join("\n"))
        })
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no holder panics")
    }

    fn join(&mut self, name: &str, instance: Option<&str>) {
        let mut arguments = vec![&*self.address, &self.name, &self.name, self.protocol];
        arguments.extend(instance);
        let command = self.client.member(&arguments);
        self.members.push(Member::start(name, command, self.client.parse(), &self.history));
    }

    fn member(&self, name: &str) -> &Member {
        self.members.iter().find(|member| member.name == name).expect("it has joined")
    }

    fn take(&mut self, name: &str) -> Member {
        let at = self.members.iter().position(|member| member.name == name);
        self.members.remove(at.expect("it has joined"))
    }

    fn everybody_leaves(&mut self) -> Result<(), String> {
        self.members.drain(..).try_for_each(Member::leave)
    }

    fn settled(&self, when: &str) -> Result<(), String> {
        self.settled_without(&[], when)
    }

    /// Waits until each partition has one owner and each member, but for these, a partition.
    fn settled_without(&self, without: &[&str], when: &str) -> Result<(), String> {
        self.wait(when, |life| {
            let history = life.history();
            let members = life.members.iter().filter(|m| !without.contains(&m.name.as_str()));
            let owned: Vec<BTreeSet<i32>> = members.map(|m| history.owned(&m.name)).collect();
            let all: Vec<i32> = owned.iter().flatten().copied().collect();
            let distinct: BTreeSet<i32> = all.iter().copied().collect();
            let complete = distinct == (0..PARTITIONS).collect() && all.len() == distinct.len();
            complete && owned.iter().all(|one| !one.is_empty())
        })
    }

    fn all_processed(&self, when: &str) -> Result<(), String> {
        let ends = self.ends()?;
        self.wait(when, |life| life.history().has_processed(&ends)).map_err(|why| {
            format!("{why}; not processed: {:?}", self.history().unprocessed(&ends))
        })?;
        // And committed, so that what comes next finds no work half done.
        self.wait(when, |life| life.committed_now().is_ok_and(|committed| committed == ends))
    }

    fn wait(&self, when: &str, done: impl Fn(&Life) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + SETTLE_WAIT_MAX;
        while !done(self) {
            if Instant::now() > deadline {
                let history = self.history();
                let owned: Vec<_> =
                    self.members.iter().map(|m| (&m.name, history.owned(&m.name))).collect();
                return Err(format!("{when}: not within {SETTLE_WAIT_MAX:?}: {owned:?}"));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn ends(&self) -> Result<BTreeMap<i32, i64>, String> {
        let ends = Admin::connect(&self.address).and_then(|mut a| a.ends(&self.name, PARTITIONS));
        ends.map_err(|error| error.to_string())
    }

    fn committed_now(&self) -> Result<BTreeMap<i32, i64>, String> {
        let committed = Admin::connect(&self.address).and_then(|mut a| a.committed(&self.name));
        committed
            .map_err(|error| error.to_string())?
            .ok_or_else(|| "the group is loading".to_owned())
    }

    /// Records with 60 keys, so that every partition has some.
    fn produce(&mut self, count: usize) -> Result<(), String> {
        let range = self.produced..self.produced + count;
        self.produced = range.end;
        let lines: String = range.map(|n| format!("{}:{n}\n", n % 60)).collect();
        self.sawlog(&["produce", &self.name, "--key-delimiter", ":"], &lines)
    }

    fn sawlog(&self, arguments: &[&str], input: &str) -> Result<(), String> {
        let mut command = Command::new(sawlog_tests::sawlog());
        command.env("SAWLOG_BROKERS", &self.address).args(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = piped.spawn().map_err(|error| error.to_string())?;
        let written = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        let ended = child.wait_with_output().map_err(|error| error.to_string())?;
        if written.is_err() || !ended.status.success() {
            return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr)));
        }
        Ok(())
    }
}

impl Event {
    fn changes_ownership(&self) -> bool {
        match &self.what {
            What::Assigned(partitions, _) | What::Revoked(partitions) | What::Lost(partitions) => {
                !partitions.is_empty()
            }
            What::Records(..) | What::Committed(_) | What::Silenced | What::Other => false,
        }
    }
}

/// Asks the coordinator all the while: no committed offset moves back or falls behind what was confirmed,
/// no partition has two owners.
#[derive(Debug)]
struct Watch {
    stop: Arc<AtomicBool>,
    watcher: Option<JoinHandle<Option<String>>>,
}

impl Watch {
    fn start(
        address: &str,
        group: &str,
        protocol: &'static str,
        history: &Arc<Mutex<History>>,
    ) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, history) = (Arc::clone(&stop), Arc::clone(history));
        let (address, group) = (address.to_owned(), group.to_owned());
        let watcher = thread::spawn(move || {
            let mut highest = BTreeMap::new();
            let mut admin = None;
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(WATCH_INTERVAL);
                admin = admin.or_else(|| Admin::connect(&address).ok());
                let Some(connected) = &mut admin else { continue };
                match look(connected, &group, protocol, &history, &mut highest) {
                    Ok(None) => {}
                    Ok(Some(wrong)) => return Some(wrong),
                    Err(_) => admin = None, // the broker is being restarted
                }
            }
            None
        });
        Watch { stop, watcher: Some(watcher) }
    }

    /// What was seen to be wrong.
    fn stop(&mut self) -> Option<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.watcher.take()?.join().expect("the watcher ends")
    }
}

fn look(
    admin: &mut Admin,
    group: &str,
    protocol: &str,
    history: &Mutex<History>,
    highest: &mut BTreeMap<i32, i64>,
) -> std::io::Result<Option<String>> {
    // Confirmed before the question, so the answer must have it.
    let confirmed = history.lock().expect("no holder panics").committed().clone();
    for (partition, offset) in confirmed {
        let least = highest.entry(partition).or_default();
        *least = offset.max(*least);
    }
    if let Some(committed) = admin.committed(group)? {
        for (partition, least) in highest.iter_mut() {
            let now = committed.get(partition).copied().unwrap_or(-1);
            if now < *least {
                return Ok(Some(format!("partition {partition}: committed is {now}, was {least}")));
            }
            *least = now;
        }
    }
    let assignment = match protocol {
        "consumer" => admin.consumer_assignment(group)?,
        _ => admin.classic_assignment(group)?,
    };
    let assignment = assignment.unwrap_or_default();
    let all: Vec<i32> = assignment.iter().flat_map(|(_, partitions)| partitions).copied().collect();
    let distinct: BTreeSet<i32> = all.iter().copied().collect();
    let twice = all.len() != distinct.len();
    Ok(twice.then(|| format!("the coordinator gives a partition to two: {assignment:?}")))
}
