//! Discounted probabilities, and the weight of the shorter context, by contexts.

use super::adjust::Count;
use super::discount::Discounts;
use super::key::Packing;
use super::merge::Merge;
use super::sort::{Entry, RunWriter, Sorter, Value};
use super::watch::Watch;
use crate::Result;

/// What an n-gram's probability is made of: `discounted + weight * p(shorter n-gram)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub discounted: f32,
    /// The mass that its context gives to shorter ones.
    pub weight: f32,
}

/// How [`Parts`] lie on disk.
pub(super) const PARTS: Value = Value::Bytes(8);
/// How an `f32` lies on disk.
pub(super) const FLOAT: Value = Value::Bytes(4);

/// Normalises the n-grams of one order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normaliser {
    pub n: usize,
    pub packing: Packing,
    pub discounts: Discounts,
}

/// Makes room in memory after a sorter has taken some.
pub(super) type Room<'a, const L: usize> = dyn FnMut(&mut Sorter<L>) -> Result<()> + 'a;

impl Normaliser {
    /// Takes n-grams in context order and gives those that stay to `out`, in suffix order, and the
    /// weight of each context to `weights`, in suffix order of the contexts.
    ///
    /// What discounts take off, and all of what is pruned, goes to the shorter context.
    pub fn run<const L: usize>(
        self,
        mut counts: Merge<L>,
        out: &mut Sorter<L>,
        weights: &mut RunWriter,
        room: &mut Room<'_, L>,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let Self { n, packing, discounts } = self;
        let mut group: Vec<Entry<L>> = Vec::new();
        let mut next = counts.next()?;
        while let Some(first) = next {
            let context = packing.context(first.key);
            group.clear();
            while let Some(entry) = next.filter(|entry| packing.context(entry.key) == context) {
                group.push(entry);
                next = counts.next()?;
            }
            let shares = Shares::of(group.iter().map(|entry| Count::unpack(entry.value)), discounts);
            weights.push(Entry { key: context, value: u64::from((shares.weight as f32).to_bits()) })?;
            for entry in &group {
                let count = Count::unpack(entry.value);
                if !count.pruned {
                    let parts =
                        Parts { discounted: shares.discounted(count) as f32, weight: shares.weight as f32 };
                    let key = packing.to_suffix(entry.key, n);
                    if out.push(Entry { key, value: parts.pack() })? {
                        room(out)?;
                    }
                }
            }
            watch.advance(group.len() as u64)?;
        }
        Ok(())
    }
}

/// How the mass of one context is shared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    total: f64,
    discounts: Discounts,
    /// The part for shorter contexts.
    pub weight: f64,
}

impl Shares {
    /// Of the counts of all words after a context.
    pub fn of(counts: impl Iterator<Item = Count>, discounts: Discounts) -> Self {
        let (mut total, mut freed) = (0.0, 0.0);
        for count in counts {
            total += count.adjusted as f64;
            freed += if count.pruned { count.adjusted as f64 } else { discounts.of(count.adjusted) };
        }
        Self { total, discounts, weight: freed / total }
    }

    pub fn discounted(&self, count: Count) -> f64 {
        (count.adjusted as f64 - self.discounts.of(count.adjusted)) / self.total
    }
}

impl Parts {
    pub fn pack(self) -> u64 {
        u64::from(self.discounted.to_bits()) << 32 | u64::from(self.weight.to_bits())
    }

    pub fn unpack(value: u64) -> Self {
        Self { discounted: f32::from_bits((value >> 32) as u32), weight: f32::from_bits(value as u32) }
    }
}
