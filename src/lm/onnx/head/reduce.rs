//! Tiles of logits on their way into running sums of exponentials.

// Lanes, not elements: an index says which.
#![allow(clippy::needless_range_loop)]

use super::super::product::{Epilogue, PANEL, Panel, exponential};
use super::{Norm, Want};

/// What a row has gathered so far: sums of exponentials relative to `reference`, in eight parts.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Sum {
    all: [f64; LANES],
    starts: [f64; LANES],
    reference: f32,
}

/// Adds a panel's logits to its rows' sums and keeps those that are wanted; `STARTS` where the sums of
/// tokens that start words are wanted too.
pub(super) struct Reduce<'a, const STARTS: bool> {
    pub bias: &'a Panel,
    /// 1 for tokens that start a word or end the sentence, else 0.
    pub starts: Option<&'a Panel>,
    pub sums: &'a mut [Sum],
    /// By row.
    pub wants: &'a mut [Want],
}

impl<const STARTS: bool> Epilogue for Reduce<'_, STARTS> {
    #[inline(always)]
    fn added(&self, _: usize) -> Option<&Panel> {
        Some(self.bias)
    }

    #[inline(always)]
    fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
        let sums = &mut self.sums[first..first + tile.len()];
        for (Panel(logits), sum) in tile.iter().zip(sums) {
            sum.add::<FUSED>(logits, if STARTS { self.starts } else { None });
        }
        let here = self.wants.iter().take_while(|want| (want.row as usize) < first + tile.len()).count();
        let (wants, rest) = std::mem::take(&mut self.wants).split_at_mut(here);
        self.wants = rest;
        for want in wants {
            want.logit = tile[want.row as usize - first].0[want.token as usize % PANEL];
        }
    }
}

impl Sum {
    pub const EMPTY: Self = Self { all: [0.0; LANES], starts: [0.0; LANES], reference: f32::NEG_INFINITY };

    /// The logarithm of what it holds.
    pub fn ln(&self) -> f64 {
        f64::from(self.reference) + self.all.iter().sum::<f64>().ln()
    }

    #[inline(always)]
    fn add<const FUSED: bool>(&mut self, logits: &[f32; PANEL], starts: Option<&Panel>) {
        let limit = self.reference + MARGIN;
        let above = logits.iter().fold(false, |above, &logit| above | (logit > limit));
        if above || self.reference == f32::NEG_INFINITY {
            // Tokens that are masked add nothing, and give no reference. NaN is for the sum to show.
            if logits.iter().all(|&logit| logit == f32::NEG_INFINITY) {
                return;
            }
            self.raise(logits);
        }
        let mut terms = [0.0; PANEL];
        for lane in 0..PANEL {
            terms[lane] = logits[lane] - self.reference;
        }
        let terms = exponential::<PANEL, FUSED>(terms);
        gather(&mut self.all, &terms);
        if let Some(Panel(starts)) = starts {
            let mut of_starts = [0.0; PANEL];
            for lane in 0..PANEL {
                of_starts[lane] = terms[lane] * starts[lane];
            }
            gather(&mut self.starts, &of_starts);
        }
    }

    /// Makes the largest logit the reference. Not done at every new maximum: sums of e^16 are as good as
    /// sums of 1.
    #[cold]
    fn raise(&mut self, logits: &[f32; PANEL]) {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scale = (f64::from(self.reference) - f64::from(top)).exp();
        self.reference = top;
        self.all.iter_mut().chain(&mut self.starts).for_each(|sum| *sum *= scale);
    }
}

/// Adds terms to sums that hold more digits.
#[inline(always)]
fn gather(sums: &mut [f64; LANES], terms: &[f32; PANEL]) {
    for lane in 0..LANES {
        let (one, two) =
            (terms[lane] + terms[lane + 2 * LANES], terms[lane + LANES] + terms[lane + 3 * LANES]);
        sums[lane] += f64::from(one) + f64::from(two);
    }
}

/// The logarithm of what the segments of a row's sums hold together.
pub(super) fn norm<'a>(segments: impl Iterator<Item = &'a Sum> + Clone, starts: bool) -> Norm {
    let top = segments.clone().map(|sum| sum.reference).fold(f32::NEG_INFINITY, f32::max);
    let total = |of: fn(&Sum) -> &[f64; LANES]| {
        let one = |sum: &Sum| of(sum).iter().sum::<f64>() * (f64::from(sum.reference) - f64::from(top)).exp();
        f64::from(top) + segments.clone().map(one).sum::<f64>().ln()
    };
    Norm { all: total(|sum| &sum.all), starts: starts.then(|| total(|sum| &sum.starts)) }
}

/// Parts of a sum.
const LANES: usize = 8;
/// How far a logit may be above the reference.
const MARGIN: f32 = 16.0;
