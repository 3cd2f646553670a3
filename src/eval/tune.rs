//! Learns weights on lists with references, and says whether they are worth having.
//!
//! ```
//! use secondpass::eval::{Feature, Problem, Tuner, Verdict};
//! # fn main() -> secondpass::Result<()> {
//! let mut problem = Problem::new(vec![Feature::fixed("score", 1.0), Feature::free("rnnlm").at_least(0.0)])?;
//! for speaker in 0..40u8 {
//!     // Two hypotheses: errors of each, then score and rnnlm of the first, of the second.
//!     problem.push(Some(&[speaker]), 10, &[1, 0], &[-5.0, -9.0, -6.0, -7.0])?;
//! }
//! let tuned = Tuner::default().run(&problem);
//! assert!(tuned.weights[1] > 0.5);
//! assert_eq!((tuned.first_pass, tuned.train), (40, 0));
//! assert_eq!(tuned.verdict, Verdict::Use);
//! # Ok(())
//! # }
//! ```

use super::lists::Lists;
use super::loss::Sum;
use super::problem::{Feature, Measure, Problem};
use super::search::{Bounds, Point, Search};
use super::significance::{Bootstrap, Comparison, FEWEST, group_by};
use crate::random::Random;

/// How to search and how to judge.
#[derive(Debug, Clone)]
pub struct Tuner {
    /// Random starts beside the two given ones (the features' `start`, and the first pass).
    pub restarts: usize,
    /// Parts of the data, each of which is measured with weights learnt on the others.
    pub folds: usize,
    /// Loss, as a part of the least found, that is given up for weights in the middle of a
    /// wider valley.
    pub tolerance: f64,
    /// Start of the random sequence.
    pub seed: u64,
    /// How the interval of the held-out result is drawn.
    pub bootstrap: Bootstrap,
}

/// What tuning found. Losses are those of all utterances together: errors, or what is missing to a
/// BLEU of 1 in thousand-millionths; [`Tuned::rate`] makes rates of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// The weights, in the order of the features; rounded to four digits where that is free.
    pub weights: Vec<f64>,
    /// What was measured.
    pub measure: Measure,
    /// Words (characters, tokens) of the references.
    pub reference: u64,
    /// Loss of the first hypotheses.
    pub first_pass: u64,
    /// Loss of the best hypotheses; for BLEU, where that is a question of all lists at once, of those
    /// that look best one by one.
    pub oracle: u64,
    /// Loss with `weights`, on the data they were learnt on: too good to be true.
    pub train: u64,
    /// Loss of utterances ranked with weights learnt without them: what to expect.
    pub held_out: u64,
    /// The first pass (`before`) against the held-out result (`after`).
    pub comparison: Comparison,
    /// The weights of each fold: how much they differ tells how well they are determined.
    pub folds: Vec<Vec<f64>>,
    /// Each feature's spread: the standard deviation of its values within a list, the median over
    /// lists of two and more. Lists of another scale have another spread.
    pub spreads: Vec<f64>,
    /// Utterances.
    pub utterances: usize,
    /// Utterances left in first-pass order, for they lack a finite value of some feature or have
    /// no hypotheses.
    pub left: usize,
    /// Whether the weights are worth having.
    pub verdict: Verdict,
    /// The fold each utterance was held out in, in the order they were added: an index into `folds`.
    pub parts: Vec<usize>,
}

/// Whether tuned weights are worth having.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// On utterances not learnt from they are better than the first pass, beyond doubt.
    Use,
    /// They are not, or the data are too few to tell: keep the first pass.
    Keep,
}

impl Tuner {
    /// Learns weights and judges them. The same seed gives the same result.
    pub fn run(&self, problem: &Problem) -> Tuned {
        self.run_with(problem, &mut |_, _| ())
    }

    /// As [`Tuner::run`]; calls `progress` with how many of how many searches are done.
    pub fn run_with(&self, problem: &Problem, progress: &mut dyn FnMut(usize, usize)) -> Tuned {
        let parts = self.parts(problem);
        let count = parts.iter().max().map_or(0, |&last| last + 1);
        let folds = if count < 2 { 0 } else { count };
        let starts = self.restarts + 2;
        let mut done = 0;
        let mut tick = || {
            done += 1;
            progress(done, starts * (folds + 1));
        };
        let weights = self.search(problem, &problem.lists, &mut tick);
        let train = problem.loss(&weights);
        let first: Vec<Sum> = problem.utterances.iter().map(|u| u.first).collect();
        let mut held_out = first.clone();
        let mut fold_weights = Vec::new();
        for fold in 0..folds {
            let weights = self.search(problem, &problem.select(|i| parts[i] != fold), &mut tick);
            let outcomes = problem.outcomes(&weights);
            let held = (0..parts.len()).filter(|&i| parts[i] == fold);
            held.for_each(|i| held_out[i] = outcomes[i]);
            fold_weights.push(weights);
        }
        let comparison = self.compare(problem, &held_out);
        let first_pass = problem.total(first.iter().copied());
        Tuned {
            weights,
            measure: problem.measure,
            reference: problem.utterances.iter().map(|u| u.reference).sum(),
            first_pass,
            oracle: problem.total(problem.utterances.iter().map(|u| u.best)),
            train,
            held_out: problem.total(held_out.iter().copied()),
            verdict: match train < first_pass && comparison.is_better() {
                true => Verdict::Use,
                false => Verdict::Keep,
            },
            comparison,
            folds: fold_weights,
            spreads: problem.spreads(),
            utterances: problem.utterances.len(),
            left: problem.utterances.iter().filter(|u| u.list.is_none()).count(),
            parts,
        }
    }

    /// The first pass against outcomes, by groups of utterances.
    fn compare(&self, problem: &Problem, outcomes: &[Sum]) -> Comparison {
        let zero =
            Sample { before: problem.lists.losses.zero(), after: problem.lists.losses.zero(), reference: 0 };
        let samples = problem.utterances.iter().zip(outcomes);
        let samples = samples.map(|(u, &after)| Sample { before: u.first, after, reference: u.reference });
        let keyed = problem.groups(FEWEST, RUNS).into_iter().zip(samples);
        let add = |sum: &mut Sample, more: &Sample| {
            sum.before.add(more.before);
            sum.after.add(more.after);
            sum.reference += more.reference;
        };
        let groups = group_by(keyed, zero, add);
        let rates = |sample: &Sample| {
            [sample.before, sample.after].map(|sum| problem.measure.rate(sum.loss(), sample.reference))
        };
        self.bootstrap.compare_by(&groups, zero, add, rates)
    }

    /// Which fold each utterance is held out in. Groups are dealt out whole, the largest first,
    /// each to the fold with the fewest words.
    fn parts(&self, problem: &Problem) -> Vec<usize> {
        let groups = problem.groups(2, 2 * self.folds);
        let mut words = vec![0; groups.iter().max().map_or(0, |&last| last + 1)];
        // An utterance without words still is one.
        groups.iter().zip(&problem.utterances).for_each(|(&group, u)| words[group] += u.reference + 1);
        let mut order: Vec<usize> = (0..words.len()).filter(|&group| words[group] > 0).collect();
        order.sort_by_key(|&group| (std::cmp::Reverse(words[group]), group));
        let mut loads = vec![0; self.folds.max(1)];
        let mut parts = vec![0; words.len()];
        for group in order {
            let fold = (0..loads.len()).min_by_key(|&fold| loads[fold]).unwrap_or(0);
            loads[fold] += words[group];
            parts[group] = fold;
        }
        groups.into_iter().map(|group| parts[group]).collect()
    }

    fn search(&self, problem: &Problem, lists: &Lists, tick: &mut dyn FnMut()) -> Vec<f64> {
        let features = &problem.features;
        let fixed = |f: &Feature| if f.min == f.max { f.min } else { 0.0 };
        let plain: Vec<f64> = features.iter().map(fixed).collect();
        // The natural step of a weight brings its feature to the spread of what is fixed.
        let spread = lists.spread(&lists.totals(&plain));
        let spread = if spread > 0.0 { spread } else { 1.0 };
        let bounds = features.iter().zip(&lists.columns).map(|(f, column)| {
            let own = lists.spread(column);
            Bounds { min: f.min, max: f.max, unit: if own > 0.0 { spread / own } else { 0.0 } }
        });
        let bounds: Vec<Bounds> = bounds.collect();
        let search = Search::new(lists, &bounds);
        let mut random = Random::new(self.seed);
        let plain = search.point(plain);
        let given = search.point(features.iter().map(|f| f.start).collect());
        let mut best = plain.clone();
        for n in 0..self.restarts + 2 {
            let start = match n {
                0 => plain.clone(),
                1 => given.clone(),
                _ => search.random(&plain.weights, &mut random),
            };
            let found = search.descend(start, &mut random);
            if found.loss < best.loss {
                best = found;
            }
            tick();
        }
        best = search.cross(best, &mut random);
        if best.loss < plain.loss { self.settle(&search, best, plain.loss) } else { plain.weights }
    }

    /// Moves to the middle of the valley and drops digits that mean nothing.
    fn settle(&self, search: &Search, best: Point, worst: u64) -> Vec<f64> {
        let slack = (best.loss as f64 * self.tolerance) as u64;
        let limit = (best.loss + slack).min(worst);
        let mut at = best;
        for _ in 0..2 {
            at = search.centre(at, slack, limit);
        }
        for k in 0..at.weights.len() {
            let mut weights = at.weights.clone();
            weights[k] = format!("{:.3e}", weights[k]).parse().unwrap_or(weights[k]);
            let rounded = search.point(weights);
            if rounded.loss <= limit.min(at.loss) {
                at = rounded;
            }
        }
        at.weights
    }
}

impl Tuned {
    /// A loss as a part of the most there can be: errors per word of the references, or what is
    /// missing to a BLEU of 1.
    pub fn rate(&self, loss: u64) -> f64 {
        self.measure.rate(loss, self.reference)
    }
}

impl Default for Tuner {
    fn default() -> Self {
        Self { restarts: 10, folds: 5, tolerance: 0.002, seed: 1, bootstrap: Bootstrap::default() }
    }
}

/// What one group of utterances costs before and after.
#[derive(Debug, Clone, Copy)]
struct Sample {
    before: Sum,
    after: Sum,
    reference: u64,
}

/// Runs wanted of a set without keys: fewer make a rough interval.
pub(super) const RUNS: usize = 20;

#[cfg(test)]
mod tests;
