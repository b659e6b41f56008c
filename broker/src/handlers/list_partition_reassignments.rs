//! ListPartitionReassignments: which replicas are moving, as this broker knows it.
//!
//! Partitions that are not known, or that do not move, are left out.

use sawlog_protocol::Rope;
use sawlog_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment,
};

use super::RequestContext;
use super::admin::numbers;
use crate::metadata::{Image, PartitionState, Topic};

/// Lists reassignments.
pub(crate) async fn handle(
    ctx: &RequestContext<'_>,
    request: ListPartitionReassignmentsRequest<'_>,
) -> Rope {
    let image = ctx.node.images.load();
    ctx.reply(&respond(&image, &request))
}

fn respond<'a>(
    image: &'a Image,
    request: &ListPartitionReassignmentsRequest<'_>,
) -> ListPartitionReassignmentsResponse<'a> {
    let topics: Vec<_> = match &request.topics {
        None => image.topics().filter_map(|topic| moving(topic, |_| true)).collect(),
        Some(asked) => asked
            .iter()
            .filter_map(|asked| {
                let topic = image.topic(asked.name)?;
                moving(topic, |index| asked.partition_indexes.contains(&index))
            })
            .collect(),
    };
    ListPartitionReassignmentsResponse { topics, ..Default::default() }
}

fn moving(topic: &Topic, is_asked: impl Fn(i32) -> bool) -> Option<OngoingTopicReassignment<'_>> {
    let found = topic.indexed().filter(|(index, state)| {
        let moves = !state.adding.is_empty() || !state.removing.is_empty();
        moves && is_asked(*index)
    });
    let partitions: Vec<_> = found.map(|(index, state)| describe(index, state)).collect();
    let is_any = !partitions.is_empty();
    is_any.then(|| OngoingTopicReassignment { name: &topic.name, partitions })
}

fn describe(partition_index: i32, state: &PartitionState) -> OngoingPartitionReassignment {
    // Who is not wanted any more is among `adding` until it goes.
    let mut adding = state.adding.clone();
    adding.retain(|id| !state.removing.contains(id));
    OngoingPartitionReassignment {
        partition_index,
        replicas: numbers(&state.replicas),
        adding_replicas: numbers(&adding),
        removing_replicas: numbers(&state.removing),
    }
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::messages::list_partition_reassignments::ListPartitionReassignmentsTopics;

    use super::*;
    use crate::base::BrokerId;
    use crate::controller::replicas::reassign;
    use crate::controller::tests::sample;

    #[test]
    fn only_what_moves_is_listed_with_old_and_new_replicas() {
        let image =
            sample(3, &[("num.partitions", "2"), ("default.replication.factor", "1")], &["a", "b"]);
        let topic = image.topic("a").unwrap();
        let has = topic.partition(1).unwrap().replicas[0];
        let target = BrokerId(if has.0 == 3 { 1 } else { 3 });
        let records = reassign(&image, topic.id, 1, &[target]).unwrap();
        let image = image.applied(image.offset().next(), &records).unwrap();
        let all = respond(&image, &ListPartitionReassignmentsRequest::default());
        let expected = OngoingPartitionReassignment {
            partition_index: 1,
            replicas: vec![target.0, has.0],
            adding_replicas: vec![target.0],
            removing_replicas: vec![has.0],
        };
        assert_eq!(all.topics.len(), 1);
        assert_eq!((all.topics[0].name, &all.topics[0].partitions), ("a", &vec![expected]));
        let asking = |name, partition_indexes| ListPartitionReassignmentsRequest {
            topics: Some(vec![ListPartitionReassignmentsTopics { name, partition_indexes }]),
            ..Default::default()
        };
        assert_eq!(respond(&image, &asking("a", vec![0, 1])), all);
        for asked in [asking("a", vec![0]), asking("b", vec![0, 1]), asking("no", vec![0])] {
            assert!(respond(&image, &asked).topics.is_empty());
        }
    }
}
