//! N-grams in KenLM's hash tables, looked up in place.

use std::sync::Arc;

use super::header::damaged;
use super::layout::Tables;
use super::lexicon::{find, place};
use super::raw::f32_at;
use crate::lm::bytes::Bytes;
use crate::lm::ngram::hashed::extend;
use crate::lm::ngram::search::{Entry, Lookup, State};
use crate::lm::prefetch::{prefetch, prefetch_on};

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
        for id in 0..words {
            if model.entry(&model.bytes, model.unigram_at(id)).is_none() {
                return Err(damaged(format!("the probability or backoff of word {id} is not a number")));
            }
        }
        Ok(model)
    }

    fn unigram_at(&self, id: usize) -> usize {
        let (start, size) = self.layout.unigrams;
        start + id * size
    }

    /// The weights at a place; none if they are not finite (a probability may be 0, its log
    /// negative infinity): such an n-gram counts as not there.
    #[inline]
    fn entry(&self, bytes: &[u8], at: usize) -> Option<Entry> {
        let (prob, backoff) = (f32_at(bytes, at), f32_at(bytes, at + 4));
        let value = -prob.abs();
        let rest = if self.rest { f32_at(bytes, at + 8) } else { value };
        let sound = !value.is_nan() && backoff.is_finite() && !rest.is_nan();
        sound.then_some(Entry { prob: value, backoff, rest, independent: prob.is_sign_negative() })
    }
}

impl Lookup for Probing {
    type Path = u64;

    const LEVELS: bool = false;

    fn order(&self) -> usize {
        self.layout.levels.len() + 1
    }

    fn unigram(&self, word: u32) -> (Entry, u64) {
        let entry = self.entry(&self.bytes, self.unigram_at(word as usize));
        (entry.unwrap_or(Entry::NONE), u64::from(word))
    }

    fn middle(&self, path: &mut u64, length: usize, word: u32) -> Option<Entry> {
        *path = extend(*path, word);
        let bytes = &self.bytes;
        self.entry(bytes, find(bytes, self.layout.levels[length - 2], *path)? + 8)
    }

    fn longest(&self, path: u64, word: u32) -> Option<f32> {
        let table = *self.layout.levels.last()?;
        let bytes = &self.bytes;
        let prob = -f32_at(bytes, find(bytes, table, extend(path, word))? + 8).abs();
        (!prob.is_nan()).then_some(prob)
    }

    /// Keys depend on the words alone, so every order's place is known before the first look.
    #[inline]
    fn near(&self, word: u32, state: &State) {
        let bytes = &self.bytes;
        prefetch(bytes, self.unigram_at(word as usize));
        let mut key = u64::from(word);
        for (word, &table) in state.words().zip(&self.layout.levels) {
            key = extend(key, word);
            prefetch_on(bytes, place(table, key));
        }
    }
}
