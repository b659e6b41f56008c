//! The way from leaders of partitions to the controller: other in-sync sets are asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::base::PartitionId;
use crate::controller::{AlterRequest, Controller, Request, Response};
use crate::metadata::{AlterAnswer, AlterPartition, AlterRefusal};
use crate::replication::{AlterAnswers, AskAlter};

/// How long a controller is looked for. Partitions ask again by themselves.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the controller of the cluster.
#[derive(Debug)]
pub(super) struct Alters(pub(super) Arc<Controller>);

impl AskAlter for Alters {
    fn ask(&self, questions: Vec<(PartitionId, AlterPartition)>) -> AlterAnswers {
        let controller = self.0.clone();
        Box::pin(async move {
            let count = questions.len();
            let asked = questions.into_iter().map(|(id, question)| AlterRequest {
                topic: id.topic,
                index: id.index,
                question,
            });
            let request = Request::AlterPartitions(asked.collect());
            match controller.ask_within(request, PATIENCE).await {
                Ok(Response::AlterPartitions(answers)) => answers,
                Ok(_) | Err(_) => {
                    vec![AlterAnswer::Refused(AlterRefusal::NotController); count]
                }
            }
        })
    }
}
