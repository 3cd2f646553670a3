//! The flags that choose models and weights, and the configuration they make.

use std::path::{Path, PathBuf};

use clap::Args;

use super::load::Loading;
use super::messages::Messages;
use crate::combine::{MIX, Missing};
use crate::config::{Config, Interpolate, Kind, LmConfig};
use crate::lm::onnx::{Device, OnnxOptions, Precision, runtime};
use crate::rescorer::Builder;
use crate::{Error, Result};

/// Models and how they are combined.
#[derive(Args, Debug, Clone, Default)]
pub struct ModelArgs {
    /// Models and weights from a TOML file
    ///
    /// Its paths are relative to itself; `tune --write` makes one.
    #[arg(long, value_name = "FILE", help_heading = "Models")]
    pub config: Option<PathBuf>,
    /// An LSTM or other causal LM exported to ONNX (repeatable)
    #[arg(long, value_name = "[NAME=]MODEL", help_heading = "Models")]
    pub rnnlm: Vec<String>,
    /// An n-gram LM: ARPA (also packed), KenLM or compact (repeatable)
    #[arg(long, value_name = "[NAME=]FILE", help_heading = "Models")]
    pub ngram: Vec<String>,
    /// How n-gram binaries come into memory
    #[arg(long, value_name = "HOW", default_value = "read", help_heading = "Models")]
    pub load: Loading,
    /// No language models: weigh the features that the lists have
    #[arg(long, conflicts_with_all = ["config", "rnnlm", "ngram"], help_heading = "Models")]
    pub no_models: bool,
    /// Case of a model's text: lower, upper, keep (repeatable)
    #[arg(long, value_name = "[NAME=]CASE", help_heading = "Models")]
    pub case: Vec<String>,
    /// Drop punctuation for a model, or all (repeatable)
    // With `=` only: else it would take the input's name for a model's.
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "*", help_heading = "Models")]
    pub strip_punctuation: Vec<String>,
    /// How a model wants numbers: spell, keep (repeatable)
    #[arg(long, value_name = "[NAME=]HOW", help_heading = "Models")]
    pub digits: Vec<String>,
    /// Where ONNX models run: cpu, cuda, cuda:N, auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Models")]
    pub device: String,
    /// What is done on a GPU, with the processor as the device: slower, but shows that it works
    #[arg(long, hide = true)]
    pub bound: bool,
    /// Bits of neural models' products: f32, bf16, int8, tf32 (repeatable)
    ///
    /// f32 is exact and the default. bf16 and int8 (on a GPU tf32) are faster and move scores a little;
    /// `bench` measures by how much on your lists.
    #[arg(long, value_name = "[NAME=]BITS", help_heading = "Models")]
    pub precision: Vec<String>,
    /// Preview all logits from NUM dimensions, make exact those that count (repeatable)
    ///
    /// For large vocabularies: 64 to 128 do for word models. By itself, all are exact. Moves scores a little;
    /// `bench` measures by how much on your lists.
    #[arg(long, value_name = "[NAME=]NUM", help_heading = "Models")]
    pub output_rank: Vec<String>,
    /// The ONNX Runtime library to use
    #[arg(long, value_name = "FILE", help_heading = "Models")]
    pub onnxruntime: Option<PathBuf>,
    /// Feature weights from a TOML file
    #[arg(long, value_name = "FILE", help_heading = "Scoring")]
    pub weights: Option<PathBuf>,
    /// One feature's weight (repeatable)
    #[arg(long, value_name = "NAME=NUM", allow_hyphen_values = true, help_heading = "Scoring")]
    pub weight: Vec<String>,
    /// How models are combined
    #[arg(long, value_name = "HOW", help_heading = "Scoring")]
    pub interpolate: Option<Combine>,
    /// Share of the neural model in a linear mix, or of NAME
    #[arg(long, value_name = "[NAME=]NUM", help_heading = "Scoring")]
    pub lambda: Vec<String>,
    /// Mix without the word boundary factor of subwords
    #[arg(long, overrides_with = "no_fast_mix", help_heading = "Scoring")]
    pub fast_mix: bool,
    #[arg(long, hide = true)]
    no_fast_mix: bool,
    /// Added per unknown word: natural log, at most 0
    #[arg(long, value_name = "NUM", allow_hyphen_values = true, help_heading = "Scoring")]
    pub unk_penalty: Option<f64>,
    /// Do not start from <s>
    #[arg(long, overrides_with = "bos", help_heading = "Scoring")]
    pub no_bos: bool,
    #[arg(long, hide = true)]
    bos: bool,
    /// Do not score </s>
    #[arg(long, overrides_with = "eos", help_heading = "Scoring")]
    pub no_eos: bool,
    #[arg(long, hide = true)]
    eos: bool,
    /// Where a hypothesis lacks a feature: NAME=min (repeatable)
    #[arg(long, value_name = "NAME=min", help_heading = "Scoring")]
    pub missing: Vec<String>,
    /// Another token that is no word (repeatable)
    #[arg(long, value_name = "TOKEN", help_heading = "Scoring")]
    pub marker: Vec<String>,
    /// Every token is a word, `<s>` too
    #[arg(long, help_heading = "Scoring")]
    pub no_markers: bool,
    /// Most histories in one step of a neural model (0: 128, on a GPU 1024)
    #[arg(long, alias = "batch-cells", value_name = "NUM", default_value_t = 0, help_heading = "Limits")]
    pub batch_rows: usize,
    /// Threads inside one step of a neural model (0: one, or one per core for the only worker)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Limits")]
    pub threads: usize,
    /// Memory for histories of earlier utterances, of each worker and neural model
    ///
    /// The first words of sentences come again. 0: none are kept; --deterministic keeps none either.
    #[arg(long, value_name = "MIB", default_value_t = 2, help_heading = "Limits")]
    pub cache_mib: usize,
    /// Batches of one utterance: equal bytes for any --jobs
    #[arg(long, overrides_with = "no_deterministic", help_heading = "Scoring")]
    pub deterministic: bool,
    #[arg(long, hide = true)]
    no_deterministic: bool,
}

/// `--interpolate`.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
pub enum Combine {
    /// Weighted sum of sentence log probabilities
    LogLinear,
    /// Word by word mixture
    Linear,
}

impl ModelArgs {
    /// What the flags and files say together; the shipped models if they name none.
    ///
    /// # Errors
    /// If a file cannot be read or a flag makes no sense.
    pub fn config(&self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None if !self.no_models && self.rnnlm.is_empty() && self.ngram.is_empty() => {
                Config::load(&shipped("en/rescore.toml")?)?
            }
            None => Config::default(),
        };
        let mut named = Vec::new();
        let of_file = config.lm.clone();
        let mut bits = of_file.clone();
        add(&mut config, "rnnlm", Kind::Neural, &self.rnnlm, &mut named)?;
        add(&mut config, "ngram", Kind::Ngram, &self.ngram, &mut named)?;
        if config.lm != of_file {
            config.forget_margins();
        }
        if let Some(path) = &self.weights {
            let weights = Config::load(path)?;
            let all = weights.all_weights();
            // Weights of first-pass features belong together: a total is never counted beside its parts.
            let models: Vec<&str> = config.lm.iter().map(|lm| &*lm.name).collect();
            let own = |name: &str| {
                name == crate::combine::MIX
                    || name == crate::combine::WORDS
                    || name.ends_with(".oov")
                    || models.contains(&name)
            };
            if all.values.keys().any(|name| !own(name)) {
                config.weights.retain(|name, _| own(name));
            }
            config.weights.extend(all.values);
            config.spread = all.spread;
            config.confidence = weights.confidence;
            config.consensus = weights.consensus;
            // What is no word, and what is taken for what is missing, was so where they were tuned.
            let fresh = weights.markers.into_iter().filter(|marker| !config.markers.contains(marker));
            config.markers.extend(fresh.collect::<Vec<_>>());
            config.known_markers = weights.known_markers.or(config.known_markers);
            config.missing.extend(weights.missing);
            config.tail = weights.tail;
            (config.confirm, config.confirm_is_stale) = (weights.confirm, false);
            bits = weights.lm;
        }
        let tuned = config.clone();
        let mixed = config.interpolate == Some(Interpolate::Linear);
        if let Some(combine) = self.interpolate {
            config.interpolate = Some(match combine {
                Combine::LogLinear => Interpolate::LogLinear,
                Combine::Linear => Interpolate::Linear,
            });
        }
        for lambda in &self.lambda {
            let (name, value) = pair(lambda).unwrap_or(("", lambda));
            let value = number("--lambda", value)?;
            let lm = match name {
                "" => config.lm.iter_mut().find(|lm| lm.kind() == Kind::Neural),
                name => config.lm.iter_mut().find(|lm| lm.name == name),
            };
            lm.ok_or_else(|| {
                Error::Config(format!(
                    "--lambda {lambda}: there is no such model; give a number for the neural one, or NAME=NUM"
                ))
            })?
            .lambda = Some(value);
        }
        if config.interpolate == Some(Interpolate::Linear) && !mixed {
            config.forget_members()?;
        }
        if config.interpolate != Some(Interpolate::Linear) && mixed {
            config.weights.remove(MIX);
        }
        for weight in &self.weight {
            let (name, value) = pair(weight).ok_or_else(|| bad("--weight", weight, "NAME=NUM"))?;
            config.weights.insert(name.to_owned(), number("--weight", value)?);
        }
        self.text(&mut config)?;
        config.unk_penalty = self.unk_penalty.or(config.unk_penalty);
        config.fast_mix = self.fast_mix.then_some(true).or(config.fast_mix).filter(|_| !self.no_fast_mix);
        if config.interpolate != Some(Interpolate::Linear) && (self.fast_mix || !self.lambda.is_empty()) {
            return Err(Error::config("--lambda and --fast-mix are about mixing: add --interpolate linear"));
        }
        config.bos = self.no_bos.then_some(false).or(self.bos.then_some(true)).or(config.bos);
        config.eos = self.no_eos.then_some(false).or(self.eos.then_some(true)).or(config.eos);
        config.known_markers = self.no_markers.then_some(false).or(config.known_markers);
        config.markers.extend(self.marker.iter().cloned());
        for missing in &self.missing {
            let Some((name, "min")) = pair(missing) else {
                return Err(bad("--missing", missing, "NAME=min"));
            };
            config.missing.insert(name.to_owned(), Missing::Min);
        }
        if !config.totals_as(&tuned) {
            config.forget_margins();
        }
        // Where a file says how inexact its models are, its margin was learnt with that; exact ones do no harm.
        let said = bits.iter().any(|of| of.precision.is_some() || of.output_rank.is_some());
        let rounded = |lm: &LmConfig| (lm.precision.clone().filter(|bits| bits != "f32"), lm.output_rank);
        let other = |lm: &LmConfig| {
            let of = bits.iter().find(|of| of.name == lm.name).map(rounded);
            lm.is_inexact() && rounded(lm) != of.unwrap_or_default()
        };
        config.confirm_is_stale |= said && config.confirm.is_some() && config.lm.iter().any(other);
        Ok(config)
    }

    /// A builder with the models of `config` open.
    ///
    /// # Errors
    /// If a model cannot be used.
    pub fn builder(&self, config: &Config) -> Result<Builder> {
        let onnx = OnnxOptions {
            device: self.device()?,
            runtime: self.onnxruntime.clone(),
            bound: self.bound.then_some(true),
            ..OnnxOptions::default()
        };
        let rows = match self.batch_rows {
            0 if self.on_gpu(config)? => 1024,
            0 => 128,
            rows => rows,
        };
        Ok(config
            .builder(&onnx, &self.load.options())?
            .rows(rows)
            .cache(self.cache_mib << 20)
            .threads(match self.threads {
                0 if large(config) => 0,
                threads => threads.max(1),
            })
            .deterministic(self.deterministic))
    }

    /// The same for the only worker, or for one utterance at a time: a step has all cores, unless
    /// `--threads` says otherwise.
    ///
    /// # Errors
    /// If a model cannot be used.
    pub fn single(&self, config: &Config) -> Result<Builder> {
        Ok(self.builder(config)?.threads(self.threads))
    }

    /// The device named.
    ///
    /// # Errors
    /// If it is none of the known ones.
    pub fn device(&self) -> Result<Device> {
        self.device.parse()
    }

    /// Worker threads: as asked, else one per core; one where a step is better spread over the cores than
    /// copied to each. A GPU has one worker whatever is asked, and `messages` says so: runs of several
    /// sessions on one device wait for each other, and each would have its own weights and states there.
    ///
    /// # Errors
    /// If `auto` must be decided and there is no ONNX Runtime.
    pub fn workers(&self, jobs: usize, config: &Config, messages: &Messages) -> Result<usize> {
        if self.on_gpu(config)? {
            if jobs > 1 {
                messages.say(&format!(
                    "--jobs {jobs}: on a GPU one worker with one session runs the batches of all utterances; \
                     --batch-rows makes them larger"
                ));
            }
            return Ok(1);
        }
        Ok(match jobs {
            0 if large(config) => 1,
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs,
        })
    }

    /// Whether models of `config` run on a GPU: neural ones only do.
    fn on_gpu(&self, config: &Config) -> Result<bool> {
        let device = self.device()?;
        if device == Device::Cpu || config.lm.iter().all(|lm| lm.kind() != Kind::Neural) {
            return Ok(false);
        }
        if device == Device::Auto && self.onnxruntime.is_some() {
            runtime::configure(self.onnxruntime.as_deref());
        }
        Ok(device.decide()? != Device::Cpu)
    }

    fn text(&self, config: &mut Config) -> Result<()> {
        let of_neural =
            [("--precision", &self.precision, "products"), ("--output-rank", &self.output_rank, "logits")];
        for (flag, given, what) in of_neural {
            for value in given {
                if !config.lm.iter().any(|lm| lm.kind() == Kind::Neural) {
                    return Err(Error::Config(format!(
                        "{flag} {value}: there is no neural model, and others have no {what}; drop it"
                    )));
                }
                let named = pair(value).and_then(|(name, _)| config.lm.iter().find(|lm| lm.name == name));
                if named.is_some_and(|lm| lm.kind() != Kind::Neural) {
                    return Err(bad(flag, value, "the name of a neural model"));
                }
            }
        }
        let mut each = |flag: &str, given: &str, set: &dyn Fn(&mut LmConfig, &str)| {
            let (name, value) = pair(given).unwrap_or(("*", given));
            let mut found = name == "*";
            for lm in config.lm.iter_mut().filter(|lm| name == "*" || lm.name == name) {
                set(lm, value);
                found = true;
            }
            if found {
                Ok(())
            } else {
                Err(Error::Config(format!("{flag} {given}: there is no model `{name}`")))
            }
        };
        for case in &self.case {
            each("--case", case, &|lm, value| lm.case = Some(value.to_owned()))?;
        }
        for precision in &self.precision {
            // Wrong words are refused here, and by their flag.
            let word = pair(precision).map_or(&**precision, |(_, word)| word);
            word.parse::<Precision>()
                .map_err(|_| bad("--precision", precision, "f32, bf16, int8 or, on a GPU, tf32"))?;
            each("--precision", precision, &|lm, value| {
                if lm.kind() == Kind::Neural {
                    lm.precision = Some(value.to_owned());
                }
            })?;
        }
        for rank in &self.output_rank {
            let number = pair(rank).map_or(&**rank, |(_, number)| number);
            let number = number.parse().map_err(|_| bad("--output-rank", rank, "a number of dimensions"))?;
            each("--output-rank", rank, &|lm, _| {
                if lm.kind() == Kind::Neural {
                    lm.output_rank = Some(number);
                }
            })?;
        }
        for name in &self.strip_punctuation {
            each("--strip-punctuation", &format!("{name}=true"), &|lm, _| lm.strip_punctuation = Some(true))?;
        }
        for digits in &self.digits {
            each("--digits", digits, &|lm, value| lm.digits = Some(value.to_owned()))?;
        }
        Ok(())
    }
}

/// Whether some neural model is so large that copies for each worker cost more than they bring.
fn large(config: &Config) -> bool {
    let neural = config.lm.iter().filter(|lm| lm.kind() == Kind::Neural);
    let bytes = |lm: &LmConfig| std::fs::metadata(&lm.path).map_or(0, |metadata| metadata.len());
    neural.map(bytes).any(|bytes| bytes > 200 << 20)
}

/// A file of the shipped models: under `SECONDPASS_MODELS`, else beside the executable, else in a
/// parent of the working directory or of the executable.
///
/// # Errors
/// [`Error::Config`] naming the places searched.
pub fn shipped(file: &str) -> Result<PathBuf> {
    let mut folders = Vec::new();
    match std::env::var_os("SECONDPASS_MODELS") {
        Some(folder) => folders.push(PathBuf::from(folder)),
        None => {
            let exe = std::env::current_exe().and_then(|exe| exe.canonicalize()).ok();
            let here = std::env::current_dir().ok();
            folders.extend(
                exe.as_deref().and_then(Path::parent).map(|bin| bin.join("../share/secondpass/models")),
            );
            let parents = here.iter().chain(&exe).flat_map(|path| path.ancestors());
            folders.extend(parents.map(|parent| parent.join("models")));
        }
    }
    let found = folders.iter().map(|folder| folder.join(file)).find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::Config(format!(
            "the shipped models ({file}) were not found; name models with --rnnlm, --ngram or --config, or set \
             SECONDPASS_MODELS to the folder `models` of the source"
        ))
    })
}

/// Adds the models of a flag; `named` are the names that flags gave so far.
fn add(config: &mut Config, stem: &str, kind: Kind, given: &[String], named: &mut Vec<String>) -> Result<()> {
    for model in given {
        let (name, path) = match model.split_once('=') {
            Some((name, path)) if !name.is_empty() && !name.contains(['/', '.']) => (name.to_owned(), path),
            _ => {
                let taken = |name: &str| config.lm.iter().any(|lm| lm.name == name);
                let numbered = (2..).map(|number| format!("{stem}{number}"));
                let mut names = std::iter::once(stem.to_owned()).chain(numbered);
                (names.find(|name| !taken(name)).unwrap_or_default(), model.as_str())
            }
        };
        if named.contains(&name) {
            return Err(Error::Config(format!(
                "two models are called `{name}`; write NAME=FILE for one of them"
            )));
        }
        named.push(name.clone());
        let fresh = LmConfig { name, path: path.into(), kind: Some(kind), ..LmConfig::default() };
        match config.lm.iter_mut().find(|lm| lm.name == fresh.name) {
            // A flag replaces the configuration's model of that name, not its weight.
            Some(lm) => (lm.path, lm.kind) = (fresh.path, fresh.kind),
            None => config.lm.push(fresh),
        }
    }
    Ok(())
}

fn pair(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').filter(|(name, _)| !name.is_empty())
}

fn number(flag: &str, text: &str) -> Result<f64> {
    text.parse().map_err(|_| bad(flag, text, "a number"))
}

fn bad(flag: &str, given: &str, wanted: &str) -> Error {
    Error::Config(format!("{flag} {given}: expected {wanted}"))
}

#[cfg(test)]
mod tests;
