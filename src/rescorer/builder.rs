//! Putting a [`Rescorer`] together and checking that its parts fit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{BestOnly, Ids, Lm, Rescorer, STEP_TIME, Shared};
use crate::combine::{Combination, MIX, Missing, WORDS, Weights};
use crate::lm::ngram::{self, Ngram};
use crate::lm::onnx::{OnnxLm, OnnxOptions};
use crate::lm::{Grain, LanguageModel, Limits};
use crate::nbest::Name;
use crate::tokens::{Markers, TextMap};
use crate::{Error, Result};

/// How models are combined.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Interpolation {
    /// Each model contributes its sentence log probability.
    #[default]
    LogLinear,
    /// Some models are mixed word by word into one feature, [`MIX`].
    Linear {
        /// Each member's share; they sum to 1.
        lambdas: Vec<(String, f64)>,
        /// Leave out the word boundary factor of subword models: faster, and no probability.
        fast: bool,
    },
}

/// Puts a [`Rescorer`] together.
#[must_use]
pub struct Builder {
    lms: Vec<(String, Arc<dyn LanguageModel>, TextMap)>,
    /// Models that read token ids, and whose ids unmarked lists have.
    ids: Vec<(String, Option<u64>)>,
    weights: Weights,
    missing: Vec<(String, Missing)>,
    interpolation: Interpolation,
    markers: Markers,
    unk_penalty: f64,
    score_eos: bool,
    bos: bool,
    limits: Limits,
    in_flight: usize,
    cache_bytes: usize,
    best_only: Option<BestOnly>,
    exact: Vec<(String, Arc<dyn LanguageModel>)>,
    confirm: Option<f64>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            lms: Vec::new(),
            ids: Vec::new(),
            weights: Weights::default(),
            missing: Vec::new(),
            interpolation: Interpolation::default(),
            markers: Markers::default(),
            unk_penalty: 0.0,
            score_eos: true,
            bos: true,
            limits: Limits { rows: 128, step_time: None, alone: false, threads: 1 },
            in_flight: 64,
            cache_bytes: CACHE_BYTES,
            best_only: None,
            exact: Vec::new(),
            confirm: None,
        }
    }
}

impl Builder {
    /// Adds an ONNX model as `rnnlm` (then `rnnlm2`, ...) with a weight.
    ///
    /// # Errors
    /// If ONNX Runtime is missing or the model cannot be used.
    pub fn neural(self, path: impl AsRef<Path>, weight: f64) -> Result<Self> {
        let name = self.free_name("rnnlm");
        let model = OnnxLm::open(path.as_ref(), &name, &OnnxOptions::default())?;
        Ok(self.lm(&name, Arc::new(model), TextMap::default()).weight(&name, weight))
    }

    /// Adds an n-gram model as `ngram` (then `ngram2`, ...) with a weight.
    ///
    /// # Errors
    /// If the model cannot be read.
    pub fn ngram(self, path: impl AsRef<Path>, weight: f64) -> Result<Self> {
        self.ngram_with(path, weight, &ngram::Options::default())
    }

    /// The same, read otherwise than by default: mapped, for instance.
    ///
    /// # Errors
    /// If the model cannot be read.
    pub fn ngram_with(self, path: impl AsRef<Path>, weight: f64, options: &ngram::Options) -> Result<Self> {
        let name = self.free_name("ngram");
        let model = Ngram::open(path, options)?;
        Ok(self.lm(&name, Arc::new(model), TextMap::default()).weight(&name, weight))
    }

    /// Adds any model under a name, with the text it wants.
    pub fn lm(mut self, name: &str, model: Arc<dyn LanguageModel>, text: TextMap) -> Self {
        self.lms.push((name.to_owned(), model, text));
        self
    }

    /// The model `name` reads the token ids that come with hypotheses instead of their texts, in
    /// lists whose ids are of its vocabulary: those that name its hash
    /// ([`Vocab::hash`](crate::tokens::Vocab::hash)), and, if `hash` is given, those that name none.
    pub fn ids(mut self, name: &str, hash: Option<u64>) -> Self {
        self.ids.push((name.to_owned(), hash));
        self
    }

    /// Sets the weight of a feature: a model, `words`, `NAME.oov`, `mix` or a first-pass feature.
    pub fn weight(mut self, name: &str, weight: f64) -> Self {
        self.weights.values.insert(name.to_owned(), weight);
        self
    }

    /// Adds weights and the spreads they were tuned at; later values replace earlier ones.
    pub fn weights(mut self, weights: &Weights) -> Self {
        self.weights.values.extend(weights.values.clone());
        self.weights.spread.extend(weights.spread.clone());
        self
    }

    /// What to do where hypotheses lack a feature.
    pub fn missing(mut self, name: &str, missing: Missing) -> Self {
        self.missing.push((name.to_owned(), missing));
        self
    }

    /// Log-linear (the default) or linear.
    pub fn interpolation(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }

    /// Which tokens of a hypothesis are no words.
    pub fn markers(mut self, markers: Markers) -> Self {
        self.markers = markers;
        self
    }

    /// Added (natural log, at most 0) for each word a model does not know.
    pub fn unk_penalty(mut self, penalty: f64) -> Self {
        self.unk_penalty = penalty;
        self
    }

    /// Whether `</s>` is scored (it is, by default).
    pub fn score_eos(mut self, score: bool) -> Self {
        self.score_eos = score;
        self
    }

    /// Whether `<s>` is the context of the first word (it is, by default).
    pub fn bos(mut self, bos: bool) -> Self {
        self.bos = bos;
        self
    }

    /// Most rows (distinct histories) in one step.
    pub fn rows(mut self, rows: usize) -> Self {
        self.limits.rows = rows.max(1);
        self
    }

    /// Most utterances in flight in one worker.
    pub fn in_flight(mut self, utterances: usize) -> Self {
        self.in_flight = utterances.max(1);
        self
    }

    /// Bytes that each neural model of each worker may spend on histories of earlier utterances, in case
    /// they come again: the first words of sentences do. Scores do not depend on it beyond 1e-6; 0 keeps
    /// none, and so does [`Builder::deterministic`].
    pub fn cache(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Only the winner is wanted: hypotheses that cannot win, or with a risk are unlikely to, are not scored
    /// to their end. These have no total (NaN) and stand behind the winner in first-pass order.
    pub fn best_only(mut self, best_only: Option<BestOnly>) -> Self {
        self.best_only = best_only;
        self
    }

    /// The model `name` gives scores that are a little off ([`OnnxOptions::precision`]), and this one those that
    /// it should give: winners are confirmed by it ([`Builder::confirm`]).
    pub fn exact(mut self, name: &str, model: Arc<dyn LanguageModel>) -> Self {
        self.exact.push((name.to_owned(), model));
        self
    }

    /// Hypotheses whose totals come so near the best (in units of the total) are scored again by the exact
    /// models ([`Builder::exact`]), and so is any that would then win without having been. Their features and
    /// totals are exact ones, all others' stay; one without rivals stays as it is. If no total is off by more
    /// than half of it, the winner is the one that exact models alone would give.
    ///
    /// Where a deadline comes first, what is known stands, and the exact models (`NAME.exact`) are among
    /// those left out ([`Status::Partial`](crate::Status::Partial)).
    pub fn confirm(mut self, margin: Option<f64>) -> Self {
        self.confirm = margin;
        self
    }

    /// Threads inside one step of a neural model: 1, the default, where several workers share the cores;
    /// 0 (one per core) where one worker has them to itself, which answers one utterance sooner.
    pub fn threads(mut self, threads: usize) -> Self {
        self.limits.threads = cores(threads);
        self
    }

    /// Batches of one utterance: equal bytes for any number of workers.
    pub fn deterministic(mut self, deterministic: bool) -> Self {
        self.limits.alone = deterministic;
        self
    }

    /// Keeps steps short, so that deadlines of this size can be kept.
    pub fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.limits.step_time = deadline.map(|deadline| (deadline / 4).min(STEP_TIME));
        self
    }

    /// The rescorer.
    ///
    /// # Errors
    /// [`Error::Config`] where names, weights or models do not fit together.
    pub fn build(self) -> Result<Rescorer> {
        let lms = self.lms();
        let lambda = self.lambdas(&lms)?;
        self.check(&lms)?;
        if let Some(best_only) = &self.best_only {
            best_only.check()?;
        }
        self.check_exact(&lms)?;
        let mixed = |at: usize| lambda[at].is_some();
        let mut own = Vec::new();
        let mut models = Vec::new();
        for (at, lm) in lms.iter().enumerate() {
            own.push(lm.name.clone());
            if !mixed(at) {
                models.push(lm.name.clone());
            }
        }
        if lambda.iter().any(Option::is_some) {
            own.push(MIX.into());
            models.push(MIX.into());
        }
        own.push(WORDS.into());
        own.extend(lms.iter().map(|lm| lm.oov.clone()));
        for (at, lm) in lms.iter().enumerate() {
            if mixed(at) && self.weights.value(&lm.name).is_some_and(|weight| weight != 0.0) {
                return Err(Error::Config(format!(
                    "`{0}` is mixed and counts only inside `mix`: give `mix` the weight, not `{0}`",
                    lm.name
                )));
            }
        }
        let combination =
            Combination { models, own, weights: self.weights, missing: self.missing.into_iter().collect() };
        Ok(Rescorer {
            shared: Arc::new(Shared {
                lms,
                combination,
                interpolation: self.interpolation,
                lambda,
                markers: self.markers,
                unk_penalty: self.unk_penalty,
                score_eos: self.score_eos,
                bos: self.bos,
                limits: self.limits,
                in_flight: self.in_flight,
                cache_bytes: self.cache_bytes,
                best_only: self.best_only,
                confirm: self.confirm,
            }),
        })
    }

    fn lms(&self) -> Vec<Lm> {
        let lm = |(name, model, text): &(String, Arc<dyn LanguageModel>, TextMap)| Lm {
            name: name.as_str().into(),
            oov: Name::from(format!("{name}.oov")),
            model: model.clone(),
            exact: self
                .exact
                .iter()
                .filter(|_| self.confirm.is_some())
                .find(|(other, _)| other == name)
                .map(|(_, exact)| (format!("{name}.exact").into(), exact.clone())),
            text: text.clone(),
            ids: self
                .ids
                .iter()
                .find(|(other, _)| other == name)
                .map(|&(_, given)| Ids { given, own: model.spec().vocab.hash() }),
        };
        self.lms.iter().map(lm).collect()
    }

    fn check(&self, lms: &[Lm]) -> Result<()> {
        let reserved = [MIX, WORDS, "total", "rank", "score"];
        for (at, lm) in lms.iter().enumerate() {
            let name = &*lm.name;
            if name.is_empty() {
                return Err(Error::config("a model has no name; write `name = ..` under its [[lm]]"));
            }
            if name.ends_with(".oov") || reserved.contains(&name) {
                return Err(Error::Config(format!(
                    "`{name}` cannot be a model's name; choose another NAME="
                )));
            }
            if lms[..at].iter().any(|other| other.name == lm.name) {
                return Err(Error::Config(format!(
                    "two models are called `{name}`; write NAME=FILE for one of them"
                )));
            }
            if !self.score_eos && lm.model.spec().grain == Grain::Sentence {
                return Err(Error::Config(format!(
                    "`{name}` scores whole sentences, </s> with them; it cannot leave </s> out"
                )));
            }
            if !self.bos && lm.model.spec().carries {
                return Err(Error::Config(format!(
                    "`{name}` cannot score without <s>: it has no other first context; drop --no-bos"
                )));
            }
        }
        for (name, given) in &self.ids {
            let Some(lm) = lms.iter().find(|lm| *lm.name == **name) else {
                return Err(Error::Config(format!("token ids are for `{name}`, which is no model")));
            };
            let own = lm.model.spec().vocab.hash();
            if let Some(given) = given.filter(|&given| given != own) {
                return Err(Error::Config(format!(
                    "`{name}`: the token ids are said to be of the vocabulary {given:016x}, and the model's is {own:016x}: \
                     take the ids of its own vocabulary, or leave `ids` out"
                )));
            }
        }
        if let Some((name, weight)) = self.weights.values.iter().find(|(_, weight)| !weight.is_finite()) {
            return Err(Error::Config(format!(
                "the weight of `{name}` is {weight}; it must be a finite number"
            )));
        }
        if self.unk_penalty > 0.0 || !self.unk_penalty.is_finite() {
            return Err(Error::Config(format!(
                "the penalty for unknown words is {}; it is a natural log, at most 0",
                self.unk_penalty
            )));
        }
        Ok(())
    }

    /// Whether what confirms winners is there, and fits.
    fn check_exact(&self, lms: &[Lm]) -> Result<()> {
        for (name, exact) in &self.exact {
            let Some(lm) = lms.iter().find(|lm| *lm.name == **name) else {
                return Err(Error::Config(format!("there are exact scores for `{name}`, which is no model")));
            };
            let (one, other) = (lm.model.spec(), exact.spec());
            let same = one.vocab.hash() == other.vocab.hash()
                && (one.grain, one.backward, one.carries, one.carries_bos, &one.context)
                    == (other.grain, other.backward, other.carries, other.carries_bos, &other.context);
            if !same {
                return Err(Error::Config(format!(
                    "`{name}` and what is to confirm it read otherwise: they must be one model, in two precisions"
                )));
            }
        }
        let Some(margin) = self.confirm else { return Ok(()) };
        if !(margin >= 0.0 && margin.is_finite()) {
            return Err(Error::Config(format!(
                "winners are to be confirmed within {margin}; it is a distance of totals, from 0 on"
            )));
        }
        if self.exact.is_empty() {
            return Err(Error::config(
                "winners are to be confirmed, and no model's scores are inexact: take the margin out, or ask for fewer bits",
            ));
        }
        Ok(())
    }

    fn lambdas(&self, lms: &[Lm]) -> Result<Vec<Option<f64>>> {
        let mut lambda = vec![None; lms.len()];
        let Interpolation::Linear { lambdas, .. } = &self.interpolation else { return Ok(lambda) };
        for (name, share) in lambdas {
            let Some(at) = lms.iter().position(|lm| &*lm.name == name.as_str()) else {
                return Err(Error::Config(format!("--lambda names `{name}`, which is no model")));
            };
            let spec = lms[at].model.spec();
            if spec.grain != Grain::Token || spec.backward || !spec.context.is_empty() {
                return Err(Error::Config(format!(
                    "`{name}` cannot be mixed: it gives no left-to-right word scores; use it log-linearly"
                )));
            }
            if !(0.0..=1.0).contains(share) {
                return Err(Error::Config(format!(
                    "the lambda of `{name}` is {share}; it must lie between 0 and 1"
                )));
            }
            if lambda[at].replace(*share).is_some() {
                return Err(Error::Config(format!("`{name}` has two lambdas; give it one")));
            }
        }
        let sum: f64 = lambda.iter().flatten().sum();
        if lambdas.len() < 2 || (sum - 1.0).abs() > 1e-6 {
            return Err(Error::Config(format!(
                "linear interpolation needs two or more models whose lambdas sum to 1; these sum to {sum}"
            )));
        }
        Ok(lambda)
    }

    fn free_name(&self, stem: &str) -> String {
        let taken = |name: &str| self.lms.iter().any(|lm| lm.0 == name);
        let numbered = (2..).map(|number| format!("{stem}{number}"));
        std::iter::once(stem.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
    }
}

impl Shared {
    /// Whether the model at `at` must report word boundaries.
    pub(super) fn boundaries(&self, at: usize) -> bool {
        let exact = matches!(self.interpolation, Interpolation::Linear { fast: false, .. });
        exact && self.lambda[at].is_some() && !self.lms[at].model.spec().vocab.words()
    }
}

/// Threads as asked for; 0 is one per core.
pub(super) fn cores(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// Some hundred states of a layer of 512, some dozens of a large model: openings, not whole lists.
const CACHE_BYTES: usize = 2 << 20;
