//! Confirmation: a winner by scores of fewer bits is one by exact scores too.
//!
//! When a list is ranked, the hypotheses whose totals come near the best are scored again by the exact
//! models, and nobody else is; one without rivals needs no confirmation. If the best of these falls below a
//! hypothesis that was not scored again, that one is, too: who wins against anybody has an exact total.
//! Where no total is off by half of the margin, the winner is the one that exact scores of all hypotheses
//! would give: its total is at most the margin below the best.
//!
//! This is the cascade of a cheap model and a dear one, with the second run where the first is unsure.

use std::sync::Arc;
use std::task::Poll;

use super::Shared;
use super::features;
use super::flight::{Answer, Flight, Member, Part};
use super::texts::Texts;
use crate::combine::MIX;
use crate::lm::{Carry, Job};
use crate::nbest::{Status, Utterance};
use crate::{Error, Result};

/// Hypotheses that are scored again together.
pub(super) struct Round {
    /// They, in first-pass order.
    utterance: Utterance,
    /// By model; `None` for those that are exact anyhow.
    parts: Vec<Option<Part>>,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Running,
    Known,
    /// The deadline came first, or the model failed.
    Over,
}

/// Who is to be scored exactly next, where that is known of some: nobody, when the winner is settled.
/// Totals that are not finite are those of hypotheses that take no part.
pub(super) fn contenders(totals: &[f64], exact: &[bool], margin: f64) -> Vec<usize> {
    let any = exact.contains(&true);
    let counts = |&at: &usize| totals[at].is_finite() && (!any || exact[at]);
    let best = (0..totals.len()).filter(counts).map(|at| totals[at]).fold(f64::NEG_INFINITY, f64::max);
    let least = if any { best } else { best - margin };
    let near = |&at: &usize| totals[at].is_finite() && !exact[at] && totals[at] >= least;
    let near: Vec<usize> = (0..totals.len()).filter(near).collect();
    if any || near.len() > 1 { near } else { Vec::new() }
}

impl Flight {
    /// Ranks the list by what is there, and has the winner confirmed; `true` when nothing is left to wait
    /// for.
    pub fn confirm(&mut self, late: bool, shared: &Shared, members: &mut [Member]) -> bool {
        let Some(margin) = shared.confirm else { return true };
        if self.outcome.is_none() {
            self.outcome = Some(self.combine(shared));
        }
        loop {
            if self.rounds.last().is_some_and(|round| round.state == State::Running) {
                match self.close(late, shared, members) {
                    Poll::Pending => return false,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => self.outcome = Some(Err(error)),
                }
            }
            let ranks = self.unsure(margin, shared);
            if ranks.is_empty() {
                return true;
            }
            if late {
                self.request.utterance.status = Status::Partial(shared.exact_names());
                return true;
            }
            let round = self.again(&ranks, shared, members);
            self.rounds.push(round);
        }
    }

    /// How many hypotheses have exact scores where others have not.
    pub fn confirmed(&self) -> usize {
        let known = self.rounds.iter().filter(|round| round.state == State::Known);
        known.map(|round| round.utterance.hypotheses.len()).sum()
    }

    /// Ranks in the first pass of those who are to be scored next.
    fn unsure(&self, margin: f64, shared: &Shared) -> Vec<u32> {
        let utterance = &self.request.utterance;
        if !matches!(self.outcome, Some(Ok(_))) || utterance.status != Status::Ok {
            return Vec::new();
        }
        let formula = shared.combination.formula(utterance, &[]);
        let counts =
            |name: &str| formula.terms.iter().any(|(other, weight)| **other == *name && *weight != 0.0);
        let mut again = shared.lms.iter().zip(&shared.lambda).filter(|(lm, _)| lm.exact.is_some());
        let matters = again.any(|(lm, lambda)| if lambda.is_some() { counts(MIX) } else { counts(&lm.name) });
        if formula.first_pass_only || !matters {
            return Vec::new();
        }
        let known = |rank: u32| {
            let mut of = self.rounds.iter().filter(|round| round.state == State::Known);
            of.any(|round| round.utterance.hypotheses.iter().any(|other| other.rank == rank))
        };
        let hypotheses = &utterance.hypotheses;
        let totals: Vec<f64> = hypotheses.iter().map(|hypothesis| hypothesis.total).collect();
        let exact: Vec<bool> = hypotheses.iter().map(|hypothesis| known(hypothesis.rank)).collect();
        let mut next = contenders(&totals, &exact, margin);
        // The same words have the same scores: what parts them is exact already. Where a model reads token
        // ids, these have to be the same.
        let read = |at: usize| (&hypotheses[at].bytes, &hypotheses[at].ids);
        if next.iter().all(|&at| read(at) == read(next[0])) && !exact.contains(&true) {
            next.clear();
        }
        // The conversation goes on from the winner, and from its exact state too.
        if self.request.keep && next.is_empty() && exact.first() == Some(&false) {
            next.push(0);
        }
        let mut ranks: Vec<u32> = next.into_iter().map(|at| hypotheses[at].rank).collect();
        ranks.sort_unstable();
        ranks
    }

    /// Has hypotheses scored by the exact models.
    fn again(&self, ranks: &[u32], shared: &Shared, members: &mut [Member]) -> Round {
        let whole = &self.request.utterance;
        let mut hypotheses: Vec<_> =
            whole.hypotheses.iter().filter(|hypothesis| ranks.contains(&hypothesis.rank)).cloned().collect();
        hypotheses.sort_by_key(|hypothesis| hypothesis.rank);
        let utterance = Utterance {
            hypotheses,
            context: whole.context.clone(),
            vocabulary: whole.vocabulary,
            ..Utterance::default()
        };
        let texts = Texts::new(&utterance, &shared.markers);
        let mut parts = Vec::with_capacity(members.len());
        for (at, (member, lm)) in members.iter_mut().zip(&shared.lms).enumerate() {
            if member.exact.is_none() {
                parts.push(None);
                continue;
            }
            let viewed = features::view(&utterance, &texts, shared, lm, member, false);
            let submitted = viewed.and_then(|(trie, mut view)| {
                let job = Job {
                    trie: Arc::new(trie),
                    start: self.request.starts.get(shared.lms.len() + at).cloned().flatten(),
                    context: utterance.context.clone(),
                    deadline: self.request.deadline,
                    boundaries: shared.boundaries(at),
                    keep: self.request.keep,
                };
                view.trie = job.trie.clone();
                let Some(scorer) = &mut member.exact else { return Ok((view, None)) };
                let slot = if self.held { scorer.submit_held(job) } else { scorer.submit(job) };
                Ok((view, Some(slot?)))
            });
            parts.push(Some(match submitted {
                Ok((view, slot)) => Part { view, slot, ..Part::default() },
                Err(error) => Part { answer: Answer::Failed(error), ..Part::default() },
            }));
        }
        Round { utterance, parts, state: State::Running }
    }

    /// Ranks the list anew when the last round's scores are there.
    fn close(&mut self, late: bool, shared: &Shared, members: &mut [Member]) -> Poll<Result<()>> {
        let Some(round) = self.rounds.last_mut() else { return Poll::Ready(Ok(())) };
        for (part, member) in round.parts.iter_mut().zip(members) {
            if let (Some(part), Some(scorer)) = (part, &mut member.exact) {
                part.collect(&mut **scorer, late);
            }
        }
        let parts = || round.parts.iter().flatten();
        if parts().any(|part| matches!(part.answer, Answer::Pending)) {
            return Poll::Pending;
        }
        round.state = State::Over;
        for part in round.parts.iter().flatten() {
            match &part.answer {
                Answer::Failed(error) => return Poll::Ready(Err(Error::record(error.to_string()))),
                Answer::Late => {
                    // What is known stands.
                    self.request.utterance.status = Status::Partial(shared.exact_names());
                    return Poll::Ready(Ok(()));
                }
                Answer::Pending | Answer::Done(_) => {}
            }
        }
        Poll::Ready(self.replace(shared))
    }

    /// Puts the last round's features into the list, and ranks it.
    fn replace(&mut self, shared: &Shared) -> Result<()> {
        let Some(round) = self.rounds.last_mut() else { return Ok(()) };
        let ranks: Vec<u32> = round.utterance.hypotheses.iter().map(|hypothesis| hypothesis.rank).collect();
        // A mixture is made anew, from what its other members said.
        let others = self.parts.iter().zip(&round.parts).zip(&shared.lambda);
        let others: Vec<_> = others
            .map(|((part, again), lambda)| match &part.answer {
                Answer::Done(scores) if again.is_none() && lambda.is_some() => {
                    Some((part.view.only(&ranks), scores))
                }
                _ => None,
            })
            .collect();
        let done: Vec<_> = round
            .parts
            .iter()
            .zip(&others)
            .map(|(again, other)| match again {
                Some(Part { view, answer: Answer::Done(scores), .. }) => Some((view, scores)),
                _ => other.as_ref().map(|(view, scores)| (view, *scores)),
            })
            .collect();
        features::set(&mut round.utterance, shared, &done, &mut Vec::new())?;
        round.state = State::Known;
        for again in &round.utterance.hypotheses {
            let mut list = self.request.utterance.hypotheses.iter_mut();
            if let Some(hypothesis) = list.find(|hypothesis| hypothesis.rank == again.rank) {
                hypothesis.features.clone_from(&again.features);
            }
        }
        self.outcome = Some(Ok(self.rank(shared, &[])?));
        // Where only the winner is wanted, what has no number drops out of the ranking; these had one.
        let failed = |again: &u32| {
            let mut list = self.request.utterance.hypotheses.iter();
            list.any(|hypothesis| hypothesis.rank == *again && !hypothesis.total.is_finite())
        };
        match ranks.iter().find(|rank| failed(rank)) {
            Some(rank) => Err(Error::record(format!("an exact score of hypothesis {rank} is not finite"))),
            None => Ok(()),
        }
    }

    /// The exact models' states after the winner; those from before, where it was not read in time.
    pub fn exact_carries(
        &self,
        winner: usize,
        shared: &Shared,
        members: &mut [Member],
    ) -> Vec<Option<Carry>> {
        let best = self.request.utterance.hypotheses.first().map_or(0, |best| best.rank);
        debug_assert!(self.parts.first().is_none_or(|part| part.view.index_of(best) == winner));
        let known = |round: &&Round| {
            round.state == State::Known && round.utterance.hypotheses.iter().any(|other| other.rank == best)
        };
        let round = self.rounds.iter().find(known);
        let mut carries = Vec::new();
        for (at, (member, lm)) in members.iter_mut().zip(&shared.lms).enumerate() {
            let before = || self.request.starts.get(shared.lms.len() + at).cloned().flatten();
            let part = round.and_then(|round| round.parts[at].as_ref());
            carries.push(match (part, &mut member.exact) {
                (Some(part), Some(scorer)) => part.carry(part.view.index_of(best), lm, &mut **scorer),
                _ => before(),
            });
        }
        carries
    }
}

impl Round {
    /// Frees the slots.
    pub fn release(&mut self, members: &mut [Member]) {
        for (part, member) in self.parts.iter_mut().zip(members) {
            if let (Some(part), Some(scorer)) = (part, &mut member.exact) {
                part.release(&mut **scorer);
            }
        }
    }
}
