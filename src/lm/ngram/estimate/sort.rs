//! Sorting more than fits into memory.
//!
//! Entries fill blocks of one size. A full block is sorted on a thread of its own while the next
//! one fills. When the blocks of all sorters together reach the limit, one of them merges its
//! blocks into a run on disk. All blocks are equal and used again, so memory in use is what they
//! hold, whatever the allocator does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::key::Key;
use super::merge::{Merge, Source};
use super::temporary::{self, Folder, Reader, Stored, Writer};
use crate::{Error, Result};

/// An n-gram and a number about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<const L: usize> {
    pub key: Key<L>,
    pub value: u64,
}

pub(super) type Block<const L: usize> = Vec<Entry<L>>;

/// The memory and threads that sorters share.
pub(super) struct Pool<const L: usize> {
    folder: Folder,
    threads: usize,
    /// Entries of a block.
    entries: usize,
    /// Blocks that may be in use; a few more are while the last ones fill.
    limit: usize,
    blocks: Mutex<Blocks<L>>,
}

struct Blocks<const L: usize> {
    free: Vec<Block<L>>,
    used: usize,
}

/// How entries lie on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codec {
    /// Bytes of a key.
    pub key: usize,
    pub value: Value,
}

/// How values lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Small numbers in few bytes.
    Number,
    /// The lowest bytes, this many.
    Bytes(usize),
}

/// Collects entries and gives them back in the order of their keys.
pub(super) struct Sorter<const L: usize> {
    pool: Arc<Pool<L>>,
    codec: Codec,
    /// Adds up the values of equal keys.
    adds: bool,
    filling: Block<L>,
    sorting: VecDeque<JoinHandle<Block<L>>>,
    sorted: Vec<Block<L>>,
    /// Runs on disk; those of each level are merged from runs of the level before.
    runs: Vec<Vec<Run>>,
    /// Bytes on disk, now and before.
    spilled: u64,
}

/// Sorted entries on disk.
pub(super) struct Run {
    stored: Stored,
    codec: Codec,
    entries: u64,
}

/// Writes a [`Run`].
pub(super) struct RunWriter {
    writer: Writer,
    codec: Codec,
    entries: u64,
}

/// Reads a [`Run`].
pub(super) struct RunReader {
    reader: Reader,
    codec: Codec,
    left: u64,
}

impl<const L: usize> Pool<L> {
    /// Shares `bytes` between up to `sorters` sorters.
    pub fn new(folder: &Folder, bytes: u64, sorters: usize, threads: usize) -> Arc<Self> {
        let entry = size_of::<Entry<L>>() as u64;
        let block = (bytes / (8 * sorters.max(1) as u64)).clamp(SMALLEST_BLOCK, LARGEST_BLOCK);
        Arc::new(Self {
            folder: folder.clone(),
            threads,
            entries: (block / entry) as usize,
            limit: (bytes / block) as usize,
            blocks: Mutex::new(Blocks { free: Vec::new(), used: 0 }),
        })
    }

    /// Whether blocks should be moved to disk.
    pub fn full(&self) -> bool {
        self.lock().used >= self.limit
    }

    /// Blocks that may be in use.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a block back.
    pub fn give(&self, mut block: Block<L>) {
        block.clear();
        let mut blocks = self.lock();
        blocks.used -= 1;
        blocks.free.push(block);
    }

    fn take(&self) -> Block<L> {
        let mut blocks = self.lock();
        blocks.used += 1;
        blocks.free.pop().unwrap_or_else(|| Vec::with_capacity(self.entries))
    }

    fn lock(&self) -> MutexGuard<'_, Blocks<L>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const L: usize> Sorter<L> {
    pub fn new(pool: &Arc<Pool<L>>, codec: Codec) -> Self {
        Self {
            pool: pool.clone(),
            codec,
            adds: false,
            filling: Vec::new(),
            sorting: VecDeque::new(),
            sorted: Vec::new(),
            runs: Vec::new(),
            spilled: 0,
        }
    }

    /// A sorter that makes one entry of those with equal keys: its value is the sum of theirs.
    pub fn adding(pool: &Arc<Pool<L>>, codec: Codec) -> Self {
        Self { adds: true, ..Self::new(pool, codec) }
    }

    /// Takes an entry. `true`: a block was begun, so the caller should look whether the pool is
    /// full.
    pub fn push(&mut self, entry: Entry<L>) -> Result<bool> {
        let fresh = self.filling.len() == self.filling.capacity();
        if fresh {
            self.close()?;
            self.filling = self.pool.take();
        }
        self.filling.push(entry);
        Ok(fresh)
    }

    /// Blocks in memory that [`Sorter::spill`] would free.
    pub fn held(&self) -> usize {
        self.sorted.len() + self.sorting.len() + usize::from(self.filling.capacity() > 0)
    }

    /// Bytes written to disk so far.
    pub fn spilled(&self) -> u64 {
        self.spilled
    }

    /// Moves everything in memory to disk.
    pub fn spill(&mut self) -> Result<()> {
        self.settle()?;
        if self.sorted.is_empty() {
            return Ok(());
        }
        let sources = self.sorted.drain(..).map(|block| Source::block(block, &self.pool)).collect();
        let run = self.store(sources)?;
        self.add(run, 0)
    }

    /// Everything, sorted. What is kept in memory is no more than `blocks` blocks.
    pub fn finish(mut self, blocks: usize) -> Result<Merge<L>> {
        self.settle()?;
        if self.sorted.len() > blocks {
            self.spill()?;
        }
        let mut sources = Vec::new();
        for run in self.runs.drain(..).flatten() {
            sources.push(Source::run(run.read()?)?);
        }
        sources.extend(self.sorted.drain(..).map(|block| Source::block(block, &self.pool)));
        Ok(Merge::new(sources, self.adds))
    }

    /// Adds a run; where there are enough of a level, they become one of the next.
    fn add(&mut self, run: Run, level: usize) -> Result<()> {
        if self.runs.len() <= level {
            self.runs.push(Vec::new());
        }
        self.runs[level].push(run);
        if self.runs[level].len() < FAN_IN {
            return Ok(());
        }
        let mut sources = Vec::with_capacity(FAN_IN);
        for run in std::mem::take(&mut self.runs[level]) {
            sources.push(Source::run(run.read()?)?);
        }
        let run = self.store(sources)?;
        self.add(run, level + 1)
    }

    fn store(&mut self, sources: Vec<Source<L>>) -> Result<Run> {
        let mut merge = Merge::new(sources, self.adds);
        let mut writer = RunWriter::new(&self.pool.folder, self.codec);
        while let Some(entry) = merge.next()? {
            writer.push(entry)?;
        }
        let run = writer.finish();
        self.spilled += run.stored.bytes();
        Ok(run)
    }

    /// Has the block that is filling sorted in the background.
    fn close(&mut self) -> Result<()> {
        let mut block = std::mem::take(&mut self.filling);
        if block.capacity() == 0 {
            return Ok(());
        }
        let adds = self.adds;
        if self.pool.threads < 2 {
            sort(&mut block, adds);
            self.sorted.push(block);
            return Ok(());
        }
        while self.sorting.len() >= self.pool.threads {
            self.join()?;
        }
        let work = move || {
            sort(&mut block, adds);
            block
        };
        let thread = std::thread::Builder::new().name("secondpass-sort".into()).spawn(work);
        let thread = thread.map_err(|source| Error::Io { what: "a thread that sorts".into(), source })?;
        self.sorting.push_back(thread);
        Ok(())
    }

    /// Sorts what is not sorted yet.
    fn settle(&mut self) -> Result<()> {
        self.close()?;
        while !self.sorting.is_empty() {
            self.join()?;
        }
        Ok(())
    }

    fn join(&mut self) -> Result<()> {
        if let Some(thread) = self.sorting.pop_front() {
            let block = thread.join().map_err(|_| Error::Internal("a sorting thread panicked".into()))?;
            self.sorted.push(block);
        }
        Ok(())
    }
}

impl Run {
    /// Reads it from the front.
    pub fn read(self) -> Result<RunReader> {
        Ok(RunReader { reader: self.stored.read(READ_CHUNK)?, codec: self.codec, left: self.entries })
    }
}

impl RunWriter {
    pub fn new(folder: &Folder, codec: Codec) -> Self {
        Self { writer: Writer::new(folder), codec, entries: 0 }
    }

    /// Appends an entry; keys must come in order.
    pub fn push<const L: usize>(&mut self, entry: Entry<L>) -> Result<()> {
        let buffer = self.writer.buffer();
        entry.key.write(self.codec.key, buffer);
        match self.codec.value {
            Value::Number => temporary::put_number(entry.value, buffer),
            Value::Bytes(bytes) => buffer.extend_from_slice(&entry.value.to_le_bytes()[..bytes]),
        }
        self.entries += 1;
        self.writer.relieve()
    }

    pub fn finish(self) -> Run {
        Run { stored: self.writer.finish(), codec: self.codec, entries: self.entries }
    }
}

impl RunReader {
    pub fn next<const L: usize>(&mut self) -> Result<Option<Entry<L>>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let keys = self.codec.key;
        let bytes = self.reader.ahead(keys + temporary::LONGEST_NUMBER)?;
        let (key, rest) = bytes.split_at_checked(keys).ok_or_else(temporary::cut)?;
        let key = Key::read(key);
        let (value, length) = match self.codec.value {
            Value::Number => temporary::number(rest).ok_or_else(temporary::cut)?,
            Value::Bytes(length) => {
                let mut value = [0; 8];
                value[..length].copy_from_slice(rest.get(..length).ok_or_else(temporary::cut)?);
                (u64::from_le_bytes(value), length)
            }
        };
        self.reader.take(keys + length);
        Ok(Some(Entry { key, value }))
    }
}

fn sort<const L: usize>(block: &mut Block<L>, adds: bool) {
    block.sort_unstable_by_key(|entry| entry.key);
    if adds {
        block.dedup_by(|next, kept| {
            let same = next.key == kept.key;
            if same {
                kept.value = kept.value.saturating_add(next.value);
            }
            same
        });
    }
}

/// Runs that are merged at once: each needs a file and a buffer.
const FAN_IN: usize = 32;
const READ_CHUNK: usize = 1 << 16;
const SMALLEST_BLOCK: u64 = 16 << 10;
const LARGEST_BLOCK: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::super::key::Packing;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const PACKING: Packing = Packing { bits: 12 };
    const CODEC: Codec = Codec { key: 6, value: Value::Number };

    fn key(number: u64) -> Key<1> {
        (0..4).fold(Key::ZERO, |key, at| PACKING.roll(key, 4, (number >> (12 * at) & 0xfff) as u32))
    }

    fn drain(mut merge: Merge<1>) -> Vec<Entry<1>> {
        std::iter::from_fn(|| merge.next().unwrap()).collect()
    }

    #[test]
    fn much_in_little_memory_is_sorted_and_summed() {
        let folder = Folder::new(&std::env::temp_dir());
        for (threads, keep) in [(1, 0), (2, 0), (2, 1000)] {
            // 8 blocks of 1,024 entries: 400,000 entries make more runs than are merged at once.
            let pool = Pool::<1>::new(&folder, 128 << 10, 1, threads);
            let mut sorter = Sorter::adding(&pool, CODEC);
            let mut want = BTreeMap::<u64, u64>::new();
            let mut most = 0;
            for at in 0..400_000u64 {
                let number = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
                *want.entry(number).or_default() += at % 7;
                if sorter.push(Entry { key: key(number), value: at % 7 }).unwrap() && pool.full() {
                    most = most.max(sorter.held());
                    sorter.spill().unwrap();
                }
            }
            assert!(most <= pool.limit(), "{most} blocks");
            assert!(sorter.runs.len() > 1, "no level of runs was merged");
            let got = drain(sorter.finish(keep).unwrap());
            let want: Vec<_> = want.into_iter().map(|(at, value)| Entry { key: key(at), value }).collect();
            assert!(got == want);
            assert_eq!(pool.lock().used, 0, "blocks were lost");
        }
    }

    proptest! {
        #[test]
        fn anything_is_sorted(
            numbers in prop::collection::vec((0u64..1 << 48, any::<u64>()), 0..3000),
            spills in prop::collection::vec(0usize..3000, 0..4),
        ) {
            let pool = Pool::<1>::new(&Folder::new(&std::env::temp_dir()), 1 << 20, 8, 2);
            let mut sorter = Sorter::new(&pool, CODEC);
            let mut want = Vec::new();
            for (at, &(number, value)) in numbers.iter().enumerate() {
                let entry = Entry { key: key(number), value };
                want.push(entry);
                sorter.push(entry).unwrap();
                if spills.contains(&at) {
                    sorter.spill().unwrap();
                }
            }
            want.sort_by_key(|entry| entry.key);
            prop_assert!(drain(sorter.finish(2).unwrap()) == want);
        }
    }
}
