//! The file beside a model (`model.onnx.toml`) that says what cannot be found out, or was found out wrong.

use std::path::Path;

use serde::Deserialize;

use super::{Kind, sidecar_path};
use crate::{Error, Result};

/// What is said about a model by hand. Every entry is optional and wins over what is found out.
///
/// ```toml
/// tokens = "x"                # the input of token ids
/// time_major = false          # whether its first dimension is time
/// lengths = "x_lens"          # the input with the length of each row
/// mask = "attention_mask"     # 1 for tokens, 0 for what fills up
/// positions = "position_ids"  # 0, 1, ..
/// targets = "y"               # the input of the tokens to be scored
/// context = ["encoder_out"]   # inputs that come with the utterance
/// output = "nll"              # the output with the scores
/// scores = "log-probs"        # or "probabilities", "logits", "negative-log"
/// layout = "each"             # or "last", "first", "sentence", "targets": which positions they are of
/// adds_ends = true            # whether the graph adds <s> and </s> itself
/// bos = 1                     # the token before a sentence
/// eos = 1                     # the token after it
/// unk = 2                     # the token of unknown words
/// pad = 0                     # the token that fills a window up in front
/// vocab_size = 500
/// tokenizer = "sentencepiece" # which vocabulary file lies beside the model
/// cell = "lstm"               # for people to read
/// rewrite = false             # run the graph as it is, never changed
///
/// [[state]]                   # states, in order; replaces all that were found
/// input = "h0"
/// output = "next_h0"
/// batch = 1                   # which dimension is the batch
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // the example above says what each is
pub struct Sidecar {
    pub tokens: Option<String>,
    pub time_major: Option<bool>,
    pub lengths: Option<String>,
    pub mask: Option<String>,
    pub positions: Option<String>,
    pub targets: Option<String>,
    pub context: Option<Vec<String>>,
    pub output: Option<String>,
    pub scores: Option<Kind>,
    pub layout: Option<Positions>,
    pub adds_ends: Option<bool>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
    pub vocab_size: Option<u32>,
    pub tokenizer: Option<String>,
    pub cell: Option<String>,
    pub rewrite: Option<bool>,
    pub state: Vec<StatePair>,
}

/// A state in a [`Sidecar`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatePair {
    /// The input that takes it.
    pub input: String,
    /// The output that gives it.
    pub output: String,
    /// Which dimension is the batch.
    pub batch: Option<usize>,
}

/// Which positions an output has scores of, in a [`Sidecar`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// All.
    Each,
    /// The last.
    Last,
    /// The first.
    First,
    /// One score for the sentence.
    Sentence,
    /// One score for each target.
    Targets,
}

impl Sidecar {
    /// What the file beside `model` says; nothing if there is none.
    ///
    /// # Errors
    /// If it cannot be read or has unknown or ill-typed entries.
    pub fn beside(model: &Path) -> Result<Self> {
        let path = sidecar_path(model);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io(path, error)),
        };
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            Error::Config(format!("{}, line {line}: {}", path.display(), error.message().replace('\n', " ")))
        })
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation_and_a_slip_of_the_pen() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.onnx");
        assert!(Sidecar::beside(&model).unwrap().is_empty());
        let source = include_str!("sidecar.rs");
        let example = source.split("/// ```toml\n").nth(1).unwrap().split("/// ```\n").next().unwrap();
        let text: String =
            example.lines().map(|line| line.trim_start_matches("///").to_owned() + "\n").collect();
        std::fs::write(sidecar_path(&model), text).unwrap();
        let sidecar = Sidecar::beside(&model).unwrap();
        assert_eq!((sidecar.tokens.as_deref(), sidecar.scores), (Some("x"), Some(Kind::LogProbs)));
        assert_eq!((sidecar.layout, sidecar.state[0].batch), (Some(Positions::Each), Some(1)));
        std::fs::write(sidecar_path(&model), "bos = 1\ntime_mayor = true\n").unwrap();
        let message = Sidecar::beside(&model).unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("time_mayor"), "{message}");
    }
}
