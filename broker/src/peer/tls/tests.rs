//! What is said of files, and when they are used.

use std::fs;

use rcgen::ExtendedKeyUsagePurpose as Usage;
use tempfile::TempDir;

use super::fixture::{Authority, Subject, changed};
use super::*;

fn error(config: &BrokerConfig) -> String {
    PeerTls::open(config).unwrap_err().to_string()
}

fn authority(scratch: &TempDir, name: &str) -> Authority {
    Authority::new(&scratch.path().join(name))
}

#[test]
fn without_files_there_is_no_tls_and_with_some_it_is_said_which_are_missing() {
    assert!(PeerTls::open(&BrokerConfig::default()).unwrap().is_none());
    let scratch = TempDir::new().unwrap();
    let whole = authority(&scratch, "ca").node(Some(3));
    assert_eq!(PeerTls::open(&whole).unwrap().unwrap().node(), Some(BrokerId(3)));
    let half = changed(&whole, |it| it.peer_tls_key_file.clear());
    assert!(error(&half).contains("peer.tls.key.file is missing"), "{}", error(&half));
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_property_and_name() {
    let scratch = TempDir::new().unwrap();
    let (ours, theirs) = (authority(&scratch, "ours"), authority(&scratch, "theirs"));
    let good = ours.node(None);
    let other = theirs.node(None);
    let assert_says = |config: BrokerConfig, words: &[&str]| {
        let text = error(&config);
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    };
    assert_says(
        changed(&good, |it| it.peer_tls_ca_file = "/nowhere/to/be/found".to_owned()),
        &["peer.tls.ca.file", "/nowhere", "cannot read"],
    );
    assert_says(
        changed(&good, |it| it.peer_tls_key_file.clone_from(&other.peer_tls_key_file)),
        &["peer.tls.key.file", "theirs", "is not the key of"],
    );
    assert_says(
        changed(&good, |it| it.peer_tls_ca_file.clone_from(&other.peer_tls_ca_file)),
        &["peer.tls.certificate.file", "is not signed by an authority"],
    );
    assert_says(
        changed(&good, |it| it.peer_tls_certificate_file.clone_from(&good.peer_tls_key_file)),
        &["peer.tls.certificate.file", "no certificate in it"],
    );
    assert_says(
        changed(&good, |it| it.peer_tls_key_file.clone_from(&good.peer_tls_certificate_file)),
        &["peer.tls.key.file", "no private key in it"],
    );
    assert_says(
        changed(&good, |it| it.peer_tls_certificate_file.clone_from(&it.peer_tls_ca_file)),
        &["peer.tls.certificate.file", "is that of an authority"],
    );
    assert_says(ours.issue("old", Subject::default()), &["old.pem", "has expired"]);
    let client = Subject { days: 9, usages: &[Usage::ClientAuth], ..Subject::default() };
    assert_says(ours.issue("client", client), &["client.pem", "serverAuth and clientAuth"]);
    let vague = Subject { days: 9, uris: &["sawlog://node/a"], ..Subject::default() };
    assert_says(ours.issue("vague", vague), &["vague.pem", "sawlog://node/a"]);
}

#[test]
fn its_end_is_known_and_a_certificate_with_both_usages_is_as_good_as_one_with_none() {
    let scratch = TempDir::new().unwrap();
    let usages = &[Usage::ServerAuth, Usage::ClientAuth];
    let subject = Subject { days: 90, usages, ..Subject::default() };
    let config = authority(&scratch, "ca").issue("both", subject);
    let tls = PeerTls::open(&config).unwrap().unwrap();
    assert!((89..=90).contains(&days_left(tls.expires())), "{}", tls.expires());
    assert!(!tls.warn_of_its_end());
}

#[test]
fn the_certificate_of_another_node_is_none() {
    let scratch = TempDir::new().unwrap();
    let tls = PeerTls::open(&authority(&scratch, "ca").node(Some(3))).unwrap().unwrap();
    let text = tls.introduce(BrokerId(2)).unwrap_err().to_string();
    assert!(text.contains("3.pem is for node 3, and this is 2"), "{text}");
    assert_eq!(tls.introduce(BrokerId(3)), Ok(()));
}

#[test]
fn files_that_are_replaced_are_used_once_they_rest_and_bad_ones_are_not() {
    let scratch = TempDir::new().unwrap();
    let ours = authority(&scratch, "ours");
    let tls = PeerTls::open(&ours.node(Some(1))).unwrap().unwrap();
    tls.introduce(BrokerId(1)).unwrap();
    let first = tls.expires();
    let look = || tls.look(tls.files.read());
    assert!(!look() && !look(), "nothing has changed");

    let uris = &["sawlog://node/1"];
    ours.issue("1", Subject { uris, days: 200, ..Subject::default() });
    assert!(!look(), "it may not be all");
    assert!(look());
    assert!(tls.expires() > first);
    assert!(!look());

    let second = tls.expires();
    ours.issue("1", Subject { uris: &["sawlog://node/2"], days: 300, ..Subject::default() });
    fs::remove_file(ours.at("1", "key")).unwrap();
    assert!(!look() && !look() && !look(), "the key is gone");
    ours.issue("1", Subject { uris: &["sawlog://node/2"], days: 300, ..Subject::default() });
    assert!(!look() && !look() && !look(), "it is another node's");
    assert_eq!(tls.expires(), second);
    ours.issue("1", Subject { uris, days: 20, ..Subject::default() });
    assert!(!look());
    assert!(look(), "after bad ones as well");
    assert!(tls.warn_of_its_end());
}
