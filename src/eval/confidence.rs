//! Whether confidences mean what they say: calibration on one set, judgement on another.

use super::wer::{Edit, Scorer};
use crate::combine;
use crate::consensus::{Calibration, Decision, Logistic, Word, decide, log_odds, posteriors};
use crate::nbest::Utterance;
use crate::tokens::{Markers, split};

/// Confidences with what came true.
#[derive(Debug, Clone, Default)]
pub struct Outcomes {
    pairs: Vec<(f64, bool)>,
}

/// One part of the scale of confidences.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// How many confidences fell into it.
    pub count: u64,
    /// Their mean.
    pub confidence: f64,
    /// How many of them, as a part, were right.
    pub right: f64,
}

impl Outcomes {
    /// Adds one.
    pub fn push(&mut self, confidence: f64, right: bool) {
        self.pairs.push((confidence, right));
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Self) {
        self.pairs.extend_from_slice(&other.pairs);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// How many, as a part, are right.
    pub fn right(&self) -> f64 {
        self.pairs.iter().filter(|pair| pair.1).count() as f64 / self.pairs.len().max(1) as f64
    }

    /// Normalised cross entropy, as NIST defines it: 1 is perfect, 0 is no better than giving every word
    /// the rate of right words, below 0 is worse. `None` where all are right or all are wrong.
    /// Confidences are kept a millionth away from 0 and 1, or one mistake would cost infinity.
    pub fn nce(&self) -> Option<f64> {
        let rate = self.right();
        let entropy = -(rate * rate.ln() + (1.0 - rate) * (1.0 - rate).ln());
        if !(entropy.is_finite() && entropy > 0.0) {
            return None;
        }
        let ln = |&(p, right): &(f64, bool)| {
            let p = p.clamp(1e-6, 1.0 - 1e-6);
            if right { p.ln() } else { (1.0 - p).ln() }
        };
        let cross = -self.pairs.iter().map(ln).sum::<f64>() / self.pairs.len() as f64;
        Some((entropy - cross) / entropy)
    }

    /// The reliability diagram: `bins` equal parts of the scale.
    pub fn bins(&self, bins: usize) -> Vec<Bin> {
        let mut out = vec![Bin::default(); bins.max(1)];
        let last = out.len() - 1;
        for &(p, right) in &self.pairs {
            let bin = &mut out[((p * bins as f64) as usize).min(last)];
            bin.count += 1;
            bin.confidence += p;
            bin.right += f64::from(u8::from(right));
        }
        for bin in out.iter_mut().filter(|bin| bin.count > 0) {
            bin.confidence /= bin.count as f64;
            bin.right /= bin.count as f64;
        }
        out
    }

    /// Expected calibration error over 10 bins: how far confidence and truth are apart on average.
    pub fn ece(&self) -> f64 {
        let apart = |bin: &Bin| bin.count as f64 * (bin.confidence - bin.right).abs();
        self.bins(10).iter().map(apart).sum::<f64>() / self.pairs.len().max(1) as f64
    }

    /// The slope and offset of the log odds that make what came true most likely (Platt 1999), by
    /// Newton's method. Where there is nothing to learn from, nothing is changed.
    pub fn logistic(&self) -> Logistic {
        if self.nce().is_none() {
            return Logistic::default();
        }
        let odds: Vec<(f64, bool)> = self.pairs.iter().map(|&(p, right)| (log_odds(p), right)).collect();
        // What all get alike is where the likelihood is well behaved, and what stays if posteriors say
        // nothing.
        let alike = [0.0, (self.right() / (1.0 - self.right())).ln()];
        let mut at = alike;
        let mut likelihood = log_likelihood(&odds, at);
        for _ in 0..100 {
            let step = newton(&odds, at);
            // Half the step until it helps: far from the top the parabola deceives.
            let taken = (0..30).map(|half| 0.5f64.powi(half)).find_map(|part| {
                let next = [at[0] + part * step[0], at[1] + part * step[1]];
                let reached = log_likelihood(&odds, next);
                (reached > likelihood).then_some((next, reached))
            });
            let Some((next, reached)) = taken else { break };
            let gain = reached - likelihood;
            (at, likelihood) = (next, reached);
            if gain < 1e-10 {
                break;
            }
        }
        // A negative slope would turn the order of words around: the posteriors say nothing then.
        let [slope, offset] = if at[0] < 0.0 { alike } else { at };
        Logistic { slope, offset }
    }
}

/// With a trace of a prior for slope 1 and offset 0, which keeps both finite where right and wrong can be
/// parted.
fn log_likelihood(odds: &[(f64, bool)], [slope, offset]: [f64; 2]) -> f64 {
    // ln of 1 / (1 + exp(-x)), exact for large x.
    let ln = |x: f64| if x > 0.0 { -(-x).exp().ln_1p() } else { x - x.exp().ln_1p() };
    let sum: f64 = odds
        .iter()
        .map(|&(x, right)| ln(if right { slope * x + offset } else { -(slope * x + offset) }))
        .sum();
    sum - PRIOR / 2.0 * ((slope - 1.0) * (slope - 1.0) + offset * offset)
}

/// The step of Newton's method from here.
fn newton(odds: &[(f64, bool)], [slope, offset]: [f64; 2]) -> [f64; 2] {
    let mut gradient = [-PRIOR * (slope - 1.0), -PRIOR * offset];
    let mut hessian = [PRIOR, 0.0, PRIOR];
    for &(x, right) in odds {
        let q = 1.0 / (1.0 + (-(slope * x + offset)).exp());
        let (error, weight) = (f64::from(u8::from(right)) - q, q * (1.0 - q));
        gradient[0] += error * x;
        gradient[1] += error;
        hessian[0] += weight * x * x;
        hessian[1] += weight * x;
        hessian[2] += weight;
    }
    let determinant = hessian[0] * hessian[2] - hessian[1] * hessian[1];
    [
        (hessian[2] * gradient[0] - hessian[1] * gradient[1]) / determinant,
        (hessian[0] * gradient[1] - hessian[1] * gradient[0]) / determinant,
    ]
}

const PRIOR: f64 = 1e-3;

/// One list for [`temperature`]: total and errors of each hypothesis.
pub type Totals = Vec<(f64, u32)>;

/// The temperature under which the hypotheses with the fewest errors of each list are most likely
/// together. Lists in which all have equally many say nothing. 1 where none says anything.
pub fn temperature(lists: &[Totals]) -> f64 {
    let telling = |list: &&Totals| {
        let errors = |(_, errors): &(f64, u32)| *errors;
        list.iter().all(|(total, _)| total.is_finite())
            && list.iter().map(errors).min() < list.iter().map(errors).max()
    };
    let lists: Vec<&Totals> = lists.iter().filter(telling).collect();
    let mut spreads: Vec<f64> = lists
        .iter()
        .map(|list| combine::deviation(&list.iter().map(|(total, _)| *total).collect::<Vec<_>>()))
        .filter(|spread| *spread > 0.0)
        .collect();
    spreads.sort_by(f64::total_cmp);
    let Some(&spread) = spreads.get(spreads.len() / 2) else { return 1.0 };
    let likelihood = |temperature: f64| -> f64 {
        let one = |list: &&Totals| {
            let least = list.iter().map(|(_, errors)| *errors).min();
            let p = posteriors(list.iter().map(|(total, _)| *total), temperature);
            let mass: f64 =
                p.iter().zip(list.iter()).filter(|(_, h)| Some(h.1) == least).map(|(p, _)| p).sum();
            mass.max(1e-300).ln()
        };
        lists.iter().map(one).sum()
    };
    // In multiples of the spread: a grid for the valley, golden section for its floor.
    let at = |step: f64| spread * 2f64.powf(step);
    let reached = |step: f64| (step, likelihood(at(step)));
    let grid = (-40..=40).map(|step| reached(f64::from(step) / 4.0));
    let best = grid.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0.0, |(step, _)| step);
    let (mut low, mut high) = (best - 0.25, best + 0.25);
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let mut left = reached(high - golden * (high - low));
    let mut right = reached(low + golden * (high - low));
    for _ in 0..40 {
        if left.1 > right.1 {
            (high, right) = (right.0, left);
            left = reached(high - golden * (high - low));
        } else {
            (low, left) = (left.0, right);
            right = reached(low + golden * (high - low));
        }
    }
    at((low + high) / 2.0)
}

/// Learns everything a [`Calibration`] has from rescored lists with references: best first, with
/// totals.
pub fn calibrate(utterances: &[Utterance], markers: &Markers, scorer: &mut Scorer) -> Calibration {
    let mut lists = Vec::with_capacity(utterances.len());
    for (utterance, reference) in referenced(utterances) {
        scorer.reference(reference);
        let errors = |bytes: &[u8], scorer: &mut Scorer| scorer.counts(bytes).errors() as u32;
        lists.push(utterance.hypotheses.iter().map(|h| (h.total, errors(&h.bytes, scorer))).collect());
    }
    let mut calibration = Calibration { temperature: temperature(&lists), ..Calibration::default() };
    let (words, whole) = outcomes(utterances, markers, scorer, &calibration);
    calibration.word = words.logistic();
    calibration.utterance = whole.logistic();
    calibration
}

/// What came true of the confidences that a calibration gives the best hypotheses: of words, and of
/// whole utterances.
pub fn outcomes(
    utterances: &[Utterance],
    markers: &Markers,
    scorer: &Scorer,
    calibration: &Calibration,
) -> (Outcomes, Outcomes) {
    let (mut words, mut whole) = (Outcomes::default(), Outcomes::default());
    for (utterance, reference) in referenced(utterances) {
        let consensus = decide(utterance, markers, calibration, Decision::Best);
        let Some(right) = right(scorer, reference, &consensus.words) else { continue };
        whole.push(consensus.confidence, right.whole);
        for (word, right) in consensus.words.iter().zip(right.words) {
            words.push(word.confidence, right);
        }
    }
    (words, whole)
}

/// What of some words is right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Right {
    /// For each word.
    pub words: Vec<bool>,
    /// Whether all of the reference is there, and nothing else.
    pub whole: bool,
}

/// Which words of a hypothesis are right, by the scorer's alignment. Where its normalisation makes
/// several of one word, all of them have to be; where it makes none, the word is right. `None` where
/// both are so long (beyond sixteen thousand words) that an alignment would take all memory.
pub fn right(scorer: &Scorer, reference: &[u8], words: &[Word]) -> Option<Right> {
    if (split(reference).count() as u64).saturating_mul(words.len() as u64) > MOST_CELLS {
        return None;
    }
    let text = words.iter().map(|word| &word.bytes[..]).collect::<Vec<_>>().join(&b' ');
    let edits = scorer.align(reference, &text);
    let whole = edits.iter().all(|edit| matches!(edit, Edit::Correct(_)));
    let mut heard = edits.iter().filter_map(|edit| match edit {
        Edit::Correct(_) => Some(true),
        Edit::Substitution { .. } | Edit::Insertion(_) => Some(false),
        Edit::Deletion(_) => None,
    });
    let words = words.iter().map(|word| {
        let parts = scorer.parts(&word.bytes).len();
        (0..parts).fold(true, |all, _| heard.next().unwrap_or(false) && all)
    });
    Some(Right { words: words.collect(), whole })
}

/// A byte each.
const MOST_CELLS: u64 = 1 << 28;

fn referenced(utterances: &[Utterance]) -> impl Iterator<Item = (&Utterance, &[u8])> {
    utterances.iter().filter(|u| !u.hypotheses.is_empty()).filter_map(|u| Some((u, u.reference.as_deref()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes_of(count: u32, p: impl Fn(f64) -> f64) -> Outcomes {
        // Right with a probability of exactly q for each stated p(q).
        let mut out = Outcomes::default();
        for step in 1..20 {
            let q = f64::from(step) / 20.0;
            for n in 0..count {
                out.push(p(q), f64::from(n) + 0.5 < q * f64::from(count));
            }
        }
        out
    }

    #[test]
    fn nce_by_hand() {
        let mut out = Outcomes::default();
        [(0.9, true), (0.8, true), (0.6, false), (0.7, true)].iter().for_each(|&(p, r)| out.push(p, r));
        let max = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln()) * 4.0;
        let cross = -(0.9f64.ln() + 0.8f64.ln() + 0.4f64.ln() + 0.7f64.ln());
        assert!((out.nce().unwrap() - (max - cross) / max).abs() < 1e-12);
        assert_eq!(Outcomes::default().nce(), None);
        let mut all = Outcomes::default();
        all.push(1.0, true);
        assert_eq!((all.nce(), all.logistic()), (None, Logistic::default()));
    }

    #[test]
    fn reliability_in_bins() {
        let good = outcomes_of(1000, |q| q);
        assert!(good.ece() < 2e-3, "{}", good.ece());
        assert_eq!(good.bins(10).iter().map(|bin| bin.count).sum::<u64>(), 19_000);
        let sure = outcomes_of(1000, |_| 1.0);
        assert!((sure.ece() - 0.5).abs() < 1e-6 && sure.nce().unwrap() < 0.0);
        assert_eq!(sure.bins(10)[9].count, 19_000);
    }

    #[test]
    fn a_squeezed_scale_is_stretched_back() {
        let odds = |q: f64| (q / (1.0 - q)).ln();
        // Stated log odds are 1.5 times the true ones, and 1 too many.
        let stated = |q: f64| 1.0 / (1.0 + (-(1.5 * odds(q) + 1.0)).exp());
        let raw = outcomes_of(2000, stated);
        let map = raw.logistic();
        assert!((map.slope - 2.0 / 3.0).abs() < 5e-3 && (map.offset + 2.0 / 3.0).abs() < 5e-3, "{map:?}");
        let mut mapped = Outcomes::default();
        raw.pairs.iter().for_each(|&(p, right)| mapped.push(map.map(p), right));
        assert!(mapped.nce() > raw.nce() && mapped.ece() < 0.01);
        // Most are certain, and a tenth of these wrong: no start may lead astray.
        let mut sure = Outcomes::default();
        (0..1000).for_each(|n| sure.push(1.0, n % 10 != 0));
        (0..1000).for_each(|n| sure.push(0.6, n % 2 == 0));
        let map = sure.logistic();
        assert!((map.map(1.0) - 0.9).abs() < 1e-3 && (map.map(0.6) - 0.5).abs() < 1e-3, "{map:?}");
        // What is the wrong way round is not believed.
        assert_eq!(outcomes_of(100, |q| 1.0 - q).logistic().slope, 0.0);
        // Perfectly parted: finite all the same.
        let mut parted = Outcomes::default();
        (0..50).for_each(|n| parted.push(if n % 2 == 0 { 0.9 } else { 0.1 }, n % 2 == 0));
        assert!(parted.logistic().slope.is_finite());
    }

    #[test]
    fn the_temperature_that_drew_the_lists_is_found() {
        for truth in [0.5, 4.0, 300.0] {
            // Totals 0 and -x; the second is right as often as a softmax at the temperature says.
            let lists: Vec<Totals> = (1..=30)
                .flat_map(|step| {
                    let gap = truth * f64::from(step) / 10.0;
                    let second = 1.0 / (1.0 + (gap / truth).exp());
                    (0..200).map(move |n| {
                        let first = f64::from(n) + 0.5 > 200.0 * second;
                        vec![(0.0, u32::from(!first)), (-gap, u32::from(first))]
                    })
                })
                .collect();
            let found = temperature(&lists);
            assert!((found / truth - 1.0).abs() < 0.03, "{found} for {truth}");
        }
        assert_eq!(temperature(&[]), 1.0);
        assert_eq!(temperature(&[vec![(0.0, 1), (-1.0, 1)]]), 1.0);
    }

    #[test]
    fn right_words_by_alignment() {
        let word = |text: &str| Word { bytes: text.into(), confidence: 0.5 };
        let scorer = Scorer::words();
        let words = ["a", "cat", "sat", "down"].map(word);
        let found = right(&scorer, b"a bat sat", &words).unwrap();
        assert_eq!(found, Right { words: vec![true, false, true, false], whole: false });
        // A deletion leaves every word right, and the whole wrong.
        assert_eq!(
            right(&scorer, b"a cat", &[word("a")]).unwrap(),
            Right { words: vec![true], whole: false }
        );
        let split = super::super::Normaliser {
            map: crate::tokens::TextMap { split_hyphens: true, ..Default::default() },
            ..Default::default()
        };
        let found =
            right(&split.scorer(Scorer::words()), b"twenty one", &[word("twenty-two"), word("one")]).unwrap();
        assert_eq!(found.words, [false, true]);
    }
}
