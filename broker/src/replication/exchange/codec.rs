//! What followers and leaders say to each other, in bytes: big-endian, counts before lists.
//!
//! Decoding never panics, and allocates no more than the bytes there are allow.

use bytes::{Buf, Bytes};
use sawlog_protocol::Uuid;

use super::super::core::{FetchAnswer, HOLED, ReplicaFetch};
use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionId};

/// Version of answers.
const VERSION: u8 = 1;

/// Version of messages. A leader that does not know one says so, and is asked as those before it were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MessageVersion {
    /// Without log starts.
    One = 1,
    /// With the log starts of followers.
    Two = 2,
}

/// Where the log of a follower starts that does not say: nobody waits for it.
const UNTOLD: Offset = Offset(i64::MAX);

/// A partition a follower asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) slot: u32,
    /// Ties the answer to it.
    pub(super) number: u64,
    pub(super) partition: PartitionId,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) fetch_offset: Offset,
    pub(super) last_epoch: Option<LeaderEpoch>,
    pub(super) durable: Offset,
    /// The high watermark it knows.
    pub(super) known: Offset,
    /// The log start it knows.
    pub(super) known_start: Offset,
    /// Its log start, as it is written down: that may be behind.
    pub(super) log_start: Offset,
}

/// A follower's disk has caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Durable {
    pub(super) slot: u32,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) durable: Offset,
    /// As in [`Ask`].
    pub(super) log_start: Offset,
}

/// What a follower says at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Whether it waits for an answer.
    pub(super) waits: bool,
    pub(super) broker_epoch: BrokerEpoch,
    /// Begun anew by the follower whenever something was lost.
    pub(super) session: u64,
    /// Counts the messages of the session, from 0.
    pub(super) number: u64,
    pub(super) wait_ms: u32,
    pub(super) max_bytes: u32,
    pub(super) asks: Vec<Ask>,
    pub(super) durables: Vec<Durable>,
    /// Slots it does not follow any more.
    pub(super) gone: Vec<u32>,
}

/// What there is for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// With so many bytes of records.
    Answer(FetchAnswer, u32),
    /// It is to ask again in a while.
    Refused,
}

/// What a leader answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What there is for which slot, in answer to which question; the records follow one after
    /// another.
    News(Vec<(u32, u64, Told)>),
    /// The session is not known: everything has to be asked again.
    SessionLost,
    /// Nothing is served here.
    NotServed,
}

impl Message {
    pub(super) fn encode(&self, version: MessageVersion) -> Bytes {
        let mut out = Vec::with_capacity(48 + self.asks.len() * 76 + self.durables.len() * 24);
        let tells_starts = version >= MessageVersion::Two;
        out.push(version as u8);
        out.push(u8::from(self.waits));
        out.extend(self.broker_epoch.0.to_be_bytes());
        out.extend(self.session.to_be_bytes());
        out.extend(self.number.to_be_bytes());
        out.extend(self.wait_ms.to_be_bytes());
        out.extend(self.max_bytes.to_be_bytes());
        out.extend(count(self.asks.len()));
        for ask in &self.asks {
            out.extend(ask.slot.to_be_bytes());
            out.extend(ask.number.to_be_bytes());
            out.extend(ask.partition.topic.0);
            out.extend(ask.partition.index.to_be_bytes());
            out.extend(ask.leader_epoch.0.to_be_bytes());
            out.extend(ask.fetch_offset.0.to_be_bytes());
            out.extend(ask.last_epoch.unwrap_or(LeaderEpoch::NONE).0.to_be_bytes());
            out.extend(ask.durable.0.to_be_bytes());
            out.extend(ask.known.0.to_be_bytes());
            if tells_starts {
                out.extend(ask.known_start.0.to_be_bytes());
                out.extend(ask.log_start.0.to_be_bytes());
            }
        }
        out.extend(count(self.durables.len()));
        for durable in &self.durables {
            out.extend(durable.slot.to_be_bytes());
            out.extend(durable.leader_epoch.0.to_be_bytes());
            out.extend(durable.durable.0.to_be_bytes());
            if tells_starts {
                out.extend(durable.log_start.0.to_be_bytes());
            }
        }
        out.extend(count(self.gone.len()));
        for slot in &self.gone {
            out.extend(slot.to_be_bytes());
        }
        out.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = bytes;
        let tells_starts = match bytes.try_get_u8().ok()? {
            1 => false,
            2 => true,
            _ => return None,
        };
        let log_start = |bytes: &mut &[u8]| if tells_starts { offset(bytes) } else { Some(UNTOLD) };
        let mut message = Self {
            waits: bytes.try_get_u8().ok()? == 1,
            broker_epoch: BrokerEpoch(bytes.try_get_i64().ok()?),
            session: bytes.try_get_u64().ok()?,
            number: bytes.try_get_u64().ok()?,
            wait_ms: bytes.try_get_u32().ok()?,
            max_bytes: bytes.try_get_u32().ok()?,
            asks: Vec::new(),
            durables: Vec::new(),
            gone: Vec::new(),
        };
        for _ in 0..bytes.try_get_u32().ok()? {
            message.asks.push(Ask {
                slot: bytes.try_get_u32().ok()?,
                number: bytes.try_get_u64().ok()?,
                partition: PartitionId {
                    topic: Uuid(bytes.try_get_u128().ok()?.to_be_bytes()),
                    index: bytes.try_get_i32().ok()?,
                },
                leader_epoch: LeaderEpoch(bytes.try_get_i32().ok()?),
                fetch_offset: offset(&mut bytes)?,
                last_epoch: Some(LeaderEpoch(bytes.try_get_i32().ok()?))
                    .filter(|epoch| *epoch != LeaderEpoch::NONE),
                durable: durable(&mut bytes)?,
                known: offset(&mut bytes)?,
                known_start: log_start(&mut bytes)?,
                log_start: log_start(&mut bytes)?,
            });
        }
        for _ in 0..bytes.try_get_u32().ok()? {
            message.durables.push(Durable {
                slot: bytes.try_get_u32().ok()?,
                leader_epoch: LeaderEpoch(bytes.try_get_i32().ok()?),
                durable: durable(&mut bytes)?,
                log_start: log_start(&mut bytes)?,
            });
        }
        for _ in 0..bytes.try_get_u32().ok()? {
            message.gone.push(bytes.try_get_u32().ok()?);
        }
        bytes.is_empty().then_some(message)
    }
}

impl Ask {
    /// As the core of the leader takes it.
    pub(super) fn fetch(&self, replica: BrokerId, broker_epoch: BrokerEpoch) -> ReplicaFetch {
        ReplicaFetch {
            replica,
            broker_epoch,
            leader_epoch: self.leader_epoch,
            fetch_offset: self.fetch_offset,
            last_epoch: self.last_epoch,
            durable: self.durable,
            log_start: self.log_start,
        }
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Self::SessionLost => out.push(1),
            Self::NotServed => out.push(2),
            Self::News(news) => {
                out.push(0);
                out.extend(count(news.len()));
                for (slot, number, told) in news {
                    out.extend(slot.to_be_bytes());
                    out.extend(number.to_be_bytes());
                    let (kind, one, other, length) = match told {
                        Told::Answer(
                            FetchAnswer::Records { high_watermark, log_start },
                            length,
                        ) => (0, high_watermark.0, log_start.0, *length),
                        Told::Answer(FetchAnswer::Diverging { epoch, end }, _) => {
                            (1, i64::from(epoch.0), end.0, 0)
                        }
                        Told::Answer(FetchAnswer::OutOfRange { log_start }, _) => {
                            (2, log_start.0, 0, 0)
                        }
                        Told::Refused => (3, 0, 0, 0),
                    };
                    out.push(kind);
                    out.extend(one.to_be_bytes());
                    out.extend(other.to_be_bytes());
                    out.extend(length.to_be_bytes());
                }
            }
        }
        out
    }

    /// Also what is behind it: the records.
    pub(super) fn decode(answer: &Bytes) -> Option<(Self, Bytes)> {
        let mut bytes = answer.clone();
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        match bytes.try_get_u8().ok()? {
            0 => {}
            1 => return Some((Self::SessionLost, bytes)),
            2 => return Some((Self::NotServed, bytes)),
            _ => return None,
        }
        let mut news = Vec::new();
        for _ in 0..bytes.try_get_u32().ok()? {
            let slot = bytes.try_get_u32().ok()?;
            let number = bytes.try_get_u64().ok()?;
            let kind = bytes.try_get_u8().ok()?;
            let (one, other) = (bytes.try_get_i64().ok()?, bytes.try_get_i64().ok()?);
            let length = bytes.try_get_u32().ok()?;
            let is_offset = |value: i64| (value >= 0).then_some(Offset(value));
            let told = match kind {
                0 => {
                    let (high_watermark, log_start) = (is_offset(one)?, is_offset(other)?);
                    Told::Answer(FetchAnswer::Records { high_watermark, log_start }, length)
                }
                1 => {
                    let epoch = LeaderEpoch(i32::try_from(one).ok()?);
                    Told::Answer(FetchAnswer::Diverging { epoch, end: is_offset(other)? }, 0)
                }
                2 => Told::Answer(FetchAnswer::OutOfRange { log_start: is_offset(one)? }, 0),
                3 => Told::Refused,
                _ => return None,
            };
            news.push((slot, number, told));
        }
        Some((Self::News(news), bytes))
    }
}

fn count(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn offset(bytes: &mut &[u8]) -> Option<Offset> {
    bytes.try_get_i64().ok().filter(|number| *number >= 0).map(Offset)
}

/// How far a disk has caught up, or that it does not count.
fn durable(bytes: &mut &[u8]) -> Option<Offset> {
    let number = bytes.try_get_i64().ok().map(Offset);
    number.filter(|durable| *durable >= Offset::ZERO || *durable == HOLED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> Message {
        let ask = Ask {
            slot: 3,
            number: 12,
            partition: PartitionId { topic: Uuid([7; 16]), index: 2 },
            leader_epoch: LeaderEpoch(4),
            fetch_offset: Offset(50),
            last_epoch: None,
            durable: Offset(40),
            known: Offset(30),
            known_start: Offset(25),
            log_start: Offset(20),
        };
        let (leader_epoch, durable) = (LeaderEpoch(0), Offset(8));
        let durable = Durable { slot: 1, leader_epoch, durable, log_start: Offset(6) };
        Message {
            waits: true,
            broker_epoch: BrokerEpoch(9),
            session: 1 << 40,
            number: 77,
            wait_ms: 500,
            max_bytes: 1 << 20,
            asks: vec![ask, Ask { last_epoch: Some(LeaderEpoch(3)), durable: HOLED, ..ask }],
            durables: vec![durable],
            gone: vec![5, 6],
        }
    }

    fn answers() -> [Answer; 3] {
        let records = FetchAnswer::Records { high_watermark: Offset(5), log_start: Offset(1) };
        let diverging = FetchAnswer::Diverging { epoch: LeaderEpoch(2), end: Offset(4) };
        let out = FetchAnswer::OutOfRange { log_start: Offset(9) };
        let news = vec![
            (0, 8, Told::Answer(records, 100)),
            (1, 9, Told::Answer(diverging, 0)),
            (2, 1, Told::Answer(out, 0)),
            (3, u64::MAX, Told::Refused),
        ];
        [Answer::News(news), Answer::SessionLost, Answer::NotServed]
    }

    #[test]
    fn what_is_said_is_understood() {
        assert_eq!(Message::decode(&message().encode(MessageVersion::Two)), Some(message()));
        for answer in answers() {
            let mut bytes = answer.encode();
            bytes.extend(b"records");
            let decoded = Answer::decode(&bytes.into());
            assert_eq!(decoded, Some((answer, Bytes::from_static(b"records"))));
        }
    }

    #[test]
    fn a_follower_of_before_log_starts_is_understood_and_waited_for_by_nobody() {
        let told = Message::decode(&message().encode(MessageVersion::One)).unwrap();
        let mut expected = message();
        for ask in &mut expected.asks {
            (ask.known_start, ask.log_start) = (UNTOLD, UNTOLD);
        }
        expected.durables.iter_mut().for_each(|durable| durable.log_start = UNTOLD);
        assert_eq!(told, expected);
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_refused_or_say_something_else(
            at in 0usize..200, to in 0usize..200, byte: u8,
        ) {
            let [news, ..] = answers();
            let mut answer = news.encode();
            let mut asked = message().encode(MessageVersion::Two).to_vec();
            for bytes in [&mut answer, &mut asked] {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
                bytes.truncate(to.max(1));
            }
            let _ = Message::decode(&asked);
            let _ = Answer::decode(&answer.into());
        }
    }
}
