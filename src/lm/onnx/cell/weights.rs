//! The numbers of a recognised model's weights.

use std::collections::BTreeMap;

use super::super::bands::{Bands, Numbers};
use super::super::graph::{Dtype, Edit, Graph, Stored, outline};
use super::super::proto;
use super::super::session::{self, Source};
use super::layer::Weights;
use super::recognise::{Constant, Names, Recognised};
use crate::{Error, Result};

/// Reads weights: those that the file stores from there, those that are made of others from ONNX Runtime.
pub struct Reader<'a> {
    source: &'a Source,
    /// All of the file but its large weights.
    outline: Vec<u8>,
    made: BTreeMap<String, Vec<f32>>,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// If the file cannot be read, or ONNX Runtime cannot make a weight.
    pub fn new(source: &'a Source, graph: &Graph, model: &Recognised) -> Result<Self> {
        let layers = model
            .layers
            .iter()
            .flat_map(|layer| [Some(&layer.w), Some(&layer.r), layer.b.as_ref(), layer.p.as_ref()]);
        let ends = [Some(&model.embedding), Some(&model.matrix), model.bias.as_ref()];
        let made = layers.chain(ends).flatten().filter_map(|constant| match constant {
            Constant::Made(name) => Some(name.clone()),
            Constant::Stored(_) => None,
        });
        let mut made: Vec<String> = made.collect();
        made.sort_unstable();
        made.dedup();
        let values = if made.is_empty() { Vec::new() } else { run(source, graph, &made)? };
        let outline = outline(&source.path)?;
        Ok(Self { source, outline, made: made.into_iter().zip(values).collect() })
    }

    /// The numbers of one weight.
    ///
    /// # Errors
    /// If they are damaged or missing.
    pub fn values(&self, constant: &Constant) -> Result<Vec<f32>> {
        match constant {
            Constant::Stored(name) => Stored::new(&self.outline, &self.source.path, name)?.all(),
            Constant::Made(name) => Ok(self.made.get(name).cloned().unwrap_or_default()),
        }
    }

    /// A matrix with `tokens` rows, or columns if not `by_token`, to be read in bands of tokens.
    ///
    /// # Errors
    /// If it is damaged or missing.
    pub fn bands(&self, constant: &Constant, tokens: usize, by_token: bool) -> Result<Bands<'_>> {
        let numbers = match constant {
            Constant::Stored(name) => Numbers::Stored(Stored::new(&self.outline, &self.source.path, name)?),
            Constant::Made(name) => Numbers::Made(self.made.get(name).map_or(&[], |values| &values[..])),
        };
        Ok(Bands::new(numbers, tokens, by_token))
    }

    /// A layer's weights, for `input` numbers below.
    ///
    /// # Errors
    /// If their sizes do not fit.
    pub fn layer(&self, names: &Names, input: usize) -> Result<Weights> {
        let optional = |constant: &Option<Constant>| {
            constant.as_ref().map_or(Ok(Vec::new()), |constant| self.values(constant))
        };
        let (kind, size) = (names.kind, names.size);
        let (w, r) = (self.values(&names.w)?, self.values(&names.r)?);
        let (b, p) = (optional(&names.b)?, optional(&names.p)?);
        let rows = kind.gates() * size;
        let fits = size > 0
            && w.len() == rows * input
            && r.len() == rows * size
            && (b.is_empty() || b.len() == 2 * rows)
            && (p.is_empty() || p.len() == 3 * size);
        if !fits {
            return Err(Error::model(&self.source.path, "its weights do not fit together"));
        }
        Ok(Weights { kind, input, size, w, r, b, p })
    }
}

/// What ONNX Runtime makes of the weights behind some tensors.
fn run(source: &Source, graph: &Graph, names: &[String]) -> Result<Vec<Vec<f32>>> {
    let mut edits = vec![Edit::ForgetShapes];
    edits.extend(graph.outputs.iter().map(|output| Edit::RemoveOutput(output.name.clone())));
    edits.extend(graph.inputs.iter().map(|input| Edit::RemoveInput(input.name.clone())));
    edits.extend(names.iter().map(|name| {
        let tensor = proto::TensorType { elem_type: Dtype::FLOAT.0, shape: None };
        let r#type = Some(proto::TypeProto { tensor_type: Some(tensor) });
        Edit::AddOutput(proto::ValueInfo { name: name.clone(), r#type })
    }));
    edits.push(Edit::Prune);
    let mut stages = source.edits.clone();
    stages.push(edits.into());
    session::constants(&Source { edits: stages, ..source.clone() }, names)
}
