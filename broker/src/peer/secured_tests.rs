//! Nodes in one process that talk over TLS, or would like to.

use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::tests::{Echo, Node, SOON, identity, node_with};
use super::tls::fixture::{Authority, Subject, changed};
use super::*;
use crate::config::BrokerConfig;

fn secured(me: PeerIdentity, config: &BrokerConfig) -> Node {
    let node = node_with(me, PeerTls::open(config).unwrap());
    Service::ALL.into_iter().for_each(|service| node.peers.serve(service, Arc::new(Echo)));
    node
}

fn plain(me: PeerIdentity) -> Node {
    secured(me, &BrokerConfig::default())
}

struct Authorities {
    _scratch: TempDir,
    ours: Authority,
    theirs: Authority,
}

fn authorities() -> Authorities {
    let scratch = TempDir::new().unwrap();
    let at = |name: &str| Authority::new(&scratch.path().join(name));
    Authorities { ours: at("ours"), theirs: at("theirs"), _scratch: scratch }
}

async fn ask(from: &Node, to: &Node, request: Bytes) -> Result<Bytes, PeerError> {
    from.peers.call_at(&to.at, Service::Join, request, SOON).await
}

async fn refusal(from: &Node, to: &Node) -> String {
    match ask(from, to, Bytes::new()).await {
        Err(PeerError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn large_and_small_messages_go_through_tls_in_both_directions() {
    let all = authorities();
    let a = secured(identity(1, 1, 11), &all.ours.node(Some(1)));
    let b = secured(identity(1, 2, 12), &all.ours.node(None));
    a.peers.know(BrokerId(2), b.at.clone());
    for size in [0, 1, 5000, 3 << 20] {
        let request = Bytes::from(vec![7u8; size]);
        let answer = a.peers.call(BrokerId(2), Service::Replication, request.clone(), SOON).await;
        let expected = [b"Some(1):", &request[..], &request[..]].concat();
        assert!(answer.unwrap() == expected, "of {size} bytes");
    }
    assert_eq!(ask(&b, &a, Bytes::new()).await.unwrap(), "Some(2):");
}

#[tokio::test]
async fn with_and_without_tls_there_is_no_connection_and_both_sides_know_why() {
    let all = authorities();
    let with = secured(identity(1, 1, 11), &all.ours.node(Some(1)));
    let without = plain(identity(1, 2, 12));
    let text = refusal(&without, &with).await;
    assert!(text.contains("refuses: it calls without TLS"), "{text}");
    with.logs("it calls without TLS").await;
    let text = refusal(&with, &without).await;
    assert!(text.contains("is refused: it does not speak TLS"), "{text}");
    without.logs("it calls with TLS").await;
}

#[tokio::test]
async fn another_authority_is_refused_by_both_sides() {
    let all = authorities();
    let ours = secured(identity(1, 1, 11), &all.ours.node(Some(1)));
    let theirs = secured(identity(1, 2, 12), &all.theirs.node(Some(2)));
    let text = refusal(&theirs, &ours).await;
    assert!(text.contains("is refused: its certificate is not signed by"), "{text}");
    ours.logs("has signed the certificate of this broker").await;
    // One that trusts both: here it is the side that was called that refuses, after the caller is done.
    let trusting = all.theirs.node(Some(3));
    let bundle = [&all.ours, &all.theirs].map(|one| std::fs::read(one.at("ca", "pem")).unwrap());
    std::fs::write(all.theirs.at("both", "pem"), bundle.concat()).unwrap();
    let both = all.theirs.at("both", "pem").to_string_lossy().into_owned();
    let trusting = changed(&trusting, |it| it.peer_tls_ca_file = both);
    let trusting = secured(identity(1, 3, 13), &trusting);
    let text = refusal(&trusting, &ours).await;
    assert!(text.contains("refuses: no authority in its peer.tls.ca.file"), "{text}");
    ours.logs("its certificate is not signed by an authority").await;
}

#[tokio::test]
async fn a_certificate_is_good_for_its_node_alone() {
    let all = authorities();
    let one = secured(identity(1, 1, 11), &all.ours.node(Some(1)));
    // It would not start so.
    let two = secured(identity(1, 2, 12), &all.ours.node(Some(4)));
    let text = refusal(&two, &one).await;
    let sentence = "it calls itself broker 2, and its certificate is that of node 4";
    assert!(text.contains("refuses") && text.contains(sentence), "{text}");
    one.logs(sentence).await;
    let text = refusal(&one, &two).await;
    assert!(text.contains("is refused") && text.contains(sentence), "{text}");
    // Who has no id yet is known by its certificate.
    let joins = secured(identity(0, -1, 13), &all.ours.node(Some(3)));
    assert_eq!(ask(&joins, &one, Bytes::new()).await.unwrap(), "Some(3):");
    let vague = secured(identity(0, -1, 14), &all.ours.node(None));
    assert_eq!(ask(&vague, &one, Bytes::new()).await.unwrap(), "None:");
}

#[tokio::test]
async fn a_certificate_that_expired_since_is_refused() {
    let all = authorities();
    let one = secured(identity(1, 1, 11), &all.ours.node(Some(1)));
    let two = node_with(identity(1, 2, 12), {
        let config = all.ours.node(Some(2));
        let tls = PeerTls::open(&config).unwrap().unwrap();
        tls.age(&all.ours.issue("2", Subject { uris: &["sawlog://node/2"], ..Subject::default() }));
        Some(tls)
    });
    let text = refusal(&two, &one).await;
    assert!(text.contains("the certificate of this broker has expired"), "{text}");
    one.logs("its certificate has expired").await;
    let text = refusal(&one, &two).await;
    assert!(text.contains("its certificate has expired"), "{text}");
    two.logs("the certificate of this broker has expired").await;
}

#[tokio::test]
async fn who_only_looks_whether_somebody_listens_is_nobody_to_refuse() {
    let all = authorities();
    let one = secured(identity(1, 1, 11), &all.ours.node(Some(1)));
    drop(TcpStream::connect(("127.0.0.1", one.at.port)).await.unwrap());
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n0123456789"[..], &[0; 64], &[0x16; 64]] {
        let mut stream = TcpStream::connect(("127.0.0.1", one.at.port)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.len() < 8, "an alert at most: {answer:?}");
    }
    assert_eq!(one.peers.refusals().len(), 2, "of bytes that are none, and of a broken handshake");
    let two = secured(identity(1, 2, 12), &all.ours.node(Some(2)));
    assert_eq!(ask(&two, &one, Bytes::new()).await.unwrap(), "Some(2):");
}
