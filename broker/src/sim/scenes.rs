//! Scenes: what many worlds are needed to meet by chance, brought about on purpose in one.

use std::time::Duration;

use sawlog_protocol::decode_response;
use sawlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use tokio::time::sleep;

use super::clients::Client;
use super::simulated;
use super::world::World;
use crate::base::disk_sim::SimRandom;
use crate::base::tasks::SimulatedProcess as _;
use crate::controller::{DeleteTopic, Request};
use crate::quorum::LogRole;

/// The last version that names topics: one made anew is the same to it.
const FETCH_BY_NAME: i16 = 12;

impl World {
    /// Has the controller decide on all of it at once.
    fn request_at_once(&self, requests: Vec<Request>) {
        let mut brokers = self.machines.keys().filter_map(|broker| self.controller(*broker));
        let (process, controller) = brokers
            .find(|(_, it)| matches!(it.role().get(), LogRole::Leader { .. }))
            .expect("a controller");
        for request in requests {
            let controller = controller.clone();
            process.spawn(Box::pin(async move {
                // Whether the topic is made anew is seen by all.
                let _answer = controller.ask(request).await;
            }));
        }
    }
}

#[test]
fn a_fetch_ends_though_its_topic_is_made_anew_while_it_waits() {
    let ended = simulated(async {
        let mut world = World::new(1, false);
        world.begin().await;
        let (subject, mut ended) = (world.weather.topics[0], 0);
        for _ in 0..10 {
            let client =
                Client { shared: world.clients.clone(), number: 1, random: SimRandom::new(1) };
            let before = world.oracle.topic("t0");
            let fetching = async {
                let partitions =
                    vec![FetchPartition { partition_max_bytes: 1, ..Default::default() }];
                let topic = FetchTopic { topic: "t0", partitions, ..Default::default() };
                let request = FetchRequest {
                    max_wait_ms: 2000,
                    min_bytes: 1,
                    topics: vec![topic],
                    ..Default::default()
                };
                // From whoever has it.
                for broker in 1..=world.weather.brokers {
                    let Some(answer) = client.ask(broker, &request, FETCH_BY_NAME).await else {
                        continue;
                    };
                    decode_response::<FetchRequest<'_>>(&answer, FETCH_BY_NAME).unwrap();
                    ended += 1;
                }
            };
            let making = async {
                sleep(Duration::from_millis(500)).await;
                let topics = vec![World::topic(&subject, "t0".to_owned())];
                world.request_at_once(vec![
                    Request::DeleteTopics(vec![DeleteTopic::Name("t0".to_owned())]),
                    Request::CreateTopics { topics, validate_only: false },
                ]);
            };
            tokio::join!(fetching, making);
            let after = world.oracle.topic("t0");
            assert!(after.is_some() && after != before, "it is made anew, {before:?} {after:?}");
        }
        ended
    });
    assert!(ended > 10, "{ended}");
}
