//! Formats of one line a hypothesis: NeMo's beams, WeNet, CUED-RNNLM, pocketsphinx.

use std::ops::Range;

use super::chunk::Chunk;
use super::known::{Format, Parts};
use super::record::Interner;
use super::slots::{Record, Slot, Unit, field, lines, number, trim};
use crate::{Error, Result};

/// `TEXT<tab>SCORE`, or `ID<tab>TEXT<tab>SCORE`. Quotes are letters, not quotes.
pub(super) fn nemo(chunk: &Chunk, names: &mut Interner) -> Result<Record> {
    let bytes = &chunk.bytes;
    let mut record = Record::new(chunk.format);
    for line in lines(bytes) {
        let tabs: Vec<usize> =
            memchr::memchr_iter(b'\t', &bytes[line.clone()]).map(|at| line.start + at).collect();
        let (text, score) = match tabs[..] {
            [.., tab] if tabs.len() < 3 => {
                let id = (tabs.len() == 2).then(|| line.start..tabs[0]);
                if let Some(id) = &id {
                    record.utterance.id = bytes[id.clone()].to_vec();
                }
                (id.map_or(line.start, |id| id.end + 1)..tab, tab + 1..line.end)
            }
            _ => {
                return Err(Error::record(format!(
                    "the line at byte {} has {} tabs: NeMo writes `text<tab>score`",
                    line.start + 1,
                    tabs.len()
                )));
            }
        };
        let score = trim(bytes, score);
        let value = number(bytes, &score, "score")?;
        let features = vec![(names.name("score"), value)];
        record.push(bytes[text].to_vec(), features, Slot::of(line).scored(score, value))?;
    }
    Ok(record)
}

/// The id of a NeMo line of three columns.
pub(super) fn nemo_id(line: &[u8]) -> Option<&[u8]> {
    let mut tabs = memchr::memchr_iter(b'\t', line);
    let first = tabs.next()?;
    tabs.next().map(|_| &line[..first])
}

/// `wav ID`, then `candidate SCORE TEXT`. Blanks inside of the text stay.
pub(super) fn wenet(chunk: &Chunk, names: &mut Interner) -> Result<Record> {
    let bytes = &chunk.bytes;
    let mut record = Record::new(chunk.format);
    for line in lines(bytes) {
        let Some(word) = field(&bytes[..line.end], line.start) else { continue };
        match &bytes[word.clone()] {
            b"wav" if record.slots.is_empty() && record.utterance.id.is_empty() => {
                record.utterance.id = bytes[trim(bytes, word.end..line.end)].to_vec();
            }
            b"candidate" => {
                let score = field(&bytes[..line.end], word.end).ok_or_else(|| lost(&line))?;
                let value = number(bytes, &score, "score")?;
                let text = bytes[(score.end + 1).min(line.end)..line.end].to_vec();
                let features = vec![(names.name("score"), value)];
                record.push(text, features, Slot::of(line).scored(score, value))?;
            }
            _ => return Err(lost(&line)),
        }
    }
    Ok(record)
}

fn lost(line: &Range<usize>) -> Error {
    Error::record(format!(
        "the line at byte {} is neither `wav ID` nor `candidate SCORE TEXT`",
        line.start + 1
    ))
}

/// `ID AC LM NWORDS <s> TEXT </s>`; the number of words is theirs and stays as it is.
pub(super) fn cued(chunk: &Chunk, parts: Parts, names: &mut Interner) -> Result<Record> {
    let bytes = &chunk.bytes;
    let mut record = Record::new(chunk.format);
    for line in lines(bytes) {
        let mut at = line.start;
        let mut next = || {
            let span = field(&bytes[..line.end], at).ok_or_else(|| {
                let start = line.start + 1;
                Error::record(format!("the line at byte {start} is short: `id ac lm words <s> .. </s>`"))
            })?;
            at = span.end;
            Ok::<_, Error>(span)
        };
        let (id, am, lm, words) = (next()?, next()?, next()?, next()?);
        let (acoustic, model) = (number(bytes, &am, "score")?, number(bytes, &lm, "score")?);
        let count = number(bytes, &words, "number of words")?;
        record.utterance.id = bytes[id].to_vec();
        let score = parts.am * acoustic + parts.lm * model + parts.words * count;
        let features =
            vec![(names.name("am"), acoustic), (names.name("lm"), model), (names.name("score"), score)];
        let mut slot = Slot::of(line.clone());
        slot.total = score;
        slot.score = (parts.lm != 0.0).then_some((lm, model, parts.lm));
        record.push(bytes[trim(bytes, words.end..line.end)].to_vec(), features, slot)?;
    }
    Ok(record)
}

/// `TEXT SCORE`, the score last. An empty hypothesis is written `(null)`.
pub(super) fn pocketsphinx(chunk: &Chunk, names: &mut Interner) -> Result<Record> {
    let bytes = &chunk.bytes;
    let mut record = Record::new(Format::Pocketsphinx);
    for line in lines(bytes) {
        let whole = trim(bytes, line.clone());
        let start = bytes[whole.clone()].iter().rposition(u8::is_ascii_whitespace);
        let score = start.map_or(whole.start, |at| whole.start + at + 1)..whole.end;
        let value = Unit::Sphinx.natural(number(bytes, &score, "score")?);
        let text = &bytes[trim(bytes, whole.start..score.start)];
        let text = if text == b"(null)" { Vec::new() } else { text.to_vec() };
        let features = vec![(names.name("score"), value)];
        record.push(text, features, Slot::of(line).scored(score, value))?;
    }
    Ok(record)
}
