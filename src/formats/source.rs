//! From a stream to chunks.

use std::collections::VecDeque;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::beside::Names;
use super::chunk::{Body, Chunk};
use super::folder::FolderSource;
use super::known::{Format, Given};
use super::{columns, detect, documents, kaldi, moses};
use crate::lines::{Decoded, Ending, Line, Lines};
use crate::{Error, Result};

/// How much is kept of what does not end.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Of a record.
    pub record_bytes: usize,
    /// Of a document, and of what waits for its turn when the files of a folder have other orders.
    pub document_bytes: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { record_bytes: crate::lines::MAX_LINE_BYTES, document_bytes: 1 << 30 }
    }
}

/// Where chunks come from: a stream or a folder.
///
/// A record of several lines ends where the next one's id comes, at a blank line, or at the end:
/// so the last one is known whole only then.
pub struct Source(Inner);

/// A place for a record that may not be whole yet.
pub type Seat = Arc<Mutex<Option<Chunk>>>;

type Stream = Decoded<Box<dyn Read + Send>>;

enum Inner {
    Lines(Box<Splitter<std::io::Chain<Cursor<Vec<u8>>, Stream>>>),
    Document(std::vec::IntoIter<Chunk>),
    Folder(Box<FolderSource>),
}

impl Source {
    /// Chunks of a stream, plain or gzip, of this format or the one that it seems to have.
    ///
    /// # Errors
    /// Reading failed; a document is damaged; the format needs what is not `given`.
    pub fn open(
        input: Box<dyn Read + Send>,
        format: Option<Format>,
        given: &Given,
        names: &Names,
        kept: Kept,
    ) -> Result<Self> {
        let io = |source| Error::Io { what: names.file.clone(), source };
        let mut input = Decoded::open(input).map_err(io)?;
        let mut head = Vec::new();
        let format = match format {
            Some(format) => {
                // Its first line says whether something has to be given.
                while format == Format::Nemo
                    && given.beam_size.is_none()
                    && !head.trim_ascii_start().contains(&b'\n')
                    && more(&mut input, &mut head).map_err(io)?
                {}
                format
            }
            None => loop {
                let end = !more(&mut input, &mut head).map_err(io)?;
                if let Some(format) = detect(&head, end) {
                    break format;
                }
            },
        };
        needs(format, given, &head)?;
        let mut input = Cursor::new(head).chain(input);
        if !format.is_document() {
            let lines = Lines::new(input, kept.record_bytes);
            return Ok(Self(Inner::Lines(Box::new(Splitter::new(lines, format, given, names, kept)))));
        }
        let mut bytes = Vec::new();
        let limit = kept.document_bytes as u64;
        (&mut input).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > limit {
            let what = format!("{}: the document", names.file);
            return Err(Error::Limit { what, limit, got: bytes.len() as u64 });
        }
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
        let chunks = documents::split(bytes, format).map_err(|error| match error {
            Error::Config(what) => Error::Config(format!("{}: {what}", names.file)),
            other => other,
        })?;
        Ok(Self(Inner::Document(chunks.into_iter())))
    }

    /// Lays a copy of the record that may not be whole into `seat` while more is waited for: who ends
    /// the stream meanwhile finds what has come of it.
    pub fn share(&mut self, seat: Seat) {
        if let Inner::Lines(splitter) = &mut self.0 {
            splitter.seat = Some(seat);
        }
    }

    pub(super) fn folder(source: FolderSource) -> Self {
        Self(Inner::Folder(Box::new(source)))
    }

    /// What was found in the files of a folder and belongs to no record; empty before the end.
    pub fn orphans(&self) -> Vec<String> {
        match &self.0 {
            Inner::Folder(source) => source.orphans(),
            _ => Vec::new(),
        }
    }
}

impl Iterator for Source {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Result<Chunk>> {
        match &mut self.0 {
            Inner::Lines(splitter) => splitter.next(),
            Inner::Document(chunks) => chunks.next().map(Ok),
            Inner::Folder(source) => source.next(),
        }
    }
}

/// Reads more of the start of a stream; `false` at its end, or when enough was looked at.
fn more(input: &mut Stream, head: &mut Vec<u8>) -> std::io::Result<bool> {
    let fresh = head.len();
    head.resize(fresh + HEAD, 0);
    let read = loop {
        match input.read(&mut head[fresh..]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    head.truncate(fresh + read.as_ref().copied().unwrap_or(0));
    Ok(read? > 0 && head.len() < MOST_HEAD)
}

/// Whether what the format needs is given.
fn needs(format: Format, given: &Given, head: &[u8]) -> Result<()> {
    if !format.is_input() {
        return Err(Error::Config(format!("`{format}` is a format of outputs: it has no lists to read")));
    }
    if format == Format::Espnet {
        return Err(Error::config(
            "`espnet` is a folder of `1best_recog`, `2best_recog`, ..: name it as the input",
        ));
    }
    let first = head.trim_ascii_start().split(|&byte| byte == b'\n').next().unwrap_or_default();
    if format == Format::Nemo && given.beam_size.is_none() && columns::nemo_id(first).is_none() {
        return Err(Error::config(
            "beams of NeMo do not say where a list ends: give --beam-size NUM, or 0 if blank lines stand between lists",
        ));
    }
    Ok(())
}

/// Complete records at the start of an output, and the bytes they take: what an interrupted run
/// has done. Of a format whose records end with the next one, the last is not known complete.
///
/// # Errors
/// Reading failed, or outputs of this format cannot be completed.
pub fn count(input: impl Read, format: Format, given: &Given) -> Result<(u64, u64)> {
    if format.is_document() || format == Format::Espnet {
        return Err(Error::Config(format!(
            "an output of the format `{format}` is written whole or not at all; leave out --resume, or use \
             --output-format jsonl"
        )));
    }
    let io = |source| Error::Io { what: "output".into(), source };
    let lines = Lines::new(input, usize::MAX);
    let (names, kept) = (Names::default(), Kept { record_bytes: usize::MAX, ..Kept::default() });
    let mut splitter = Splitter::new(lines, format, given, &names, kept);
    let closed = format.is_line() || (format == Format::Nemo && given.beam_size.is_some_and(|size| size > 0));
    let (mut done, mut whole, mut at) = (0, 0, 0);
    let mut open = None;
    loop {
        let chunk = match splitter.next() {
            None => break,
            Some(Err(Error::Io { source, .. })) => return Err(io(source)),
            Some(other) => other?,
        };
        if chunk.ending == Ending::None {
            break;
        }
        if let Some(end) = open.take() {
            (done, whole) = (done + 1, end);
        }
        at += (chunk.bytes.len() + chunk.ending.bytes().len()) as u64;
        if !closed {
            open = Some(at);
        } else if format != Format::Nemo || splitter.full(&chunk) {
            (done, whole) = (done + 1, at);
        }
    }
    Ok((done, whole))
}

/// Puts lines together to records.
struct Splitter<R> {
    lines: Lines<R>,
    format: Format,
    beam: usize,
    names: Names,
    kept: Kept,
    records: u64,
    open: Option<Open>,
    seat: Option<Seat>,
    ready: VecDeque<Result<Chunk>>,
    ended: bool,
}

/// A record that may not be whole yet.
struct Open {
    chunk: Chunk,
    key: Option<Vec<u8>>,
    lines: usize,
    /// Too long: its lines go on as they come.
    spilt: bool,
}

impl<R: Read> Splitter<R> {
    fn new(lines: Lines<R>, format: Format, given: &Given, names: &Names, kept: Kept) -> Self {
        Self {
            lines,
            format,
            beam: given.beam_size.unwrap_or(0),
            names: names.clone(),
            kept,
            records: 0,
            open: None,
            seat: None,
            ready: VecDeque::new(),
            ended: false,
        }
    }

    fn next(&mut self) -> Option<Result<Chunk>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk);
            }
            if self.ended {
                return None;
            }
            let open = self.open.as_ref().filter(|_| !self.lines.ready()).map(|open| open.chunk.clone());
            let seat = self.seat.clone().filter(|_| open.is_some());
            let sit = |chunk: Option<Chunk>| {
                if let Some(seat) = &seat {
                    *seat.lock().unwrap_or_else(PoisonError::into_inner) = chunk;
                }
            };
            sit(open);
            let line = self.lines.next();
            sit(None);
            match line {
                Some(Ok(line)) => self.line(line),
                Some(Err(source)) => {
                    self.ended = true;
                    self.close();
                    self.ready.push_back(Err(Error::Io { what: self.names.file.clone(), source }));
                }
                None => {
                    self.ended = true;
                    self.close();
                }
            }
        }
    }

    fn line(&mut self, line: Line) {
        if self.format.is_line() || line.over.is_some() || line.is_blank() {
            self.close();
            let body = match line.over {
                Some(length) => Body::Over(length),
                None if line.is_blank() => Body::Between,
                None => Body::Record,
            };
            let chunk = self.chunk(line, body);
            self.ready.push_back(Ok(chunk));
            return;
        }
        let key = self.key(&line.bytes);
        let same = match &self.open {
            None => false,
            Some(open) => match self.format {
                Format::Nbest1 | Format::Nbest2 => !line.bytes.starts_with(b"NBestList"),
                Format::Wenet => !line.bytes.trim_ascii_start().starts_with(b"wav "),
                _ => open.key == key,
            },
        };
        if !same {
            self.close();
            let chunk = self.chunk(line, Body::Record);
            self.open = Some(Open { chunk, key, lines: 1, spilt: false });
        } else if let Some(open) = &mut self.open {
            open.lines += 1;
            let chunk = &mut open.chunk;
            if chunk.bytes.len() + line.bytes.len() > self.kept.record_bytes && !open.spilt {
                open.spilt = true;
                chunk.body =
                    Body::Passed(format!("the record is over the limit of {} bytes", self.kept.record_bytes));
            }
            if open.spilt {
                let next = Chunk {
                    number: line.number,
                    record: chunk.record,
                    format: chunk.format,
                    bytes: line.bytes,
                    ending: line.ending,
                    body: Body::Between,
                    ..Chunk::default()
                };
                self.ready.push_back(Ok(std::mem::replace(chunk, next)));
            } else {
                chunk.bytes.extend_from_slice(chunk.ending.bytes());
                chunk.bytes.extend_from_slice(&line.bytes);
                chunk.ending = line.ending;
            }
        }
        if self.format == Format::Nemo
            && self.beam > 0
            && self.open.as_ref().is_some_and(|open| open.lines == self.beam && open.key.is_none())
        {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.ready.push_back(Ok(open.chunk));
        }
    }

    /// What tells a record's lines from another's.
    fn key(&self, line: &[u8]) -> Option<Vec<u8>> {
        let key = match self.format {
            Format::Moses => moses::id(line)?,
            Format::Nemo => columns::nemo_id(line)?,
            Format::Kaldi => {
                let key = kaldi::key(line);
                kaldi::split(key).map_or(key, |(utterance, _)| utterance)
            }
            Format::Cued | Format::Ctm => kaldi::key(line),
            _ => return None,
        };
        Some(key.to_vec())
    }

    fn chunk(&mut self, line: Line, body: Body) -> Chunk {
        if body != Body::Between {
            self.records += 1;
        }
        let (id, reference) = match body {
            Body::Record => self.names.of(self.format, self.records),
            _ => (None, None),
        };
        Chunk {
            number: line.number,
            record: self.records,
            format: self.format,
            bytes: line.bytes,
            ending: line.ending,
            body,
            id,
            reference,
            ..Chunk::default()
        }
    }

    /// Whether a record of a fixed number of lines has them all.
    fn full(&self, chunk: &Chunk) -> bool {
        chunk.body != Body::Record || memchr::memchr_iter(b'\n', &chunk.bytes).count() + 1 == self.beam
    }
}

/// Read at once while the format is looked for.
const HEAD: usize = 4096;

/// Looked at, at most, for the format.
const MOST_HEAD: usize = 1 << 20;
