//! What weights are learnt on: lists with what their hypotheses cost.

use super::bleu::Bleu;
use super::lists::Lists;
use super::loss::{BLEU_PARTS, Losses, Measured, Sum};
use super::wer::rate;
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
    pub(super) features: Vec<Feature>,
    pub(super) measure: Measure,
    pub(super) lists: Lists,
    /// Of every utterance, lists or not.
    pub(super) utterances: Vec<Utterance>,
    keys: std::collections::HashMap<Vec<u8>, usize>,
}

/// What the weights are to make good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Measure {
    /// Few errors, of words or characters.
    #[default]
    Errors,
    /// Much BLEU, over all lists together.
    Bleu,
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
    /// A problem without data, for errors.
    ///
    /// # Errors
    /// If there are no features, or the numbers of one make no sense together.
    pub fn new(features: Vec<Feature>) -> Result<Self> {
        Self::of(features, Measure::Errors)
    }

    /// A problem without data, for any measure.
    ///
    /// # Errors
    /// As [`Problem::new`].
    pub fn of(features: Vec<Feature>, measure: Measure) -> Result<Self> {
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
        let like = match measure {
            Measure::Errors => Losses::Errors(Vec::new()),
            Measure::Bleu => Losses::Bleu(Vec::new()),
        };
        let lists = Lists::empty(features.len(), &like);
        Ok(Self { features, measure, lists, utterances: Vec::new(), keys: Default::default() })
    }

    /// Adds an utterance with the errors of each hypothesis: [`Problem::add`].
    ///
    /// # Errors
    /// As [`Problem::add`].
    pub fn push(&mut self, key: Option<&[u8]>, reference: u64, errors: &[u32], values: &[f64]) -> Result<()> {
        self.add(key, reference, Measured::Errors(errors), values)
    }

    /// Adds an utterance.
    ///
    /// `key` is its speaker or session, if known; utterances of one are never on both sides of a
    /// held-out test. `reference` is the number of words (or tokens) said. `list` has what is measured of
    /// each hypothesis in first-pass order, `values` the features of the first hypothesis, of the
    /// second, and so on. An utterance with a value that is not finite stays in first-pass
    /// order; one without hypotheses counts as if nothing had been heard.
    ///
    /// # Errors
    /// If `values` does not have a value for each feature of each hypothesis, or something else is
    /// measured than the problem is about.
    pub fn add(
        &mut self,
        key: Option<&[u8]>,
        reference: u64,
        list: Measured<'_>,
        values: &[f64],
    ) -> Result<()> {
        let width = self.features.len();
        if values.len() != list.len() * width {
            let (got, n) = (values.len(), list.len());
            return Err(Error::record(format!("{got} values for {n} hypotheses; give {width} for each")));
        }
        let mut own = Losses::none_like(&self.lists.losses);
        if !own.push(list) {
            return Err(Error::config("the lists are measured by something else than the problem is about"));
        }
        let key = key.map(|key| match self.keys.get(key) {
            Some(&number) => number,
            None => {
                self.keys.insert(key.to_vec(), self.keys.len());
                self.keys.len() - 1
            }
        });
        let nothing = match self.measure {
            Measure::Errors => Sum::Errors(reference),
            Measure::Bleu => Sum::Bleu(Bleu { reference, ..Bleu::default() }),
        };
        let first = if own.len() > 0 { own.at(0) } else { nothing };
        let ranked = own.len() > 0 && values.iter().all(|v| v.is_finite());
        if ranked {
            for (k, column) in self.lists.columns.iter_mut().enumerate() {
                column.extend(values.iter().skip(k).step_by(width));
            }
            self.lists.losses.push(list);
            self.lists.ends.push(self.lists.losses.len());
        } else {
            self.lists.rest.add(first);
        }
        self.utterances.push(Utterance {
            key,
            reference,
            first,
            best: list.best().map_or(nothing, |best| own.at(best)),
            list: ranked.then(|| self.lists.ends.len() - 1),
        });
        Ok(())
    }

    /// The features, in the order of the weights.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The loss of all utterances together when ranked with `weights`: errors, or as in [`Tuned`](super::Tuned).
    ///
    /// # Panics
    /// If there is not one weight for each feature.
    pub fn loss(&self, weights: &[f64]) -> u64 {
        self.total(self.outcomes(weights).into_iter())
    }

    /// What comes out for each utterance when ranked with `weights`, in the order they were added.
    pub(super) fn outcomes(&self, weights: &[f64]) -> Vec<Sum> {
        assert_eq!(weights.len(), self.features.len(), "a weight for each feature");
        let totals = self.lists.totals(weights);
        let winners: Vec<Sum> = self.lists.winners(&totals).map(|i| self.lists.losses.at(i)).collect();
        self.utterances.iter().map(|u| u.list.map_or(u.first, |list| winners[list])).collect()
    }

    pub(super) fn total(&self, outcomes: impl Iterator<Item = Sum>) -> u64 {
        let mut sum = self.lists.losses.zero();
        outcomes.for_each(|outcome| sum.add(outcome));
        sum.loss()
    }

    /// Each feature's spread, as in [`Tuned::spreads`](super::Tuned::spreads).
    pub fn spreads(&self) -> Vec<f64> {
        self.lists.columns.iter().map(|column| self.lists.spread(column)).collect()
    }

    /// The group each utterance belongs to: its key's. With fewer than `keys` keys, or for an
    /// utterance without one, a run of neighbours, which often come from the same recording:
    /// [`RUN`] of them, or fewer so that there are `runs` runs.
    pub(super) fn groups(&self, keys: usize, runs: usize) -> Vec<usize> {
        let length = (self.utterances.len() / runs.max(1)).clamp(1, RUN);
        let keyed = self.keys.len();
        let group =
            |(i, u): (usize, &Utterance)| u.key.filter(|_| keyed >= keys).unwrap_or(keyed + i / length);
        self.utterances.iter().enumerate().map(group).collect()
    }

    /// Words of each reference, and what the first hypothesis costs.
    pub(super) fn plain(&self) -> impl Iterator<Item = (u64, u64)> {
        self.utterances.iter().map(|u| (u.reference, u.first.loss()))
    }

    /// The lists of the utterances for which `take` says so.
    pub(super) fn select(&self, take: impl Fn(usize) -> bool) -> Lists {
        let mut out = Lists::empty(self.features.len(), &self.lists.losses);
        let ranges: Vec<_> = self.lists.ranges().collect();
        for (_, u) in self.utterances.iter().enumerate().filter(|(i, _)| take(*i)) {
            let Some(range) = u.list.map(|list| ranges[list].clone()) else {
                out.rest.add(u.first);
                continue;
            };
            for (to, from) in out.columns.iter_mut().zip(&self.lists.columns) {
                to.extend(&from[range.clone()]);
            }
            out.losses.extend(&self.lists.losses, range);
            out.ends.push(out.losses.len());
        }
        out
    }
}

impl Measure {
    pub(super) fn rate(self, loss: u64, reference: u64) -> f64 {
        match self {
            Self::Errors => rate(loss, reference),
            Self::Bleu => loss as f64 / BLEU_PARTS,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Utterance {
    pub(super) key: Option<usize>,
    pub(super) reference: u64,
    /// What the first hypothesis costs.
    pub(super) first: Sum,
    /// What the best one does.
    pub(super) best: Sum,
    /// Its list, unless it stays in first-pass order.
    pub(super) list: Option<usize>,
}

/// Utterances without a key that are taken to belong together.
const RUN: usize = 50;
