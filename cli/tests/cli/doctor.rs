//! `sawlog doctor connect`: what is right is told, what is wrong comes with its remedy.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Output, Stdio};

use crate::support::{Broker, free_address, sawlog, stderr};

fn connect(arguments: &[&str]) -> Output {
    sawlog().args(["--timeout", "5s", "doctor", "connect"]).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_healthy_broker_passes_every_step() {
    let broker = Broker::start();
    let output = connect(&[&broker.address, "-o", "json", "--clock"]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let steps: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = steps.as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["name", "connect", "protocol", "listeners", "clock"]);
    assert!(steps.iter().all(|step| step["result"] == "good"), "{steps:?}");
    assert_eq!(broker.ok(&["topic", "list"], b""), "", "the clock's topic is gone");
}

#[test]
fn a_port_without_a_listener_and_a_wrong_name_are_told_apart() {
    let output = connect(&[&free_address()]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stdout(&output).contains("nothing listens"), "{}", stdout(&output));
    assert!(stderr(&output).contains("start the broker"), "{}", stderr(&output));
    let output = connect(&["no-such-host.invalid:9092"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stdout(&output).contains("does not resolve"), "{}", stdout(&output));
    assert_eq!(connect(&["nonsense"]).status.code(), Some(2));
}

#[test]
fn an_advertised_address_nobody_reaches_is_found() {
    let data = tempfile::tempdir().unwrap();
    let listen = free_address();
    let gone = free_address();
    let mut child = sawlog()
        .args(["serve", "--listen", &listen, "--advertise", &gone, "--data"])
        .arg(data.path().join("data"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = child.stderr.take().unwrap();
    let mut greeting = [0; 16];
    said.read_exact(&mut greeting).unwrap();
    let output = connect(&[&listen]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains(&format!("sends clients to {gone}: nothing listens")), "{text}");
    assert!(text.contains("fix: set advertised.listeners"), "{text}");
}

/// What is said of a server that answers a connection with these bytes and hangs up.
fn against(reply: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(reply).unwrap();
        // It may have read enough already, and be gone.
        let _gone = stream.shutdown(std::net::Shutdown::Write);
        // Closing with a request unread would reset the connection, and the reply with it. The
        // other side may do so.
        let _reset = stream.read_to_end(&mut Vec::new());
    });
    let output = connect(&[&address]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(5));
    stderr(&output)
}

#[test]
fn servers_of_other_protocols_are_recognized() {
    assert!(against(b"HTTP/1.1 400 Bad Request\r\n\r\n").contains("web server"));
    assert!(against(&[0x15, 3, 3, 0, 2, 2, 70]).contains("TLS"));
    assert!(against(&[0xff; 64]).contains("not Kafka's"));
    assert!(against(&[0, 0, 0, 40, 0, 0]).contains("is not Kafka's: it is cut off"));
}
