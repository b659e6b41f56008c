//! DescribeTopicPartitions: topics by name, in pages of a bounded number of partitions.
//!
//! A page is a function of the names, the cursor and the limit; the cursor names the first partition
//! of the next page. Topics that come or go between pages appear or do not.

use sawlog_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::admin::{View, is_internal, leader, numbers, topic_operations};
use crate::controller::check_name;
use crate::metadata::{PartitionState, Topic};

/// Describes topics.
pub(crate) async fn handle(
    ctx: &RequestContext<'_>,
    request: DescribeTopicPartitionsRequest<'_>,
) -> Rope {
    let image = ctx.node.images.load();
    let view = View { image: &image, host: ctx.host, port: ctx.port };
    ctx.reply(&respond(&view, &request))
}

fn respond<'a>(
    view: &View<'a>,
    request: &DescribeTopicPartitionsRequest<'a>,
) -> DescribeTopicPartitionsResponse<'a> {
    let limit = i32::try_from(view.image.config().max_request_partition_size_limit);
    let limit = request.response_partition_limit.min(limit.unwrap_or(i32::MAX)).max(1);
    let mut left = usize::try_from(limit).unwrap_or(1);
    let start = request.cursor.as_ref();
    let mut page = DescribeTopicPartitionsResponse::default();
    for (name, topic) in candidates(view, request) {
        if left == 0 {
            page.next_cursor = Some(Cursor { topic_name: name, partition_index: 0 });
            break;
        }
        let Some(topic) = topic else {
            page.topics.push(unknown(name));
            left -= 1;
            continue;
        };
        let first = start.filter(|at| at.topic_name == name).map_or(0, |at| at.partition_index);
        let first = usize::try_from(first).unwrap_or(0);
        let rest = topic.partitions.len().saturating_sub(first);
        if rest == 0 && first > 0 {
            continue;
        }
        let taken = rest.min(left);
        left -= taken;
        page.topics.push(describe(view, topic, first, taken));
        if taken < rest {
            let next = i32::try_from(first + taken).unwrap_or(i32::MAX);
            page.next_cursor = Some(Cursor { topic_name: name, partition_index: next });
            break;
        }
    }
    page
}

/// The topics from the cursor on, by name; of all topics if none is named.
fn candidates<'a>(
    view: &View<'a>,
    request: &DescribeTopicPartitionsRequest<'a>,
) -> Vec<(&'a str, Option<&'a Topic>)> {
    let from = request.cursor.as_ref().map_or("", |cursor| cursor.topic_name);
    if request.topics.is_empty() {
        let topics = view.image.topics_from(from);
        return topics.map(|topic| (&*topic.name, Some(&**topic))).collect();
    }
    let mut names: Vec<_> = request.topics.iter().map(|topic| topic.name).collect();
    names.sort_unstable();
    names.dedup();
    let names = names.into_iter().filter(|name| *name >= from);
    names.map(|name| (name, view.image.topic(name).map(|topic| &**topic))).collect()
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic<'_> {
    let error_code = match check_name(name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
    };
    DescribeTopicPartitionsResponseTopic { error_code, name: Some(name), ..Default::default() }
}

fn describe<'a>(
    view: &View<'a>,
    topic: &'a Topic,
    first: usize,
    count: usize,
) -> DescribeTopicPartitionsResponseTopic<'a> {
    let partitions = topic.indexed().skip(first).take(count);
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(&topic.name),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: partitions
            .map(|(index, state)| describe_partition(view, index, state))
            .collect(),
        topic_authorized_operations: topic_operations(true),
    }
}

fn describe_partition(
    view: &View<'_>,
    partition_index: i32,
    partition: &PartitionState,
) -> DescribeTopicPartitionsResponsePartition {
    let (error_code, leader_id) = leader(partition);
    DescribeTopicPartitionsResponsePartition {
        error_code,
        partition_index,
        leader_id,
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: numbers(&partition.replicas),
        isr_nodes: numbers(&partition.isr),
        eligible_leader_replicas: Some(numbers(&partition.elr)),
        last_known_elr: Some(Vec::new()),
        offline_replicas: view.offline_replicas(partition),
    }
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::messages::describe_topic_partitions::TopicRequest;

    use super::*;
    use crate::controller::tests::sample;
    use crate::metadata::Image;

    /// Every page of a listing: "topic[partitions...]" per topic.
    fn pages(image: &Image, names: &[&str], limit: i32) -> Vec<String> {
        let view = View { image, host: "h", port: 1 };
        let mut pages = Vec::new();
        let mut at: Option<(String, i32)> = None;
        for _ in 0..100 {
            let request = DescribeTopicPartitionsRequest {
                topics: names.iter().map(|name| TopicRequest { name }).collect(),
                response_partition_limit: limit,
                cursor: at.as_ref().map(|(topic_name, partition_index)| Cursor {
                    topic_name,
                    partition_index: *partition_index,
                }),
            };
            let response = respond(&view, &request);
            let topics = response.topics.iter().map(|topic| {
                let indexes: Vec<_> =
                    topic.partitions.iter().map(|p| p.partition_index.to_string()).collect();
                let error = if topic.error_code == ErrorCode::NONE { "" } else { "!" };
                format!("{}{error}[{}]", topic.name.unwrap_or("-"), indexes.join(" "))
            });
            pages.push(topics.collect::<Vec<_>>().join(" "));
            let next =
                response.next_cursor.map(|next| (next.topic_name.to_owned(), next.partition_index));
            match next {
                Some(next) => at = Some(next),
                None => return pages,
            }
        }
        panic!("the listing does not end: {pages:?}");
    }

    #[test]
    fn pages_cover_every_partition_once_in_order() {
        let image = sample(1, &[("num.partitions", "3")], &["b", "a", "c"]);
        assert_eq!(pages(&image, &[], 2000), ["a[0 1 2] b[0 1 2] c[0 1 2]"]);
        assert_eq!(pages(&image, &[], 4), ["a[0 1 2] b[0]", "b[1 2] c[0 1]", "c[2]"]);
        assert_eq!(pages(&image, &[], 3), ["a[0 1 2]", "b[0 1 2]", "c[0 1 2]"]);
        assert_eq!(pages(&image, &[], 0).len(), 9, "a limit below 1 is 1");
    }

    #[test]
    fn named_topics_come_sorted_once_with_their_errors() {
        let image = sample(1, &[], &["a", "b"]);
        assert_eq!(pages(&image, &["b", "no", "a", "b"], 2000), ["a[0] b[0] no![]"]);
        assert_eq!(pages(&image, &["b", "no", "a"], 1), ["a[0]", "b[0]", "no![]"]);
    }

    #[test]
    fn the_broker_limits_the_page_too() {
        let image = sample(1, &[("max.request.partition.size.limit", "1")], &["a", "b"]);
        assert_eq!(pages(&image, &[], 2000), ["a[0]", "b[0]"]);
    }

    #[test]
    fn a_cursor_on_a_topic_that_is_gone_goes_on_behind_it() {
        let image = sample(1, &[], &["a", "c"]);
        let view = View { image: &image, host: "h", port: 1 };
        for (partition_index, topic_name, expected) in
            [(5, "b", "c"), (7, "a", "c"), (-1, "a", "a")]
        {
            let request = DescribeTopicPartitionsRequest {
                cursor: Some(Cursor { topic_name, partition_index }),
                ..Default::default()
            };
            assert_eq!(respond(&view, &request).topics[0].name, Some(expected));
        }
    }
}
