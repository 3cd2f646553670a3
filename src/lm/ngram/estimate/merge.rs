//! Merging sorted sources.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use super::key::Key;
use super::sort::{Block, Entry, Pool, RunReader};
use crate::Result;

/// Entries of several sources in the order of their keys.
pub(super) struct Merge<const L: usize> {
    sources: Vec<Source<L>>,
    /// The next key of each source that has one.
    heap: BinaryHeap<Reverse<(Key<L>, u32)>>,
    adds: bool,
}

/// Sorted entries in memory or on disk.
pub(super) enum Source<const L: usize> {
    Block { entries: Block<L>, at: usize, pool: Arc<Pool<L>> },
    Run { reader: RunReader, next: Option<Entry<L>> },
}

impl<const L: usize> Merge<L> {
    /// With `adds`, entries of equal keys become one with the sum of their values.
    pub fn new(sources: Vec<Source<L>>, adds: bool) -> Self {
        let heads = sources.iter().zip(0..);
        let heap = heads.filter_map(|(source, at)| Some(Reverse((source.head()?.key, at)))).collect();
        Self { sources, heap, adds }
    }

    /// The next entry.
    pub fn next(&mut self) -> Result<Option<Entry<L>>> {
        let Some(mut entry) = self.first()? else { return Ok(None) };
        while self.adds && self.heap.peek().is_some_and(|Reverse((key, _))| *key == entry.key) {
            let more = self.first()?.map_or(0, |more| more.value);
            entry.value = entry.value.saturating_add(more);
        }
        Ok(Some(entry))
    }

    fn first(&mut self) -> Result<Option<Entry<L>>> {
        let Some(mut top) = self.heap.peek_mut() else { return Ok(None) };
        let source = &mut self.sources[top.0.1 as usize];
        let entry = source.head();
        source.advance()?;
        match source.head() {
            Some(next) => top.0.0 = next.key,
            None => drop(PeekMut::pop(top)),
        }
        Ok(entry)
    }
}

impl<const L: usize> Source<L> {
    pub fn block(entries: Block<L>, pool: &Arc<Pool<L>>) -> Self {
        Self::Block { entries, at: 0, pool: pool.clone() }
    }

    pub fn run(mut reader: RunReader) -> Result<Self> {
        let next = reader.next()?;
        Ok(Self::Run { reader, next })
    }

    fn head(&self) -> Option<Entry<L>> {
        match self {
            Self::Block { entries, at, .. } => entries.get(*at).copied(),
            Self::Run { next, .. } => *next,
        }
    }

    fn advance(&mut self) -> Result<()> {
        match self {
            Self::Block { at, .. } => *at += 1,
            Self::Run { reader, next } => *next = reader.next()?,
        }
        Ok(())
    }
}

impl<const L: usize> Drop for Source<L> {
    fn drop(&mut self) {
        if let Self::Block { entries, pool, .. } = self {
            pool.give(std::mem::take(entries));
        }
    }
}
