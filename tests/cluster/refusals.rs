//! What does not belong to a cluster is refused with a sentence, by real processes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::heard::{Broker, Scratch, join};
use crate::process::free_address;

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status().expect("cp runs");
    assert!(copied.success());
}

#[test]
fn a_directory_of_another_cluster_is_refused_with_both_ids() {
    let scratch = Scratch::new();
    let first = Broker::start(&scratch.at("1"), &[]).once_ready();
    drop(Broker::start(&scratch.at("other"), &[]).once_ready());
    let [flag, at] = join(&first);
    Broker::start(&scratch.at("other"), &[&flag, &at])
        .gives_up(&["cannot join", "belongs to cluster"]);
    first.says(&["a peer that calls is refused", "belongs to cluster"]);
    // Also one that has peers of its own.
    let lonely = Broker::start(&scratch.at("other"), &[]).once_ready();
    let [flag, own] = join(&lonely);
    drop(Broker::start(&scratch.at("second"), &[&flag, &own]).once_ready());
    Broker::start(&scratch.at("second"), &["--join", &at])
        .gives_up(&["cannot join", "belongs to cluster"]);
}

#[test]
fn two_brokers_of_one_id_are_refused_on_both_sides() {
    let scratch = Scratch::new();
    let first = Broker::start(&scratch.at("1"), &[]).once_ready();
    let [flag, at] = join(&first);
    Broker::start(&scratch.at("2"), &[&flag, &at, "-X", "node.id=1"])
        .gives_up(&["cannot join", "broker 1 is in the cluster, with another data directory"]);
    first.says(&["a node that wants to join is refused", "broker 1 is in the cluster"]);
}

#[test]
fn a_copy_of_a_data_directory_is_refused_while_the_original_runs() {
    let scratch = Scratch::new();
    let first = Broker::start(&scratch.at("1"), &[]).once_ready();
    let [flag, at] = join(&first);
    let second = Broker::start(&scratch.at("2"), &[&flag, &at]).once_ready();
    copy(&scratch.at("2"), &scratch.at("copy"));
    Broker::start(&scratch.at("copy"), &[&flag, &at]).gives_up(&["another process"]);
    first.says(&["a peer that calls is refused", "another process"]);
    // Also one that asks nobody, and finds out who the others are by itself.
    Broker::start(&scratch.at("copy"), &[]).gives_up(&["cannot take part", "another process"]);
    // The original goes on.
    drop(second);
    Broker::start(&scratch.at("2"), &[&flag, &at]).once_ready();
}

#[test]
fn who_joins_itself_or_nobody_is_told() {
    let scratch = Scratch::new();
    let (clients, peers) = (free_address(), free_address());
    let own = peers.to_string();
    Broker::start_at(&scratch.at("1"), clients, peers, &["--join", &own])
        .gives_up(&["cannot join", "is this broker itself"]);
    let nobody = free_address().to_string();
    let waits = Broker::start(&scratch.at("1"), &["--join", &nobody]);
    waits.says(&["still waiting to join the cluster", "cannot reach", &nobody]);
    waits.terminate();
}

#[test]
fn the_port_for_clients_is_as_good_to_join_as_the_one_for_peers() {
    let scratch = Scratch::new();
    let first = Broker::start(&scratch.at("1"), &[]).once_ready();
    let at = first.clients.to_string();
    let second = Broker::start(&scratch.at("2"), &["--join", &at]).once_ready();
    second.says(&["a port for clients", &at, &first.peers.to_string()]);
}

#[test]
fn what_is_no_broker_is_refused_on_the_port_for_peers_and_when_it_is_to_be_joined() {
    let scratch = Scratch::new();
    let first = Broker::start(&scratch.at("1"), &[]).once_ready();
    let tls = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    let http: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for bytes in [http, &tls, &[0; 64], &[0xff; 64]] {
        let mut stream = TcpStream::connect(first.peers).expect("it listens");
        stream.write_all(bytes).expect("it is written");
        stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        let mut answer = Vec::new();
        // Reset is as good as closed.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    first.says(&["a connection to the port for peers is no broker's"]);
    let web = TcpListener::bind(free_address()).expect("a free port");
    let at = web.local_addr().expect("a bound listener has an address").to_string();
    std::thread::spawn(move || {
        for mut stream in web.incoming().map_while(Result::ok) {
            // Whoever is gone is gone.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        }
    });
    Broker::start(&scratch.at("2"), &["--join", &at]).gives_up(&["cannot join", &at]);
}

#[test]
fn all_addresses_of_a_machine_are_none_in_a_cluster() {
    let scratch = Scratch::new();
    let first = Broker::start(&scratch.at("1"), &[]).once_ready();
    let [flag, at] = join(&first);
    let any = SocketAddr::from(([0, 0, 0, 0], free_address().port()));
    let extra = [flag.as_str(), &at, "--insecure"];
    Broker::start_at(&scratch.at("2"), any, free_address(), &extra).gives_up(&["--advertise"]);
    // Alone it works: each client is told the address it came by.
    let alone =
        Broker::start_at(&scratch.at("3"), any, free_address(), &["--insecure"]).once_ready();
    let [flag, at] = join(&alone);
    Broker::start(&scratch.at("4"), &[&flag, &at]).gives_up(&[
        "cannot join",
        "broker 1 tells clients to connect to",
        "--advertise",
    ]);
}

#[test]
fn a_directory_of_a_newer_version_is_refused() {
    let scratch = Scratch::new();
    drop(Broker::start(&scratch.at("1"), &[]).once_ready());
    std::fs::write(scratch.at("1").join("meta"), "format=2\n").expect("it can be written");
    Broker::start(&scratch.at("1"), &[])
        .gives_up(&["has format 2", "this version of sawlog knows up to"]);
}

#[test]
fn a_disk_that_lost_its_votes_is_not_the_node_it_was() {
    let scratch = Scratch::new();
    let first = Broker::start(&scratch.at("1"), &[]).once_ready();
    let [flag, at] = join(&first);
    drop(Broker::start(&scratch.at("2"), &[&flag, &at]).once_ready());
    // As if it had replicas.
    std::fs::create_dir_all(scratch.at("2").join("topics")).expect("it can be made");
    let quorum = scratch.at("2").join("quorum");
    std::fs::remove_dir_all(&quorum).expect("it is there");
    // With data the rest of the directory is not worth more than a backup.
    Broker::start(&scratch.at("2"), &[&flag, &at]).gives_up(&["its log is missing"]);
    let topics = scratch.at("2").join("topics");
    std::fs::remove_dir_all(&topics).expect("it is there");
    if quorum.exists() {
        std::fs::remove_dir_all(&quorum).expect("it is there");
    }
    Broker::start(&scratch.at("2"), &[]).gives_up(&["has no metadata log any more", "--join"]);
    // With nothing left it begins anew, under another id.
    let again = Broker::start(&scratch.at("2"), &[&flag, &at, "-X", "node.id=2"]).once_ready();
    drop(again);
}
