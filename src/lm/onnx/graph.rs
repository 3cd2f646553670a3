//! What a model file says about itself, read before ONNX Runtime sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use prost::Message;

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
    /// Files beside the model that hold weights.
    pub external: Vec<PathBuf>,
    /// Whether any tensor or conversion is 16-bit floating point.
    pub half: bool,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// Its element type; [`Dtype::UNDEFINED`] for what is no tensor.
    pub dtype: Dtype,
    /// Its dimensions; `None` where not even the rank is declared.
    pub dims: Option<Vec<Dim>>,
}

/// A weight: its name and shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions.
    pub dims: Vec<i64>,
}

/// One dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A fixed size.
    Fixed(usize),
    /// A symbol: equal symbols are equal sizes.
    Symbol(String),
    /// Anything.
    Unknown,
}

/// An ONNX element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dtype(pub i32);

impl Dtype {
    /// No tensor, or not declared.
    pub const UNDEFINED: Self = Self(0);
    /// 32-bit floating point.
    pub const FLOAT: Self = Self(1);
    /// 64-bit integers.
    pub const INT64: Self = Self(7);
    /// 16-bit floating point.
    pub const FLOAT16: Self = Self(10);
    /// 16-bit floating point with 8 bits of exponent.
    pub const BFLOAT16: Self = Self(16);
}

impl Graph {
    /// Reads the summary of the model at `path`. The weights are not copied.
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
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let graph = Self::parse(path, &bytes)?;
        graph.check_external()?;
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
        let weights: std::collections::HashSet<&str> =
            graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        summary.inputs = graph
            .input
            .iter()
            .filter(|input| !weights.contains(input.name.as_str()))
            .map(Value::new)
            .collect();
        summary.half = summary.inputs.iter().chain(&summary.outputs).any(|value| value.dtype.is_half());
        summary.walk(&graph);
        for function in &model.functions {
            summary.nodes(&function.node);
        }
        summary.external.sort();
        summary.external.dedup();
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
        self.nodes(&graph.node);
    }

    fn nodes(&mut self, nodes: &[proto::Node]) {
        for node in nodes {
            let name = match node.domain.as_str() {
                "" | "ai.onnx" => node.op_type.clone(),
                domain => format!("{domain}::{}", node.op_type),
            };
            *self.ops.entry(name).or_default() += 1;
            for attribute in &node.attribute {
                // The target type of Cast.
                self.half |= attribute.name == "to" && [10, 16].contains(&attribute.i);
                if let Some(tensor) = &attribute.t {
                    self.tensor(tensor);
                }
                for graph in attribute.g.iter().chain(&attribute.graphs) {
                    self.walk(graph);
                }
            }
        }
    }

    fn tensor(&mut self, tensor: &proto::TensorProto) {
        self.half |= Dtype(tensor.data_type).is_half();
        let location = tensor.external_data.iter().find(|pair| pair.key == "location");
        if tensor.data_location == 1 || location.is_some() {
            self.external.push(location.map(|pair| pair.value.clone()).unwrap_or_default().into());
        }
    }

    /// Weight files must lie in the model's directory, links resolved.
    fn check_external(&self) -> Result<()> {
        let fail = |what: String| Err(Error::model(&self.path, what));
        let directory = self.path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let root = directory.canonicalize().map_err(|e| Error::io(directory, e))?;
        for location in &self.external {
            let shown = location.display();
            if location.as_os_str().is_empty()
                || !location.components().all(|c| matches!(c, Component::Normal(_)))
            {
                return fail(format!(
                    "its weights lie in `{shown}`, outside the model's directory; export it again"
                ));
            }
            match root.join(location).canonicalize() {
                Ok(file) if !file.starts_with(&root) => {
                    return fail(format!(
                        "`{shown}` leads outside the model's directory; copy the file itself there"
                    ));
                }
                Ok(file) if file.is_file() => {}
                _ => {
                    return fail(format!(
                        "its weights are in `{shown}`, which is missing; copy it beside the model"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Dtype {
    fn is_half(self) -> bool {
        self == Self::FLOAT16 || self == Self::BFLOAT16
    }
}

impl Value {
    fn new(info: &proto::ValueInfo) -> Self {
        let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        Self {
            name: info.name.clone(),
            dtype: Dtype(tensor.map_or(0, |t| t.elem_type)),
            dims: tensor.and_then(|t| t.shape.as_ref()).map(|shape| shape.dim.iter().map(Dim::new).collect()),
        }
    }
}

impl Weight {
    fn new(tensor: &proto::TensorProto) -> Self {
        Self { name: tensor.name.clone(), dtype: Dtype(tensor.data_type), dims: tensor.dims.clone() }
    }
}

impl Dim {
    fn new(dim: &proto::Dimension) -> Self {
        match (dim.dim_value, &dim.dim_param) {
            (Some(size), _) => usize::try_from(size).map_or(Self::Unknown, Self::Fixed),
            (None, Some(symbol)) if !symbol.is_empty() => Self::Symbol(symbol.clone()),
            _ => Self::Unknown,
        }
    }
}

/// As the field writes it: `tokens int64 [N, L]`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.name, self.dtype)?;
        match &self.dims {
            Some(dims) => {
                let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
                write!(f, "[{}]", dims.join(", "))
            }
            None => f.write_str("[..]"),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Symbol(symbol) => f.write_str(symbol),
            Self::Unknown => f.write_str("?"),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DTYPES.get(usize::try_from(self.0).unwrap_or(usize::MAX)) {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

const DTYPES: [&str; 17] = [
    "undefined",
    "float32",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "float64",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
];

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
                node: vec![node.clone(), node],
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
        assert_eq!(Graph::read(&path).unwrap().external, [PathBuf::from("m.data")]);
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
