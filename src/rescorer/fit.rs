//! Learns what to expect of unscored words, and how far it can be trusted, from lists that are scored in
//! full: each list's race is run again and again with what it would have known.
//!
//! How often a margin costs the winner is counted on lists that its [`Tail`] was not learnt on. What the
//! tail says of it is the upper end of the exact interval of that share (Clopper and Pearson, Biometrika
//! 1934). Margins are judged from the widest down, and the first that is too risky ends it: that makes
//! choosing among them harmless (fixed-sequence testing, as in Angelopoulos et al., "Learn then Test",
//! 2021).

use std::collections::{BTreeSet, HashSet};

use super::Rescorer;
use super::best_first::{BestFirst, Recipe};
use super::tail::{BestOnly, Tail};
use super::word_trie::{ORDERS, WordTrie};
use crate::nbest::Utterance;

/// What [`Rescorer::fit_tail`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// For [`BestOnly::tail`].
    pub tail: Tail,
    /// Lists it was learnt on.
    pub lists: usize,
    /// For each margin of the tail: lists whose winner it cost when they were held out.
    pub wrong: Vec<usize>,
    /// For each margin of the tail, infinity last: the share of histories, in words, that were run.
    pub scored: Vec<f64>,
}

/// One list's race with known end.
struct Replay {
    words: WordTrie,
    recipe: Recipe,
    fixed: Vec<f64>,
    /// What each racer says of each word.
    values: Vec<Vec<f64>>,
    fold: usize,
}

/// A word met without knowing it: kind of expectation, what the guide says, what the racer says beyond the
/// words alike.
type Sample = (usize, f64, f64);

impl Rescorer {
    /// Learns [`BestOnly::tail`] from lists that were rescored in full, each with what
    /// [`Request::words`](super::Request::words) gave, hypotheses in first-pass order. `folds` says for each
    /// list with which others it is held out (those of one speaker belong together).
    ///
    /// Lists that could not be rescored, for a feature that they lack, say nothing. `None` where nothing
    /// races: no model scores words step by step, or none has a weight.
    pub fn fit_tail(&self, lists: &[(Utterance, WordTrie)], folds: &[usize]) -> Option<Fitted> {
        let mut replays = Vec::new();
        for ((utterance, words), &fold) in lists.iter().zip(folds) {
            let Ok(Some((recipe, fixed))) = self.shared.recipe(utterance, words) else { continue };
            let mut words = words.clone();
            let mut values = Vec::new();
            for &(lm, _) in &recipe.racers {
                let Some(reading) = &mut words.readings[lm] else { continue };
                let hidden = vec![f64::NAN; reading.values.len()];
                values.push(std::mem::replace(&mut reading.values, hidden));
            }
            if values.iter().all(|values| values[1..].iter().all(|value| !value.is_nan())) {
                replays.push(Replay { words, recipe, fixed, values, fold });
            }
        }
        if replays.is_empty() {
            return None;
        }
        let right: Vec<_> =
            replays.iter().map(|replay| replay.run(&Tail::default(), f64::INFINITY)).collect();
        let mut wrong = vec![0; MARGINS.len()];
        let mut scored = vec![0; MARGINS.len() + 1];
        scored[MARGINS.len()] = right.iter().map(|run| run.1).sum();
        for fold in replays.iter().map(|replay| replay.fold).collect::<BTreeSet<_>>() {
            let tail = Tail::of(replays.iter().filter(|replay| replay.fold != fold));
            for (replay, right) in replays.iter().zip(&right).filter(|(replay, _)| replay.fold == fold) {
                for (at, &margin) in MARGINS.iter().enumerate() {
                    let (winner, histories) = replay.run(&tail, margin);
                    wrong[at] += usize::from(winner != right.0);
                    scored[at] += histories;
                }
            }
        }
        let mut tail = Tail::of(replays.iter());
        let bounds = wrong.iter().map(|&wrong| at_most(wrong, replays.len()));
        tail.margins = MARGINS.into_iter().zip(bounds).map(|(margin, bound)| [margin, bound]).collect();
        // No margin is safer than a wider one.
        for at in (1..MARGINS.len()).rev() {
            tail.margins[at - 1][1] = tail.margins[at - 1][1].max(tail.margins[at][1]);
        }
        let histories: usize = replays.iter().map(|replay| replay.words.histories()).sum();
        let scored = scored.into_iter().map(|scored| scored as f64 / histories as f64).collect();
        Some(Fitted { tail, lists: replays.len(), wrong, scored })
    }
}

impl Replay {
    /// The winner, and how many histories were run.
    fn run(&self, tail: &Tail, margin: f64) -> (Option<usize>, usize) {
        self.watch(tail, margin, |_, _| ())
    }

    /// The same, with a look at each word that is asked for, before it is known.
    fn watch(
        &self,
        tail: &Tail,
        margin: f64,
        mut look: impl FnMut(&BestFirst, usize),
    ) -> (Option<usize>, usize) {
        let (words, recipe) = (self.words.clone(), self.recipe.clone());
        let mut race =
            BestFirst::new(words, recipe, self.fixed.clone(), margin, BestOnly::default().width, tail);
        let mut scored = HashSet::new();
        while race.advance() {
            race.asked().for_each(|word| look(&race, word));
            // One row answers for all words after a history.
            scored.extend(race.asked().map(|word| self.words.parent[word]));
            let racer = |lm: usize| self.recipe.racers.iter().position(|&(racer, _)| racer == lm);
            race.reveal(|_, lm, word, _| racer(lm).map(|at| self.values[at][word]));
        }
        (race.winner(), scored.len())
    }

    /// What is met on the way.
    fn samples(&self, tail: &Tail, samples: &mut Vec<Sample>) {
        self.watch(tail, 1.0, |race, word| {
            for (racer, values) in self.values.iter().enumerate() {
                let (base, kind, guide) = race.expectation(racer, word);
                if values[word].is_finite() {
                    samples.push((kind, guide, values[word] - base));
                }
            }
        });
    }
}

impl Tail {
    /// What the words of these races say; no margins.
    fn of<'a>(replays: impl Iterator<Item = &'a Replay> + Clone) -> Self {
        // What is expected decides who is scored, and that what is met: a second round settles it.
        let mut tail = Self::default();
        for _ in 0..2 {
            let mut samples = Vec::new();
            replays.clone().for_each(|replay| replay.samples(&tail, &mut samples));
            tail.learn(&samples);
        }
        tail
    }

    /// Least squares for each kind; kinds met too seldom keep what they had.
    fn learn(&mut self, samples: &[Sample]) {
        for kind in 0..=ORDERS {
            let of = || samples.iter().filter(|sample| sample.0 == kind);
            let count = of().count();
            if count < ENOUGH {
                continue;
            }
            let count = count as f64;
            // What a word repeats it adds nothing to, unless the guide says so: no intercept but for new words.
            let (mean_x, mean_y) = match kind {
                0 => (of().map(|s| s.1).sum::<f64>() / count, of().map(|s| s.2).sum::<f64>() / count),
                _ => (0.0, 0.0),
            };
            let xx: f64 = of().map(|s| (s.1 - mean_x).powi(2)).sum();
            let xy: f64 = of().map(|s| (s.1 - mean_x) * (s.2 - mean_y)).sum();
            let slope = if xx > 1e-9 { xy / xx } else { 0.0 };
            let left = of().map(|s| (s.2 - mean_y - slope * (s.1 - mean_x)).powi(2)).sum::<f64>();
            self.slope[kind] = digits(slope);
            self.deviation[kind] = digits((left / count).sqrt());
            if kind == 0 {
                self.intercept = digits(mean_y - slope * mean_x);
            }
        }
    }
}

/// The largest share under which so few events in so many trials are no rarer than 1 - `CONFIDENCE`:
/// Clopper and Pearson's one-sided bound, rounded up.
pub(super) fn at_most(events: usize, trials: usize) -> f64 {
    if events >= trials {
        return 1.0;
    }
    let fewer = |share: f64| -> f64 {
        let mut term = (1.0 - share).ln() * trials as f64;
        let mut sum = term.exp();
        for at in 1..=events {
            term += ((trials - at + 1) as f64 / at as f64).ln() + share.ln() - (1.0 - share).ln();
            sum += term.exp();
        }
        sum
    };
    let (mut low, mut high) = (events as f64 / trials as f64, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if fewer(middle) > 1.0 - CONFIDENCE { low = middle } else { high = middle }
    }
    (high * 1e4).ceil() / 1e4
}

/// Nobody needs a fifth digit.
fn digits(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Samples from which a kind is learnt.
const ENOUGH: usize = 50;
/// That a margin is no riskier than the tail says.
const CONFIDENCE: f64 = 0.95;
/// Margins that are tried.
const MARGINS: [f64; 12] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0];

#[cfg(test)]
mod tests {
    /// Reference values from sums of binomial terms in exact fractions.
    #[test]
    fn the_bound_is_clopper_and_pearsons() {
        let reference = [
            (0, 100, 0.029513),
            (1, 552, 0.008565),
            (3, 276, 0.027852),
            (17, 60, 0.394158),
            (59, 60, 0.999145),
        ];
        for (events, trials, expected) in reference {
            let got = super::at_most(events, trials);
            assert!(got >= expected && got < expected + 1.1e-4, "{events} of {trials}: {got}");
        }
        assert_eq!(super::at_most(60, 60), 1.0);
    }
}
