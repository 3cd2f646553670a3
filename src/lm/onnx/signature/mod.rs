//! What a model's inputs and outputs mean.
//!
//! A [`Signature`] is data: which tensor is what. It is drafted from names and structure
//! ([`Signature::detect`]), corrected by what a file beside the model says ([`Sidecar`]), and settled by
//! trying the model on a few tokens. The code that runs models reads nothing else.

mod foreign;
mod numbers;
mod own;
mod sidecar;
mod states;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use numbers::Specials;
pub(super) use sidecar::Positions;
pub use sidecar::Sidecar;

use super::graph::{Dtype, Graph};
use crate::{Error, Result};

/// Which tensor of a model is what, and the numbers that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose export it looks like, for people to read.
    pub family: String,
    /// Input: token ids.
    pub tokens: Tokens,
    /// Input: how many tokens of each row count, `[N]`.
    pub lengths: Option<Ids>,
    /// Inputs whose values follow from the tokens' number.
    pub fills: Vec<Fill>,
    /// Input: the token whose score is wanted at each position, shaped as the tokens.
    pub targets: Option<Ids>,
    /// Output: scores.
    pub output: String,
    /// What the scores are.
    pub kind: Kind,
    /// Which positions they are of.
    pub layout: Layout,
    /// State, in the order of the inputs.
    pub states: Vec<State>,
    /// Inputs that come with the utterance.
    pub context: Vec<Context>,
    /// Whether the graph puts `<s>` and `</s>` around the tokens itself.
    pub adds_ends: bool,
    /// Number of tokens.
    pub vocab_size: usize,
    /// The token before a sentence.
    pub bos: u32,
    /// The token after a sentence.
    pub eos: u32,
    /// The token of what the model does not know.
    pub unk: Option<u32>,
    /// The token that fills what is left of a row; `None` where any will do.
    pub pad: Option<u32>,
    /// Which vocabulary file lies beside the model: `words`, `chars`, `sentencepiece`, ...
    pub tokenizer: String,
    /// The kind of network, for people to read.
    pub cell: Option<String>,
    /// How it will be run.
    pub run: Run,
    /// What was found out, and from what.
    pub findings: Vec<Finding>,
}

/// An input of integers, in whatever type the model wants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
}

/// The input of token ids, [N, L] or, time-major, [L, N].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Name and type.
    pub ids: Ids,
    /// Whether time is the first dimension.
    pub time_major: bool,
    /// The number of positions, where only one is possible.
    pub length: Option<usize>,
    /// The number of rows, where only one is possible.
    pub batch: Option<usize>,
}

/// An input that comes with the utterance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Name and type.
    pub ids: Ids,
    /// Whether it is repeated for each row; else it is given once, for all.
    pub each_row: bool,
}

/// An input that is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// Name and type.
    pub ids: Ids,
    /// With what.
    pub with: With,
}

/// What an input is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// 1 where there is a token, 0 where a row is filled up, [N, past + L].
    Mask,
    /// The place of each token, from 0, [N, L].
    Positions,
    /// Zeros, [N, L].
    Zeros,
    /// One zero.
    Zero,
}

/// What a model's scores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Natural log probabilities.
    LogProbs,
    /// Probabilities.
    Probabilities,
    /// Anything that a softmax turns into probabilities.
    Logits,
    /// Minus natural log probabilities, of targets or whole sentences.
    NegativeLog,
}

/// Which positions an output has scores of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All: [N, L, V]; with time first [L, N, V]; flat, the two in one.
    Each {
        /// Whether time is the first dimension.
        time_major: bool,
        /// Whether rows and positions are one dimension.
        flat: bool,
    },
    /// The last, [N, V].
    Last,
    /// The first, [N, V].
    First,
    /// One score for a row, `[N]`.
    Sentence,
    /// One score for each target: [N, L]; with time first [L, N]; flat, the two in one. Of a model that
    /// adds the ends of sentences itself one more than it is fed.
    Targets {
        /// Whether time is the first dimension.
        time_major: bool,
        /// Whether rows and positions are one dimension.
        flat: bool,
    },
}

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// A step for each distinct history, from its state.
    Steps,
    /// A step for each distinct window of so many tokens.
    Window(usize),
    /// A step for each distinct history, which is fed whole or from a state that grows with it.
    Prefixes,
    /// Whole sentences.
    Sentences,
}

/// One state tensor, float32, zeros at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The input that takes it.
    pub input: String,
    /// The output that gives it after the last token.
    pub output: String,
    /// Its dimensions; that of the batch holds 1, and so does one that grows.
    pub dims: Vec<usize>,
    /// Which dimension is the batch.
    pub batch: usize,
    /// Which dimension grows by 1 with each token, from 0.
    pub grows: Option<usize>,
}

/// One thing found out about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub what: &'static str,
    /// What was found.
    pub value: String,
    /// From what.
    pub why: String,
}

/// A signature before the model was tried, and what the trial may change.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What is assumed. `bos`, `eos` and `unk` are not filled in yet, `vocab_size` is 0 if unknown.
    pub signature: Signature,
    /// Whether it is our own contract, from which nothing may differ.
    pub own: bool,
    /// What is known of the special tokens.
    pub specials: Specials,
    /// What the file beside the model says.
    pub sidecar: Sidecar,
}

impl Signature {
    /// Drafts the signature of a model from metadata, names and structure.
    ///
    /// # Errors
    /// If it is no model of token ids, or one that cannot give scores: what was found and what to do.
    pub fn detect(graph: &Graph) -> Result<Draft> {
        let sidecar = Sidecar::beside(&graph.path)?;
        Self::detect_with(graph, sidecar).map_err(|what| Error::model(&graph.path, what))
    }

    pub(super) fn detect_with(graph: &Graph, sidecar: Sidecar) -> Result<Draft, String> {
        let own = sidecar.is_empty() && own::is(graph);
        let signature = if own { own::detect(graph)? } else { foreign::detect(graph, &sidecar)? };
        let specials = Specials::read(graph, &signature, &sidecar)?;
        Ok(Draft { signature, own, specials, sidecar })
    }

    /// Bytes of all states of one history, without those that grow.
    pub fn state_bytes(&self) -> usize {
        self.states.iter().map(|state| state.size() * size_of::<f32>()).sum()
    }

    /// Whether the model has states that grow with the history.
    pub fn grows(&self) -> bool {
        self.states.iter().any(|state| state.grows.is_some())
    }

    /// Positions that the output has for rows of `length` tokens.
    pub fn positions(&self, length: usize) -> usize {
        length + usize::from(self.adds_ends && matches!(self.layout, Layout::Targets { .. }))
    }

    /// Whether growing states take the place of the history, so that a step is fed its last token alone.
    pub fn continues(&self) -> bool {
        let last = self.tokens.length == Some(1);
        self.run == Run::Prefixes && (last || self.grows() && matches!(self.layout, Layout::Each { .. }))
    }

    pub(super) fn found(&mut self, what: &'static str, value: impl Into<String>, why: impl Into<String>) {
        self.findings.push(Finding { what, value: value.into(), why: why.into() });
    }
}

impl State {
    /// Numbers in the state of one history; of one token of it, if it grows.
    pub fn size(&self) -> usize {
        self.dims.iter().product()
    }

    /// The shape for a batch of `rows` whose histories have `past` tokens.
    pub fn shape(&self, rows: usize, past: usize) -> Vec<i64> {
        let mut shape: Vec<i64> = self.dims.iter().map(|&size| size as i64).collect();
        if let Some(at) = self.grows {
            shape[at] = past as i64;
        }
        shape[self.batch] = rows as i64;
        shape
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LogProbs => "log probabilities",
            Self::Probabilities => "probabilities",
            Self::Logits => "logits",
            Self::NegativeLog => "negative log probabilities",
        })
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Each { time_major: false, flat: false } => "each position, [N, L, V]",
            Self::Each { time_major: true, flat: false } => "each position, [L, N, V]",
            Self::Each { time_major: false, flat: true } => "each position, [N x L, V]",
            Self::Each { time_major: true, flat: true } => "each position, [L x N, V]",
            Self::Last => "the last position, [N, V]",
            Self::First => "the first position, [N, V]",
            Self::Sentence => "whole rows, [N]",
            Self::Targets { time_major: false, flat: false } => "each target, [N, L]",
            Self::Targets { time_major: true, flat: false } => "each target, [L, N]",
            Self::Targets { time_major: false, flat: true } => "each target, [N x L]",
            Self::Targets { time_major: true, flat: true } => "each target, [L x N]",
        })
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Steps => f.write_str(
                "one step for each distinct history, histories of all utterances in flight batched",
            ),
            Self::Window(length) => {
                write!(f, "one step for each distinct window of {length} tokens, of all utterances in flight")
            }
            Self::Prefixes => f.write_str(
                "one step for each distinct history, fed with all it holds or with its last token and the states of \
                 the others, histories of equal length batched",
            ),
            Self::Sentences => f.write_str("whole sentences, those of similar length batched"),
        }
    }
}

/// The name of the file beside a model that corrects what is found out about it.
pub fn sidecar_path(model: &Path) -> std::path::PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(".toml");
    name.into()
}

pub(super) const MAX_VOCAB: usize = 1 << 24;
const MAX_STATE: usize = 1 << 24;
