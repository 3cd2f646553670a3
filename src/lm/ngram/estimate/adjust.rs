//! Adjusted counts of all orders, in one pass over the n-grams of the highest.
//!
//! An n-gram of the highest order, or one that begins with `<s>`, counts as often as it occurs.
//! Any other counts the different words that come before it (Kneser and Ney 1995). In suffix
//! order, the n-grams that end in a shorter one lie together, so a counter for each order is
//! enough (Heafield, Pouzyrevsky, Clark and Koehn 2013).

use std::sync::Arc;

use super::corpus::BOS;
use super::discount::Statistics;
use super::key::{Key, Packing};
use super::merge::Merge;
use super::room::make_room;
use super::sort::{Codec, Entry, Pool, Sorter, Value};
use super::watch::Watch;
use crate::Result;

/// What the model leaves out.
pub(super) struct Pruning<'a> {
    /// For each order from 1: n-grams that occur this often, or less, are left out.
    pub thresholds: Vec<u64>,
    /// Words that stay, by id; `None`: all.
    pub kept: Option<&'a [bool]>,
}

/// Adjusted counts.
pub(super) struct Adjusted<const L: usize> {
    /// Of the words, by id.
    pub unigrams: Vec<u64>,
    /// Of n-grams from order 2, in context order; values are made by [`Count::pack`].
    pub orders: Vec<Sorter<L>>,
    /// For each order from 1.
    pub statistics: Vec<Statistics>,
    /// Different n-grams of each order from 1, `<s>` and `<unk>` among the first.
    pub counted: Vec<u64>,
    /// Those that the model keeps.
    pub kept: Vec<u64>,
}

/// The adjusted count of an n-gram, and whether the model leaves it out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub adjusted: u64,
    pub pruned: bool,
}

/// Adjusts the counts of n-grams in suffix order.
pub(super) fn adjust<const L: usize>(
    mut grams: Merge<L>,
    words: usize,
    packing: Packing,
    pruning: &Pruning<'_>,
    pool: &Arc<Pool<L>>,
    watch: &mut Watch<'_>,
) -> Result<Adjusted<L>> {
    let mut adjuster = Adjuster::new(words, packing, pruning, pool);
    while let Some(gram) = grams.next()? {
        adjuster.add(gram)?;
        watch.advance(gram.value)?;
    }
    adjuster.finish()
}

struct Adjuster<'a, const L: usize> {
    order: usize,
    packing: Packing,
    pruning: &'a Pruning<'a>,
    pool: &'a Pool<L>,
    last: Option<Key<L>>,
    /// For each order: how often the last n-gram of this order occurs.
    occurs: Vec<u64>,
    /// For each order: different words before it.
    before: Vec<u64>,
    /// The order at which the last n-gram begins with `<s>`; longer ones are only padding.
    begins: usize,
    /// The longest order at which all words are kept.
    known: usize,
    out: Adjusted<L>,
}

impl<'a, const L: usize> Adjuster<'a, L> {
    fn new(words: usize, packing: Packing, pruning: &'a Pruning<'a>, pool: &'a Arc<Pool<L>>) -> Self {
        let order = pruning.thresholds.len();
        let sorter = |n: usize| Sorter::new(pool, Codec { key: packing.bytes(n), value: Value::Number });
        let out = Adjusted {
            unigrams: vec![0; words],
            orders: (2..=order).map(sorter).collect(),
            statistics: vec![Statistics::default(); order],
            counted: vec![0; order],
            kept: vec![0; order],
        };
        Self {
            order,
            packing,
            pruning,
            pool,
            last: None,
            occurs: vec![0; order + 1],
            before: vec![0; order + 1],
            begins: order,
            known: order,
            out,
        }
    }

    fn add(&mut self, gram: Entry<L>) -> Result<()> {
        let common = match self.last {
            Some(last) => {
                let common = self.packing.common(last, gram.key, self.order);
                self.close(last, common)?;
                common
            }
            None => 0,
        };
        self.occurs[1..=common].iter_mut().for_each(|count| *count += gram.value);
        self.before[common] += 1;
        self.occurs[common + 1..].fill(gram.value);
        self.before[common + 1..].fill(1);
        self.last = Some(gram.key);
        let word = |n: usize| self.packing.word(gram.key, self.order - n);
        self.begins = (1..=self.order).find(|&n| word(n) == BOS).unwrap_or(self.order);
        if let Some(kept) = self.pruning.kept {
            let stays = |n: &usize| kept.get(word(*n) as usize) == Some(&true);
            self.known = (1..=self.order).take_while(stays).count();
        }
        Ok(())
    }

    /// The last n-grams of the orders above `common` are complete.
    fn close(&mut self, last: Key<L>, common: usize) -> Result<()> {
        for n in common + 1..=self.begins {
            let shorter = self.packing.without_first(last, self.order - n);
            let whole = n == self.order || self.packing.word(shorter, 0) == BOS;
            let adjusted = if whole { self.occurs[n] } else { self.before[n] };
            let pruned = n > self.known || self.occurs[n] <= self.pruning.thresholds[n - 1];
            self.out.statistics[n - 1].add(adjusted);
            self.out.counted[n - 1] += 1;
            self.out.kept[n - 1] += u64::from(!pruned);
            if n == 1 {
                self.out.unigrams[self.packing.word(shorter, 0) as usize] = adjusted;
                continue;
            }
            let value = Count { adjusted, pruned }.pack();
            let key = self.packing.to_context(shorter, n);
            if self.out.orders[n - 2].push(Entry { key, value })? {
                make_room(self.pool, self.out.orders.iter_mut())?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Adjusted<L>> {
        if let Some(last) = self.last {
            self.close(last, 0)?;
        }
        // Never seen as a last word.
        self.out.counted[0] += 2;
        self.out.kept[0] += 2;
        Ok(self.out)
    }
}

impl Count {
    pub fn pack(self) -> u64 {
        self.adjusted.saturating_mul(2) | u64::from(self.pruned)
    }

    pub fn unpack(value: u64) -> Self {
        Self { adjusted: value / 2, pruned: value % 2 == 1 }
    }
}
