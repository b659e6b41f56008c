//! Bits that flip on a disk.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

/// Flips a bit of `path` at `position`, by dd, which knows nothing of the broker.
///
/// # Panics
/// There is no such byte, or no dd.
pub fn flip(path: &Path, position: u64) {
    let mut byte = [0];
    let file = File::open(path).expect("a file");
    file.read_exact_at(&mut byte, position).expect("a byte at the position");
    let scratch = tempfile::NamedTempFile::new().expect("a scratch file");
    std::fs::write(scratch.path(), [byte[0] ^ 0x20]).expect("it can be written");
    let status = Command::new("dd")
        .arg(format!("if={}", scratch.path().display()))
        .arg(format!("of={}", path.display()))
        .args(["bs=1", "count=1", "conv=notrunc", "status=none"])
        .arg(format!("seek={position}"))
        .status();
    assert!(status.expect("dd starts").success());
}
