//! Topic by topic, each subscriber a run of partitions; the first ones get one more where it does not
//! come out even.

use super::{PartitionCounts, Shares, Subscriber, give, in_order, subscribers};

pub(super) fn assign(members: &[Subscriber], counts: &PartitionCounts) -> Shares {
    let order = in_order(members);
    let mut shares = vec![Default::default(); members.len()];
    for (topic, count) in counts {
        let readers = subscribers(members, &order, topic);
        let Ok(number) = i32::try_from(readers.len()) else { continue };
        let (Some(each), Some(more)) = (count.checked_div(number), count.checked_rem(number))
        else {
            continue;
        };
        let mut next = 0;
        for (place, reader) in (0..).zip(readers) {
            let end = next + each + i32::from(place < more);
            for partition in next..end {
                give(&mut shares, reader, (topic.clone(), partition));
            }
            next = end;
        }
    }
    shares
}
