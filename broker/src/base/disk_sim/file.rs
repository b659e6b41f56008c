//! An open file of a simulated disk, and mappings of it.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::content::{Change, Node};
use super::{Needs, SECTOR_BYTES, World};
use crate::base::disk::{DiskFile, Mapping};

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) node: Arc<Mutex<Node>>,
}

impl DiskFile for SimFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
        let mut bytes = parts.concat();
        let position = to_usize(position);
        let mut world = self.world.lock();
        let mut node = self.node.lock();
        let grows = position + bytes.len() > node.live.len();
        let result = world.step(if grows { Needs::Space } else { Needs::Nothing });
        if result.is_err() {
            if world.crashed {
                return result;
            }
            bytes.truncate(bytes.len() / 2);
        }
        let fate = world.fate();
        node.change(Change::Write { position, bytes, fate });
        result
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        {
            let mut world = self.world.lock();
            world.reads += 1;
            let reads = world.reads;
            if world.read_plan.take_if(|at| *at <= reads).is_some() {
                return Err(io::Error::from_raw_os_error(5));
            }
        }
        let node = self.node.lock();
        let rest = node.live.get(to_usize(position)..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        let mut node = self.node.lock();
        let grows = node.live.len() < to_usize(length);
        world.step(if grows { Needs::Space } else { Needs::Nothing })?;
        if grows {
            node.change(Change::Length(to_usize(length)));
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.world.lock().step(Needs::Nothing)?;
        let mut node = self.node.lock();
        node.check_cut(to_usize(length));
        node.change(Change::Length(to_usize(length)));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.node.lock().live.len()).unwrap_or(u64::MAX))
    }

    fn zero_from(&self, length: u64) -> io::Result<u64> {
        const SECTOR: usize = SECTOR_BYTES[0];
        let node = self.node.lock();
        let written = |sector: &[u8]| Some(sector) != [0; SECTOR].get(..sector.len());
        let sectors = node.live.chunks(SECTOR).rposition(written).map_or(0, |last| last + 1);
        Ok(u64::try_from(sectors * SECTOR).unwrap_or(u64::MAX).min(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        let mut node = self.node.lock();
        let result = world.step(Needs::Nothing);
        match &result {
            Ok(()) => node.sync(),
            Err(_) => node.abandon(),
        }
        result
    }

    fn map(&self, length: u64) -> io::Result<Arc<dyn Mapping>> {
        let exposed = Arc::new(AtomicUsize::new(0));
        self.node.lock().exposed.push(Arc::downgrade(&exposed));
        Ok(Arc::new(SimMapping { node: self.node.clone(), length, exposed }))
    }
}

/// Slices are copies: bytes below what was written never change.
#[derive(Debug)]
struct SimMapping {
    node: Arc<Mutex<Node>>,
    length: u64,
    exposed: Arc<AtomicUsize>,
}

impl Mapping for SimMapping {
    fn slice(&self, from: u64, to: u64) -> io::Result<Bytes> {
        if from > to || to > self.length {
            return Ok(Bytes::new());
        }
        let node = self.node.lock();
        let (from, to) = (to_usize(from), to_usize(to));
        let live = node.live.len();
        assert!(to <= live, "SIGBUS: mapped bytes {from}..{to} of a file of {live}");
        self.exposed.fetch_max(to, Ordering::Relaxed);
        Ok(Bytes::copy_from_slice(node.live.get(from..to).unwrap_or_default()))
    }

    fn len(&self) -> u64 {
        self.length
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
