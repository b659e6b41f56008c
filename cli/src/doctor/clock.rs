//! The broker's clock against ours: the time it gives to a record, in a topic made for that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sawlog_client::{
    Assignment, Client, ClientError, ClientOptions, Consumer, NewTopic, Position, Producer,
    ProducerOptions, Record,
};

use super::{Findings, Trouble};

/// Clocks further apart than this make searches by time and retention surprising.
const SKEW_MS_MAX: i64 = 1_000;

/// Compares, and leaves nothing behind.
pub(super) async fn compare(address: &str, patience: Duration, findings: &mut Findings) {
    let mut options = ClientOptions::new(address);
    options.timeout = patience;
    match tokio::time::timeout(patience * 4, skew(options)).await {
        Ok(Ok((ahead_ms, doubt_ms))) if ahead_ms.abs() > SKEW_MS_MAX.max(doubt_ms) => {
            let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
            let what = format!("is {} ms {direction} this machine's", ahead_ms.abs());
            let fix = "let both machines keep time by NTP: retention and searches by time go by it";
            findings.doubtful("clock", address, what, fix.to_owned());
        }
        Ok(Ok((ahead_ms, doubt_ms))) => {
            let what = format!("differs by {} ms, give or take {doubt_ms}", ahead_ms.abs());
            findings.good("clock", address, what);
        }
        Ok(Err(error)) => {
            let what = format!("cannot be compared: {error}");
            let fix = "allow to create a topic, or leave out --clock";
            findings.bad("clock", address, Trouble::new(what, fix));
        }
        Err(_) => {
            let trouble = Trouble::new("cannot be compared in time", "see the broker's log");
            findings.bad("clock", address, trouble);
        }
    }
}

/// How far the broker's clock is ahead of ours, and how exact that is, in milliseconds.
async fn skew(options: ClientOptions) -> Result<(i64, i64), ClientError> {
    let client = Client::connect(options).await?;
    let topic = format!("sawlog-doctor-{}-{}", std::process::id(), now_ms());
    let configs = [("message.timestamp.type".to_owned(), "LogAppendTime".to_owned())];
    let new = NewTopic {
        name: &topic,
        partitions: 1,
        replication_factor: -1,
        configs: &configs,
        validate_only: false,
    };
    client.create_topic(&new).await?;
    let measured = stamp(&client, &topic).await;
    let deleted = client.delete_topic(&topic).await;
    let (before, stamped, after) = measured?;
    deleted?;
    Ok((stamped - i64::midpoint(before, after), (after - before + 1) / 2))
}

/// Our time before, the broker's time, our time after.
async fn stamp(client: &Client, topic: &str) -> Result<(i64, i64, i64), ClientError> {
    let options = ProducerOptions { linger: Duration::ZERO, ..ProducerOptions::default() };
    let producer = Producer::new(client.clone(), options);
    // The first record pays for connections; the second is the one measured.
    let warm = Record { value: Some(Vec::new()), ..Record::default() };
    producer.send(topic, warm.clone()).await?.confirmed().await?;
    let before = now_ms();
    let offset = producer.send(topic, warm).await?.confirmed().await?.offset;
    let after = now_ms();
    let assignment = Assignment {
        topic: topic.to_owned(),
        partition: 0,
        from: Position::Offset(offset),
        until: Some(Position::Offset(offset + 1)),
    };
    let mut consumer = Consumer::assign(client, &[assignment]).await?;
    let records = consumer.next().await?.unwrap_or_default();
    let record = records.first().ok_or(ClientError::Closed)?;
    Ok((before, record.timestamp, after))
}

fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
