//! What the lists themselves say of features and weights: nothing here needs a model.

use super::cases::Cases;
use super::summary::samples;
use crate::Result;
use crate::combine::{MIX, RANK, SCORE, WORDS};
use crate::consensus::{Calibration, Decision, decide};
use crate::eval::confidence::{Outcomes, Right, calibrate, right};
use crate::eval::{Bootstrap, Counts, Estimate, Feature, Problem, Scorer, Tuner};
use crate::nbest::{Hypothesis, Utterance};
use crate::tokens::Markers;

/// Lists with their features by name.
pub struct Study<'a> {
    all: &'a Cases,
    markers: Markers,
    /// First-pass features that count, the one with a fixed weight in front.
    pub base: Vec<String>,
    /// Features of language models.
    pub models: Vec<String>,
    /// Weights in force: what makes the totals, where that can be told.
    pub weights: Vec<(String, f64)>,
    /// Errors of each hypothesis of each case.
    errors: Vec<Vec<u32>>,
}

/// Weights learnt on other folds: the name of the set, its features, its error.
pub struct Learnt {
    pub name: String,
    pub features: String,
    pub rate: Estimate,
}

/// Another decision over the same totals.
pub struct Decided {
    pub name: &'static str,
    pub rate: Estimate,
}

impl<'a> Study<'a> {
    /// Looks at what features there are.
    pub fn new(all: &'a Cases, scorer: &mut Scorer) -> Self {
        let markers = Markers::default();
        let errors = all.cases.iter().map(|case| {
            scorer.reference(&case.reference);
            let list = case.list.iter().flat_map(|list| &list.hypotheses);
            list.map(|h| scorer.counts(&h.bytes).errors() as u32).collect()
        });
        let errors = errors.collect();
        let mut study =
            Self { all, markers, base: Vec::new(), models: Vec::new(), weights: Vec::new(), errors };
        let Some(first) = study.lists().flat_map(|list| &list.hypotheses).next() else { return study };
        let names: Vec<String> = first.features.iter().map(|(name, _)| name.to_string()).collect();
        let counted = |name: &str| names.iter().any(|other| other.strip_suffix(".oov") == Some(name));
        study.models = names.iter().filter(|name| counted(name) || *name == MIX).cloned().collect();
        let own = |name: &str| {
            study.models.iter().any(|model| model == name) || name == WORDS || name.ends_with(".oov")
        };
        let mut base: Vec<String> = names.iter().filter(|name| !own(name)).cloned().collect();
        study.weights = study.recover(&names);
        // Of the first pass, what has a weight; else the total, or whatever there is.
        let weighed = |name: &String| study.weights.iter().any(|(other, w)| other == name && *w != 0.0);
        if base.iter().any(weighed) {
            base.retain(weighed);
        } else if base.iter().any(|name| name == SCORE) {
            base.retain(|name| name == SCORE);
        }
        if base.is_empty() {
            base.push(RANK.to_owned());
        }
        study.base = base;
        study
    }

    fn lists(&self) -> impl Iterator<Item = &'a Utterance> {
        self.all.cases.iter().filter_map(|case| case.list.as_ref())
    }

    /// Error of each feature set, weights cross-validated over speakers.
    pub fn learnt(&self, progress: &mut dyn FnMut()) -> Result<Vec<Learnt>> {
        let members: Vec<&String> = self.models.iter().filter(|name| *name != MIX).collect();
        let mut sets: Vec<(String, Vec<&String>)> =
            members.iter().take(MOST_MODELS).map(|&name| (format!("+ {name}"), vec![name])).collect();
        if members.len() > 1 {
            sets.push(("all, log-linear".into(), members.clone()));
        }
        if let Some(mix) = self.models.iter().find(|name| *name == MIX) {
            sets.push(("all, mixed by word".into(), vec![mix]));
        }
        let mut learnt = Vec::new();
        for (name, models) in sets {
            let mut features = self.base.clone();
            features.extend(models.iter().map(|name| (*name).clone()));
            features.push(WORDS.to_owned());
            let problem = self.problem(&features, models.len())?;
            let tuned = Tuner {
                bootstrap: Bootstrap { resamples: 2000, ..Bootstrap::default() },
                ..Tuner::default()
            }
            .run(&problem);
            learnt.push(Learnt { name, features: features.join(", "), rate: tuned.comparison.after });
            progress();
        }
        Ok(learnt)
    }

    /// A problem of these features: the first fixed, and those of models (the last but `words`) not
    /// negative.
    pub fn problem(&self, features: &[String], models: usize) -> Result<Problem> {
        let weight =
            |name: &str| self.weights.iter().find(|(other, _)| other == name).map_or(1.0, |(_, w)| *w);
        let last = features.len().saturating_sub(1);
        let feature = |(at, name): (usize, &String)| match at {
            0 => Feature::fixed(name, if weight(name) == 0.0 { 1.0 } else { weight(name) }),
            _ if at < last && at + models >= last => Feature::free(name).at_least(0.0),
            _ => Feature::free(name),
        };
        let mut problem = Problem::new(features.iter().enumerate().map(feature).collect())?;
        for (case, errors) in self.all.cases.iter().zip(&self.errors) {
            let hypotheses = case.list.iter().flat_map(|list| &list.hypotheses);
            let values: Vec<f64> =
                hypotheses.flat_map(|h| features.iter().map(|name| self.value(h, name))).collect();
            problem.push(case.speaker.as_deref(), case.counts[0].reference, errors, &values)?;
        }
        Ok(problem)
    }

    fn value(&self, hypothesis: &Hypothesis, name: &str) -> f64 {
        match hypothesis.feature(name) {
            Some(value) => value,
            None if name == RANK => -f64::from(hypothesis.rank).ln(),
            None if name == WORDS => self.markers.words(&hypothesis.bytes).len() as f64,
            None => f64::NAN,
        }
    }

    /// The weights that make the totals of these features: least squares over what differs within
    /// lists, kept only if they make them to the last digits that matter.
    fn recover(&self, names: &[String]) -> Vec<(String, f64)> {
        let mut names = names.to_vec();
        names.push(RANK.to_owned());
        let mut rows = Vec::new();
        let mut targets = Vec::new();
        for list in self.lists() {
            let Some(first) = list.hypotheses.first() else { continue };
            for other in list.hypotheses.iter().skip(1).take(ENOUGH) {
                let row: Vec<f64> =
                    names.iter().map(|name| self.value(other, name) - self.value(first, name)).collect();
                let target = other.total - first.total;
                if target.is_finite() && row.iter().all(|value| value.is_finite()) {
                    rows.push(row);
                    targets.push(target);
                }
            }
        }
        let weights = least_squares(&rows, &targets);
        let near = |row: &Vec<f64>, target: f64| {
            let sum: f64 = row.iter().zip(&weights).map(|(value, weight)| value * weight).sum();
            (sum - target).abs() <= 1e-6 * (1.0 + target.abs())
        };
        let exact = rows.iter().zip(&targets).filter(|(row, target)| near(row, **target)).count();
        // A few lists may have been answered without some model.
        if rows.is_empty() || exact * 10 < rows.len() * 9 {
            return Vec::new();
        }
        let round = |weight: f64| format!("{weight:.6e}").parse().unwrap_or(weight);
        names
            .into_iter()
            .zip(weights)
            .map(|(name, weight)| (name, round(weight)))
            .filter(|(_, w)| w.abs() > 1e-9)
            .collect()
    }

    /// MBR and ROVER, and confidences, over the totals: each half of the groups calibrated on the other.
    pub fn consensus(&self, words: &mut Scorer, scorer: &mut Scorer) -> (Vec<Decided>, [Outcomes; 2]) {
        let mut outcomes = [Outcomes::default(), Outcomes::default()];
        let known = |list: &Utterance| list.hypotheses.iter().all(|h| !h.total.is_nan());
        if !self.lists().all(known) || self.weights.is_empty() {
            return (Vec::new(), outcomes);
        }
        let halves = self.halves();
        let ranked: Vec<Utterance> = self.all.cases.iter().map(ranked).collect();
        let half = |which: bool| -> Vec<Utterance> {
            ranked.iter().zip(&halves).filter(|(_, half)| **half == which).map(|(u, _)| u.clone()).collect()
        };
        let calibrations: Vec<Calibration> =
            [true, false].iter().map(|&other| calibrate(&half(other), &self.markers, words)).collect();
        let mut decided = Vec::new();
        for (name, decision) in [("MBR", Decision::Mbr), ("ROVER", Decision::Rover)] {
            let mut errors = Vec::with_capacity(ranked.len());
            for ((case, list), &half) in self.all.cases.iter().zip(&ranked).zip(&halves) {
                let consensus = decide(list, &self.markers, &calibrations[usize::from(half)], decision);
                let text = consensus.words.iter().map(|word| &word.bytes[..]).collect::<Vec<_>>().join(&b' ');
                scorer.reference(&case.reference);
                let counts: Counts = scorer.counts(&text);
                errors.push(counts.errors());
            }
            let bootstrap = Bootstrap { resamples: 2000, ..Bootstrap::default() };
            let comparison = bootstrap.compare(&samples(self.all, errors));
            decided.push(Decided { name, rate: comparison.after });
        }
        for ((case, list), &half) in self.all.cases.iter().zip(&ranked).zip(&halves) {
            let consensus = decide(list, &self.markers, &calibrations[usize::from(half)], Decision::Best);
            if list.hypotheses.is_empty() {
                continue;
            }
            let right = right(words, &case.reference, &consensus.words);
            let Some(Right { words: right, whole }) = right else { continue };
            outcomes[1].push(consensus.confidence, whole);
            for (word, right) in consensus.words.iter().zip(right) {
                outcomes[0].push(word.confidence, right);
            }
        }
        (decided, outcomes)
    }

    /// Two halves, speakers whole.
    fn halves(&self) -> Vec<bool> {
        let mut known = std::collections::HashMap::new();
        let half = |(at, case): (usize, &super::cases::Case)| {
            let next = known.len() % 2 == 1;
            case.speaker.as_ref().map_or(at % 2 == 1, |speaker| *known.entry(speaker.clone()).or_insert(next))
        };
        self.all.cases.iter().enumerate().map(half).collect()
    }
}

/// The case's list, best first.
fn ranked(case: &super::cases::Case) -> Utterance {
    let mut list = case.list.clone().unwrap_or_default();
    list.hypotheses.sort_by(|a, b| b.total.total_cmp(&a.total).then(a.rank.cmp(&b.rank)));
    list
}

/// Weights that make `targets` of the rows with the least squared error; 0 for what is constant or a
/// sum of others. By elimination with the largest pivot first.
fn least_squares(rows: &[Vec<f64>], targets: &[f64]) -> Vec<f64> {
    let width = rows.first().map_or(0, Vec::len);
    let column = |k: usize| rows.iter().map(move |row| row[k]);
    let norms: Vec<f64> = (0..width).map(|k| column(k).map(|v| v * v).sum::<f64>().sqrt()).collect();
    let scale = |k: usize| if norms[k] > 0.0 { 1.0 / norms[k] } else { 0.0 };
    let dot =
        |k: usize, l: usize| column(k).zip(column(l)).map(|(a, b)| a * b).sum::<f64>() * scale(k) * scale(l);
    let mut matrix: Vec<Vec<f64>> = (0..width)
        .map(|k| {
            let mut row: Vec<f64> = (0..width).map(|l| dot(k, l)).collect();
            row.push(column(k).zip(targets).map(|(a, b)| a * b).sum::<f64>() * scale(k));
            row
        })
        .collect();
    let mut done = vec![false; width];
    for _ in 0..width {
        let open = (0..width).filter(|&k| !done[k]);
        let Some(pivot) = open.max_by(|&a, &b| matrix[a][a].total_cmp(&matrix[b][b])) else { break };
        // What is left of a column that others explain.
        if matrix[pivot][pivot] < 1e-9 {
            break;
        }
        done[pivot] = true;
        let factor = matrix[pivot][pivot];
        matrix[pivot].iter_mut().for_each(|value| *value /= factor);
        let row = matrix[pivot].clone();
        for (_, other) in matrix.iter_mut().enumerate().filter(|(k, _)| *k != pivot) {
            let factor = other[pivot];
            other.iter_mut().zip(&row).for_each(|(value, pivot)| *value -= factor * pivot);
        }
    }
    (0..width).map(|k| if done[k] { matrix[k][width] * scale(k) } else { 0.0 }).collect()
}

/// Models with a row of their own.
const MOST_MODELS: usize = 6;

/// Hypotheses of a list that tell the weights.
const ENOUGH: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_recovered_and_what_says_nothing_has_none() {
        // a, b, a constant, and the sum of a and b.
        let rows: Vec<Vec<f64>> = (0..40)
            .map(|n| {
                let (a, b) = (f64::from(n * 7 % 13) - 5000.0, f64::from(n * 5 % 11));
                vec![a, b, 0.0, a + b]
            })
            .collect();
        let targets: Vec<f64> = rows.iter().map(|row| 0.1 * row[0] - 2.0 * row[1]).collect();
        let found = least_squares(&rows, &targets);
        let made = |row: &Vec<f64>| row.iter().zip(&found).map(|(value, weight)| value * weight).sum::<f64>();
        assert!(
            rows.iter().zip(&targets).all(|(row, target)| (made(row) - target).abs() < 1e-6),
            "{found:?}"
        );
        assert_eq!(found[2], 0.0);
        assert_eq!(found.iter().filter(|weight| **weight == 0.0).count(), 2);
        assert!(least_squares(&[], &[]).is_empty());
    }
}
