//! The numbers of a weight, wherever the model keeps them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use prost::Message;

use super::{Dtype, External, check, proto};
use crate::{Error, Result};

/// The numbers of the float32 weight called `name` in the model at `path`, row by row.
///
/// # Errors
/// If there is no such weight of that type, or its values are damaged or missing.
pub fn values(path: &Path, name: &str) -> Result<Vec<f32>> {
    let model = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    values_in(&model, path, name)
}

/// As [`values`], of a model whose bytes are at hand.
///
/// # Errors
/// As [`values`].
pub fn values_in(model: &[u8], path: &Path, name: &str) -> Result<Vec<f32>> {
    let fail = |what: &str| Error::model(path, format!("weight `{}` {what}", name.escape_debug()));
    let graph = proto::Fields(model).find_map(|(tag, body)| body.filter(|_| tag == 7)).unwrap_or_default();
    let mut tensors = proto::Fields(graph).filter(|&(tag, _)| tag == 5).filter_map(|(_, body)| body);
    let named =
        |tensor: &&[u8]| proto::Fields(tensor).any(|(tag, body)| tag == 8 && body == Some(name.as_bytes()));
    let tensor = tensors.find(named).ok_or_else(|| fail("is not there"))?;
    let summary = proto::TensorProto::decode(tensor).map_err(|_| fail("is damaged"))?;
    if Dtype(summary.data_type) != Dtype::FLOAT {
        return Err(fail("is not float32"));
    }
    let count = summary.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let count = count.ok_or_else(|| fail("has dimensions that make no sense"))?;
    let field = |wanted| proto::Fields(tensor).find_map(|(tag, body)| body.filter(|_| tag == wanted));
    let bytes = match External::of(&summary) {
        Some(part) => {
            check::external(path, std::slice::from_ref(&part))?;
            read(path, &part, count)?
        }
        // Raw bytes, or a packed list of floats: the same bytes.
        None => field(9).or_else(|| field(4)).unwrap_or_default().to_vec(),
    };
    let (numbers, rest) = bytes.as_chunks::<4>();
    if numbers.len() != count || !rest.is_empty() {
        return Err(fail("holds another number of values than its dimensions say"));
    }
    Ok(numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
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

fn read(model: &Path, part: &External, count: usize) -> Result<Vec<u8>> {
    let path = model.parent().unwrap_or(Path::new("")).join(&part.file);
    let fail = |e| Error::io(&path, e);
    let mut file = File::open(&path).map_err(fail)?;
    let offset = u64::try_from(part.offset).unwrap_or(0);
    file.seek(SeekFrom::Start(offset)).map_err(fail)?;
    let left = file.metadata().map_err(fail)?.len().saturating_sub(offset);
    let length = part.length.and_then(|length| u64::try_from(length).ok()).unwrap_or(left).min(left);
    let mut bytes = Vec::new();
    // No more than the dimensions need, and no more than there is.
    file.take(length.min(count as u64 * 4)).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

const MOST_LISTED: usize = 8;
/// Eight numbers with a name and whatever an exporter has to say about them.
const MOST_BYTES: usize = 4096;
