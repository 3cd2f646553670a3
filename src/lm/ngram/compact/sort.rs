//! Sorting more than memory holds: sorted runs are set aside and merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, BufReader, Read, Write};

use tempfile::SpooledTempFile;

use super::spool::{Space, Spool};

/// What can be sorted.
pub(super) trait Record: Copy + Ord {
    /// Writes it.
    fn write(&self, out: &mut impl Write) -> io::Result<()>;

    /// Reads it back.
    fn read(input: &mut impl Read) -> io::Result<Self>;
}

/// Takes records in any order.
pub(super) struct Sorter<R> {
    buffer: Vec<R>,
    capacity: usize,
    space: Space,
    runs: Vec<(Spool, u64)>,
}

/// Gives records in their order.
pub(super) struct Sorted<R> {
    heads: BinaryHeap<Reverse<(R, usize)>>,
    runs: Vec<(BufReader<SpooledTempFile>, u64)>,
}

impl<R: Record> Sorter<R> {
    /// A sorter that uses up to `bytes` of memory.
    pub(super) fn new(space: &Space, bytes: usize) -> Self {
        let capacity = (bytes / size_of::<R>()).max(64);
        Self { buffer: Vec::new(), capacity, space: space.clone(), runs: Vec::new() }
    }

    pub(super) fn push(&mut self, record: R) -> io::Result<()> {
        if self.buffer.len() == self.capacity {
            self.run()?;
        }
        self.buffer.push(record);
        Ok(())
    }

    /// Gives memory back; for pauses.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.run()?;
        self.buffer = Vec::new();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<Sorted<R>> {
        self.settle()?;
        let runs = self.runs.into_iter().map(|(run, count)| Ok((run.reader()?, count)));
        let mut sorted = Sorted { heads: BinaryHeap::new(), runs: runs.collect::<io::Result<_>>()? };
        for run in 0..sorted.runs.len() {
            sorted.pull(run)?;
        }
        Ok(sorted)
    }

    fn run(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.buffer.sort_unstable();
        let mut run = self.space.spool();
        for record in &self.buffer {
            record.write(&mut run)?;
        }
        self.runs.push((run, self.buffer.len() as u64));
        self.buffer.clear();
        Ok(())
    }
}

impl<R: Record> Sorted<R> {
    /// The next record, which stays.
    pub(super) fn peek(&self) -> Option<&R> {
        self.heads.peek().map(|Reverse((record, _))| record)
    }

    /// The next record.
    pub(super) fn next(&mut self) -> io::Result<Option<R>> {
        let Some(mut head) = self.heads.peek_mut() else { return Ok(None) };
        let Reverse((record, run)) = *head;
        // Most often the run goes on, and its next record takes the place of this one.
        let (reader, left) = &mut self.runs[run];
        if *left > 0 {
            *left -= 1;
            *head = Reverse((R::read(reader)?, run));
        } else {
            std::collections::binary_heap::PeekMut::pop(head);
        }
        Ok(Some(record))
    }

    fn pull(&mut self, run: usize) -> io::Result<()> {
        let (reader, left) = &mut self.runs[run];
        if *left > 0 {
            *left -= 1;
            self.heads.push(Reverse((R::read(reader)?, run)));
        }
        Ok(())
    }
}

impl Record for u32 {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.to_le_bytes())
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        let mut bytes = [0; 4];
        input.read_exact(&mut bytes)?;
        Ok(Self::from_le_bytes(bytes))
    }
}

/// Values that occur at least `least` times, and how often, from a sorted stream.
pub(super) fn frequent(sorted: &mut Sorted<u32>, least: u32) -> io::Result<Vec<(u32, u32)>> {
    let mut found = Vec::new();
    let mut run: Option<(u32, u32)> = None;
    loop {
        let next = sorted.next()?;
        match (&mut run, next) {
            (Some((value, count)), Some(next)) if *value == next => *count = count.saturating_add(1),
            _ => {
                found.extend(run.filter(|&(_, count)| count >= least));
                let Some(next) = next else { break };
                run = Some((next, 1));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorts_what_memory_does_not_hold(values in prop::collection::vec(0u32..500, 0..2000), memory in 0usize..4000) {
            let space = Space::new(1 << 12, std::env::temp_dir());
            let mut sorter = Sorter::new(&space, memory);
            for &value in &values {
                sorter.push(value).unwrap();
            }
            let mut sorted = sorter.finish().unwrap();
            let mut expected = values.clone();
            expected.sort_unstable();
            for &value in &expected {
                prop_assert_eq!(sorted.peek(), Some(&value));
                prop_assert_eq!(sorted.next().unwrap(), Some(value));
            }
            prop_assert_eq!(sorted.next().unwrap(), None);
        }
    }

    #[test]
    fn counts_what_is_frequent() {
        let mut sorter = Sorter::new(&Space::new(1 << 12, std::env::temp_dir()), 0);
        for value in [7, 3, 7, 9, 3, 7, 1] {
            sorter.push(value).unwrap();
        }
        assert_eq!(frequent(&mut sorter.finish().unwrap(), 2).unwrap(), [(3, 2), (7, 3)]);
    }
}
