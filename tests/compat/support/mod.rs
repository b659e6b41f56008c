//! Where the clients are installed, and how their programs are run.

pub(crate) mod facts;
pub(crate) mod kafka;
pub(crate) mod manifest;
pub(crate) mod program;

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where `.ci/install` puts the clients: `SAWLOG_COMPAT_DIR`, or `compat` in the target directory.
pub(crate) fn installed(name: &str) -> PathBuf {
    let root = env::var_os("SAWLOG_COMPAT_DIR")
        .map_or_else(|| sawlog_tests::target_dir().join("compat"), Into::into);
    root.join(name)
}

/// A program of this directory.
pub(crate) fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat").join(name)
}

/// A command of the system.
pub(crate) fn on_path(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| name.into())
}

/// Whether all of `needs` exist. If not, says what is missing; fails if clients are required.
pub(crate) fn available(test: &str, needs: &[PathBuf]) -> bool {
    let Some(missing) = needs.iter().find(|file| !file.exists()) else { return true };
    let why = format!("{} is not installed (.ci/install)", missing.display());
    assert!(env::var("SAWLOG_COMPAT").as_deref() != Ok("required"), "{test}: {why}");
    // Past the capture of the test runner: a skipped test must be seen.
    let _ = writeln!(std::io::stderr(), "{test}: skipped: {why}");
    false
}
