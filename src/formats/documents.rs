//! Formats whose file is one JSON document: mlm-scoring's, ESPnet1's data.json, Hypo2Trans, and
//! arrays of records as JSON Lines has them.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::chunk::{Body, Chunk};
use super::jsonl::span::{Cursor, Span, unescape};
use super::kaldi::sort;
use super::known::Format;
use super::record::Interner;
use super::slots::{Record, Slot, number};
use crate::lines::Ending;
use crate::{Error, Result};

/// Cuts a document into its records and what stands around them.
pub(super) fn split(bytes: &[u8], format: Format) -> Result<Vec<Chunk>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to() + 1;
        Error::Config(format!("not UTF-8 at byte {at}, as JSON must be: convert it (`iconv -t UTF-8`)"))
    })?;
    let _: IgnoredAny = serde_json::from_str(text)
        .map_err(|error| Error::Config(format!("not a JSON document: {error}; see --format")))?;
    let mut cursor = Cursor::new(bytes, 0);
    let array = matches!(format, Format::Json | Format::Hypo2trans);
    if format == Format::Espnet1 {
        cursor.open(b'{')?;
        loop {
            let Some(member) = cursor.member()? else {
                return Err(Error::config("the document has no `utts`: it is no data.json of ESPnet1"));
            };
            if member.key.of(bytes) == b"\"utts\"" {
                break;
            }
            cursor.value()?;
        }
    }
    let (open, close) = if array { (b'[', b']') } else { (b'{', b'}') };
    let found = cursor.peek();
    if found != open {
        return Err(Error::Config(format!(
            "a document of this format begins with `{}`, not `{}`; see --format",
            char::from(open),
            char::from(found)
        )));
    }
    cursor.open(open)?;
    let mut chunks = vec![piece(bytes, 0..cursor.at, format, 0)];
    chunks[0].body = Body::Between;
    loop {
        let start = cursor.at;
        let more = if array { cursor.item(close)?.is_some() } else { cursor.member()?.is_some() };
        if !more {
            let mut tail = piece(bytes, start..bytes.len(), format, 0);
            tail.body = Body::Between;
            chunks.push(tail);
            return Ok(chunks);
        }
        let value = cursor.value()?;
        let number = chunks.len() as u64;
        chunks.push(piece(bytes, start..value.end, format, number));
    }
}

fn piece(bytes: &[u8], span: Range<usize>, format: Format, number: u64) -> Chunk {
    let bytes = bytes[span].to_vec();
    Chunk { number, record: number, format, bytes, ending: Ending::None, ..Chunk::default() }
}

/// Where the record of an array's element begins, after the comma.
pub(super) fn element(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',').unwrap_or(bytes.len())
}

/// A member of mlm-scoring's JSON: `"ID": {"hyp_1": {"score": .., "text": ..}, .., "ref": ..}`.
pub(super) fn mlm(chunk: &Chunk, names: &mut Interner) -> Result<Record> {
    let bytes = &chunk.bytes;
    let (mut record, mut cursor) = member(chunk)?;
    cursor.open(b'{')?;
    while let Some(member) = cursor.member()? {
        let key = unescape(member.key.of(bytes)).into_owned();
        let start = cursor.at;
        let value = cursor.value()?;
        if key == b"ref" {
            record.utterance.reference = Some(string(bytes, value));
        }
        let Some(digits) = key.strip_prefix(b"hyp_") else { continue };
        let place = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        let Some(place) = place.filter(|&place: &u32| place > 0) else { continue };
        hypothesis(bytes, Span { start, end: value.end }, &["text"], &mut record, names)?;
        if let Some(last) = record.places.last_mut() {
            *last = place;
        }
    }
    // Keys are sorted as text: hyp_10 before hyp_2.
    sort(&mut record)?;
    Ok(record)
}

/// A member of `utts`: `"ID": {"output": [{"name": .., "rec_text": .., "score": .., "text": ..}]}`.
/// Hypotheses trade places but not names: those number them.
pub(super) fn espnet1(chunk: &Chunk, names: &mut Interner) -> Result<Record> {
    let bytes = &chunk.bytes;
    let (mut record, mut cursor) = member(chunk)?;
    cursor.open(b'{')?;
    while let Some(member) = cursor.member()? {
        if member.key.of(bytes) != b"\"output\"" || cursor.peek() != b'[' {
            cursor.value()?;
            continue;
        }
        cursor.open(b'[')?;
        while cursor.item(b']')?.is_some() {
            cursor.peek();
            let span = cursor.value()?;
            hypothesis(bytes, span, &["rec_text"], &mut record, names)?;
            let mut inside = Cursor::new(bytes, span.start);
            inside.open(b'{')?;
            while let Some(member) = inside.member()? {
                let value = inside.value()?;
                match member.key.of(bytes) {
                    b"\"text\"" => record.utterance.reference = Some(string(bytes, value)),
                    b"\"name\"" => {
                        if let Some(piece) = record.slots.last_mut().and_then(|slot| slot.pieces.first_mut())
                        {
                            piece.place = Some(value.start..value.end);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(record)
}

/// `{"input": [..], "output": ..}`: an order, and no scores. `<UNK>` stands for nothing.
pub(super) fn hypo2trans(chunk: &Chunk) -> Result<Record> {
    let bytes = &chunk.bytes;
    let mut record = Record::new(chunk.format);
    let mut cursor = Cursor::new(bytes, element(bytes));
    if cursor.peek() != b'{' {
        return Err(Error::record("the element is no object: Hypo2Trans has `input` and `output`"));
    }
    cursor.open(b'{')?;
    let mut input = false;
    while let Some(member) = cursor.member()? {
        match member.key.of(bytes) {
            b"\"input\"" if cursor.peek() == b'[' => {
                input = true;
                cursor.open(b'[')?;
                while cursor.item(b']')?.is_some() {
                    cursor.peek();
                    let span = cursor.value()?;
                    let mut text = string(bytes, span);
                    if text == b"<UNK>" {
                        text.clear();
                    }
                    record.push(text, Vec::new(), Slot::of(span.start..span.end))?;
                }
            }
            b"\"output\"" => record.utterance.reference = Some(string(bytes, cursor.value()?)),
            _ => drop(cursor.value()?),
        }
    }
    if !input {
        return Err(Error::record("the element has no `input` list of strings"));
    }
    Ok(record)
}

/// The record of a member of an object, and the place of its value.
fn member(chunk: &Chunk) -> Result<(Record, Cursor<'_>)> {
    let bytes = &chunk.bytes;
    let mut record = Record::new(chunk.format);
    let mut cursor = Cursor::new(bytes, element(bytes));
    let key = cursor.value()?;
    record.utterance.id = string(bytes, key);
    cursor.open(b':')?;
    if cursor.peek() != b'{' {
        return Err(Error::record("the record is no object"));
    }
    Ok((record, cursor))
}

fn hypothesis(
    bytes: &[u8],
    span: Span,
    texts: &[&str],
    record: &mut Record,
    names: &mut Interner,
) -> Result<()> {
    let at = format!("hypothesis {} at byte {}", record.slots.len() + 1, span.start + 1);
    if span.first(bytes) != b'{' {
        return Err(Error::record(format!("{at} is no object")));
    }
    let mut cursor = Cursor::new(bytes, span.start);
    cursor.open(b'{')?;
    let (mut text, mut features) = (None, Vec::new());
    let mut slot = Slot::of(span.start..span.end);
    while let Some(member) = cursor.member()? {
        let key = unescape(member.key.of(bytes)).into_owned();
        let first = cursor.peek();
        let value = cursor.value()?;
        if first == b'"' && texts.iter().any(|name| name.as_bytes() == key) {
            text = Some(string(bytes, value));
        } else if key == b"score" && first != b'"' {
            let span = value.start..value.end;
            let score = if first == b'n' { f64::NAN } else { number(bytes, &span, "score")? };
            features.push((names.name("score"), score));
            slot = slot.scored(span, score);
        }
    }
    let text = text.ok_or_else(|| Error::record(format!("{at} has no `{}`", texts[0])))?;
    record.push(text, features, slot)
}

fn string(bytes: &[u8], span: Span) -> Vec<u8> {
    unescape(span.of(bytes)).into_owned()
}
