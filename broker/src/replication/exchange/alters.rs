//! Leaders' questions to the controller: gathered, and asked together, one request at a time.
//!
//! A question that cannot be asked is answered as by a controller that is not there; the core asks
//! again after a while.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::partition::Partition;
use crate::base::PartitionId;
use crate::metadata::{AlterAnswer, AlterPartition, AlterRefusal};

/// Questions of one request.
const TOGETHER_MAX: usize = 1000;

/// The answers, in the order of the questions.
pub(crate) type AlterAnswers = Pin<Box<dyn Future<Output = Vec<AlterAnswer>> + Send>>;

/// The way to the controller.
pub(crate) trait AskAlter: Send + Sync {
    /// Asks for other in-sync sets.
    fn ask(&self, questions: Vec<(PartitionId, AlterPartition)>) -> AlterAnswers;
}

/// Questions that wait.
#[derive(Debug, Default)]
pub(super) struct Alters {
    waiting: Mutex<Vec<Waiting>>,
    wake: Notify,
}

#[derive(Debug)]
struct Waiting {
    id: PartitionId,
    partition: Arc<Partition>,
    question: AlterPartition,
}

impl Alters {
    pub(super) fn push(
        &self,
        id: PartitionId,
        partition: &Arc<Partition>,
        question: AlterPartition,
    ) {
        let partition = partition.clone();
        self.waiting.lock().push(Waiting { id, partition, question });
        self.wake.notify_one();
    }

    /// Asks `controller` as long as the runtime lives.
    pub(super) async fn run(self: Arc<Self>, controller: Arc<dyn AskAlter>) {
        loop {
            let waiting = self.take();
            if waiting.is_empty() {
                self.wake.notified().await;
                continue;
            }
            let questions = waiting.iter().map(|one| (one.id, one.question.clone())).collect();
            let answers = controller.ask(questions).await;
            let unanswered = AlterAnswer::Refused(AlterRefusal::NotController);
            for (at, one) in waiting.iter().enumerate() {
                let answer = answers.get(at).unwrap_or(&unanswered);
                let (epoch, number) = (one.question.leader_epoch, one.question.number);
                tracing::debug!(partition = %one.partition.name, ?answer, "in-sync set");
                one.partition.on_alter_answer(epoch, number, answer);
            }
        }
    }

    /// Nobody asks any more.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn let_go(&self) {
        drop(std::mem::take(&mut *self.waiting.lock()));
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let count = waiting.len().min(TOGETHER_MAX);
        waiting.drain(..count).collect()
    }
}
