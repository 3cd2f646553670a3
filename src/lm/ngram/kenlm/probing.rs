//! N-grams in KenLM's hash tables, looked up in place.

use std::sync::Arc;

use super::header::damaged;
use super::layout::{LONGEST_ENTRY, MIDDLE_ENTRY, REST_ENTRY, Table, Tables};
use super::lexicon::{find_from, place};
use super::raw::f32_at;
use crate::lm::bytes::Bytes;
use crate::lm::ngram::keyed::Keyed;
use crate::lm::ngram::search::Entry;
use crate::lm::prefetch::{prefetch, prefetch_many};

/// Models of types 0 and 1.
pub(crate) struct Probing {
    pub(super) bytes: Arc<Bytes>,
    pub(super) layout: Tables,
    /// Whether entries have rest costs.
    rest: bool,
}

impl Probing {
    /// Looks at every unigram.
    ///
    /// # Errors
    /// If one is no number.
    pub(crate) fn new(bytes: Arc<Bytes>, layout: Tables, words: usize, rest: bool) -> Result<Self, String> {
        let model = Self { bytes, layout, rest };
        let view = model.view();
        for id in 0..words {
            if view.entry(view.unigram_at(id)).is_none() {
                return Err(damaged(format!("the probability or backoff of word {id} is not a number")));
            }
        }
        Ok(model)
    }

    /// What scoring reads.
    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        let Tables { unigrams, levels, .. } = &self.layout;
        View { bytes: &self.bytes, unigrams: *unigrams, levels, rest: self.rest }
    }
}

/// A model's bytes, at hand.
pub(crate) struct View<'a> {
    bytes: &'a [u8],
    /// Where the first unigram is, and how many bytes each takes.
    unigrams: (usize, usize),
    levels: &'a [Table],
    rest: bool,
}

impl View<'_> {
    #[inline]
    fn unigram_at(&self, id: usize) -> usize {
        let (start, size) = self.unigrams;
        start + id * size
    }

    /// The weights of a word alone.
    #[inline]
    fn entry(&self, at: usize) -> Option<Entry> {
        let rest = self.rest.then(|| f32_at(self.bytes, at + 8));
        entry_of(f32_at(self.bytes, at), f32_at(self.bytes, at + 4), rest)
    }
}

impl Keyed for View<'_> {
    #[inline]
    fn order(&self) -> usize {
        self.levels.len() + 1
    }

    #[inline]
    fn unigram(&self, word: u32) -> Entry {
        self.entry(self.unigram_at(word as usize)).unwrap_or(Entry::NONE)
    }

    #[inline]
    fn near_unigram(&self, word: u32) {
        prefetch(self.bytes, self.unigram_at(word as usize));
    }

    #[inline]
    fn place(&self, length: usize, key: u64) -> usize {
        place(self.levels[length - 2], key)
    }

    #[inline]
    fn near_place(&self, _length: usize, place: usize) {
        prefetch_many(self.bytes, place);
    }

    #[inline]
    fn middle(&self, length: usize, key: u64, place: usize) -> Option<Entry> {
        let table = self.levels[length - 2];
        if self.rest {
            let (entry, _) = find_from::<REST_ENTRY>(self.bytes, table, key, place)?;
            return entry_of(f32_at(entry, 8), f32_at(entry, 12), Some(f32_at(entry, 16)));
        }
        let (entry, _) = find_from::<MIDDLE_ENTRY>(self.bytes, table, key, place)?;
        entry_of(f32_at(entry, 8), f32_at(entry, 12), None)
    }

    #[inline]
    fn longest(&self, key: u64, place: usize) -> Option<f32> {
        let (entry, _) = find_from::<LONGEST_ENTRY>(self.bytes, *self.levels.last()?, key, place)?;
        let prob = -f32_at(entry, 8).abs();
        (!prob.is_nan()).then_some(prob)
    }
}

/// None if the weights are not finite (a probability may be 0, its log negative infinity): such an n-gram
/// counts as not there.
#[inline]
fn entry_of(prob: f32, backoff: f32, rest: Option<f32>) -> Option<Entry> {
    let value = -prob.abs();
    let rest = rest.unwrap_or(value);
    let sound = !value.is_nan() && backoff.is_finite() && !rest.is_nan();
    sound.then_some(Entry { prob: value, backoff, rest, independent: prob.is_sign_negative() })
}
