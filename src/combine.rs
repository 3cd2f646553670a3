//! Weights, the formula they make of a list, and the ranking.
//!
//! `total = sum over features of weight * value`, over the first-pass features, one feature per
//! language model, and `words`. Every value is a natural logarithm or a count.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::nbest::{Name, Utterance};
use crate::{Error, Result};

/// The weight of a language model that was given none.
pub const UNTUNED: f64 = 0.5;

/// The feature that linear interpolation makes of its members.
pub const MIX: &str = "mix";

/// Number of words of a hypothesis.
pub const WORDS: &str = "words";

/// The first-pass total.
pub const SCORE: &str = "score";

/// `-ln rank`: what stands for a score in lists that have only an order.
pub const RANK: &str = "rank";

/// First-pass features that make up a total when the list has none.
pub const PARTS: [&str; 5] = ["am", "lm", "graph", "ctc", "attention"];

/// Feature weights, and how wide each feature spread over the lists they were tuned on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    /// By feature name.
    pub values: BTreeMap<String, f64>,
    /// Mean standard deviation of each feature within a list; empty if not tuned.
    pub spread: BTreeMap<String, f64>,
}

/// What to do where a hypothesis lacks a weighted feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Leave the utterance in first-pass order.
    Pass,
    /// Take the lowest value that another hypothesis of the list has.
    Min,
}

/// Everything that turns features into totals; the same for every list.
#[derive(Debug, Clone, Default)]
pub struct Combination {
    /// Names of the features that language models give, in order: the models themselves, or
    /// [`MIX`] in place of those that are mixed.
    pub models: Vec<Name>,
    /// Every name that this program computes: models, members of a mix, counts.
    pub own: Vec<Name>,
    /// The weights.
    pub weights: Weights,
    /// Features with another policy than [`Missing::Pass`].
    pub missing: BTreeMap<String, Missing>,
}

/// The weighted features of one list.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    /// Names and weights, first-pass features first.
    pub terms: Vec<(Name, f64)>,
    /// Whether only the first pass counts: then its order stands, whatever its scores.
    pub first_pass_only: bool,
}

impl Weights {
    /// The weight of a feature, if it was given one.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }
}

impl Combination {
    /// Models without a weight: they count [`UNTUNED`].
    pub fn untuned(&self) -> impl Iterator<Item = &Name> {
        self.models.iter().filter(|name| self.weights.value(name).is_none())
    }

    /// Weighted names that this program does not compute: they must be first-pass features.
    pub fn first_pass_names(&self) -> impl Iterator<Item = (&str, f64)> {
        self.weights
            .values
            .iter()
            .filter(|(name, _)| !self.own.iter().any(|own| **own == ***name))
            .map(|(name, &weight)| (name.as_str(), weight))
    }

    /// The formula for a list, without the models in `left_out`.
    ///
    /// First-pass features count where weights name them. Otherwise exactly one does, with
    /// weight 1: [`SCORE`] if the list has it, else the sum of its [`PARTS`], else [`RANK`].
    pub fn formula(&self, utterance: &Utterance, left_out: &[String]) -> Formula {
        let has =
            |name: &str| utterance.hypotheses.iter().any(|hypothesis| hypothesis.feature(name).is_some());
        let mut terms: Vec<(Name, f64)> =
            self.first_pass_names().map(|(name, weight)| (name.into(), weight)).collect();
        if terms.is_empty() {
            if has(SCORE) {
                terms.push((SCORE.into(), 1.0));
            } else {
                terms.extend(PARTS.iter().filter(|part| has(part)).map(|&part| (part.into(), 1.0)));
            }
            if terms.is_empty() {
                terms.push((RANK.into(), 1.0));
            }
        }
        let first_pass = terms.len();
        // Without models, weights that name features are there to rank by them.
        let reranked = self.models.is_empty() && self.first_pass_names().next().is_some();
        let kept = |name: &Name| {
            !left_out.iter().any(|out| **out == **name || name.strip_suffix(".oov") == Some(out))
        };
        for name in self.models.iter().filter(|name| kept(name)) {
            terms.push((name.clone(), self.weights.value(name).unwrap_or(UNTUNED)));
        }
        for name in self.own.iter().filter(|name| kept(name) && !self.models.contains(name)) {
            if let Some(weight) = self.weights.value(name) {
                terms.push((name.clone(), weight));
            }
        }
        let first_pass_only = !reranked && terms[first_pass..].iter().all(|&(_, weight)| weight == 0.0);
        Formula { terms, first_pass_only }
    }

    /// Checks the names of weights and of what may be missing against the first list.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that neither the list nor any model has.
    pub fn check(&self, utterance: &Utterance) -> Result<()> {
        let missing = self.missing.keys().map(|name| ("--missing", name.as_str()));
        let missing = missing.filter(|(_, name)| !self.own.iter().any(|own| **own == **name));
        let weighted = self.first_pass_names().map(|(name, _)| ("a weight", name));
        for (what, name) in weighted.chain(missing).filter(|&(_, name)| name != RANK) {
            if !utterance.hypotheses.iter().any(|hypothesis| hypothesis.feature(name).is_some()) {
                let mut known: Vec<&str> = self.own.iter().map(|own| &**own).collect();
                for hypothesis in utterance.hypotheses.iter().take(1) {
                    known.extend(hypothesis.features.iter().map(|(name, _)| &**name));
                }
                known.push(RANK);
                return Err(Error::Config(format!(
                    "there is {what} for `{name}`, which neither the models nor the first list have; known: {}",
                    known.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// Sets the totals and puts the hypotheses best first: by total, then by first-pass rank.
    ///
    /// # Errors
    /// [`Error::Record`] if a weighted feature is missing or not finite for some hypothesis;
    /// the list is then unchanged.
    pub fn rank(&self, utterance: &mut Utterance, formula: &Formula) -> Result<()> {
        let totals = self.totals(utterance, formula, &|_| false)?;
        if let Some(at) = totals.iter().position(|total| !total.is_finite()) {
            return Err(Error::record(format!(
                "the total of hypothesis {} overflows; check the weights",
                utterance.hypotheses[at].rank
            )));
        }
        for (hypothesis, total) in utterance.hypotheses.iter_mut().zip(totals) {
            hypothesis.total = total + 0.0; // -0.0 and 0.0 are a tie
        }
        if formula.first_pass_only {
            utterance.hypotheses.sort_by_key(|hypothesis| hypothesis.rank);
        } else {
            utterance.hypotheses.sort_by(|a, b| b.total.total_cmp(&a.total).then(a.rank.cmp(&b.rank)));
        }
        Ok(())
    }

    /// The weighted sums of the features that `left_out` does not leave out.
    ///
    /// # Errors
    /// As [`Combination::rank`], for these features.
    pub(crate) fn totals(
        &self,
        utterance: &Utterance,
        formula: &Formula,
        left_out: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<f64>> {
        let mut totals = vec![0.0; utterance.hypotheses.len()];
        for (name, weight) in formula.terms.iter().filter(|term| term.1 != 0.0 && !left_out(&term.0)) {
            let values = self.column(utterance, name)?;
            for (total, value) in totals.iter_mut().zip(values) {
                *total += weight * value;
            }
        }
        Ok(totals)
    }

    /// Where only the winner is wanted and not every hypothesis has every feature of `models`: sets the
    /// totals of those that have, NaN for the others, and puts the one that [`Combination::rank`] would
    /// put first first, the others behind it in first-pass order. Returns how many have a total.
    ///
    /// # Errors
    /// As [`Combination::rank`]; also if no hypothesis has every feature.
    pub(crate) fn rank_scored(
        &self,
        utterance: &mut Utterance,
        formula: &Formula,
        models: &dyn Fn(&str) -> bool,
    ) -> Result<usize> {
        let mut known = Vec::new();
        let mut whole = Utterance::default();
        for hypothesis in &utterance.hypotheses {
            let has = |(name, _): &&(Name, f64)| hypothesis.feature(name).is_some_and(f64::is_finite);
            let mut needed = formula.terms.iter().filter(|term| term.1 != 0.0 && models(&term.0));
            if needed.all(|term| has(&term)) {
                known.push(hypothesis.rank);
                whole.hypotheses.push(hypothesis.clone());
            }
        }
        self.rank(&mut whole, formula)?;
        let best = whole.best().map(|best| best.rank);
        let best = best.ok_or_else(|| Error::record("no hypothesis was scored to its end"))?;
        for hypothesis in &mut utterance.hypotheses {
            let total = whole.hypotheses.iter().find(|other| other.rank == hypothesis.rank);
            hypothesis.total = total.map_or(f64::NAN, |other| other.total);
        }
        utterance.hypotheses.sort_by_key(|hypothesis| (hypothesis.rank != best, hypothesis.rank));
        Ok(known.len())
    }

    /// One feature of every hypothesis, finite.
    fn column(&self, utterance: &Utterance, name: &str) -> Result<Vec<f64>> {
        let mut values: Vec<f64> = utterance
            .hypotheses
            .iter()
            .map(|hypothesis| match hypothesis.feature(name) {
                None if name == RANK => -f64::from(hypothesis.rank).ln(),
                value => value.unwrap_or(f64::NAN),
            })
            .collect();
        let Some(at) = values.iter().position(|value| !value.is_finite()) else { return Ok(values) };
        let lowest = values.iter().copied().filter(|value| value.is_finite()).min_by(f64::total_cmp);
        match (self.missing.get(name), lowest) {
            (Some(Missing::Min), Some(lowest)) => {
                for value in values.iter_mut().filter(|value| !value.is_finite()) {
                    *value = lowest;
                }
                Ok(values)
            }
            _ => Err(Error::record(format!(
                "`{name}` of hypothesis {} is missing or not finite; --missing {name}=min would take the list's lowest",
                utterance.hypotheses[at].rank
            ))),
        }
    }
}

/// The formula as a person would write it: `score + 0.62 rnnlm + 0.8 words`.
impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, weight)) in self.terms.iter().enumerate() {
            let sign = match (at, *weight < 0.0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            match weight.abs() {
                1.0 => write!(f, "{sign}{name}")?,
                // In full it would be hundreds of digits.
                weight if weight >= 1e15 || weight < 1e-9 && weight > 0.0 => {
                    write!(f, "{sign}{weight:e} {name}")?
                }
                weight => write!(f, "{sign}{weight} {name}")?,
            }
        }
        Ok(())
    }
}

/// ln of the weighted sum of probabilities: `ln(sum of weight * exp(ln p))`, exact for very
/// small probabilities. Weights need not sum to 1; they are used as they are.
pub fn mix(members: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let top = members.clone().filter(|m| m.0 > 0.0).map(|m| m.1).fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return top;
    }
    let sum: f64 = members.filter(|m| m.0 > 0.0).map(|(weight, ln)| weight * (ln - top).exp()).sum();
    top + sum.ln()
}

/// Standard deviation of a feature within a list, of the population: how wide its scale is.
pub fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn combination(weights: &[(&str, f64)]) -> Combination {
        Combination {
            models: vec!["rnnlm".into()],
            own: ["rnnlm", "rnnlm.oov", WORDS].map(Name::from).to_vec(),
            weights: Weights {
                values: weights.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect(),
                ..Weights::default()
            },
            ..Combination::default()
        }
    }

    fn list(scores: &[(f64, f64)]) -> Utterance {
        let mut utterance = Utterance::new("u", scores.iter().map(|&(score, _)| ("text", score)));
        for (hypothesis, &(_, lm)) in utterance.hypotheses.iter_mut().zip(scores) {
            hypothesis.set(&"rnnlm".into(), lm);
            hypothesis.set(&WORDS.into(), 2.0);
        }
        utterance
    }

    fn ranks(combination: &Combination, utterance: &mut Utterance) -> Result<Vec<u32>> {
        let formula = combination.formula(utterance, &[]);
        combination.rank(utterance, &formula)?;
        Ok(utterance.hypotheses.iter().map(|hypothesis| hypothesis.rank).collect())
    }

    #[test]
    fn untuned_models_count_half_and_the_total_is_one_first_pass_feature() {
        let combination = combination(&[]);
        let mut utterance = list(&[(-1.0, -10.0), (-2.0, -6.0)]);
        utterance.hypotheses[0].set(&"am".into(), -0.5);
        let formula = combination.formula(&utterance, &[]);
        assert_eq!(formula.to_string(), "score + 0.5 rnnlm");
        assert_eq!(ranks(&combination, &mut utterance).unwrap(), [2, 1]);
        assert_eq!(utterance.hypotheses[0].total, -5.0);
    }

    #[test]
    fn parts_stand_for_a_missing_total_and_the_rank_for_everything() {
        let mut utterance = list(&[(0.0, -1.0), (0.0, -1.0)]);
        for hypothesis in &mut utterance.hypotheses {
            hypothesis.features.retain(|(name, _)| &**name != SCORE);
        }
        assert_eq!(combination(&[]).formula(&utterance, &[]).to_string(), "rank + 0.5 rnnlm");
        utterance.hypotheses[0].set(&"lm".into(), -1.0);
        utterance.hypotheses[0].set(&"am".into(), -1.0);
        assert_eq!(combination(&[]).formula(&utterance, &[]).to_string(), "am + lm + 0.5 rnnlm");
        let named = combination(&[("am", 0.1), ("rnnlm", 0.7), ("words", -0.3)]);
        assert_eq!(named.formula(&utterance, &[]).to_string(), "0.1 am + 0.7 rnnlm - 0.3 words");
        assert_eq!(named.formula(&utterance, &["rnnlm".into()]).to_string(), "0.1 am - 0.3 words");
    }

    #[test]
    fn weights_of_zero_leave_the_first_pass_order_even_against_its_scores() {
        let combination = combination(&[("rnnlm", 0.0)]);
        assert_eq!(ranks(&combination, &mut list(&[(-5.0, -1.0), (-1.0, -9.0)])).unwrap(), [1, 2]);
    }

    #[test]
    fn without_models_the_weights_of_features_rank() {
        let bare = |weights: &[(&str, f64)]| Combination { models: Vec::new(), ..combination(weights) };
        let scores = [(-5.0, -1.0), (-1.0, -9.0)];
        assert_eq!(ranks(&bare(&[]), &mut list(&scores)).unwrap(), [1, 2]);
        let weights = Combination { own: vec![WORDS.into()], ..bare(&[("score", 1.0)]) };
        assert_eq!(ranks(&weights, &mut list(&scores)).unwrap(), [2, 1]);
    }

    #[test]
    fn a_hypothesis_never_wins_by_failing() {
        let mut combination = combination(&[("rnnlm", 1.0)]);
        let mut utterance = list(&[(-1.0, -3.0), (-1.0, f64::NAN), (-1.0, -2.0)]);
        let error = ranks(&combination, &mut utterance).unwrap_err().to_string();
        assert!(error.contains("`rnnlm` of hypothesis 2 is missing or not finite"), "{error}");
        assert_eq!(utterance.hypotheses.iter().map(|h| h.rank).collect::<Vec<_>>(), [1, 2, 3]);
        combination.missing.insert("rnnlm".into(), Missing::Min);
        assert_eq!(ranks(&combination, &mut utterance).unwrap(), [3, 1, 2]);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let error = combination(&[("rnnml", 1.0)]).check(&list(&[(-1.0, -1.0)])).unwrap_err().to_string();
        assert!(error.contains("`rnnml`") && error.contains("rnnlm, "), "{error}");
        combination(&[("score", 1.0), ("rank", 0.1)]).check(&list(&[(-1.0, -1.0)])).unwrap();
        let mut typo = combination(&[]);
        typo.missing =
            [("score", Missing::Min), ("rnnml", Missing::Min)].map(|(n, m)| (n.to_owned(), m)).into();
        assert!(
            typo.check(&list(&[(-1.0, -1.0)])).unwrap_err().to_string().contains("--missing for `rnnml`")
        );
    }

    #[test]
    fn mixing_is_the_sum_of_probabilities() {
        let mixed = mix([(0.25, 0.5f64.ln()), (0.75, 0.1f64.ln())].into_iter());
        assert!((mixed - 0.2f64.ln()).abs() < 1e-12);
        assert!((mix([(0.5, -2000.0), (0.5, -2000.0)].into_iter()) + 2000.0).abs() < 1e-9);
        assert_eq!(mix([(1.0, -3.0), (0.0, f64::NAN)].into_iter()), -3.0);
    }

    proptest! {
        /// N1, N2: whatever the values, ranking never panics, is total and stable, and lists with
        /// special values in a weighted feature are left alone.
        #[test]
        fn ranking_is_total_and_stable(
            values in prop::collection::vec((prop_oneof![
                Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(0.0), Just(1e308), -3.0..3.0f64, Just(-1.0)
            ], prop_oneof![Just(0.0), Just(-0.0), Just(-1.0), Just(f64::NEG_INFINITY), -3.0..3.0f64]), 0..20)
        ) {
            let mut utterance = list(&values);
            let special = values.iter().any(|v| !v.0.is_finite() || !v.1.is_finite());
            match ranks(&combination(&[("rnnlm", 1.0)]), &mut utterance) {
                Ok(ranks) => {
                    prop_assert!(!special);
                    let mut expected: Vec<(f64, u32)> = values.iter().zip(1..).map(|(v, rank)| (v.0 + v.1 + 0.0, rank)).collect();
                    expected.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
                    prop_assert_eq!(ranks, expected.iter().map(|e| e.1).collect::<Vec<_>>());
                }
                Err(_) => {
                    prop_assert!(special);
                    prop_assert!(utterance.hypotheses.iter().zip(1..).all(|(h, rank)| h.rank == rank));
                }
            }
        }
    }
}
