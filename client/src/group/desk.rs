//! Where the reader of a group's consumer and the task behind it meet.
//!
//! The task changes what the reader has only while it is idle: not between records being handed out
//! and the next request for some, because until then they may be in work. The desk also knows what
//! was handed out and what of it counts as processed: everything before the reader asks for more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::membership::{Identity, Partitions};
use crate::consumer::{PartitionKey, Place, Shared};
use crate::error::ClientError;

/// What the reader does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Nothing was handed out since it asked; it does not ask now.
    Away { since: Instant },
    /// It waits for records.
    Waiting,
    /// It looks for records this moment.
    Taking,
    /// It has records.
    Working { since: Instant },
}

/// The partition of the records the reader has in work.
#[derive(Clone, Debug)]
struct Held {
    key: PartitionKey,
    /// Behind what is done with.
    processed: Place,
    /// Behind what was handed out; `None`: that is where reading goes on.
    delivered: Option<Place>,
}

#[derive(Debug)]
struct State {
    doing: Doing,
    /// A change waits or is under way: nothing is handed out.
    is_closed: bool,
    held: Option<Held>,
    /// Records taken and not handed out are of a partition that is gone.
    discards: bool,
    was_away_too_long: bool,
    failures: VecDeque<ClientError>,
    /// Nothing more will come.
    end: Option<ClientError>,
    identity: Identity,
}

/// What the reader may do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Take,
    Wait,
}

/// Which progress is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What was handed out.
    Delivered,
    /// What was handed out before the reader asked last.
    Processed,
}

#[derive(Debug)]
pub(crate) struct Desk {
    state: Mutex<State>,
    pub(crate) consumer: Arc<Shared>,
    /// The reader became idle.
    idle: Notify,
    /// The task behind has something to look at.
    pub(crate) driver: Notify,
}

impl Desk {
    pub(crate) fn new(consumer: Arc<Shared>) -> Self {
        let state = State {
            doing: Doing::Away { since: Instant::now() },
            is_closed: false,
            held: None,
            discards: false,
            was_away_too_long: false,
            failures: VecDeque::new(),
            end: None,
            identity: Identity { member: Arc::from(""), generation: -1, is_epoch: false },
        };
        let (idle, driver) = (Notify::new(), Notify::new());
        Self { state: Mutex::new(state), consumer, idle, driver }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The reader asks for records: what it had is processed. `waker` is woken when it is worth
    /// asking again.
    pub(crate) fn begin(&self, has_taken: bool, waker: &Waker) -> Result<Turn, ClientError> {
        let mut state = self.state();
        if let Some(held) = &mut state.held {
            match held.delivered {
                Some(delivered) if has_taken => held.processed = delivered,
                _ => state.held = None,
            }
        }
        if std::mem::take(&mut state.was_away_too_long) {
            self.driver.notify_one();
        }
        let failure = state.failures.pop_front().or_else(|| state.end.clone());
        if let Some(error) = failure {
            state.doing = Doing::Away { since: Instant::now() };
            self.idle.notify_one();
            return Err(error);
        }
        if state.is_closed {
            state.doing = Doing::Waiting;
            self.consumer.wake_when_ready(waker);
            self.idle.notify_one();
            return Ok(Turn::Wait);
        }
        self.consumer.forget_before();
        state.doing = Doing::Taking;
        Ok(Turn::Take)
    }

    /// The reader gets records of a partition: `from` the first of them, up to `delivered`, or up to
    /// where reading goes on.
    pub(crate) fn hand_out(&self, key: PartitionKey, from: Place, delivered: Option<Place>) {
        let mut state = self.state();
        let processed = match &state.held {
            Some(held) if held.key == key => held.processed,
            _ => from,
        };
        state.held = Some(Held { key, processed, delivered });
        state.doing = Doing::Working { since: Instant::now() };
    }

    /// There is nothing for the reader.
    pub(crate) fn wait(&self) {
        let mut state = self.state();
        state.doing = Doing::Waiting;
        self.idle.notify_one();
        // A failure or a change that came meanwhile woke nobody.
        if state.is_closed || !state.failures.is_empty() || state.end.is_some() {
            drop(state);
            self.consumer.wake_reader();
        }
    }

    /// The reader no longer waits.
    pub(crate) fn stop_waiting(&self) {
        let mut state = self.state();
        if matches!(state.doing, Doing::Waiting | Doing::Taking) {
            state.doing = Doing::Away { since: Instant::now() };
            self.idle.notify_one();
            self.driver.notify_one();
        }
    }

    /// The reader asks for nothing more: what it has is processed.
    pub(crate) fn leave(&self) {
        self.state().doing = Doing::Away { since: Instant::now() };
        self.idle.notify_one();
    }

    /// What was handed out one by one is where reading goes on: the rest was thrown away.
    pub(crate) fn forget(&self) {
        self.state().held = None;
    }

    /// Whether what was taken and not handed out is to be thrown away; asked once.
    pub(crate) fn discards(&self) -> bool {
        std::mem::take(&mut self.state().discards)
    }

    /// Nothing is handed out from now on; returns once the reader is idle.
    pub(crate) async fn close(&self) {
        loop {
            let idle = self.idle.notified();
            {
                let mut state = self.state();
                state.is_closed = true;
                if matches!(state.doing, Doing::Away { .. } | Doing::Waiting) {
                    return;
                }
            }
            idle.await;
        }
    }

    /// Records are handed out again.
    pub(crate) fn open(&self) {
        self.state().is_closed = false;
        self.consumer.wake_reader();
    }

    /// Takes partitions from the reader, with whatever is at hand of them.
    pub(crate) fn remove(&self, partitions: &Partitions) {
        let mut state = self.state();
        if state.held.as_ref().is_some_and(|held| partitions.contains(&held.key)) {
            state.held = None;
            state.discards = true;
        }
        for key in partitions {
            self.consumer.remove(key);
        }
    }

    /// Tells the reader of a failure. Of the same failure one is enough.
    pub(crate) fn report(&self, error: ClientError) {
        let mut state = self.state();
        if !state.failures.contains(&error) {
            state.failures.push_back(error);
        }
        drop(state);
        self.consumer.wake_reader();
    }

    /// Nothing more will come.
    pub(crate) fn end(&self, error: ClientError) {
        self.state().end.get_or_insert(error);
        self.consumer.wake_reader();
    }

    /// When the reader has been away too long; `None` while it asks for records, or if that was
    /// noticed before.
    pub(crate) fn away_until(&self, longest: Duration) -> Option<Instant> {
        let state = self.state();
        match state.doing {
            Doing::Away { since } | Doing::Working { since } if !state.was_away_too_long => {
                Some(since + longest)
            }
            _ => None,
        }
    }

    /// The reader was away too long: it is told so once it is back.
    pub(crate) fn note_away(&self, error: ClientError) {
        self.state().was_away_too_long = true;
        self.report(error);
    }

    pub(crate) fn is_away_too_long(&self) -> bool {
        self.state().was_away_too_long
    }

    pub(crate) fn identity(&self) -> Identity {
        self.state().identity.clone()
    }

    pub(crate) fn set_identity(&self, identity: Identity) {
        self.state().identity = identity;
    }

    /// Where each partition with a known position goes on.
    pub(crate) fn progress(&self, extent: Extent) -> Vec<(PartitionKey, Place)> {
        let state = self.state();
        // What is being taken this moment is in nobody's hands yet.
        let mut places = match state.doing {
            Doing::Taking => self.consumer.places_before(),
            Doing::Away { .. } | Doing::Waiting | Doing::Working { .. } => self.consumer.places(),
        };
        if let Some(held) = &state.held {
            let place = match extent {
                Extent::Processed => Some(held.processed),
                Extent::Delivered => held.delivered,
            };
            if let Some(place) = place {
                for (_, known) in places.iter_mut().filter(|(key, _)| *key == held.key) {
                    *known = place;
                }
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::Start;

    fn desk() -> (Desk, PartitionKey) {
        let desk = Desk::new(Shared::unconnected());
        let key: PartitionKey = (Arc::from("t"), 0);
        desk.consumer.place(key.clone(), Start::At(Place { offset: 10, epoch: 1 }));
        (desk, key)
    }

    fn place(offset: i64) -> Place {
        Place { offset, epoch: 1 }
    }

    fn offsets(desk: &Desk) -> (i64, i64) {
        let of = |extent| desk.progress(extent)[0].1.offset;
        (of(Extent::Processed), of(Extent::Delivered))
    }

    #[tokio::test]
    async fn what_is_in_work_is_not_processed_until_the_reader_asks_again() {
        let (desk, key) = desk();
        assert_eq!(desk.begin(false, Waker::noop()), Ok(Turn::Take));
        desk.consumer.take_to(&key, place(15));
        desk.hand_out(key.clone(), place(10), None);
        assert_eq!(offsets(&desk), (10, 15));
        assert_eq!(desk.begin(false, Waker::noop()), Ok(Turn::Take));
        desk.wait();
        assert_eq!(offsets(&desk), (15, 15));
    }

    /// The task behind may commit between a look at the records and their way to the reader.
    #[tokio::test]
    async fn what_is_taken_and_not_yet_handed_out_is_neither_processed_nor_delivered() {
        let (desk, key) = desk();
        assert_eq!(desk.begin(false, Waker::noop()), Ok(Turn::Take));
        desk.consumer.take_to(&key, place(15));
        assert_eq!(offsets(&desk), (10, 10));
        desk.hand_out(key.clone(), place(10), None);
        assert_eq!(offsets(&desk), (10, 15));
        assert_eq!(desk.begin(false, Waker::noop()), Ok(Turn::Take));
        assert_eq!(offsets(&desk), (15, 15));
        desk.consumer.take_to(&key, place(20));
        assert_eq!(offsets(&desk), (15, 15));
    }

    #[tokio::test]
    async fn of_records_handed_out_one_by_one_each_counts_by_itself() {
        let (desk, key) = desk();
        assert_eq!(desk.begin(false, Waker::noop()), Ok(Turn::Take));
        desk.consumer.take_to(&key, place(12));
        desk.hand_out(key.clone(), place(10), Some(place(11)));
        assert_eq!(offsets(&desk), (10, 11));
        assert_eq!(desk.begin(true, Waker::noop()), Ok(Turn::Take));
        desk.hand_out(key.clone(), place(11), None);
        assert_eq!(offsets(&desk), (11, 12));
        assert_eq!(desk.begin(false, Waker::noop()), Ok(Turn::Take));
        assert_eq!(offsets(&desk), (12, 12));
    }

    #[tokio::test]
    async fn a_change_waits_for_the_reader_and_the_reader_for_the_change() {
        let (desk, key) = desk();
        assert_eq!(desk.begin(false, Waker::noop()), Ok(Turn::Take));
        desk.hand_out(key.clone(), place(10), Some(place(11)));
        let mut closing = Box::pin(desk.close());
        let waits = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(closing.as_mut().poll(cx).is_pending())
        });
        assert!(waits.await, "records are in work");
        assert_eq!(desk.begin(true, Waker::noop()), Ok(Turn::Wait));
        closing.await;
        desk.remove(&Partitions::from([key]));
        assert!(desk.discards() && !desk.discards(), "told once");
        desk.open();
        assert_eq!(desk.begin(false, Waker::noop()), Ok(Turn::Take));
    }
}
