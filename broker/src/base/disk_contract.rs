//! What every [`Disk`] must do, run on the real and the simulated one.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;

use super::disk::{Create, Disk, read_whole, write_atomically};
use super::disk_real::RealDisk;
use super::disk_sim::{Fault, SimDisk};

fn contract(disk: &dyn Disk, root: &Path) {
    let directory = root.join("a/b");
    disk.create_dir_all(&directory).unwrap();
    disk.create_dir_all(&directory).unwrap();
    let path = directory.join("file");
    assert_eq!(disk.open(&path, Create::Never).unwrap_err().kind(), ErrorKind::NotFound);

    let file = disk.open(&path, Create::IfMissing).unwrap();
    assert!(file.is_empty().unwrap());
    let mapping = file.map(1 << 20).unwrap();
    file.allocate(8192).unwrap();
    assert_eq!(file.len().unwrap(), 8192);
    file.write_at(&[IoSlice::new(b"head"), IoSlice::new(b""), IoSlice::new(b"tail")], 10).unwrap();
    assert_eq!(
        mapping.slice(10, 18).unwrap(),
        b"headtail"[..],
        "a write is visible in the mapping at once"
    );
    let mut buffer = [9; 12];
    assert_eq!(file.read_at(&mut buffer, 8).unwrap(), 12);
    assert_eq!(&buffer, b"\0\0headtail\0\0");
    assert_eq!(file.read_at(&mut buffer, 8190).unwrap(), 2);
    assert_eq!(file.read_at(&mut buffer, 9000).unwrap(), 0);
    file.allocate(1 << 20).unwrap();
    assert!((18..=1 << 20).contains(&file.zero_from(1 << 20).unwrap()), "behind what was written");
    assert!(file.zero_from(18).unwrap() <= 18, "not beyond the length asked for");
    file.sync_data().unwrap();
    file.set_len(18).unwrap();
    assert_eq!(file.len().unwrap(), 18);

    let slice = mapping.slice(10, 14).unwrap();
    assert_eq!(mapping.len(), 1 << 20);
    assert!(mapping.slice(10, (1 << 20) + 1).unwrap().is_empty(), "nothing beyond the mapping");
    assert!(mapping.slice(12, 11).unwrap().is_empty());
    disk.sync_dir(&directory).unwrap();
    write_atomically(disk, &directory.join("small.v"), b"one").unwrap();
    write_atomically(disk, &directory.join("small.v"), b"two").unwrap();
    assert_eq!(read_whole(disk, &directory.join("small.v"), 99).unwrap().unwrap(), b"two");
    assert_eq!(read_whole(disk, &directory.join("small.v"), 2).unwrap(), None, "over the limit");
    assert_eq!(read_whole(disk, &directory.join("none"), 9).unwrap(), None);
    assert_eq!(disk.list(&directory).unwrap(), ["file", "small.v"]);

    disk.remove_file(&path).unwrap();
    assert_eq!(slice, b"head"[..], "a slice outlives the file");
    assert_eq!(disk.remove_file(&path).unwrap_err().kind(), ErrorKind::NotFound);
    disk.rename(&directory, &root.join("a/c")).unwrap();
    assert!(!disk.exists(&directory));
    assert_eq!(disk.list(&root.join("a/c")).unwrap(), ["small.v"]);
    disk.remove_dir_all(&root.join("a/c")).unwrap();
    assert!(!disk.exists(&root.join("a/c")));
    assert!(disk.space(root).unwrap().free > 0);

    let whole = disk.file_system(root).unwrap();
    disk.open(&root.join("unsynced"), Create::IfMissing).unwrap();
    if let Some(whole) = whole {
        whole.sync().unwrap();
    }

    let held = disk.lock(root).unwrap();
    assert_eq!(disk.lock(root).unwrap_err().kind(), ErrorKind::WouldBlock, "locked once");
    drop(held);
    drop(disk.lock(root).unwrap());
}

#[test]
fn the_real_disk_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    contract(&RealDisk::new(), root.path());
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    contract(&SimDisk::new(), Path::new("/"));
}

#[test]
fn only_synced_bytes_are_sure_to_survive() {
    let disk = SimDisk::new();
    let path = Path::new("/file");
    let file = disk.open(path, Create::IfMissing).unwrap();
    file.write_at(&[IoSlice::new(&[1; 2048])], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(&[IoSlice::new(&[2; 2048])], 2048).unwrap();
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let content = read_whole(&disk.restart(seed), path, 9999).unwrap().unwrap();
        assert_eq!(content[..2048], [1; 2048]);
        outcomes.insert(content.iter().filter(|byte| **byte == 2).count());
    }
    assert!(outcomes.contains(&0) && outcomes.contains(&2048) && outcomes.len() > 3);
}

#[test]
fn a_synced_file_system_survives_with_its_files_and_entries() {
    let disk = SimDisk::new();
    let whole = disk.file_system(Path::new("/")).unwrap().unwrap();
    for name in ["/one", "/two"] {
        let file = disk.open(Path::new(name), Create::IfMissing).unwrap();
        file.write_at(&[IoSlice::new(b"kept")], 0).unwrap();
    }
    whole.sync().unwrap();
    let file = disk.open(Path::new("/one"), Create::Never).unwrap();
    file.write_at(&[IoSlice::new(b"lost")], 4).unwrap();
    disk.plan(1, Fault::Io);
    whole.sync().unwrap_err();
    whole.sync().unwrap();
    for seed in 0..50 {
        let disk = disk.restart(seed);
        assert_eq!(read_whole(&disk, Path::new("/two"), 99).unwrap().unwrap(), b"kept");
        let one = read_whole(&disk, Path::new("/one"), 99).unwrap().unwrap();
        assert!(one.starts_with(b"kept"), "{one:?}");
    }
}

#[test]
fn a_directory_made_again_has_what_was_synced_in_it_and_nothing_of_the_one_before() {
    let disk = SimDisk::new();
    let (directory, gone) = (Path::new("/d"), Path::new("/d.deleted"));
    let make = |name: &str| {
        disk.create_dir_all(directory).unwrap();
        let file = disk.open(&directory.join(name), Create::IfMissing).unwrap();
        file.write_at(&[IoSlice::new(b"kept")], 0).unwrap();
        file.sync_data().unwrap();
    };
    make("old");
    disk.sync_dir(directory).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(directory, gone).unwrap();
    disk.remove_dir_all(gone).unwrap();
    make("new");
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        outcomes.insert(disk.restart(seed).list(directory).unwrap_or_default());
    }
    let (old, new) = (vec!["old".to_owned()], vec!["new".to_owned()]);
    assert_eq!(outcomes, [Vec::new(), new.clone(), old].into());
    disk.sync_dir(directory).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    for seed in 0..50 {
        assert_eq!(disk.restart(seed).list(directory).unwrap(), new);
    }
}

#[test]
fn a_failed_sync_is_not_repeated_into_success() {
    let disk = SimDisk::new();
    let path = Path::new("/file");
    let file = disk.open(path, Create::IfMissing).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(&[IoSlice::new(b"lost")], 0).unwrap();
    disk.plan(1, Fault::Io);
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    for seed in 0..50 {
        assert_ne!(read_whole(&disk.restart(seed), path, 99).unwrap().unwrap(), b"lost");
    }
    file.write_at(&[IoSlice::new(b"kept")], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read_whole(&disk.restart(1), path, 99).unwrap().unwrap(), b"kept");
}

#[test]
fn writes_are_torn_between_sectors_of_both_sizes() {
    let disk = SimDisk::new();
    let path = Path::new("/file");
    let file = disk.open(path, Create::IfMissing).unwrap();
    file.write_at(&[IoSlice::new(&[0; 16_384])], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(&[IoSlice::new(&[1; 16_384])], 0).unwrap();
    let (mut small, mut large) = (0, 0);
    for seed in 0..200 {
        let content = read_whole(&disk.restart(seed), path, 1 << 20).unwrap().unwrap();
        let whole = |size| content.chunks(size).all(|chunk| chunk.iter().all(|b| *b == chunk[0]));
        assert!(whole(512), "never within a sector");
        small += usize::from(!whole(4096));
        large += usize::from(whole(4096) && content.iter().any(|b| *b != content[0]));
    }
    assert!(small > 10 && large > 10, "{small} torn at 512, {large} at 4096");
}

#[test]
fn a_sector_is_as_it_was_at_some_time_and_others_may_be_of_another() {
    let disk = SimDisk::new();
    let path = Path::new("/file");
    let file = disk.open(path, Create::IfMissing).unwrap();
    file.allocate(16_384).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    // Sixteen to a sector of 512 bytes.
    for at in 0..512 {
        file.write_at(&[IoSlice::new(&[1; 32])], at * 32).unwrap();
    }
    let (mut torn, mut zero, mut behind_zero) = (0, 0, 0);
    for seed in 0..200 {
        let content = read_whole(&disk.restart(seed), path, 1 << 20).unwrap().unwrap();
        let written = |sector: &[u8]| sector.iter().take_while(|byte| **byte == 1).count();
        let counts: Vec<usize> = content.chunks(512).map(written).collect();
        for (sector, count) in content.chunks(512).zip(&counts) {
            assert!(
                sector[*count..].iter().all(|byte| *byte == 0),
                "a later write without {count}"
            );
        }
        torn += counts.iter().filter(|count| (1..512).contains(*count)).count();
        zero += counts.iter().filter(|count| **count == 0).count();
        behind_zero += counts.windows(2).filter(|pair| pair[0] == 0 && pair[1] > 0).count();
    }
    assert!(torn > 100 && zero > 100 && behind_zero > 100, "{torn}, {zero}, {behind_zero}");
}

#[test]
fn a_lost_or_misdirected_write_reads_back_until_the_restart() {
    for (fault, survives) in [(Fault::Lost, [1, 2, 3]), (Fault::Misdirected, [1, 9, 3])] {
        let disk = SimDisk::new();
        let path = Path::new("/file");
        let file = disk.open(path, Create::IfMissing).unwrap();
        let sectors = |content: &[u8]| [content[0], content[512], content[1024]];
        file.write_at(&[IoSlice::new(&[[1; 512], [2; 512], [3; 512]].concat())], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.plan(1, fault);
        file.write_at(&[IoSlice::new(&[9; 512])], 1024).unwrap();
        file.sync_data().unwrap();
        let live = read_whole(&disk, path, 9999).unwrap().unwrap();
        assert_eq!(sectors(&live), [1, 2, 9]);
        assert!(disk.has_lied());
        let content = read_whole(&disk.restart(0), path, 9999).unwrap().unwrap();
        assert_eq!(sectors(&content), survives, "{fault:?}");
    }
}

#[test]
fn a_read_fails_once_when_planned_and_a_slow_disk_takes_its_time() {
    let disk = SimDisk::new();
    let file = disk.open(Path::new("/file"), Create::IfMissing).unwrap();
    disk.slow_down(40);
    file.write_at(&[IoSlice::new(b"text")], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.elapsed_ms(), 80);
    disk.plan_read(2);
    let mut buffer = [0; 4];
    file.read_at(&mut buffer, 0).unwrap();
    assert_eq!(file.read_at(&mut buffer, 0).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 4);
}

#[test]
fn a_full_disk_refuses_what_grows_and_nothing_else() {
    let disk = SimDisk::new();
    let path = Path::new("/file");
    let file = disk.open(path, Create::IfMissing).unwrap();
    file.allocate(4096).unwrap();
    disk.fill_up(true);
    assert_eq!(file.allocate(4097).unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(disk.open(Path::new("/other"), Create::IfMissing).is_err());
    file.write_at(&[IoSlice::new(&[1; 4096])], 0).unwrap();
    file.sync_data().unwrap();
    disk.remove_file(path).unwrap();
}

#[test]
#[should_panic(expected = "SIGBUS")]
fn cutting_below_what_a_mapping_has_handed_out_is_noticed() {
    let file = SimDisk::new().open(Path::new("/file"), Create::IfMissing).unwrap();
    file.write_at(&[IoSlice::new(&[1; 4096])], 0).unwrap();
    let mapping = file.map(8192).unwrap();
    assert_eq!(mapping.slice(0, 2048).unwrap().len(), 2048);
    file.set_len(2048).unwrap();
    file.set_len(2047).unwrap();
}
