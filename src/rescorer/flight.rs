//! One utterance on its way through the models of a worker.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::best_first::BestFirst;
use super::confirm::Round;
use super::features::{self, View};
use super::texts::Texts;
use super::word_trie::WordTrie;
use super::{Carries, Lm, Shared};
use crate::lm::{Carry, Job, Scorer, Scores, Slot};
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
    /// States to start from: the [`Finished::carries`] of the utterance before; empty for a fresh start.
    pub starts: Carries,
    /// Whether [`Finished::carries`] is wanted.
    pub keep: bool,
    /// Whether [`Finished::details`] is wanted.
    pub detail: bool,
    /// Whether [`Finished::words`] is wanted: everything is scored then.
    pub words: bool,
}

/// A rescored utterance.
pub struct Finished {
    /// The caller's number.
    pub ticket: u64,
    /// Best first, with [`Utterance::status`] set.
    pub utterance: Utterance,
    /// States after the winner, if they were asked for: one for each model, and where winners are confirmed
    /// one for each exact model after these.
    pub carries: Carries,
    /// How many hypotheses were scored again by the exact models ([`Builder::confirm`](super::Builder::confirm)).
    pub confirmed: usize,
    /// Word scores of the first hypothesis as it came, if they were asked for; one list for each model.
    pub details: Vec<Vec<WordScore>>,
    /// All words of the list under all models, if they were asked for.
    pub words: Option<WordTrie>,
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
    /// That of its exact model, where winners are confirmed.
    pub exact: Option<Box<dyn Scorer>>,
    pub cache: WordCache,
    pub builder: crate::trie::Builder,
}

pub(super) struct Flight {
    pub(super) request: Request,
    pub(super) parts: Vec<Part>,
    contest: Contest,
    /// Where it is asked for.
    words: Option<WordTrie>,
    /// Whether histories are kept until the slots are released.
    pub(super) held: bool,
    /// The winner's index in the first-pass order, as far as it is known.
    pub(super) outcome: Option<Result<usize>>,
    /// Hypotheses scored again.
    pub(super) rounds: Vec<Round>,
}

/// Where only the winner is wanted: how far that is.
enum Contest {
    /// Everything is scored.
    None,
    /// What is known without the racers is not there yet.
    Before(WordTrie),
    Running(Box<BestFirst>),
    /// The winner is known before everything is: whether each hypothesis is.
    Decided(Vec<bool>),
}

/// One model's share of a flight.
#[derive(Default)]
pub(super) struct Part {
    pub view: View,
    pub slot: Option<Slot>,
    pub answer: Answer,
    /// Whether it could be left unfinished.
    pub races: bool,
}

#[derive(Default)]
pub(super) enum Answer {
    #[default]
    Pending,
    Done(Scores),
    Failed(Error),
    /// The deadline came first.
    Late,
}

impl Member {
    pub fn new(scorer: Box<dyn Scorer>, exact: Option<Box<dyn Scorer>>) -> Self {
        Self { scorer, exact, cache: WordCache::default(), builder: crate::trie::Builder::default() }
    }
}

impl Part {
    /// Takes what is done; gives up what is not and is late.
    pub fn collect(&mut self, scorer: &mut dyn Scorer, late: bool) {
        let (Answer::Pending, Some(slot)) = (&self.answer, self.slot) else { return };
        match scorer.take(slot) {
            Poll::Ready(Ok(scores)) => self.answer = Answer::Done(scores),
            Poll::Ready(Err(error)) => self.answer = Answer::Failed(error),
            Poll::Pending if late => {
                scorer.cancel(slot);
                self.answer = Answer::Late;
            }
            Poll::Pending => {}
        }
    }

    /// The state after the hypothesis at `winner` of a part that is done.
    pub fn carry(&self, winner: usize, lm: &Lm, scorer: &mut dyn Scorer) -> Option<Carry> {
        let (slot, end) = (self.slot?, *self.view.trie.ends.get(winner)?);
        // A model that starts from `</s>` is fed it at the start of the next utterance.
        let node = if lm.model.spec().carries_bos { end } else { self.view.trie.parent[end as usize] };
        scorer.carry(slot, node).unwrap_or_else(|error| {
            log::warn!("{}: no state to carry over, the session starts afresh: {error}", lm.name);
            None
        })
    }

    /// Frees the slot.
    pub fn release(&mut self, scorer: &mut dyn Scorer) {
        if let Some(slot) = self.slot.take() {
            if matches!(self.answer, Answer::Pending) {
                scorer.cancel(slot);
            }
            scorer.release(slot);
        }
    }
}

impl Flight {
    /// Spells the hypotheses for every model and submits the jobs.
    /// With `held`, all their histories are kept until the flight is released.
    pub fn start(mut request: Request, shared: &Shared, members: &mut [Member], held: bool) -> Self {
        let late = request.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let nothing = request.utterance.hypotheses.is_empty();
        let texts = Texts::new(&request.utterance, &shared.markers);
        features::count_words(&mut request.utterance, &texts);
        let mut parts = Vec::with_capacity(members.len());
        for (at, (member, lm)) in members.iter_mut().zip(&shared.lms).enumerate() {
            let mut part = Part { answer: Answer::Late, ..Part::default() };
            if !late && !nothing {
                let spans = request.detail || request.words;
                let viewed = features::view(&request.utterance, &texts, shared, lm, member, spans);
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
                match if held { member.scorer.submit_held(job) } else { member.scorer.submit(job) } {
                    Ok(slot) => {
                        part.races = member.scorer.known(slot).is_some();
                        (part.slot, part.answer) = (Some(slot), Answer::Pending);
                    }
                    Err(error) => part.answer = Answer::Failed(error),
                }
            }
            parts.push(part);
        }
        let (outcome, rounds) = (None, Vec::new());
        let mut flight = Self { request, parts, contest: Contest::None, words: None, held, outcome, rounds };
        let races = shared.best_only.is_some() && !flight.request.detail && !flight.request.words;
        if races && let Some(words) = flight.words(shared, &texts) {
            flight.focus(&words, &vec![false; words.ends.len()], members);
            flight.contest = Contest::Before(words);
        }
        if flight.request.words {
            flight.words = flight.words(shared, &texts);
        }
        flight
    }

    /// The list's words, where every model read those of the text.
    fn words(&self, shared: &Shared, texts: &Texts) -> Option<WordTrie> {
        let views = self.parts.iter().zip(&shared.lms).map(|(part, lm)| {
            let spec = lm.model.spec();
            let words = spec.grain == crate::lm::Grain::Token && !spec.backward;
            (words && part.slot.is_some()).then_some(&part.view)
        });
        let given = shared.lms.iter().filter_map(|lm| lm.ids).any(|ids| ids.reads(&self.request.utterance));
        let views: Vec<_> = views.collect();
        if given {
            return None;
        }
        let mut words =
            WordTrie::new(texts, self.request.utterance.hypotheses.len(), shared.score_eos, &views)?;
        for (reading, part) in words.readings.iter_mut().zip(&self.parts) {
            reading.iter_mut().for_each(|reading| reading.races = part.races);
        }
        Some(words)
    }

    /// Tells the racers which hypotheses are worth scoring on.
    fn focus(&self, words: &WordTrie, wanted: &[bool], members: &mut [Member]) {
        for ((at, part), member) in self.parts.iter().enumerate().zip(members) {
            if let (Answer::Pending, Some(slot), true) = (&part.answer, part.slot, words.races(at)) {
                member.scorer.focus(slot, wanted);
            }
        }
    }

    /// Runs the race on: begins it when the others are done, gives the racers up when it is decided.
    fn race(&mut self, shared: &Shared, members: &mut [Member]) {
        let contest = std::mem::replace(&mut self.contest, Contest::None);
        let racing = |at: usize, part: &Part, words: &WordTrie| {
            words.races(at) && matches!(part.answer, Answer::Pending)
        };
        let mut race = match contest {
            Contest::Before(words) => {
                let waits =
                    |(at, part): (usize, &Part)| matches!(part.answer, Answer::Pending) && !words.races(at);
                if self.parts.iter().enumerate().any(waits) {
                    self.contest = Contest::Before(words);
                    return;
                }
                let everything = vec![true; words.ends.len()];
                let Some(race) = self.begin(shared, words.clone(), members) else {
                    self.focus(&words, &everything, members);
                    return;
                };
                race
            }
            Contest::Running(race) => race,
            contest => {
                self.contest = contest;
                return;
            }
        };
        let parts = &self.parts;
        loop {
            let lacking = race.reveal(|words, lm, word, before| {
                let reading = words.readings[lm].as_ref()?;
                match (&parts[lm].answer, parts[lm].slot) {
                    (Answer::Done(Scores::Nodes { ln, boundary, .. }), _) => {
                        reading.value(word, before, ln, boundary)
                    }
                    (Answer::Pending, Some(slot)) => {
                        let known = members[lm].scorer.known(slot)?;
                        reading.value(word, before, known.ln, known.boundary)
                    }
                    _ => None,
                }
            });
            let failed = parts.iter().any(|part| matches!(part.answer, Answer::Failed(_) | Answer::Late));
            if failed || race.broken {
                self.focus(&race.words, &vec![true; race.words.ends.len()], members);
                return;
            }
            if let Some(wanted) = lacking {
                self.focus(&race.words, &wanted, members);
                let waits = |(at, part): (usize, &Part)| {
                    let known = part.slot.filter(|_| racing(at, part, &race.words));
                    known.and_then(|slot| members[at].scorer.known(slot)).is_some_and(|known| !known.idle)
                };
                if self.parts.iter().enumerate().any(waits) {
                    self.contest = Contest::Running(race);
                } else {
                    // A score that is no number never comes: the rules for these need every score.
                    self.focus(&race.words, &vec![true; race.words.ends.len()], members);
                }
                return;
            }
            // What was known before, from other utterances, makes a round that takes no step.
            if !race.advance() {
                break;
            }
        }
        for ((at, part), member) in self.parts.iter_mut().enumerate().zip(members) {
            part.races &= race.words.races(at);
            let (true, Some(slot)) = (racing(at, part, &race.words), part.slot) else { continue };
            if let Some(known) = member.scorer.known(slot) {
                let (ln, boundary) = (known.ln.to_vec(), known.boundary.to_vec());
                part.answer = Answer::Done(Scores::Nodes { ln, boundary, order: Vec::new() });
            }
            member.scorer.cancel(slot);
        }
        let finished: Vec<bool> = (0..race.words.ends.len()).map(|at| race.finished(at)).collect();
        if finished.contains(&false) {
            self.contest = Contest::Decided(finished);
        }
    }

    /// The race, with all that is known without the racers; `None` if there is nothing to win by one.
    fn begin(&mut self, shared: &Shared, mut words: WordTrie, members: &[Member]) -> Option<Box<BestFirst>> {
        let best_only = shared.best_only.as_ref()?;
        let mut done: Vec<Option<(&View, &Scores)>> = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            done.push(match &part.answer {
                Answer::Done(scores) => {
                    words.fill(at, scores);
                    Some((&part.view, scores))
                }
                Answer::Pending => {
                    members[at].scorer.known(part.slot?)?;
                    None
                }
                Answer::Failed(_) | Answer::Late => return None,
            });
        }
        features::count_oov(&mut self.request.utterance, shared, self.parts.iter().map(|part| &part.view));
        features::set(&mut self.request.utterance, shared, &done, &mut Vec::new()).ok()?;
        let (recipe, fixed) = shared.recipe(&self.request.utterance, &words).ok()??;
        let race = BestFirst::new(words, recipe, fixed, best_only.margin(), best_only.width, &best_only.tail);
        Some(Box::new(race.with_rivals(shared.confirm.unwrap_or(0.0))))
    }

    /// Collects what is done; `true` when nothing is left to wait for.
    pub fn poll(&mut self, now: Instant, shared: &Shared, members: &mut [Member]) -> bool {
        let late = self.request.deadline.is_some_and(|deadline| now >= deadline);
        for (part, member) in self.parts.iter_mut().zip(members.iter_mut()) {
            part.collect(&mut *member.scorer, late);
        }
        if !matches!(self.contest, Contest::None) {
            self.race(shared, members);
        }
        let waits = self.parts.iter().any(|part| matches!(part.answer, Answer::Pending));
        !waits && self.confirm(late, shared, members)
    }

    /// Turns scores into features, ranks, and frees the slots.
    pub fn finish(self, shared: &Shared, members: &mut [Member]) -> Finished {
        let (finished, mut flight) = self.finish_held(shared, members);
        flight.release(members);
        finished
    }

    /// Frees the slots; the utterance goes back as it came.
    pub fn give_up(self, reason: &str, members: &mut [Member]) -> Finished {
        let (finished, mut flight) = self.give_up_held(reason);
        flight.release(members);
        finished
    }

    /// As [`Flight::finish`]; the slots are still to be released.
    pub fn finish_held(mut self, shared: &Shared, members: &mut [Member]) -> (Finished, Self) {
        let result = match self.outcome.take() {
            Some(outcome) => outcome,
            None => self.combine(shared),
        };
        let (mut carries, mut details, mut words) = (Vec::new(), Vec::new(), None);
        match result {
            Ok(winner) => {
                if self.request.keep {
                    carries = self.carries(winner, shared, members);
                    if shared.confirm.is_some() {
                        carries.extend(self.exact_carries(winner, shared, members));
                    }
                }
                if self.request.detail {
                    details = self.details();
                }
                if self.request.words {
                    words = self.filled();
                }
            }
            Err(error) => pass(&mut self.request.utterance, &error.to_string()),
        }
        let confirmed = self.confirmed();
        let utterance = std::mem::take(&mut self.request.utterance);
        (Finished { ticket: self.request.ticket, utterance, carries, confirmed, details, words }, self)
    }

    /// As [`Flight::give_up`]; the slots are still to be released.
    pub fn give_up_held(mut self, reason: &str) -> (Finished, Self) {
        let mut utterance = std::mem::take(&mut self.request.utterance);
        pass(&mut utterance, reason);
        let ticket = self.request.ticket;
        let (carries, details) = (Vec::new(), Vec::new());
        (Finished { ticket, utterance, carries, confirmed: 0, details, words: None }, self)
    }

    /// Every word's score under every model.
    fn filled(&mut self) -> Option<WordTrie> {
        let mut words = self.words.take()?;
        for (at, part) in self.parts.iter().enumerate() {
            match &part.answer {
                Answer::Done(scores) => words.fill(at, scores),
                _ => return None,
            }
        }
        Some(words)
    }

    /// Sets features, totals and order; returns the winner's index in the first-pass order.
    pub(super) fn combine(&mut self, shared: &Shared) -> Result<usize> {
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
        if let Contest::Decided(finished) = &self.contest {
            // Without the boundary that is still to come, a mixture is a number, and a wrong one; a sum
            // that other utterances happened to complete is none that the race knew.
            let racers = self.parts.iter().zip(&shared.lms).filter(|(part, _)| part.races);
            let mut names: Vec<_> = racers.map(|(_, lm)| lm.name.clone()).collect();
            if shared.lambda.iter().any(Option::is_some) {
                names.push(crate::combine::MIX.into());
            }
            for (hypothesis, _) in utterance.hypotheses.iter_mut().zip(finished).filter(|(_, f)| !**f) {
                names.iter().for_each(|name| hypothesis.set(name, f64::NAN));
            }
        }
        self.rank(shared, &left_out)
    }

    /// Sets totals and order by the features; returns the winner's index in the first-pass order.
    pub(super) fn rank(&mut self, shared: &Shared, left_out: &[String]) -> Result<usize> {
        let utterance = &mut self.request.utterance;
        let formula = shared.combination.formula(utterance, left_out);
        match &self.contest {
            Contest::Decided(_) => {
                shared.combination.rank_scored(utterance, &formula, &|name| shared.computed(name))?;
            }
            _ => shared.combination.rank(utterance, &formula)?,
        }
        utterance.status = if left_out.is_empty() { Status::Ok } else { Status::Partial(left_out.to_vec()) };
        // Ranks are 1.. in the order the hypotheses were spelled in.
        Ok(utterance.best().map_or(0, |best| self.parts.first().map_or(0, |p| p.view.index_of(best.rank))))
    }

    fn carries(&self, winner: usize, shared: &Shared, members: &mut [Member]) -> Carries {
        let parts = self.parts.iter().zip(members).zip(&shared.lms).enumerate();
        let carry = |(at, ((part, member), lm)): (usize, ((&Part, &mut Member), &Lm))| {
            if part.slot.is_none() || !matches!(part.answer, Answer::Done(_)) {
                // Nothing was heard, or it was not read in time: the conversation is where it was.
                return self.request.starts.get(at).cloned().flatten();
            }
            part.carry(winner, lm, &mut *member.scorer)
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

    /// Frees the slots.
    pub fn release(&mut self, members: &mut [Member]) {
        for (part, member) in self.parts.iter_mut().zip(members.iter_mut()) {
            part.release(&mut *member.scorer);
        }
        self.rounds.iter_mut().for_each(|round| round.release(members));
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
