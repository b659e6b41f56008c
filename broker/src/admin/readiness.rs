//! Whether this broker is ready: clients may be sent to it, and the next broker of a rolling restart
//! may be stopped.

use std::sync::atomic::Ordering;

use super::{Parts, Status};

/// A reason not to be ready, or several; each a line for people.
type Check = fn(&Parts, &mut Vec<String>);

/// What must hold of a broker that serves. The reasons of all of them are told.
const CHECKS: &[Check] = &[directories, coordinators];

impl Status {
    /// Why this broker is not ready; nothing if it is.
    pub(crate) fn unready(&self) -> Vec<String> {
        if self.is_stopping() {
            return vec!["stopping".to_owned()];
        }
        let Some(parts) = self.parts.get() else {
            return vec![format!(
                "starting: {} of {} partitions opened",
                self.opened.load(Ordering::Relaxed),
                self.partitions.load(Ordering::Relaxed)
            )];
        };
        let mut reasons = Vec::new();
        CHECKS.iter().for_each(|check| check(parts, &mut reasons));
        reasons
    }
}

/// Nothing in a directory that failed is served until the next start.
fn directories(parts: &Parts, reasons: &mut Vec<String>) {
    let all = parts.partitions.directories().iter();
    reasons.extend(all.filter_map(|directory| {
        let reason = directory.data().failure()?;
        let path = directory.data().path().display();
        Some(format!("data directory {path} is offline: {reason}"))
    }));
}

/// Groups this broker leads are known only once their log has been read.
fn coordinators(parts: &Parts, reasons: &mut Vec<String>) {
    let loading = parts.groups.loading();
    if loading > 0 {
        reasons.push(format!("groups: {loading} partitions of their log are still being read"));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::replication::RecoveryProgress;

    #[test]
    fn a_broker_that_starts_or_stops_is_not_ready_and_says_so() {
        let (stop, stopped) = watch::channel(false);
        let status = Status::starting(stopped);
        assert_eq!(status.unready(), ["starting: 0 of 0 partitions opened"]);
        status.recovering(RecoveryProgress { done: 3, partitions: 10, bytes_read: 1 });
        assert_eq!(status.unready(), ["starting: 3 of 10 partitions opened"]);
        assert!(status.metrics().contains("\nsawlog_ready 0\n"));
        stop.send_replace(true);
        assert_eq!(status.unready(), ["stopping"]);
    }
}
