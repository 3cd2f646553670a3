//! Records in another format than they came in, made of what was read.
//!
//! A text that the target has no letters for loses them: bars in Moses, tabs in NeMo become
//! blanks, and what is not UTF-8 becomes U+FFFD in JSON.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::chunk::Chunk;
use super::folder::frame;
use super::known::Format;
use super::record::Record;
use super::slots::Unit;
use super::times::times;
use super::{Gained, jsonl};
use crate::{Error, Hypothesis, Result, Status, Utterance};

/// What stands around and between the records of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Before the first.
    pub before: &'static str,
    /// Between two.
    pub between: &'static str,
    /// After the last.
    pub after: &'static str,
}

impl Format {
    /// What must be written around records that come in another format.
    pub fn envelope(self) -> Option<Envelope> {
        let around = |before, after| Some(Envelope { before, between: ",\n", after });
        match self {
            Self::Json | Self::Hypo2trans => around("[\n", "\n]\n"),
            Self::Mlm => around("{\n", "\n}\n"),
            Self::Espnet1 => around("{\"utts\": {\n", "\n}}\n"),
            _ => None,
        }
    }

    /// Whether records in this format, that came in another, need a folder.
    pub fn needs_folder(self) -> bool {
        matches!(self, Self::Kaldi | Self::Espnet)
    }
}

/// Appends the record, as [`super::Answer::write`] does.
pub(super) fn write(
    format: Format,
    record: &Record,
    chunk: &Chunk,
    gained: &Gained<'_>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let utterance = &record.utterance;
    let id = name(utterance, chunk);
    let mut chosen: Vec<&Hypothesis> = match &utterance.status {
        // As it first came.
        Status::Passed(_) => utterance.hypotheses.iter().collect(),
        _ => gained.order.iter().filter_map(|&at| utterance.hypotheses.get(at)).collect(),
    };
    if matches!(utterance.status, Status::Passed(_)) {
        chosen.sort_by_key(|hypothesis| hypothesis.rank);
    }
    match format {
        Format::Jsonl | Format::Json => {
            let mut text = native(utterance, &id, &chosen, gained);
            text.extend_from_slice(if format == Format::Jsonl { b"\n" } else { b"" });
            out.append(&mut text);
        }
        Format::Trn | Format::Ref => {
            let text = chosen.first().map_or(&[][..], |best| &best.bytes).trim_ascii();
            let (first, last) = if format == Format::Ref { (&id[..], text) } else { (text, &b""[..]) };
            out.extend_from_slice(first);
            if format == Format::Trn {
                out.extend_from_slice(if text.is_empty() { b"(" } else { b" (" });
                out.extend_from_slice(&id);
                out.push(b')');
            } else if !last.is_empty() {
                out.push(b' ');
                out.extend_from_slice(last);
            }
            out.push(b'\n');
        }
        Format::Ctm => {
            let Some(best) = chosen.first() else { return Ok(()) };
            if best.bytes.trim_ascii().is_empty() {
                return Ok(());
            }
            let timed = record.raw(chunk, best.rank).and_then(|raw| times(chunk, raw)).ok_or_else(|| {
                Error::record("the list has no times of words, which ctm is made of: write trn or ref")
            })?;
            for word in timed {
                out.extend_from_slice(&id);
                let _ = write!(out, " 1 {:.2} {:.2} ", word.start, word.end - word.start);
                out.extend_from_slice(&word.word);
                out.push(b'\n');
            }
        }
        Format::Mlm | Format::Espnet1 | Format::Hypo2trans => document(format, utterance, &id, &chosen, out),
        Format::Kaldi | Format::Espnet => folder(format, utterance, &id, &chosen, out),
        _ => lines(format, utterance, &id, &chosen, out),
    }
    Ok(())
}

/// Appends what stands for a record that could not be read.
pub(super) fn passed(format: Format, chunk: &Chunk, reason: &str, out: &mut Vec<u8>) {
    let id = chunk.id.clone().unwrap_or_else(|| chunk.record.to_string().into_bytes());
    let id = String::from_utf8_lossy(&id).into_owned();
    match format {
        Format::Jsonl | Format::Json => {
            let start = out.len();
            jsonl::passed(json!({ "id": id }).to_string().as_bytes(), reason, out);
            if format == Format::Jsonl && out.len() > start {
                out.push(b'\n');
            }
        }
        Format::Trn => out.extend_from_slice(format!("({id})\n").as_bytes()),
        Format::Ref => out.extend_from_slice(format!("{id}\n").as_bytes()),
        Format::Mlm => {
            let _ = write!(out, "{}: {{}}", json!(id));
        }
        Format::Espnet1 => {
            let _ = write!(out, "{}: {{\"output\": []}}", json!(id));
        }
        Format::Hypo2trans => out.extend_from_slice(b"{\"input\": []}"),
        // They have no record without a hypothesis.
        _ => {}
    }
}

/// A record of JSON Lines.
fn native(utterance: &Utterance, id: &[u8], chosen: &[&Hypothesis], gained: &Gained<'_>) -> Vec<u8> {
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
    let passed = matches!(utterance.status, Status::Passed(_));
    let mut object = Map::new();
    object.insert("id".into(), text(id));
    if let Some(session) = &utterance.session {
        object.insert("session".into(), text(session));
    }
    if let Some(reference) = &utterance.reference {
        object.insert("ref".into(), text(reference));
    }
    let hypothesis = |hypothesis: &&Hypothesis| {
        let mut scores = Map::new();
        for (name, value) in &hypothesis.features {
            let ours = gained.features.contains(name);
            let count = ours && value.is_finite() && (&**name == "words" || name.ends_with(".oov"));
            let value = if count { Value::from(*value as i64) } else { Value::from(*value) };
            if !(passed && ours) {
                scores.insert(name.to_string(), value);
            }
        }
        let mut object = Map::new();
        object.insert("text".into(), text(&hypothesis.bytes));
        if !passed && utterance.status != Status::New {
            scores.insert("total".into(), hypothesis.total.into());
        }
        object.insert("scores".into(), scores.into());
        if !passed && utterance.status != Status::New {
            object.insert("rank".into(), hypothesis.rank.into());
        }
        Value::from(object)
    };
    object.insert("hyps".into(), chosen.iter().map(hypothesis).collect::<Vec<_>>().into());
    let mut out = Value::from(object).to_string().into_bytes();
    if utterance.status != Status::New {
        out.pop();
        out.push(b',');
        jsonl::secondpass(&utterance.status, gained, &mut out);
        out.push(b'}');
    }
    out
}

/// Formats of one line a hypothesis.
fn lines(format: Format, utterance: &Utterance, id: &[u8], chosen: &[&Hypothesis], out: &mut Vec<u8>) {
    let unit = format.unit();
    match format {
        Format::Wenet => out.extend_from_slice(&[b"wav ", id, b"\n"].concat()),
        Format::Nbest1 | Format::Nbest2 => out.extend_from_slice(b"NBestList1.0\n"),
        _ => {}
    }
    for hypothesis in chosen {
        let total = score(hypothesis, &utterance.status);
        let words = hypothesis.bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let words: Vec<&[u8]> = words.collect();
        let text = words.join(&b' ');
        match format {
            Format::Moses => {
                let clean = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("|||", " ").into_bytes();
                let raw = if memchr::memmem::find(&text, b"|||").is_some() { clean(&text) } else { text };
                out.extend_from_slice(&[id, b" ||| ", &raw, b" |||"].concat());
                // The total stands last, and who reads the list counts its words.
                for (name, value) in &hypothesis.features {
                    if !["score", "words"].contains(&&**name) {
                        let _ =
                            write!(out, " {}= ", name.replace(char::is_whitespace, "_").replace("|||", "_"));
                        unit.write(*value, out);
                    }
                }
                out.extend_from_slice(b" ||| ");
                unit.write(total, out);
            }
            Format::Wenet => {
                out.extend_from_slice(b"candidate ");
                unit.write(total, out);
                out.extend_from_slice(&[b" ", &text[..]].concat());
            }
            Format::Nbest1 | Format::Nbest2 => {
                out.push(b'(');
                unit.write(total, out);
                out.extend_from_slice(&[b") ", &text[..]].concat());
            }
            Format::Srilm | Format::Cued => {
                // Ours in the first column and nothing in the second: any weight gives it.
                if format == Format::Cued {
                    out.extend_from_slice(&[id, b" "].concat());
                }
                unit.write(total, out);
                let _ = write!(out, " 0 {}", words.len());
                let (before, after) = if format == Format::Cued { (" <s>", " </s>") } else { ("", "") };
                out.extend_from_slice(before.as_bytes());
                if !text.is_empty() {
                    out.extend_from_slice(&[b" ", &text[..]].concat());
                }
                out.extend_from_slice(after.as_bytes());
            }
            Format::Pocketsphinx => {
                out.extend_from_slice(if text.is_empty() { b"(null)" } else { &text });
                out.push(b' ');
                unit.write(total, out);
            }
            _ => {
                // NeMo. Its own readers want no ids; blank lines part the lists.
                out.extend_from_slice(&text);
                out.push(b'\t');
                unit.write(total, out);
            }
        }
        out.push(b'\n');
    }
    if matches!(format, Format::Srilm | Format::Pocketsphinx | Format::Nemo) {
        out.push(b'\n');
    }
}

fn document(format: Format, utterance: &Utterance, id: &[u8], chosen: &[&Hypothesis], out: &mut Vec<u8>) {
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
    let reference = utterance.reference.as_ref().map(|reference| text(reference));
    let mut object = Map::new();
    let score = |hypothesis: &Hypothesis| score(hypothesis, &utterance.status);
    match format {
        Format::Mlm => {
            for (number, hypothesis) in (1..).zip(chosen) {
                let value = json!({"score": score(hypothesis), "text": text(&hypothesis.bytes)});
                object.insert(format!("hyp_{number}"), value);
            }
            if let Some(reference) = reference {
                object.insert("ref".into(), reference);
            }
        }
        Format::Espnet1 => {
            let output = (1..).zip(chosen).map(|(number, hypothesis)| {
                let mut output = json!({"name": format!("target1[{number}]"),
                    "rec_text": text(&hypothesis.bytes), "score": score(hypothesis)});
                if let (Some(reference), Some(output)) = (&reference, output.as_object_mut()) {
                    output.insert("text".into(), reference.clone());
                }
                output
            });
            object.insert("output".into(), output.collect::<Vec<_>>().into());
        }
        _ => {
            let input: Vec<_> = chosen.iter().map(|hypothesis| text(&hypothesis.bytes)).collect();
            object.insert("input".into(), input.into());
            if let Some(reference) = reference {
                object.insert("output".into(), reference);
            }
            out.extend_from_slice(Value::from(object).to_string().as_bytes());
            return;
        }
    }
    let _ = write!(out, "{}: {}", text(id), Value::from(object));
}

fn folder(format: Format, utterance: &Utterance, id: &[u8], chosen: &[&Hypothesis], out: &mut Vec<u8>) {
    for (place, hypothesis) in (1..).zip(chosen) {
        let total = score(hypothesis, &utterance.status);
        let mut line = |file: &str, key: &[u8], unit: Unit, value: Option<f64>| {
            let mut line = key.to_vec();
            line.push(b' ');
            match value {
                Some(value) => unit.write(value, &mut line),
                None => line.extend_from_slice(hypothesis.bytes.trim_ascii()),
            }
            frame(file, &line, out);
        };
        if format == Format::Espnet {
            line(&format!("{place}best_recog/text"), id, Unit::Natural, None);
            line(&format!("{place}best_recog/score"), id, Unit::Natural, Some(total));
        } else {
            // Ours is the cost of the graph at acoustic scale 0; the first pass's am stays beside it.
            let key = [id, b"-", place.to_string().as_bytes()].concat();
            let am = hypothesis.feature("am").filter(|am| am.is_finite());
            let rest = am.map_or(0.0, |am| 0.1 * am);
            line("words", &key, Unit::Natural, None);
            line("lm_cost", &key, Unit::Cost, Some(total - rest));
            line("ac_cost", &key, Unit::Cost, Some(am.unwrap_or(0.0)));
        }
    }
}

/// What a format has one place for: our total, or the first pass's.
fn score(hypothesis: &Hypothesis, status: &Status) -> f64 {
    match status {
        Status::Ok | Status::Partial(_) if hypothesis.total.is_finite() => hypothesis.total,
        _ => hypothesis.feature("score").unwrap_or_else(|| -f64::from(hypothesis.rank).ln()),
    }
}

fn name(utterance: &Utterance, chunk: &Chunk) -> Vec<u8> {
    if utterance.id.is_empty() { chunk.record.to_string().into_bytes() } else { utterance.id.clone() }
}
