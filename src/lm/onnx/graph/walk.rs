//! Following tensors through a graph: what a value is made from, what an output ends in.

use std::collections::{BTreeSet, HashMap};

use super::{Dtype, Graph, Weight, proto};

/// A graph with an index of who makes what.
pub struct Walk<'a> {
    graph: &'a Graph,
    makers: HashMap<&'a str, usize>,
    weights: HashMap<&'a str, &'a Weight>,
}

/// What an output ends in, as far as the graph tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// LogSoftmax, or the logarithm of a Softmax.
    LogSoftmax,
    /// Softmax.
    Softmax,
    /// A loss: minus log probabilities of targets.
    Loss,
    /// A matrix product, perhaps with a bias: logits.
    Product,
    /// Something else.
    Other,
}

/// The layer that turns hidden states into logits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// The tensor it reads.
    pub hidden: String,
    /// The initialiser that holds its matrix.
    pub matrix: String,
    /// Whether the matrix is stored [V, H]; else [H, V].
    pub by_token: bool,
    /// The initialiser that holds its bias, `[V]`.
    pub bias: Option<String>,
    /// The tensor it writes.
    pub logits: String,
}

impl<'a> Walk<'a> {
    /// An index over `graph`.
    pub fn new(graph: &'a Graph) -> Self {
        let mut makers = HashMap::new();
        for (at, node) in graph.nodes.iter().enumerate() {
            makers.extend(node.output.iter().filter(|name| !name.is_empty()).map(|name| (&**name, at)));
        }
        let weights = graph.initializers.iter().map(|weight| (&*weight.name, weight)).collect();
        Self { graph, makers, weights }
    }

    /// The node that makes a value.
    pub fn maker(&self, value: &str) -> Option<&'a proto::Node> {
        self.makers.get(value).map(|&at| &self.graph.nodes[at])
    }

    /// The initialiser behind a value, through what does not change its numbers, or makes real ones of
    /// integers. `true` if it is transposed on the way.
    pub fn weight(&self, value: &str) -> Option<(&'a Weight, bool)> {
        let (mut turned, mut scaled) = (false, false);
        let mut value = value;
        for _ in 0..MOST_STEPS {
            if let Some(&weight) = self.weights.get(value) {
                return Some((weight, turned)).filter(|_| !scaled || !weight.dtype.is_float());
            }
            let node = self.maker(value)?;
            match &*node.op_type {
                "Identity" | "Cast" | "DequantizeLinear" => {}
                "Transpose" => turned = !turned,
                "Mul" if node.input.get(1).is_some_and(|scale| self.weights.contains_key(&**scale)) => {
                    scaled = true;
                }
                _ => return None,
            }
            value = node.input.first()?;
        }
        None
    }

    /// What `output` ends in.
    pub fn ending(&self, output: &str) -> Ending {
        let mut value = output;
        let mut log = false;
        for _ in 0..MOST_STEPS {
            let Some(node) = self.maker(value) else { return Ending::Other };
            match &*node.op_type {
                "LogSoftmax" => return Ending::LogSoftmax,
                "Softmax" if log => return Ending::LogSoftmax,
                "Softmax" => return Ending::Softmax,
                "SoftmaxCrossEntropyLoss" | "NegativeLogLikelihoodLoss" => return Ending::Loss,
                "MatMul" | "Gemm" | "MatMulInteger" | "FusedMatMul" | "MatMulNBits" => {
                    return Ending::Product;
                }
                "Log" => log = true,
                "Where" => {
                    // A mask: what it lets through is the third.
                    let Some(through) = node.input.get(2) else { return Ending::Other };
                    value = through;
                    continue;
                }
                "Add" | "Mul" | "Div" | "Sub" => {
                    // A bias or a scale stands on one side.
                    let made = node.input.iter().find(|name| self.maker(name).is_some());
                    let Some(made) = made else { return Ending::Other };
                    value = made;
                    continue;
                }
                op if PASSING.contains(&op) => {}
                _ => return Ending::Other,
            }
            let Some(first) = node.input.first() else { return Ending::Other };
            value = first;
        }
        Ending::Other
    }

    /// The tensor of logits (or log probabilities) that a loss at the end of `output` reads.
    pub fn before_loss(&self, output: &str) -> Option<&'a str> {
        let mut value = self.graph.output(output)?.name.as_str();
        for _ in 0..MOST_STEPS {
            let node = self.maker(value)?;
            value = match &*node.op_type {
                "SoftmaxCrossEntropyLoss" | "NegativeLogLikelihoodLoss" => {
                    return node.input.first().map(|s| &**s);
                }
                "Where" => node.input.get(2)?,
                "Mul" | "Neg" | "Add" | "Sub" => node.input.iter().find(|name| self.maker(name).is_some())?,
                op if PASSING.contains(&op) => node.input.first()?,
                _ => return None,
            };
        }
        None
    }

    /// The projection at the end of `output`.
    pub fn projection(&self, output: &str) -> Option<Projection> {
        let mut value = output;
        for _ in 0..MOST_STEPS {
            let node = self.maker(value)?;
            value = match &*node.op_type {
                "Add" => {
                    let [a, b] = &node.input[..] else { return None };
                    let (bias, product) = match (self.bias(a), self.bias(b)) {
                        (true, _) => (a, b),
                        (_, true) => (b, a),
                        _ => return None,
                    };
                    let made = self.maker(product).filter(|node| node.op_type == "MatMul")?;
                    let bias = self.weight(bias)?.0.name.clone();
                    return self.product(made, value, Some(bias));
                }
                "MatMul" => return self.product(node, value, None),
                "Gemm" => {
                    let flag = |name| node.attribute.iter().find(|a| a.name == name).map_or(0, |a| a.i);
                    let scaled = node.attribute.iter().any(|a| a.name == "alpha" || a.name == "beta");
                    let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
                        Some(name) if self.bias(name) => Some(self.weight(name)?.0.name.clone()),
                        Some(_) => return None,
                        None => None,
                    };
                    if flag("transA") != 0 || (scaled && !plain_scales(node)) {
                        return None;
                    }
                    let mut found = self.product(node, value, bias)?;
                    found.by_token ^= flag("transB") != 0;
                    return Some(found);
                }
                "LogSoftmax" | "Softmax" | "Log" => node.input.first()?,
                op if PASSING.contains(&op) => node.input.first()?,
                _ => return None,
            };
        }
        None
    }

    fn product(&self, node: &proto::Node, logits: &str, bias: Option<String>) -> Option<Projection> {
        let (matrix, turned) = self.weight(node.input.get(1)?)?;
        (matrix.dims.len() == 2 && matrix.dtype == Dtype::FLOAT).then(|| Projection {
            hidden: node.input[0].clone(),
            matrix: matrix.name.clone(),
            by_token: turned,
            bias,
            logits: logits.to_owned(),
        })
    }

    fn bias(&self, value: &str) -> bool {
        self.weight(value).is_some_and(|(weight, _)| weight.dims.len() == 1 && weight.dtype == Dtype::FLOAT)
    }

    /// Inputs of the graph that `value` is made from.
    pub fn sources(&self, value: &'a str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        self.behind(value, &mut |name, made| {
            if !made && self.graph.input(name).is_some() {
                found.insert(name);
            }
            true
        });
        found
    }

    /// Visits `value` and everything it is made from, once each, with whether a node makes it; does not
    /// go behind values for which `visit` says false.
    fn behind(&self, value: &'a str, visit: &mut impl FnMut(&'a str, bool) -> bool) {
        let mut seen = BTreeSet::from([value]);
        let mut waiting = vec![value];
        while let Some(value) = waiting.pop() {
            let node = self.maker(value);
            if !visit(value, node.is_some()) {
                continue;
            }
            if let Some(node) = node {
                reads(node, &mut |name| {
                    if seen.insert(name) {
                        waiting.push(name);
                    }
                });
            }
        }
    }

    /// The node that looks tokens up, and its number, if there is one that does.
    pub fn embedding(&self, tokens: &str) -> Option<(usize, &'a Weight)> {
        let mut found = None;
        for (at, node) in self.graph.nodes.iter().enumerate().filter(|(_, node)| node.op_type == "Gather") {
            let [table, index] = &node.input[..] else { continue };
            let Some((weight, _)) = self.weight(table).filter(|(weight, _)| weight.dims.len() == 2) else {
                continue;
            };
            // Positions are made from the shape of the tokens, not from the tokens.
            if self.values_of(index, tokens) {
                if found.is_some() {
                    return None;
                }
                found = Some((at, weight));
            }
        }
        found
    }

    /// Whether the numbers of `value`, not its shape alone, come from the input `source`.
    fn values_of(&self, value: &'a str, source: &str) -> bool {
        let mut found = false;
        self.behind(value, &mut |name, _| {
            found |= name == source;
            !self.maker(name).is_some_and(|node| node.op_type == "Shape" || node.op_type == "Size")
        });
        found
    }

    /// Whether `value` is `source` but for its type and the order of its axes.
    pub fn is_view(&self, value: &str, source: &str) -> bool {
        let mut value = value;
        for _ in 0..MOST_STEPS {
            if value == source {
                return true;
            }
            let Some(node) = self.maker(value) else { return false };
            if !VIEWS.contains(&&*node.op_type) {
                return false;
            }
            let Some(first) = node.input.first() else { return false };
            value = first;
        }
        false
    }

    /// Recurrent nodes with their numbers; `None` if some are where they cannot be changed.
    pub fn recurrent(&self) -> Option<Vec<(usize, &'a proto::Node)>> {
        let nodes = self.graph.nodes.iter().enumerate();
        let found: Vec<_> = nodes.filter(|(_, node)| RECURRENT.contains(&&*node.op_type)).collect();
        let all: usize = RECURRENT.iter().filter_map(|&op| self.graph.ops.get(op)).sum();
        (all == found.len()).then_some(found)
    }
}

/// An attribute of a node.
pub fn attribute<'a>(node: &'a proto::Node, name: &str) -> Option<&'a proto::Attribute> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// Names that a node reads, those of its subgraphs included.
pub fn reads<'a>(node: &'a proto::Node, read: &mut impl FnMut(&'a str)) {
    fn graphs<'a>(node: &'a proto::Node, read: &mut dyn FnMut(&'a str), depth: usize) {
        node.input.iter().filter(|name| !name.is_empty()).for_each(|name| read(name));
        if depth > MOST_DEPTH {
            return;
        }
        for attribute in &node.attribute {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                graph.node.iter().for_each(|node| graphs(node, read, depth + 1));
                graph.output.iter().for_each(|output| read(&output.name));
            }
        }
    }
    graphs(node, read, 0);
}

/// `alpha` and `beta` of a Gemm are floats, which are not decoded: exporters write 1.
fn plain_scales(node: &proto::Node) -> bool {
    let scales = node.attribute.iter().filter(|a| a.name == "alpha" || a.name == "beta");
    scales.map(|a| a.f).all(|value| value == 1.0)
}

/// Operators that only rearrange or convert.
const PASSING: [&str; 12] = [
    "Identity",
    "Cast",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Transpose",
    "Slice",
    "Gather",
    "ReduceSum",
    "Neg",
    "Expand",
];
const VIEWS: [&str; 6] = ["Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze"];
/// Operators with a state along time.
pub const RECURRENT: [&str; 3] = ["LSTM", "GRU", "RNN"];
/// Longer chains of rearrangements do not occur; a cycle does, in a hostile file.
const MOST_STEPS: usize = 64;
const MOST_DEPTH: usize = 100;
