//! DescribeCluster: the brokers and where they are.

use sawlog_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::admin::{View, cluster_operations};

/// `endpoint_type` of brokers.
const BROKERS: i8 = 1;
/// `endpoint_type` of controllers: asked of a controller's own listener only.
const CONTROLLERS: i8 = 2;

/// Describes the cluster.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: DescribeClusterRequest) -> Rope {
    let image = ctx.node.images.load();
    let view = View { image: &image, host: ctx.host, port: ctx.port };
    ctx.reply(&respond(&view, &request))
}

fn respond<'a>(view: &View<'a>, request: &DescribeClusterRequest) -> DescribeClusterResponse<'a> {
    let refused = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            "this is a broker's address: ask for brokers",
        )),
        _ => Some((ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, "the endpoint type must be 1, brokers")),
    };
    if let Some((error_code, message)) = refused {
        let error_message = Some(message);
        return DescribeClusterResponse { error_code, error_message, ..Default::default() };
    }
    let shown = view.image.brokers().filter(|b| request.include_fenced_brokers || !b.fenced);
    let brokers = shown
        .map(|broker| {
            let (host, port) = view.address(broker);
            DescribeClusterBroker {
                broker_id: broker.id.0,
                host,
                port,
                rack: broker.rack.as_deref(),
                is_fenced: broker.fenced,
            }
        })
        .collect();
    DescribeClusterResponse {
        cluster_id: view.image.cluster_id_text(),
        controller_id: view.controller_id(),
        brokers,
        cluster_authorized_operations: cluster_operations(
            request.include_cluster_authorized_operations,
        ),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BrokerId;
    use crate::controller::replicas::fence;
    use crate::controller::tests::sample;

    #[test]
    fn brokers_are_where_the_client_found_them() {
        let image = sample(1, &[], &[]);
        let view = View { image: &image, host: "dialled.example", port: 19092 };
        let response = respond(&view, &DescribeClusterRequest::default());
        assert_eq!(response.brokers[0].host, "dialled.example");
        assert_eq!((response.brokers[0].port, response.controller_id), (19092, 1));
        assert_eq!(response.cluster_id, image.cluster_id().to_string());
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
    }

    #[test]
    fn controllers_are_not_described_by_a_broker() {
        let image = sample(1, &[], &[]);
        let view = View { image: &image, host: "h", port: 1 };
        let of = |endpoint_type| {
            respond(&view, &DescribeClusterRequest { endpoint_type, ..Default::default() })
                .error_code
        };
        assert_eq!(of(2), ErrorCode::MISMATCHED_ENDPOINT_TYPE);
        assert_eq!(of(3), ErrorCode::UNSUPPORTED_ENDPOINT_TYPE);
    }

    #[test]
    fn brokers_that_are_gone_are_described_to_those_who_ask_for_them() {
        let image = sample(3, &[], &[]);
        let records = fence(&image, BrokerId(2));
        let image = image.applied(image.offset().next(), &records).unwrap();
        let view = View { image: &image, host: "h", port: 1 };
        let of = |include_fenced_brokers| {
            let request = DescribeClusterRequest {
                include_fenced_brokers,
                endpoint_type: BROKERS,
                ..Default::default()
            };
            let brokers = respond(&view, &request).brokers;
            brokers.iter().map(|broker| (broker.broker_id, broker.is_fenced)).collect::<Vec<_>>()
        };
        assert_eq!(of(false), [(1, false), (3, false)]);
        assert_eq!(of(true), [(1, false), (2, true), (3, false)]);
    }
}
