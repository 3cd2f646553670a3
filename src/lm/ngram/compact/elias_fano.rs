//! Sequences that never fall, in Elias-Fano code: the low bits of each number packed, the upper
//! ones in unary. About 2 + log2(last / count) bits a number (Elias 1974; Fano 1971).

use std::io::{self, Write};

use super::bits::{MAX_WIDTH, Packed, Packer, word};
use super::rank::{Bits, Bitter};
use super::spool::{Space, Spool};

/// Where a sequence lies in a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EliasFano {
    count: u64,
    last: u64,
    width: u32,
    high: Bits,
    low: Packed,
}

impl EliasFano {
    /// The sequence in a section of a file.
    ///
    /// # Errors
    /// If the section's size is not that of the sequence it speaks of.
    pub(super) fn open(bytes: &[u8], start: usize, length: u64) -> Result<Self, &'static str> {
        let [count, last, width] = [0, 8, 16].map(|at| word(bytes, start.wrapping_add(at)));
        if length < HEADER as u64 || width > u64::from(MAX_WIDTH) {
            return Err("a number sequence has no valid header");
        }
        let width = width as u32;
        let sizes = || {
            let len = count.checked_add(last >> width)?.checked_add(1)?;
            let high = Bits::bytes(len, count)?;
            Some((len, high, high.checked_add(Packed::bytes(count, width)?)?))
        };
        match sizes() {
            Some((len, high, size)) if size == length - HEADER as u64 => {
                let start = start + HEADER;
                let low = Packed::new(start + high as usize, width);
                Ok(Self { count, last, width, high: Bits::new(start, len, count), low })
            }
            _ => Err("a number sequence has another size than its header says"),
        }
    }

    /// How many numbers.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// A bound of the numbers.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Two numbers in a row, the first of them number `at`.
    #[inline]
    pub(super) fn pair(&self, bytes: &[u8], at: u64) -> (u64, u64) {
        let place = self.high.select(bytes, at);
        let next = match self.high.next_near(bytes, place + 1) {
            Some(next) => next,
            None => self.high.select(bytes, at + 1),
        };
        (self.value(bytes, place, at), self.value(bytes, next, at + 1))
    }

    /// The number at `at`.
    #[inline]
    pub(super) fn at(&self, bytes: &[u8], at: u64) -> u64 {
        self.value(bytes, self.high.select(bytes, at), at)
    }

    /// For sequences of ranges, each of which begins anew above the last number of the one before
    /// it: where in the range `begin..end` the number is that lies `rank` above the range's base.
    #[inline]
    pub(super) fn find(&self, bytes: &[u8], begin: u64, end: u64, rank: u64) -> Option<u64> {
        // Where the number before the range stands, with what upper bits; and the range's base.
        let (from, upper, base) = match begin.checked_sub(1) {
            Some(before) => {
                let place = self.high.select(bytes, before);
                let value = self.value(bytes, place, before);
                (place, Some(value >> self.width), value.wrapping_add(1))
            }
            None => (0, None, 0),
        };
        let wanted = base.checked_add(rank)?;
        if wanted > self.last {
            return None;
        }
        let high = wanted >> self.width;
        // Numbers with equal upper bits stand between two zeros.
        let place = match high.checked_sub(1) {
            _ if upper == Some(high) => from + 1,
            Some(zero) => self.high.select_zero(bytes, from, zero) + 1,
            None => 0,
        };
        let mut low = place.wrapping_sub(high);
        if low >= end {
            return None;
        }
        // No more than there are lower bits: damage cannot make it long.
        let mut high = low + self.high.run(bytes, place, (end - low).min(1 << self.width));
        let wanted = wanted & ((1 << self.width) - 1);
        while high - low > SCAN {
            let middle = low + (high - low) / 2;
            if self.low.at(bytes, middle) <= wanted {
                low = middle;
            } else {
                high = middle;
            }
        }
        (low..high).find(|&at| self.low.at(bytes, at) == wanted).filter(|&at| at >= begin)
    }

    #[inline]
    fn value(&self, bytes: &[u8], place: u64, at: u64) -> u64 {
        place.wrapping_sub(at) << self.width | self.low.at(bytes, at)
    }
}

/// Writes a sequence.
pub(super) struct Writer {
    count: u64,
    last: u64,
    width: u32,
    high: Bitter<Spool>,
    low: Packer<Spool>,
    pushed: u64,
}

impl Writer {
    /// A sequence of `count` numbers, none of them above `last`.
    pub(super) fn new(space: &Space, count: u64, last: u64) -> Self {
        let width = last.checked_div(count).and_then(u64::checked_ilog2).unwrap_or(0).min(MAX_WIDTH);
        let (high, low) = (Bitter::new(space.spool()), Packer::new(space.spool(), width));
        Self { count, last, width, high, low, pushed: 0 }
    }

    /// Appends a number that is not below the one before.
    pub(super) fn push(&mut self, value: u64) -> io::Result<()> {
        debug_assert!(value <= self.last && self.pushed < self.count);
        while self.high.len() < (value >> self.width) + self.pushed {
            self.high.push(false)?;
        }
        self.high.push(true)?;
        self.low.push(value & ((1 << self.width) - 1))?;
        self.pushed += 1;
        Ok(())
    }

    /// Writes the section.
    pub(super) fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        debug_assert_eq!(self.pushed, self.count);
        while self.high.len() < (self.last >> self.width) + self.count + 1 {
            self.high.push(false)?;
        }
        for value in [self.count, self.last, u64::from(self.width)] {
            out.write_all(&value.to_le_bytes())?;
        }
        out.write_all(&[0; HEADER - 24])?;
        io::copy(&mut self.high.finish()?.reader()?, out)?;
        io::copy(&mut self.low.finish()?.reader()?, out)?;
        Ok(())
    }
}

/// As long as a line of the cache, which blocks of bits begin at.
const HEADER: usize = 64;
/// Ranges up to this long are looked through from their front.
const SCAN: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(numbers: &[u64], last: u64) -> Vec<u8> {
        let space = Space::new(1 << 20, std::env::temp_dir());
        let mut writer = Writer::new(&space, numbers.len() as u64, last);
        for &number in numbers {
            writer.push(number).unwrap();
        }
        let mut bytes = Vec::new();
        writer.finish(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn numbers_are_read_back(steps in prop::collection::vec(prop_oneof![0u64..3, 0u64..1 << 40], 1..600)) {
            let numbers: Vec<u64> = steps.iter().scan(0, |sum, step| { *sum += step; Some(*sum) }).collect();
            let bytes = written(&numbers, *numbers.last().unwrap());
            let read = EliasFano::open(&bytes, 0, bytes.len() as u64).unwrap();
            for (at, &number) in numbers.iter().enumerate() {
                prop_assert_eq!(read.at(&bytes, at as u64), number);
                if let Some(&next) = numbers.get(at + 1) {
                    prop_assert_eq!(read.pair(&bytes, at as u64), (number, next));
                }
            }
            prop_assert!(EliasFano::open(&bytes, 0, bytes.len() as u64 + 1).is_err());
        }

        #[test]
        fn members_of_ranges_are_found_and_no_others(
            ranges in prop::collection::vec(prop::collection::btree_set(prop_oneof![0u64..40, 0u64..3000], 0..60), 1..40)
        ) {
            let mut numbers = Vec::new();
            for range in &ranges {
                let base = numbers.last().map_or(0, |last| last + 1);
                numbers.extend(range.iter().map(|rank| base + rank));
            }
            let bytes = written(&numbers, numbers.last().copied().unwrap_or(0));
            let read = EliasFano::open(&bytes, 0, bytes.len() as u64).unwrap();
            let mut begin = 0;
            for range in &ranges {
                let end = begin + range.len() as u64;
                for rank in (0..40).chain(range.iter().flat_map(|&r| [r.saturating_sub(1), r, r + 1])) {
                    let expected = range.iter().position(|&r| r == rank).map(|at| begin + at as u64);
                    let found = if begin < end { read.find(&bytes, begin, end, rank) } else { None };
                    prop_assert_eq!(found, expected);
                }
                begin = end;
            }
        }
    }
}
