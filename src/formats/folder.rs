//! Folders of files that make up lists, joined by key: Kaldi's archives, ESPnet2's output, a file
//! for each utterance.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::beside::{Names, stem};
use super::chunk::{Body, Chunk, Row};
use super::kaldi;
use super::known::{Format, Given};
use super::shards::shards;
use super::source::{Kept, Source};
use crate::lines::{Decoded, Ending, Lines};
use crate::{Error, Result};

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
        let shards = shards(path);
        let source = match format {
            Some(Format::Espnet) => FolderSource::shards(path, shards, kept)?,
            None if !shards.is_empty() => FolderSource::shards(path, shards, kept)?,
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
    /// Folders of ESPnet2 to be read after this one.
    shards: std::vec::IntoIter<PathBuf>,
    /// Of the folders read: keys that no record had.
    orphans: Vec<String>,
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
        Ok(Self { sides, ..Self::new(folder, Driver::Lines(driver), kept) })
    }

    fn new(folder: Arc<Folder>, driver: Driver, kept: Kept) -> Self {
        Self {
            format: folder.format,
            kept,
            folder,
            driver,
            sides: Vec::new(),
            number: 0,
            shards: Vec::new().into_iter(),
            orphans: Vec::new(),
        }
    }

    /// The folders of a run in parallel, one after the other.
    fn shards(path: &Path, shards: Vec<PathBuf>, kept: Kept) -> Result<Self> {
        let mut shards = shards.into_iter();
        let first = shards.next().unwrap_or_else(|| path.to_owned());
        Ok(Self { shards, ..Self::espnet(&first, kept)? })
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
        Ok(Self { sides, ..Self::new(folder, Driver::Lines(driver), kept) })
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
        Ok(Self::new(folder, driver, kept))
    }

    pub fn next(&mut self) -> Option<Result<Chunk>> {
        if let Driver::Files(folder, files, format, given) = &mut self.driver {
            let name = files.next()?;
            self.number += 1;
            return Some(one(folder, name, *format, given, self.kept, self.number));
        }
        loop {
            let Driver::Lines(source) = &mut self.driver else { return None };
            let chunk = match source.next() {
                None => {
                    let next = Self::espnet(&self.shards.next()?, self.kept);
                    self.orphans = self.orphans();
                    match next {
                        Ok(next) => (self.driver, self.sides) = (next.driver, next.sides),
                        Err(error) => return Some(Err(error)),
                    }
                    continue;
                }
                Some(Ok(chunk)) if chunk.body == Body::Between => continue,
                Some(other) => other,
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
        self.orphans.iter().cloned().chain(sides.filter_map(left)).collect()
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

/// Kinds of files of ESPnet2.
pub(super) const ESPNET: [&str; 4] = ["text", "score", "token", "token_int"];
