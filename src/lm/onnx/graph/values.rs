//! The numbers of a weight, wherever the model keeps them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use prost::Message;

use super::{Dtype, External, check, outline, proto};
use crate::{Error, Result};

/// A weight of 32 or 16 bits of floating point that can be read, whole or in parts, as float32.
#[derive(Debug)]
pub struct Stored {
    /// Its dimensions.
    pub dims: Vec<usize>,
    place: Place,
    half: bool,
}

#[derive(Debug)]
enum Place {
    Here(Vec<u8>),
    File { file: File, path: PathBuf, offset: u64 },
}

/// All numbers of the float32 weight called `name` in the model at `path`, row by row.
///
/// # Errors
/// If there is no such weight of that type, or its values are damaged or missing.
pub fn values(path: &Path, name: &str) -> Result<Vec<f32>> {
    Stored::new(&outline::outline(path)?, path, name)?.all()
}

impl Stored {
    /// The weight called `name` of the model at `path`, of which `model` is the bytes or the
    /// [`outline`](super::outline).
    ///
    /// # Errors
    /// If there is no such weight of that type, or its values are damaged or missing.
    pub fn new(model: &[u8], path: &Path, name: &str) -> Result<Self> {
        let fail = |what: &str| Error::model(path, format!("weight `{}` {what}", name.escape_debug()));
        let graph =
            proto::Fields(model).find_map(|(tag, body)| body.filter(|_| tag == 7)).unwrap_or_default();
        let mut tensors = proto::Fields(graph).filter(|&(tag, _)| tag == 5).filter_map(|(_, body)| body);
        let named = |tensor: &&[u8]| {
            proto::Fields(tensor).any(|(tag, body)| tag == 8 && body == Some(name.as_bytes()))
        };
        let tensor = tensors.find(named).ok_or_else(|| fail("is not there"))?;
        let summary = proto::TensorProto::decode(tensor).map_err(|_| fail("is damaged"))?;
        let half = Dtype(summary.data_type) == Dtype::FLOAT16;
        if !half && Dtype(summary.data_type) != Dtype::FLOAT {
            return Err(fail("is not float32"));
        }
        let size = if half { 2 } else { 4 };
        let senseless = || fail("has dimensions that make no sense");
        let dims: Vec<usize> = summary
            .dims
            .iter()
            .map(|&d| usize::try_from(d).ok())
            .collect::<Option<_>>()
            .ok_or_else(senseless)?;
        let count = dims.iter().try_fold(size, |n: usize, &d| n.checked_mul(d)).ok_or_else(senseless)?;
        let field = |wanted| proto::Fields(tensor).find_map(|(tag, body)| body.filter(|_| tag == wanted));
        let (place, there) = match External::of(&summary) {
            Some(part) => {
                let file = match outline::is_own(path, &part) {
                    true => path.to_path_buf(),
                    false => {
                        check::external(path, std::slice::from_ref(&part))?;
                        path.parent().unwrap_or(Path::new("")).join(&part.file)
                    }
                };
                in_file(file, &part)?
            }
            // Raw bytes, or a packed list of floats: the same bytes.
            None => {
                let bytes = field(9).or_else(|| field(4).filter(|_| !half)).unwrap_or_default().to_vec();
                let length = bytes.len() as u64;
                (Place::Here(bytes), length)
            }
        };
        // No more than the dimensions need is read of a file.
        let fits = match place {
            Place::Here(_) => there == count as u64,
            Place::File { .. } => there >= count as u64,
        };
        match fits {
            true => Ok(Self { dims, place, half }),
            false => Err(fail("holds another number of values than its dimensions say")),
        }
    }

    /// How many numbers it has.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// All of its numbers, row by row.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn all(&self) -> Result<Vec<f32>> {
        let mut numbers = vec![0.0; self.count()];
        self.read(0, &mut numbers)?;
        Ok(numbers)
    }

    /// Its numbers from number `first` on.
    ///
    /// # Errors
    /// If they cannot be read.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn read(&self, first: usize, numbers: &mut [f32]) -> Result<()> {
        assert!(first + numbers.len() <= self.count(), "more numbers than there are");
        let size = if self.half { 2 } else { 4 };
        match &self.place {
            Place::Here(bytes) => self.decode(&bytes[first * size..], numbers),
            Place::File { file, path, offset } => {
                let fail = |e| Error::io(path, e);
                let mut file = file;
                file.seek(SeekFrom::Start(offset + (size * first) as u64)).map_err(fail)?;
                let mut buffer = vec![0; size * numbers.len().min(AT_ONCE)];
                for numbers in numbers.chunks_mut(AT_ONCE) {
                    let bytes = &mut buffer[..size * numbers.len()];
                    file.read_exact(bytes).map_err(fail)?;
                    self.decode(bytes, numbers);
                }
            }
        }
        Ok(())
    }

    fn decode(&self, bytes: &[u8], numbers: &mut [f32]) {
        if self.half {
            for (number, &bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
                *number = from_half(u16::from_le_bytes(bytes));
            }
            return;
        }
        for (number, &bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
            *number = f32::from_le_bytes(bytes);
        }
    }
}

/// The lists of at most [`MOST_LISTED`] int64 numbers among the weights of a model's bytes.
pub(super) fn lists(model: &[u8]) -> BTreeMap<String, Vec<i64>> {
    let graph = proto::Fields(model).find_map(|(tag, body)| body.filter(|_| tag == 7)).unwrap_or_default();
    let tensors = proto::Fields(graph).filter(|&(tag, _)| tag == 5).filter_map(|(_, body)| body);
    let list = |tensor: &[u8]| {
        // Long before it is decoded, a large weight is known by its size.
        let short = Some(tensor).filter(|tensor| tensor.len() < MOST_BYTES)?;
        let summary = proto::TensorProto::decode(short).ok()?;
        if Dtype(summary.data_type) != Dtype::INT64 || External::of(&summary).is_some() {
            return None;
        }
        let raw = proto::Fields(tensor).find_map(|(tag, body)| body.filter(|_| tag == 9)).unwrap_or_default();
        let raw = raw.as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes));
        let numbers: Vec<i64> = raw.chain(summary.int64_data).collect();
        (numbers.len() <= MOST_LISTED).then_some((summary.name, numbers))
    };
    tensors.filter_map(list).collect()
}

/// Where a part of a file is, and how many bytes there are of it.
fn in_file(path: PathBuf, part: &External) -> Result<(Place, u64)> {
    let fail = |e| Error::io(&path, e);
    let file = File::open(&path).map_err(fail)?;
    let offset = u64::try_from(part.offset).unwrap_or(0);
    let left = file.metadata().map_err(fail)?.len().saturating_sub(offset);
    let length = part.length.and_then(|length| u64::try_from(length).ok()).unwrap_or(left).min(left);
    Ok((Place::File { file, path, offset }, length))
}

/// A 16-bit number of IEEE 754.
fn from_half(bits: u16) -> f32 {
    let (sign, exponent, digits) =
        (u32::from(bits >> 15) << 31, u32::from(bits >> 10 & 31), u32::from(bits & 1023));
    let magnitude = match exponent {
        0 => (digits as f32 / (1u32 << 24) as f32).to_bits(),
        31 => 0xff << 23 | digits << 13,
        _ => (exponent + 112) << 23 | digits << 13,
    };
    f32::from_bits(sign | magnitude)
}

const MOST_LISTED: usize = 8;
/// Eight numbers with a name and whatever an exporter has to say about them.
const MOST_BYTES: usize = 4096;
/// Numbers that are read at once.
const AT_ONCE: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_read_as_ieee_754_has_it() {
        for (bits, number) in [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 1365.0 / 4096.0),
            (0x7bff, 65504.0),
            (0x0400, 1.0 / 16_384.0),
            (0x0001, 1.0 / 16_777_216.0),
            (0x83ff, -1023.0 / 16_777_216.0),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(from_half(bits).to_bits(), f32::to_bits(number), "{bits:#06x}");
        }
        assert!(from_half(0x7e01).is_nan());
    }
}
