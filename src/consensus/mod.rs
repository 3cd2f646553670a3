//! More than the best path: what all hypotheses of a list say together.
//!
//! Totals become posteriors (a softmax at a temperature), hypotheses of equal words count as one,
//! and from these come the confidence of each word and of the whole utterance, and two other
//! decisions than the greatest total: the hypothesis with the fewest expected word errors (MBR;
//! Goel & Byrne 2000) and the words that win the vote position by position (ROVER; Fiscus 1997,
//! over one list as SRILM's `nbest-lattice` does).
//!
//! ```
//! use secondpass::consensus::{Calibration, Decision, decide};
//! use secondpass::{Utterance, tokens::Markers};
//! let mut utterance = Utterance::new("utt1", [("a cat sat", -1.0), ("a cat sad", -1.5), ("a bat sad", -1.6)]);
//! utterance.hypotheses.iter_mut().for_each(|h| h.total = h.features[0].1);
//! let consensus = decide(&utterance, &Markers::default(), &Calibration::default(), Decision::Rover);
//! let words: Vec<_> = consensus.words.iter().map(|word| String::from_utf8_lossy(&word.bytes)).collect();
//! // `sad` is in two hypotheses, `sat` in one.
//! assert_eq!(words, ["a", "cat", "sad"]);
//! assert!(consensus.words[0].confidence > 0.99 && consensus.words[2].confidence < 0.6);
//! ```

mod distance;
mod network;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::nbest::Utterance;
use crate::tokens::Markers;
use distance::Pattern;
use network::Network;

/// How a list is decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The greatest total.
    #[default]
    Best,
    /// The hypothesis with the fewest expected word errors.
    Mbr,
    /// The words that win position by position; they need not be a hypothesis of the list.
    Rover,
}

/// What turns totals into probabilities that mean what they say; `tune` learns it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Calibration {
    /// Totals are divided by it before the softmax: above 1 makes posteriors less sure.
    pub temperature: f64,
    /// From a word's posterior to its confidence.
    pub word: Logistic,
    /// From the winner's posterior to the confidence that all of it is right.
    pub utterance: Logistic,
}

/// `p` becomes `1 / (1 + exp(-(slope * ln(p / (1 - p)) + offset)))` (Platt 1999).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logistic {
    /// Factor of the log odds; 1 leaves them.
    pub slope: f64,
    /// Added to the log odds; 0 leaves them.
    pub offset: f64,
}

/// A word and the probability that it is right.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// As it stands in the hypothesis.
    pub bytes: Vec<u8>,
    /// From 0 to 1.
    pub confidence: f64,
}

/// What was made of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Consensus {
    /// The hypotheses' indexes, best first.
    pub order: Vec<usize>,
    /// Probability of each hypothesis, in the order of the utterance's; they sum to 1. Equal
    /// words do not share theirs here.
    pub posteriors: Vec<f64>,
    /// The words decided for.
    pub words: Vec<Word>,
    /// Probability that all words are right.
    pub confidence: f64,
}

/// Decides a rescored list: hypotheses best first, with totals.
///
/// [`Decision::Best`] and [`Decision::Rover`] leave its order, [`Decision::Mbr`] puts the fewest expected
/// errors first; on a tie the list's order stays. Of more than a thousand distinct texts the likeliest
/// thousand have a say. Words of texts over two thousand words are not aligned: they have the confidence
/// of the whole, and the order stays. Time is that of one alignment for each
/// distinct text, and for MBR of one for each pair of them. Never panics for any input; an empty list
/// gives an empty consensus.
pub fn decide(
    utterance: &Utterance,
    markers: &Markers,
    calibration: &Calibration,
    decision: Decision,
) -> Consensus {
    let list = List::new(utterance, markers, calibration.temperature);
    let mut order: Vec<usize> = (0..list.class.len()).collect();
    if order.is_empty() {
        return Consensus::default();
    }
    if decision == Decision::Mbr && !list.long() {
        let risks = list.risks();
        let risk = |at: usize| risks[list.class[at]];
        order.sort_by(|&a, &b| risk(a).total_cmp(&risk(b)));
    }
    let winner = list.class[order[0]];
    let network = list.network(winner);
    let (spoken, confidence) = match decision {
        _ if list.long() => {
            let mass = list.masses[winner];
            (list.texts[winner].iter().map(|&word| (word, mass)).collect(), mass)
        }
        Decision::Rover => {
            let spoken = network.best();
            let same = list.find(spoken.iter().map(|&(word, _)| word));
            // Words of no hypothesis were heard as a whole by none.
            let whole = spoken.iter().map(|&(_, posterior)| posterior).product();
            (spoken, same.map_or(whole, |class| list.masses[class]))
        }
        _ => (network.pivot(), list.masses[winner]),
    };
    let word = |(word, posterior): (u32, f64)| Word {
        bytes: list.words[word as usize].to_vec(),
        confidence: calibration.word.map(posterior),
    };
    Consensus {
        words: spoken.into_iter().map(word).collect(),
        confidence: calibration.utterance.map(confidence),
        order,
        posteriors: list.posteriors,
    }
}

/// The hypothesis with the fewest expected word errors, as [`Decision::Mbr`] chooses it, of a list that is
/// best first; `None` if it is empty.
pub fn mbr(utterance: &Utterance, markers: &Markers, temperature: f64) -> Option<usize> {
    let list = List::new(utterance, markers, temperature);
    if list.long() {
        return (!list.class.is_empty()).then_some(0);
    }
    let risks = list.risks();
    (0..list.class.len()).min_by(|&a, &b| risks[list.class[a]].total_cmp(&risks[list.class[b]]))
}

/// Probabilities of totals at a temperature: their softmax, exact for totals of any size. A total
/// that is not a number has none; if none is a number all are equally likely.
pub fn posteriors(totals: impl Iterator<Item = f64> + Clone, temperature: f64) -> Vec<f64> {
    let top = totals.clone().filter(|total| !total.is_nan()).fold(f64::NEG_INFINITY, f64::max);
    let scale = if temperature > 0.0 { temperature } else { 1.0 };
    let mass = |total: f64| if total == top { 1.0 } else { ((total - top) / scale).exp() };
    let mut masses: Vec<f64> = totals.map(|total| if total.is_nan() { 0.0 } else { mass(total) }).collect();
    let sum: f64 = masses.iter().sum();
    let count = masses.len() as f64;
    masses.iter_mut().for_each(|mass| *mass = if sum > 0.0 { *mass / sum } else { 1.0 / count });
    masses
}

impl Default for Calibration {
    fn default() -> Self {
        Self { temperature: 1.0, word: Logistic::default(), utterance: Logistic::default() }
    }
}

impl Default for Logistic {
    fn default() -> Self {
        Self { slope: 1.0, offset: 0.0 }
    }
}

impl Logistic {
    /// The confidence for a posterior, from 0 to 1.
    pub fn map(&self, posterior: f64) -> f64 {
        if *self == Self::default() {
            return posterior.clamp(0.0, 1.0);
        }
        1.0 / (1.0 + (-(self.slope * log_odds(posterior) + self.offset)).exp())
    }
}

/// `ln(p / (1 - p))`, kept finite: what all hypotheses of a list share is not certain for that, and a
/// list of some dozens cannot say more than one in three hundred.
pub fn log_odds(p: f64) -> f64 {
    const EDGE: f64 = 0.003;
    let p = p.clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

/// A list as classes of equal words, words as numbers.
struct List<'a> {
    /// Spelling of each word number.
    words: Vec<&'a [u8]>,
    /// Words of each class.
    texts: Vec<Vec<u32>>,
    /// Class of each hypothesis.
    class: Vec<usize>,
    /// Probability of each hypothesis.
    posteriors: Vec<f64>,
    /// Probability of each class.
    masses: Vec<f64>,
}

impl<'a> List<'a> {
    fn new(utterance: &'a Utterance, markers: &Markers, temperature: f64) -> Self {
        let hypotheses = &utterance.hypotheses;
        let posteriors = posteriors(hypotheses.iter().map(|h| h.total), temperature);
        let (mut words, mut numbers) = (Vec::new(), HashMap::new());
        let (mut texts, mut class, mut masses) = (Vec::new(), Vec::new(), Vec::new());
        let mut classes: HashMap<Vec<u32>, usize> = HashMap::new();
        for (hypothesis, posterior) in hypotheses.iter().zip(&posteriors) {
            let number = |word: &'a [u8]| {
                *numbers.entry(word).or_insert_with(|| {
                    words.push(word);
                    words.len() as u32 - 1
                })
            };
            let text: Vec<u32> = markers.words(&hypothesis.bytes).into_iter().map(number).collect();
            let at = *classes.entry(text).or_insert_with_key(|text| {
                texts.push(text.clone());
                masses.push(0.0);
                texts.len() - 1
            });
            masses[at] += posterior;
            class.push(at);
        }
        Self { words, texts, class, posteriors, masses }
    }

    fn find(&self, text: impl Iterator<Item = u32>) -> Option<usize> {
        let text: Vec<u32> = text.collect();
        self.texts.iter().position(|other| *other == text)
    }

    /// Whether some text is too long to be aligned: time and memory grow with the square.
    fn long(&self) -> bool {
        self.texts.iter().any(|text| text.len() > MOST_WORDS)
    }

    /// The classes that have a say, likeliest first.
    fn likeliest(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.texts.len()).collect();
        order.sort_by(|&a, &b| self.masses[b].total_cmp(&self.masses[a]));
        order.truncate(MOST_TEXTS);
        order
    }

    /// Expected word errors of each class, if what was said is one of them; infinitely many for those
    /// without a say.
    fn risks(&self) -> Vec<f64> {
        let likeliest = self.likeliest();
        let mut risks = vec![f64::INFINITY; self.texts.len()];
        likeliest.iter().for_each(|&class| risks[class] = 0.0);
        for (at, &class) in likeliest.iter().enumerate() {
            let pattern = Pattern::new(&self.texts[class], self.words.len());
            for &other in &likeliest[..at] {
                let distance = f64::from(pattern.distance(&self.texts[other]));
                risks[class] += self.masses[other] * distance;
                risks[other] += self.masses[class] * distance;
            }
        }
        risks
    }

    /// The likeliest classes aligned to `pivot`; it alone where texts are too long.
    fn network(&self, pivot: usize) -> Network {
        let mut network = Network::new(&self.texts[pivot], self.masses[pivot]);
        let others = self.likeliest().into_iter().filter(|&at| at != pivot && self.masses[at] > NEGLIGIBLE);
        for at in others.take_while(|_| !self.long()) {
            network.add(&self.texts[at], self.masses[at]);
        }
        network
    }
}

/// Distinct texts that have a say.
const MOST_TEXTS: usize = 1000;

/// Words of a text that is aligned: ten minutes of speech.
const MOST_WORDS: usize = 2000;

/// What is less likely changes no confidence that anybody can see.
const NEGLIGIBLE: f64 = 1e-9;

#[cfg(test)]
mod tests;
