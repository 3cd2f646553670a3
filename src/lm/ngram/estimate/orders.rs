//! The orders one after another: each discounted on its own, then written on top of the one below.

use std::sync::Arc;

use super::discount::Discounts;
use super::interpolate::{Column, Interpolation, Unigrams};
use super::key::Packing;
use super::normalise::{FLOAT, Normaliser, PARTS};
use super::output::Output;
use super::room::make_room;
use super::sort::{Codec, Pool, Run, RunWriter, Sorter};
use super::temporary::Folder;
use super::watch::Watch;
use crate::Result;

/// What all orders share.
pub(super) struct Orders<'a, const L: usize> {
    pub pool: Arc<Pool<L>>,
    pub folder: &'a Folder,
    pub packing: Packing,
}

/// Discounted n-grams from order 2.
pub(super) struct Normalised<const L: usize> {
    /// In suffix order.
    pub grams: Vec<Sorter<L>>,
    /// For each order from 1 below the highest: what its n-grams, as contexts, give to shorter ones.
    weights: Vec<Run>,
}

impl<const L: usize> Orders<'_, L> {
    /// Discounts the orders from 2.
    pub fn normalise(
        &self,
        mut counts: Vec<Sorter<L>>,
        discounts: &[Discounts],
        watch: &mut Watch<'_>,
    ) -> Result<Normalised<L>> {
        let mut grams: Vec<Sorter<L>> = Vec::with_capacity(counts.len());
        let mut weights = Vec::with_capacity(counts.len());
        for (&discounts, n) in discounts[1..].iter().zip(2..) {
            let input = counts.remove(0).finish(self.pool.limit() / 2)?;
            let mut output = Sorter::new(&self.pool, Codec { key: self.packing.bytes(n), value: PARTS });
            let mut contexts = self.column(n - 1);
            let mut room = |current: &mut Sorter<L>| {
                let others = counts.iter_mut().chain(&mut grams);
                make_room(&self.pool, others.chain(std::iter::once(current)))
            };
            let normaliser = Normaliser { n, packing: self.packing, discounts };
            normaliser.run(input, &mut output, &mut contexts, &mut room, watch)?;
            grams.push(output);
            weights.push(contexts.finish());
        }
        Ok(Normalised { grams, weights })
    }

    /// Writes the whole model; `counts` are its n-grams by order.
    pub fn write(
        &self,
        counts: &[u64],
        unigrams: &Unigrams<'_>,
        normalised: Normalised<L>,
        output: &mut Output<'_, L>,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let lines: String = counts.iter().zip(1..).map(|(count, n)| format!("ngram {n}={count}\n")).collect();
        output.text(format!("\\data\\\n{lines}\n\\1-grams:\n"))?;
        let mut weights = normalised.weights.into_iter();
        let mut next = || weights.next().map(|run| Column::new(run.read()?)).transpose();
        let mut probabilities = self.column(1);
        unigrams.write(self.packing, next()?, &mut probabilities, output, watch)?;
        for (grams, n) in normalised.grams.into_iter().zip(2..) {
            output.text(format!("\n\\{n}-grams:\n"))?;
            let lower = Column::new(probabilities.finish().read()?)?;
            probabilities = self.column(n);
            let grams = grams.finish(self.pool.limit())?;
            let order = Interpolation { n, packing: self.packing, lower, weights: next()? };
            order.write(grams, &mut probabilities, output, watch)?;
        }
        output.text("\n\\end\\\n".to_owned())
    }

    /// For a number of each of some n-grams of `n` words.
    fn column(&self, n: usize) -> RunWriter {
        RunWriter::new(self.folder, Codec { key: self.packing.bytes(n), value: FLOAT })
    }
}
