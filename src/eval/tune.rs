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

use super::random::Random;
use super::search::{Bounds, Lists, Point, Search};
use super::significance::{Bootstrap, Comparison, FEWEST, Sample, group};
use crate::{Error, Result};

/// A feature and what its weight may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// The weight the search starts from, or, if it is fixed, the weight.
    pub start: f64,
    /// The least weight allowed; may be infinite.
    pub min: f64,
    /// The greatest weight allowed; may be infinite.
    pub max: f64,
}

/// Lists with their errors: what is computed once and tuned on.
#[derive(Debug, Clone)]
pub struct Problem {
    features: Vec<Feature>,
    lists: Lists,
    /// Of every utterance, lists or not.
    utterances: Vec<Utterance>,
    keys: std::collections::HashMap<Vec<u8>, usize>,
}

/// How to search and how to judge.
#[derive(Debug, Clone)]
pub struct Tuner {
    /// Random starts beside the two given ones (the features' `start`, and the first pass).
    pub restarts: usize,
    /// Parts of the data, each of which is measured with weights learnt on the others.
    pub folds: usize,
    /// Errors, as a part of the least found, that are given up for weights in the middle of a
    /// wider valley.
    pub tolerance: f64,
    /// Start of the random sequence.
    pub seed: u64,
    /// How the interval of the held-out result is drawn.
    pub bootstrap: Bootstrap,
}

/// What tuning found. Errors and words are sums over all utterances.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// The weights, in the order of the features; rounded to four digits where that is free.
    pub weights: Vec<f64>,
    /// Words of the references.
    pub reference: u64,
    /// Errors of the first hypotheses.
    pub first_pass: u64,
    /// Errors of the best hypotheses.
    pub oracle: u64,
    /// Errors with `weights`, on the data they were learnt on: too good to be true.
    pub train: u64,
    /// Errors of utterances ranked with weights learnt without them: what to expect.
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
}

/// Whether tuned weights are worth having.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// On utterances not learnt from they are better than the first pass, beyond doubt.
    Use,
    /// They are not, or the data are too few to tell: keep the first pass.
    Keep,
}

impl Feature {
    /// A feature whose weight is to be found; the search starts from 0.
    pub fn free(name: impl Into<String>) -> Self {
        Self { name: name.into(), start: 0.0, min: f64::NEG_INFINITY, max: f64::INFINITY }
    }

    /// A feature whose weight is given. One is needed, usually the first pass with weight 1:
    /// only the weights' ratios matter.
    pub fn fixed(name: impl Into<String>, weight: f64) -> Self {
        Self { name: name.into(), start: weight, min: weight, max: weight }
    }

    /// Allows only weights from `min` on.
    pub fn at_least(self, min: f64) -> Self {
        Self { min, ..self }
    }

    /// Allows only weights up to `max`.
    pub fn at_most(self, max: f64) -> Self {
        Self { max, ..self }
    }

    /// Starts the search from `weight`.
    pub fn starting_at(self, weight: f64) -> Self {
        Self { start: weight, ..self }
    }
}

impl Problem {
    /// A problem without data.
    ///
    /// # Errors
    /// If there are no features, or the numbers of one make no sense together.
    pub fn new(features: Vec<Feature>) -> Result<Self> {
        if features.is_empty() {
            return Err(Error::config("there is nothing to tune; give at least one feature"));
        }
        for f in &features {
            let sensible =
                f.start.is_finite() && f.min <= f.max && f.min < f64::INFINITY && f.max > f64::NEG_INFINITY;
            if !sensible {
                let what = format!("weight of {}: {} to {}, from {}", f.name, f.min, f.max, f.start);
                return Err(Error::config(format!("{what}; give a least weight not above the greatest")));
            }
        }
        let lists = Lists { columns: vec![Vec::new(); features.len()], ..Lists::default() };
        Ok(Self { features, lists, utterances: Vec::new(), keys: Default::default() })
    }

    /// Adds an utterance.
    ///
    /// `key` is its speaker or session, if known; utterances of one are never on both sides of a
    /// held-out test. `reference` is the number of words said. `errors` has one number for each
    /// hypothesis in first-pass order, `values` the features of the first hypothesis, of the
    /// second, and so on. An utterance with a value that is not finite stays in first-pass
    /// order; one without hypotheses counts `reference` errors.
    ///
    /// # Errors
    /// If `values` does not have a value for each feature of each hypothesis.
    pub fn push(&mut self, key: Option<&[u8]>, reference: u64, errors: &[u32], values: &[f64]) -> Result<()> {
        let width = self.features.len();
        if values.len() != errors.len() * width {
            let (got, n) = (values.len(), errors.len());
            return Err(Error::record(format!("{got} values for {n} hypotheses; give {width} for each")));
        }
        let key = key.map(|key| match self.keys.get(key) {
            Some(&number) => number,
            None => {
                self.keys.insert(key.to_vec(), self.keys.len());
                self.keys.len() - 1
            }
        });
        let ranked = !errors.is_empty() && values.iter().all(|v| v.is_finite());
        if ranked {
            for (k, column) in self.lists.columns.iter_mut().enumerate() {
                column.extend(values.iter().skip(k).step_by(width));
            }
            self.lists.errors.extend(errors);
            self.lists.ends.push(self.lists.errors.len());
        }
        self.utterances.push(Utterance {
            key,
            reference,
            first: errors.first().map_or(reference, |&e| e.into()),
            best: errors.iter().min().map_or(reference, |&e| e.into()),
            list: ranked.then(|| self.lists.ends.len() - 1),
        });
        Ok(())
    }

    /// The features, in the order of the weights.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The errors of each utterance when ranked with `weights`, in the order they were added.
    ///
    /// # Panics
    /// If there is not one weight for each feature.
    pub fn errors(&self, weights: &[f64]) -> Vec<u64> {
        assert_eq!(weights.len(), self.features.len(), "a weight for each feature");
        let totals = self.lists.totals(weights);
        let winners: Vec<u64> = self.lists.winners(&totals).map(|i| self.lists.errors[i].into()).collect();
        self.utterances.iter().map(|u| u.list.map_or(u.first, |list| winners[list])).collect()
    }

    /// Each feature's spread, as in [`Tuned::spreads`].
    pub fn spreads(&self) -> Vec<f64> {
        self.lists.columns.iter().map(|column| self.lists.spread(column)).collect()
    }

    /// The group each utterance belongs to: its key's. With fewer than `keys` keys, or for an
    /// utterance without one, a run of neighbours, which often come from the same recording:
    /// [`RUN`] of them, or fewer so that there are `runs` runs.
    fn groups(&self, keys: usize, runs: usize) -> Vec<usize> {
        let length = (self.utterances.len() / runs.max(1)).clamp(1, RUN);
        let keyed = self.keys.len();
        let group =
            |(i, u): (usize, &Utterance)| u.key.filter(|_| keyed >= keys).unwrap_or(keyed + i / length);
        self.utterances.iter().enumerate().map(group).collect()
    }

    /// The lists of the utterances for which `take` says so.
    fn select(&self, take: impl Fn(usize) -> bool) -> Lists {
        let mut out = Lists { columns: vec![Vec::new(); self.features.len()], ..Lists::default() };
        let ranges: Vec<_> = self.lists.ranges().collect();
        for (_, u) in self.utterances.iter().enumerate().filter(|(i, _)| take(*i)) {
            let Some(range) = u.list.map(|list| ranges[list].clone()) else {
                continue;
            };
            for (to, from) in out.columns.iter_mut().zip(&self.lists.columns) {
                to.extend(&from[range.clone()]);
            }
            out.errors.extend(&self.lists.errors[range]);
            out.ends.push(out.errors.len());
        }
        out
    }
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
        let train = problem.errors(&weights).iter().sum();
        let first: Vec<u64> = problem.utterances.iter().map(|u| u.first).collect();
        let mut held_out = first.clone();
        let mut fold_weights = Vec::new();
        for fold in 0..folds {
            let weights = self.search(problem, &problem.select(|i| parts[i] != fold), &mut tick);
            let errors = problem.errors(&weights);
            let held = (0..parts.len()).filter(|&i| parts[i] == fold);
            held.for_each(|i| held_out[i] = errors[i]);
            fold_weights.push(weights);
        }
        let samples = problem.utterances.iter().zip(&held_out);
        let samples = samples.map(|(u, &after)| Sample { before: u.first, after, reference: u.reference });
        let comparison =
            self.bootstrap.compare(&group(problem.groups(FEWEST, RUNS).into_iter().zip(samples)));
        let first_pass = first.iter().sum();
        Tuned {
            weights,
            reference: problem.utterances.iter().map(|u| u.reference).sum(),
            first_pass,
            oracle: problem.utterances.iter().map(|u| u.best).sum(),
            train,
            held_out: held_out.iter().sum(),
            verdict: match train < first_pass && comparison.is_better() {
                true => Verdict::Use,
                false => Verdict::Keep,
            },
            comparison,
            folds: fold_weights,
            spreads: problem.spreads(),
            utterances: problem.utterances.len(),
            left: problem.utterances.iter().filter(|u| u.list.is_none()).count(),
        }
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
            if found.errors < best.errors {
                best = found;
            }
            tick();
        }
        best = search.cross(best, &mut random);
        if best.errors < plain.errors { self.settle(&search, best, plain.errors) } else { plain.weights }
    }

    /// Moves to the middle of the valley and drops digits that mean nothing.
    fn settle(&self, search: &Search, best: Point, worst: u64) -> Vec<f64> {
        let slack = (best.errors as f64 * self.tolerance) as u64;
        let limit = (best.errors + slack).min(worst);
        let mut at = best;
        for _ in 0..2 {
            at = search.centre(at, slack, limit);
        }
        for k in 0..at.weights.len() {
            let mut weights = at.weights.clone();
            weights[k] = format!("{:.3e}", weights[k]).parse().unwrap_or(weights[k]);
            let rounded = search.point(weights);
            if rounded.errors <= limit.min(at.errors) {
                at = rounded;
            }
        }
        at.weights
    }
}

impl Default for Tuner {
    fn default() -> Self {
        Self { restarts: 10, folds: 5, tolerance: 0.002, seed: 1, bootstrap: Bootstrap::default() }
    }
}

#[derive(Debug, Clone)]
struct Utterance {
    key: Option<usize>,
    reference: u64,
    /// Errors of the first hypothesis.
    first: u64,
    /// Errors of the best one.
    best: u64,
    /// Its list, unless it stays in first-pass order.
    list: Option<usize>,
}

/// Utterances without a key that are taken to belong together.
const RUN: usize = 50;

/// Runs wanted of a set without keys: fewer make a rough interval.
const RUNS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lists in which ranking with `planted` is nearly right: errors grow with the distance
    /// from the planted best, and the first pass puts noise on it.
    fn planted(utterances: usize, hypotheses: usize, planted: &[f64], seed: u64) -> Problem {
        let mut features = vec![Feature::fixed("score", planted[0])];
        features.extend((1..planted.len()).map(|k| Feature::free(format!("lm{k}"))));
        let mut problem = Problem::new(features).unwrap();
        let mut random = Random::new(seed);
        for u in 0..utterances {
            let mut list: Vec<(Vec<f64>, u32)> = (0..hypotheses)
                .map(|_| {
                    let values: Vec<f64> = planted.iter().map(|_| random.range(-3.0, 3.0)).collect();
                    let truth: f64 = values.iter().zip(planted).map(|(v, w)| v * w).sum();
                    (values, (10.0 - truth).clamp(0.0, 30.0) as u32)
                })
                .collect();
            list.sort_by(|a, b| b.0[0].total_cmp(&a.0[0]));
            let errors: Vec<u32> = list.iter().map(|l| l.1).collect();
            let values: Vec<f64> = list.into_iter().flat_map(|l| l.0).collect();
            problem.push(Some(&[(u % 20) as u8]), 30, &errors, &values).unwrap();
        }
        problem
    }

    #[test]
    fn planted_weights_are_found() {
        let truth = [1.0, 1.5, -0.7, 0.4];
        let tuned = Tuner::default().run(&planted(300, 30, &truth, 3));
        for (found, truth) in tuned.weights.iter().zip(truth) {
            assert!((found - truth).abs() < 0.15, "{tuned:?}");
        }
        assert!(
            tuned.oracle <= tuned.train && tuned.train < tuned.held_out && tuned.held_out < tuned.first_pass
        );
        assert_eq!(tuned.verdict, Verdict::Use);
        assert_eq!(tuned.folds.len(), 5);
        assert_eq!(tuned.comparison.samples, 20);
        // Uniform in [-3, 3]: the standard deviation is the square root of 3.
        assert!(tuned.spreads.iter().all(|s| (1.6..1.8).contains(s)));
    }

    #[test]
    fn bounds_hold() {
        let mut problem = planted(100, 20, &[1.0, 1.5, -0.7], 3);
        problem.features[1].max = 0.9;
        problem.features[2].min = 0.0;
        let tuned = Tuner::default().run(&problem);
        assert!(tuned.weights[1] <= 0.9 && tuned.weights[2] >= 0.0, "{:?}", tuned.weights);
    }

    /// A model that knows nothing must not be believed, though it fits the tuning data.
    #[test]
    fn noise_is_refused() {
        for seed in 0..4 {
            let mut random = Random::new(seed);
            let mut problem = Problem::new(vec![Feature::fixed("score", 1.0), Feature::free("lm")]).unwrap();
            for _ in 0..100 {
                let errors: Vec<u32> = (0..10).map(|i| i / 5 + random.below(4) as u32).collect();
                let values: Vec<f64> =
                    (0..10).flat_map(|i| [-f64::from(i), random.range(-1.0, 1.0)]).collect();
                problem.push(None, 10, &errors, &values).unwrap();
            }
            let tuned = Tuner::default().run(&problem);
            assert!(tuned.train < tuned.first_pass);
            assert_eq!(tuned.verdict, Verdict::Keep, "{tuned:?}");
        }
    }

    #[test]
    fn what_cannot_be_ranked_stays_first_pass() {
        let mut problem = planted(60, 10, &[1.0, 1.0], 5);
        let before = problem.errors(&[1.0, 1.0]).iter().sum::<u64>();
        problem.push(None, 9, &[4, 0], &[-1.0, f64::NAN, -2.0, 0.0]).unwrap();
        problem.push(None, 7, &[], &[]).unwrap();
        assert!(problem.push(None, 7, &[1], &[1.0]).is_err());
        let tuned = Tuner::default().run(&problem);
        assert_eq!((tuned.left, tuned.utterances), (2, 62));
        assert_eq!(problem.errors(&[1.0, 1.0]).iter().sum::<u64>(), before + 11);
    }

    #[test]
    fn no_data_no_weights() {
        let mut problem = Problem::new(vec![Feature::fixed("score", 1.0), Feature::free("lm")]).unwrap();
        let nothing = Tuner::default().run(&problem);
        assert_eq!((nothing.verdict, &nothing.weights[..]), (Verdict::Keep, &[1.0, 0.0][..]));
        problem.push(None, 3, &[], &[]).unwrap();
        assert_eq!(Tuner::default().run(&problem).weights, [1.0, 0.0]);
        // One utterance may be learnt by heart, but proves nothing.
        problem.push(None, 3, &[1, 0], &[-1.0, -9.0, -2.0, -3.0]).unwrap();
        let one = Tuner::default().run(&problem);
        assert_eq!((one.train, one.held_out, one.verdict), (3, 4, Verdict::Keep));
        assert!(Problem::new(Vec::new()).is_err());
        assert!(Problem::new(vec![Feature::free("x").at_least(1.0).at_most(0.0)]).is_err());
        assert!(Problem::new(vec![Feature::fixed("x", f64::NAN)]).is_err());
    }

    #[test]
    fn a_speaker_is_held_out_whole() {
        let problem = planted(200, 3, &[1.0, 1.0], 1);
        let parts = Tuner::default().parts(&problem);
        for speaker in 0..20 {
            assert!((speaker..200).step_by(20).all(|u| parts[u] == parts[speaker]));
        }
        assert!((0..5).all(|fold| parts.iter().filter(|p| **p == fold).count() == 40));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_worse_than_the_first_pass_on_the_data_tuned_on(
            lists in prop::collection::vec(prop::collection::vec((-9i32..0, -3i32..4, 0i32..3, 0u32..5), 0..6), 0..12),
            seed in 0u64..4,
        ) {
            let features = vec![Feature::fixed("score", 1.0), Feature::free("lm"), Feature::free("words").at_least(0.0)];
            let mut problem = Problem::new(features).unwrap();
            for mut list in lists {
                list.sort_by_key(|h| std::cmp::Reverse(h.0));
                let errors: Vec<u32> = list.iter().map(|h| h.3).collect();
                let values: Vec<f64> = list.iter().flat_map(|h| [h.0, h.1, h.2].map(f64::from)).collect();
                problem.push(None, 5, &errors, &values).unwrap();
            }
            let bootstrap = Bootstrap { resamples: 20, ..Bootstrap::default() };
            let tuned = Tuner { seed, restarts: 2, bootstrap, ..Tuner::default() }.run(&problem);
            prop_assert!(tuned.oracle <= tuned.train && tuned.train <= tuned.first_pass);
            prop_assert_eq!(problem.errors(&tuned.weights).iter().sum::<u64>(), tuned.train);
        }
    }
}
