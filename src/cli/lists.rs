//! Reading lists with references, for `eval`, `tune` and `bench`.

use std::path::Path;

use super::files;
use super::messages::Messages;
use crate::formats::OwnNames;
use crate::formats::jsonl::{Reader, Record};
use crate::lines::{Decoded, Lines, MAX_LINE_BYTES};
use crate::tokens::{Case, Mapped, Markers, TextMap};
use crate::{Error, Result};

/// Calls `each` with every utterance of a file; what cannot be read is said and left out.
///
/// # Errors
/// If the file cannot be read, or `each` fails.
pub fn each(
    path: &Path,
    own: OwnNames,
    messages: &Messages,
    each: &mut dyn FnMut(u64, Record) -> Result<()>,
) -> Result<u64> {
    let io = |source| Error::Io { what: path.display().to_string(), source };
    let mut reader = Reader::new(own);
    let mut left_out = 0;
    for line in Lines::new(Decoded::open(files::input(path)?).map_err(io)?, MAX_LINE_BYTES) {
        let line = line.map_err(io)?;
        if line.is_blank() {
            continue;
        }
        let over =
            line.over.map(|got| Error::Limit { what: "line".into(), limit: MAX_LINE_BYTES as u64, got });
        match over.map_or_else(|| reader.read(&line.bytes), Err) {
            Ok(record) => {
                if let Some(name) = &record.clash {
                    return Err(Error::Config(format!(
                        "line {}: the list has a feature `{name}` of its own; give the model another name with NAME=FILE",
                        line.number
                    )));
                }
                each(line.number, record)?;
            }
            Err(error) => {
                left_out += 1;
                messages.repeated("records left out", &format!("line {} left out: {error}", line.number));
            }
        }
    }
    Ok(left_out)
}

/// How texts are made comparable before they are scored.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct Scoring {
    /// Count characters instead of words
    #[arg(long, overrides_with = "no_cer", help_heading = "Scoring")]
    pub cer: bool,
    #[arg(long, hide = true)]
    no_cer: bool,
    /// Compare in this case: keep, lower, upper
    #[arg(long, value_name = "CASE", default_value = "keep", help_heading = "Scoring")]
    pub score_case: String,
    /// Compare without punctuation at the ends of words
    #[arg(long, help_heading = "Scoring")]
    pub score_strip_punctuation: bool,
}

impl Scoring {
    /// A scorer of words or characters over normalised text.
    ///
    /// # Errors
    /// If the case is none of the known ones.
    pub fn scorer(&self) -> Result<crate::eval::Scorer> {
        let case: Case = if self.score_case.is_empty() {
            Case::Keep
        } else {
            crate::config::word("--score-case", &self.score_case)?
        };
        let map = TextMap { case, strip_punctuation: self.score_strip_punctuation, ..TextMap::default() };
        let markers = Markers::default();
        let scorer = if self.cer { crate::eval::Scorer::characters() } else { crate::eval::Scorer::words() };
        Ok(scorer.split_by(move |text, each| {
            let mut mapped = Mapped::default();
            for word in markers.words(text) {
                map.map(word, &mut mapped);
                mapped.iter().for_each(&mut *each);
            }
        }))
    }
}
