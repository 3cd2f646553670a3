//! Lists as the tuner's search reads them.

use std::ops::Range;

use super::loss::{Losses, Sum};
use crate::combine::deviation;

/// Feature values and losses of lists, column by column: lists lie one after the other.
#[derive(Debug, Clone)]
pub(super) struct Lists {
    /// One column for each feature.
    pub(super) columns: Vec<Vec<f64>>,
    /// What each hypothesis costs.
    pub(super) losses: Losses,
    /// What utterances without a list cost, whatever the weights.
    pub(super) rest: Sum,
    /// Where each list ends.
    pub(super) ends: Vec<usize>,
}

impl Lists {
    /// No lists, of so many features and this kind of loss.
    pub(super) fn empty(features: usize, like: &Losses) -> Self {
        let losses = Losses::none_like(like);
        Self { columns: vec![Vec::new(); features], rest: losses.zero(), losses, ends: Vec::new() }
    }

    /// The ranges of the lists' hypotheses.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }

    /// Weighted sums, added up in the order of the features.
    pub(super) fn totals(&self, weights: &[f64]) -> Vec<f64> {
        let mut totals = vec![0.0; self.losses.len()];
        for (column, &weight) in self.columns.iter().zip(weights).filter(|(_, w)| **w != 0.0) {
            totals.iter_mut().zip(column).for_each(|(total, value)| *total += weight * value);
        }
        totals
    }

    /// The winner of each list: the best total, on a tie the first.
    pub(super) fn winners<'a>(&'a self, totals: &'a [f64]) -> impl Iterator<Item = usize> + 'a {
        self.ranges().map(|range| {
            let mut best = range.start;
            range.for_each(|i| best = if totals[i] > totals[best] { i } else { best });
            best
        })
    }

    /// Median over lists of the standard deviation of `values` within a list; lists of one
    /// hypothesis do not count. The median, because one list with a stray score would decide a mean.
    pub(super) fn spread(&self, values: &[f64]) -> f64 {
        let mut spreads: Vec<f64> =
            self.ranges().filter(|range| range.len() > 1).map(|range| deviation(&values[range])).collect();
        spreads.sort_unstable_by(f64::total_cmp);
        spreads.get(spreads.len() / 2).copied().unwrap_or(0.0)
    }
}
