//! A leader that hangs: its connections stay, and nothing is answered on them.

use std::time::Duration;

use bytes::Bytes;
use sawlog_client::{ClientOptions, Producer, ProducerOptions, RecordRef};
use sawlog_protocol::{ApiKey, decode_request_header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::load::{DEADLINE, connect};
use crate::moved::{PRODUCED_AT, TOPIC, api_versions, start_beside};

/// A broker that says what it can do, and then nothing.
async fn hang(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(keep_silent(stream));
    }
}

async fn keep_silent(mut stream: TcpStream) {
    while let Ok(length) = stream.read_u32().await {
        let mut frame = vec![0; usize::try_from(length).expect("a short request")];
        stream.read_exact(&mut frame).await.expect("a whole request");
        let frame = Bytes::from(frame);
        let (header, _) = decode_request_header(&frame).expect("a header");
        if header.api_key == ApiKey::ApiVersions.as_i16() {
            for part in api_versions(header.api_version, header.correlation_id).into_parts() {
                stream.write_all(&part).await.expect("an open connection");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_leaves_a_leader_that_hangs_for_the_one_that_leads_now() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = listener.local_addr().expect("a bound listener has an address");
    tokio::spawn(hang(listener));
    let living = start_beside(silent, 4).await;
    let mut options = ClientOptions::new(&format!("127.0.0.1:{}", living.port()));
    // Nobody lives to see that request time out.
    options.timeout = Duration::from_mins(60);
    let client = connect(options).await;
    let producer = Producer::new(
        client,
        ProducerOptions {
            idempotent: false,
            delivery_timeout: Duration::from_mins(60),
            ..ProducerOptions::default()
        },
    );
    let record = RecordRef { value: Some(b"somewhere"), ..RecordRef::default() };
    let sending = async { producer.send_ref(TOPIC, record).await?.await };
    let delivered = timeout(DEADLINE, sending).await.expect("it looks for another leader");
    assert_eq!(delivered.expect("delivered").offset, PRODUCED_AT);
}
