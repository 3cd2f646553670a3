//! Whether MBR is worth having, judged on lists that neither the weights nor the temperature have seen.

use super::outcome;
use crate::combine::{Combination, Weights};
use crate::consensus;
use crate::eval::confidence::{Totals, temperature};
use crate::eval::{Comparison, Problem, Tuned, Tuner};
use crate::nbest::Utterance;
use crate::tokens::Markers;

/// What was tuned, and on what.
pub struct Tuning<'a> {
    pub tuner: &'a Tuner,
    pub problem: &'a Problem,
    pub tuned: &'a Tuned,
    pub names: &'a [String],
    /// How totals are made, but for the weights.
    pub combination: &'a Combination,
    pub markers: &'a Markers,
    /// Errors of each utterance's hypotheses, in first-pass order.
    pub errors: &'a [Vec<u32>],
    /// Whether the weights found are used, or the first pass's are kept.
    pub found: bool,
}

impl Tuning<'_> {
    /// The greatest total (`before`) against MBR (`after`): each fold decided with the weights and the
    /// temperature of the others. `None` where nothing was held out, or errors are not what is measured.
    ///
    /// `utterances` are those of the problem, in its order.
    pub fn mbr(&self, utterances: &mut [&mut Utterance]) -> Option<Comparison> {
        if self.tuned.folds.is_empty() || self.errors.len() != utterances.len() {
            return None;
        }
        let mut decided = vec![None; utterances.len()];
        for (fold, weights) in self.tuned.folds.iter().enumerate() {
            let values = outcome::weights(self.names, weights, &self.combination.models, self.found);
            let weights = Weights { values, ..Weights::default() };
            let combination = Combination { weights, ..self.combination.clone() };
            let mut lists: Vec<Option<Totals>> = Vec::with_capacity(utterances.len());
            for (utterance, errors) in utterances.iter_mut().zip(self.errors) {
                // In first-pass order, for the errors are.
                utterance.hypotheses.sort_by_key(|hypothesis| hypothesis.rank);
                let formula = combination.formula(utterance, &[]);
                let ranks: Vec<u32> = utterance.hypotheses.iter().map(|h| h.rank).collect();
                let ranked = combination.rank(utterance, &formula).is_ok();
                lists.push(ranked.then(|| {
                    let of = |rank: u32| ranks.binary_search(&rank).ok().and_then(|at| errors.get(at));
                    utterance.hypotheses.iter().map(|h| (h.total, of(h.rank).copied().unwrap_or(0))).collect()
                }));
            }
            let held = |at: usize| self.tuned.parts[at] == fold;
            let seen = lists.iter().enumerate().filter(|(at, _)| !held(*at));
            let seen: Vec<&Totals> = seen.filter_map(|(_, list)| list.as_ref()).collect();
            let some = seen.iter().step_by(seen.len().div_ceil(ENOUGH).max(1));
            let temperature = temperature(&some.map(|list| (*list).clone()).collect::<Vec<_>>());
            for (at, list) in lists.iter().enumerate().filter(|(at, _)| held(*at)) {
                let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
                let winner = consensus::mbr(utterances[at], self.markers, temperature);
                decided[at] = winner.map(|winner| [list[0].1, list[winner].1].map(u64::from));
            }
        }
        Some(self.tuner.judge(self.problem, &decided))
    }
}

/// Lists that tell one number, the temperature, well enough.
const ENOUGH: usize = 400;
