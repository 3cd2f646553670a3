//! What stands beside lists: references, manifests, symbol tables, names.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::jsonl::span::{Cursor, unescape};
use super::kaldi;
use super::known::Format;
use crate::lines::{Decoded, Lines};
use crate::{Error, Result};

/// Id and reference of an utterance in a manifest.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

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
    pub manifest: Option<Arc<Vec<Entry>>>,
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

fn read_manifest(path: &Path) -> Result<Vec<Entry>> {
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

/// The name of a file without what is added to the utterance's.
pub(super) fn stem(path: &Path) -> Vec<u8> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let known = [".score", ".hyp", ".nbest", ".txt"];
    known.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).as_bytes().to_vec()
}
