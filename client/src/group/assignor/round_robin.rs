//! All partitions, by topic and index, to the members in turn; who does not subscribe is passed over.

use super::{PartitionCounts, Shares, Subscriber, give, in_order};

pub(super) fn assign(members: &[Subscriber], counts: &PartitionCounts) -> Shares {
    let order = in_order(members);
    let mut shares = vec![Default::default(); members.len()];
    let mut turn = 0;
    for (topic, count) in counts {
        for partition in 0..*count {
            let wants =
                |at: &usize| members.get(*at).is_some_and(|member| member.topics.contains(topic));
            let from = order.iter().enumerate().cycle().skip(turn).take(order.len());
            let Some((place, reader)) = from.into_iter().find(|(_, at)| wants(at)) else { break };
            give(&mut shares, *reader, (topic.clone(), partition));
            turn = (place + 1).checked_rem(order.len()).unwrap_or(0);
        }
    }
    shares
}
