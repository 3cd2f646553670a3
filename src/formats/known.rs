//! The formats, and what each says with its numbers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::slots::Unit;
use crate::{Error, Result};

/// A format of n-best lists.
///
/// | name | a record | numbers | `score`, the first pass | what names it |
/// |---|---|---|---|---|
/// | `jsonl` | a line | natural logs | as named | [`jsonl`](super::jsonl) |
/// | `json` | an element of an array, otherwise as `jsonl` | | | |
/// | `kaldi` | lines `UTT-N WORDS`; in a folder with `lm_cost` and `ac_cost` | costs: -ln p | -lm cost - 0.1 acoustic cost (`--acoustic-scale`) | `UTT`, before the last `-` |
/// | `srilm` | lines `AC LM NWORDS WORDS`, a file or up to a blank line | log10 | ac + 8 lm (`--list-lm-scale`) + 0 words (`--list-word-score`) | the file's name |
/// | `nbest1` | header `NBestList1.0`, lines `(SCORE) WORDS` | bytelogs | SCORE | the file's name |
/// | `nbest2` | header `NBestList2.0`, words with times and scores | bytelogs; `lm` = the sum of g, `am` = SCORE - `lm` | SCORE | the file's name |
/// | `moses` | lines `ID \|\|\| TEXT \|\|\| NAME= NUM .. \|\|\| TOTAL`, Marian's too | natural logs | TOTAL | `ID` |
/// | `nemo` | lines `TEXT<tab>SCORE` or `ID<tab>TEXT<tab>SCORE` | natural logs | SCORE | the manifest |
/// | `wenet` | `wav ID`, lines `candidate SCORE TEXT` | natural logs | SCORE | `ID` |
/// | `cued` | lines `ID AC LM NWORDS <s> TEXT </s>` | natural logs | AC + LM (`--list-lm-scale`) | `ID` |
/// | `pocketsphinx` | lines `TEXT SCORE`, a file or up to a blank line | logs of base 1.0001, shifted right by ten bits | SCORE | the file's name |
/// | `espnet` | a folder: `{n}best_recog/text`, `score`, `token`, `token_int` | natural logs | score | the key |
/// | `espnet1` | a member of `utts` in `data.json` | natural logs | `score` | the key |
/// | `mlm` | a member of mlm-scoring's JSON, `hyp_N` | natural logs | `score` | the key |
/// | `hypo2trans` | an element `{"input":[..],"output":..}` | none | rank | |
/// | `trn`, `ref`, `ctm` | output only: the best hypothesis | | | |
///
/// A record without a name is named by its number. In the list that is written, the same formula
/// gives our total: where a record has a score, it is replaced; where it has parts, the language
/// model's part takes up the difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs)] // the table above
pub enum Format {
    #[default]
    Jsonl,
    Json,
    Kaldi,
    Srilm,
    Nbest1,
    Nbest2,
    Moses,
    Nemo,
    Wenet,
    Cued,
    Pocketsphinx,
    Espnet,
    Espnet1,
    Mlm,
    Hypo2trans,
    Trn,
    Ref,
    Ctm,
}

/// What a list does not say of itself.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Weight of the acoustic score in the first pass.
    pub acoustic_scale: Option<f64>,
    /// Weight of the language model's.
    pub lm_scale: Option<f64>,
    /// Added for each word, in the format's own unit.
    pub word_score: Option<f64>,
    /// Hypotheses of each utterance, where nothing else tells them apart (NeMo).
    pub beam_size: Option<usize>,
    /// Words by their numbers (Kaldi).
    pub symbols: Option<Vec<Vec<u8>>>,
    /// The folder of tensors that are in files (JSON).
    pub tensors: Option<PathBuf>,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Jsonl,
        Self::Json,
        Self::Kaldi,
        Self::Srilm,
        Self::Nbest1,
        Self::Nbest2,
        Self::Moses,
        Self::Nemo,
        Self::Wenet,
        Self::Cued,
        Self::Pocketsphinx,
        Self::Espnet,
        Self::Espnet1,
        Self::Mlm,
        Self::Hypo2trans,
        Self::Trn,
        Self::Ref,
        Self::Ctm,
    ];

    /// What the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Kaldi => "kaldi",
            Self::Srilm => "srilm",
            Self::Nbest1 => "nbest1",
            Self::Nbest2 => "nbest2",
            Self::Moses => "moses",
            Self::Nemo => "nemo",
            Self::Wenet => "wenet",
            Self::Cued => "cued",
            Self::Pocketsphinx => "pocketsphinx",
            Self::Espnet => "espnet",
            Self::Espnet1 => "espnet1",
            Self::Mlm => "mlm",
            Self::Hypo2trans => "hypo2trans",
            Self::Trn => "trn",
            Self::Ref => "ref",
            Self::Ctm => "ctm",
        }
    }

    /// Whether it can be read.
    pub fn is_input(self) -> bool {
        !matches!(self, Self::Trn | Self::Ref | Self::Ctm)
    }

    /// Whether a file of it is one JSON document.
    pub fn is_document(self) -> bool {
        matches!(self, Self::Json | Self::Espnet1 | Self::Mlm | Self::Hypo2trans)
    }

    /// Whether each line is a record.
    pub fn is_line(self) -> bool {
        matches!(self, Self::Jsonl | Self::Trn | Self::Ref)
    }

    /// Whether records are told apart by blank lines or the ends of files.
    pub(super) fn is_block(self) -> bool {
        matches!(self, Self::Srilm | Self::Nbest1 | Self::Nbest2 | Self::Pocketsphinx)
    }

    /// Whether its records are JSON objects as JSON Lines has them.
    pub(super) fn is_native(self) -> bool {
        matches!(self, Self::Jsonl | Self::Json)
    }

    /// The unit of its numbers.
    pub(super) fn unit(self) -> Unit {
        match self {
            Self::Kaldi => Unit::Cost,
            Self::Srilm => Unit::Log10,
            Self::Nbest1 | Self::Nbest2 => Unit::Bytelog,
            Self::Pocketsphinx => Unit::Sphinx,
            _ => Unit::Natural,
        }
    }

    /// How the first pass's score is made of what a list has; empty for JSON Lines.
    pub fn formula(self, given: &Given) -> String {
        let weights = given.weights(self);
        match self {
            Self::Kaldi => {
                format!("score = {} am + {} lm; am, lm are minus the costs", weights.am, weights.lm)
            }
            Self::Srilm => format!(
                "score = ln(10) ({} ac + {} lm + {} words), from log10",
                weights.am, weights.lm, weights.words
            ),
            Self::Nbest1 | Self::Nbest2 => "score = 0.1024 x the list's, which are bytelogs".into(),
            Self::Pocketsphinx => {
                "score = 0.1024 x the list's, which are logs of base 1.0001 shifted by ten bits".into()
            }
            Self::Cued => format!("score = {} am + {} lm", weights.am, weights.lm),
            Self::Moses => "score = the last number, natural log".into(),
            Self::Nemo | Self::Wenet | Self::Espnet | Self::Espnet1 | Self::Mlm => {
                "score = the list's, natural log".into()
            }
            Self::Hypo2trans => "no scores: -ln rank".into(),
            Self::Jsonl | Self::Json | Self::Trn | Self::Ref | Self::Ctm => String::new(),
        }
    }
}

/// Weights of the parts of a first-pass score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub am: f64,
    pub lm: f64,
    pub words: f64,
}

impl Given {
    pub(super) fn weights(&self, format: Format) -> Parts {
        let (am, lm) = match format {
            Format::Kaldi => (0.1, 1.0),
            Format::Srilm => (1.0, 8.0),
            _ => (1.0, 1.0),
        };
        Parts {
            am: self.acoustic_scale.unwrap_or(am),
            lm: self.lm_scale.unwrap_or(lm),
            words: self.word_score.unwrap_or(0.0),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|format| format.name()).collect();
            Error::Config(format!("no format `{name}`; known: {}", known.join(", ")))
        })
    }
}
