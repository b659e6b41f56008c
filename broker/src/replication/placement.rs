//! In which data directory a partition's log is, and where a new one goes.
//!
//! A log is where its directory is found; nothing else says so. One that is nowhere goes where most
//! space is free. Files appear with the first append, so that a partition placed and never written
//! may be placed again, elsewhere, after a restart: there is nothing to lose.

use std::path::PathBuf;
use std::sync::Arc;

use super::directory::LogDirectory;

/// Below a data directory, where partitions are.
pub(super) const TOPICS: &str = "topics";

/// What a partition that has been placed is taken to need at once: the first step its segment grows
/// by. Partitions created together are spread by it.
const PLACED_BYTES: u64 = 1024 * 1024;

/// Why a log has no place.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlacementError {
    #[error(
        "it is in {} and in {}: move one of them away, and restart", .0.display(), .1.display()
    )]
    Twice(PathBuf, PathBuf),
    #[error("data directory {} is offline", .0.display())]
    Offline(PathBuf),
    #[error("every data directory is offline")]
    AllOffline,
}

/// The directory of the log called `name`, or the one it goes to.
pub(super) fn place(
    directories: &[Arc<LogDirectory>],
    name: &str,
) -> Result<Arc<LogDirectory>, PlacementError> {
    let mut found = directories.iter().filter(|directory| {
        let data = directory.data();
        data.disk().exists(&data.path().join(TOPICS).join(name))
    });
    if let Some(directory) = found.next() {
        let path = directory.data().path().to_owned();
        if let Some(other) = found.next() {
            return Err(PlacementError::Twice(path, other.data().path().to_owned()));
        }
        if !directory.data().is_online() {
            return Err(PlacementError::Offline(path));
        }
        return Ok(directory.clone());
    }
    let online: Vec<_> =
        directories.iter().filter(|directory| directory.data().is_online()).collect();
    let room: Vec<Room> = online.iter().map(|directory| room(directory)).collect();
    let chosen = roomiest(&room).and_then(|at| online.get(at)).ok_or(PlacementError::AllOffline)?;
    chosen.on_placed();
    Ok(Arc::clone(chosen))
}

/// What speaks for a directory.
#[derive(Clone, Copy, Debug)]
struct Room {
    free_bytes: u64,
    /// Partitions placed in it since the start.
    placed: u64,
}

fn room(directory: &LogDirectory) -> Room {
    let data = directory.data();
    // A file system that does not tell is taken for full: others are preferred.
    let free_bytes = data.disk().space(data.path()).map_or(0, |space| space.free);
    Room { free_bytes, placed: directory.placed() }
}

/// The one with most space left once what was placed there takes its first step; of equals the one
/// with fewer, of those the first.
fn roomiest(rooms: &[Room]) -> Option<usize> {
    let left = |room: &Room| room.free_bytes.saturating_sub(room.placed * PLACED_BYTES);
    let key = |(at, room): &(usize, &Room)| (std::cmp::Reverse(left(room)), room.placed, *at);
    rooms.iter().enumerate().min_by_key(key).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_log_goes_where_most_space_is_free() {
        let room = |free_mib: u64, placed| Room { free_bytes: free_mib << 20, placed };
        assert_eq!(roomiest(&[room(10, 0), room(30, 0), room(20, 0)]), Some(1));
        assert_eq!(roomiest(&[room(10, 0), room(30, 25), room(20, 0)]), Some(2));
        assert_eq!(roomiest(&[room(10, 0), room(10, 0)]), Some(0), "the first of equals");
        assert_eq!(roomiest(&[room(0, 1), room(0, 0)]), Some(1), "full, but with fewer");
        assert_eq!(roomiest(&[]), None);
    }

    #[test]
    fn logs_created_together_are_spread() {
        let mut rooms = [Room { free_bytes: 1 << 40, placed: 0 }; 3];
        for _ in 0..30 {
            let at = roomiest(&rooms).unwrap();
            rooms[at].placed += 1;
        }
        assert!(rooms.iter().all(|room| room.placed == 10), "{rooms:?}");
    }
}
