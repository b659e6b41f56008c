//! Groups of other people's clients: members join, leave, die, are stopped, and the broker is killed under
//! them. What must be true all the while is in `../README.md`.
//!
//! The groups of one test live on one broker, all at once: most of their time is waiting.

mod admin;
mod broker;
mod clients;
mod failover;
mod history;
mod life;
mod member;

use std::io::Write;
use std::thread;
use std::time::Duration;

use sawlog_protocol::ApiKey;
use tempfile::TempDir;

use self::admin::Admin;
use self::broker::Broker;
use self::clients::Client;
use self::life::Life;

/// Longest wait for a group to have settled. A session times out after 10 s at most; the rest is a busy machine.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[test]
fn eager_groups_keep_their_promises() {
    groups(&[
        (Client::JavaNewest, "range"),
        (Client::Java39, "roundrobin"),
        (Client::Confluent, "range"),
        (Client::KafkaPython, "roundrobin"),
        (Client::Aiokafka, "range"),
        (Client::FranzGo, "roundrobin"),
        (Client::Sarama, "range"),
        (Client::KafkaJs, "roundrobin"),
        (Client::Kcat, "roundrobin"),
    ]);
}

#[test]
fn cooperative_groups_keep_their_promises() {
    groups(&[
        (Client::JavaNewest, "cooperative"),
        (Client::Java39, "cooperative"),
        (Client::Confluent, "cooperative"),
        (Client::KafkaPython, "cooperative"),
        (Client::FranzGo, "cooperative"),
        (Client::Kcat, "cooperative"),
    ]);
}

/// KIP-848: the broker assigns, and its epochs take the place of generations.
#[test]
fn consumer_protocol_groups_keep_their_promises() {
    groups(&[
        (Client::JavaNewest, "consumer"),
        (Client::Confluent, "consumer"),
        (Client::FranzGo, "consumer"),
    ]);
}

/// Runs a group of each client on one broker.
fn groups(wanted: &[(Client, &'static str)]) {
    let wanted: Vec<_> = wanted.iter().filter(|(client, _)| client.is_available()).collect();
    if wanted.is_empty() {
        return;
    }
    let scratch = TempDir::new().expect("a scratch directory");
    let mut broker = Broker::start(scratch.path());
    let address = broker.address().to_owned();
    if wanted.iter().any(|(_, protocol)| *protocol == "consumer")
        && !serves_consumer_protocol(&address)
    {
        // Past the capture of the test runner: what is not available must be seen.
        let _ = writeln!(std::io::stderr(), "n/a groups of the consumer protocol: not advertised");
        return;
    }
    let mut lives: Vec<Life> =
        wanted.iter().map(|(client, protocol)| Life::new(*client, protocol, &address)).collect();
    in_parallel(&mut lives, Life::members_come_and_go);
    broker.kill_and_restart();
    in_parallel(&mut lives, Life::the_broker_is_back);
    in_parallel(&mut lives, Life::the_group_starts_anew);
    let failed: Vec<String> = lives.into_iter().filter_map(Life::verdict).collect();
    assert!(failed.is_empty(), "{} groups failed\n{}", failed.len(), failed.join("\n\n"));
}

/// Whether ApiVersions has ConsumerGroupHeartbeat.
fn serves_consumer_protocol(address: &str) -> bool {
    let apis = Admin::connect(address).and_then(|mut admin| admin.apis());
    apis.expect("the broker says what it serves").contains(&ApiKey::ConsumerGroupHeartbeat.as_i16())
}

fn in_parallel(lives: &mut [Life], part: fn(&mut Life) -> Result<(), String>) {
    thread::scope(|scope| {
        for life in lives {
            scope.spawn(move || life.live(part));
        }
    });
}
