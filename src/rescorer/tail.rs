//! What is expected of words that are not scored yet.

use serde::{Deserialize, Serialize};

use super::word_trie::ORDERS;
use crate::{Error, Result};

/// Only the winner is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct BestOnly {
    /// Accepted share of utterances whose winner differs from the one that all scores would give; 0: the
    /// winner is certain. Others need a tail with margins, and hold for the default width.
    pub risk: f64,
    /// What is expected of unscored words, learnt by `tune`.
    pub tail: Tail,
    /// Histories of one utterance that are looked into side by side: more finish sooner, fewer waste less.
    pub width: usize,
}

/// How a neural model's word scores differ from what is expected of them.
///
/// A word that stood in the same context in a hypothesis scored before is expected to have that score,
/// corrected by the difference of the n-gram's scores; any other is expected to have the n-gram's,
/// scaled. Index 0 is about words that did not occur before, index k about those with k - 1 equal words
/// in front.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Expected natural log probability of a new word where the n-gram says 0.
    pub intercept: f64,
    /// What a nat of the n-gram's counts.
    pub slope: [f64; ORDERS + 1],
    /// Standard deviation of what is left, in nats.
    pub deviation: [f64; ORDERS + 1],
    /// Pairs: the distance, in deviations, at which a hypothesis is given up, and the share of lists
    /// whose winner that costs, at most, with 95 % confidence. Distances rise.
    pub margins: Vec<[f64; 2]>,
}

impl Default for BestOnly {
    fn default() -> Self {
        Self { risk: 0.0, tail: Tail::default(), width: WIDTH }
    }
}

impl Default for Tail {
    /// What `tune` starts from. Without margins: what can be trusted is for `tune` to say.
    fn default() -> Self {
        Self {
            intercept: 0.17,
            slope: [1.08, 0.72, 0.56, 0.27, 0.0],
            deviation: [1.79, 1.41, 1.22, 0.69, 0.37],
            margins: Vec::new(),
        }
    }
}

impl BestOnly {
    /// A width that suits a winner that is to be certain: much has to be looked into, and the winner is the
    /// same with any width.
    pub const CERTAIN_WIDTH: usize = 24;

    /// The distance, in deviations, at which a hypothesis is given up; infinite where only certainty will
    /// do, which is so for risks below all that `tune` had lists enough to show.
    pub fn margin(&self) -> f64 {
        if self.risk <= 0.0 {
            return f64::INFINITY;
        }
        let safe = self.tail.margins.iter().filter(|[_, risk]| *risk <= self.risk);
        safe.map(|[margin, _]| *margin).min_by(f64::total_cmp).unwrap_or(f64::INFINITY)
    }

    /// # Errors
    /// [`Error::Config`] if the risk is no share, or the tail no distribution.
    pub fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.risk) {
            return Err(Error::Config(format!(
                "the risk is {}; it is the share of lists whose winner may differ, from 0 to below 1",
                self.risk
            )));
        }
        if self.risk > 0.0 && self.tail.margins.is_empty() {
            return Err(Error::config(
                "nothing says what a risk allows, for these models and weights: let `tune --write` learn it on lists of the kind to come",
            ));
        }
        if self.width == 0 {
            return Err(Error::config("the width is 0; a list needs one history looked into at least"));
        }
        let Tail { intercept, slope, deviation, margins } = &self.tail;
        let finite = slope.iter().chain(margins.iter().flatten()).all(|value| value.is_finite());
        if !finite
            || !intercept.is_finite()
            || !deviation.iter().all(|value| value.is_finite() && *value >= 0.0)
        {
            return Err(Error::config(
                "the configuration's [tail] has a number that is none, or a deviation below 0: let `tune` write it",
            ));
        }
        let shares = margins.iter().all(|[margin, risk]| *margin >= 0.0 && (0.0..=1.0).contains(risk));
        if !shares || !margins.is_sorted_by(|[one, _], [next, _]| one < next) {
            return Err(Error::config(
                "the margins of the configuration's [tail] are distances from 0 on that rise, each with a risk from 0 to 1: let `tune` write them",
            ));
        }
        Ok(())
    }
}

/// Few: what is scored first says what to expect of the rest.
const WIDTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_no_race_is_refused() {
        let with = |margins: &[[f64; 2]]| {
            let tail = Tail { margins: margins.to_vec(), ..Tail::default() };
            BestOnly { risk: 0.1, tail, ..BestOnly::default() }
        };
        with(&[[0.0, 1.0], [1.5, 0.2], [3.0, 0.0]]).check().unwrap();
        for margins in [
            &[[-0.5, 0.2]][..],
            &[[0.5, 1.2]],
            &[[0.5, -0.1]],
            &[[0.5, f64::NAN]],
            &[[2.0, 0.2], [1.0, 0.1]],
            &[[1.0, 0.2], [1.0, 0.1]],
        ] {
            let error = with(margins).check().unwrap_err().to_string();
            assert!(error.contains("[tail]"), "{margins:?}: {error}");
        }
        let error = BestOnly { width: 0, ..BestOnly::default() }.check().unwrap_err().to_string();
        assert!(error.contains("width"), "{error}");
    }
}
