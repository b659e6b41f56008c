//! A member: a process of a client's own program, and the lines it prints.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use super::history::{Event, History, What};

/// Turns a line of a program into an event.
pub(super) type Parse = fn(&str, &str) -> Option<Event>;

/// A running member. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    process: Child,
    listeners: Vec<JoinHandle<()>>,
    history: Arc<Mutex<History>>,
}

impl Member {
    pub(super) fn start(
        name: &str,
        mut command: Command,
        parse: Parse,
        history: &Arc<Mutex<History>>,
    ) -> Member {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let out = process.stdout.take().expect("it is piped");
        let err = process.stderr.take().expect("it is piped");
        let listeners = vec![listen(out, name, parse, history), listen(err, name, parse, history)];
        Member { name: name.to_owned(), process, listeners, history: Arc::clone(history) }
    }

    /// kill -9: from here on it owns nothing.
    pub(super) fn kill(mut self) {
        self.process.kill().expect("our child can be killed");
        self.process.wait().expect("a killed child ends");
        self.listeners.drain(..).for_each(|one| one.join().expect("a listener ends"));
        self.silenced();
    }

    pub(super) fn pause(&self) {
        self.signal("STOP");
        self.silenced();
    }

    pub(super) fn resume(&self) {
        self.signal("CONT");
    }

    /// Whether it ended although nobody asked it to.
    pub(super) fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("our child can be waited for").is_some()
    }

    /// Asks it to leave, and waits until it has.
    pub(super) fn leave(mut self) -> Result<(), String> {
        self.signal("TERM");
        let deadline = std::time::Instant::now() + super::SETTLE_WAIT_MAX;
        while !self.has_ended() {
            if std::time::Instant::now() > deadline {
                return Err(format!("{} does not leave", self.name));
            }
            thread::sleep(super::LOOK_AGAIN);
        }
        self.listeners.drain(..).for_each(|one| one.join().expect("a listener ends"));
        self.silenced();
        Ok(())
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid}");
    }

    fn silenced(&self) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
        let at = u64::try_from(at).expect("before the year 586912");
        let event = Event { member: self.name.clone(), at, what: What::Silenced };
        self.history.lock().expect("no holder panics").add(event);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn listen(
    from: impl Read + Send + 'static,
    name: &str,
    parse: Parse,
    history: &Arc<Mutex<History>>,
) -> JoinHandle<()> {
    let (name, history) = (name.to_owned(), Arc::clone(history));
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let event = parse(&name, &line);
            let mut history = history.lock().expect("no holder panics");
            match event {
                Some(event) => history.add(event),
                None => history.said.push(format!("{name}: {line}")),
            }
        }
    })
}
