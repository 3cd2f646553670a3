//! Probabilities of one order from those of the order below, and out they go.

use super::corpus::BOS;
use super::key::{Key, Packing};
use super::merge::Merge;
use super::normalise::{Parts, Shares};
use super::output::Output;
use super::sort::{Entry, RunReader, RunWriter};
use super::watch::Watch;
use crate::{Error, Result};

/// A stream of numbers, one for each n-gram of some, in suffix order.
pub(super) struct Column<const L: usize> {
    reader: RunReader,
    next: Option<Entry<L>>,
}

/// The words of the model.
pub(super) struct Unigrams<'a> {
    /// Adjusted counts by id; `<unk>` and `<s>` have none.
    pub adjusted: Vec<u64>,
    pub kept: Option<&'a [bool]>,
    pub shares: Shares,
    /// Whether the mass that discounts free is shared by all words; else `<unk>` has it alone.
    pub interpolate: bool,
}

impl<const L: usize> Column<L> {
    pub fn new(mut reader: RunReader) -> Result<Self> {
        let next = reader.next()?;
        Ok(Self { reader, next })
    }

    /// The number of an n-gram; those asked for must come in order.
    pub fn find(&mut self, key: Key<L>) -> Result<Option<f32>> {
        while self.next.is_some_and(|entry| entry.key < key) {
            self.next = self.reader.next()?;
        }
        Ok(self.next.filter(|entry| entry.key == key).map(|entry| f32::from_bits(entry.value as u32)))
    }
}

impl Unigrams<'_> {
    /// Writes the words; `probabilities` is what the next order needs.
    pub fn write<const L: usize>(
        &self,
        packing: Packing,
        mut weights: Option<Column<L>>,
        probabilities: &mut RunWriter,
        output: &mut Output<'_, L>,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let stays = |id: &usize| self.kept.is_none_or(|kept| kept[*id]);
        let size = (0..self.adjusted.len()).filter(stays).count();
        // `<s>` is never predicted.
        let uniform = self.shares.weight / (size - 1) as f64;
        for id in (0..self.adjusted.len()).filter(stays) {
            let count = super::adjust::Count { adjusted: self.adjusted[id], pruned: false };
            let discounted = self.shares.discounted(count);
            let p = match id as u32 {
                BOS => 1.0,
                _ if self.interpolate => discounted + uniform,
                0 => self.shares.weight,
                _ => discounted,
            };
            let key = packing.roll(Key::ZERO, 1, id as u32);
            let backoff = backoff(&mut weights, key)?;
            probabilities.push(Entry { key, value: u64::from((p as f32).to_bits()) })?;
            output.gram(1, key, log10(p), backoff)?;
            watch.advance(1)?;
        }
        Ok(())
    }
}

/// The n-grams of one order above the first.
pub(super) struct Interpolation<const L: usize> {
    pub n: usize,
    pub packing: Packing,
    /// Probabilities of the order below.
    pub lower: Column<L>,
    /// Weights of these n-grams as contexts; the highest order has none.
    pub weights: Option<Column<L>>,
}

impl<const L: usize> Interpolation<L> {
    /// Writes them; `probabilities` is what the next order needs.
    pub fn write(
        mut self,
        mut grams: Merge<L>,
        probabilities: &mut RunWriter,
        output: &mut Output<'_, L>,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let (n, packing, highest) = (self.n, self.packing, self.weights.is_none());
        while let Some(gram) = grams.next()? {
            let parts = Parts::unpack(gram.value);
            let Some(shorter) = self.lower.find(packing.without_first(gram.key, 1))? else {
                return Err(Error::Internal(format!("a {n}-gram whose end is not in the model")));
            };
            let p = f64::from(parts.discounted) + f64::from(parts.weight) * f64::from(shorter);
            if !highest {
                probabilities.push(Entry { key: gram.key, value: u64::from((p as f32).to_bits()) })?;
            }
            let backoff = backoff(&mut self.weights, gram.key)?;
            output.gram(n, gram.key, log10(p), backoff)?;
            watch.advance(1)?;
        }
        Ok(())
    }
}

/// log10 of an n-gram's weight as a context: 0 where nothing follows it, none in the highest order.
fn backoff<const L: usize>(weights: &mut Option<Column<L>>, key: Key<L>) -> Result<Option<f32>> {
    let Some(weights) = weights else { return Ok(None) };
    Ok(Some(weights.find(key)?.map_or(0.0, |weight| log10(f64::from(weight)))))
}

/// A probability's logarithm as ARPA files have it: never above 0, and -99 for nothing.
fn log10(p: f64) -> f32 {
    p.log10().clamp(-99.0, 0.0) as f32
}
