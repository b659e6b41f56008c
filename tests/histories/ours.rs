//! Our own client at the same work, and as the one who asks where partitions end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sawlog_client::{
    Assignment, Client, ClientOptions, Consumer, Position, Producer, ProducerOptions, RecordRef,
};
use sawlog_tests::history::{Acked, Failed, Looked, Micros, Run, decode_value, value};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::programs::{Target, Told};

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Records of a partition that may be on their way, and those sent to it at a time.
const ROOM: u64 = 2000;
const CHUNK: u64 = 8;

pub(crate) fn micros() -> Micros {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_micros()).expect("before the year 586912")
}

pub(crate) fn options(bootstrap: &str) -> ClientOptions {
    let mut options = ClientOptions::new(bootstrap);
    options.timeout = Duration::from_secs(10);
    options.connect_timeout = Duration::from_secs(2);
    options.reconnect_backoff_max = Duration::from_millis(200);
    options
}

/// What goes on until it is told to end.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) told: Arc<Mutex<Told>>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Ours {
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    pub(crate) async fn end(self) -> (Told, Option<String>) {
        self.over.store(true, Ordering::Relaxed);
        let wrong = self.task.await.err().map(|why| format!("our client: {why}"));
        (std::mem::take(&mut *self.told.lock().expect("no holder panics")), wrong)
    }

    fn start<F: Future<Output = ()> + Send + 'static>(
        name: &str,
        target: &Target,
        work: impl FnOnce(Target, Arc<AtomicBool>, Arc<Mutex<Told>>) -> F,
    ) -> Ours {
        let told = Arc::new(Mutex::new(Told::new(name, target.partitions)));
        let over = Arc::<AtomicBool>::default();
        let task = tokio::spawn(work(target.clone(), Arc::clone(&over), Arc::clone(&told)));
        Ours { told, over, task }
    }

    pub(crate) fn write(target: &Target, producer: u32, rate: u32) -> Ours {
        Ours::start(&format!("sawlog {producer}"), target, |target, over, told| {
            write(target, producer, rate, over, told)
        })
    }

    pub(crate) fn read(target: &Target) -> Ours {
        Ours::start("sawlog reader", target, read)
    }
}

async fn connect(target: &Target) -> Client {
    Client::connect(options(&target.bootstrap)).await.expect("a broker is there")
}

async fn write(
    target: Target,
    name: u32,
    rate: u32,
    over: Arc<AtomicBool>,
    told: Arc<Mutex<Told>>,
) {
    let options = ProducerOptions {
        // More than there is room for below: no partition waits for another.
        buffer_bytes: 8 << 20,
        delivery_timeout: Duration::from_mins(30),
        retry_backoff_max: Duration::from_millis(200),
        ..ProducerOptions::default()
    };
    let producer = Producer::new(connect(&target).await, options);
    let count = usize::try_from(target.partitions).expect("few");
    // The outcomes of one partition come in its order.
    let mut partitions: Vec<Partition> =
        (0..target.partitions).map(|index| Partition::new(index, name, &told)).collect();
    let (mut started, mut sent, mut turn) = (Instant::now(), 0u64, 0);
    while !over.load(Ordering::Relaxed) {
        let due = due(started, rate);
        // A partition without room is passed over: the others go on.
        let mut full = 0;
        while sent < due && full < count && !over.load(Ordering::Relaxed) {
            let partition = &mut partitions[turn % count];
            turn += 1;
            if !partition.has_room() {
                full += 1;
                continue;
            }
            full = 0;
            sent += CHUNK;
            for _ in 0..CHUNK {
                partition.send(&producer, &target.topic).await;
            }
        }
        // After an outage it goes on at its rate.
        if due - sent.min(due) > u64::from(rate)
            || Instant::now() - started > Duration::from_secs(10)
        {
            (started, sent) = (Instant::now(), 0);
        }
        sleep(Duration::from_millis(5)).await;
    }
    producer.flush().await;
    let mut totals = BTreeMap::new();
    for Partition { index, next, confirming, task, .. } in partitions {
        drop(confirming);
        task.await.expect("no panic");
        totals.insert(index, next);
    }
    told.lock().expect("no holder panics").sent.totals = totals;
}

/// A partition that is written to.
#[derive(Debug)]
struct Partition {
    index: i32,
    producer: u32,
    /// The number of the next record.
    next: u64,
    /// How many have an outcome.
    done: Arc<AtomicU64>,
    confirming: mpsc::UnboundedSender<Sending>,
    task: JoinHandle<()>,
}

/// A record on its way: its number, and when it was sent.
type Sending = (u64, Micros, sawlog_client::Delivery);

impl Partition {
    fn new(index: i32, producer: u32, told: &Arc<Mutex<Told>>) -> Partition {
        let (confirming, sent) = mpsc::unbounded_channel();
        let (done, told) = (Arc::<AtomicU64>::default(), Arc::clone(told));
        let task = tokio::spawn(confirm(index, producer, sent, Arc::clone(&done), told));
        Partition { index, producer, next: 0, done, confirming, task }
    }

    /// For a chunk.
    fn has_room(&self) -> bool {
        self.next - self.done.load(Ordering::Relaxed) <= ROOM - CHUNK
    }

    async fn send(&mut self, producer: &Producer, topic: &str) {
        let value = value(self.producer, self.index, self.next);
        let record =
            RecordRef { partition: Some(self.index), value: Some(&value), ..RecordRef::default() };
        let invoked = micros();
        let delivery = producer.send_ref(topic, record).await.expect("a good record");
        self.confirming.send((self.next, invoked, delivery)).expect("it is listening");
        self.next += 1;
    }
}

fn due(started: Instant, rate: u32) -> u64 {
    u64::try_from(started.elapsed().as_millis()).expect("a short time") * u64::from(rate) / 1000
}

async fn confirm(
    partition: i32,
    producer: u32,
    mut sent: mpsc::UnboundedReceiver<Sending>,
    has_outcome: Arc<AtomicU64>,
    told: Arc<Mutex<Told>>,
) {
    let mut open: Option<Acked> = None;
    while let Some((number, invoked, delivery)) = sent.recv().await {
        let outcome = delivery.confirmed().await;
        has_outcome.fetch_add(1, Ordering::Relaxed);
        let mut told = told.lock().expect("no holder panics");
        match outcome {
            Ok(delivered) => {
                let run =
                    Run { partition, offset: delivered.offset, count: 1, producer, first: number };
                let acked = Acked { run, invoked, done: micros() };
                match &mut open {
                    Some(one) if follows(&one.run, &run) => {
                        (one.run.count, one.done) = (one.run.count + 1, acked.done);
                    }
                    _ => open.replace(acked).into_iter().for_each(|done| told.acked(done)),
                }
            }
            Err(why) => {
                let why = why.to_string();
                told.sent.failed.push(Failed { partition, number, why, at: micros() });
            }
        }
        if sent.is_empty() {
            open.take().into_iter().for_each(|done| told.acked(done));
        }
    }
    open.take().into_iter().for_each(|done| told.lock().expect("no holder panics").acked(done));
}

fn follows(run: &Run, next: &Run) -> bool {
    run.producer == next.producer
        && run.first + run.count == next.first
        && run.offset.saturating_add_unsigned(run.count) == next.offset
}

async fn read(target: Target, over: Arc<AtomicBool>, told: Arc<Mutex<Told>>) {
    let client = connect(&target).await;
    let assignment = |partition| Assignment {
        topic: target.topic.clone(),
        partition,
        from: Position::Start,
        until: None,
    };
    let all: Vec<Assignment> = (0..target.partitions).map(assignment).collect();
    let mut consumer = Consumer::assign(&client, &all).await.expect("partitions to read");
    while !over.load(Ordering::Relaxed) {
        let polled = consumer.poll(Duration::from_millis(200)).await;
        let mut told = told.lock().expect("no holder panics");
        let records = match polled {
            Ok(records) => records,
            Err(why) => {
                if told.seen.wrong.len() < 100 {
                    told.seen.wrong.push(why.to_string());
                }
                continue;
            }
        };
        for record in records {
            let bytes = record.value.as_deref().unwrap_or_default();
            match decode_value(bytes, record.partition) {
                Ok((producer, first)) => {
                    let (partition, offset) = (record.partition, record.offset);
                    let run = Run { partition, offset, count: 1, producer, first };
                    match told.seen.runs.last_mut() {
                        Some(last) if last.partition == partition && follows(last, &run) => {
                            last.count += 1;
                        }
                        _ => told.seen.runs.push(run),
                    }
                }
                Err(why) => told.seen.wrong.push(format!("at {}: {why}", record.offset)),
            }
        }
    }
}

/// Asks again and again where partitions end.
#[derive(Debug)]
pub(crate) struct Looking {
    over: Arc<AtomicBool>,
    task: JoinHandle<Vec<Looked>>,
}

impl Looking {
    pub(crate) fn start(target: &Target) -> Looking {
        let over = Arc::<AtomicBool>::default();
        let task = tokio::spawn(look(target.clone(), Arc::clone(&over)));
        Looking { over, task }
    }

    pub(crate) async fn end(self) -> Vec<Looked> {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic")
    }
}

async fn look(target: Target, over: Arc<AtomicBool>) -> Vec<Looked> {
    let client = connect(&target).await;
    let mut looked = Vec::new();
    while !over.load(Ordering::Relaxed) {
        sleep(LOOK_INTERVAL).await;
        let Ok(info) = client.describe(Some(&[&target.topic])).await else { continue };
        let asked = micros();
        // No answer says nothing.
        let Ok(ranges) = client.offset_ranges(&info.topics).await else { continue };
        looked.extend(ranges.iter().map(|range| Looked {
            partition: range.partition,
            asked,
            end: range.end,
        }));
    }
    looked
}
