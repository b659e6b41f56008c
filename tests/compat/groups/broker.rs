//! The broker under the groups: killed and started again while they are at work. It is Sawlog, or with
//! `COMPAT_BROKER=kafka` an Apache Kafka, to prove that what is demanded here holds there.

use std::env;
use std::path::Path;

use sawlog_tests::Server;

use crate::support::kafka::Kafka;

/// The consumer protocol has its session timeout on the broker: as short as the classic members' own.
pub(super) const SETTINGS: [(&str, &str); 4] = [
    ("group.consumer.min.session.timeout.ms", "6000"),
    ("group.consumer.session.timeout.ms", "15000"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];

#[derive(Debug)]
pub(super) enum Broker {
    Sawlog(Server),
    Kafka(Kafka),
}

impl Broker {
    pub(super) fn start(scratch: &Path) -> Broker {
        if env::var("COMPAT_BROKER").is_ok_and(|name| name == "kafka") {
            let mut kafka = Kafka::start_with(scratch, &SETTINGS);
            kafka.wait_until_it_listens();
            return Broker::Kafka(kafka);
        }
        Broker::Sawlog(Server::start_with(&SETTINGS))
    }

    pub(super) fn address(&self) -> &str {
        match self {
            Broker::Sawlog(server) => server.address(),
            Broker::Kafka(kafka) => kafka.address(),
        }
    }

    /// kill -9, and a new process on the same data and address.
    pub(super) fn kill_and_restart(&mut self) {
        match self {
            Broker::Sawlog(server) => server.kill_and_restart(),
            Broker::Kafka(kafka) => kafka.kill_and_restart(),
        }
    }
}
