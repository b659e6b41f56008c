//! Groups on a disk that is full for a while: what was committed stays, what cannot be written is
//! refused, and everything goes on when there is room again.

use std::path::Path;

use sawlog_protocol::ErrorCode;

use super::broker::{Broker, Options};
use super::client::TOPIC;
use super::full::on_small_disks;
use super::groups::{GroupWire, Membership, RETRIABLE};
use super::{create_topic, eventually};

/// Commits until one is refused; returns the last that was not.
fn commit_until_refused(member: &mut GroupWire, membership: &Membership) -> i64 {
    let note = "n".repeat(4000);
    for offset in 0..20_000 {
        let error = member.commit(Some(membership), TOPIC, (offset, &note)).unwrap();
        if error != ErrorCode::NONE {
            assert!(RETRIABLE.contains(&error), "{error:?}");
            return offset - 1;
        }
    }
    panic!("the disk is full, and yet 20,000 commits are acknowledged");
}

/// Takes all the room there is.
fn fill(path: &Path) {
    // As much as there is.
    let _full = std::fs::write(path, vec![1; 64 << 20]);
}

#[test]
fn groups_on_a_full_disk_keep_what_was_committed_and_go_on_when_there_is_room() {
    on_small_disks(40, |disk| {
        let data = disk.join("data");
        let options = Options::on(&data)
            .set("group.initial.rebalance.delay.ms=0")
            .set("offsets.topic.num.partitions=2");
        let mut broker = Broker::start(&options);
        create_topic(&broker, 1, "1048576");
        let mut member = GroupWire::connect(broker.address(), "full").unwrap();
        assert_eq!(member.find_coordinator().unwrap(), ErrorCode::NONE);
        let first = member.join("").unwrap();
        assert_eq!(member.sync(&first).unwrap(), ErrorCode::NONE);
        let somebody = disk.join("somebody");
        fill(&somebody);

        let committed = commit_until_refused(&mut member, &first);
        assert_eq!(member.committed(TOPIC).unwrap(), committed, "what was refused is not told");
        // Refused commits cost the group nothing.
        assert_eq!(member.heartbeat(&first).unwrap(), ErrorCode::NONE);
        // A generation that cannot be written down is none: the group is as it was.
        let second = member.join(&first.member).unwrap();
        assert!(RETRIABLE.contains(&member.sync(&second).unwrap()), "{}", broker.said());
        assert_eq!(member.committed(TOPIC).unwrap(), committed);

        std::fs::remove_file(&somebody).unwrap();
        let mut member_id = second.member;
        let mut third = Membership::default();
        eventually(|| {
            third = member.join(&member_id).unwrap();
            member_id.clone_from(&third.member);
            member.sync(&third).unwrap() == ErrorCode::NONE
        });
        assert_eq!(third.member, first.member, "nobody had to become somebody else");
        let commit = (committed + 1, "");
        assert_eq!(member.commit(Some(&third), TOPIC, commit).unwrap(), ErrorCode::NONE);

        broker.kill();
        let mut broker = Broker::start(&options);
        let mut member = GroupWire::connect(broker.address(), "full").unwrap();
        assert_eq!(member.committed(TOPIC).unwrap(), committed + 1);
        assert_eq!(member.heartbeat(&third).unwrap(), ErrorCode::NONE);
        assert!(broker.terminate(), "{}", broker.said());
    });
}
