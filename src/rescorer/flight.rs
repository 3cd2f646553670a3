//! One utterance on its way through the models of a worker.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::features::{self, View};
use super::{Carries, Shared};
use crate::lm::{Job, Scorer, Scores, Slot};
use crate::nbest::{Status, Utterance};
use crate::tokens::WordCache;
use crate::{Error, Result};

/// An utterance to rescore.
#[derive(Default)]
pub struct Request {
    /// The caller's number for it.
    pub ticket: u64,
    /// The utterance, in first-pass order.
    pub utterance: Utterance,
    /// When models that are not done are left out.
    pub deadline: Option<Instant>,
    /// States to start from, one for each model; empty for a fresh start.
    pub starts: Carries,
    /// Whether [`Finished::carries`] is wanted.
    pub keep: bool,
    /// Whether [`Finished::details`] is wanted.
    pub detail: bool,
}

/// A rescored utterance.
pub struct Finished {
    /// The caller's number.
    pub ticket: u64,
    /// Best first, with [`Utterance::status`] set.
    pub utterance: Utterance,
    /// States after the winner, if they were asked for; one for each model.
    pub carries: Carries,
    /// Word scores of the first hypothesis as it came, if they were asked for; one list for each model.
    pub details: Vec<Vec<WordScore>>,
}

/// One word's score under one model; the last of a sentence is `</s>`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WordScore {
    /// Natural log probability, without any penalty; NaN from a model that scores whole sentences.
    pub ln: f64,
    /// What makes it the probability of a whole word where words have several tokens: natural log of
    /// P(a word starts or the sentence ends) after it, over the same before it. 0 unless models are
    /// mixed word by word.
    pub boundary: f64,
    /// Tokens it was spelled with.
    pub tokens: u32,
    /// Length of the n-gram that matched its last token; 0 for models that have none.
    pub order: u8,
    /// Whether the model knows all of it.
    pub known: bool,
}

/// One worker's scorer of one model, with its cache of spelled words.
pub(super) struct Member {
    pub scorer: Box<dyn Scorer>,
    pub cache: WordCache,
    pub builder: crate::trie::Builder,
}

pub(super) struct Flight {
    request: Request,
    parts: Vec<Part>,
}

/// One model's share of a flight.
struct Part {
    view: View,
    slot: Option<Slot>,
    answer: Answer,
}

enum Answer {
    Pending,
    Done(Scores),
    Failed(Error),
    /// The deadline came first.
    Late,
}

impl Member {
    pub fn new(scorer: Box<dyn Scorer>) -> Self {
        Self { scorer, cache: WordCache::default(), builder: crate::trie::Builder::default() }
    }
}

impl Flight {
    /// Spells the hypotheses for every model and submits the jobs.
    pub fn start(mut request: Request, shared: &Shared, members: &mut [Member]) -> Self {
        let late = request.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let nothing = request.utterance.hypotheses.is_empty();
        features::count_words(&mut request.utterance, shared);
        let mut parts = Vec::with_capacity(members.len());
        for (at, (member, lm)) in members.iter_mut().zip(&shared.lms).enumerate() {
            let mut part = Part { view: View::default(), slot: None, answer: Answer::Late };
            if !late && !nothing {
                let viewed = features::view(&request.utterance, shared, lm, member, request.detail);
                let (trie, view) =
                    match viewed.and_then(|viewed| tensors(&request.utterance, lm).map(|()| viewed)) {
                        Ok(viewed) => viewed,
                        Err(error) => {
                            part.answer = Answer::Failed(error);
                            parts.push(part);
                            continue;
                        }
                    };
                let job = Job {
                    trie: Arc::new(trie),
                    start: request.starts.get(at).cloned().flatten(),
                    context: request.utterance.context.clone(),
                    deadline: request.deadline,
                    boundaries: shared.boundaries(at),
                    keep: request.keep,
                };
                part.view = view;
                part.view.trie = job.trie.clone();
                match member.scorer.submit(job) {
                    Ok(slot) => (part.slot, part.answer) = (Some(slot), Answer::Pending),
                    Err(error) => part.answer = Answer::Failed(error),
                }
            }
            parts.push(part);
        }
        Self { request, parts }
    }

    /// Collects what is done; `true` when nothing is left to wait for.
    pub fn poll(&mut self, now: Instant, members: &mut [Member]) -> bool {
        let late = self.request.deadline.is_some_and(|deadline| now >= deadline);
        for (part, member) in self.parts.iter_mut().zip(members) {
            let (Answer::Pending, Some(slot)) = (&part.answer, part.slot) else { continue };
            match member.scorer.take(slot) {
                Poll::Ready(Ok(scores)) => part.answer = Answer::Done(scores),
                Poll::Ready(Err(error)) => part.answer = Answer::Failed(error),
                Poll::Pending if late => {
                    member.scorer.cancel(slot);
                    part.answer = Answer::Late;
                }
                Poll::Pending => {}
            }
        }
        !self.parts.iter().any(|part| matches!(part.answer, Answer::Pending))
    }

    /// Turns scores into features, ranks, and frees the slots.
    pub fn finish(mut self, shared: &Shared, members: &mut [Member]) -> Finished {
        let result = self.combine(shared);
        let (mut carries, mut details) = (Vec::new(), Vec::new());
        match result {
            Ok(winner) => {
                if self.request.keep {
                    carries = self.carries(winner, shared, members);
                }
                if self.request.detail {
                    details = self.details();
                }
            }
            Err(error) => pass(&mut self.request.utterance, &error.to_string()),
        }
        self.release(members);
        Finished { ticket: self.request.ticket, utterance: self.request.utterance, carries, details }
    }

    /// Frees the slots; the utterance goes back as it came.
    pub fn give_up(mut self, reason: &str, members: &mut [Member]) -> Finished {
        pass(&mut self.request.utterance, reason);
        self.release(members);
        Finished {
            ticket: self.request.ticket,
            utterance: self.request.utterance,
            carries: Vec::new(),
            details: Vec::new(),
        }
    }

    /// Sets features, totals and order; returns the winner's index in the first-pass order.
    fn combine(&mut self, shared: &Shared) -> Result<usize> {
        let utterance = &mut self.request.utterance;
        if utterance.hypotheses.is_empty() {
            utterance.status = Status::Ok;
            return Ok(0);
        }
        let mut left_out = Vec::new();
        let mut done: Vec<Option<(&View, &Scores)>> = Vec::with_capacity(self.parts.len());
        for (part, lm) in self.parts.iter_mut().zip(&shared.lms) {
            done.push(match &part.answer {
                Answer::Done(scores) => Some((&part.view, scores)),
                Answer::Failed(error) => return Err(Error::record(error.to_string())),
                Answer::Pending | Answer::Late => {
                    left_out.push(lm.name.to_string());
                    None
                }
            });
        }
        features::set(utterance, shared, &done, &mut left_out)?;
        let formula = shared.combination.formula(utterance, &left_out);
        shared.combination.rank(utterance, &formula)?;
        utterance.status = if left_out.is_empty() { Status::Ok } else { Status::Partial(left_out) };
        // Ranks are 1.. in the order the hypotheses were spelled in.
        Ok(utterance.best().map_or(0, |best| self.parts.first().map_or(0, |p| p.view.index_of(best.rank))))
    }

    fn carries(&self, winner: usize, shared: &Shared, members: &mut [Member]) -> Carries {
        let parts = self.parts.iter().zip(members).zip(&shared.lms).enumerate();
        let carry = |(at, ((part, member), lm)): (usize, ((&Part, &mut Member), &super::Lm))| {
            let Some(slot) = part.slot.filter(|_| matches!(part.answer, Answer::Done(_))) else {
                // Nothing was heard, or it was not read in time: the conversation is where it was.
                return self.request.starts.get(at).cloned().flatten();
            };
            let end = *part.view.trie.ends.get(winner)?;
            // A model that starts from `</s>` is fed it at the start of the next utterance.
            let node = if lm.model.spec().carries_bos { end } else { part.view.trie.parent[end as usize] };
            member.scorer.carry(slot, node).unwrap_or_else(|error| {
                log::warn!("{}: no state to carry over, the session starts afresh: {error}", lm.name);
                None
            })
        };
        parts.map(carry).collect()
    }

    fn details(&self) -> Vec<Vec<WordScore>> {
        let of = |part: &Part| match &part.answer {
            Answer::Done(scores) => features::words(&part.view, scores),
            _ => Vec::new(),
        };
        self.parts.iter().map(of).collect()
    }

    fn release(&mut self, members: &mut [Member]) {
        for (part, member) in self.parts.iter_mut().zip(members) {
            if let Some(slot) = part.slot.take() {
                if matches!(part.answer, Answer::Pending) {
                    member.scorer.cancel(slot);
                }
                member.scorer.release(slot);
            }
        }
    }
}

/// Checks that the tensors a model needs have come.
fn tensors(utterance: &Utterance, lm: &super::Lm) -> Result<()> {
    let came = |name: &String| utterance.context.iter().any(|tensor| tensor.name == *name);
    match lm.model.spec().context.iter().find(|name| !came(name)) {
        Some(name) => Err(Error::record(format!(
            "{} needs the tensor `{name}`, which did not come with it: write it as {{\"tensors\":{{\"{name}\":[[..]]}}}}",
            lm.name
        ))),
        None => Ok(()),
    }
}

/// Marks an utterance as left alone, in first-pass order.
pub(super) fn pass(utterance: &mut Utterance, reason: &str) {
    utterance.hypotheses.sort_by_key(|hypothesis| hypothesis.rank);
    utterance.status = Status::Passed(reason.to_owned());
}
