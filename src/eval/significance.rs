//! How sure an error rate or a difference is: the bootstrap of Bisani & Ney (2004).
//!
//! Utterances of one speaker or session err together, so that resampling them one by one
//! promises too much: [`group`] joins them first and whole groups are resampled (Liu & Peng 2020).

use std::collections::HashMap;
use std::hash::Hash;

use super::wer::rate;
use crate::random::Random;

/// Errors of one utterance, or of one group of them, before and after a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Errors of the system compared with.
    pub before: u64,
    /// Errors of the system in question.
    pub after: u64,
    /// Words of the reference.
    pub reference: u64,
}

/// A resampling; the same seed gives the same numbers on every machine.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// How often the set is drawn anew.
    pub resamples: usize,
    /// Start of the random sequence.
    pub seed: u64,
    /// What part of the resamples an interval covers.
    pub level: f64,
}

/// A value and the interval it lies in, by the percentiles of the resamples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// As measured.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Two systems on the same utterances, by error rate: 0.05 is 5 %.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Comparison {
    /// Error rate before.
    pub before: Estimate,
    /// Error rate after.
    pub after: Estimate,
    /// After less before, drawn in pairs: negative is better.
    pub delta: Estimate,
    /// Probability of improvement: the part of the resamples in which `after` has fewer errors.
    pub improvement: f64,
    /// Samples the resamples were drawn from.
    pub samples: usize,
}

/// Joins the samples of equal keys, in the order in which the keys first occur.
pub fn group<K: Hash + Eq>(samples: impl IntoIterator<Item = (K, Sample)>) -> Vec<Sample> {
    group_by(samples, Sample::default(), Sample::add)
}

/// As [`group`], for sums of any kind.
pub(super) fn group_by<K: Hash + Eq, S: Clone>(
    samples: impl IntoIterator<Item = (K, S)>,
    zero: S,
    add: impl Fn(&mut S, &S),
) -> Vec<S> {
    let mut places = HashMap::new();
    let mut groups: Vec<S> = Vec::new();
    for (key, sample) in samples {
        let place = *places.entry(key).or_insert(groups.len());
        if place == groups.len() {
            groups.push(zero.clone());
        }
        add(&mut groups[place], &sample);
    }
    groups
}

impl Bootstrap {
    /// Compares two systems on the same samples. For one system alone, give its errors twice.
    ///
    /// Time is resamples x samples; a thousand samples a thousand times take some milliseconds.
    pub fn compare(&self, samples: &[Sample]) -> Comparison {
        let rates = |sum: &Sample| [sum.before, sum.after].map(|errors| rate(errors, sum.reference));
        self.compare_by(samples, Sample::default(), Sample::add, rates)
    }

    /// As [`Bootstrap::compare`], for sums of any kind; `rates` gives those before and after.
    pub(super) fn compare_by<S: Clone>(
        &self,
        samples: &[S],
        zero: S,
        add: impl Fn(&mut S, &S),
        rates: impl Fn(&S) -> [f64; 2],
    ) -> Comparison {
        // A resample of empty references only: infinity less infinity is no difference known.
        let delta = |[before, after]: [f64; 2]| if before == after { 0.0 } else { after - before };
        let rates = |sum: &S| {
            let pair = rates(sum);
            [pair[0], pair[1], delta(pair)]
        };
        let mut all = zero.clone();
        samples.iter().for_each(|sample| add(&mut all, sample));
        let mut random = Random::new(self.seed);
        let mut drawn: [Vec<f64>; 3] = Default::default();
        let mut better = 0;
        for _ in 0..self.resamples {
            let mut sum = zero.clone();
            samples.iter().for_each(|_| add(&mut sum, &samples[random.below(samples.len())]));
            let rates = rates(&sum);
            better += usize::from(rates[2] < 0.0);
            drawn.iter_mut().zip(rates).for_each(|(drawn, rate)| drawn.push(rate));
        }
        let mut rates = rates(&all).into_iter().zip(drawn);
        let mut next = || rates.next().map(|(value, drawn)| self.estimate(value, drawn)).unwrap_or_default();
        Comparison {
            before: next(),
            after: next(),
            delta: next(),
            improvement: better as f64 / self.resamples.max(1) as f64,
            samples: samples.len(),
        }
    }

    fn estimate(&self, value: f64, mut drawn: Vec<f64>) -> Estimate {
        drawn.sort_by(f64::total_cmp);
        let tail = ((1.0 - self.level) / 2.0 * drawn.len() as f64) as usize;
        match drawn.len().checked_sub(1) {
            // Nothing drawn, nothing known.
            None => Estimate { value, low: f64::NEG_INFINITY, high: f64::INFINITY },
            Some(last) => {
                Estimate { value, low: drawn[tail.min(last)], high: drawn[last.saturating_sub(tail)] }
            }
        }
    }
}

impl Comparison {
    /// Whether `after` is better beyond doubt: the whole interval of the difference is below 0.
    /// Fewer than [`FEWEST`] samples never are enough to say so, for an interval drawn from a
    /// handful of groups is too narrow.
    pub fn is_better(&self) -> bool {
        self.samples >= FEWEST && self.delta.high < 0.0
    }
}

/// Samples (groups) without which nothing is called significant.
pub const FEWEST: usize = 5;

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 10_000, seed: 1, level: 0.95 }
    }
}

impl Sample {
    fn add(&mut self, other: &Self) {
        self.before += other.before;
        self.after += other.after;
        self.reference += other.reference;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coin(n: u64, wrong: impl Fn(u64) -> [u64; 2]) -> Vec<Sample> {
        (0..n).map(|i| Sample { before: wrong(i)[0], after: wrong(i)[1], reference: 1 }).collect()
    }

    #[test]
    fn a_known_variance() {
        // 2,000 utterances of one word, a quarter wrong: sd = sqrt(0.25 * 0.75 / 2000).
        let found = Bootstrap::default().compare(&coin(2000, |i| [u64::from(i % 4 == 0); 2]));
        let half = 1.96 * (0.25f64 * 0.75 / 2000.0).sqrt();
        assert_eq!(found.after.value, 0.25);
        assert!((found.after.high - 0.25 - half).abs() < 0.1 * half, "{found:?}");
        assert!((0.25 - found.after.low - half).abs() < 0.1 * half, "{found:?}");
        assert_eq!((found.delta.low, found.delta.high, found.improvement), (0.0, 0.0, 0.0));
        assert!(!found.is_better());
    }

    #[test]
    fn a_paired_difference_is_surer_than_two_rates() {
        // Half are wrong before; 1 in 50 of these is mended: the rates overlap widely, and yet.
        let found = Bootstrap::default().compare(&coin(2000, |i| [i % 2, i % 2 * u64::from(i % 50 != 1)]));
        assert!(found.after.high > found.before.low);
        assert!(found.is_better() && found.improvement > 0.999, "{found:?}");
        assert!((found.delta.value + 0.02).abs() < 1e-12);
    }

    #[test]
    fn groups_that_err_together_widen_the_interval() {
        let samples = coin(1000, |i| [u64::from(i / 100 % 2 == 0); 2]);
        let alone = Bootstrap::default().compare(&samples);
        let grouped = group(samples.into_iter().enumerate().map(|(i, sample)| (i / 100, sample)));
        assert_eq!(grouped.len(), 10);
        let joined = Bootstrap::default().compare(&grouped);
        let width = |e: Estimate| e.high - e.low;
        assert!((7.0..13.0).contains(&(width(joined.after) / width(alone.after))));
    }

    #[test]
    fn equal_seeds_give_equal_numbers() {
        let samples = coin(100, |i| [i % 3, i % 2]);
        let run = |seed| Bootstrap { seed, resamples: 500, ..Bootstrap::default() }.compare(&samples);
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn little_data_proves_nothing() {
        assert_eq!(Bootstrap::default().compare(&[]).after, Estimate::default());
        let found = Bootstrap::default().compare(&[Sample { before: 9, after: 0, reference: 9 }; 4]);
        assert_eq!((found.improvement, found.is_better()), (1.0, false));
        let none = Bootstrap { resamples: 0, ..Bootstrap::default() }.compare(&coin(9, |_| [1, 0]));
        assert!(none.delta.value == -1.0 && !none.is_better());
    }
}
