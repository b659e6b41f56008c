//! Metadata: who leads what, and where. Creates topics for clients that allow it, if the broker
//! does too.
//!
//! Differs from the reference: a topic created on the way is answered with its partitions at once,
//! not with LEADER_NOT_AVAILABLE and a second request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sawlog_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use sawlog_protocol::{ErrorCode, Rope, Uuid};

use super::RequestContext;
use super::admin::{
    View, cluster_operations, code, is_internal, leader, numbers, topic_operations,
};
use crate::base::BrokerId;
use crate::controller::{CreateTopic, check_name};
use crate::metadata::{Broker, Image, Topic};

/// The first version in which topics can be named by id.
const TOPIC_BY_ID: i16 = 12;
/// Topics one request may have created: a client needs few, and each is a change of the metadata.
const CREATED_MAX: usize = 1000;

/// How long an answer about topics waits in a cluster. A client asks when it has lost a leader, whose
/// connections end one after another, within a millisecond: where that of the client ends first, the answer
/// would be the leader it has lost, and the client wait for its next turn.
const MOMENT: Duration = Duration::from_millis(2);

/// Describes brokers and topics.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: MetadataRequest<'_>) -> Rope {
    let node = ctx.node;
    let has_some = request.topics.as_ref().is_some_and(|topics| !topics.is_empty());
    if has_some && !is_alone(&node.images.load()) {
        tokio::time::sleep(MOMENT).await;
    }
    let (image, refused) = create_missing(ctx, &request).await;
    let names = |image: &Image, doubted: &BTreeSet<BrokerId>| {
        are_led_by(image, (&request, ctx.version), doubted)
    };
    let image = node.departing.settled(|| node.controller.watch(), image, names).await;
    let view = View { image: &image, host: ctx.host, port: ctx.port };
    let mut response = respond(&view, &request, ctx.version, &refused);
    let lately = node.departing.lately_fenced(&image);
    response.brokers.extend(lately.into_iter().map(|broker| describe_broker(&view, broker)));
    ctx.reply(&response)
}

/// Whether there is no other broker that could lead anything.
fn is_alone(image: &Image) -> bool {
    image.live_brokers().nth(1).is_none()
}

/// Whether one of these brokers leads something that is asked for.
fn are_led_by(
    image: &Image,
    (request, version): (&MetadataRequest<'_>, i16),
    brokers: &BTreeSet<BrokerId>,
) -> bool {
    let is_led = |topic: &Arc<Topic>| topic.is_led_by(brokers);
    match asked_for(request, version) {
        None => image.topics().any(is_led),
        Some(asked) => asked.iter().filter_map(|one| find(image, one, version)).any(is_led),
    }
}

/// The topics a client asks for; `None` for all. Version 0 has no null: there an empty list is.
fn asked_for<'r, 'a>(
    request: &'r MetadataRequest<'a>,
    version: i16,
) -> Option<&'r Vec<MetadataRequestTopic<'a>>> {
    request.topics.as_ref().filter(|topics| version > 0 || !topics.is_empty())
}

/// Why topics asked for were not created.
type Refused = BTreeMap<String, ErrorCode>;

/// Creates the topics that are asked for and missing, if client and broker agree to it. Returns
/// the image to answer from.
async fn create_missing(
    ctx: &RequestContext<'_>,
    request: &MetadataRequest<'_>,
) -> (Arc<Image>, Refused) {
    let image = ctx.node.images.load();
    let missing = missing(request, &image);
    if missing.is_empty() {
        return (image, Refused::new());
    }
    let topics: Vec<_> = missing
        .into_iter()
        .map(|name| CreateTopic { name: name.to_owned(), ..CreateTopic::default() })
        .collect();
    let results = ctx.node.controller.create_topics(topics.clone(), false).await;
    let refused = topics.into_iter().zip(results).filter_map(|(topic, result)| {
        let error = result.err()?;
        tracing::debug!(topic = %topic.name, %error, "topic not created on request");
        Some((topic.name, code(&error)))
    });
    let refused = refused.collect();
    (ctx.node.images.load(), refused)
}

/// Names to create, each once.
fn missing<'a>(request: &MetadataRequest<'a>, image: &Image) -> Vec<&'a str> {
    if !request.allow_auto_topic_creation || !image.config().auto_create_topics_enable {
        return Vec::new();
    }
    let asked = request.topics.iter().flatten().filter_map(|topic| topic.name);
    let mut names: Vec<_> =
        asked.filter(|name| image.topic(name).is_none() && check_name(name).is_ok()).collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(CREATED_MAX);
    names
}

fn respond<'a>(
    view: &View<'a>,
    request: &MetadataRequest<'a>,
    version: i16,
    refused: &Refused,
) -> MetadataResponse<'a> {
    let operations = topic_operations(request.include_topic_authorized_operations);
    let topics = match asked_for(request, version) {
        None => view.image.topics().map(|topic| describe(view, topic, operations)).collect(),
        Some(asked) => asked
            .iter()
            .map(|asked| match find(view.image, asked, version) {
                Some(topic) => describe(view, topic, operations),
                None => unknown(asked, version, refused),
            })
            .collect(),
    };
    let asks_for_cluster = request.include_cluster_authorized_operations;
    MetadataResponse {
        brokers: brokers(view),
        cluster_id: Some(view.image.cluster_id_text()),
        controller_id: view.controller_id(),
        topics,
        cluster_authorized_operations: cluster_operations(asks_for_cluster),
        ..Default::default()
    }
}

fn brokers<'a>(view: &View<'a>) -> Vec<MetadataResponseBroker<'a>> {
    view.image.live_brokers().map(|broker| describe_broker(view, broker)).collect()
}

fn describe_broker<'a>(view: &View<'a>, broker: &'a Broker) -> MetadataResponseBroker<'a> {
    let (host, port) = view.address(broker);
    MetadataResponseBroker { node_id: broker.id.0, host, port, rack: broker.rack.as_deref() }
}

/// The id a client asks for; before version 12 the field is there but means nothing.
fn asked_id(asked: &MetadataRequestTopic<'_>, version: i16) -> Option<Uuid> {
    Some(asked.topic_id).filter(|id| version >= TOPIC_BY_ID && !id.is_zero())
}

fn find<'a>(
    image: &'a Image,
    asked: &MetadataRequestTopic<'_>,
    version: i16,
) -> Option<&'a Arc<Topic>> {
    match asked_id(asked, version) {
        Some(id) => image.topic_by_id(id),
        None => image.topic(asked.name?),
    }
}

fn unknown<'a>(
    asked: &MetadataRequestTopic<'a>,
    version: i16,
    refused: &Refused,
) -> MetadataResponseTopic<'a> {
    let by_id = asked_id(asked, version);
    let error_code = match asked.name {
        _ if by_id.is_some() => ErrorCode::UNKNOWN_TOPIC_ID,
        None => ErrorCode::UNKNOWN_TOPIC_ID,
        Some(name) if check_name(name).is_err() => ErrorCode::INVALID_TOPIC_EXCEPTION,
        Some(name) => refused.get(name).copied().unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    };
    // Before version 12 the name cannot be null.
    let name = if version < TOPIC_BY_ID { asked.name.or(Some("")) } else { asked.name };
    MetadataResponseTopic {
        error_code,
        name,
        topic_id: by_id.unwrap_or_default(),
        ..Default::default()
    }
}

fn describe<'a>(view: &View<'a>, topic: &'a Topic, operations: i32) -> MetadataResponseTopic<'a> {
    let partitions = topic.indexed().map(|(partition_index, partition)| {
        let (error_code, leader_id) = leader(partition);
        MetadataResponsePartition {
            error_code,
            partition_index,
            leader_id,
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: numbers(&partition.replicas),
            isr_nodes: numbers(&partition.isr),
            offline_replicas: view.offline_replicas(partition),
        }
    });
    MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(&topic.name),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: operations,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BrokerId;
    use crate::controller::replicas::fence;
    use crate::controller::tests::sample;

    fn named(name: &str) -> MetadataRequestTopic<'_> {
        MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(name) }
    }

    fn asking(topics: Option<Vec<MetadataRequestTopic<'_>>>) -> MetadataRequest<'_> {
        MetadataRequest { topics, ..Default::default() }
    }

    fn names(
        image: &Image,
        version: i16,
        topics: Option<Vec<MetadataRequestTopic<'_>>>,
    ) -> Vec<String> {
        let view = View { image, host: "h", port: 1 };
        let response = respond(&view, &asking(topics), version, &Refused::new());
        response
            .topics
            .iter()
            .map(|t| format!("{}:{}", t.name.unwrap_or("-"), t.error_code.0))
            .collect()
    }

    #[test]
    fn empty_is_everything_in_version_0_and_nothing_later() {
        let image = sample(1, &[], &["a", "b"]);
        assert_eq!(names(&image, 0, Some(vec![])), ["a:0", "b:0"]);
        assert!(names(&image, 1, Some(vec![])).is_empty());
        assert_eq!(names(&image, 1, None), ["a:0", "b:0"]);
        assert_eq!(names(&image, 13, None), ["a:0", "b:0"]);
    }

    #[test]
    fn unknown_topics_say_what_is_wrong_with_each() {
        let image = sample(1, &[], &["a"]);
        let by_id = |n| MetadataRequestTopic { topic_id: Uuid([n; 16]), name: None };
        let asked = vec![named("a"), named("no"), named("not a name"), by_id(9), by_id(0)];
        assert_eq!(
            names(&image, 12, Some(asked)),
            ["a:0", "no:3", "not a name:17", "-:100", "-:100"]
        );
    }

    #[test]
    fn topics_are_found_by_id_from_version_12() {
        let image = sample(1, &[], &["a"]);
        let id = image.topic("a").unwrap().id;
        let by_id = MetadataRequestTopic { topic_id: id, name: None };
        assert_eq!(names(&image, 12, Some(vec![by_id])), ["a:0"]);
        let with_name = MetadataRequestTopic { topic_id: Uuid([9; 16]), name: Some("a") };
        assert_eq!(names(&image, 11, Some(vec![with_name])), ["a:0"], "the id means nothing yet");
    }

    #[test]
    fn a_reply_names_this_broker_as_the_client_dialled_it() {
        let image = sample(2, &[], &["a"]);
        let view = View { image: &image, host: "dialled.example", port: 19092 };
        let response = respond(&view, &asking(None), 13, &Refused::new());
        let hosts: Vec<_> = response.brokers.iter().map(|b| (b.node_id, b.host, b.port)).collect();
        assert_eq!(hosts[0], (1, "dialled.example", 19092));
        assert_eq!(hosts[1], (2, "broker-2.example", 9092), "others where they say they are");
        assert_eq!(response.controller_id, 1);
        assert_eq!(response.cluster_id, Some(image.cluster_id_text()));
        let topic = &response.topics[0];
        assert!(!topic.topic_id.is_zero());
        let partition = &topic.partitions[0];
        assert_eq!((partition.leader_epoch, partition.isr_nodes.len()), (0, 2));
        assert!(partition.offline_replicas.is_empty());
        assert_eq!(topic.topic_authorized_operations, i32::MIN);
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
    }

    #[test]
    fn topics_are_created_only_if_client_and_broker_allow_it() {
        let closed = sample(1, &[], &["a"]);
        let open = sample(1, &[("auto.create.topics.enable", "true")], &["a"]);
        let asked = || Some(vec![named("a"), named("new"), named("new"), named("not a name")]);
        assert!(missing(&asking(asked()), &closed).is_empty());
        assert_eq!(missing(&asking(asked()), &open), ["new"]);
        let refusing = MetadataRequest { allow_auto_topic_creation: false, ..asking(asked()) };
        assert!(missing(&refusing, &open).is_empty());
    }

    #[test]
    fn a_refused_creation_says_why() {
        let image = sample(1, &[], &[]);
        let view = View { image: &image, host: "h", port: 1 };
        let refused = Refused::from([("t".to_owned(), ErrorCode::INVALID_REPLICATION_FACTOR)]);
        let response = respond(&view, &asking(Some(vec![named("t")])), 9, &refused);
        assert_eq!(response.topics[0].error_code, ErrorCode::INVALID_REPLICATION_FACTOR);
    }

    #[test]
    fn brokers_that_are_gone_are_not_told_of_and_their_replicas_are_offline() {
        let single = ("default.replication.factor", "1");
        let image = sample(3, &[("num.partitions", "3"), single], &["a"]);
        let fenced = |image: &Image, id| {
            let records = fence(image, BrokerId(id));
            image.applied(image.offset().next(), &records).unwrap()
        };
        let image = fenced(&image, 2);
        let view = View { image: &image, host: "h", port: 1 };
        let response = respond(&view, &asking(None), 13, &Refused::new());
        let ids: Vec<_> = response.brokers.iter().map(|broker| broker.node_id).collect();
        assert_eq!((ids, response.controller_id), (vec![1, 3], 1));
        let partitions = &response.topics[0].partitions;
        let gone = partitions.iter().find(|it| it.replica_nodes == [2]).unwrap();
        assert_eq!((gone.error_code, gone.leader_id), (ErrorCode::LEADER_NOT_AVAILABLE, -1));
        assert_eq!((&gone.isr_nodes, &gone.offline_replicas), (&vec![], &vec![2]));
        assert_eq!(gone.leader_epoch, 1);
        let image = fenced(&image, 1);
        let view = View { image: &image, host: "h", port: 1 };
        let response = respond(&view, &asking(None), 13, &Refused::new());
        assert_eq!(response.controller_id, 3, "one that clients are told of");
    }
}
