//! Configuration files: which models, with which weights, over which text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::combine::{Missing, Weights};
use crate::consensus::{Calibration, Decision};
use crate::lm::LanguageModel;
use crate::lm::ngram::{self, Ngram, PieceNgram};
use crate::lm::onnx::{OnnxLm, OnnxOptions, Precision};
use crate::rescorer::{Builder, Interpolation, Rescorer, Tail};
use crate::tokens::{Choice, Markers, TextMap};
use crate::whole::Whole;
use crate::{Error, Result};

/// Models, weights and policies, as written in TOML. Paths are relative to the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `log-linear` (the default) or `linear`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolate: Option<Interpolate>,
    /// Leave out the word boundary factor of subword models in a mix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast_mix: Option<bool>,
    /// Added for each unknown word: natural log, at most 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unk_penalty: Option<f64>,
    /// Whether `<s>` is the first context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<bool>,
    /// Whether `</s>` is scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos: Option<bool>,
    /// How a list is decided: `best`, `mbr` or `rover`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consensus: Option<Decision>,
    /// Where products of models are made in fewer bits: hypotheses whose totals come so near the best are
    /// scored again in f32 ([`Builder::confirm`]). `tune` finds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<f64>,
    /// Whether that was learnt with other models, weights or bits.
    #[serde(skip)]
    pub confirm_is_stale: bool,
    /// Tokens that are no words, beside those that are known as such.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub markers: Vec<String>,
    /// Whether the tokens known as such (`<s>`, `<eps>`, `[noise]`, ...) are no words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_markers: Option<bool>,
    /// What to take where a hypothesis lacks a feature, by its name: `min`, or `pass`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<String, Missing>,
    /// The models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lm: Vec<LmConfig>,
    /// Weights by feature name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f64>,
    /// Spread of each feature within a list where the weights were tuned.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub spread: BTreeMap<String, f64>,
    /// What makes posteriors and confidences of the totals that these weights give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Calibration>,
    /// What is expected of unscored words where only the winner is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
    /// What `tune` measured; for people.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tuned: BTreeMap<String, toml::Value>,
}

/// One model of a [`Config`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LmConfig {
    /// Its name: the feature it gives.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// `neural` or `ngram`; by the file's name if absent (`.onnx` is neural).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Its weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Its share in a linear mix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
    /// `keep`, `lower` or `upper`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// Drop punctuation at the ends of words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_punctuation: Option<bool>,
    /// `keep` or `spell`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digits: Option<String>,
    /// What its vocabulary files are: `words`, `characters`, `sentencepiece`, `huggingface`; by what is in
    /// them if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Its vocabulary files, where they are not those beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<PathBuf>,
    /// Whether it reads the token ids that come with the lists, where they are of its vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<bool>,
    /// Whose ids those are, for lists that do not say it: the hash that `inspect` prints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_hash: Option<String>,
    /// `keep` or `nfc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unicode: Option<String>,
    /// In how many bits a neural model's products are made: `f32` (exact, the default), `bf16` or `int8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Preview a neural model's logits from so many dimensions, and make exact only those that count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_rank: Option<usize>,
    /// Of an n-gram model over subword pieces: the SentencePiece model that cuts words into them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pieces: Option<PathBuf>,
}

/// What kind of model a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An ONNX graph.
    Neural,
    /// An n-gram model.
    Ngram,
}

/// How models are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolate {
    /// Sum of weighted sentence log probabilities.
    LogLinear,
    /// Word by word mixture of probabilities.
    Linear,
}

impl Config {
    /// Reads a configuration; paths in it become relative to the working directory.
    ///
    /// # Errors
    /// If the file cannot be read or has unknown or ill-typed entries.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            Error::Config(format!("{}, line {line}: {}", path.display(), error.message().replace('\n', " ")))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for lm in &mut config.lm {
            lm.path = folder.join(&lm.path);
            lm.tokens.iter_mut().for_each(|file| *file = folder.join(&*file));
            lm.pieces = lm.pieces.take().map(|pieces| folder.join(pieces));
        }
        Ok(config)
    }

    /// Writes the configuration, paths made relative to the file where they can be.
    /// There is the old file or the new one, never half of it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut config = self.clone();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for lm in &mut config.lm {
            lm.path = relative(&lm.path, folder);
            lm.tokens.iter_mut().for_each(|file| *file = relative(file, folder));
            lm.pieces = lm.pieces.take().map(|pieces| relative(&pieces, folder));
        }
        let text = toml::to_string(&config).map_err(|error| Error::Config(error.to_string()))?;
        Whole::save(path, text.as_bytes())
    }

    /// The weights, those given with a model included.
    pub fn all_weights(&self) -> Weights {
        let mut values = self.weights.clone();
        for lm in &self.lm {
            if let Some(weight) = lm.weight {
                values.entry(lm.name.clone()).or_insert(weight);
            }
        }
        Weights { values, spread: self.spread.clone() }
    }

    /// Which tokens are no words.
    pub fn all_markers(&self) -> Markers {
        let known = if self.known_markers == Some(false) { Markers::none() } else { Markers::default() };
        self.markers.iter().fold(known, |markers, marker| markers.and(marker.as_bytes()))
    }

    /// Opens the models and gives a builder with everything the configuration says.
    ///
    /// # Errors
    /// If a model cannot be used or an entry makes no sense.
    pub fn builder(&self, onnx: &OnnxOptions, ngram: &ngram::Options) -> Result<Builder> {
        if self.confirm.is_some() && self.confirm_is_stale && self.in_f32().is_some() {
            return Err(Error::config(
                "the configuration's `confirm` was learnt with other models, weights or bits: let `tune --write` learn it \
                 anew, or say another to `rescore` and `bench` with --confirm NUM (0: none)",
            ));
        }
        let mut builder = Rescorer::builder();
        let mut inexact = false;
        for lm in &self.lm {
            let (model, exact) = lm.open(onnx, ngram, self.confirm.is_some())?;
            builder = builder.lm(&lm.name, model, lm.text()?);
            inexact |= exact.is_some();
            if let Some(exact) = exact {
                builder = builder.exact(&lm.name, exact);
            }
            if lm.ids == Some(true) {
                builder = builder.ids(&lm.name, lm.vocabulary()?);
            }
        }
        if let Some(penalty) = self.unk_penalty {
            builder = builder.unk_penalty(penalty);
        }
        for (name, &policy) in &self.missing {
            builder = builder.missing(name, policy);
        }
        Ok(builder
            // Nothing is off where all run in f32 after all, which their warnings say.
            .confirm(self.confirm.filter(|_| inexact))
            .markers(self.all_markers())
            .weights(&self.all_weights())
            .interpolation(self.interpolation()?)
            .bos(self.bos.unwrap_or(true))
            .score_eos(self.eos.unwrap_or(true)))
    }

    /// Drops the weights of the models that are mixed: those of a log-linear sum say nothing about a
    /// mixture, in which members count by their lambdas alone.
    ///
    /// Without any lambda nothing is dropped: who is mixed is not known yet.
    ///
    /// # Errors
    /// If the lambdas make no sense.
    pub fn forget_members(&mut self) -> Result<()> {
        if self.lm.iter().all(|lm| lm.lambda.is_none()) {
            return Ok(());
        }
        let Interpolation::Linear { lambdas, .. } = self.interpolation()? else { return Ok(()) };
        self.weights.retain(|name, _| !lambdas.iter().any(|(member, _)| member == name));
        for lm in self.lm.iter_mut().filter(|lm| lambdas.iter().any(|(member, _)| *member == lm.name)) {
            lm.weight = None;
        }
        Ok(())
    }

    /// Drops what was learnt about risks: margins hold for the models and weights that they were counted
    /// with. A risk is refused then; without one, the winner is certain whatever is expected of words.
    pub fn forget_margins(&mut self) {
        if let Some(tail) = &mut self.tail {
            tail.margins.clear();
        }
        self.confirm_is_stale |= self.confirm.is_some();
    }

    /// The same models without rounding and previews, where some have them.
    pub fn in_f32(&self) -> Option<Self> {
        let inexact = self.lm.iter().any(LmConfig::is_inexact);
        let mut config = Self { confirm: None, ..self.clone() };
        config.lm.iter_mut().for_each(|lm| (lm.precision, lm.output_rank) = (None, None));
        inexact.then_some(config)
    }

    /// Whether totals are made as under `other`, but for the precision of products and previews.
    pub fn totals_as(&self, other: &Self) -> bool {
        let made = |config: &Self| {
            let mut lm = config.lm.clone();
            lm.iter_mut().for_each(|lm| (lm.precision, lm.output_rank) = (None, None));
            Self {
                lm,
                tail: None,
                confirm: None,
                confirm_is_stale: false,
                missing: BTreeMap::new(),
                confidence: None,
                consensus: None,
                ..config.clone()
            }
        };
        made(self) == made(other)
    }

    fn interpolation(&self) -> Result<Interpolation> {
        if self.interpolate != Some(Interpolate::Linear) {
            return Ok(Interpolation::LogLinear);
        }
        let mut lambdas: Vec<(String, f64)> =
            self.lm.iter().filter_map(|lm| Some((lm.name.clone(), lm.lambda?))).collect();
        // `--lambda L` alone is the first neural model's share; the other member gets the rest.
        if let ([(name, share)], 2) = (&lambdas[..], self.lm.len()) {
            let rest = 1.0 - share;
            let other = self.lm.iter().find(|lm| lm.name != *name).map(|lm| lm.name.clone());
            lambdas.extend(other.map(|other| (other, rest)));
        }
        if lambdas.is_empty() {
            return Err(Error::config(
                "linear interpolation needs lambdas: --lambda L, or `lambda` of each model",
            ));
        }
        Ok(Interpolation::Linear { lambdas, fast: self.fast_mix.unwrap_or(false) })
    }
}

impl LmConfig {
    /// Neural or n-gram.
    pub fn kind(&self) -> Kind {
        let onnx = self.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
        self.kind.unwrap_or(if onnx { Kind::Neural } else { Kind::Ngram })
    }

    /// Whether its scores are to be a little off.
    pub fn is_inexact(&self) -> bool {
        self.precision.as_ref().is_some_and(|precision| precision != "f32") || self.output_rank.is_some()
    }

    /// The model; with `confirm`, also the one with exact scores, where its own are not.
    fn open(
        &self,
        onnx: &OnnxOptions,
        ngram: &ngram::Options,
        confirm: bool,
    ) -> Result<(Model, Option<Model>)> {
        Ok(match self.kind() {
            Kind::Neural => {
                let tokens = Choice { kind: self.tokenizer.clone(), files: self.tokens.clone() };
                let precision = match &self.precision {
                    Some(precision) => precision.parse()?,
                    None => onnx.precision,
                };
                let rank = self.output_rank.or(onnx.rank);
                let options = OnnxOptions { tokens, precision, rank, ..onnx.clone() };
                let model = OnnxLm::open(&self.path, &self.name, &options)?;
                let exact = (confirm && model.is_inexact()).then(|| {
                    let options = OnnxOptions { precision: Precision::F32, rank: None, ..options };
                    OnnxLm::open(&self.path, &format!("{}.exact", self.name), &options)
                });
                let exact = exact.transpose()?.map(|exact| Arc::new(exact) as Model);
                (Arc::new(model), exact)
            }
            Kind::Ngram => {
                if self.precision.is_some() {
                    return Err(Error::Config(format!(
                        "`{}` has a precision, and is no neural model: take it out",
                        self.name
                    )));
                }
                if self.output_rank.is_some() {
                    return Err(Error::Config(format!(
                        "`{}` has an output rank, and is no neural model: take it out",
                        self.name
                    )));
                }
                let ngram = Ngram::open(&self.path, ngram)?;
                let model: Model = match &self.pieces {
                    Some(pieces) => Arc::new(PieceNgram::new(ngram, pieces)?),
                    None => Arc::new(ngram),
                };
                (model, None)
            }
        })
    }

    /// The hash as a number.
    fn vocabulary(&self) -> Result<Option<u64>> {
        let Some(text) = &self.vocab_hash else { return Ok(None) };
        let digits = text.get(..16).filter(|_| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let hash = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(|| {
            Error::Config(format!(
                "vocab_hash = {text:?} is not 16 or more hexadecimal digits: `inspect` prints it"
            ))
        })?;
        Ok(Some(hash))
    }

    fn text(&self) -> Result<TextMap> {
        let mut map = TextMap::default();
        if let Some(case) = &self.case {
            map.case = word("case", case)?;
        }
        if let Some(strip) = self.strip_punctuation {
            map.strip_punctuation = strip;
        }
        if let Some(digits) = &self.digits {
            map.digits = word("digits", digits)?;
        }
        if let Some(unicode) = &self.unicode {
            map.unicode = word("unicode", unicode)?;
        }
        Ok(map)
    }
}

type Model = Arc<dyn LanguageModel>;

/// One of a few words, by its serde name.
pub(crate) fn word<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    let given = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
    T::deserialize(given).map_err(|error| Error::Config(format!("{what}: {error}")))
}

/// `path` as seen from `folder`, where both can be resolved; else absolute, else as it is.
fn relative(path: &Path, folder: &Path) -> PathBuf {
    let (Ok(path), Ok(folder)) = (path.canonicalize(), folder.canonicalize()) else { return path.to_owned() };
    let common = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| Path::new(".."));
    let down = path.components().skip(common);
    up.map(Path::to_owned).chain(down.map(|part| PathBuf::from(part.as_os_str()))).collect()
}
