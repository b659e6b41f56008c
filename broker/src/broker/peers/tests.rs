//! Brokers that find each other: whole ones, in one process.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Broker;
use crate::base::BrokerId;
use crate::config::Sources;
use crate::quorum::raft::QuorumState;

/// Long enough for anything that is to happen.
const SOON: Duration = Duration::from_secs(60);

fn start_with(directory: &Path, settings: &[(&str, &str)]) -> Result<Broker, String> {
    let sources = Sources::new()
        .flag("--data", "log.dirs", &directory.display().to_string())
        .flag("--listen", "listeners", "127.91.7.1:0")
        .flag("-X", "http.listener", "none");
    let sources = settings.iter().fold(sources, |all, (key, value)| all.flag("-X", key, value));
    Broker::start(sources.load().unwrap()).map_err(|error| error.to_string())
}

fn start(directory: &Path) -> Broker {
    start_with(directory, &[]).unwrap()
}

fn join(directory: &Path, member: &Broker) -> Broker {
    start_with(directory, &[("cluster.join", &member.peer_address().to_string())]).unwrap()
}

fn until(broker: &Broker, what: impl Fn(&QuorumState) -> bool) -> QuorumState {
    let began = Instant::now();
    loop {
        let state = broker.quorum().state();
        if what(&state) {
            return state;
        }
        assert!(began.elapsed() < SOON, "waited too long: {state:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn voters(state: &QuorumState) -> Vec<i32> {
    let voters = state.members.iter().filter(|member| member.votes);
    let mut brokers: Vec<i32> = voters.map(|member| member.member.broker.0).collect();
    brokers.sort_unstable();
    brokers
}

#[test]
fn brokers_that_join_get_ids_and_vote_when_there_are_three_and_outlive_one() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let first = start(dirs[0].path());
    let second = join(dirs[1].path(), &first);
    let third = join(dirs[2].path(), &second);
    assert_eq!((second.summary().node_id, third.summary().node_id), (2, 3));
    for broker in [&second, &third] {
        assert_eq!(broker.summary().cluster_id, first.summary().cluster_id);
        let state = until(broker, |state| voters(state) == [1, 2, 3] && !state.changing);
        assert_eq!(state.leader, Some(first.quorum().state().raft_id));
    }
    let addresses: Vec<_> = [&first, &second, &third].map(|one| one.peer_address().clone()).into();
    first.stop();
    let state = until(&second, |state| state.leader.is_some() && state.term > 1);
    assert_ne!(
        state.leader,
        state.members.iter().find(|one| one.member.broker == BrokerId(1)).map(|one| one.raft_id)
    );
    // A port that was free to choose is the same after a restart.
    let first = start(dirs[0].path());
    assert_eq!(first.peer_address(), &addresses[0]);
    until(&first, |back| back.leader.is_some() && back.term >= state.term);
    third.stop();
    let third = join(dirs[2].path(), &first);
    assert_eq!(third.peer_address(), &addresses[2]);
    assert_eq!(third.summary().node_id, 3, "who has joined is who it was");
    for broker in [first, second, third] {
        broker.stop();
    }
}

#[test]
fn a_broker_that_has_moved_is_found_where_it_is() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let first = start(dirs[0].path());
    let second = join(dirs[1].path(), &first);
    second.stop();
    let second = start_with(dirs[1].path(), &[("peer.listener", "127.91.7.2:0")]).unwrap();
    until(&first, |state| {
        let mut members = state.members.iter();
        members.any(|member| member.member.endpoint == *second.peer_address())
    });
    second.stop();
    first.stop();
}

#[test]
fn a_broker_with_a_cluster_of_its_own_is_told_both() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let first = start(dirs[0].path());
    let other = start(dirs[1].path());
    let cluster = other.summary().cluster_id.clone();
    other.stop();
    let join = [("cluster.join", first.peer_address().to_string())];
    let join: Vec<(&str, &str)> = join.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let error = start_with(dirs[1].path(), &join).unwrap_err();
    assert!(error.contains(&cluster) && error.contains(&first.summary().cluster_id), "{error}");
    first.stop();
}

#[test]
fn an_id_that_is_taken_by_a_broker_that_lives_is_refused() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let first = start(dirs[0].path());
    let at = first.peer_address().to_string();
    let error = start_with(dirs[1].path(), &[("cluster.join", &at), ("node.id", "1")]).unwrap_err();
    assert!(error.contains("broker 1 is in the cluster"), "{error}");
    let joined = start_with(dirs[1].path(), &[("cluster.join", &at), ("node.id", "7")]).unwrap();
    assert_eq!(joined.summary().node_id, 7);
    joined.stop();
    first.stop();
}

#[test]
fn a_port_of_ones_own_choice_that_is_taken_fails_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((IpAddr::V4(Ipv4Addr::new(127, 91, 7, 3)), 0)).unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let error = start_with(dir.path(), &[("peer.listener", &at)]).unwrap_err();
    assert!(error.contains(&at), "{error}");
}
