//! kill -9 in the middle of offset commits: every acknowledged commit is there, none has moved back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use sawlog_protocol::ErrorCode;

use super::groups::{GroupWire, RETRIABLE};
use super::process::{BrokerProcess, free_address};
use super::{TOPIC, create_topic, setting};

/// Groups enough to lie in several partitions of `__consumer_offsets`.
const GROUPS: usize = 6;

/// Commits one offset after the other until told to stop; `acknowledged` is the last that counts.
/// Returns how many were sent without an answer.
fn commit_on(
    address: SocketAddr,
    group: &str,
    (acknowledged, stop): (&AtomicI64, &AtomicBool),
) -> usize {
    let (mut next, mut cut) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        // A broken connection is what this test is about: open another.
        let Ok(mut wire) = GroupWire::connect(address, group) else { continue };
        loop {
            match wire.commit(None, TOPIC, (next, "")) {
                Ok(ErrorCode::NONE) => {
                    acknowledged.store(next, Ordering::Release);
                    next += 1;
                }
                Ok(error) => {
                    assert!(RETRIABLE.contains(&error), "{error:?}");
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(_) => {
                    cut += 1;
                    break;
                }
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    cut
}

#[test]
fn no_acknowledged_commit_is_lost_or_moved_back_by_kill_9() {
    let kills = setting("SAWLOG_CRASH_KILLS", 5);
    let data = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut broker = BrokerProcess::start(data.path(), address, &[]);
    create_topic(address);
    let names: Vec<String> = (0..GROUPS).map(|at| format!("committing-{at}")).collect();
    let found = GroupWire::connect(address, &names[0]).unwrap().find_coordinator().unwrap();
    assert_eq!(found, ErrorCode::NONE);
    let acknowledged: Vec<AtomicI64> = names.iter().map(|_| AtomicI64::new(-1)).collect();
    let stop = AtomicBool::new(false);
    let total = || acknowledged.iter().map(|last| last.load(Ordering::Acquire)).sum::<i64>();
    std::thread::scope(|scope| {
        let committing: Vec<_> = names
            .iter()
            .zip(&acknowledged)
            .map(|(name, last)| scope.spawn(|| commit_on(address, name, (last, &stop))))
            .collect();
        for kill in 0..kills {
            // A kill counts only if it interrupts commits.
            let before = total();
            while total() < before + 20 {
                std::thread::sleep(Duration::from_millis(1 + kill % 5));
            }
            broker.kill();
            // Nobody commits now: what was acknowledged is what has to be there.
            let floor: Vec<i64> =
                acknowledged.iter().map(|it| it.load(Ordering::Acquire)).collect();
            broker = BrokerProcess::start(data.path(), address, &[]);
            for (name, floor) in names.iter().zip(floor) {
                let stored = GroupWire::connect(address, name).unwrap().committed(TOPIC).unwrap();
                assert!(stored >= floor, "{name}: {floor} was acknowledged, {stored} is stored");
            }
        }
        stop.store(true, Ordering::Relaxed);
        let cut: usize = committing.into_iter().map(|one| one.join().unwrap()).sum();
        assert!(cut > 0, "a kill interrupted somebody");
    });
    for (name, last) in names.iter().zip(&acknowledged) {
        let stored = GroupWire::connect(address, name).unwrap().committed(TOPIC).unwrap();
        assert_eq!(stored, last.load(Ordering::Acquire), "{name}");
    }
    assert!(broker.terminate(), "SIGTERM is a clean stop");
    println!("{kills} kills, {} commits acknowledged", total());
}

#[test]
fn members_that_wait_to_join_do_not_hold_up_a_stop() {
    let data = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(
        data.path(),
        free_address(),
        &["-X", "group.initial.rebalance.delay.ms=600000"],
    );
    let mut member = GroupWire::connect(broker.address(), "waiting").unwrap();
    assert_eq!(member.find_coordinator().unwrap(), ErrorCode::NONE);
    assert_eq!(member.committed(TOPIC).unwrap(), -1, "the coordinator is ready");
    let metadata = bytes::Bytes::from_static(&[0; 6]);
    member.send_join("", &metadata).unwrap();
    let (required, id) = member.receive_join().unwrap().unwrap_err();
    assert_eq!(required, ErrorCode::MEMBER_ID_REQUIRED);
    member.send_join(&id, &metadata).unwrap();
    // It waits for ten minutes, but for the stop. A heartbeat on another connection finds it there.
    let membership = super::groups::Membership { member: id, ..Default::default() };
    let mut other = GroupWire::connect(broker.address(), "waiting").unwrap();
    while other.heartbeat(&membership).unwrap() == ErrorCode::UNKNOWN_MEMBER_ID {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(broker.terminate(), "a clean stop");
    match member.receive_join() {
        // Closed, as any other connection.
        Err(_) => {}
        Ok(answer) => assert!(RETRIABLE.contains(&answer.unwrap_err().0)),
    }
}
