//! The n-grams of one order in lines of the processor's cache, found by hashing, without doubt.
//!
//! An n-gram is its suffix's place in the order below and its farthest word: one number, the key.
//! A key leads to a home line and leaves a remainder, and both together give the key back: so
//! remainders suffice to tell n-grams apart (quotienting; Knuth, vol. 3, 6.4; Cleary 1984).
//!
//! N-grams lie in the order of their homes and remainders, each in its home line or, if that is full,
//! behind it.
//! A line begins with where the n-grams whose home it is begin and how many they are, so a look
//! reads one line, or two that follow each other.

use std::cmp::Ordering;

use super::bits::{MAX_WIDTH, word};

/// Where an order's lines are and what is in them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Table {
    start: usize,
    count: u64,
    lines: u64,
    pub(super) shape: Shape,
}

/// How n-grams lie in lines, and which line is whose home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shape {
    /// Lines that are homes; a few more may follow.
    pub(super) homes: u64,
    pub(super) seed: u64,
    /// N-grams that a line has room for.
    pub(super) slots: u32,
    /// Bits of an n-gram's parts, in this order, the lowest first.
    pub(super) remainder: u32,
    /// Whether another n-gram ends with it; no bits in the highest order.
    pub(super) extends: u32,
    pub(super) prob: u32,
    pub(super) backoff: u32,
    /// Number of words.
    pub(super) words: u64,
}

/// An n-gram that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Its place among all of its order, gaps counted.
    pub(super) at: u64,
    pub(super) extends: bool,
    pub(super) prob: u64,
    pub(super) backoff: u64,
}

impl Shape {
    /// For `count` n-grams of an order, whose suffixes have one of `parents` places, in lines of
    /// which the given share is used; `widths` are the bits that extending, probabilities and
    /// backoffs take. `None` if keys are too many to be told apart.
    pub(super) fn new(
        words: u64,
        parents: u64,
        count: u64,
        [extends, prob, backoff]: [u32; 3],
        used: f64,
    ) -> Option<Self> {
        let keys = words.checked_mul(parents)?;
        (1..=MOST_SLOTS).rev().find_map(|slots| {
            let homes = ((count as f64 / (f64::from(slots) * used)).ceil() as u64).max(1);
            // Of very many words and few n-grams.
            let homes = homes.max((keys >> MAX_WIDTH) + 1);
            let remainder = remainder(keys, homes);
            let shape = Self { homes, seed: 0, slots, remainder, extends, prob, backoff, words };
            shape.fits().then_some(shape)
        })
    }

    fn fits(&self) -> bool {
        let widest = self.remainder.max(self.prob).max(self.backoff);
        self.slots > 0 && widest <= MAX_WIDTH && HEAD + self.slots * self.width() <= 8 * LINE as u32
    }

    /// Bits of an n-gram.
    #[inline]
    pub(super) fn width(&self) -> u32 {
        self.remainder + self.extends + self.prob + self.backoff
    }

    /// An n-gram's home and remainder.
    #[inline(always)]
    pub(super) fn home(&self, parent: u64, word: u32) -> (u64, u64) {
        let key = parent.wrapping_mul(self.words).wrapping_add(u64::from(word));
        let low = key & ((1 << self.remainder) - 1);
        let home = (key >> self.remainder).wrapping_add(self.shift(low));
        (if home >= self.homes { home.wrapping_sub(self.homes) } else { home }, low)
    }

    /// The suffix's place and the word that a home and a remainder are of.
    pub(super) fn key(&self, home: u64, low: u64) -> (u64, u64) {
        let shift = self.shift(low);
        let high = if home >= shift { home - shift } else { (home + self.homes).wrapping_sub(shift) };
        let key = high << self.remainder | low;
        (key / self.words.max(1), key % self.words.max(1))
    }

    /// How far the n-grams with a remainder are from where they would be in the order of keys:
    /// scattered over all homes.
    #[inline]
    fn shift(&self, low: u64) -> u64 {
        let mixed = (low ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((u128::from(mixed) * u128::from(self.homes)) >> 64) as u64
    }
}

impl Table {
    /// The table in a section of a file; `places` is the number of places in the order below, and
    /// words and the width of `extends` are as they must be.
    ///
    /// # Errors
    /// If its header and size do not agree with each other and with that.
    pub(super) fn open(
        bytes: &[u8],
        start: usize,
        length: u64,
        (words, places): (u64, u64),
        highest: bool,
    ) -> Result<Self, &'static str> {
        let field = |at: usize| word(bytes, start.wrapping_add(8 * at));
        let [count, homes, lines, seed, slots, prob, backoff] = [0, 1, 2, 3, 4, 5, 6].map(field);
        let keys = words.checked_mul(places).ok_or(WRONG)?;
        if length < LINE as u64 || homes == 0 || slots > u64::from(MOST_SLOTS) || prob > 32 || backoff > 32 {
            return Err(WRONG);
        }
        let remainder = remainder(keys, homes);
        let (slots, prob, backoff) = (slots as u32, prob as u32, backoff as u32);
        let shape =
            Shape { homes, seed, slots, remainder, extends: u32::from(!highest), prob, backoff, words };
        let size = lines.checked_add(1).and_then(|lines| lines.checked_mul(LINE as u64));
        if size != Some(length)
            || lines < homes
            || !shape.fits()
            || count > lines * u64::from(slots)
            || (highest && backoff > 0)
        {
            return Err(WRONG);
        }
        Ok(Self { start: start + LINE, count, lines, shape })
    }

    /// Number of n-grams.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// Number of places, gaps counted.
    pub(super) fn places(&self) -> u64 {
        self.lines * u64::from(self.shape.slots)
    }

    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// The n-gram of a suffix and a word.
    #[inline(always)]
    pub(super) fn find(&self, bytes: &[u8], parent: u64, word: u32) -> Option<Found> {
        let (home, wanted) = self.shape.home(parent, word);
        let line = self.line(bytes, home);
        let (skipped, count) = head(line);
        let (slots, width) = (self.shape.slots.max(1), self.shape.width());
        let mask = (1 << self.shape.remainder) - 1;
        if count == 0 {
            return None;
        }
        // Remainders rise, evenly enough to guess where one would be; from there one step after another.
        let mut index = ((u128::from(wanted) * u128::from(count)) >> self.shape.remainder) as u32;
        let mut came = Ordering::Equal;
        while index < count {
            let (mut at, mut line, mut slot) = (home, line, skipped + index);
            if slot >= slots {
                at += u64::from(slot / slots);
                slot %= slots;
                line = self.line(bytes, at);
            }
            match (from(line, HEAD + slot * width) & mask).cmp(&wanted) {
                Ordering::Equal => return Some(self.read(line, at, slot)),
                side if side == came.reverse() && side != Ordering::Equal => return None,
                Ordering::Less => (index, came) = (index + 1, Ordering::Less),
                Ordering::Greater => (index, came) = (index.checked_sub(1)?, Ordering::Greater),
            }
        }
        None
    }

    /// The n-grams whose home is a line: how many places are before the first one, and how many.
    pub(super) fn homed(&self, bytes: &[u8], home: u64) -> (u64, u64) {
        let (skipped, count) = head(self.line(bytes, home));
        (home * u64::from(self.shape.slots) + u64::from(skipped), u64::from(count))
    }

    /// What is at a place: the remainder and the rest.
    pub(super) fn entry(&self, bytes: &[u8], place: u64) -> (u64, Found) {
        let (at, slot) = (place / u64::from(self.shape.slots), (place % u64::from(self.shape.slots)) as u32);
        let line = self.line(bytes, at);
        let remainder = from(line, HEAD + slot * self.shape.width()) & ((1 << self.shape.remainder) - 1);
        (remainder, self.read(line, at, slot))
    }

    /// Where the line is that a search for an n-gram reads first.
    #[inline]
    pub(super) fn place(&self, parent: u64, word: u32) -> usize {
        self.start.wrapping_add((self.shape.home(parent, word).0 as usize).wrapping_mul(LINE))
    }

    #[inline(always)]
    fn read(&self, line: &[u8; LINE], at: u64, slot: u32) -> Found {
        let Shape { slots, remainder, extends, prob, backoff, .. } = self.shape;
        let mut bit = HEAD + slot * self.shape.width() + remainder;
        let mut next = |width: u32| {
            let value = from(line, bit) & ((1 << width) - 1);
            bit += width;
            value
        };
        let extends = next(extends) != 0;
        let (prob, backoff) = (next(prob), next(backoff));
        Found { at: at * u64::from(slots) + u64::from(slot), extends, prob, backoff }
    }

    #[inline]
    fn line<'a>(&self, bytes: &'a [u8], at: u64) -> &'a [u8; LINE] {
        let at = self.start.wrapping_add((at as usize).wrapping_mul(LINE));
        bytes.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or(&[0; LINE])
    }
}

/// Where the n-grams begin whose home a line is, counted from its first slot, and how many they are.
#[inline]
fn head(line: &[u8; LINE]) -> (u32, u32) {
    (u32::from(line[0]), u32::from(line[1]))
}

/// The bits of a line from one on: at least [`MAX_WIDTH`] that are in it, as a field is.
#[inline]
fn from(line: &[u8; LINE], bit: u32) -> u64 {
    let at = (bit as usize >> 3).min(LINE - 8);
    let chunk = line[at..].first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(chunk) >> ((bit - 8 * at as u32) & 63)
}

/// Bits of a key that its home does not tell.
fn remainder(keys: u64, homes: u64) -> u32 {
    let last = keys.saturating_sub(1);
    (0..=63).find(|&bits| last >> bits < homes).unwrap_or(63)
}

/// A line of the cache, and of the file.
pub(super) const LINE: usize = 64;
/// Bits at the beginning of a line.
pub(super) const HEAD: u32 = 16;
/// The most that the two numbers there can say.
pub(super) const MOST: u64 = 255;
const MOST_SLOTS: u32 = 64;
const WRONG: &str = "a table has another size than its header says";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_home_and_a_remainder_give_the_key_back(
            words in 1u64..1 << 30, parents in 1u64..1 << 33, count in 0u64..1 << 32, seed in any::<u64>(),
            picks in prop::collection::vec((any::<u64>(), any::<u64>()), 1..50),
        ) {
            let Some(shape) = Shape::new(words, parents, count, [1, 14, 6], 0.9) else { return Ok(()) };
            let shape = Shape { seed, ..shape };
            for (parent, word) in picks {
                let (parent, word) = (parent % parents, word % words);
                let (home, remainder) = shape.home(parent, word as u32);
                prop_assert!(home < shape.homes && remainder >> shape.remainder == 0);
                prop_assert_eq!(shape.key(home, remainder), (parent, word));
            }
        }

        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..700), edits in prop::collection::vec((0usize..7, any::<u64>()), 0..3)) {
            let mut all = bytes.clone();
            let lines = (bytes.len() / LINE) as u64;
            if bytes.len() >= LINE {
                all.truncate(LINE * lines as usize);
                for (at, value) in [3, 2, lines - 1, 7, 9, 12, 4].into_iter().enumerate() {
                    all[8 * at..8 * at + 8].copy_from_slice(&value.to_le_bytes());
                }
                for (at, value) in edits {
                    all[8 * at..8 * at + 8].copy_from_slice(&(value >> (value % 64)).to_le_bytes());
                }
            }
            if let Ok(table) = Table::open(&all, 0, all.len() as u64, (20, 30), false) {
                for parent in 0..30 {
                    table.find(&all, parent, parent as u32 % 20);
                }
                table.find(&all, u64::MAX, u32::MAX);
                table.entry(&all, table.places());
            }
        }
    }
}
