//! Where everything is in a file: computed from its header, with every size checked.

use std::ops::Range;

use super::header::{Header, Kind, damaged};
use super::raw::{WIDEST, bits_of};
use crate::lm::ngram::modulo::Modulo;

/// One order's hash table, or the vocabulary's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) start: usize,
    pub(crate) buckets: Modulo,
    /// Bytes of an entry.
    pub(crate) entry: usize,
}

/// A file of hash tables.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    pub(crate) vocabulary: Table,
    /// Where the first unigram is, and how many bytes each takes.
    pub(crate) unigrams: (usize, usize),
    /// Orders 2 and up; the last has no backoffs.
    pub(crate) levels: Vec<Table>,
    pub(crate) sections: Sections,
}

/// Bit-packed records of one order: the word in the lowest bits, then values, then a pointer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Records {
    pub(crate) start: usize,
    /// One less than there are: the last one carries the end of the one before it.
    pub(crate) count: u64,
    pub(crate) word_bits: u8,
    pub(crate) value_bits: u8,
    /// Bits of the pointer that are in the record.
    pub(crate) pointer_bits: u8,
}

/// The upper parts of an order's pointers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Array {
    /// Where the version and the limit are.
    pub(crate) header: usize,
    /// Where the 64-bit numbers begin: element `i` is the first record whose pointer has `i` on top.
    pub(crate) start: usize,
    pub(crate) len: u64,
}

/// Tables of quantised values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantiser {
    pub(crate) start: usize,
    pub(crate) prob_bits: u8,
    pub(crate) backoff_bits: u8,
}

/// A file that holds a trie.
#[derive(Debug, Clone)]
pub(crate) struct TrieLayout {
    /// Where the number of words and then their hashes are.
    pub(crate) vocabulary: usize,
    pub(crate) quantiser: Option<Quantiser>,
    pub(crate) unigrams: usize,
    /// Orders 2 to the highest but one.
    pub(crate) middles: Vec<(Records, Option<Array>)>,
    pub(crate) longest: Records,
    pub(crate) sections: Sections,
}

/// The parts of a file, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sections {
    pub(crate) parts: Vec<(String, Range<usize>)>,
}

impl Tables {
    /// The layout that the header implies.
    ///
    /// # Errors
    /// If the sizes are beyond what can be counted.
    pub(crate) fn new(header: &Header) -> Result<Self, String> {
        let rest = header.kind == Kind::RestProbing;
        let (unigram, middle) = if rest { (12, REST_ENTRY) } else { (8, MIDDLE_ENTRY) };
        let order = header.counts.len();
        let mut sections = Sections::after(order);
        let mut table = |name: String, before: usize, count: u64, entry: usize| {
            let buckets = buckets(header.multiplier, count)?;
            let bytes = buckets.checked_mul(entry as u64)?.checked_add(before as u64)?;
            let start = sections.push(name, bytes)?.start + before;
            Some(Table { start, buckets: Modulo::new(buckets), entry })
        };
        let vocabulary =
            table("vocabulary".into(), 8, header.counts[0], VOCABULARY_ENTRY).ok_or_else(large)?;
        let words = header.counts[0] + 1;
        let unigrams = sections.push("1-grams".into(), words * unigram).ok_or_else(large)?.start;
        let mut levels = Vec::with_capacity(order - 1);
        for (n, &count) in (2..).zip(&header.counts[1..]) {
            let entry = if n == order { LONGEST_ENTRY } else { middle };
            let buckets = buckets(header.multiplier, count);
            let level = buckets.and_then(|buckets| {
                let bytes = buckets.checked_mul(entry as u64)?;
                let start = sections.push(format!("{n}-grams"), bytes)?.start;
                Some(Table { start, buckets: Modulo::new(buckets), entry })
            });
            levels.push(level.ok_or_else(large)?);
        }
        Ok(Self { vocabulary, unigrams: (unigrams, unigram as usize), levels, sections })
    }
}

impl TrieLayout {
    /// The layout that the header implies.
    ///
    /// `quantiser_at` gives the bits of quantised probabilities and backoffs from the place where
    /// the quantiser's header would be, `array_at` the limit on chopped bits likewise.
    ///
    /// # Errors
    /// If the sizes are beyond what can be counted, or the bits beyond what the format can do.
    pub(crate) fn new(
        header: &Header,
        quantiser_at: impl FnOnce(usize) -> (u8, u8),
        array_at: impl FnOnce(usize) -> u8,
    ) -> Result<Self, String> {
        let counts = &header.counts;
        let order = counts.len();
        let mut sections = Sections::after(order);
        let vocabulary = sections.push("vocabulary".into(), 8 + 8 * counts[0]).ok_or_else(large)?.start;
        let mut quantiser = None;
        if header.kind.quantised() {
            let start = sections.end();
            let (prob_bits, backoff_bits) = quantiser_at(start);
            for (what, bits) in [("probabilities", prob_bits), ("backoffs", backoff_bits)] {
                if !(1..=MOST_QUANTISER_BITS).contains(&bits) {
                    return Err(damaged(format!(
                        "{what} are quantised to {bits} bits, and can be to 1 to {MOST_QUANTISER_BITS}"
                    )));
                }
            }
            let middle = (1u64 << prob_bits) + (1 << backoff_bits);
            let bytes = 8 + 4 * (middle * (order as u64 - 2) + (1 << prob_bits));
            sections.push("quantiser".into(), bytes).ok_or_else(large)?;
            quantiser = Some(Quantiser { start, prob_bits, backoff_bits });
        }
        let unigrams = sections.push("1-grams".into(), 16 * (counts[0] + 2)).ok_or_else(large)?.start;
        let word_bits = bits_of(counts[0]);
        let (middle_bits, longest_bits) = match quantiser {
            Some(Quantiser { prob_bits, backoff_bits, .. }) => (prob_bits + backoff_bits, prob_bits),
            None => (FLOAT_PROB_BITS + FLOAT_BACKOFF_BITS, FLOAT_PROB_BITS),
        };
        let limit = if header.kind.array() && order > 2 { array_at(sections.end()) } else { 0 };
        let mut middles = Vec::with_capacity(order - 2);
        for n in 2..order {
            let (count, next) = (counts[n - 1], counts[n]);
            let mut array = None;
            let mut pointer_bits = bits_of(next);
            if header.kind.array() {
                let chop = best_chop(count, next, limit);
                pointer_bits -= chop;
                let len = (next >> pointer_bits) + 1;
                let bytes = len.checked_add(1).and_then(|len| len.checked_mul(8)?.checked_add(7));
                let place = bytes.and_then(|bytes| sections.push(format!("{n}-gram pointers"), bytes));
                let header = place.ok_or_else(large)?.start;
                array = Some(Array { header, start: header.next_multiple_of(8) + 8, len });
            }
            if pointer_bits > WIDEST {
                return Err(large());
            }
            let records = Records { start: 0, count, word_bits, value_bits: middle_bits, pointer_bits };
            middles.push((records.placed(n, &mut sections).ok_or_else(large)?, array));
        }
        let longest = Records {
            start: 0,
            count: counts[order - 1],
            word_bits,
            value_bits: longest_bits,
            pointer_bits: 0,
        };
        let longest = longest.placed(order, &mut sections).ok_or_else(large)?;
        Ok(Self { vocabulary, quantiser, unigrams, middles, longest, sections })
    }
}

impl Records {
    /// Bits of a record.
    #[inline]
    pub(crate) fn bits(&self) -> u64 {
        u64::from(self.word_bits) + u64::from(self.value_bits) + u64::from(self.pointer_bits)
    }

    fn placed(self, order: usize, sections: &mut Sections) -> Option<Self> {
        let bits = self.count.checked_add(1)?.checked_mul(self.bits())?;
        let start = sections.push(format!("{order}-grams"), bits.div_ceil(8) + SLACK)?.start;
        Some(Self { start, ..self })
    }
}

impl Quantiser {
    /// Where the probabilities of an order are.
    pub(crate) fn probs(&self, order: usize) -> usize {
        self.start + 8 + (order - 2) * 4 * ((1 << self.prob_bits) + (1 << self.backoff_bits))
    }

    /// Where the backoffs of an order below the highest are.
    pub(crate) fn backoffs(&self, order: usize) -> usize {
        self.probs(order) + (4 << self.prob_bits)
    }
}

impl Sections {
    /// Where the next part would begin.
    pub(crate) fn end(&self) -> usize {
        self.parts.last().map_or(0, |(_, range)| range.end)
    }

    /// Checks that a file is long enough.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn fit(&self, bytes: &[u8]) -> Result<(), String> {
        if self.end() <= bytes.len() {
            return Ok(());
        }
        Err(format!(
            "has {} bytes, and its header promises at least {}; it was cut short or is damaged: copy or build it again",
            bytes.len(),
            self.end()
        ))
    }

    fn after(order: usize) -> Self {
        Self { parts: vec![("header".into(), 0..Header::size(order))] }
    }

    fn push(&mut self, name: String, bytes: u64) -> Option<Range<usize>> {
        let start = self.end();
        let end = start.checked_add(usize::try_from(bytes).ok()?)?;
        self.parts.push((name, start..end));
        Some(start..end)
    }
}

/// How many slots a hash table for `count` entries has. The product is rounded to `f32`, as is
/// `count`: the format's way.
pub(crate) fn buckets(multiplier: f32, count: u64) -> Option<u64> {
    Some(count.checked_add(1)?.max((multiplier * count as f32) as u64))
}

/// How many upper bits of pointers go to the array: what takes the least room.
fn best_chop(count: u64, next: u64, limit: u8) -> u8 {
    let required = bits_of(next);
    let cost = |chop: u8| {
        let array = i128::from(next >> (required - chop)) * 64;
        array - (i128::from(count) + 1) * i128::from(chop)
    };
    // The first of equals.
    (0..=required.min(limit)).min_by_key(|&chop| cost(chop)).unwrap_or(0)
}

fn large() -> String {
    damaged("the counts in the header are too large")
}

/// A hash and an id.
pub(crate) const VOCABULARY_ENTRY: usize = 12;
/// A key and a probability.
pub(crate) const LONGEST_ENTRY: usize = 12;
/// Bytes of an entry of the orders between: the key, the probability, the backoff; and with a rest cost.
pub(crate) const MIDDLE_ENTRY: usize = 16;
pub(crate) const REST_ENTRY: usize = 20;
/// Probabilities are negative, so their sign is left out.
pub(crate) const FLOAT_PROB_BITS: u8 = 31;
pub(crate) const FLOAT_BACKOFF_BITS: u8 = 32;
pub(crate) const MOST_QUANTISER_BITS: u8 = 25;
/// Behind records, so that 64 bits can be read from any of them.
const SLACK: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_counts_are_rounded_as_the_format_rounds_them() {
        assert_eq!(buckets(1.5, 37), Some(55));
        assert_eq!(buckets(1.0, 10), Some(11));
        // 2^24 + 1 is no f32, and neither are many products above 2^24.
        assert_eq!(buckets(1.0, (1 << 24) + 1), Some((1 << 24) + 2));
        assert_eq!(buckets(1.5, 16_777_217), Some(25_165_824));
        assert_eq!(buckets(1.1, 33_554_431), Some(36_909_876));
        assert_eq!(buckets(f32::MAX, u64::MAX), None);
    }

    #[test]
    fn sizes_beyond_all_bounds_are_refused() {
        for kind in [Kind::Probing, Kind::RestProbing] {
            let header = Header { kind, multiplier: 1e38, spelled: false, counts: vec![5, 1 << 40] };
            assert!(Tables::new(&header).is_err());
        }
        let counts = vec![5, 1 << 60, 1 << 60];
        let header = Header { kind: Kind::QuantArrayTrie, multiplier: 1.5, spelled: false, counts };
        assert!(TrieLayout::new(&header, |_| (8, 8), |_| 255).is_err());
        let header = Header { counts: vec![5, 6, 7], ..header };
        for bits in [(0, 8), (8, 0), (26, 8), (8, 255)] {
            assert!(TrieLayout::new(&header, |_| bits, |_| 255).is_err());
        }
        assert!(TrieLayout::new(&header, |_| (25, 25), |_| 255).is_ok());
    }
}
