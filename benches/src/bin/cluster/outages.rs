//! How long clients cannot write when brokers go, and what they hear of it.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Failure;
use crate::report::Report;
use crate::stage::{BROKERS, DEADLINE, Stage};
use crate::writers::Writer;

const PARTITIONS: i32 = 6;

/// Records a second, of each client.
const RATE: u32 = 300;

/// What was due this long before a fault may have to wait for its end.
const BEFORE: Duration = Duration::from_millis(100);

/// How long writing goes on undisturbed before the next fault.
const CALM: Duration = Duration::from_millis(700);

/// How a broker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9 of one that leads partitions, and is not the controller.
    KillLeader,
    /// kill -9 of the controller, which leads partitions, too.
    KillController,
    /// SIGSTOP of one that leads partitions: connections stay, nothing is answered.
    StopLeader,
    /// SIGTERM.
    Terminate,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillLeader => "kill -9 of a leader",
            Self::KillController => "kill -9 of the controller",
            Self::StopLeader => "SIGSTOP of a leader",
            Self::Terminate => "controlled shutdown",
        }
    }

    fn target(self) -> Duration {
        match self {
            Self::KillLeader | Self::KillController => Duration::from_secs(1),
            Self::StopLeader => Duration::from_secs(7),
            Self::Terminate => Duration::from_millis(100),
        }
    }
}

/// One fault after the other, each healed before the next.
pub(crate) fn faults(
    stage: &mut Stage,
    fault: Fault,
    rounds: u32,
    report: &mut Report,
) -> Result<(), Failure> {
    if stage.topic.is_empty() {
        stage.create("outages", PARTITIONS, 3)?;
    }
    let mut writers = stage.write(PARTITIONS, RATE);
    let outcome = (0..rounds).try_for_each(|round| {
        let done = one(stage, fault, round, &writers, report);
        done.map_err(|error| format!("round {}: {error}", round + 1).into())
    });
    for writer in &mut writers {
        writer.stop()?;
    }
    outcome
}

fn one(
    stage: &mut Stage,
    fault: Fault,
    round: u32,
    writers: &[Writer],
    report: &mut Report,
) -> Result<(), Failure> {
    stage.await_whole()?;
    stage.prefer_first()?;
    await_writing(writers, Instant::now())?;
    // Not always at the same place between two heartbeats.
    std::thread::sleep(CALM + Duration::from_millis(u64::from(round) * 137 % 1000));
    let controller = stage.controller()?;
    let victim = victim(stage, fault, round, controller);
    eprintln!("  {}, round {}: broker {victim}", fault.name(), round + 1);
    let row = |what: &str| format!("{}: {what}", fault.name());
    let at = match fault {
        Fault::KillLeader | Fault::KillController => stage.nodes.kill(victim)?,
        Fault::StopLeader => stage.nodes.signal(victim, Signal::STOP)?,
        Fault::Terminate => {
            let (at, took) = stage.nodes.terminate(victim)?;
            report.add_time(&row("the process has ended after"), None, took);
            at
        }
    };
    let led = stage.await_leaders_but(victim)?;
    report.add_time(&row("others lead after"), None, led.duration_since(at));
    if victim == controller {
        let elected = stage.await_controller_but(victim)?;
        report.add_time(&row("another controller after"), None, elected.duration_since(at));
    }
    if fault == Fault::StopLeader {
        newcomers(stage, victim, at, report)?;
    }
    await_writing(writers, led.max(Instant::now()))?;
    let until = Instant::now();
    match fault {
        Fault::StopLeader => drop(stage.nodes.signal(victim, Signal::CONT)?),
        Fault::KillLeader | Fault::KillController | Fault::Terminate => {
            stage.nodes.spawn(victim)?;
            stage.nodes.await_listening(victim)?;
        }
    }
    stage.await_whole()?;
    report.add_time(&row("back and in sync after"), None, until.elapsed());
    stage.await_voters()?;
    for writer in writers {
        let name = row(&format!("no writes of {} for", writer.view.name()));
        report.add_time(&name, Some(fault.target()), writer.worst(at - BEFORE, until));
        tell_errors(writer, &row("errors"), at, report);
    }
    Ok(())
}

/// Who is silent says nothing: clients that wait for it wait as long as their settings say. Those that
/// come then are served by the others.
fn newcomers(
    stage: &Stage,
    silent: i32,
    since: Instant,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut writers = stage.write_to(stage.nodes.bootstrap_but(silent), (PARTITIONS, RATE));
    for writer in &mut writers {
        await_writing(std::slice::from_ref(writer), since)?;
        let name = format!("SIGSTOP of a leader: a new {} writes after", writer.view.name());
        report.add_time(&name, Some(Fault::StopLeader.target()), since.elapsed());
        writer.stop()?;
    }
    Ok(())
}

fn victim(stage: &Stage, fault: Fault, round: u32, controller: i32) -> i32 {
    let others: Vec<i32> = stage.nodes.ids().into_iter().filter(|id| *id != controller).collect();
    match fault {
        Fault::KillController => controller,
        // The others in turn; each of them leads a third of the partitions.
        Fault::KillLeader | Fault::StopLeader => others[round as usize % others.len()],
        Fault::Terminate => stage.nodes.ids()[round as usize % stage.nodes.ids().len()],
    }
}

/// Waits until every client has written to every partition what was due since then.
fn await_writing(writers: &[Writer], since: Instant) -> Result<(), Failure> {
    let deadline = Instant::now() + DEADLINE;
    while !writers.iter().all(|writer| writer.writes_again(since)) {
        if Instant::now() > deadline {
            return Err("clients do not write again".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn tell_errors(writer: &Writer, row: &str, since: Instant, report: &mut Report) {
    let errors = writer.errors(since - BEFORE, Instant::now());
    if let Some(first) = errors.first() {
        eprintln!("    {}: {} errors: {first}", writer.view.name(), errors.len());
    }
    let name = format!("{row} of {}", writer.view.name());
    report.add(&name, "records", f64::from(u32::try_from(errors.len()).unwrap_or(u32::MAX)));
}

/// Each broker stopped cleanly and started again, one after the other, under load.
pub(crate) fn rolling_restart(
    stage: &mut Stage,
    rounds: u32,
    report: &mut Report,
) -> Result<(), Failure> {
    if stage.topic.is_empty() {
        stage.create("outages", PARTITIONS, 3)?;
    }
    let mut writers = stage.write(PARTITIONS, RATE);
    let outcome = (0..rounds).try_for_each(|round| {
        eprintln!("  rolling restart, round {}", round + 1);
        roll(stage, &writers, report)
    });
    for writer in &mut writers {
        writer.stop()?;
    }
    outcome
}

fn roll(stage: &mut Stage, writers: &[Writer], report: &mut Report) -> Result<(), Failure> {
    await_writing(writers, Instant::now())?;
    let begun = Instant::now();
    for id in 1..=BROKERS {
        stage.nodes.terminate(id)?;
        stage.nodes.spawn(id)?;
        stage.nodes.await_listening(id)?;
        stage.await_whole()?;
        stage.await_voters()?;
    }
    report.add_time("rolling restart of three brokers: took", None, begun.elapsed());
    await_writing(writers, Instant::now())?;
    for writer in writers {
        let worst = writer.worst(begun, Instant::now());
        let name = format!("rolling restart: longest wait of {}", writer.view.name());
        report.add_time(&name, None, worst);
        tell_errors(writer, "rolling restart: errors", begun, report);
    }
    Ok(())
}
