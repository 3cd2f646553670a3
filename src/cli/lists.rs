//! Reading lists with references, for `eval`, `tune` and `bench`.

use std::path::Path;

use super::formats::FormatArgs;
use super::messages::Messages;
use crate::formats::{Body, Chunk, OwnNames, Reader, Record};
use crate::lines::MAX_LINE_BYTES;
use crate::tokens::{Case, Mapped, Markers, TextMap};
use crate::{Error, Result};

/// Calls `each` with every utterance of a file; what cannot be read is said and left out.
///
/// # Errors
/// If the file cannot be read, or `each` fails.
pub fn each(
    path: &Path,
    formats: &FormatArgs,
    own: OwnNames,
    messages: &Messages,
    each: &mut dyn FnMut(u64, Record) -> Result<()>,
) -> Result<u64> {
    let (source, given, references) = formats.source(path, formats.kept(MAX_LINE_BYTES))?;
    let mut source = source;
    let mut reader = Reader::new(own, given.clone(), references);
    let (mut left_out, mut first) = (0, true);
    for chunk in source.by_ref() {
        let chunk = chunk?;
        if chunk.body == Body::Between {
            continue;
        }
        match read(&mut reader, &chunk) {
            Ok(record) => {
                if let Some(name) = record.clash() {
                    return Err(Error::Config(format!(
                        "{}: the list has a feature `{name}` of its own; give the model another name with NAME=FILE",
                        chunk.place()
                    )));
                }
                let formula = chunk.format.formula(&given);
                if std::mem::take(&mut first) && !formula.is_empty() {
                    messages.say(&format!("{}: {formula}", chunk.format));
                }
                each(chunk.number, record)?;
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
