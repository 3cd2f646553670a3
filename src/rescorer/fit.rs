//! Learns what to expect of unscored words, and how far it can be trusted, from lists that are scored in
//! full: each list's race is run again and again with what it would have known.

use super::race::{Next, Race, Recipe};
use super::sheet::{ORDERS, Sheet};
use super::tail::{BestOnly, Tail};
use super::{Rescorer, Result};
use crate::nbest::Utterance;

/// What [`Rescorer::fit_tail`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// For [`BestOnly::tail`].
    pub tail: Tail,
    /// Lists it was learnt on.
    pub lists: usize,
    /// For each margin of the tail, infinity last: the share of histories, in words, that were run.
    pub scored: Vec<f64>,
}

/// One list's race with known end.
struct Replay {
    sheet: Sheet,
    recipe: Recipe,
    fixed: Vec<f64>,
    /// What each racer says of each word.
    values: Vec<Vec<f64>>,
}

/// A word met without knowing it: kind of expectation, what the guide says, what the racer says beyond the
/// words alike.
type Sample = (usize, f64, f64);

impl Rescorer {
    /// Learns [`BestOnly::tail`] from lists that were rescored in full, each with what
    /// [`Request::sheet`](super::Request::sheet) gave, hypotheses in first-pass order.
    ///
    /// `None` where nothing races: no model scores words step by step, or none has a weight.
    ///
    /// # Errors
    /// As for rescoring the lists: a weighted feature is missing.
    pub fn fit_tail(&self, lists: &[(Utterance, Sheet)]) -> Result<Option<Fitted>> {
        let mut replays = Vec::new();
        for (utterance, sheet) in lists {
            let Some((recipe, fixed)) = self.shared.recipe(utterance, sheet)? else { continue };
            let mut sheet = sheet.clone();
            let mut values = Vec::new();
            for &(lm, _) in &recipe.racers {
                let Some(reading) = &mut sheet.readings[lm] else { continue };
                let hidden = vec![f64::NAN; reading.values.len()];
                values.push(std::mem::replace(&mut reading.values, hidden));
            }
            if values.iter().all(|values| values[1..].iter().all(|value| value.is_finite())) {
                replays.push(Replay { sheet, recipe, fixed, values });
            }
        }
        if replays.is_empty() {
            return Ok(None);
        }
        // What is expected decides who is scored, and that what is met: a second round settles it.
        let mut tail = Tail { margins: Vec::new(), ..Tail::default() };
        for _ in 0..2 {
            let mut samples = Vec::new();
            for replay in &replays {
                replay.run(&tail, 1.0, Some(&mut samples));
            }
            tail.learn(&samples);
        }
        let mut scored = Vec::new();
        let right: Vec<_> = replays.iter().map(|replay| replay.run(&tail, f64::INFINITY, None)).collect();
        let histories: usize = replays.iter().map(|replay| replay.sheet.histories()).sum();
        let share = |runs: &[(Option<usize>, usize)]| {
            runs.iter().map(|run| run.1).sum::<usize>() as f64 / histories as f64
        };
        for margin in MARGINS {
            let runs: Vec<_> = replays.iter().map(|replay| replay.run(&tail, margin, None)).collect();
            let wrong = runs.iter().zip(&right).filter(|(run, right)| run.0 != right.0).count();
            // One more than was seen: what never happened in a hundred lists may in a hundred others.
            let risk = (wrong + 1) as f64 / (replays.len() + 1) as f64;
            tail.margins.push([margin, digits(risk)]);
            scored.push(share(&runs));
        }
        scored.push(share(&right));
        Ok(Some(Fitted { tail, lists: replays.len(), scored }))
    }
}

impl Replay {
    /// The winner, and how many histories were run.
    fn run(&self, tail: &Tail, margin: f64, mut samples: Option<&mut Vec<Sample>>) -> (Option<usize>, usize) {
        let (sheet, recipe) = (self.sheet.clone(), self.recipe.clone());
        let mut race = Race::new(sheet, recipe, self.fixed.clone(), margin, BestOnly::default().width, tail);
        let mut scored = 0;
        while let Next::Score(wanted) = race.next() {
            // One row answers for all words after a history.
            let mut histories: Vec<usize> = Vec::new();
            for (at, _) in wanted.iter().enumerate().filter(|(_, wanted)| **wanted) {
                let history = self.sheet.parent[race.ahead(at)] as usize;
                if !histories.contains(&history) {
                    histories.push(history);
                }
            }
            if let Some(samples) = &mut samples {
                for word in 1..self.sheet.len() {
                    if !histories.contains(&(self.sheet.parent[word] as usize)) {
                        continue;
                    }
                    for (racer, values) in self.values.iter().enumerate() {
                        let (base, kind, guide) = race.expectation(racer, word);
                        samples.push((kind, guide, values[word] - base));
                    }
                }
            }
            scored += histories.len();
            let racer = |lm: usize| self.recipe.racers.iter().position(|&(racer, _)| racer == lm);
            race.reveal(|_, lm, word, before| {
                racer(lm).filter(|_| histories.contains(&before)).map(|at| self.values[at][word])
            });
        }
        (race.winner(), scored)
    }
}

impl Tail {
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

/// Nobody needs a fifth digit.
fn digits(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Samples from which a kind is learnt.
const ENOUGH: usize = 50;
/// Margins that are tried.
const MARGINS: [f64; 12] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0];
