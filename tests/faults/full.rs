//! Disks that are really full: a small tmpfs, and ext4 on a loop device.

use std::path::{Path, PathBuf};
use std::process::Command;

use sawlog_protocol::ErrorCode;

use super::broker::{Broker, Options};
use super::client::{Client, TOPIC};
use super::history::{End, History};
use super::{create_topic, not_run};

/// A file system of its own. Unmounted when dropped.
#[derive(Debug)]
struct Mounted {
    path: PathBuf,
    _scratch: tempfile::TempDir,
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}

impl Mounted {
    fn tmpfs(mebibytes: u64) -> Result<Self, String> {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mounted");
        std::fs::create_dir(&path).unwrap();
        let size = format!("size={mebibytes}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&path))?;
        Ok(Self { path, _scratch: scratch })
    }

    fn ext4(mebibytes: u64) -> Result<Self, String> {
        let scratch = tempfile::tempdir().unwrap();
        let (image, path) = (scratch.path().join("image"), scratch.path().join("mounted"));
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        std::fs::create_dir(&path).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))?;
        Ok(Self { path, _scratch: scratch })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A broker that was killed a moment ago may still hold it: lazily.
        let _unmounted = run(Command::new("umount").arg("-l").arg(&self.path));
    }
}

/// Runs `test` on every kind of small file system that can be made here.
pub(crate) fn on_small_disks(mebibytes: u64, test: impl Fn(&Path)) {
    for made in [Mounted::tmpfs(mebibytes), Mounted::ext4(mebibytes)] {
        match made {
            Ok(mounted) => test(&mounted.path),
            Err(why) => not_run(&why),
        }
    }
}

const STORAGE_ERROR: End = End::Refused(ErrorCode::KAFKA_STORAGE_ERROR);

#[test]
fn a_full_disk_refuses_writes_and_recovers_when_records_are_deleted() {
    on_small_disks(40, |disk| {
        let data = disk.join("data");
        let options = Options::on(&data);
        let mut broker = Broker::start(&options);
        create_topic(&broker, 2, "1048576");
        let mut history = History::default();
        for _ in 0..3 {
            // Refused, every time, and nothing is lost by it.
            let end = history.write(broker.address(), 0..1, 2000, 50_000);
            assert_eq!(end, STORAGE_ERROR, "{}", broker.said());
        }
        assert!(history.acknowledged() > 200, "{}", history.acknowledged());
        history.verify(broker.address());
        // What was acknowledged is there after kill -9 on the full disk, too.
        broker.kill();
        let mut broker = Broker::start(&options);
        history.verify(broker.address());
        let mut client = Client::connect(broker.address()).unwrap();
        assert_eq!(client.delete_records(TOPIC, 0, -1).unwrap(), ErrorCode::NONE);
        let mut after = History::default();
        super::eventually(|| after.write(broker.address(), 1..2, 1, 50_000) == End::Done);
        assert_eq!(after.write(broker.address(), 1..2, 40, 50_000), End::Done);
        after.verify(broker.address());
        assert!(broker.terminate(), "{}", broker.said());
    });
}

#[test]
fn a_topic_can_be_deleted_on_a_full_disk() {
    on_small_disks(40, |disk| {
        let options = Options::on(&disk.join("data"));
        let mut broker = Broker::start(&options);
        create_topic(&broker, 1, "1048576");
        let mut client = Client::connect(broker.address()).unwrap();
        assert_eq!(client.create_topic("other", 1, &[]).unwrap(), ErrorCode::NONE);
        let mut history = History::default();
        assert_eq!(history.write(broker.address(), 0..1, 2000, 50_000), STORAGE_ERROR);
        assert!(broker.said().contains("the disk is full"), "{}", broker.said());
        assert_eq!(client.delete_topic(TOPIC).unwrap(), ErrorCode::NONE, "{}", broker.said());
        super::eventually(|| matches!(client.produce("other", 0, &[vec![7; 50_000]]), Ok(Ok(_))));
        assert!(broker.terminate(), "{}", broker.said());
    });
}

#[test]
fn a_disk_filled_by_somebody_else_is_survived_and_the_reserve_taken_again() {
    on_small_disks(40, |disk| {
        let data = disk.join("data");
        let reserve = data.join("reserve");
        let mut broker = Broker::start(&Options::on(&data));
        create_topic(&broker, 1, "1048576");
        let held = std::fs::metadata(&reserve).unwrap().len();
        assert!(held >= 1 << 20, "{held}");
        let somebody = disk.join("somebody");
        // As much as there is.
        let _full = std::fs::write(&somebody, vec![1; 64 << 20]);
        let mut history = History::default();
        assert_eq!(history.write(broker.address(), 0..1, 200, 50_000), STORAGE_ERROR);
        assert!(!reserve.exists(), "given up");
        let mut client = Client::connect(broker.address()).unwrap();
        assert_eq!(client.create_topic("other", 1, &[]).unwrap(), ErrorCode::NONE);
        assert_eq!(client.delete_topic("other").unwrap(), ErrorCode::NONE);
        history.verify(broker.address());
        std::fs::remove_file(&somebody).unwrap();
        super::eventually(|| history.write(broker.address(), 0..1, 1, 50_000) == End::Done);
        assert_eq!(std::fs::metadata(&reserve).unwrap().len(), held);
        assert_eq!(history.write(broker.address(), 0..1, 100, 50_000), End::Done);
        history.verify(broker.address());
        broker.kill();
        let mut broker = Broker::start(&Options::on(&data));
        history.verify(broker.address());
        assert!(broker.terminate(), "{}", broker.said());
    });
}
