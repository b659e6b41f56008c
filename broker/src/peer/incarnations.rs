//! Which life of which peer speaks to this node: one broker, or one disk, lives once at a time.
//!
//! A process that was killed leaves connections which end at once, or, if its machine lost power,
//! are silent. So a new life is let in when nothing of the old one is connected or heard any more;
//! while the old one speaks, the new one is refused: somebody started a copy.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sawlog_protocol::Uuid;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::BrokerId;

use super::PeerId;

/// A life that was not heard for this long may be followed by another. Living brokers send
/// heartbeats every second.
const SILENCE: Duration = Duration::from_secs(3);

/// Names that are remembered at most; far above what a cluster has.
const KEYS_MAX: usize = 4096;

/// What lives once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Disk(u64),
    Broker(BrokerId),
}

/// A life of a peer.
#[derive(Debug)]
struct Life {
    incarnation: Uuid,
    connections: AtomicUsize,
    heard: Mutex<Instant>,
    /// Ends the connections when another life follows.
    over: watch::Sender<bool>,
}

/// The lives known.
#[derive(Debug, Default)]
pub(super) struct Incarnations {
    lives: Mutex<HashMap<Key, Arc<Life>>>,
}

/// One connection of a life; counts down when it ends.
#[derive(Debug)]
pub(super) struct Admitted {
    life: Arc<Life>,
    over: watch::Receiver<bool>,
}

impl Incarnations {
    /// Lets a connection of `peer` in.
    ///
    /// # Errors
    /// Another life of it is here: a sentence.
    pub(super) fn admit(
        &self,
        peer: PeerId,
        incarnation: Uuid,
        now: Instant,
    ) -> Result<Admitted, String> {
        let mut lives = self.lives.lock();
        let keys: Vec<Key> = [Some(Key::Disk(peer.raft_id)), peer.broker.map(Key::Broker)]
            .into_iter()
            .flatten()
            .collect();
        let known: Vec<Arc<Life>> = keys.iter().filter_map(|key| lives.get(key).cloned()).collect();
        let others = || known.iter().filter(|life| life.incarnation != incarnation);
        if others().any(|life| life.is_here(now)) {
            return Err(match peer.broker {
                Some(broker) => format!(
                    "another process is broker {broker}, and connected; stop it, or start this one \
                     with a data directory and node.id of its own"
                ),
                None => "another process runs on the same data directory, or a copy of it, and is \
                         connected; stop it, or start this one with a data directory of its own"
                    .to_owned(),
            });
        }
        for life in others() {
            life.over.send_replace(true);
        }
        let same = known.iter().find(|life| life.incarnation == incarnation).cloned();
        let life = same.unwrap_or_else(|| {
            Arc::new(Life {
                incarnation,
                connections: AtomicUsize::new(0),
                heard: Mutex::new(now),
                over: watch::channel(false).0,
            })
        });
        if lives.len() >= KEYS_MAX {
            lives.retain(|_, life| life.connections.load(Ordering::Relaxed) > 0);
        }
        for key in keys {
            lives.insert(key, life.clone());
        }
        life.connections.fetch_add(1, Ordering::Relaxed);
        *life.heard.lock() = now;
        Ok(Admitted { over: life.over.subscribe(), life })
    }
}

impl Life {
    fn is_here(&self, now: Instant) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
            && now.saturating_duration_since(*self.heard.lock()) < SILENCE
    }
}

/// Where a connection notes that it hears its peer.
#[derive(Clone, Debug)]
pub(super) struct Heard(Arc<Life>);

impl Heard {
    /// A message arrived.
    pub(super) fn at(&self, now: Instant) {
        *self.0.heard.lock() = now;
    }
}

impl Admitted {
    pub(super) fn heard(&self) -> Heard {
        Heard(self.life.clone())
    }

    /// Waits until another life has followed.
    pub(super) async fn over(&mut self) {
        // The sender lives as long as this does.
        let _ = self.over.wait_for(|over| *over).await;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.life.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: PeerId = PeerId { broker: Some(BrokerId(2)), raft_id: 12 };
    const JOINING: PeerId = PeerId { broker: None, raft_id: 12 };

    #[tokio::test]
    async fn a_second_life_is_let_in_once_the_first_is_gone_or_silent() {
        let lives = Incarnations::default();
        let start = Instant::now();
        let (first, second) = (Uuid([1; 16]), Uuid([2; 16]));
        let connection = lives.admit(JOINING, first, start).unwrap();
        let another = lives.admit(BROKER, first, start).unwrap();
        for id in [BROKER, JOINING, PeerId { raft_id: 13, ..BROKER }] {
            lives.admit(id, second, start).unwrap_err();
        }
        drop(connection);
        lives.admit(BROKER, second, start).unwrap_err();
        drop(another);
        drop(lives.admit(BROKER, second, start).unwrap());

        let mut silent = lives.admit(BROKER, first, start).unwrap();
        silent.heard().at(start + SILENCE);
        lives.admit(BROKER, second, start + SILENCE).unwrap_err();
        let followed = lives.admit(BROKER, second, start + 2 * SILENCE).unwrap();
        silent.over().await;
        lives.admit(BROKER, first, start + 2 * SILENCE).unwrap_err();
        drop((silent, followed));
        lives.admit(BROKER, first, start + 2 * SILENCE).unwrap();
    }

    #[tokio::test]
    async fn peers_that_are_gone_are_forgotten_when_there_are_many() {
        let lives = Incarnations::default();
        let now = Instant::now();
        let stays = lives.admit(BROKER, Uuid([9; 16]), now).unwrap();
        for raft_id in 100..100 + 2 * KEYS_MAX {
            let id = PeerId { broker: None, raft_id: u64::try_from(raft_id).unwrap() };
            drop(lives.admit(id, Uuid([1; 16]), now).unwrap());
        }
        assert!(lives.lives.lock().len() <= KEYS_MAX);
        lives.admit(BROKER, Uuid([1; 16]), now).unwrap_err();
        drop(stays);
    }
}
