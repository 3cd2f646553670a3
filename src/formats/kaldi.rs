//! Kaldi's text archives: `UTT-N WORDS`, and in a folder beside them the costs of the same keys.

use std::ops::Range;

use super::chunk::Chunk;
use super::known::Given;
use super::record::Interner;
use super::slots::{Piece, Record, Slot, Unit, field, lines, number, trim};
use crate::{Error, Result};

/// Kinds of files of a folder.
pub(super) const WORDS: usize = 0;
pub(super) const LM: usize = 1;
pub(super) const AM: usize = 2;

/// Utterance and number of a key, split at the last `-`: utterances may end in `-12` themselves.
pub(super) fn split(key: &[u8]) -> Option<(&[u8], u32)> {
    let dash = memchr::memrchr(b'-', key)?;
    let digits = &key[dash + 1..];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok().filter(|&number| number > 0)?;
    Some((&key[..dash], number))
}

/// The key of a line.
pub(super) fn key(line: &[u8]) -> &[u8] {
    field(line, 0).map_or(&[], |span| &line[span])
}

pub(super) fn read(chunk: &Chunk, given: &Given, names: &mut Interner) -> Result<Record> {
    let bytes = &chunk.bytes;
    let mut record = Record::new(chunk.format);
    let rows: Vec<(usize, Range<usize>)> = match chunk.folder {
        Some(_) => chunk.rows.iter().map(|row| (row.kind, row.span.clone())).collect(),
        None => lines(bytes).map(|line| (WORDS, line)).collect(),
    };
    let parts = given.weights(chunk.format);
    let mut rows = rows.into_iter().peekable();
    while let Some((kind, line)) = rows.next() {
        let key = field(&bytes[..line.end], line.start).filter(|_| kind == WORDS);
        let split = key.as_ref().and_then(|key| split(&bytes[key.clone()]));
        let (Some(key), Some((utterance, place))) = (key, split) else {
            return Err(Error::record(format!(
                "the key at byte {} does not end in `-N`, as lattice-to-nbest writes it",
                line.start + 1
            )));
        };
        let digits = |key: &Range<usize>| key.start + utterance.len() + 1..key.end;
        record.utterance.id = utterance.to_vec();
        let text = words(bytes, trim(bytes, key.end..line.end), given)?;
        let mut slot = Slot { total: f64::NAN, ..Slot::default() };
        slot.pieces.push(Piece { kind: WORDS, span: line, place: Some(digits(&key)) });
        let mut features = Vec::new();
        let mut total = 0.0;
        while let Some((kind, line)) = rows.next_if(|row| row.0 != WORDS) {
            let inside = &bytes[..line.end];
            let key = field(inside, line.start).unwrap_or(line.start..line.start);
            let span = field(inside, key.end)
                .ok_or_else(|| Error::record(format!("hypothesis {place} has a key without a cost")))?;
            let value = Unit::Cost.natural(number(bytes, &span, "cost")?);
            let (name, weight) = if kind == LM { ("lm", parts.lm) } else { ("am", parts.am) };
            features.push((names.name(name), value));
            total += weight * value;
            if kind == LM && weight != 0.0 {
                slot.score = Some((span, value, weight));
            }
            slot.pieces.push(Piece { kind, span: line, place: Some(digits(&key)) });
        }
        if let Some(folder) = &chunk.folder {
            for (kind, name) in [(LM, "lm"), (AM, "am")] {
                if folder.has(kind) && !features.iter().any(|(known, _)| &**known == name) {
                    let text = format!("hypothesis {place} has no `{name}` cost: its key is missing there");
                    return Err(Error::record(text));
                }
            }
        }
        if !features.is_empty() {
            slot.total = total;
            features.push((names.name("score"), total));
        }
        record.push(text, features, slot)?;
        if let Some(last) = record.places.last_mut() {
            *last = place;
        }
    }
    sort(&mut record)?;
    Ok(record)
}

/// Puts the hypotheses in the order of their numbers, which may have gaps.
pub(super) fn sort(record: &mut Record) -> Result<()> {
    let mut order: Vec<usize> = (0..record.places.len()).collect();
    order.sort_by_key(|&at| record.places[at]);
    if let Some(two) = order.windows(2).find(|two| record.places[two[0]] == record.places[two[1]]) {
        return Err(Error::record(format!("two hypotheses of number {}", record.places[two[0]])));
    }
    if !order.is_sorted() {
        record.slots = order.iter().map(|&at| record.slots[at].clone()).collect();
        record.utterance.hypotheses =
            order.iter().map(|&at| record.utterance.hypotheses[at].clone()).collect();
        for (hypothesis, rank) in record.utterance.hypotheses.iter_mut().zip(1..) {
            hypothesis.rank = rank;
        }
    }
    record.places.sort_unstable();
    Ok(())
}

/// The words, by their numbers if a table was given.
fn words(bytes: &[u8], span: Range<usize>, given: &Given) -> Result<Vec<u8>> {
    let Some(symbols) = &given.symbols else { return Ok(bytes[span].to_vec()) };
    let mut text = Vec::new();
    for token in bytes[span].split(u8::is_ascii_whitespace).filter(|token| !token.is_empty()) {
        let number = std::str::from_utf8(token).ok().and_then(|token| token.parse::<usize>().ok());
        let word = number.and_then(|number| symbols.get(number)).filter(|word| !word.is_empty());
        let word = word.ok_or_else(|| {
            let token = String::from_utf8_lossy(token);
            Error::record(format!("`{token}` is no number of the symbol table: give the list's words.txt"))
        })?;
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(word);
    }
    Ok(text)
}
