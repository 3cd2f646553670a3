//! Changing a model file without decoding it: fields that are not touched, known here or not, keep
//! their bytes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use prost::Message;

use super::proto;

/// A change of the graph. Nodes are counted as they stand in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// A further input.
    AddInput(proto::ValueInfo),
    /// An input less.
    RemoveInput(String),
    /// A further output.
    AddOutput(proto::ValueInfo),
    /// Another type for the input of that name.
    Input(proto::ValueInfo),
    /// Another type for the output of that name.
    Output(proto::ValueInfo),
    /// An output less.
    RemoveOutput(String),
    /// A node before all others.
    Prepend(proto::Node),
    /// A node after all others.
    Append(proto::Node),
    /// What a node reads at one place, named; places after its last are filled with nothing.
    Read {
        /// The node.
        node: usize,
        /// Which of its inputs.
        at: usize,
        /// The tensor.
        name: String,
    },
    /// What a node writes at one place.
    Write {
        /// The node.
        node: usize,
        /// Which of its outputs.
        at: usize,
        /// The tensor.
        name: String,
    },
    /// Another node in the place of one.
    Replace {
        /// The node.
        node: usize,
        /// The other.
        with: proto::Node,
    },
    /// A further weight.
    AddWeight(proto::TensorProto),
    /// Shapes that an exporter noted for the tensors inside: no longer true.
    ForgetShapes,
    /// Nodes and weights that no output needs are left out.
    Prune,
}

/// The model with the changes made, in order.
///
/// # Errors
/// If the bytes are no model as they should be: what is wrong.
pub fn apply(model: &[u8], edits: &[Edit]) -> Result<Vec<u8>, String> {
    let outer = fields(model)?;
    let mut graphs = outer.iter().filter(|field| field.tag == GRAPH);
    let (Some(graph), None) = (graphs.next(), graphs.next()) else {
        return Err("a model file should hold one graph".to_owned());
    };
    let body = graph.body(model);
    let mut graph = Parts::read(body)?;
    for edit in edits {
        graph.apply(edit)?;
    }
    let changed = graph.bytes();
    let mut bytes = Vec::with_capacity(model.len() - body.len() + changed.len() + 10);
    for field in &outer {
        match field.tag {
            GRAPH => push(GRAPH, &changed, &mut bytes),
            _ => bytes.extend_from_slice(&model[field.whole.clone()]),
        }
    }
    Ok(bytes)
}

/// A field's number, and where it and its body lie in the message.
struct Field {
    tag: u32,
    whole: Range<usize>,
    body: Range<usize>,
}

impl Field {
    fn body<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        &message[self.body.clone()]
    }
}

/// The fields of a message, one after the other without a gap.
fn fields(message: &[u8]) -> Result<Vec<Field>, String> {
    let mut rest = proto::Fields(message);
    let mut found = Vec::new();
    let mut start = 0;
    while start < message.len() {
        let (tag, body) = rest.next().ok_or("damaged where it should be rewritten")?;
        let end = message.len() - rest.0.len();
        let length = body.map_or(0, <[u8]>::len);
        found.push(Field { tag, whole: start..end, body: end - length..end });
        start = end;
    }
    Ok(found)
}

/// The graph in pieces: what was not touched lies in the file still.
struct Parts<'a> {
    graph: &'a [u8],
    others: Vec<Field>,
    nodes: Vec<Piece<'a>>,
    inputs: Vec<Piece<'a>>,
    outputs: Vec<Piece<'a>>,
    weights: Vec<Piece<'a>>,
    first: Vec<Vec<u8>>,
    last: Vec<Vec<u8>>,
}

/// A message as it was, or as it is now; nothing if it is left out.
enum Piece<'a> {
    Old(&'a [u8]),
    New(Vec<u8>),
    Gone,
}

impl<'a> Piece<'a> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Old(bytes) => bytes,
            Self::New(bytes) => bytes,
            Self::Gone => &[],
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }
}

impl<'a> Parts<'a> {
    fn read(graph: &'a [u8]) -> Result<Self, String> {
        let mut parts = Self {
            graph,
            others: Vec::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            weights: Vec::new(),
            first: Vec::new(),
            last: Vec::new(),
        };
        for field in fields(graph)? {
            let list = match field.tag {
                NODE => &mut parts.nodes,
                WEIGHT => &mut parts.weights,
                INPUT => &mut parts.inputs,
                OUTPUT => &mut parts.outputs,
                _ => {
                    parts.others.push(field);
                    continue;
                }
            };
            list.push(Piece::Old(field.body(graph)));
        }
        Ok(parts)
    }

    fn apply(&mut self, edit: &Edit) -> Result<(), String> {
        match edit {
            Edit::AddInput(value) => self.inputs.push(Piece::New(value.encode_to_vec())),
            Edit::AddOutput(value) => self.outputs.push(Piece::New(value.encode_to_vec())),
            Edit::Input(value) => {
                *named(&mut self.inputs, &value.name)? = Piece::New(value.encode_to_vec());
            }
            Edit::Output(value) => {
                *named(&mut self.outputs, &value.name)? = Piece::New(value.encode_to_vec());
            }
            Edit::RemoveInput(name) => *named(&mut self.inputs, name)? = Piece::Gone,
            Edit::RemoveOutput(name) => *named(&mut self.outputs, name)? = Piece::Gone,
            Edit::Prepend(node) => self.first.push(node.encode_to_vec()),
            Edit::Append(node) => self.last.push(node.encode_to_vec()),
            Edit::Read { node, at, name } => self.rename(*node, 1, *at, name)?,
            Edit::Write { node, at, name } => self.rename(*node, 2, *at, name)?,
            Edit::Replace { node, with } => {
                *self.nodes.get_mut(*node).ok_or("a node that is not there")? =
                    Piece::New(with.encode_to_vec());
            }
            Edit::AddWeight(tensor) => self.weights.push(Piece::New(tensor.encode_to_vec())),
            Edit::ForgetShapes => self.others.retain(|field| field.tag != SHAPES),
            Edit::Prune => self.prune()?,
        }
        Ok(())
    }

    /// Replaces one of the names in field `tag` of a node; all its other fields stay as they are.
    fn rename(&mut self, node: usize, tag: u32, at: usize, name: &str) -> Result<(), String> {
        let piece = self.nodes.get_mut(node).ok_or("a node that is not there")?;
        let old = piece.bytes();
        let (named, others): (Vec<_>, Vec<_>) = fields(old)?.into_iter().partition(|field| field.tag == tag);
        let mut names: Vec<&[u8]> = named.iter().map(|field| field.body(old)).collect();
        names.resize(names.len().max(at + 1), b"");
        names[at] = name.as_bytes();
        let mut bytes = Vec::with_capacity(old.len() + name.len() + 2);
        names.iter().for_each(|name| push(tag, name, &mut bytes));
        others.iter().for_each(|field| bytes.extend_from_slice(&old[field.whole.clone()]));
        *piece = Piece::New(bytes);
        Ok(())
    }

    fn prune(&mut self) -> Result<(), String> {
        let decode = |bytes: &[u8]| proto::Node::decode(bytes).map_err(|_| "a damaged node".to_owned());
        let nodes: Vec<proto::Node> =
            self.nodes.iter().map(|piece| decode(piece.bytes())).collect::<Result<_, _>>()?;
        let around = self.first.iter().chain(&self.last).map(|bytes| decode(bytes));
        let around: Vec<proto::Node> = around.collect::<Result<_, _>>()?;
        let mut makers: BTreeMap<&str, &proto::Node> = BTreeMap::new();
        for node in nodes.iter().chain(&around) {
            makers.extend(node.output.iter().filter(|name| !name.is_empty()).map(|name| (&**name, node)));
        }
        let mut needed: BTreeSet<String> =
            self.outputs.iter().filter_map(|piece| name(piece.bytes(), 1)).collect();
        let mut waiting: Vec<String> = needed.iter().cloned().collect();
        let mut seen = HashSet::new();
        while let Some(value) = waiting.pop() {
            let Some(node) = makers.get(&*value) else { continue };
            if seen.insert(std::ptr::from_ref::<proto::Node>(node)) {
                super::walk::reads(node, &mut |name| {
                    if needed.insert(name.to_owned()) {
                        waiting.push(name.to_owned());
                    }
                });
            }
        }
        let is_needed = |node: &proto::Node| node.output.iter().any(|name| needed.contains(name));
        for (piece, node) in self.nodes.iter_mut().zip(&nodes) {
            if !is_needed(node) {
                *piece = Piece::Gone;
            }
        }
        let mut added = around.iter().map(is_needed);
        self.first.retain(|_| added.next().unwrap_or(true));
        self.last.retain(|_| added.next().unwrap_or(true));
        let unused =
            |piece: &Piece<'_>, tag| name(piece.bytes(), tag).is_some_and(|name| !needed.contains(&name));
        self.weights.iter_mut().filter(|piece| unused(piece, 8)).for_each(|piece| *piece = Piece::Gone);
        self.inputs.iter_mut().filter(|piece| unused(piece, 1)).for_each(|piece| *piece = Piece::Gone);
        Ok(())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.graph.len() + 1024);
        let whole = |tag, pieces: &[Piece<'_>], bytes: &mut Vec<u8>| {
            let left = pieces.iter().filter(|piece| !piece.is_gone());
            left.for_each(|piece| push(tag, piece.bytes(), bytes));
        };
        self.first.iter().for_each(|node| push(NODE, node, &mut bytes));
        whole(NODE, &self.nodes, &mut bytes);
        self.last.iter().for_each(|node| push(NODE, node, &mut bytes));
        whole(WEIGHT, &self.weights, &mut bytes);
        whole(INPUT, &self.inputs, &mut bytes);
        whole(OUTPUT, &self.outputs, &mut bytes);
        for field in &self.others {
            bytes.extend_from_slice(&self.graph[field.whole.clone()]);
        }
        bytes
    }
}

fn named<'a, 'b>(pieces: &'b mut [Piece<'a>], wanted: &str) -> Result<&'b mut Piece<'a>, String> {
    let mut pieces = pieces.iter_mut();
    let found = pieces.find(|piece| name(piece.bytes(), 1).as_deref() == Some(wanted));
    found.ok_or_else(|| format!("no {wanted} to change"))
}

/// The text in field `tag` of a message.
fn name(message: &[u8], tag: u32) -> Option<String> {
    let body = proto::Fields(message).find_map(|(number, body)| body.filter(|_| number == tag))?;
    String::from_utf8(body.to_vec()).ok()
}

fn push(tag: u32, body: &[u8], bytes: &mut Vec<u8>) {
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, bytes);
    prost::encoding::encode_varint(body.len() as u64, bytes);
    bytes.extend_from_slice(body);
}

const GRAPH: u32 = 7;
const NODE: u32 = 1;
const WEIGHT: u32 = 5;
const INPUT: u32 = 11;
const OUTPUT: u32 = 12;
const SHAPES: u32 = 13;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> proto::ValueInfo {
        proto::ValueInfo { name: name.into(), r#type: None }
    }

    fn node(op: &str, reads: &[&str], writes: &[&str]) -> proto::Node {
        proto::Node {
            op_type: op.into(),
            input: reads.iter().map(|name| name.to_string()).collect(),
            output: writes.iter().map(|name| name.to_string()).collect(),
            ..Default::default()
        }
    }

    /// A model with fields that no one here has heard of, in the model, the graph, a node and a weight.
    fn model() -> Vec<u8> {
        let unknown = |mut bytes: Vec<u8>| {
            push(900, b"from the future", &mut bytes);
            bytes
        };
        let mut graph = Vec::new();
        for node in
            [node("Relu", &["x"], &["a"]), node("Add", &["a", "w"], &["y"]), node("Exp", &["x"], &["z"])]
        {
            push(NODE, &unknown(node.encode_to_vec()), &mut graph);
        }
        for name in ["w", "v"] {
            let weight = proto::TensorProto { name: name.into(), dims: vec![1], ..Default::default() };
            push(WEIGHT, &unknown(weight.encode_to_vec()), &mut graph);
        }
        push(INPUT, &value("x").encode_to_vec(), &mut graph);
        push(OUTPUT, &value("y").encode_to_vec(), &mut graph);
        push(OUTPUT, &value("z").encode_to_vec(), &mut graph);
        push(SHAPES, &value("a").encode_to_vec(), &mut graph);
        let mut model = vec![0x08, 9];
        push(GRAPH, &unknown(graph), &mut model);
        unknown(model)
    }

    fn decode(bytes: &[u8]) -> proto::GraphProto {
        proto::Model::decode(bytes).unwrap().graph.unwrap()
    }

    fn unknown(bytes: &[u8]) -> usize {
        bytes.windows(15).filter(|window| window == b"from the future").count()
    }

    #[test]
    fn nothing_is_lost_that_is_not_taken_out() {
        let model = model();
        let same = apply(&model, &[]).unwrap();
        assert_eq!((decode(&same), unknown(&same)), (decode(&model), 7));
        let edits = [
            Edit::Read { node: 1, at: 3, name: "state".into() },
            Edit::Write { node: 1, at: 1, name: "next".into() },
            Edit::AddInput(value("state")),
            Edit::AddOutput(value("next")),
            Edit::ForgetShapes,
        ];
        let changed = apply(&model, &edits).unwrap();
        let graph = decode(&changed);
        assert_eq!(graph.node[1].input, ["a", "w", "", "state"]);
        assert_eq!(graph.node[1].output, ["y", "next"]);
        assert_eq!((graph.input.len(), graph.output.len()), (2, 3));
        assert_eq!(unknown(&changed), 7);
        assert!(!changed.windows(3).any(|window| window == [0x6a, 3, 10]), "a shape is left");
    }

    #[test]
    fn pruning_keeps_what_the_outputs_need() {
        let changed = apply(&model(), &[Edit::RemoveOutput("y".into()), Edit::Prune]).unwrap();
        let graph = decode(&changed);
        assert_eq!(graph.node.iter().map(|node| &*node.op_type).collect::<Vec<_>>(), ["Exp"]);
        assert!(graph.initializer.is_empty());
        let changed = apply(&model(), &[Edit::RemoveOutput("z".into()), Edit::Prune]).unwrap();
        let graph = decode(&changed);
        assert_eq!(graph.node.len(), 2);
        assert_eq!(graph.initializer[0].name, "w");
        // New nodes are no exception: their weights would be gone.
        let edits = [
            Edit::Prepend(node("Abs", &["x"], &["b"])),
            Edit::Prepend(node("Neg", &["v"], &["nobody"])),
            Edit::Append(node("Mul", &["b", "z"], &["also nobody"])),
            Edit::Append(node("Mul", &["b", "a"], &["c"])),
            Edit::AddOutput(value("c")),
            Edit::RemoveOutput("y".into()),
            Edit::RemoveOutput("z".into()),
            Edit::Prune,
        ];
        let graph = decode(&apply(&model(), &edits).unwrap());
        assert_eq!(graph.node.iter().map(|node| &*node.op_type).collect::<Vec<_>>(), ["Abs", "Relu", "Mul"]);
        assert!(graph.initializer.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(at in 0usize..400, with: u8) {
            let mut bytes = model();
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = apply(&bytes, &[Edit::Read { node: 1, at: 0, name: "b".into() }, Edit::Prune]);
            let _ = apply(&bytes[..at], &[Edit::Prune]);
        }
    }
}
