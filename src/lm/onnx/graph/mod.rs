//! What a model file says about itself, read before ONNX Runtime sees it.

mod check;
mod outline;
pub mod rewrite;
mod types;
mod values;
mod walk;
mod wire;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use prost::Message;

pub use outline::{filled, outline, place};
pub use types::{Dim, Dtype, Value, Weight};
pub use values::{Stored, values};
pub use walk::{Ending, Projection, Walk, attribute};
pub use wire::{Edit, apply};

use super::proto;
use crate::{Error, Result};

/// A summary of an ONNX file: everything but the weights.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The file.
    pub path: PathBuf,
    /// Its size, without external data.
    pub bytes: u64,
    /// Version of the file format.
    pub ir_version: i64,
    /// The program that wrote it.
    pub producer: String,
    /// Operator sets and their versions; the standard set has no name.
    pub opsets: Vec<(String, i64)>,
    /// True inputs, weights left out.
    pub inputs: Vec<Value>,
    /// Outputs.
    pub outputs: Vec<Value>,
    /// Free key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// How often each operator occurs; `domain::Name` outside the standard set.
    pub ops: BTreeMap<String, usize>,
    /// Weights.
    pub initializers: Vec<Weight>,
    /// Weights that lie in files beside the model.
    pub external: Vec<External>,
    /// Whether any tensor or conversion is 16-bit floating point.
    pub half: bool,
    /// Short lists of integers among the weights: shapes, mostly.
    pub(super) lists: BTreeMap<String, Vec<i64>>,
    /// Operations of the main graph.
    pub(super) nodes: Vec<proto::Node>,
}

impl Graph {
    /// Reads the summary of the model at `path`. Large weights are left where they are.
    ///
    /// # Errors
    /// If the file cannot be read, is no ONNX model or damaged, is over the size limits, or
    /// names weight files outside its directory.
    pub fn read(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !size.is_file() {
            return Err(Error::model(path, "not a file; name the .onnx file itself"));
        }
        if size.len() > MAX_BYTES {
            return Err(Error::Limit {
                what: format!("{}: bytes of the model file", path.display()),
                limit: MAX_BYTES,
                got: size.len(),
            });
        }
        let bytes = outline(path)?;
        let graph = Self { bytes: size.len(), ..Self::parse(path, &bytes)? };
        check::weights(path, &bytes)?;
        check::external(path, &graph.external)?;
        Ok(graph)
    }

    /// The summary of a model whose bytes are `bytes`; `path` is what messages call it.
    ///
    /// # Errors
    /// If they are no ONNX model or damaged. Never panics for any bytes.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let fail = |what: &str| Error::model(path, what);
        if bytes.is_empty() {
            return Err(fail("the file is empty; copy or export the model again"));
        }
        if bytes.starts_with(b"version https://git-lfs") {
            return Err(fail("a Git LFS pointer, not the model; run `git lfs pull`"));
        }
        let elements = proto::elements(bytes).unwrap_or(0) as u64;
        if elements > MAX_ELEMENTS {
            return Err(Error::Limit {
                what: format!("{}: elements of the graph", path.display()),
                limit: MAX_ELEMENTS,
                got: elements,
            });
        }
        let damaged = |_| {
            fail(match bytes[0] {
                // ir_version comes first in every exporter's files.
                0x08 => "a damaged or truncated ONNX model; copy or export it again",
                _ => "not an ONNX model",
            })
        };
        let model = proto::Model::decode(bytes).map_err(damaged)?;
        let graph = model.graph.ok_or_else(|| fail("not an ONNX model: it has no graph"))?;
        let mut summary = Self {
            path: path.to_path_buf(),
            bytes: bytes.len() as u64,
            ir_version: model.ir_version,
            producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
            opsets: model.opset_import.into_iter().map(|set| (set.domain, set.version)).collect(),
            metadata: model.metadata_props.into_iter().map(|pair| (pair.key, pair.value)).collect(),
            outputs: graph.output.iter().map(Value::new).collect(),
            initializers: graph.initializer.iter().map(Weight::new).collect(),
            ..Self::default()
        };
        let weights: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        summary.inputs = graph
            .input
            .iter()
            .filter(|input| !weights.contains(input.name.as_str()))
            .map(Value::new)
            .collect();
        summary.half = summary.inputs.iter().chain(&summary.outputs).any(|value| value.dtype.is_half());
        summary.walk(&graph);
        for function in &model.functions {
            summary.count(&function.node);
        }
        summary.external.retain(|part| !outline::is_own(path, part));
        summary.external.sort();
        summary.external.dedup();
        check::operators(&summary.ops, &model.functions).map_err(|what| fail(&what))?;
        check::order(&graph).map_err(|what| fail(&what))?;
        summary.lists = values::lists(bytes);
        summary.nodes = graph.node;
        Ok(summary)
    }

    /// The input of that name.
    pub fn input(&self, name: &str) -> Option<&Value> {
        self.inputs.iter().find(|value| value.name == name)
    }

    /// The output of that name.
    pub fn output(&self, name: &str) -> Option<&Value> {
        self.outputs.iter().find(|value| value.name == name)
    }

    /// How many numbers all weights have, as declared.
    pub fn parameters(&self) -> u64 {
        let count = |weight: &Weight| {
            weight.dims.iter().fold(1u64, |n, &d| n.saturating_mul(u64::try_from(d).unwrap_or(0)))
        };
        self.initializers.iter().fold(0, |n, weight| n.saturating_add(count(weight)))
    }

    fn walk(&mut self, graph: &proto::GraphProto) {
        for tensor in &graph.initializer {
            self.tensor(tensor);
        }
        graph.sparse_initializer.iter().for_each(|tensor| self.sparse(tensor));
        self.count(&graph.node);
    }

    fn count(&mut self, nodes: &[proto::Node]) {
        for node in nodes {
            let name = match node.domain.as_str() {
                "" | "ai.onnx" => node.op_type.clone(),
                domain => format!("{domain}::{}", node.op_type),
            };
            *self.ops.entry(name).or_default() += 1;
            for attribute in &node.attribute {
                // The target type of Cast.
                self.half |= attribute.name == "to" && [10, 16].contains(&attribute.i);
                for tensor in attribute.t.iter().chain(&attribute.tensors) {
                    self.tensor(tensor);
                }
                for tensor in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
                    self.sparse(tensor);
                }
                for graph in attribute.g.iter().chain(&attribute.graphs) {
                    self.walk(graph);
                }
            }
        }
    }

    fn sparse(&mut self, tensor: &proto::SparseTensor) {
        for tensor in tensor.values.iter().chain(&tensor.indices) {
            self.tensor(tensor);
        }
    }

    fn tensor(&mut self, tensor: &proto::TensorProto) {
        self.half |= Dtype(tensor.data_type).is_half();
        if let Some(part) = External::of(tensor) {
            self.external.push(part);
        }
    }
}

/// Where the values of a weight lie that are not in the model's own file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct External {
    /// The file, as the model names it.
    pub file: PathBuf,
    /// The first byte.
    pub offset: i64,
    /// How many bytes, if the model says so.
    pub length: Option<i64>,
}

impl External {
    fn of(tensor: &proto::TensorProto) -> Option<Self> {
        let text =
            |key: &str| tensor.external_data.iter().find(|pair| pair.key == key).map(|pair| &pair.value);
        let location = text("location");
        // What is no number is refused as one that makes no sense.
        let number = |key| text(key).map(|text| text.trim().parse().unwrap_or(-1));
        (tensor.data_location == 1 || location.is_some()).then(|| Self {
            file: location.cloned().unwrap_or_default().into(),
            offset: number("offset").unwrap_or(0),
            length: number("length"),
        })
    }
}

/// Protobuf's own limit.
const MAX_BYTES: u64 = 1 << 31;
/// The largest graphs in the field (unrolled ones) have some 10^5 nodes.
const MAX_ELEMENTS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Graph> {
        Graph::parse(Path::new("m.onnx"), bytes)
    }

    fn model() -> proto::Model {
        let value = |name: &str| proto::ValueInfo { name: name.into(), r#type: None };
        let weight =
            proto::TensorProto { name: "w".into(), dims: vec![2, 3], data_type: 1, ..Default::default() };
        let node = proto::Node { op_type: "LSTM".into(), ..Default::default() };
        proto::Model {
            ir_version: 9,
            graph: Some(proto::GraphProto {
                node: vec![proto::Node { output: vec!["y".into()], ..node.clone() }, node],
                initializer: vec![weight],
                input: vec![value("x"), value("w")],
                output: vec![value("y")],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn weights_listed_as_inputs_are_no_inputs() {
        let graph = parse(&model().encode_to_vec()).unwrap();
        assert_eq!(graph.inputs.len(), 1);
        assert_eq!(graph.inputs[0].to_string(), "x undefined [..]");
        assert_eq!(graph.ops["LSTM"], 2);
        assert_eq!(graph.parameters(), 6);
        assert!(!graph.half);
    }

    #[test]
    fn damaged_files_are_refused_in_one_sentence() {
        let bytes = model().encode_to_vec();
        for (what, bytes) in [
            ("the file is empty", &b""[..]),
            ("not an ONNX model", b"hello, this is a text file\n"),
            ("not an ONNX model", &[0xff; 100]),
            ("Git LFS", b"version https://git-lfs.github.com/spec/v1"),
            ("damaged or truncated", &bytes[..bytes.len() - 1]),
            ("no graph", &[0x08, 0x09]),
        ] {
            let message = parse(bytes).unwrap_err().to_string();
            assert!(message.contains(what) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_flood_of_empty_messages_is_refused_before_it_is_built() {
        let mut graph = Vec::new();
        (0..MAX_ELEMENTS + 1).for_each(|_| graph.extend([0x0a, 0]));
        let mut bytes = vec![0x3a];
        prost::encoding::encode_varint(graph.len() as u64, &mut bytes);
        bytes.extend(graph);
        assert!(matches!(parse(&bytes), Err(Error::Limit { .. })));
    }

    #[test]
    fn weight_files_must_lie_beside_the_model() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.onnx");
        let mut model = model();
        for (location, what) in
            [("/etc/passwd", "outside"), ("../m.data", "outside"), ("", "outside"), ("m.data", "missing")]
        {
            let graph = model.graph.as_mut().unwrap();
            graph.initializer[0].external_data =
                vec![proto::Pair { key: "location".into(), value: location.into() }];
            std::fs::write(&path, model.encode_to_vec()).unwrap();
            let message = Graph::read(&path).unwrap_err().to_string();
            assert!(message.contains(what), "{location}: {message}");
        }
        std::fs::write(directory.path().join("m.data"), b"x").unwrap();
        assert_eq!(Graph::read(&path).unwrap().external[0].file, Path::new("m.data"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), at in 0usize..200, with: u8) {
            let _ = parse(&bytes);
            let mut damaged = model().encode_to_vec();
            let at = at % damaged.len();
            damaged[at] = with;
            let _ = parse(&damaged);
        }
    }
}
