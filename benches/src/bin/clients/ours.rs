//! The loads over our client, step by step what `load` does over librdkafka: the same settings, an
//! outcome for every record, one thread beside the caller's.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sawlog_client::{
    Acks, Assignment, Client, ClientOptions, Consumer, Delivery, Position, Producer,
    ProducerOptions, RecordRef, TrySendError,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::Failure;
use crate::load::{
    DEADLINE, FixedRate, FlatOut, Latencies, Values, Written, histogram, micros, wait_until,
};

fn runtime() -> Result<Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

async fn connect(address: &str) -> Result<Client, Failure> {
    Ok(Client::connect(ClientOptions::new(address)).await?)
}

/// As [`crate::load::produce`].
pub(crate) fn produce(address: &str, topic: &str, what: FlatOut) -> Result<Duration, Failure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let options = ProducerOptions {
            acks: if what.acks == "all" { Acks::All } else { Acks::Leader },
            ..ProducerOptions::default()
        };
        let producer = Producer::new(connect(address).await?, options);
        let values = Values::new(what.bytes);
        for partition in 0..what.partitions {
            let partition = Some(partition);
            let record =
                RecordRef { partition, value: Some(values.value(0)), ..Default::default() };
            producer.send_ref(topic, record).await?.await?;
        }
        let mut times = histogram()?;
        let mut unconfirmed: VecDeque<(Instant, Delivery)> = VecDeque::new();
        let started = Instant::now();
        let mut partition = 0;
        for number in 0..what.records {
            let value = Some(values.value(number));
            let record = RecordRef { partition: Some(partition), value, ..Default::default() };
            partition = if partition + 1 == what.partitions { 0 } else { partition + 1 };
            let sent = Instant::now();
            unconfirmed.push_back((sent, producer.send_ref(topic, record).await?));
            if number % POLL_EVERY == 0 {
                settle(&mut unconfirmed, &mut times)?;
                if started.elapsed() > DEADLINE {
                    return Err("producing took too long".into());
                }
            }
        }
        producer.flush().await;
        let elapsed = started.elapsed();
        settle(&mut unconfirmed, &mut times)?;
        if times.len() != what.records {
            return Err(format!("{} of {} were confirmed", times.len(), what.records).into());
        }
        Ok(elapsed)
    })
}

/// Takes the outcomes that are there.
fn settle(
    unconfirmed: &mut VecDeque<(Instant, Delivery)>,
    times: &mut Histogram<u64>,
) -> Result<(), Failure> {
    while let Some((sent, delivery)) = unconfirmed.front() {
        let Some(outcome) = delivery.try_confirmed() else { break };
        outcome?;
        times.saturating_record(micros(*sent).max(1));
        unconfirmed.pop_front();
    }
    Ok(())
}

/// As [`crate::load::consume`].
pub(crate) fn consume(address: &str, topic: &str, what: Written) -> Result<Duration, Failure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let client = connect(address).await?;
        let started = Instant::now();
        let mut consumer = Consumer::assign(&client, &whole(topic, what.partitions)).await?;
        let mut seen = 0;
        while seen < what.records {
            let records = consumer.poll(Duration::from_millis(100)).await?;
            for record in &records {
                let length = record.value.as_ref().map_or(0, bytes::Bytes::len);
                if length != what.bytes {
                    return Err(format!("a record of {length} bytes").into());
                }
                seen += 1;
            }
            if started.elapsed() > DEADLINE {
                return Err(format!("{seen} of {} records came", what.records).into());
            }
        }
        Ok(started.elapsed())
    })
}

fn whole(topic: &str, partitions: i32) -> Vec<Assignment> {
    let one = |partition| Assignment {
        topic: topic.to_owned(),
        partition,
        from: Position::Offset(0),
        until: None,
    };
    (0..partitions).map(one).collect()
}

/// As [`crate::load::latency`].
pub(crate) fn latency(address: &str, topic: &str, what: FixedRate) -> Result<Latencies, Failure> {
    let runtime = runtime()?;
    let started = Instant::now();
    let counts_from = what.due(what.warm_up);
    let (producer, consumer) = runtime.block_on(async {
        let client = connect(address).await?;
        let options = ProducerOptions { linger: Duration::ZERO, ..ProducerOptions::default() };
        let producer = Producer::new(client.clone(), options);
        let consumer = Consumer::assign(&client, &whole(topic, 1)).await?;
        Ok::<_, Failure>((producer, consumer))
    })?;
    let total = what.warm_up + what.records;
    let reader = runtime.spawn(read(consumer, started, (counts_from, total)));
    let (confirm, confirmations) = mpsc::unbounded_channel();
    let confirmed = runtime.spawn(confirm_all(confirmations, started, counts_from));
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000))?;
    let values = Values::new(what.bytes);
    let mut value = Vec::with_capacity(what.bytes);
    for number in 0..total {
        let due = what.due(number);
        wait_until(started, due);
        value.clear();
        value.extend_from_slice(values.value(number));
        value[..8].copy_from_slice(&due.to_le_bytes());
        let record = RecordRef { partition: Some(0), value: Some(&value), ..RecordRef::default() };
        let delivery = match producer.try_send(topic, &record) {
            Ok(delivery) => delivery,
            Err(TrySendError::UnknownPartitions) => {
                runtime.block_on(producer.send_ref(topic, record))?
            }
            Err(error) => return Err(error.into()),
        };
        confirm.send((due, delivery))?;
        if started.elapsed() > DEADLINE {
            return Err("sending took too long".into());
        }
    }
    drop(confirm);
    let ack = runtime.block_on(confirmed)??;
    let end_to_end = runtime.block_on(reader)??;
    if ack.len() != what.records {
        return Err(format!("{} of {} records were confirmed", ack.len(), what.records).into());
    }
    Ok(Latencies { ack, end_to_end })
}

async fn confirm_all(
    mut confirmations: mpsc::UnboundedReceiver<(u64, Delivery)>,
    started: Instant,
    counts_from: u64,
) -> Result<Histogram<u64>, String> {
    let mut times = histogram().map_err(|error| error.to_string())?;
    while let Some((due, delivery)) = confirmations.recv().await {
        delivery.await.map_err(|error| error.to_string())?;
        if due >= counts_from {
            times.saturating_record(micros(started).saturating_sub(due).max(1));
        }
    }
    Ok(times)
}

async fn read(
    mut consumer: Consumer,
    started: Instant,
    (counts_from, total): (u64, u64),
) -> Result<Histogram<u64>, String> {
    let mut times = histogram().map_err(|error| error.to_string())?;
    let mut seen = 0;
    while seen < total {
        let records = consumer.poll(Duration::from_millis(100)).await;
        for record in records.map_err(|error| error.to_string())? {
            let now = micros(started);
            let due = record.value.as_deref().and_then(|value| value.first_chunk::<8>());
            let due = due.map(|bytes| u64::from_le_bytes(*bytes)).ok_or("a short record")?;
            if due >= counts_from {
                times.saturating_record(now.saturating_sub(due).max(1));
            }
            seen += 1;
        }
        if started.elapsed() > DEADLINE {
            return Err(format!("{seen} of {total} records came"));
        }
    }
    Ok(times)
}

const POLL_EVERY: u64 = 256;
