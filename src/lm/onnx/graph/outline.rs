//! A model's bytes without its large weights: each of these is replaced by a reference to where it lies in
//! the very file, as ONNX has it for weights in other files.
//!
//! What is read of a model before and beside ONNX Runtime needs no weights, or one after another. So a model
//! of hundreds of megabytes is never in memory as a whole, and is not copied to be changed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use prost::Message;
use prost::encoding::{WireType, decode_varint, encode_key, encode_varint};

use super::{External, proto};
use crate::{Error, Result};

/// The outline of the model at `path`; all of it, where the file is not made as exporters make them.
///
/// # Errors
/// If the file cannot be read.
pub fn outline(path: &Path) -> Result<Vec<u8>> {
    let fail = |e| Error::io(path, e);
    let file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    if size > LARGE
        && let Some(name) = place(path).file_name().and_then(|name| name.to_str())
    {
        let mut reader = Reader { input: BufReader::with_capacity(1 << 16, file), at: 0, name };
        // Whatever is wrong with the file is said by those who read all of it.
        if let Some(bytes) = reader.model(size) {
            return Ok(bytes);
        }
    }
    std::fs::read(path).map_err(fail)
}

/// A model with the weights back that [`outline`] left in the file at `path`.
///
/// # Errors
/// If the file cannot be read, or is another by now.
pub fn filled(path: &Path, model: &[u8]) -> Result<Vec<u8>> {
    let damaged = || Error::model(path, "changed while it was read; try again");
    let refill = |tensor: &[u8], out: &mut Vec<u8>| -> Result<()> {
        let part = proto::TensorProto::decode(tensor).ok().and_then(|summary| External::of(&summary));
        let Some(part) = part.filter(|part| is_own(path, part)) else {
            push(WEIGHT, tensor, out);
            return Ok(());
        };
        let values = read_part(path, &part).map_err(|e| Error::io(path, e))?;
        if part.length != i64::try_from(values.len()).ok() {
            return Err(damaged());
        }
        let mut weight = Vec::with_capacity(values.len() + tensor.len());
        let mut rest = proto::Fields(tensor);
        let mut whole = tensor;
        while let Some((tag, _)) = rest.next() {
            let field = &whole[..whole.len() - rest.0.len()];
            if tag != REFERENCE && tag != LOCATION {
                weight.extend_from_slice(field);
            }
            whole = rest.0;
        }
        push(VALUES, &values, &mut weight);
        push(WEIGHT, &weight, out);
        Ok(())
    };
    let mut bytes = Vec::with_capacity(model.len());
    let mut outer = proto::Fields(model);
    let mut whole = model;
    while let Some((tag, body)) = outer.next() {
        let field = &whole[..whole.len() - outer.0.len()];
        whole = outer.0;
        let Some(graph) = body.filter(|_| tag == GRAPH) else {
            bytes.extend_from_slice(field);
            continue;
        };
        let mut out = Vec::with_capacity(graph.len());
        let mut inner = proto::Fields(graph);
        let mut left = graph;
        while let Some((tag, body)) = inner.next() {
            let field = &left[..left.len() - inner.0.len()];
            left = inner.0;
            match body.filter(|_| tag == WEIGHT) {
                Some(tensor) => refill(tensor, &mut out)?,
                None => out.extend_from_slice(field),
            }
        }
        push(GRAPH, &out, &mut bytes);
    }
    Ok(bytes)
}

/// Whether values lie in the model's own file, as in an outline.
pub fn is_own(model: &Path, part: &External) -> bool {
    place(model).file_name().is_some_and(|name| part.file.as_os_str() == name)
}

/// The file that a path leads to, links followed: the folder where a reference is looked for, and its name.
pub fn place(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// The bytes of a part of the model's own file, as many as there are.
fn read_part(path: &Path, part: &External) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let (offset, length) = (u64::try_from(part.offset).unwrap_or(0), part.length.unwrap_or(0));
    let left = file.metadata()?.len().saturating_sub(offset);
    file.seek(io::SeekFrom::Start(offset))?;
    let length = u64::try_from(length).unwrap_or(0).min(left);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file once from its beginning to its end. `None` where something is unusual.
struct Reader<'a> {
    input: BufReader<File>,
    at: u64,
    name: &'a str,
}

impl Reader<'_> {
    fn model(&mut self, end: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut graphs = 0;
        while self.at < end {
            let (tag, kind) = self.key(end)?;
            if tag == GRAPH && kind == WireType::LengthDelimited {
                graphs += 1;
                let end = self.length(end)?;
                let graph = self.graph(end)?;
                push(GRAPH, &graph, &mut bytes);
            } else {
                self.copy(tag, kind, end, &mut bytes)?;
            }
        }
        (graphs == 1).then_some(bytes)
    }

    fn graph(&mut self, end: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        while self.at < end {
            let (tag, kind) = self.key(end)?;
            if tag == WEIGHT && kind == WireType::LengthDelimited {
                let end = self.length(end)?;
                let weight = self.weight(end)?;
                push(WEIGHT, &weight, &mut bytes);
            } else {
                self.copy(tag, kind, end, &mut bytes)?;
            }
        }
        Some(bytes)
    }

    fn weight(&mut self, end: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut left = None;
        while self.at < end {
            let (tag, kind) = self.key(end)?;
            if tag != VALUES || kind != WireType::LengthDelimited {
                // Values in two places at once are for others to judge.
                if tag == REFERENCE || tag == LOCATION || left.is_some() && tag == VALUES {
                    return None;
                }
                self.copy(tag, kind, end, &mut bytes)?;
                continue;
            }
            let body = self.length(end)?;
            let length = body - self.at;
            if length < LARGE {
                if left.is_some() {
                    return None;
                }
                encode_key(VALUES, WireType::LengthDelimited, &mut bytes);
                encode_varint(length, &mut bytes);
                self.take(length, &mut bytes)?;
                continue;
            }
            if left.replace((self.at, length)).is_some() {
                return None;
            }
            self.input.seek_relative(i64::try_from(length).ok()?).ok()?;
            self.at = body;
        }
        if let Some((offset, length)) = left {
            let pairs = [
                ("location", self.name.to_owned()),
                ("offset", offset.to_string()),
                ("length", length.to_string()),
            ];
            for (key, value) in pairs {
                push(REFERENCE, &proto::Pair { key: key.to_owned(), value }.encode_to_vec(), &mut bytes);
            }
            encode_key(LOCATION, WireType::Varint, &mut bytes);
            encode_varint(1, &mut bytes);
        }
        Some(bytes)
    }

    fn key(&mut self, end: u64) -> Option<(u32, WireType)> {
        let key = self.varint(end)?;
        let tag = u32::try_from(key >> 3).ok().filter(|&tag| tag > 0)?;
        Some((tag, WireType::try_from(key & 7).ok()?))
    }

    /// Reads a length and gives where the body ends, which must be inside what is around it.
    fn length(&mut self, end: u64) -> Option<u64> {
        let length = self.varint(end)?;
        self.at.checked_add(length).filter(|&body| body <= end)
    }

    fn varint(&mut self, end: u64) -> Option<u64> {
        let mut bytes = Vec::with_capacity(10);
        loop {
            if self.at >= end || bytes.len() == 10 {
                return None;
            }
            self.take(1, &mut bytes)?;
            if bytes.last().is_some_and(|byte| byte & 0x80 == 0) {
                return decode_varint(&mut &bytes[..]).ok();
            }
        }
    }

    fn copy(&mut self, tag: u32, kind: WireType, end: u64, bytes: &mut Vec<u8>) -> Option<()> {
        encode_key(tag, kind, bytes);
        let length = match kind {
            WireType::Varint => {
                let value = self.varint(end)?;
                encode_varint(value, bytes);
                return Some(());
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                let body = self.length(end)?;
                encode_varint(body - self.at, bytes);
                body - self.at
            }
            _ => return None,
        };
        self.at.checked_add(length).filter(|&body| body <= end)?;
        self.take(length, bytes)
    }

    fn take(&mut self, length: u64, bytes: &mut Vec<u8>) -> Option<()> {
        let read = self.input.by_ref().take(length).read_to_end(bytes).ok()?;
        self.at += length;
        (read as u64 == length).then_some(())
    }
}

fn push(tag: u32, body: &[u8], bytes: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, bytes);
    encode_varint(body.len() as u64, bytes);
    bytes.extend_from_slice(body);
}

/// Smaller weights stay: ONNX Runtime wants to see those that are shapes.
const LARGE: u64 = 1 << 16;

const GRAPH: u32 = 7;
const WEIGHT: u32 = 5;
const VALUES: u32 = 9;
const REFERENCE: u32 = 13;
const LOCATION: u32 = 14;

#[cfg(test)]
mod tests {
    use super::super::Graph;
    use super::*;

    /// A model with a large weight between two small ones.
    fn model() -> (Vec<u8>, Vec<u8>) {
        let large: Vec<u8> = (0..3 * LARGE as usize).map(|at| (at % 251) as u8).collect();
        let tensor = |name: &str, numbers: i64, values: &[u8]| {
            let facts = proto::TensorProto {
                name: name.into(),
                dims: vec![numbers],
                data_type: 1,
                ..Default::default()
            };
            let mut bytes = facts.encode_to_vec();
            push(VALUES, values, &mut bytes);
            bytes
        };
        let mut graph = Vec::new();
        push(WEIGHT, &tensor("first", 1, &[1, 2, 3, 4]), &mut graph);
        push(WEIGHT, &tensor("large", large.len() as i64 / 4, &large), &mut graph);
        push(WEIGHT, &tensor("last", 1, &[5, 6, 7, 8]), &mut graph);
        let mut bytes = vec![0x08, 9];
        push(GRAPH, &graph, &mut bytes);
        push(2, b"somebody", &mut bytes);
        (bytes, large)
    }

    #[test]
    fn large_weights_stay_in_the_file_and_come_back() {
        let (bytes, large) = model();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let short = outline(file.path()).unwrap();
        assert!(short.len() < 400, "{} bytes", short.len());
        let whole = Graph::parse(file.path(), &bytes).unwrap();
        let found = Graph::read(file.path()).unwrap();
        assert_eq!(found.initializers.len(), 3);
        assert_eq!(found.parameters(), whole.parameters());
        assert!(found.external.is_empty() && found.bytes == bytes.len() as u64);
        let numbers = super::super::values(file.path(), "large").unwrap();
        let expected: Vec<u32> = large.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
        assert!(numbers.iter().map(|number| number.to_bits()).eq(expected));
        // In another order of fields, the same model.
        let back = proto::Model::decode(&filled(file.path(), &short).unwrap()[..]).unwrap();
        assert_eq!(back, proto::Model::decode(&bytes[..]).unwrap());
        assert_eq!(filled(file.path(), &short).unwrap().len(), bytes.len());
    }

    #[test]
    fn a_file_that_became_shorter_is_refused() {
        let (bytes, _) = model();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let short = outline(file.path()).unwrap();
        std::fs::write(file.path(), &bytes[..bytes.len() / 2]).unwrap();
        let message = filled(file.path(), &short).unwrap_err().to_string();
        assert!(message.contains("changed while it was read"), "{message}");
    }

    proptest::proptest! {
        #[test]
        fn damaged_files_are_read_as_they_are(cut in 0usize..300, at in 0usize..300, with: u8) {
            let (mut bytes, _) = model();
            let file = tempfile::NamedTempFile::new().unwrap();
            bytes.truncate(bytes.len() - cut);
            let at = if at < 150 { at } else { bytes.len() - at };
            bytes[at] = with;
            std::fs::write(file.path(), &bytes).unwrap();
            let whole = Graph::parse(file.path(), &bytes).map(|graph| graph.parameters());
            let found = outline(file.path()).and_then(|bytes| Graph::parse(file.path(), &bytes));
            proptest::prop_assert_eq!(whole.is_ok(), found.is_ok());
        }
    }
}
