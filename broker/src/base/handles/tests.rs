//! Few handles, many files: what a file holds does not depend on when it was closed.

use std::sync::Barrier;

use super::*;
use crate::base::disk::Disk;
use crate::base::disk_real::RealDisk;

const LIMITS: HandleLimits = HandleLimits { files: 4, mappings: 3, connections: 1 };

/// Descriptors of this process that are open on files below `directory`.
fn descriptors(directory: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.starts_with(directory))
        .count()
}

/// Mappings of this process of files below `directory`.
fn mappings(directory: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(directory.to_str().unwrap())).count()
}

fn write(file: &dyn DiskFile, bytes: &[u8], position: u64) {
    file.write_at(&[IoSlice::new(bytes)], position).unwrap();
}

#[test]
fn many_files_are_read_and_written_with_few_open() {
    let root = tempfile::tempdir().unwrap();
    let disk = RealDisk::with_limits(LIMITS);
    let files: Vec<_> = (0..40)
        .map(|n| {
            let path = root.path().join(format!("{n}.log"));
            let file = disk.open_bounded(&path, Create::IfMissing).unwrap();
            let mapping = file.map(1 << 20).unwrap();
            (file, mapping)
        })
        .collect();
    for round in 0..3u8 {
        for (n, (file, mapping)) in (0u8..).zip(&files) {
            let position = u64::from(round) * 100;
            write(&**file, &[n ^ round; 100], position);
            if n % 3 == 0 {
                file.sync_data().unwrap();
            }
            assert!(descriptors(root.path()) <= LIMITS.files, "file {n}");
            let slice = mapping.slice(position, position + 100).unwrap();
            assert_eq!(slice, [n ^ round; 100][..]);
        }
    }
    assert!(mappings(root.path()) <= LIMITS.mappings);
    for (n, (file, mapping)) in (0u8..).zip(&files) {
        let mut first = [0; 300];
        assert_eq!(file.read_at(&mut first, 0).unwrap(), 300);
        let expected: Vec<u8> = (0..3u8).flat_map(|round| [n ^ round; 100]).collect();
        assert_eq!(first[..], expected);
        assert_eq!(mapping.slice(0, 300).unwrap(), expected);
        assert_eq!(file.len().unwrap(), 300);
    }
}

#[test]
fn bytes_handed_out_stay_when_the_mapping_goes_and_the_file_too() {
    let root = tempfile::tempdir().unwrap();
    let disk = RealDisk::with_limits(LIMITS);
    let mut held = Vec::new();
    for n in 0..20u8 {
        let path = root.path().join(format!("{n}.log"));
        let file = disk.open_bounded(&path, Create::IfMissing).unwrap();
        write(&*file, &[n; 5000], 0);
        held.push(file.map(1 << 20).unwrap().slice(0, 5000).unwrap());
        disk.remove_file(&path).unwrap();
    }
    assert!(held.iter().zip(0..).all(|(slice, n)| slice.iter().all(|byte| *byte == n)));
}

#[test]
fn an_existing_file_takes_no_descriptor_until_it_is_used() {
    let root = tempfile::tempdir().unwrap();
    let disk = RealDisk::with_limits(LIMITS);
    let path = root.path().join("1.log");
    assert_eq!(
        disk.open_bounded(&path, Create::Never).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    std::fs::write(&path, b"content").unwrap();
    let file = disk.open_bounded(&path, Create::Never).unwrap();
    let mapping = file.map(7).unwrap();
    assert_eq!(file.len().unwrap(), 7);
    assert_eq!((descriptors(root.path()), mappings(root.path())), (0, 0));
    assert_eq!(mapping.slice(3, 7).unwrap(), b"tent"[..]);
    assert_eq!((descriptors(root.path()), mappings(root.path())), (1, 1));
}

#[test]
fn a_file_kept_open_is_read_whatever_becomes_of_its_path() {
    let root = tempfile::tempdir().unwrap();
    let disk = RealDisk::with_limits(LIMITS);
    let path = root.path().join("1.log");
    let open = |name: &str| disk.open_bounded(&root.path().join(name), Create::IfMissing).unwrap();
    let old = open("1.log");
    write(&*old, b"old", 0);
    old.keep_open().unwrap();
    let new = open("1.cleaned");
    new.keep_open().unwrap();
    write(&*new, b"new", 0);
    disk.rename(&root.path().join("1.cleaned"), &path).unwrap();
    new.on_moved(&path);
    // Enough others to have closed both.
    let others: Vec<_> = (2..20).map(|n| open(&format!("{n}.log"))).collect();
    let read = |file: &dyn DiskFile| {
        let mut content = [0; 3];
        file.read_at(&mut content, 0).unwrap();
        content
    };
    assert_eq!((&read(&*old), &read(&*new)), (b"old", b"new"));
    assert_eq!(old.map(3).unwrap().slice(0, 3).unwrap(), b"old"[..]);
    drop(others);
}

#[test]
fn files_are_used_by_many_threads_while_they_are_opened_and_closed() {
    let root = tempfile::tempdir().unwrap();
    let disk = RealDisk::with_limits(LIMITS);
    let files: Vec<_> = (0..12)
        .map(|n| {
            let path = root.path().join(format!("{n}.log"));
            disk.open_bounded(&path, Create::IfMissing).unwrap()
        })
        .collect();
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (files, barrier) = (&files, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..500u64 {
                    let n = usize::try_from((thread * 7 + round * 5) % 12).unwrap();
                    let value = (thread * 1000 + round).to_be_bytes();
                    write(&*files[n], &value, thread * 8);
                    let mut read = [0; 8];
                    files[n].read_at(&mut read, thread * 8).unwrap();
                    assert_eq!(read, value);
                    if round % 50 == 0 {
                        files[n].sync_data().unwrap();
                    }
                }
            });
        }
    });
    // What could not be closed because it was in use is closed for the next one.
    let next = disk.open_bounded(&root.path().join("next.log"), Create::IfMissing).unwrap();
    assert!(descriptors(root.path()) <= LIMITS.files);
    drop(next);
}

#[test]
fn limits_leave_room_for_connections() {
    let limits = |descriptors| {
        let HandleLimits { files, connections, .. } = HandleLimits::of(descriptors, 1);
        (files, connections)
    };
    assert_eq!(limits(64), (16, 16));
    assert_eq!(limits(1024), (408, 584));
    assert_eq!(limits(20_000), (8_000, 11_968));
    assert_eq!(limits(10), (1, 1));
}
