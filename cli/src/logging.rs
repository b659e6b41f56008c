//! The broker's log, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What the consensus library says, at every attempt to reach a node that is gone; the broker says what
/// comes of it.
const LIBRARY: &str = "openraft";

/// Starts logging. `SAWLOG_LOG` takes a level (`debug`) or filters (`sawlog_broker::server=debug`).
pub(crate) fn start() {
    let asked = std::env::var("SAWLOG_LOG").unwrap_or_default();
    let mut filter = EnvFilter::builder()
        .with_env_var("SAWLOG_LOG")
        .with_default_directive(tracing::Level::WARN.into())
        .from_env_lossy();
    if !asked.contains(LIBRARY)
        && let Ok(quiet) = format!("{LIBRARY}=off").parse()
    {
        filter = filter.add_directive(quiet);
    }
    // A second start in one process changes nothing.
    let _already = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}
