//! [`Rescorer`]: models, weights and policies, immutable and shared. [`Worker`]: one thread's
//! scratch. No I/O and no threads here.

mod best_first;
mod builder;
mod confirm;
mod confirm_fit;
mod features;
mod fit;
mod flight;
mod session;
mod tail;
#[cfg(test)]
mod tests;
mod texts;
mod word_trie;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use builder::{Builder, Interpolation};
pub use confirm_fit::ConfirmFit;
pub use fit::Fitted;
pub use flight::{Finished, Request, WordScore};
pub use session::Session;
pub use tail::{BestOnly, Tail};
pub use word_trie::WordTrie;

use crate::combine::{Combination, Formula, MIX};
use crate::formats::OwnNames;
use crate::lm::{Carry, Demand, LanguageModel, Limits, Work};
use crate::nbest::{Name, Status, Utterance};
use crate::tokens::{Markers, TextMap};
use crate::{Error, Result};
use best_first::Recipe;
use flight::{Flight, Member};

/// Models, weights and policies: made once, shared by all workers.
///
/// ```no_run
/// use secondpass::{Rescorer, Utterance};
/// # fn main() -> secondpass::Result<()> {
/// let rescorer = Rescorer::builder()
///     .neural("models/en/lstm/model.onnx", 0.6)?
///     .ngram("models/en/4gram.compact", 0.4)?
///     .build()?;
/// let mut worker = rescorer.worker()?;
/// let mut utterance = Utterance::new("utt1", [("a cat sad", -3.1), ("a cat sat", -3.3)]);
/// worker.rescore(&mut utterance)?;
/// println!("{}", utterance.best().map_or("".into(), |best| best.text()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Rescorer {
    shared: Arc<Shared>,
}

/// What a rescorer and all its workers share.
#[derive(Clone)]
struct Shared {
    lms: Vec<Lm>,
    combination: Combination,
    interpolation: Interpolation,
    /// Share of each model in the mix; `None` for those outside it.
    lambda: Vec<Option<f64>>,
    markers: Markers,
    unk_penalty: f64,
    score_eos: bool,
    bos: bool,
    limits: Limits,
    /// Most utterances in flight in one worker.
    in_flight: usize,
    /// Bytes of each worker for histories of earlier utterances.
    cache_bytes: usize,
    best_only: Option<BestOnly>,
    /// How far below the best total a hypothesis is scored again by the exact models.
    confirm: Option<f64>,
}

/// One model with its name and the text it wants.
#[derive(Clone)]
struct Lm {
    name: Name,
    oov: Name,
    model: Arc<dyn LanguageModel>,
    /// The same with exact scores, where its own are not and winners are confirmed.
    exact: Option<(Name, Arc<dyn LanguageModel>)>,
    text: TextMap,
    ids: Option<Ids>,
}

/// A model that reads the recogniser's token ids, where they are its own.
#[derive(Clone, Copy)]
struct Ids {
    /// Whose ids lists have that do not say it.
    given: Option<u64>,
    /// The model's own vocabulary.
    own: u64,
}

impl Ids {
    /// Whether a list's ids are the model's: its own word counts before the configuration's.
    fn reads(self, utterance: &Utterance) -> bool {
        utterance.vocabulary.or(self.given) == Some(self.own)
    }
}

/// One thread's scratch: scorers, caches and the utterances in flight.
pub struct Worker {
    shared: Arc<Shared>,
    members: Vec<Member>,
    flights: Vec<Flight>,
    /// When the first utterance since the last step was taken.
    filling: Option<Instant>,
    /// Steps since all exact models had one.
    waited: usize,
    /// Hypotheses taken since then.
    fresh: usize,
}

impl Rescorer {
    /// A builder without models.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A worker for one thread.
    ///
    /// # Errors
    /// Where a model's runtime refuses, or there is no memory.
    pub fn worker(&self) -> Result<Worker> {
        let mut members = Vec::with_capacity(self.shared.lms.len());
        for lm in &self.shared.lms {
            let scorer = |model: &Arc<dyn LanguageModel>| {
                let mut scorer = model.scorer(&self.shared.limits)?;
                scorer.remember(self.shared.cache_bytes);
                Result::Ok(scorer)
            };
            let exact = lm.exact.as_ref().map(|(_, model)| scorer(model)).transpose()?;
            members.push(Member::new(scorer(&lm.model)?, exact));
        }
        let (flights, filling) = (Vec::new(), None);
        Ok(Worker { shared: self.shared.clone(), members, flights, filling, fresh: 0, waited: 0 })
    }

    /// The same models and weights, with so many threads inside a step ([`Builder::threads`]).
    pub fn with_threads(&self, threads: usize) -> Self {
        let mut shared = (*self.shared).clone();
        shared.limits.threads = builder::cores(threads);
        Self { shared: Arc::new(shared) }
    }

    /// Whether only the winner is wanted.
    pub(crate) fn is_best_only(&self) -> bool {
        self.shared.best_only.is_some()
    }

    /// The same models and weights, for those who want everything scored (`None`) or only the winner
    /// ([`Builder::best_only`]).
    ///
    /// # Errors
    /// [`Error::Config`] if the risk is no share, or the tail no distribution.
    pub fn with_best_only(&self, best_only: Option<BestOnly>) -> Result<Self> {
        if let Some(best_only) = &best_only {
            best_only.check()?;
        }
        Ok(Self { shared: Arc::new(Shared { best_only, ..(*self.shared).clone() }) })
    }

    /// Names of the models, in the order they were added.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.shared.lms.iter().map(|lm| &lm.name)
    }

    /// Names and order of the features that rescoring adds to every hypothesis.
    pub fn gained(&self) -> &[Name] {
        &self.shared.combination.own
    }

    /// The same as a reader of lists has to know them.
    pub fn own_names(&self) -> OwnNames {
        let mixed = self.gained().iter().any(|name| &**name == MIX);
        OwnNames::new(self.names().cloned()).mixed(mixed)
    }

    /// The weights and the formula they make.
    pub fn combination(&self) -> &Combination {
        &self.shared.combination
    }

    /// What the user should know before trusting the scores: one line each.
    pub fn warnings(&self) -> Vec<String> {
        let models = self.shared.lms.iter().flat_map(|lm| {
            lm.model.spec().warnings.iter().map(move |warning| format!("{}: {warning}", lm.name))
        });
        let untuned: Vec<&str> = self.shared.combination.untuned().map(|name| &**name).collect();
        let untuned = (!untuned.is_empty()).then(|| {
            format!(
                "untuned: {} without a weight, counted at 0.5; `secondpass tune` finds weights",
                untuned.join(", ")
            )
        });
        models.chain(untuned).collect()
    }

    /// The formula for a list like this one.
    pub fn formula(&self, utterance: &Utterance) -> Formula {
        self.shared.combination.formula(utterance, &[])
    }

    /// How the model called `name` spells and maps words, for fit checks.
    pub fn text(&self, name: &str) -> Option<(&dyn crate::tokens::Vocab, &TextMap)> {
        self.shared.lms.iter().find(|lm| &*lm.name == name).map(|lm| (&*lm.model.spec().vocab, &lm.text))
    }

    /// The models that read token ids, the hash of the vocabulary that those must be of, and whether
    /// they would read this list's.
    pub fn readers_of_ids(&self, utterance: &Utterance) -> Vec<(Name, u64, bool)> {
        let some = utterance.hypotheses.iter().any(|hypothesis| hypothesis.ids.is_some());
        let reader = |lm: &Lm| lm.ids.map(|ids| (lm.name.clone(), ids.own, some && ids.reads(utterance)));
        self.shared.lms.iter().filter_map(reader).collect()
    }

    /// Which tokens of a hypothesis are no words.
    pub fn markers(&self) -> &Markers {
        &self.shared.markers
    }

    /// Whether some model can carry its state over utterances.
    pub fn carries(&self) -> bool {
        self.shared.lms.iter().any(|lm| lm.model.spec().carries)
    }
}

impl Shared {
    /// What the exact models are called where one is left out.
    fn exact_names(&self) -> Vec<String> {
        self.lms.iter().filter_map(|lm| Some(lm.exact.as_ref()?.0.to_string())).collect()
    }

    /// Whether a feature is made of scores of models.
    fn computed(&self, name: &str) -> bool {
        self.combination.models.iter().any(|model| **model == *name)
    }

    /// How a list's total is made, and what is known of each hypothesis' without the racers; `None` if
    /// there is nothing to race for.
    ///
    /// # Errors
    /// As for ranking: a weighted feature is missing.
    fn recipe(&self, utterance: &Utterance, words: &WordTrie) -> Result<Option<(Recipe, Vec<f64>)>> {
        let formula = self.combination.formula(utterance, &[]);
        if formula.first_pass_only || !self.combination.missing.is_empty() || utterance.hypotheses.is_empty()
        {
            return Ok(None);
        }
        let weight =
            |name: &str| formula.terms.iter().filter(|term| *term.0 == *name).map(|term| term.1).sum::<f64>();
        let mixed = |at: usize| self.lambda[at].is_some();
        let racing: Vec<usize> = (0..self.lms.len()).filter(|&at| words.races(at)).collect();
        let racers: Vec<_> =
            racing.iter().map(|&at| (at, if mixed(at) { 0.0 } else { weight(&self.lms[at].name) })).collect();
        let mix_races = racing.iter().any(|&at| mixed(at));
        let members = self.lambda.iter().enumerate().filter_map(|(at, lambda)| Some((at, (*lambda)?)));
        let recipe = Recipe {
            guide: (0..self.lms.len()).find(|&at| words.readings[at].is_some() && !racing.contains(&at)),
            members: if mix_races { members.collect() } else { Vec::new() },
            mix_weight: if mix_races { weight(MIX) } else { 0.0 },
            unk_penalty: self.unk_penalty,
            racers,
        };
        if recipe.mix_weight == 0.0 && recipe.racers.iter().all(|racer| racer.1 == 0.0) {
            return Ok(None);
        }
        let open =
            |name: &str| (mix_races && name == MIX) || racing.iter().any(|&at| *self.lms[at].name == *name);
        let mut fixed = self.combination.totals(utterance, &formula, &open)?;
        // Unknown words cost a model's sum their penalty, whatever else the sum is.
        for &(lm, weight) in &recipe.racers {
            for (fixed, hypothesis) in fixed.iter_mut().zip(&utterance.hypotheses) {
                let oov = hypothesis.feature(&self.lms[lm].oov).unwrap_or(0.0);
                *fixed += weight * self.unk_penalty * oov;
            }
        }
        Ok(fixed.iter().all(|fixed| fixed.is_finite()).then_some((recipe, fixed)))
    }
}

impl Worker {
    /// Rescores one utterance: features, totals, best first.
    ///
    /// # Errors
    /// If the list cannot be rescored (a weighted feature is missing, a model failed): it is then
    /// in first-pass order, marked [`Status::Passed`].
    pub fn rescore(&mut self, utterance: &mut Utterance) -> Result<()> {
        self.rescore_batch(std::slice::from_mut(utterance))?;
        match &utterance.status {
            Status::Passed(reason) => Err(Error::record(reason.clone())),
            _ => Ok(()),
        }
    }

    /// Rescores many utterances, their histories batched together. One that cannot be rescored
    /// is marked [`Status::Passed`] and stays in first-pass order; the others are not touched by it.
    ///
    /// # Errors
    /// Only if a model cannot go on at all: those in flight are then marked [`Status::Passed`], and
    /// those after them are as they were.
    pub fn rescore_batch(&mut self, utterances: &mut [Utterance]) -> Result<()> {
        let mut done = Vec::new();
        let mut next = 0;
        let mut left = utterances.len();
        while left > 0 {
            while next < utterances.len() && self.room() {
                let utterance = std::mem::take(&mut utterances[next]);
                self.submit(Request { ticket: next as u64, utterance, ..Request::default() });
                next += 1;
            }
            let stepped = self.step(&mut done);
            if let Err(error) = &stepped {
                self.abandon(&error.to_string(), &mut done);
            }
            for finished in done.drain(..) {
                utterances[finished.ticket as usize] = finished.utterance;
                left -= 1;
            }
            stepped?;
        }
        Ok(())
    }

    /// Whether another utterance would help to fill the next step.
    pub fn room(&self) -> bool {
        if self.flights.is_empty() {
            return true;
        }
        if self.flights.len() >= self.shared.in_flight || self.shared.limits.alone {
            return false;
        }
        // Spelling takes time too, and deadlines are looked at only after a step.
        if let (Some(time), Some(since)) = (self.shared.limits.step_time, self.filling)
            && since.elapsed() >= time
        {
            return false;
        }
        // A list just taken has one row ready, whatever it has after a step or two. To fill a step with such
        // rows would need many lists, which then all grow, and keep their states, for as long as they wait.
        // With deadlines, what waits outside is late; where only winners are wanted, a list has few rows
        // at any time.
        let grows = self.shared.limits.step_time.is_none() && self.shared.best_only.is_none();
        let fresh = if grows { self.fresh } else { 0 };
        let scorers = self.members.iter().flat_map(|member| member.exact.iter().chain([&member.scorer]));
        let demands = scorers.map(|scorer| scorer.demand());
        demands
            .filter(|demand| demand.wanted > 1)
            .all(|Demand { ready, wanted }| ready < wanted && fresh < wanted)
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Takes an utterance; [`Worker::step`] gives it back rescored.
    pub fn submit(&mut self, request: Request) {
        self.filling.get_or_insert_with(Instant::now);
        self.fresh += request.utterance.hypotheses.len().max(1);
        let flight = Flight::start(request, &self.shared, &mut self.members, false);
        self.flights.push(flight);
    }

    /// One bounded piece of work for everything in flight; finished utterances go to `done`.
    ///
    /// # Errors
    /// Only if a model cannot go on at all; [`Worker::abandon`] then gives the utterances back.
    pub fn step(&mut self, done: &mut Vec<Finished>) -> Result<()> {
        self.run()?;
        let now = Instant::now();
        let mut at = 0;
        while at < self.flights.len() {
            if self.flights[at].poll(now, &self.shared, &mut self.members) {
                let flight = self.flights.swap_remove(at);
                done.push(flight.finish(&self.shared, &mut self.members));
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    /// One step of every model. An exact one has few rows of each utterance: it waits for more of them as
    /// long as others have something to do.
    fn run(&mut self) -> Result<()> {
        (self.filling, self.fresh) = (None, 0);
        let busy = self.members.iter().any(|member| member.scorer.demand().ready > 0);
        self.waited += 1;
        let due = !busy || self.waited >= PATIENCE || self.shared.limits.step_time.is_some();
        if due {
            self.waited = 0;
        }
        for member in &mut self.members {
            member.scorer.step()?;
            let Some(exact) = &mut member.exact else { continue };
            let Demand { ready, wanted } = exact.demand();
            if due || 2 * ready >= wanted {
                exact.step()?;
            }
        }
        Ok(())
    }

    /// Gives back everything in flight unrescored, with this reason.
    pub fn abandon(&mut self, reason: &str, done: &mut Vec<Finished>) {
        for flight in self.flights.drain(..) {
            done.push(flight.give_up(reason, &mut self.members));
        }
    }

    /// Steps, rows and raw tokens of each model so far; those of exact models that confirm winners
    /// (`NAME.exact`) come last.
    pub fn work(&self) -> Vec<(Name, Work)> {
        let all = || self.shared.lms.iter().zip(&self.members);
        let own = all().map(|(lm, member)| (lm.name.clone(), member.scorer.work()));
        let exact = all()
            .filter_map(|(lm, member)| Some((lm.exact.as_ref()?.0.clone(), member.exact.as_ref()?.work())));
        own.chain(exact).collect()
    }
}

/// Steps of the others that exact models wait for, at most.
const PATIENCE: usize = 4;

/// States of all models after an utterance, to start the next of the session from; those of exact models
/// come last.
pub type Carries = Vec<Option<Carry>>;

/// The bound on a step when deadlines are in force: an answer is late by no more than this.
pub const STEP_TIME: Duration = Duration::from_millis(8);
