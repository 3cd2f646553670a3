//! Reading lists with references, for `eval`, `tune` and `bench`.

use std::path::{Path, PathBuf};

use super::formats::FormatArgs;
use super::messages::Messages;
use crate::eval::{Alignment, Normaliser, Scorer};
use crate::formats::{Body, Chunk, OwnNames, Reader, Record};
use crate::lines::MAX_LINE_BYTES;
use crate::nbest::Utterance;
use crate::tokens::{Case, Digits, TextMap};
use crate::{Error, Result};

/// A record of a file: its line's number and bytes, and what was read from it.
pub struct Listed<'a> {
    pub number: u64,
    pub line: &'a [u8],
    pub record: Record,
}

/// Calls `each` with every record of a file; what cannot be read is said and left out. Gives how many
/// were. `own` are the features that will be computed for them; `None` where nothing is, so that no name
/// in the lists can clash.
///
/// # Errors
/// If the file cannot be read, or `each` fails.
pub fn each(
    path: &Path,
    formats: &FormatArgs,
    own: Option<OwnNames>,
    messages: &Messages,
    each: &mut dyn FnMut(Listed<'_>) -> Result<()>,
) -> Result<u64> {
    let (source, given, references) = formats.source(path, formats.kept(MAX_LINE_BYTES))?;
    let mut source = source;
    let computed = own.is_some();
    let mut reader = Reader::new(own.unwrap_or_default(), given.clone(), references);
    let (mut left_out, mut first) = (0, true);
    for chunk in source.by_ref() {
        let chunk = chunk?;
        if chunk.body == Body::Between {
            continue;
        }
        match read(&mut reader, &chunk) {
            Ok(record) => {
                if let Some(name) = record.clash().filter(|_| computed) {
                    return Err(Error::Config(format!(
                        "{}: the list has a feature `{name}` of its own, and so has this program; rename it, or the model \
                         (NAME=FILE)",
                        chunk.place()
                    )));
                }
                let formula = chunk.format.formula(&given);
                if std::mem::take(&mut first) && !formula.is_empty() {
                    messages.say(&format!("{}: {formula}", chunk.format));
                }
                each(Listed { number: chunk.number, line: &chunk.bytes, record })?;
            }
            Err(error) => {
                left_out += 1;
                messages.repeated("records left out", &format!("{} left out: {error}", chunk.place()));
            }
        }
    }
    for orphan in source.orphans() {
        messages.say(&format!("warning: {orphan}"));
    }
    Ok(left_out)
}

fn read(reader: &mut Reader, chunk: &Chunk) -> Result<Record> {
    match &chunk.body {
        Body::Over(got) => Err(Error::Limit { what: "line".into(), limit: MAX_LINE_BYTES as u64, got: *got }),
        Body::Passed(reason) => Err(Error::Record { what: reason.clone() }),
        Body::Record | Body::Between => reader.read(chunk),
    }
}

/// How texts are made comparable and compared.
#[derive(clap::Args, Debug, Clone)]
pub struct Scoring {
    /// Count characters instead of words
    #[arg(long, overrides_with = "no_cer", help_heading = "Scoring")]
    pub cer: bool,
    #[arg(long, hide = true)]
    no_cer: bool,
    /// With --cer, count the spaces between words too
    #[arg(long, requires = "cer", help_heading = "Scoring")]
    pub cer_spaces: bool,
    /// Fewest errors, or NIST sclite's costs of 4, 3 and 3
    #[arg(long, value_name = "HOW", default_value = "levenshtein", help_heading = "Scoring")]
    pub alignment: Align,
    /// Compare in this case: keep, lower, upper
    #[arg(long, value_name = "CASE", default_value = "keep", help_heading = "Scoring")]
    pub score_case: String,
    /// Compare without punctuation at the ends of words
    #[arg(long, help_heading = "Scoring")]
    pub score_strip_punctuation: bool,
    /// Compare hyphenated words as their parts
    #[arg(long, help_heading = "Scoring")]
    pub score_split_hyphens: bool,
    /// Compare numbers as they are written or in words: keep, spell
    #[arg(long, value_name = "HOW", default_value = "keep", help_heading = "Scoring")]
    pub score_digits: String,
    /// Compare accents as they are encoded, not in Unicode's form NFC
    #[arg(long, help_heading = "Scoring")]
    pub score_no_nfc: bool,
    /// Words and what they stand for, one a line: `gonna going to`
    #[arg(long, value_name = "FILE", help_heading = "Scoring")]
    pub score_map: Option<PathBuf>,
    /// Leave this word out on both sides (repeatable)
    #[arg(long, value_name = "WORD", help_heading = "Scoring")]
    pub score_drop: Vec<String>,
    /// Without sessions, the id up to its first TEXT is the speaker
    #[arg(long, value_name = "TEXT", help_heading = "Input")]
    pub speaker_until: Option<String>,
}

/// `--alignment`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// The fewest errors (compute-wer, jiwer)
    Levenshtein,
    /// A substitution costs 4, others 3 (NIST)
    Sclite,
}

impl Scoring {
    /// A scorer of words or characters over normalised text.
    ///
    /// # Errors
    /// If the case or the digits are none of the known ones, or the replacements cannot be read.
    pub fn scorer(&self) -> Result<Scorer> {
        Ok(self.normaliser()?.scorer(match (self.cer, self.cer_spaces) {
            (false, _) => Scorer::words().alignment(self.align()),
            (true, false) => Scorer::characters().alignment(self.align()),
            (true, true) => Scorer::characters_and_spaces().alignment(self.align()),
        }))
    }

    /// A scorer of words, whatever is counted.
    ///
    /// # Errors
    /// As [`Scoring::scorer`].
    pub fn words(&self) -> Result<Scorer> {
        Ok(self.normaliser()?.scorer(Scorer::words().alignment(self.align())))
    }

    /// What is counted, for people.
    pub fn unit(&self) -> &'static str {
        if self.cer { "CER" } else { "WER" }
    }

    /// Who speaks: the session, else what `--speaker-until` makes of the id.
    pub fn speaker<'a>(&self, utterance: &'a Utterance) -> Option<&'a [u8]> {
        let prefix = || {
            let until = self.speaker_until.as_deref().filter(|until| !until.is_empty())?.as_bytes();
            let end = utterance.id.windows(until.len()).position(|part| part == until)?;
            Some(&utterance.id[..end])
        };
        utterance.session.as_deref().or_else(prefix)
    }

    fn align(&self) -> Alignment {
        match self.alignment {
            Align::Levenshtein => Alignment::Levenshtein,
            Align::Sclite => Alignment::Sclite,
        }
    }

    fn normaliser(&self) -> Result<Normaliser> {
        let case: Case = crate::config::word("--score-case", &self.score_case)?;
        let digits: Digits = crate::config::word("--score-digits", &self.score_digits)?;
        let mut normaliser = Normaliser {
            compose: !self.score_no_nfc,
            map: TextMap {
                case,
                strip_punctuation: self.score_strip_punctuation,
                split_hyphens: self.score_split_hyphens,
                digits,
                ..TextMap::default()
            },
            dropped: self.score_drop.iter().map(|word| word.as_bytes().to_vec()).collect(),
            ..Normaliser::default()
        };
        if let Some(path) = &self.score_map {
            let table = std::fs::read(path).map_err(|error| Error::io(path, error))?;
            normaliser
                .replace(&table)
                .map_err(|error| Error::Config(format!("{}: {error}", path.display())))?;
        }
        Ok(normaliser)
    }
}
