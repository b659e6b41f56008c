//! Brokers that talk over TLS, as real processes: who belongs together does, and who does not is told why.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sawlog_client::{Client, ClientOptions};
use tokio::task::block_in_place;

use crate::heard::{Broker, Scratch, join};
use crate::load::{check, connect};
use crate::nodes::{is_whole, until, vote};
use crate::process::free_address;
use crate::{Load, PARTITIONS, TOPIC, create};

const DAY: Duration = Duration::from_secs(86_400);

/// An authority, and the directory of what it has issued.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Authority {
    fn new(directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).expect("a scratch directory");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        let name = directory.file_name().expect("it has a name").to_string_lossy().into_owned();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        fs::write(directory.join("ca.pem"), issuer.pem()).expect("it can be written");
        Self { issuer, directory }
    }

    /// Issues a certificate, that of a node or of all, over the one there was. Returns what has a broker
    /// use it.
    fn issue(&self, node: Option<i32>, days: i32) -> Vec<String> {
        // A name by which a client that checks names may call it.
        let mut params = CertificateParams::new(vec!["broker".to_owned()]).expect("a name");
        let uri = node.map(|node| format!("sawlog://node/{node}"));
        let uri = uri.map(|uri| SanType::URI(uri.as_str().try_into().expect("a URI")));
        params.subject_alt_names.extend(uri);
        let now = SystemTime::now();
        let days_from_now = DAY * days.unsigned_abs();
        params.not_before = (now - 100 * DAY).into();
        params.not_after = if days < 0 { now - days_from_now } else { now + days_from_now }.into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        fs::write(self.at(node, "key"), key.serialize_pem()).expect("it can be written");
        fs::write(self.at(node, "pem"), certificate.pem()).expect("it can be written");
        self.settings(node, &self.directory.join("ca.pem"))
    }

    fn settings(&self, node: Option<i32>, authorities: &std::path::Path) -> Vec<String> {
        let settings = [
            format!("peer.tls.certificate.file={}", self.at(node, "pem").display()),
            format!("peer.tls.key.file={}", self.at(node, "key").display()),
            format!("peer.tls.ca.file={}", authorities.display()),
        ];
        settings.into_iter().flat_map(|setting| ["-X".to_owned(), setting]).collect()
    }

    fn at(&self, node: Option<i32>, kind: &str) -> PathBuf {
        let name = node.map_or_else(|| "all".to_owned(), |node| node.to_string());
        self.directory.join(format!("{name}.{kind}"))
    }

    /// The certificate of a node as it is now.
    fn certificate(&self, node: i32) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.at(Some(node), "pem")).expect("a certificate")
    }
}

fn words(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// A peer that trusts the authority and has no certificate. Returns the one it was shown, and what its
/// first read came to.
fn call_without_certificate(
    at: SocketAddr,
    authority: &Authority,
) -> (CertificateDer<'static>, String) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("broker").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let socket = TcpStream::connect(at).expect("it listens");
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(&[0; 24]).expect("the handshake is over for who calls");
    let ended = stream.read(&mut [0; 64]).expect_err("nobody without a certificate is answered");
    let shown = stream.conn.peer_certificates().and_then(<[_]>::first).cloned();
    (shown.expect("a certificate"), ended.to_string())
}

async fn client(brokers: &[&Broker]) -> Client {
    let addresses: Vec<String> = brokers.iter().map(|broker| broker.clients.to_string()).collect();
    let mut options = ClientOptions::new(&addresses.join(","));
    options.timeout = Duration::from_secs(5);
    options.connect_timeout = Duration::from_secs(2);
    options.reconnect_backoff_max = Duration::from_millis(200);
    connect(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_with_certificates_are_a_cluster_and_go_on_with_new_ones() {
    let scratch = Scratch::new();
    let ours = Authority::new(scratch.at("ours"));
    let started = |id: i32, extra: &[String], peers: SocketAddr, clients: SocketAddr| {
        let data = scratch.at(&id.to_string());
        let extra = [ours.settings(Some(id), &ours.directory.join("ca.pem")), extra.to_vec()];
        let extra = extra.concat();
        block_in_place(|| Broker::start_at(&data, clients, peers, &words(&extra)).once_ready())
    };
    let start = |id: i32, extra: &[String]| {
        ours.issue(Some(id), 400);
        started(id, extra, free_address(), free_address())
    };
    let first = start(1, &[]);
    // No id is given: the certificate has one.
    let third = start(3, &join(&first));
    // Also by way of the port for clients, where nobody speaks TLS.
    let http = free_address().to_string();
    let extra = ["--join", &first.clients.to_string(), "-X", &format!("http.listener={http}")];
    let second = start(2, &extra.map(ToOwned::to_owned));
    second.says(&["a port for clients"]);
    let client = client(&[&first, &second, &third]).await;
    vote(&client, &[1, 2, 3]).await;
    create(&client, 3).await;
    until(&client, TOPIC, "three replicas in sync", |_, topic| is_whole(topic)).await;
    let load = Load::start(&client);
    load.progress().await;

    let old = ours.certificate(2);
    assert_eq!(call_without_certificate(second.peers, &ours).0, old);
    ours.issue(Some(2), 20);
    block_in_place(|| {
        second.says(&["the certificate for peers was replaced"]);
        second.says(&["the certificate for peers expires soon", "20"]);
    });
    let new = ours.certificate(2);
    assert_ne!(new, old);
    assert_eq!(call_without_certificate(second.peers, &ours).0, new);
    let page = block_in_place(|| sawlog_tests::http::get(&http, "/metrics"));
    let ends = page.metric("sawlog_peer_certificate_expiry_timestamp_seconds").expect("an end");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let days = (ends - now.as_secs_f64()) / DAY.as_secs_f64();
    assert!((19.0..=20.0).contains(&days), "it ends in {days} days");
    load.progress().await;

    // A broker that comes back connects anew with all others.
    let (clients, peers) = (third.clients, third.peers);
    drop(third);
    load.progress().await;
    let _third = started(3, &[], peers, clients);
    until(&client, TOPIC, "all in sync again", |_, topic| is_whole(topic)).await;
    vote(&client, &[1, 2, 3]).await;
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}

#[test]
fn peers_without_certificates_are_refused_and_so_are_those_with_others() {
    let scratch = Scratch::new();
    let (ours, theirs) = (Authority::new(scratch.at("ours")), Authority::new(scratch.at("theirs")));
    let first = Broker::start(&scratch.at("1"), &words(&ours.issue(Some(1), 400))).once_ready();
    let join = join(&first);
    let starts = |name: &str, settings: Vec<String>| {
        let all = [settings, join.to_vec()].concat();
        Broker::start(&scratch.at(name), &words(&all))
    };

    // Without TLS.
    let reason = "it calls without TLS, which this broker asks for";
    starts("plain", Vec::new()).gives_up(&["cannot join", "refuses", reason]);
    first.says(&["a peer that calls is refused", reason]);

    // With TLS, and without a certificate.
    let (_, ended) = call_without_certificate(first.peers, &ours);
    assert!(ended.contains("CertificateRequired"), "{ended}");
    first.says(&["a peer that calls is refused", "it shows no certificate"]);

    // With that of a foreign authority: neither side trusts the other.
    let reason = "its certificate is not signed by an authority in peer.tls.ca.file";
    starts("foreign", theirs.issue(Some(2), 400)).gives_up(&["cannot join", "is refused", reason]);
    let alert = "no authority in its peer.tls.ca.file has signed the certificate of this broker";
    first.says(&["a peer that calls refuses this broker", alert]);

    // The same, of one that would trust this cluster.
    let both = theirs.directory.join("both.pem");
    let of = |authority: &Authority| fs::read(authority.directory.join("ca.pem")).expect("a file");
    fs::write(&both, [of(&ours), of(&theirs)].concat()).expect("it can be written");
    starts("trusting", theirs.settings(Some(2), &both)).gives_up(&[
        "cannot join",
        "refuses",
        alert,
    ]);
    first.says(&["a peer that calls is refused", reason]);

    // Nobody of them was let in, and whom the authority knows is.
    let second = starts("2", ours.issue(Some(2), 400)).once_ready();
    second.says(&["broker started", "node_id=2"]);
}

#[test]
fn a_certificate_is_good_for_its_node_and_for_its_time() {
    let scratch = Scratch::new();
    let ours = Authority::new(scratch.at("ours"));
    let first = Broker::start(&scratch.at("1"), &words(&ours.issue(Some(1), 400))).once_ready();
    let join = join(&first);
    let starts = |name: &str, extra: &[&str], settings: Vec<String>| {
        let all = [settings, join.to_vec()].concat();
        Broker::start(&scratch.at(name), &[words(&all), extra.to_vec()].concat())
    };
    let second = ours.issue(Some(2), 400);
    let _second = starts("2", &[], second.clone()).once_ready();

    // That of another node: not even tried, and nobody takes its place with it.
    starts("4", &["-X", "node.id=4"], second.clone())
        .gives_up(&["2.pem is for node 2, and this is 4"]);
    let reason = "broker 2 is in the cluster, with another data directory";
    starts("stolen", &[], second).gives_up(&["cannot join", reason]);
    first.says(&["a node that wants to join is refused", reason]);

    // One for all of them is as good for a node as its own, and may be what it had not before.
    let shared = ours.issue(None, 400);
    let third = starts("3", &["-X", "node.id=3"], shared.clone()).once_ready();
    drop(third);
    starts("3", &[], ours.issue(Some(3), 400)).once_ready().says(&["node_id=3"]);

    starts("late", &[], ours.issue(Some(5), -1)).gives_up(&["5.pem", "has expired; renew it"]);
    let half = &shared[..4];
    starts("half", &[], half.to_vec()).gives_up(&["peer.tls.ca.file is missing"]);
}

#[test]
fn a_cluster_without_tls_refuses_who_comes_with_it() {
    let scratch = Scratch::new();
    let ours = Authority::new(scratch.at("ours"));
    let first = Broker::start(&scratch.at("1"), &[]).once_ready();
    let all = [ours.issue(None, 400), join(&first).to_vec()].concat();
    Broker::start(&scratch.at("2"), &words(&all)).gives_up(&[
        "cannot join",
        "is refused",
        "it does not speak TLS",
    ]);
    first.says(&["a peer that calls is refused", "it calls with TLS"]);
}

#[test]
fn only_with_certificates_a_port_for_peers_needs_no_leave_to_be_open_to_other_machines() {
    let scratch = Scratch::new();
    let ours = Authority::new(scratch.at("ours"));
    let any = SocketAddr::from(([0, 0, 0, 0], free_address().port()));
    let told = format!("peer.advertised.listener=127.0.0.1:{}", any.port());
    let start = |settings: &[String]| {
        let extra = [words(settings), vec!["-X", &told]].concat();
        Broker::start_at(&scratch.at("1"), free_address(), any, &extra)
    };
    start(&[]).gives_up(&[
        "refused to listen on 0.0.0.0",
        "peer.tls.certificate.file",
        "--insecure",
    ]);
    start(&ours.issue(None, 400)).once_ready().says(&["listening for peers", "0.0.0.0"]);
}
