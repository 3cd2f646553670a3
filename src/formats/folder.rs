//! Folders of files that make up lists, joined by key: Kaldi's archives, ESPnet2's output, a file
//! for each utterance. And what stands beside lists: references, manifests, symbol tables.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunk::{Body, Chunk, Row};
use super::jsonl::span::{Cursor, unescape};
use super::kaldi;
use super::known::{Format, Given};
use super::source::{Kept, Source};
use crate::lines::{Decoded, Ending, Lines};
use crate::{Error, Result};

/// References by utterance.
pub type References = HashMap<Vec<u8>, Vec<u8>>;

/// What names the records of a stream.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// What messages call the stream.
    pub file: String,
    /// The id of its first record, if it has none itself: the file's name.
    pub stem: Option<Vec<u8>>,
    /// Ids and references in the order of the utterances, for formats without ids (NeMo).
    pub manifest: Option<Arc<Vec<(Vec<u8>, Option<Vec<u8>>)>>>,
}

impl Names {
    /// Id and reference of a record by its number.
    pub(super) fn of(&self, format: Format, record: u64) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        if let (Format::Nemo, Some(manifest)) = (format, &self.manifest) {
            let entry = usize::try_from(record).ok().and_then(|record| manifest.get(record - 1));
            return entry.map_or((None, None), |(id, reference)| (Some(id.clone()), reference.clone()));
        }
        let stem = self.stem.as_ref().filter(|_| format.is_block());
        let id = stem.map(|stem| match record {
            1 => stem.clone(),
            more => [&stem[..], b"-", more.to_string().as_bytes()].concat(),
        });
        (id, None)
    }
}

/// The files of a folder of lists.
#[derive(Debug)]
pub struct Folder {
    format: Format,
    /// By kind: names for Kaldi, names inside of each `{n}best_recog` for ESPnet2.
    kinds: Vec<Option<String>>,
}

impl Folder {
    /// Opens the lists of a folder: what is in it tells the format.
    ///
    /// # Errors
    /// A file cannot be read, or the folder is of no format known.
    pub fn open(path: &Path, format: Option<Format>, given: &Given, kept: Kept) -> Result<(Source, Format)> {
        let mut files = Vec::new();
        for entry in path.read_dir().map_err(|error| Error::io(path, error))? {
            let entry = entry.map_err(|error| Error::io(path, error))?;
            files.push(entry.file_name().to_string_lossy().into_owned());
        }
        files.retain(|name| !name.starts_with('.'));
        files.sort();
        let found = |names: &[&str]| {
            let with = |name: &&&str| [name.to_string(), format!("{name}.gz")];
            names.iter().find_map(|name| with(&name).into_iter().find(|name| files.contains(name)))
        };
        let words = found(&["words", "words_text", "text"]);
        let costs = [found(&["lm_cost", "lmwt", "lmwt.withlm"]), found(&["ac_cost", "acwt"])];
        let espnet = files.iter().any(|name| name == "1best_recog");
        let source = match format {
            Some(Format::Espnet) => FolderSource::espnet(path, kept)?,
            None if espnet => FolderSource::espnet(path, kept)?,
            Some(Format::Kaldi) | None if words.is_some() && costs.iter().any(Option::is_some) => {
                let [lm, am] = costs;
                FolderSource::kaldi(path, vec![words, lm, am], given, kept)?
            }
            Some(Format::Kaldi) => {
                return Err(Error::Config(format!(
                    "{}: a folder of Kaldi's archives has `words`, and `lm_cost` or `ac_cost` (as nbest-to-linear \
                     writes them)",
                    path.display()
                )));
            }
            other => FolderSource::files(path, files, other, given, kept)?,
        };
        let format = source.format;
        Ok((Source::folder(source), format))
    }

    pub(super) fn has(&self, kind: usize) -> bool {
        self.kinds.get(kind).is_some_and(Option::is_some)
    }

    /// The file that a line of this kind goes to, for the hypothesis at this place.
    pub(super) fn path(&self, kind: usize, place: u32) -> String {
        let name = self.kinds.get(kind).and_then(Option::as_deref).unwrap_or("words");
        match self.format {
            Format::Espnet => format!("{place}best_recog/{name}"),
            _ => name.to_owned(),
        }
    }
}

/// Chunks of a folder.
pub(super) struct FolderSource {
    format: Format,
    kept: Kept,
    folder: Arc<Folder>,
    driver: Driver,
    /// By place (from 1) and kind: what is joined to the driver's lines.
    sides: Vec<Vec<Option<Keyed>>>,
    number: u64,
}

enum Driver {
    Lines(Source),
    Files(PathBuf, std::vec::IntoIter<String>, Option<Format>, Given),
}

impl FolderSource {
    fn kaldi(path: &Path, kinds: Vec<Option<String>>, given: &Given, kept: Kept) -> Result<Self> {
        let words = path.join(kinds[kaldi::WORDS].as_deref().unwrap_or("words"));
        let driver = lines(&words, Format::Kaldi, given, kept)?;
        let open =
            |name: &Option<String>| name.as_ref().map(|name| Keyed::open(&path.join(name), kept)).transpose();
        let sides = vec![vec![None, open(&kinds[kaldi::LM])?, open(&kinds[kaldi::AM])?]];
        let folder = Arc::new(Folder { format: Format::Kaldi, kinds });
        Ok(Self { format: Format::Kaldi, kept, folder, driver: Driver::Lines(driver), sides, number: 0 })
    }

    fn espnet(path: &Path, kept: Kept) -> Result<Self> {
        let best = |place: usize| path.join(format!("{place}best_recog"));
        let file = |folder: &Path, name: &str| {
            let names = [name.to_owned(), format!("{name}.gz")];
            names.into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
        };
        let text = file(&best(1), "text")
            .ok_or_else(|| Error::Config(format!("{}: there is no `text`", best(1).display())))?;
        // Each line of it is a list.
        let driver = lines(&text, Format::Cued, &Given::default(), kept)?;
        let mut sides = Vec::new();
        for place in (1..).take_while(|&place| best(place).is_dir()) {
            let open =
                |name: &&str| file(&best(place), name).map(|path| Keyed::open(&path, kept)).transpose();
            sides.push(ESPNET.iter().map(open).collect::<Result<Vec<_>>>()?);
        }
        let kinds = ESPNET.iter().map(|name| Some((*name).to_owned())).collect();
        let folder = Arc::new(Folder { format: Format::Espnet, kinds });
        Ok(Self { format: Format::Espnet, kept, folder, driver: Driver::Lines(driver), sides, number: 0 })
    }

    fn files(
        path: &Path,
        files: Vec<String>,
        format: Option<Format>,
        given: &Given,
        kept: Kept,
    ) -> Result<Self> {
        let (files, folders): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|name| path.join(name).is_file());
        let Some(first) = files.first() else {
            let what = if folders.is_empty() { "it is empty" } else { "it has folders only" };
            return Err(Error::Config(format!("{}: {what}: there are no lists", path.display())));
        };
        let found = match format {
            Some(format) => format,
            None => sniff(&path.join(first))?,
        };
        if !found.is_block() {
            return Err(Error::Config(format!(
                "{}: a folder of `{found}` files is not read; concatenate them (`cat {}/*`)",
                path.display(),
                path.display()
            )));
        }
        let folder = Arc::new(Folder { format: found, kinds: Vec::new() });
        let driver = Driver::Files(path.to_owned(), files.into_iter(), Some(found), given.clone());
        Ok(Self { format: found, kept, folder, driver, sides: Vec::new(), number: 0 })
    }

    pub fn next(&mut self) -> Option<Result<Chunk>> {
        if let Driver::Files(folder, files, format, given) = &mut self.driver {
            let name = files.next()?;
            self.number += 1;
            return Some(one(folder, name, *format, given, self.kept, self.number));
        }
        loop {
            let Driver::Lines(source) = &mut self.driver else { return None };
            let chunk = match source.next()? {
                Ok(chunk) if chunk.body == Body::Between => continue,
                other => other,
            };
            self.number += 1;
            return Some(chunk.and_then(|chunk| self.join(chunk)));
        }
    }

    fn join(&mut self, driver: Chunk) -> Result<Chunk> {
        let mut chunk = Chunk {
            number: self.number,
            record: self.number,
            format: self.format,
            ending: Ending::None,
            folder: Some(self.folder.clone()),
            body: driver.body,
            ..Chunk::default()
        };
        let add = |chunk: &mut Chunk, kind: usize, place: usize, line: &[u8]| {
            let start = chunk.bytes.len();
            chunk.bytes.extend_from_slice(line);
            chunk.rows.push(Row { kind, place: place as u32, span: start..chunk.bytes.len() });
            chunk.bytes.push(b'\n');
        };
        match self.format {
            Format::Kaldi => {
                for span in super::slots::lines(&driver.bytes) {
                    let line = &driver.bytes[span];
                    let place = kaldi::split(kaldi::key(line)).map_or(1, |(_, place)| place as usize);
                    add(&mut chunk, kaldi::WORDS, place, line);
                    for (kind, side) in self.sides[0].iter_mut().enumerate() {
                        if let Some(line) =
                            side.as_mut().map(|side| side.take(kaldi::key(line))).transpose()?.flatten()
                        {
                            add(&mut chunk, kind, place, &line);
                        }
                    }
                }
            }
            _ => {
                let key = kaldi::key(&driver.bytes).to_vec();
                for (place, sides) in self.sides.iter_mut().enumerate() {
                    for (kind, side) in sides.iter_mut().enumerate() {
                        if let Some(line) = side.as_mut().map(|side| side.take(&key)).transpose()?.flatten() {
                            add(&mut chunk, kind, place + 1, &line);
                        }
                    }
                }
            }
        }
        Ok(chunk)
    }

    /// Keys of the files joined that no record had.
    pub fn orphans(&self) -> Vec<String> {
        let sides = self.sides.iter().flatten().flatten();
        let left = |side: &Keyed| {
            let left = side.waiting.len() as u64 + side.rest();
            (left > 0)
                .then(|| format!("{}: {left} keys belong to no list and were left out", side.path.display()))
        };
        sides.filter_map(left).collect()
    }
}

/// The list of one file.
fn one(
    folder: &Path,
    name: String,
    format: Option<Format>,
    given: &Given,
    kept: Kept,
    number: u64,
) -> Result<Chunk> {
    let path = folder.join(&name);
    let stem = stem(&path);
    let names = Names { file: path.display().to_string(), stem: Some(stem.clone()), manifest: None };
    let file = File::open(&path).map_err(|error| Error::io(&path, error))?;
    let mut whole = Chunk { number, record: number, ending: Ending::None, ..Chunk::default() };
    whole.format = format.unwrap_or_default();
    for chunk in Source::open(Box::new(file), format, given, &names, kept)? {
        let chunk = chunk?;
        match (&chunk.body, &whole.body) {
            (Body::Record | Body::Between, Body::Record) => {}
            (Body::Over(length), _) => whole.body = Body::Over(*length),
            (Body::Passed(reason), _) => whole.body = Body::Passed(reason.clone()),
            _ => {}
        }
        whole.bytes.extend_from_slice(whole.ending.bytes());
        whole.bytes.extend_from_slice(&chunk.bytes);
        whole.ending = chunk.ending;
    }
    whole.id = Some(stem);
    whole.file = Some(name);
    Ok(whole)
}

/// The format of a file, from its start.
///
/// # Errors
/// It cannot be read.
pub fn sniff(path: &Path) -> Result<Format> {
    let io = |error| Error::io(path, error);
    let mut head = Vec::new();
    let input = Decoded::open(File::open(path).map_err(io)?).map_err(io)?;
    input.take(1 << 16).read_to_end(&mut head).map_err(io)?;
    Ok(super::detect(&head, true).unwrap_or_default())
}

/// The name of a file without what is added to the utterance's.
fn stem(path: &Path) -> Vec<u8> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let known = [".score", ".hyp", ".nbest", ".txt"];
    known.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).as_bytes().to_vec()
}

fn lines(path: &Path, format: Format, given: &Given, kept: Kept) -> Result<Source> {
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    let names = Names { file: path.display().to_string(), ..Names::default() };
    Source::open(Box::new(file), Some(format), given, &names, kept)
}

/// A file of lines by key. Where it has the order of those that ask, a line is held at a time.
struct Keyed {
    path: PathBuf,
    lines: Lines<Decoded<File>>,
    waiting: HashMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    kept: Kept,
}

impl Keyed {
    fn open(path: &Path, kept: Kept) -> Result<Self> {
        let io = |error| Error::io(path, error);
        let lines = Lines::new(Decoded::open(File::open(path).map_err(io)?).map_err(io)?, kept.record_bytes);
        Ok(Self { path: path.to_owned(), lines, waiting: HashMap::new(), bytes: 0, kept })
    }

    /// The line of a key.
    fn take(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(line) = self.waiting.remove(key) {
            self.bytes -= line.len();
            return Ok(Some(line));
        }
        for line in self.lines.by_ref() {
            let line = line.map_err(|error| Error::io(&self.path, error))?;
            let found = kaldi::key(&line.bytes);
            if found == key {
                return Ok(Some(line.bytes));
            }
            if found.is_empty() {
                continue;
            }
            self.bytes += line.bytes.len();
            if self.bytes > self.kept.document_bytes {
                let what = format!("{}: lines that wait for their list", self.path.display());
                let limit = self.kept.document_bytes as u64;
                return Err(Error::Limit { what, limit, got: self.bytes as u64 });
            }
            let found = found.to_vec();
            if self.waiting.insert(found.clone(), line.bytes).is_some() {
                let found = String::from_utf8_lossy(&found).into_owned();
                let path = self.path.display();
                return Err(Error::Config(format!("{path}: the key `{found}` comes twice: keep one")));
            }
        }
        Ok(None)
    }

    /// Lines not read: those after the last that was asked for.
    fn rest(&self) -> u64 {
        let Ok(file) = File::open(&self.path) else { return 0 };
        let Ok(input) = Decoded::open(file) else { return 0 };
        let all = Lines::new(input, self.kept.record_bytes).filter_map(std::result::Result::ok);
        all.filter(|line| line.number > self.lines.read() && !line.is_blank()).count() as u64
    }
}

/// Appends one piece for a file of a folder, to be found again by [`frames`].
pub(super) fn frame(path: &str, line: &[u8], out: &mut Vec<u8>) {
    raw_frame(path, line, b"\n", out);
}

/// As [`frame`], without a line ending.
pub(super) fn raw_frame(path: &str, bytes: &[u8], ending: &[u8], out: &mut Vec<u8>) {
    for part in [path.as_bytes(), &[bytes, ending].concat()] {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
}

impl super::Answer {
    /// The pieces of an answer that goes to a folder: the file's name, and what to append to it.
    pub fn frames(bytes: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = bytes;
        let mut part = move || {
            let (length, after) = rest.split_first_chunk::<8>()?;
            let (part, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            rest = after;
            Some(part)
        };
        std::iter::from_fn(move || Some((std::str::from_utf8(part()?).ok()?, part()?)))
    }
}

/// The name of an input: its records' ids where they have none.
///
/// # Errors
/// The manifest cannot be read.
pub fn names(input: &Path, manifest: Option<&Path>) -> Result<Names> {
    let standard = input == Path::new("-");
    let file = if standard { "standard input".to_owned() } else { input.display().to_string() };
    let stem = (!standard).then(|| stem(input));
    let manifest = manifest.map(|path| read_manifest(path).map(Arc::new)).transpose()?;
    Ok(Names { file, stem, manifest })
}

fn read_manifest(path: &Path) -> Result<Vec<(Vec<u8>, Option<Vec<u8>>)>> {
    let io = |error| Error::io(path, error);
    let mut all = Vec::new();
    for line in Lines::new(Decoded::open(File::open(path).map_err(io)?).map_err(io)?, usize::MAX) {
        let line = line.map_err(io)?;
        if line.is_blank() {
            continue;
        }
        let bad = || {
            let path = path.display();
            Error::Config(format!("{path}: line {} is no JSON object with `audio_filepath`", line.number))
        };
        if serde_json::from_slice::<serde::de::IgnoredAny>(&line.bytes).is_err() {
            return Err(bad());
        }
        let mut cursor = Cursor::new(&line.bytes, 0);
        cursor.peek();
        cursor.open(b'{').map_err(|_| bad())?;
        let (mut id, mut reference) = (None, None);
        while let Some(member) = cursor.member()? {
            let value = cursor.value()?.of(&line.bytes);
            match member.key.of(&line.bytes) {
                b"\"id\"" | b"\"audio_filepath\"" => {
                    id.get_or_insert_with(|| unescape(value).into_owned());
                }
                b"\"text\"" => reference = Some(unescape(value).into_owned()),
                _ => {}
            }
        }
        all.push((id.ok_or_else(bad)?, reference));
    }
    Ok(all)
}

/// References by id: lines `ID WORDS`, or `WORDS (ID)` as trn has them.
///
/// # Errors
/// The file cannot be read, or an id comes twice.
pub fn references(path: &Path) -> Result<References> {
    let io = |error| Error::io(path, error);
    let mut all = References::new();
    for line in Lines::new(Decoded::open(File::open(path).map_err(io)?).map_err(io)?, usize::MAX) {
        let line = line.map_err(io)?;
        if line.is_blank() {
            continue;
        }
        let bytes = line.bytes.trim_ascii();
        let open = memchr::memrchr(b'(', bytes).filter(|_| bytes.ends_with(b")"));
        let (id, text) = match open {
            Some(open) => (&bytes[open + 1..bytes.len() - 1], &bytes[..open]),
            None => {
                let id = kaldi::key(bytes);
                (id, &bytes[id.len()..])
            }
        };
        if all.insert(id.trim_ascii().to_vec(), text.trim_ascii().to_vec()).is_some() {
            let id = String::from_utf8_lossy(id).into_owned();
            return Err(Error::Config(format!("{}: two references of `{id}`", path.display())));
        }
    }
    Ok(all)
}

/// A symbol table, `WORD NUMBER` a line. Numbers without a word are empty.
///
/// # Errors
/// The file cannot be read, or is no such table.
pub fn symbols(path: &Path) -> Result<Vec<Vec<u8>>> {
    let io = |error| Error::io(path, error);
    let mut table = Vec::new();
    for line in Lines::new(Decoded::open(File::open(path).map_err(io)?).map_err(io)?, usize::MAX) {
        let line = line.map_err(io)?;
        if line.is_blank() {
            continue;
        }
        let word = kaldi::key(&line.bytes);
        let number = line.bytes[word.len()..].trim_ascii();
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<usize>().ok());
        let number = number.filter(|&number| number < 1 << 26).ok_or_else(|| {
            Error::Config(format!("{}: line {} is not `word number`", path.display(), line.number))
        })?;
        if table.len() <= number {
            table.resize(number + 1, Vec::new());
        }
        table[number] = word.to_vec();
    }
    Ok(table)
}

/// Kinds of files of ESPnet2.
pub(super) const ESPNET: [&str; 4] = ["text", "score", "token", "token_int"];
