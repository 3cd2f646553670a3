//! The first pass: n-grams from ARPA, sorted in the order of the trie.

use super::super::arpa::{Fault, Sink};
use super::key::{Fields, Key, Ngram};
use super::sort::Sorter;
use super::spool::Space;

/// What an ARPA file says.
pub(super) struct Collected<const W: usize> {
    pub(super) fields: Fields,
    /// By id.
    pub(super) unigrams: Vec<Unigram>,
    /// Orders 2 and up.
    pub(super) ngrams: Vec<Sorter<Ngram<W>>>,
    counts: Vec<u64>,
    changed: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Unigram {
    /// Its sign is clear if some n-gram ends with the word.
    pub(super) prob: f32,
    pub(super) backoff: f32,
    /// The word's place among all by falling probability.
    pub(super) rank: u32,
}

impl<const W: usize> Collected<W> {
    /// For a file with these counts; `unknown` is the log10 probability of unknown words if it
    /// lists none.
    pub(super) fn new(space: &Space, counts: &[u64], unknown: f32) -> Self {
        Self {
            fields: Fields::new(counts[0] + 1),
            unigrams: vec![Unigram { prob: -unknown.abs(), backoff: 0.0, rank: 0 }],
            ngrams: counts[1..].iter().map(|_| Sorter::new(space, space.sorting(1))).collect(),
            counts: counts.to_vec(),
            changed: false,
        }
    }

    /// Gives words their ranks: those that are met most often have the smallest, and so the
    /// shortest codes.
    pub(super) fn rank(&mut self) {
        let mut ids: Vec<u32> = (0..self.unigrams.len() as u32).collect();
        ids.sort_by(|&a, &b| {
            let prob = |id: u32| self.unigrams[id as usize].prob.abs();
            prob(a).total_cmp(&prob(b)).then(a.cmp(&b))
        });
        for (rank, &id) in (0..).zip(&ids) {
            self.unigrams[id as usize].rank = rank;
        }
    }
}

impl<const W: usize> Sink for Collected<W> {
    fn counts(&mut self, counts: &[u64], _bytes: Option<u64>) {
        self.changed = counts != self.counts;
    }

    fn unigram(&mut self, id: u32, prob: f32, backoff: f32) {
        let unigram = Unigram { prob, backoff, rank: 0 };
        match self.unigrams.get_mut(id as usize) {
            Some(old) => *old = unigram,
            None => self.unigrams.push(unigram),
        }
    }

    fn ngram(&mut self, line: u64, words: &[u32], prob: f32, backoff: f32) -> Result<(), Fault> {
        if self.changed {
            return Err(Fault { line, what: "the file changed while it was read; start again".into() });
        }
        if self.unigrams.iter().take(2).all(|unigram| unigram.rank == 0) {
            self.rank();
        }
        let mut key = Key::EMPTY;
        for (at, &word) in words.iter().rev().enumerate() {
            self.fields.set(&mut key, at, self.unigrams[word as usize].rank);
        }
        let ngram = Ngram { key, prob: prob.to_bits(), backoff: backoff.to_bits() };
        self.ngrams[words.len() - 2].push(ngram).map_err(|error| fault(line, &error))
    }

    fn settle(&mut self) -> Result<(), Fault> {
        let settled = self.ngrams.iter_mut().try_for_each(Sorter::settle);
        settled.map_err(|error| fault(0, &error))
    }
}

fn fault(line: u64, error: &std::io::Error) -> Fault {
    Fault { line, what: format!("a temporary file could not be written ({error}); make room for it") }
}
