//! ONNX files written by hand, byte by byte: whatever a file can say, right or wrong.

/// Protobuf: a field with a length.
pub fn field(tag: u64, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [varint(tag << 3 | 2), varint(body.len() as u64), body.to_vec()].concat()
}

/// Protobuf: a number.
pub fn number(tag: u64, value: i64) -> Vec<u8> {
    [varint(tag << 3), varint(value as u64)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A node; each attribute as [`int`] or [`graph_attribute`] gives it.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let names = |tag, names: &[&str]| names.iter().map(|name| field(tag, name)).collect::<Vec<_>>().concat();
    let attributes: Vec<u8> = attributes.iter().flat_map(|attribute| field(5, attribute)).collect();
    [names(1, inputs), names(2, outputs), field(4, op), attributes].concat()
}

pub fn int(name: &str, value: i64) -> Vec<u8> {
    [field(1, name), number(3, value), number(20, 2)].concat()
}

pub fn graph_attribute(name: &str, graph: &[u8]) -> Vec<u8> {
    [field(1, name), field(6, graph), number(20, 5)].concat()
}

pub fn tensor_attribute(name: &str, tensor: &[u8]) -> Vec<u8> {
    [field(1, name), field(5, tensor), number(20, 4)].concat()
}

/// A tensor with its values inside.
pub fn tensor(name: &str, dtype: i64, dims: &[i64], raw: &[u8]) -> Vec<u8> {
    [header(name, dtype, dims), field(9, raw)].concat()
}

/// A tensor whose values lie in another file.
pub fn outside(name: &str, dims: &[i64], pairs: &[(&str, &str)]) -> Vec<u8> {
    let pairs: Vec<u8> =
        pairs.iter().flat_map(|(key, value)| field(13, [field(1, key), field(2, value)].concat())).collect();
    [header(name, 1, dims), pairs, number(14, 1)].concat()
}

fn header(name: &str, dtype: i64, dims: &[i64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
    [dims, number(2, dtype), field(8, name)].concat()
}

pub fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// An input or output; a dimension is a size or a name.
pub fn value(name: &str, dtype: i64, dims: &[&str]) -> Vec<u8> {
    let dim = |dim: &&str| dim.parse().map_or_else(|_| field(2, dim), |size| number(1, size));
    let shape: Vec<u8> = dims.iter().flat_map(|text| field(1, dim(text))).collect();
    let tensor = [number(1, dtype), field(2, shape)].concat();
    [field(1, name), field(2, field(1, tensor))].concat()
}

/// What goes into a graph.
#[derive(Clone, Default)]
pub struct Graph {
    pub nodes: Vec<Vec<u8>>,
    pub weights: Vec<Vec<u8>>,
    pub inputs: Vec<Vec<u8>>,
    pub outputs: Vec<Vec<u8>>,
    pub others: Vec<u8>,
}

impl Graph {
    pub fn bytes(&self) -> Vec<u8> {
        let all =
            |tag, parts: &[Vec<u8>]| parts.iter().flat_map(|part| field(tag, part)).collect::<Vec<u8>>();
        [
            all(1, &self.nodes),
            field(2, "graph"),
            all(5, &self.weights),
            all(11, &self.inputs),
            all(12, &self.outputs),
            self.others.clone(),
        ]
        .concat()
    }

    /// A model file with this graph.
    pub fn model(&self) -> Vec<u8> {
        self.with(&[("bos_id", "0"), ("eos_id", "1"), ("unk_id", "2")])
    }

    pub fn with(&self, metadata: &[(&str, &str)]) -> Vec<u8> {
        let metadata: Vec<u8> = metadata
            .iter()
            .flat_map(|(key, value)| field(14, [field(1, key), field(2, value)].concat()))
            .collect();
        [number(1, 8), field(7, self.bytes()), opset("", 17), metadata].concat()
    }
}

pub fn opset(domain: &str, version: i64) -> Vec<u8> {
    field(8, [field(1, domain), number(2, version)].concat())
}

pub const FLOAT: i64 = 1;
pub const INT64: i64 = 7;
/// Tokens of [`bigram`].
pub const SIZE: usize = 8;

/// A model that runs: the scores of a token depend on the one before.
pub fn bigram() -> Graph {
    let table = floats((0..SIZE * SIZE).map(|n| (n * 37 % 101) as f32 / 20.0));
    Graph {
        nodes: vec![
            node("Gather", &["table", "ids"], &["logits"], &[]),
            node("LogSoftmax", &["logits"], &["scores"], &[int("axis", -1)]),
        ],
        weights: vec![tensor("table", FLOAT, &[SIZE as i64, SIZE as i64], &table)],
        inputs: vec![value("ids", INT64, &["N", "L"])],
        outputs: vec![value("scores", FLOAT, &["N", "L", "8"])],
        others: Vec::new(),
    }
}

/// The vocabulary that goes with [`bigram`].
pub const TOKENS: &str = "<s> 0\n</s> 1\n<unk> 2\na 3\nb 4\nc 5\nd 6\ne 7\n";
