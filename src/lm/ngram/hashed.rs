//! N-grams in hash tables, one per order, built from ARPA.

use super::arpa::{Fault, MAX_ORDER, Sink};
use super::keyed::{Keyed, extend, key};
use super::search::{Entry, continues};
use super::table::{Added, Table};
use crate::lm::prefetch::prefetch;

/// A model whose n-grams are found by a 64-bit hash of their words; if `FIXED`, in tables that are
/// those of a KenLM file.
pub(crate) struct Hashed<const FIXED: bool = false> {
    pub(crate) unigrams: Vec<Unigram>,
    /// Orders 2 and up.
    pub(crate) tables: Vec<Table<FIXED>>,
}

/// Builds a [`Hashed`] from an ARPA file.
///
/// An n-gram needs three far-apart places of memory. So n-grams go in by the handful: all their
/// places are asked for first, and are at hand when they are written.
pub(crate) struct Builder<const FIXED: bool = false> {
    model: Hashed<FIXED>,
    waiting: Vec<Waiting>,
    count: usize,
}

#[derive(Clone)]
struct Waiting {
    line: u64,
    order: usize,
    words: [u32; MAX_ORDER],
    /// `keys[k]` is the key of the last `k` words.
    keys: [u64; MAX_ORDER + 1],
    /// The key of all words but the last.
    context: u64,
    prob: f32,
    backoff: f32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Unigram {
    /// As in [`super::table::Slot`].
    pub(crate) prob: f32,
    pub(crate) backoff: f32,
}

impl<const FIXED: bool> Hashed<FIXED> {
    /// Number of n-grams per order, with `<unk>` and those that were inserted because longer ones
    /// need them.
    pub(crate) fn counts(&self) -> Vec<u64> {
        let tables = self.tables.iter().map(Table::<FIXED>::len);
        std::iter::once(self.unigrams.len()).chain(tables).map(|n| n as u64).collect()
    }

    /// Makes every suffix of an n-gram present and marks it as extended to the left. `keys[k]` is
    /// the key of the last `k` words.
    ///
    /// Pruning (SRILM's) may drop "b c" and keep "a b c". A search goes from "c" over "b c", so a
    /// blank takes its place, with the probability that backing off gives.
    fn link_suffixes(&mut self, words: &[u32], keys: &[u64; MAX_ORDER + 1]) -> Result<(), String> {
        let order = words.len();
        let mut basis = order - 1;
        let mut prob = loop {
            if basis == 1 {
                let unigram = &mut self.unigrams[words[order - 1] as usize];
                unigram.prob = unigram.prob.abs();
                break -unigram.prob;
            }
            let table = &mut self.tables[basis - 2];
            if let Some(place) = table.find(keys[basis]) {
                let prob = table.at(place).prob.abs();
                table.set_prob(place, prob);
                break -prob;
            }
            basis -= 1;
        };
        for length in basis + 1..order {
            let context = &words[order - length..order - 1];
            prob += self.continued(context, key(context)).unwrap_or(0.0);
            if self.tables[length - 2].insert(keys[length], prob.abs(), -0.0) == Added::Full {
                return Err(full::<FIXED>(length));
            }
        }
        Ok(())
    }

    /// Notes that an n-gram continues these words, and gives their backoff; `None` if they are not there.
    fn continued(&mut self, words: &[u32], key: u64) -> Option<f32> {
        if let &[word] = words {
            let backoff = &mut self.unigrams[word as usize].backoff;
            *backoff = continued(*backoff);
            return Some(*backoff);
        }
        let table = &mut self.tables[words.len() - 2];
        let place = table.find(key)?;
        let backoff = table.at(place).backoff;
        if !continues(backoff) {
            table.set_backoff(place, continued(backoff));
        }
        Some(continued(backoff))
    }

    /// Asks for the memory that [`Hashed::insert`] will write to.
    fn near_insert(&self, new: &Waiting) {
        let order = new.order;
        self.tables[order - 2].near(new.keys[order]);
        if order > 2 {
            let shorter = &self.tables[order - 3];
            shorter.near(new.keys[order - 1]);
            shorter.near(new.context);
        }
    }

    fn insert(&mut self, new: &Waiting) -> Result<(), String> {
        let order = new.order;
        let words = &new.words[..order];
        match self.tables[order - 2].insert(new.keys[order], independent(new.prob), new.backoff) {
            Added::New => {}
            Added::Known => {
                return Err(format!(
                    "this {order}-gram is listed twice (`<unk>` and `<UNK>` are one word); remove one"
                ));
            }
            Added::Full => return Err(full::<FIXED>(order)),
        }
        self.link_suffixes(words, &new.keys)?;
        let shorter = order - 1;
        let context = self.continued(&words[..shorter], new.context);
        context.map(drop).ok_or_else(|| {
            format!(
                "the first {shorter} words of this {order}-gram are not among the {shorter}-grams, where every context must be"
            )
        })
    }
}

impl<const FIXED: bool> Builder<FIXED> {
    /// A model that knows no n-gram yet; `unknown` is the log10 probability of unknown words
    /// unless the file has one.
    pub(crate) fn new(unknown: f32) -> Self {
        Self::with(unknown, Vec::new())
    }

    /// The same with its tables for orders 2 and up.
    pub(crate) fn with(unknown: f32, tables: Vec<Table<FIXED>>) -> Self {
        // Its backoff is +0.0: KenLM keeps a missing unknown word in the state.
        let unigrams = vec![Unigram { prob: independent(unknown), backoff: 0.0 }];
        let empty = Waiting {
            line: 0,
            order: 0,
            words: [0; MAX_ORDER],
            keys: [0; MAX_ORDER + 1],
            context: 0,
            prob: 0.0,
            backoff: 0.0,
        };
        Self { model: Hashed { unigrams, tables }, waiting: vec![empty; WAITING], count: 0 }
    }

    /// The model of all that was taken in.
    pub(crate) fn finish(self) -> Hashed<FIXED> {
        self.model
    }
}

impl<const FIXED: bool> Sink for Builder<FIXED> {
    fn counts(&mut self, counts: &[u64], bytes: Option<u64>) {
        if FIXED {
            return;
        }
        // No n-gram takes less than a byte, packed or not; where the size is unknown tables grow.
        let bound = |count: u64| count.min(bytes.unwrap_or(0)) as usize;
        self.model.unigrams.reserve(bound(counts[0]));
        self.model.tables = counts[1..].iter().map(|&count| Table::new(bound(count))).collect();
    }

    fn unigram(&mut self, id: u32, prob: f32, backoff: f32) {
        // Unlike longer n-grams, as it stands: a probability of +0.0, which estimators write for
        // `<s>`, thereby says "extended to the left". KenLM's does, and only its flag shows it.
        let unigram = Unigram { prob, backoff };
        match self.model.unigrams.get_mut(id as usize) {
            Some(old) => *old = unigram,
            None => self.model.unigrams.push(unigram),
        }
    }

    fn ngram(&mut self, line: u64, words: &[u32], prob: f32, backoff: f32) -> Result<(), Fault> {
        if self.count == WAITING {
            self.settle()?;
        }
        let new = &mut self.waiting[self.count];
        self.count += 1;
        let order = words.len();
        (new.line, new.order, new.prob, new.backoff) = (line, order, prob, backoff);
        new.words[..order].copy_from_slice(words);
        new.keys[1] = u64::from(words[order - 1]);
        for length in 2..=order {
            new.keys[length] = extend(new.keys[length - 1], words[order - length]);
        }
        new.context = key(&words[..order - 1]);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Fault> {
        let waiting = &self.waiting[..std::mem::take(&mut self.count)];
        for new in waiting {
            self.model.near_insert(new);
        }
        for new in waiting {
            self.model.insert(new).map_err(|what| Fault { line: new.line, what })?;
        }
        Ok(())
    }
}

impl<const FIXED: bool> Keyed for Hashed<FIXED> {
    #[inline]
    fn order(&self) -> usize {
        self.tables.len() + 1
    }

    #[inline]
    fn unigram(&self, word: u32) -> Entry {
        let Unigram { prob, backoff } = self.unigrams[word as usize];
        entry(prob, backoff)
    }

    #[inline]
    fn near_unigram(&self, word: u32) {
        prefetch(&self.unigrams, word as usize);
    }

    #[inline]
    fn place(&self, length: usize, key: u64) -> usize {
        self.tables[length - 2].ideal(key)
    }

    #[inline]
    fn near_place(&self, length: usize, place: usize) {
        self.tables[length - 2].near_place(place);
    }

    #[inline]
    fn middle(&self, length: usize, key: u64, place: usize) -> Option<Entry> {
        let slot = self.tables[length - 2].find_from(key, place)?;
        Some(entry(slot.prob, slot.backoff))
    }

    #[inline]
    fn longest(&self, key: u64, place: usize) -> Option<f32> {
        Some(-self.tables.last()?.find_from(key, place)?.prob.abs())
    }
}

fn full<const FIXED: bool>(order: usize) -> String {
    if !FIXED {
        return format!("there is not enough memory for the {order}-grams");
    }
    format!(
        "the table of {order}-grams has no room for the n-grams that pruning left out; build with a larger multiplier"
    )
}

fn entry(prob: f32, backoff: f32) -> Entry {
    Entry { prob: -prob.abs(), backoff, rest: -prob.abs(), independent: prob.is_sign_negative() }
}

/// A probability marked as not extended to the left.
fn independent(prob: f32) -> f32 {
    -prob.abs()
}

/// The backoff of an n-gram that another continues.
fn continued(backoff: f32) -> f32 {
    if continues(backoff) { backoff } else { 0.0 }
}

/// A handful: more than a processor can have underway at once, and it fits the nearest cache.
const WAITING: usize = 32;
