//! Moses and Marian: `ID ||| TEXT ||| NAME= NUM NUM NAME= NUM ||| TOTAL ||| ...`.
//!
//! A name of several numbers gives the features `NAME0`, `NAME1`, ..; the total is `score`. What
//! follows the total, and fields of words before the features (Marian's `WordScores=`), stay.

use std::ops::Range;

use super::chunk::Chunk;
use super::record::Interner;
use super::slots::{Record, Slot, lines, number, trim};
use crate::{Error, Name, Result};

/// The id of a line: what stands before the first bars.
pub(super) fn id(line: &[u8]) -> Option<&[u8]> {
    memchr::memmem::find(line, BARS).map(|at| line[..at].trim_ascii())
}

pub(super) fn read(chunk: &Chunk, names: &mut Interner) -> Result<Record> {
    let bytes = &chunk.bytes;
    let mut record = Record::new(chunk.format);
    for line in lines(bytes) {
        let fields = fields(bytes, line.clone());
        if fields.len() < 3 {
            return Err(Error::record(format!(
                "the line at byte {} has {} fields: Moses writes `id ||| text ||| features ||| total`",
                line.start + 1,
                fields.len()
            )));
        }
        record.utterance.id = bytes[fields[0].clone()].to_vec();
        // The features are the last field of names before a lone number.
        let total = (2..fields.len())
            .find(|&at| !fields[at].is_empty() && number(bytes, &fields[at], "total").is_ok())
            .ok_or_else(|| {
                Error::record(format!("the line at byte {} has no total after its features", line.start + 1))
            })?;
        let mut features = Vec::new();
        if total > 2 {
            named(bytes, fields[total - 1].clone(), names, &mut features)?;
        }
        let score = number(bytes, &fields[total], "total")?;
        features.push((names.name("score"), score));
        let text = bytes[fields[1].clone()].to_vec();
        record.push(text, features, Slot::of(line).scored(fields[total].clone(), score))?;
    }
    Ok(record)
}

fn fields(bytes: &[u8], line: Range<usize>) -> Vec<Range<usize>> {
    let mut fields = Vec::new();
    let mut at = line.start;
    for bars in memchr::memmem::find_iter(&bytes[line.clone()], BARS) {
        fields.push(trim(bytes, at..(line.start + bars).max(at)));
        at = line.start + bars + BARS.len();
    }
    fields.push(trim(bytes, at.min(line.end)..line.end));
    fields
}

/// `NAME= 1 2 OTHER= 3`; old files write `NAME: 1`.
fn named(
    bytes: &[u8],
    span: Range<usize>,
    names: &mut Interner,
    features: &mut Vec<(Name, f64)>,
) -> Result<()> {
    let mut name: &[u8] = b"feature";
    let mut values: Vec<f64> = Vec::new();
    let mut done = |name: &[u8], values: &mut Vec<f64>| {
        let many = values.len() > 1;
        for (at, value) in values.drain(..).enumerate() {
            let base = String::from_utf8_lossy(name);
            let name = if many { names.name(&format!("{base}{at}")) } else { names.name(&base) };
            // A name that comes twice keeps its first value: what is written is not touched.
            if !features.iter().any(|(known, _)| *known == name) {
                features.push((name, value));
            }
        }
    };
    for token in bytes[span.clone()].split(u8::is_ascii_whitespace).filter(|token| !token.is_empty()) {
        if let Some(next) = token.strip_suffix(b"=").or_else(|| token.strip_suffix(b":")) {
            done(name, &mut values);
            name = next;
            continue;
        }
        let value = std::str::from_utf8(token).ok().and_then(|token| token.parse::<f64>().ok());
        let value = value.ok_or_else(|| {
            let name = String::from_utf8_lossy(name).into_owned();
            Error::record(format!("the feature `{name}` after byte {} is no number", span.start + 1))
        })?;
        values.push(if value.is_finite() { value } else { f64::NAN });
    }
    done(name, &mut values);
    Ok(())
}

const BARS: &[u8] = b"|||";
