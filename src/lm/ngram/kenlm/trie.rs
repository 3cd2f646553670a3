//! N-grams in KenLM's bit-packed suffix tries, looked up in place.

use std::cmp::Ordering;
use std::sync::Arc;

use super::header::damaged;
use super::layout::{Array, FLOAT_BACKOFF_BITS, FLOAT_PROB_BITS, Quantiser, Records, TrieLayout};
use super::raw::{bits_at, f32_at, u64_at};
use crate::lm::bytes::Bytes;
use crate::lm::ngram::search::{Entry, Lookup, State};
use crate::lm::prefetch::{prefetch, prefetch_around};

/// Models of types 2 to 5.
///
/// The children of an n-gram are the n-grams with one more word on the left: a range of the next
/// order's records, ascending by that word.
pub(crate) struct Trie {
    pub(super) bytes: Arc<Bytes>,
    pub(super) layout: TrieLayout,
    /// Number of word ids.
    words: u32,
}

/// Children: records from `begin` to before `end`, which are always records of their order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    begin: u64,
    end: u64,
}

impl Trie {
    /// Looks at every unigram.
    ///
    /// # Errors
    /// If one is no number, or the pointer arrays do not begin as they must.
    pub(crate) fn new(bytes: Arc<Bytes>, layout: TrieLayout, words: usize) -> Result<Self, String> {
        for (_, array) in &layout.middles {
            if let Some(array) = array
                && u64_at(&bytes, array.start) != 0
            {
                return Err(damaged("an array of pointers does not begin with 0"));
            }
        }
        let model = Self { bytes, layout, words: words as u32 };
        for id in 0..words {
            if model.unigram_entry(id).is_none() {
                return Err(damaged(format!("the probability or backoff of word {id} is not a number")));
            }
        }
        Ok(model)
    }

    /// The records of an order from 2.
    #[inline]
    pub(super) fn records(&self, order: usize) -> &Records {
        self.layout.middles.get(order - 2).map_or(&self.layout.longest, |(records, _)| records)
    }

    /// Where the children of a record begin and end, as the file has it.
    #[inline]
    pub(super) fn pointers(&self, order: usize, record: u64) -> (u64, u64) {
        if order == 1 {
            let at = self.layout.unigrams + 16 * record as usize;
            return (u64_at(&self.bytes, at + 8), u64_at(&self.bytes, at + 24));
        }
        let (records, array) = &self.layout.middles[order - 2];
        let bit = u64::from(records.word_bits) + u64::from(records.value_bits);
        let inline = |record: u64| {
            bits_at(&self.bytes, records.start, record * records.bits() + bit, records.pointer_bits)
        };
        let (mut begin, mut end) = (inline(record), inline(record + 1));
        if let Some(array) = array {
            let upper = self.upper(array, record);
            begin |= upper << records.pointer_bits;
            end |= self.upper_from(array, upper, record + 1) << records.pointer_bits;
        }
        (begin, end)
    }

    /// The children of a record. What a damaged pointer leads to is cut or empty.
    #[inline]
    fn children(&self, order: usize, record: u64) -> Span {
        let (begin, end) = self.pointers(order, record);
        let end = end.min(self.records(order + 1).count);
        Span { begin: begin.min(end), end }
    }

    /// The upper part of a record's pointer: the last element of the array that is not above it.
    fn upper(&self, array: &Array, record: u64) -> u64 {
        let (mut low, mut high) = (0, array.len);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.element(array, middle) <= record { low = middle } else { high = middle }
        }
        low
    }

    /// The same for a record whose predecessor's is known: rarely more.
    #[inline]
    fn upper_from(&self, array: &Array, upper: u64, record: u64) -> u64 {
        let next = upper + 1;
        if next >= array.len || self.element(array, next) > record {
            upper
        } else {
            self.upper(array, record)
        }
    }

    #[inline]
    fn element(&self, array: &Array, at: u64) -> u64 {
        u64_at(&self.bytes, array.start + 8 * at as usize)
    }

    /// The word of a record.
    #[inline]
    pub(super) fn word(&self, records: &Records, record: u64) -> u32 {
        bits_at(&self.bytes, records.start, record * records.bits(), records.word_bits) as u32
    }

    /// The record of a word among children. Ids are spread evenly enough to guess where it is; and
    /// wherever it is, damaged records or not, the range shrinks.
    #[inline]
    fn find(&self, records: &Records, span: Span, word: u32) -> Option<u64> {
        let Span { begin: mut low, end: mut high } = span;
        let (mut left, mut right) = (0, self.words);
        let mut guesses = GUESSES;
        while low < high {
            let pivot = pivot(low, high, word, left, right, guesses > 0);
            guesses = guesses.saturating_sub(1);
            let found = self.word(records, pivot);
            match found.cmp(&word) {
                Ordering::Less => (low, left) = (pivot + 1, found),
                Ordering::Greater => (high, right) = (pivot, found),
                Ordering::Equal => return Some(pivot),
            }
        }
        None
    }

    /// The log10 probability of a record.
    #[inline]
    pub(super) fn prob(&self, order: usize, record: u64) -> f32 {
        let records = self.records(order);
        let bit = record * records.bits() + u64::from(records.word_bits);
        let field = |skip: u8, width| bits_at(&self.bytes, records.start, bit + u64::from(skip), width);
        match &self.layout.quantiser {
            Some(quantiser) => {
                let skip = if order < self.order() { quantiser.backoff_bits } else { 0 };
                self.quantised(quantiser.probs(order), field(skip, quantiser.prob_bits))
            }
            None => f32::from_bits(field(0, FLOAT_PROB_BITS) as u32 | SIGN),
        }
    }

    /// The log10 backoff of a record of an order below the highest.
    #[inline]
    pub(super) fn backoff(&self, order: usize, record: u64) -> f32 {
        let records = self.records(order);
        let bit = record * records.bits() + u64::from(records.word_bits);
        match &self.layout.quantiser {
            Some(quantiser @ Quantiser { backoff_bits, .. }) => {
                let index = bits_at(&self.bytes, records.start, bit, *backoff_bits);
                self.quantised(quantiser.backoffs(order), index)
            }
            None => {
                let bit = bit + u64::from(FLOAT_PROB_BITS);
                f32::from_bits(bits_at(&self.bytes, records.start, bit, FLOAT_BACKOFF_BITS) as u32)
            }
        }
    }

    #[inline]
    fn quantised(&self, table: usize, index: u64) -> f32 {
        f32_at(&self.bytes, table + 4 * index as usize)
    }

    fn unigram_entry(&self, id: usize) -> Option<(Entry, Span)> {
        let at = self.layout.unigrams + 16 * id;
        let span = self.children(1, id as u64);
        Some((entry(f32_at(&self.bytes, at), f32_at(&self.bytes, at + 4), span)?, span))
    }
}

impl Lookup for Trie {
    type Path = Span;
    type Ahead = ();

    const LEVELS: bool = true;

    fn order(&self) -> usize {
        self.layout.middles.len() + 2
    }

    fn unigram(&self, word: u32) -> (Entry, Span) {
        self.unigram_entry(word as usize).unwrap_or((Entry::NONE, Span { begin: 0, end: 0 }))
    }

    fn middle(&self, path: &mut Span, length: usize, word: u32) -> Option<Entry> {
        let record = self.find(self.records(length), *path, word)?;
        *path = self.children(length, record);
        entry(self.prob(length, record), self.backoff(length, record), *path)
    }

    fn longest(&self, path: Span, word: u32) -> Option<f32> {
        let record = self.find(&self.layout.longest, path, word)?;
        let prob = self.prob(self.order(), record);
        (prob < f32::INFINITY).then_some(prob)
    }

    #[inline]
    fn near(&self, word: u32, _state: &State) {
        let at = self.layout.unigrams + 16 * word as usize;
        prefetch(&self.bytes, at);
        prefetch(&self.bytes, at + 24);
    }

    #[inline]
    fn near_next(&self, path: &Span, length: usize, word: u32) {
        let records = self.records(length);
        let Span { begin, end } = *path;
        let first = pivot(begin, end, word, 0, self.words, true);
        prefetch_around(&self.bytes, records.start + ((first * records.bits()) >> 3) as usize);
    }
}

/// Where to look for a word next: where it would be if the words from `left` to before `right` were
/// spread evenly, or in the middle.
#[inline]
fn pivot(low: u64, high: u64, word: u32, left: u32, right: u32, guess: bool) -> u64 {
    let width = high - low;
    if !guess || width <= NARROW {
        return low + width / 2;
    }
    let share = width.saturating_mul(u64::from(word.saturating_sub(left)));
    low + (share / u64::from(right.saturating_sub(left).max(1))).min(width - 1)
}

/// None if the values are not finite (a probability may be 0, its log negative infinity): such an
/// n-gram counts as not there.
fn entry(prob: f32, backoff: f32, children: Span) -> Option<Entry> {
    let sound = prob < f32::INFINITY && backoff.is_finite();
    sound.then_some(Entry { prob, backoff, rest: prob, independent: children.begin == children.end })
}

const SIGN: u32 = 1 << 31;
/// Guesses before a search halves: on even ids few are needed, on others they do not help.
const GUESSES: u32 = 6;
/// Ranges that are halved at once.
const NARROW: u64 = 8;
