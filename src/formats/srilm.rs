//! SRILM's plain lists and Decipher's NBestList1.0 and 2.0 (nbest-format(5)).

use std::ops::Range;

use super::chunk::Chunk;
use super::known::Parts;
use super::record::Interner;
use super::slots::{Record, Slot, Unit, field, lines, number, trim};
use super::times::Timed;
use crate::{Error, Result};

/// `AC LM NWORDS WORDS`, log10. NWORDS is a number of theirs (it knows which of the words are
/// pauses) and stays as it is.
pub(super) fn plain(chunk: &Chunk, parts: Parts, names: &mut Interner) -> Result<Record> {
    let bytes = &chunk.bytes;
    let mut record = Record::new(chunk.format);
    for line in lines(bytes) {
        let short = || {
            Error::record(format!(
                "the line at byte {} is short: SRILM writes `acoustic lm words text`",
                line.start + 1
            ))
        };
        let inside = &bytes[..line.end];
        let am = field(inside, line.start).ok_or_else(short)?;
        let lm = field(inside, am.end).ok_or_else(short)?;
        let words = field(inside, lm.end).ok_or_else(short)?;
        let acoustic = Unit::Log10.natural(number(bytes, &am, "acoustic score")?);
        let model = Unit::Log10.natural(number(bytes, &lm, "language model score")?);
        let count = Unit::Log10.natural(number(bytes, &words, "number of words")?);
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

/// `(SCORE) WORDS` after the header, bytelogs.
pub(super) fn decipher(chunk: &Chunk, names: &mut Interner) -> Result<Record> {
    let bytes = &chunk.bytes;
    let mut record = Record::new(chunk.format);
    for line in lines(bytes).skip(1) {
        let whole = trim(bytes, line.clone());
        let close = memchr::memchr(b')', &bytes[whole.clone()]).map(|at| whole.start + at);
        let (Some(b'('), Some(close)) = (bytes.get(whole.start), close) else {
            return Err(Error::record(format!("the line at byte {} has no `(score)`", line.start + 1)));
        };
        let score = trim(bytes, whole.start + 1..close);
        let value = Unit::Bytelog.natural(number(bytes, &score, "score")?);
        let rest = close + 1..whole.end;
        let mut features = vec![(names.name("score"), value)];
        let text = if chunk.format == super::Format::Nbest2 {
            let words = words(bytes, rest)?;
            // Total minus grammar is preferred to the sum of a: it has the pauses too.
            let lm = words.iter().map(|word| word.lm).sum::<f64>();
            features.insert(0, (names.name("lm"), lm));
            features.insert(0, (names.name("am"), value - lm));
            words.iter().map(|word| &bytes[word.text.clone()]).collect::<Vec<_>>().join(&b' ')
        } else {
            bytes[trim(bytes, rest)].to_vec()
        };
        record.push(text, features, Slot::of(line).scored(score, value))?;
    }
    Ok(record)
}

/// A word of an NBestList2.0.
struct Word {
    text: Range<usize>,
    start: f64,
    end: f64,
    lm: f64,
}

/// `WORD ( st: S et: E g: G a: A )`; phones and states, which lie inside of the word before them,
/// are left out, and so are tokens that end in `-` and digits.
fn words(bytes: &[u8], span: Range<usize>) -> Result<Vec<Word>> {
    let mut all = Vec::new();
    let mut ends = f64::NEG_INFINITY;
    let mut at = span.start;
    let inside = &bytes[..span.end];
    while let Some(text) = field(inside, at) {
        let open = field(inside, text.end);
        let Some(open) = open.filter(|open| &bytes[open.clone()] == b"(") else {
            return Err(Error::record(format!("the word at byte {} has no `( st: .. )`", text.start + 1)));
        };
        let mut word = Word { text: text.clone(), start: f64::NAN, end: f64::NAN, lm: 0.0 };
        at = open.end;
        loop {
            let Some(key) = field(inside, at) else {
                return Err(Error::record(format!("the word at byte {} has no `)`", text.start + 1)));
            };
            at = key.end;
            if &bytes[key.clone()] == b")" {
                break;
            }
            let Some(value) = field(inside, at) else { continue };
            match &bytes[key] {
                b"st:" => word.start = number(bytes, &value, "start")?,
                b"et:" => word.end = number(bytes, &value, "end")?,
                b"g:" => word.lm = Unit::Bytelog.natural(number(bytes, &value, "g")?),
                b"a:" => {}
                _ => continue,
            }
            at = value.end;
        }
        let name = &bytes[text];
        let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let state = digits > 0 && name.len() > digits && name[name.len() - digits - 1] == b'-';
        if word.start <= ends || state {
            continue;
        }
        ends = if word.end.is_nan() { ends } else { word.end };
        all.push(word);
    }
    Ok(all)
}

/// The words with their times. An end is the start of the last frame, of 10 ms.
pub(super) fn times(line: &[u8]) -> Option<Vec<Timed>> {
    let rest = memchr::memchr(b')', line)? + 1;
    let words = words(line, rest..line.len()).ok()?;
    let timed = words.into_iter().map(|word| Timed {
        word: line[word.text].to_vec(),
        start: word.start,
        end: word.end + 0.01,
    });
    Some(timed.collect())
}
