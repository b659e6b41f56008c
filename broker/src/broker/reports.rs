//! Tells the controller about the replicas here: where they are, and which are no good.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info};

use crate::controller::{AdminErrorKind, Controller, ControllerError, Request, Response};
use crate::metadata::ReplicaReport;
use crate::replication::Partitions;

/// How long a controller is looked for before everything is looked at anew.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two reports that came to nothing, and between any two: trouble seldom comes alone.
const PAUSE_MAX: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Reports for as long as the runtime lives, or this process is registered.
pub(super) async fn report(controller: Arc<Controller>, partitions: Arc<Partitions>) {
    let mut pause = PAUSE;
    let mut last: Option<ReplicaReport> = None;
    loop {
        let image = controller.images().load();
        let Some(report) = partitions.report(&image) else {
            (last, pause) = (None, PAUSE);
            partitions.anything_to_tell().await;
            sleep(PAUSE).await;
            continue;
        };
        // Where nothing has come of it the controller knows better, for now.
        pause = if last.as_ref() == Some(&report) { (pause * 2).min(PAUSE_MAX) } else { PAUSE };
        if !report.damaged.is_empty() && last.as_ref() != Some(&report) {
            info!(
                replicas = report.damaged.len(),
                "telling the controller of replicas that failed"
            );
        }
        let request = Request::ReportReplicas(report.clone());
        last = Some(report);
        match controller.ask_within(request, PATIENCE).await {
            Ok(Response::ReportReplicas(Ok(()))) => {}
            Ok(Response::ReportReplicas(Err(refused)))
                if refused.kind() == AdminErrorKind::StaleRegistration =>
            {
                return;
            }
            Err(ControllerError::Stopped) => return,
            told => debug!(?told, "the controller was not told of replicas"),
        }
        sleep(pause).await;
    }
}
