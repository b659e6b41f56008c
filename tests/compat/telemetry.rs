//! Metrics that clients push (KIP-714): each client's own, as it comes, on the broker's page of metrics.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sawlog_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use sawlog_protocol::{ErrorCode, decode_response};
use sawlog_tests::Server;
use sawlog_tests::http::{Reply, get};

use crate::support::program::run_ok;
use crate::support::{available, installed, on_path, program};
use crate::wire::Wire;

/// Above the time a JVM takes on a busy machine, and some intervals.
const WAIT_MAX: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The shortest interval that all clients keep.
const INTERVAL_MS: &str = "1000";

/// A consumer that runs until SIGTERM.
struct Client {
    name: &'static str,
    /// `client_software_name` and the start of `client_software_version`, as it tells the broker.
    software: [&'static str; 2],
    command: Command,
    /// Whether it pushes once more when it ends.
    says_goodbye: bool,
}

fn clients() -> Vec<Client> {
    let java = |name: &'static str, version: &'static str| {
        let (jars, classes) = (installed(name).join("jars"), installed(name).join("classes"));
        let mut command = Command::new("java");
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp"]);
        command.arg(format!("{}:{}/*", classes.display(), jars.display())).arg("Member");
        let software = ["apache-kafka-java", version];
        Client { name, software, command, says_goodbye: true }
    };
    let mut python = Command::new(installed("venv").join("bin/python"));
    python.arg("-B").arg(program("python/confluent_member.py"));
    let mut franz = Command::new(installed("compat-go"));
    franz.arg("franz-go-member");
    vec![
        java("java-newest", "4."),
        java("java-v3", "3."),
        Client {
            name: "confluent-kafka",
            software: ["confluent-kafka-python", ""],
            command: python,
            says_goodbye: true,
        },
        Client { name: "franz-go", software: ["kgo", ""], command: franz, says_goodbye: true },
    ]
}

/// Asks the broker to ask all clients for these metrics.
fn subscribe(server: &Server, metrics: &str) {
    let mut wire = Wire::connect(server.address().parse().expect("an address")).expect("a broker");
    let set = |name, value| AlterableConfig { name, config_operation: 0, value: Some(value) };
    let resource = AlterConfigsResource {
        resource_type: 16,
        resource_name: "test",
        configs: vec![set("metrics", metrics), set("interval.ms", INTERVAL_MS)],
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    wire.send(&request, 1).expect("sent");
    let frame = wire.receive().expect("a reply");
    let (_, response) =
        decode_response::<IncrementalAlterConfigsRequest<'_>>(&frame, 1).expect("a reply");
    assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
}

/// Looks at the page until it shows what is wanted.
fn wait(server: &Server, what: &str, is_there: impl Fn(&Reply) -> bool) -> Reply {
    let address = server.http_address();
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let page = get(&address, "/metrics");
        if is_there(&page) {
            return page;
        }
        let table = get(&address, "/clients").body;
        assert!(Instant::now() < deadline, "no {what}:\n{table}\n{}", page.body);
        thread::sleep(LOOK_AGAIN);
    }
}

/// The values on the page that this client pushed.
fn values<'p>(page: &'p Reply, client: &Client) -> Vec<&'p str> {
    let [name, version] = client.software;
    let owner = format!("client_software_name=\"{name}\",client_software_version=\"{version}");
    let lines = page.body.lines();
    lines.filter(|line| line.starts_with("kafka_client_") && line.contains(&owner)).collect()
}

fn refused(page: &Reply, reason: &str) -> f64 {
    let name = format!("sawlog_client_pushes_refused_total{{reason=\"{reason}\"}}");
    page.metric(&name).expect("it is always told")
}

fn terminate(child: &mut Child) {
    let sent = Command::new("kill").arg(child.id().to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()));
    let deadline = Instant::now() + WAIT_MAX;
    while child.try_wait().expect("our child can be waited for").is_none() {
        assert!(Instant::now() < deadline, "a member does not leave");
        thread::sleep(LOOK_AGAIN);
    }
}

/// Kills what it holds when dropped.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn metrics_that_clients_push_are_on_the_page() {
    let needs = [on_path("java"), installed("venv").join("bin/python"), installed("compat-go")];
    if !available("client metrics", &needs) {
        return;
    }
    let server = Server::start();
    let mut create = server.command();
    create.args(["topic", "create", "measured"]);
    run_ok(create, server.scratch());
    subscribe(&server, "*");
    let mut clients = clients();
    let mut running = Running(Vec::new());
    for client in &mut clients {
        client.command.args([server.address(), client.name, "measured", "range"]);
        client.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        running.0.push(client.command.spawn().expect("a client starts"));
    }
    for client in &clients {
        let page = wait(&server, client.name, |page| !values(page, client).is_empty());
        // All of it: more than one kind of metric, under names of KIP-714.
        let of_client = values(&page, client);
        assert!(of_client.iter().any(|line| line.starts_with("kafka_client_consumer_")));
        assert!(of_client.iter().all(|line| line.contains("client_instance_id=\"")));
    }
    let page = get(&server.http_address(), "/metrics");
    page.check_metrics();
    for reason in ["malformed", "too_large", "unknown_subscription", "other"] {
        assert!(refused(&page, reason).abs() < f64::EPSILON, "{reason}: {}", page.body);
    }

    // Who is asked for something else pushes that and nothing more.
    subscribe(&server, "org.apache.kafka.consumer.");
    for client in &clients {
        wait(&server, &format!("less of {}", client.name), |page| {
            let of_client = values(page, client);
            !of_client.is_empty()
                && of_client.iter().all(|line| line.starts_with("kafka_client_consumer_"))
        });
    }
    let page = get(&server.http_address(), "/metrics");
    assert!(refused(&page, "malformed").abs() < f64::EPSILON, "{}", page.body);

    running.0.iter_mut().for_each(terminate);
    let table = get(&server.http_address(), "/clients").body;
    for client in clients.iter().filter(|client| client.says_goodbye) {
        let row = table.lines().find(|line| line.contains(&client.software.join("/")));
        assert!(row.is_some_and(|row| row.ends_with("its last")), "{}: {table}", client.name);
    }
}
