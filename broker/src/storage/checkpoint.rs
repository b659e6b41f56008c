//! What a log says of itself for the next start: how far it is durable, where it begins, whether it
//! was closed cleanly, and its leader epochs.
//!
//! Two files take turns, each written in place and synced, with a generation that tells the newer:
//! one write and one sync, and no new space, so that retention can write down a log start on a
//! full disk. A crash leaves at most the file being written unreadable, and the other is true: it
//! says less, never something false.
//!
//! Between two checkpoints a third file notes how far the log was synced, for the next process in the same
//! boot of the machine: it is not synced itself, and counts beside the checkpoint it was written after.
//!
//! Always holds: one writer at a time, and what is on disk was decided no earlier than what it
//! replaces. Flushes run beside changes of the log start, and must not bring back an older one.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::envelope::{self, Fields};
use super::epochs::EpochCache;
use super::error::StorageError;
use crate::base::Offset;
use crate::base::disk::{Create, Disk, Syncs, read_whole};

/// The two files.
const FILES: [&str; 2] = ["checkpoint-0", "checkpoint-1"];

const MAGIC: [u8; 4] = *b"SLCP";
const VERSION: u16 = 1;

/// The third.
const SYNCED: &str = "synced";

const SYNCED_MAGIC: [u8; 4] = *b"SLSY";
const SYNCED_VERSION: u16 = 1;

/// Longest file taken for a checkpoint.
const BYTES_MAX: u64 = 1024 * 1024;

/// The content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Everything below was synced. Damage below is never a torn write.
    pub(super) durable_end: Offset,
    /// First offset that may be read.
    pub(super) log_start: Offset,
    /// Closed by a clean stop, and not appended to since.
    pub(super) clean: bool,
    pub(super) epochs: EpochCache,
}

/// What was found at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, as before the first append, when both files are made.
    Nothing,
    /// The newest content; `both` files are there, as from before the first append on.
    Newest { both: bool },
    /// A content, beside a file that is not whole: torn by a crash while it was written, or damaged
    /// later. What the content says holds, but the log start may have moved since.
    PerhapsOlder,
    /// Files, none of them whole. A crash cannot do that.
    Damaged,
}

/// The checkpoint of one log.
#[derive(Debug)]
pub(super) struct CheckpointStore {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    content: Checkpoint,
    generation: u64,
    /// Generation of the newest file.
    written: u64,
    /// The file to be written next: the older one, or the one whose write failed.
    next: usize,
}

impl CheckpointStore {
    /// Reads what there is in `directory`, which may not exist.
    ///
    /// # Errors
    /// A file cannot be read, or is of a later version.
    pub(super) fn load(
        disk: Arc<dyn Disk>,
        directory: &Path,
    ) -> Result<(Self, Found), StorageError> {
        let mut newest: Option<(u64, usize, Checkpoint)> = None;
        let (mut files, mut broken, mut last) = (0, 0, None);
        for (slot, name) in FILES.iter().enumerate() {
            let path = directory.join(name);
            let bytes = read_whole(&*disk, &path, BYTES_MAX)
                .map_err(StorageError::io("cannot read", &path))?;
            let Some(bytes) = bytes else {
                let too_long = usize::from(disk.exists(&path));
                (files, broken) = (files + too_long, broken + too_long);
                last = (too_long > 0).then_some(slot).or(last);
                continue;
            };
            files += 1;
            last = Some(slot);
            match decode(&bytes) {
                Some((generation, content)) => {
                    let newer = newest.as_ref().is_none_or(|(newest, ..)| generation > *newest);
                    if newer != (planted!(OlderCheckpoint) && newest.is_some()) {
                        newest = Some((generation, slot, content));
                    }
                }
                None => {
                    envelope::refuse_newer(MAGIC, VERSION, &bytes, &path)?;
                    broken += 1;
                }
            }
        }
        let found = match (&newest, broken) {
            // One torn file alone is a crash while the first was made.
            (None, _) if files < FILES.len() => Found::Nothing,
            (None, _) => Found::Damaged,
            (Some(_), 0) => Found::Newest { both: files == FILES.len() },
            (Some(_), _) => Found::PerhapsOlder,
        };
        // One torn file alone is written over before the other is made: else a crash could leave two.
        let other = if files == 1 { last.map_or(1, |torn| 1 - torn.min(1)) } else { 1 };
        let (generation, slot, content) = newest.unwrap_or((0, other, Checkpoint::default()));
        // A file that is not whole may have been of the generation after the one found.
        let (written, generation, next) = (generation, generation + 1, 1 - slot.min(1));
        let state = State { content, generation, written, next };
        Ok((Self { disk, directory: directory.to_owned(), state: Mutex::new(state) }, found))
    }

    /// What the newest file says.
    pub(super) fn content(&self) -> Checkpoint {
        self.state.lock().content.clone()
    }

    /// What both files vouch for, whichever of them a crash leaves: [`Self::content`] may know of more.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn vouched_upto(&self) -> Offset {
        let end = |name: &&str| {
            let bytes = read_whole(&*self.disk, &self.directory.join(name), BYTES_MAX).ok()??;
            decode(&bytes).map(|(_, content)| content.durable_end)
        };
        FILES.iter().map(|name| end(name).unwrap_or_default()).min().unwrap_or_default()
    }

    /// Changes the content, durably. Later than everything written before.
    ///
    /// # Errors
    /// It could not be written down: the next start sees the content from before or the new one.
    pub(super) fn update(&self, change: impl FnOnce(&mut Checkpoint)) -> Result<(), StorageError> {
        self.update_with(Syncs::Own, change)
    }

    /// As [`Self::update`]; with [`Syncs::Shared`] it is durable once the file system is synced, and
    /// must not be changed again before.
    ///
    /// # Errors
    /// As there.
    pub(super) fn update_with(
        &self,
        syncs: Syncs,
        change: impl FnOnce(&mut Checkpoint),
    ) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        let mut content = state.content.clone();
        change(&mut content);
        let path = self.directory.join(FILES.get(state.next).copied().unwrap_or_default());
        let generation = state.generation + 1;
        let created = self.write(&path, &encode(generation, &content), syncs)?;
        if created && syncs == Syncs::Own {
            self.sync_entries()?;
        }
        let next = 1 - state.next.min(1);
        *state = State { content, generation, written: generation, next };
        Ok(())
    }

    /// Writes the content, which is not clean any longer, to both files, so that each alone tells it.
    /// Where there are none yet, they are made: the first is whole before the second is there, and so
    /// no crash leaves two that are not.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub(super) fn write_both(&self) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        state.content.clean = false;
        for _ in FILES {
            let path = self.directory.join(FILES.get(state.next).copied().unwrap_or_default());
            let generation = state.generation + 1;
            self.write(&path, &encode(generation, &state.content), Syncs::Own)?;
            (state.generation, state.next) = (generation, 1 - state.next.min(1));
            state.written = generation;
        }
        self.sync_entries()
    }

    /// Writes what the newest file says once more, as [`super::segment::Segment::write_again`] does: its
    /// sync may have failed in the process before. What the other says was synced before that.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub(super) fn write_again(&self) -> Result<(), StorageError> {
        let path = self.newest();
        let bytes = read_whole(&*self.disk, &path, BYTES_MAX)
            .map_err(StorageError::io("cannot read", &path))?;
        let Some(bytes) = bytes else { return Ok(()) };
        self.write(&path, &bytes, Syncs::Shared).map(|_| ())
    }

    /// Syncs what was written again.
    ///
    /// # Errors
    /// The first failure, which is final.
    pub(super) fn sync_again(&self) -> Result<(), StorageError> {
        let path = self.newest();
        if !self.disk.exists(&path) {
            return Ok(());
        }
        let synced = self.disk.open(&path, Create::Never).and_then(|file| file.sync_data());
        synced.map_err(StorageError::io("cannot sync", &path))
    }

    fn newest(&self) -> PathBuf {
        let newest = 1 - self.state.lock().next.min(1);
        self.directory.join(FILES.get(newest).copied().unwrap_or_default())
    }

    /// Notes that all below `upto` was synced. It has to outlive kill -9, no power cut, and so is not synced:
    /// then an older note, or none, tells a start to write more once more, which does no harm. One from
    /// before a cut of the log is older than the checkpoint that allowed it.
    ///
    /// # Errors
    /// It is not noted.
    pub(super) fn note_synced(&self, upto: Offset) -> Result<(), StorageError> {
        let state = self.state.lock();
        let content = [state.written.to_be_bytes(), upto.0.to_be_bytes()].concat();
        let path = self.directory.join(SYNCED);
        let bytes = envelope::seal(SYNCED_MAGIC, SYNCED_VERSION, &content);
        self.write(&path, &bytes, Syncs::Shared).map(|_| ())
    }

    /// How far the newest file, or a note beside it, says that the log was synced. To be asked before
    /// [`Self::assume`].
    pub(super) fn synced_upto(&self) -> Offset {
        let state = self.state.lock();
        let noted = read_whole(&*self.disk, &self.directory.join(SYNCED), BYTES_MAX).ok().flatten();
        let noted = noted.and_then(|bytes| decode_synced(&bytes));
        let noted = noted.filter(|(beside, _)| *beside == state.written).map(|(_, upto)| upto);
        noted.unwrap_or_default().max(state.content.durable_end)
    }

    /// Replaces what is known by `content`, as recovery has made sure of it.
    pub(super) fn assume(&self, content: Checkpoint) {
        self.state.lock().content = content;
    }

    /// Writes a file; returns whether it was made, and its entry has to be synced.
    fn write(&self, path: &Path, bytes: &[u8], syncs: Syncs) -> Result<bool, StorageError> {
        let failed = |source| StorageError::io("cannot write", path)(source);
        let created = !self.disk.exists(path);
        let file = self.disk.open(path, Create::IfMissing).map_err(failed)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if file.len().map_err(failed)? > length {
            // Durably, before the write. A crash could otherwise keep the write without the length,
            // and the next one the length without what was written since: a content that nobody was
            // told of would come back.
            file.set_len(length).and_then(|()| file.sync_data()).map_err(failed)?;
        }
        file.write_at(&[IoSlice::new(bytes)], 0).map_err(failed)?;
        if syncs == Syncs::Own {
            file.sync_data().map_err(StorageError::io("cannot sync", path))?;
        }
        Ok(created)
    }

    fn sync_entries(&self) -> Result<(), StorageError> {
        let synced = self.disk.sync_dir(&self.directory);
        synced.map_err(StorageError::io("cannot sync", &self.directory))
    }
}

fn encode(generation: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend(generation.to_be_bytes());
    content.extend(checkpoint.durable_end.0.to_be_bytes());
    content.extend(checkpoint.log_start.0.to_be_bytes());
    content.push(u8::from(checkpoint.clean));
    checkpoint.epochs.encode(&mut content);
    envelope::seal(MAGIC, VERSION, &content)
}

fn decode(bytes: &[u8]) -> Option<(u64, Checkpoint)> {
    let mut fields = Fields(envelope::open(MAGIC, VERSION, bytes)?);
    let generation = fields.u64()?;
    let content = Checkpoint {
        durable_end: Offset(fields.i64()?),
        log_start: Offset(fields.i64()?),
        clean: fields.u8()? == 1,
        epochs: EpochCache::decode(&mut fields)?,
    };
    fields.is_empty().then_some((generation, content))
}

/// The generation of the checkpoint it was written after, and the end.
fn decode_synced(bytes: &[u8]) -> Option<(u64, Offset)> {
    let mut fields = Fields(envelope::open(SYNCED_MAGIC, SYNCED_VERSION, bytes)?);
    let noted = (fields.u64()?, Offset(fields.i64()?));
    fields.is_empty().then_some(noted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LeaderEpoch;
    use crate::base::disk_sim::{Fault, SimDisk};

    fn load(disk: &SimDisk) -> (CheckpointStore, Found) {
        CheckpointStore::load(Arc::new(disk.clone()), Path::new("/")).unwrap()
    }

    fn move_start(store: &CheckpointStore, to: i64) -> Result<(), StorageError> {
        store.update(|checkpoint| checkpoint.log_start = Offset(to))
    }

    #[test]
    fn a_note_of_what_was_synced_counts_beside_its_checkpoint_only() {
        let disk = SimDisk::new();
        let (store, _) = load(&disk);
        store.write_both().unwrap();
        store.note_synced(Offset(30)).unwrap();
        store.note_synced(Offset(50)).unwrap();
        let disk = disk.after_kill();
        let (store, _) = load(&disk);
        assert_eq!(store.synced_upto(), Offset(50));
        store.note_synced(Offset(60)).unwrap();
        assert_eq!(load(&disk).0.synced_upto(), Offset(60), "before anything else is written");
        // As a cut does: what was noted of what is gone says nothing of what takes its place.
        store.update(|checkpoint| checkpoint.durable_end = Offset(20)).unwrap();
        assert_eq!(load(&disk).0.synced_upto(), Offset(20));
        store.note_synced(Offset(25)).unwrap();
        assert_eq!(load(&disk).0.synced_upto(), Offset(25));
        for seed in 0..50 {
            let upto = load(&disk.restart(seed)).0.synced_upto();
            assert!([20, 25].contains(&upto.0), "{upto}");
        }
        disk.flip_bit(&Path::new("/").join(SYNCED), 14, 3);
        assert_eq!(load(&disk).0.synced_upto(), Offset(20));
    }

    #[test]
    fn the_newest_content_is_read_back_whatever_its_length() {
        let disk = SimDisk::new();
        assert_eq!(load(&disk).1, Found::Nothing);
        let (store, _) = load(&disk);
        for n in (0..40).rev() {
            store
                .update(|checkpoint| {
                    checkpoint.durable_end = Offset(n);
                    checkpoint.epochs = EpochCache::default();
                    for epoch in 0..i32::try_from(n).unwrap() {
                        checkpoint.epochs.assign(LeaderEpoch(epoch), Offset(i64::from(epoch)));
                    }
                })
                .unwrap();
            let (again, found) = load(&disk);
            assert_eq!(again.content(), store.content());
            assert_eq!(found, Found::Newest { both: n < 39 });
        }
    }

    #[test]
    fn a_crash_at_any_operation_leaves_the_content_before_or_after() {
        for at in 1..12 {
            for seed in 0..40 {
                let disk = SimDisk::new();
                let (store, _) = load(&disk);
                let mut written = 0;
                disk.plan(at, Fault::Crash);
                while written < 9 && move_start(&store, written + 1).is_ok() {
                    written += 1;
                }
                let (store, found) = load(&disk.restart(seed));
                let start = store.content().log_start.0;
                assert!(start == written || start == written + 1, "{start} after {written}");
                assert_ne!(found, Found::Damaged, "{written}");
                move_start(&store, 99).unwrap();
                assert_eq!(store.content().log_start, Offset(99));
            }
        }
    }

    #[test]
    fn what_a_crash_left_of_a_write_does_not_come_back_with_the_next_one() {
        let shrink = |store: &CheckpointStore, to: i64| {
            store.update(|checkpoint| {
                checkpoint.log_start = Offset(to);
                checkpoint.epochs = EpochCache::default();
            })
        };
        for (at, seed) in (1..7).flat_map(|at| (0..500).map(move |seed| (at, seed))) {
            let disk = SimDisk::new();
            let (store, _) = load(&disk);
            for start in 1..3 {
                let long = |checkpoint: &mut Checkpoint| {
                    checkpoint.log_start = Offset(start);
                    checkpoint.epochs.assign(LeaderEpoch(0), Offset(0));
                };
                store.update(long).unwrap();
            }
            disk.plan(at, Fault::Crash);
            let mut tried = 3;
            while shrink(&store, tried).is_ok() {
                tried += 1;
            }
            let disk = disk.restart(seed);
            let (store, _) = load(&disk);
            let found = store.content().log_start.0;
            disk.plan(1 + at % 3, Fault::Crash);
            shrink(&store, 100).ok();
            let after = load(&disk.restart(seed + 1)).0.content().log_start.0;
            assert!(
                [found, 100].contains(&after),
                "{after} after {found}, crash {at}, seed {seed}"
            );
        }
    }

    #[test]
    fn crashes_while_the_first_are_made_never_leave_two_that_are_torn() {
        let crashes = (1..9).flat_map(|first| (1..9).map(move |second| [first, second]));
        for (crashes, seed) in crashes.flat_map(|two| (0..100).map(move |seed| (two, seed))) {
            let mut disk = SimDisk::new();
            for at in crashes {
                let (store, _) = load(&disk);
                disk.plan(at, Fault::Crash);
                store.write_both().ok();
                disk = disk.restart(seed ^ (at << 32));
            }
            assert_ne!(load(&disk).1, Found::Damaged, "crashes {crashes:?}, seed {seed}");
        }
    }

    #[test]
    fn a_failed_write_is_written_over_and_never_wins() {
        let disk = SimDisk::new();
        let (store, _) = load(&disk);
        for n in 1..5 {
            move_start(&store, n).unwrap();
        }
        disk.plan(2, Fault::Io);
        move_start(&store, 100).unwrap_err();
        assert_eq!(store.content().log_start, Offset(4));
        move_start(&store, 5).unwrap();
        for seed in 0..20 {
            assert_eq!(load(&disk.restart(seed)).0.content().log_start, Offset(5));
        }
    }

    #[test]
    fn a_full_disk_does_not_keep_it_from_being_written() {
        let disk = SimDisk::new();
        let (store, _) = load(&disk);
        move_start(&store, 1).unwrap();
        move_start(&store, 2).unwrap();
        disk.fill_up(true);
        for n in 3..9 {
            move_start(&store, n).unwrap();
        }
        assert_eq!(load(&disk).0.content().log_start, Offset(8));
    }

    #[test]
    fn damage_and_later_versions_are_told_apart() {
        let disk = SimDisk::new();
        let (store, _) = load(&disk);
        move_start(&store, 1).unwrap();
        move_start(&store, 2).unwrap();
        disk.flip_bit(Path::new("/checkpoint-1"), 20, 1);
        let (older, found) = load(&disk);
        assert_eq!((older.content().log_start, found), (Offset(1), Found::PerhapsOlder));
        disk.flip_bit(Path::new("/checkpoint-0"), 20, 1);
        assert_eq!(load(&disk).1, Found::Damaged);
        let later = envelope::seal(MAGIC, VERSION + 1, b"whatever");
        let file = disk.open(Path::new("/checkpoint-0"), Create::Never).unwrap();
        file.set_len(0).unwrap();
        file.write_at(&[IoSlice::new(&later)], 0).unwrap();
        let error = CheckpointStore::load(Arc::new(disk), Path::new("/")).unwrap_err();
        assert!(matches!(error, StorageError::UnsupportedFormat { found: 2, .. }), "{error}");
    }
}
