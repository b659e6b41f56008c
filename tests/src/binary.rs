//! Finds the `sawlog` binary, and builds it when it is missing or older than its sources.
//!
//! Cargo builds the binary of another package for no integration test, so the test does.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The binary under test: `SAWLOG_BIN`, or the one in the target directory of this very test.
///
/// # Panics
/// If it does not build.
pub fn sawlog() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("SAWLOG_BIN") {
        Some(path) => path.into(),
        None => built(),
    })
}

/// Where cargo builds: two levels above `deps/`, in which this test executable lies.
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a profile directory has a parent").to_owned()
}

fn profile_dir() -> PathBuf {
    let executable = env::current_exe().expect("a running test has a path");
    executable.ancestors().nth(2).expect("tests run from target/PROFILE/deps").to_owned()
}

fn built() -> PathBuf {
    let profile = profile_dir();
    let binary = profile.join("sawlog");
    if !is_current(&binary) {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(workspace()).args(["build", "--quiet", "--bin", "sawlog"]);
        cargo.arg("--target-dir").arg(target_dir());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.status().expect("cargo runs, it runs this test");
        assert!(status.success(), "sawlog does not build: {status}");
    }
    binary
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace")
}

/// Whether the binary is newer than every source it may be made of.
fn is_current(binary: &Path) -> bool {
    let Ok(built) = fs::metadata(binary).and_then(|m| m.modified()) else { return false };
    let crates = ["protocol", "broker", "client", "cli"];
    let newest = crates.iter().map(|one| newest_source(&workspace().join(one))).max().flatten();
    newest.is_some_and(|changed| changed < built)
}

fn newest_source(path: &Path) -> Option<SystemTime> {
    let Ok(entries) = fs::read_dir(path) else {
        return fs::metadata(path).and_then(|m| m.modified()).ok();
    };
    entries.flatten().filter_map(|entry| newest_source(&entry.path())).max()
}
