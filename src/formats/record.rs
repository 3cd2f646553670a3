//! One record of any format: read, and written back.

use std::collections::HashMap;
use std::sync::Arc;

use super::beside::References;
use super::chunk::{Body, Chunk};
use super::folder::{ESPNET, raw_frame};
use super::fresh;
use super::jsonl;
use super::known::{Format, Given};
use super::slots::{self, Piece, Slot, field, number, trim};
use super::{Gained, OwnNames, columns, documents, kaldi, moses, srilm};
use crate::{Error, Name, Result, Status, Utterance};

/// Makes records of chunks: one per thread.
pub struct Reader {
    json: jsonl::Reader,
    names: Interner,
    own: OwnNames,
    given: Arc<Given>,
    references: Arc<References>,
}

/// An utterance and what is needed to write it back.
pub struct Record {
    /// What was read, in first-pass order.
    pub utterance: Utterance,
    layout: Layout,
}

enum Layout {
    /// The JSON record's own utterance is empty but for the moment of writing.
    Json(Box<jsonl::Record>, usize),
    Slots(Box<slots::Record>),
}

/// How records are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer {
    /// In this format; as read, if none is given.
    pub format: Option<Format>,
    /// Change the order alone: scores stay as they came. JSON Lines gains its members all the same.
    pub keep_scores: bool,
}

/// Names of features, shared by all that have them.
#[derive(Debug, Default)]
pub(super) struct Interner(HashMap<String, Name>);

impl Interner {
    pub fn name(&mut self, name: &str) -> Name {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        if self.0.len() > MOST_NAMES {
            self.0.clear();
        }
        let new: Name = name.into();
        self.0.insert(name.to_owned(), new.clone());
        new
    }
}

impl Reader {
    /// A reader for records that will be given the features `own`. References are joined by id
    /// where a record has none.
    pub fn new(own: OwnNames, given: Arc<Given>, references: Arc<References>) -> Self {
        let json = jsonl::Reader::new(own.clone()).tensors_in(given.tensors.clone());
        Self { json, names: Interner::default(), own, given, references }
    }

    /// The record of a chunk. Never panics for any bytes.
    ///
    /// # Errors
    /// [`Error::Record`]: it is not of its format, with the place in it.
    pub fn read(&mut self, chunk: &Chunk) -> Result<Record> {
        let names = &mut self.names;
        let parts = self.given.weights(chunk.format);
        let mut record = match chunk.format {
            Format::Jsonl | Format::Json => {
                let start = match chunk.format {
                    Format::Json => documents::element(&chunk.bytes),
                    _ => 0,
                };
                let mut record = self.json.read(&chunk.bytes[start..])?;
                let utterance = std::mem::take(&mut record.utterance);
                Record { utterance, layout: Layout::Json(Box::new(record), start) }
            }
            Format::Kaldi => Record::of(kaldi::read(chunk, &self.given, names)?),
            Format::Srilm => Record::of(srilm::plain(chunk, parts, names)?),
            Format::Nbest1 | Format::Nbest2 => Record::of(srilm::decipher(chunk, names)?),
            Format::Moses => Record::of(moses::read(chunk, names)?),
            Format::Nemo => Record::of(columns::nemo(chunk, names)?),
            Format::Wenet => Record::of(columns::wenet(chunk, names)?),
            Format::Cued => Record::of(columns::cued(chunk, parts, names)?),
            Format::Pocketsphinx => Record::of(columns::pocketsphinx(chunk, names)?),
            Format::Espnet => Record::of(espnet(chunk, names)?),
            Format::Espnet1 => Record::of(documents::espnet1(chunk, names)?),
            Format::Mlm => Record::of(documents::mlm(chunk, names)?),
            Format::Hypo2trans => Record::of(documents::hypo2trans(chunk)?),
            Format::Trn | Format::Ref | Format::Ctm => {
                return Err(Error::record(format!("`{}` has no lists", chunk.format)));
            }
        };
        let utterance = &mut record.utterance;
        if utterance.id.is_empty()
            && let Some(id) = chunk.id.clone().or_else(|| numbered(chunk))
        {
            utterance.id = id;
        }
        if utterance.reference.is_none() {
            utterance.reference =
                chunk.reference.clone().or_else(|| self.references.get(&utterance.id).cloned());
        }
        if let Layout::Slots(slots) = &mut record.layout {
            let mut names = utterance.hypotheses.iter().flat_map(|h| &h.features);
            slots.clash =
                names.find(|(name, _)| self.own.contains(name.as_bytes())).map(|(name, _)| name.to_string());
        }
        Ok(record)
    }
}

/// What has no name is named by its number; JSON Lines is written back without one.
fn numbered(chunk: &Chunk) -> Option<Vec<u8>> {
    (!chunk.format.is_native()).then(|| chunk.record.to_string().into_bytes())
}

impl Record {
    fn of(mut record: slots::Record) -> Self {
        let utterance = std::mem::take(&mut record.utterance);
        Self { utterance, layout: Layout::Slots(Box::new(record)) }
    }

    /// The first name in a record not our own that rescoring would overwrite.
    pub fn clash(&self) -> Option<&str> {
        match &self.layout {
            Layout::Json(record, _) => record.clash.as_deref(),
            Layout::Slots(record) => record.clash.as_deref(),
        }
    }

    /// First-pass rank of the hypothesis that stood first. `None` for an empty list.
    pub fn winner(&self) -> Option<u32> {
        match &self.layout {
            Layout::Json(record, _) => record.winner(),
            Layout::Slots(record) => (!record.slots.is_empty()).then_some(1),
        }
    }

    /// Whether it is our own output, which only JSON Lines tells.
    pub fn rescored(&self) -> bool {
        match &self.layout {
            Layout::Json(record, _) => record.rescored(),
            Layout::Slots(_) => false,
        }
    }

    /// The bytes of a hypothesis.
    pub(super) fn raw<'a>(&self, chunk: &'a Chunk, rank: u32) -> Option<&'a [u8]> {
        match &self.layout {
            Layout::Json(record, start) => chunk.bytes.get(*start..)?.get(record.span(rank)?),
            Layout::Slots(record) => {
                let slot = record.slots.get((rank as usize).checked_sub(1)?)?;
                chunk.bytes.get(slot.pieces.first()?.span.clone())
            }
        }
    }
}

impl Answer {
    /// Whether records come out in the format they came in.
    pub fn is_native(&self, format: Format) -> bool {
        self.format.is_none_or(|to| to == format)
    }

    /// Appends the record as its utterance's status says, with its line ending; without any for a
    /// record in a document. For a folder, as [`Answer::frames`] takes apart.
    ///
    /// # Errors
    /// The record cannot be written in this format, or does not belong to the chunk; `out` is
    /// then as it was.
    pub fn write(
        &self,
        record: &mut Record,
        chunk: &Chunk,
        gained: &Gained<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let before = out.len();
        let done = self.written(record, chunk, gained, out);
        if done.is_err() {
            out.truncate(before);
        }
        done
    }

    fn written(
        &self,
        record: &mut Record,
        chunk: &Chunk,
        gained: &Gained<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if let Some(format) = self.format.filter(|&format| format != chunk.format) {
            return fresh::write(format, record, chunk, gained, out);
        }
        match &mut record.layout {
            Layout::Json(json, start) => {
                out.extend_from_slice(chunk.bytes.get(..*start).unwrap_or_default());
                json.utterance = std::mem::take(&mut record.utterance);
                let done = jsonl::write(json, &chunk.bytes[*start..], gained, out);
                record.utterance = std::mem::take(&mut json.utterance);
                done?;
                out.extend_from_slice(chunk.ending.bytes());
            }
            Layout::Slots(slots) => {
                if let Status::Passed(reason) = &record.utterance.status {
                    self.passed(chunk, reason, out);
                    return Ok(());
                }
                slots.utterance = std::mem::take(&mut record.utterance);
                let mut text = Vec::new();
                let done = slots.write(chunk, gained.order, self.keep_scores, &mut text);
                record.utterance = std::mem::take(&mut slots.utterance);
                done?;
                finish(chunk, &text, out);
            }
        }
        Ok(())
    }

    /// Appends what is left of a chunk that could not be read or worked on: as it came, marked
    /// where the format has a place for it.
    pub fn passed(&self, chunk: &Chunk, reason: &str, out: &mut Vec<u8>) {
        if !self.is_native(chunk.format) {
            fresh::passed(self.format.unwrap_or_default(), chunk, reason, out);
            return;
        }
        match chunk.format {
            Format::Jsonl => {
                jsonl::passed(&chunk.bytes, reason, out);
                out.extend_from_slice(chunk.ending.bytes());
            }
            Format::Json => {
                let (before, element) = chunk.bytes.split_at(documents::element(&chunk.bytes));
                out.extend_from_slice(before);
                jsonl::passed(element, reason, out);
            }
            _ if chunk.folder.is_some() => {
                for row in &chunk.rows {
                    let path = chunk.folder.as_ref().map(|folder| folder.path(row.kind, row.place));
                    raw_frame(&path.unwrap_or_default(), &chunk.bytes[row.span.clone()], b"\n", out);
                }
            }
            _ => finish(chunk, &chunk.bytes, out),
        }
    }

    /// Appends what is written for a chunk that is no record; whether anything is.
    pub fn other(&self, chunk: &Chunk, limit: u64, out: &mut Vec<u8>) {
        match &chunk.body {
            Body::Over(length) => match self.format.unwrap_or(chunk.format) {
                Format::Jsonl => {
                    jsonl::over(*length, limit, out);
                    let ending = if self.format.is_some_and(|format| format != chunk.format) {
                        b"\n"
                    } else {
                        chunk.ending.bytes()
                    };
                    out.extend_from_slice(ending);
                }
                format if !self.is_native(chunk.format) => fresh::passed(format, chunk, "over", out),
                // The line was not kept, and the format has no place to say so.
                _ => {}
            },
            Body::Passed(reason) => self.passed(chunk, reason, out),
            Body::Record | Body::Between if self.is_native(chunk.format) => finish(chunk, &chunk.bytes, out),
            Body::Record | Body::Between => {}
        }
    }

    /// Whether a chunk leaves anything in the output.
    pub fn answers(&self, chunk: &Chunk) -> bool {
        self.is_native(chunk.format) || chunk.body != Body::Between
    }
}

/// Appends a record with its ending, or as the whole of its file.
fn finish(chunk: &Chunk, bytes: &[u8], out: &mut Vec<u8>) {
    match &chunk.file {
        Some(file) => raw_frame(file, bytes, chunk.ending.bytes(), out),
        None => {
            out.extend_from_slice(bytes);
            out.extend_from_slice(chunk.ending.bytes());
        }
    }
}

/// `{n}best_recog`: the key is the id; a score may be the print of a tensor.
fn espnet(chunk: &Chunk, names: &mut Interner) -> Result<slots::Record> {
    let bytes = &chunk.bytes;
    let mut record = slots::Record::new(chunk.format);
    let mut rows = chunk.rows.iter().peekable();
    while let Some(first) = rows.peek().copied() {
        let mut slot = Slot { total: f64::NAN, ..Slot::default() };
        let mut text = None;
        let mut features = Vec::new();
        while let Some(row) = rows.next_if(|row| row.place == first.place) {
            let key = field(&bytes[..row.span.end], row.span.start).unwrap_or(row.span.start..row.span.start);
            record.utterance.id = bytes[key.clone()].to_vec();
            let rest = trim(bytes, key.end..row.span.end);
            match ESPNET[row.kind] {
                "text" => text = Some(bytes[rest].to_vec()),
                "score" => {
                    let span = inside(bytes, rest);
                    let score = number(bytes, &span, "score")?;
                    features.push((names.name("score"), score));
                    slot = Slot { pieces: slot.pieces, ..Slot::default() }.scored(span, score);
                }
                _ => {}
            }
            slot.pieces.push(Piece { kind: row.kind, span: row.span.clone(), place: None });
        }
        let text = text.ok_or_else(|| {
            Error::record(format!("{}best_recog has a score and no text for it", first.place))
        })?;
        record.push(text, features, slot)?;
        if let Some(last) = record.places.last_mut() {
            *last = first.place;
        }
    }
    Ok(record)
}

/// The number of `tensor(-3.2, device='cuda:0')`.
fn inside(bytes: &[u8], span: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let raw = &bytes[span.clone()];
    let Some(open) = memchr::memchr(b'(', raw) else { return span };
    let close = raw[open..].iter().position(|byte| matches!(byte, b',' | b')')).unwrap_or(raw.len() - open);
    trim(bytes, span.start + open + 1..span.start + open + close)
}

const MOST_NAMES: usize = 4096;
