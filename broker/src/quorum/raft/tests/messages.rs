//! The bytes nodes send to each other.

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};

use super::super::network::{Answer, Message, decode, decode_answer, encode, encode_answer, probe};
use super::super::snapshot::meta;
use super::super::types::{Entry, Member, StoredMembership, Vote, alone, log_id};
use crate::metadata::{Random as _, SeededRandom};

fn messages() -> Vec<Message> {
    let entries = vec![
        Entry { log_id: log_id(3, 8), payload: EntryPayload::Blank },
        Entry {
            log_id: log_id(3, 9),
            payload: EntryPayload::Normal(Bytes::from_static(b"records")),
        },
        Entry {
            log_id: log_id(4, 10),
            payload: EntryPayload::Membership(alone(5, Member::default())),
        },
    ];
    let membership = StoredMembership::new(Some(log_id(1, 0)), alone(5, Member::default()));
    vec![
        Message::Vote(VoteRequest { vote: Vote::new(3, 4), last_log_id: Some(log_id(2, 7)) }),
        Message::Append(AppendEntriesRequest {
            vote: Vote::new_committed(3, 4),
            prev_log_id: Some(log_id(2, 7)),
            leader_commit: None,
            entries,
        }),
        Message::Snapshot {
            vote: Vote::new_committed(3, 4),
            meta: meta(9, 3, membership),
            bytes: Bytes::from_static(b"snapshot"),
        },
        Message::Probe,
    ]
}

#[test]
fn messages_come_back_with_whom_they_are_for_and_damage_is_an_error() {
    for message in messages() {
        let bytes = encode(12, &message);
        let (target, back) = decode(&bytes).unwrap();
        assert_eq!((target, format!("{back:?}")), (12, format!("{message:?}")));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes.slice(..cut)).is_err(), "{cut} of {message:?}");
        }
        assert!(decode(&[&bytes[..], b"x"].concat().into()).is_err());
    }
    assert_eq!(probe(12), encode(12, &Message::Probe));
}

#[test]
fn answers_come_back() {
    for answer in [
        Answer::Not("why".to_owned()),
        Answer::Vote(VoteResponse {
            vote: Vote::new(1, 2),
            vote_granted: true,
            last_log_id: Some(log_id(1, 1)),
        }),
        Answer::Append(AppendEntriesResponse::Success),
        Answer::Append(AppendEntriesResponse::PartialSuccess(Some(log_id(1, 4)))),
        Answer::Append(AppendEntriesResponse::Conflict),
        Answer::Append(AppendEntriesResponse::HigherVote(Vote::new(7, 2))),
        Answer::Snapshot(SnapshotResponse { vote: Vote::new(7, 2) }),
    ] {
        let bytes = encode_answer(&answer);
        assert_eq!(format!("{:?}", decode_answer(&bytes).unwrap()), format!("{answer:?}"));
        for cut in 0..bytes.len() {
            assert!(decode_answer(&bytes[..cut]).is_err(), "{cut} of {answer:?}");
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    let mut random = SeededRandom::new(3);
    for message in messages() {
        let bytes = encode(12, &message);
        for _ in 0..2000 {
            let mut damaged = bytes.to_vec();
            for _ in 0..1 + random.next_u64() % 3 {
                let at = usize::try_from(random.next_u64()).unwrap_or(0) % damaged.len();
                damaged[at] ^= 1 << (random.next_u64() % 8);
            }
            // Either is fine.
            let _ = decode(&damaged.into());
        }
    }
}
