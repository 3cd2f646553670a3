//! Which graphs are recurrent layers one above the other, and what their weights are called.

use super::super::graph::{Dtype, Graph, Walk, attribute};
use super::super::proto;
use super::super::signature::{Kind as Scores, Layout, Run, Signature};
use super::layer::Kind;

/// A graph that is nothing but an embedding, recurrent layers and an output layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// From below.
    pub layers: Vec<Names>,
    /// The vectors of the tokens, `[tokens, width]`.
    pub embedding: Constant,
    /// The output layer's matrix.
    pub matrix: Constant,
    /// Whether it is `[tokens, width]`; else `[width, tokens]`.
    pub by_token: bool,
    /// Its bias, `[tokens]`.
    pub bias: Option<Constant>,
}

/// A layer's weights; see [`super::layer::Weights`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub kind: Kind,
    pub size: usize,
    pub w: Constant,
    pub r: Constant,
    pub b: Option<Constant>,
    pub p: Option<Constant>,
}

/// A tensor that no input changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Constant {
    /// A float32 weight of the file, or one of 16 bits that is used as float32.
    Stored(String),
    /// Made of weights: converted, scaled, put together.
    Made(String),
}

impl Constant {
    pub fn name(&self) -> &str {
        match self {
            Self::Stored(name) | Self::Made(name) => name,
        }
    }
}

/// Recognises a graph.
///
/// # Errors
/// What is in it that cannot be run here.
pub fn recognise(graph: &Graph, signature: &Signature) -> Result<Recognised, String> {
    let fits = signature.run == Run::Steps
        && signature.targets.is_none()
        && signature.layout != Layout::Sentence
        && signature.kind != Scores::NegativeLog;
    if !fits {
        return Err("it gives no scores of all tokens after one step".to_owned());
    }
    let walk = Walk::new(graph);
    let (hidden, matrix, by_token, bias) = output(&walk, &signature.output)?;
    let (gather, _) =
        walk.embedding(&signature.tokens.ids.name).ok_or("its tokens are not looked up in one table")?;
    let gather = &graph.nodes[gather];
    let first = attribute(gather, "axis").is_none_or(|axis| axis.i == 0);
    if !first || !walk.is_view(&gather.input[1], &signature.tokens.ids.name) {
        return Err("its tokens are changed before they are looked up".to_owned());
    }
    let embedding = constant(&walk, &gather.input[0])?;
    let mut layers: Vec<Names> = Vec::new();
    let mut steps = 0;
    let mut value = hidden;
    loop {
        let node = walk.maker(value).ok_or("its layers do not begin with the tokens")?;
        if std::ptr::eq(node, gather) {
            break;
        }
        let shown = node.output.iter().position(|name| name == value);
        match (&*node.op_type, shown) {
            // All its outputs, or the last.
            ("LSTM" | "GRU" | "RNN", Some(0 | 1)) => layers.push(layer(&walk, node, signature)?),
            (op, Some(0)) if VIEWS.contains(&op) => {}
            (op, _) => return Err(format!("there is a {op} between its layers")),
        }
        value = node.input.first().ok_or("a node of it reads nothing")?;
        steps += 1;
        if steps > MOST_STEPS {
            return Err("its layers have no end".to_owned());
        }
    }
    layers.reverse();
    let of = |layer: &Names| layer.size * if layer.kind == Kind::Lstm { 2 } else { 1 };
    let states: usize = layers.iter().map(of).sum();
    if layers.is_empty() || states * size_of::<f32>() != signature.state_bytes() {
        return Err("its states are not those of its layers".to_owned());
    }
    Ok(Recognised { layers, embedding, matrix, by_token, bias })
}

/// The output layer: what it reads, its matrix, whether that is [V, H], and its bias.
fn output<'a>(walk: &Walk<'a>, scores: &str) -> Result<(&'a str, Constant, bool, Option<Constant>), String> {
    let other = || "its scores do not come from an output layer".to_owned();
    let mut node = walk.maker(scores).ok_or_else(other)?;
    let mut bias = None;
    for _ in 0..MOST_STEPS {
        let [first, ..] = &node.input[..] else { return Err(other()) };
        let op = &*node.op_type;
        if op == "MatMul" || op == "Gemm" {
            let flag = |name| attribute(node, name).map_or(0, |attribute| attribute.i);
            let scaled =
                ["alpha", "beta"].iter().filter_map(|name| attribute(node, name)).any(|a| a.f != 1.0);
            if flag("transA") != 0 || scaled {
                return Err(other());
            }
            if let Some(name) = node.input.get(2).filter(|name| !name.is_empty()) {
                bias = Some(constant(walk, name)?);
            }
            let name = node.input.get(1).ok_or_else(other)?;
            let turned = flag("transB") != 0;
            // A weight that is turned before it is multiplied need not be.
            let (name, again) = upright(walk, name);
            return Ok((first, constant(walk, name)?, turned != again, bias));
        }
        let next = match op {
            "Add" => {
                let [a, b] = &node.input[..] else { return Err(other()) };
                let (made, added) = if walk.sources(a).is_empty() { (b, a) } else { (a, b) };
                bias = Some(constant(walk, added)?);
                let product = walk.maker(made).filter(|node| node.op_type == "MatMul");
                if product.is_none() {
                    return Err(other());
                }
                made
            }
            "LogSoftmax" | "Softmax" | "Log" => first,
            op if VIEWS.contains(&op) => first,
            _ => return Err(other()),
        };
        node = walk.maker(next).ok_or_else(other)?;
    }
    Err(other())
}

fn layer(walk: &Walk<'_>, node: &proto::Node, signature: &Signature) -> Result<Names, String> {
    let op = &*node.op_type;
    let fail = |what: &str| Err(format!("its {op} {what}"));
    let number = |name| attribute(node, name).map_or(0, |attribute| attribute.i);
    let forward = attribute(node, "direction").is_none_or(|direction| direction.s == b"forward");
    let texts = attribute(node, "activations").map(|attribute| &attribute.strings[..]).unwrap_or_default();
    let names = |defaults: &[&str]| {
        texts.is_empty()
            || texts.len() == defaults.len()
                && texts.iter().zip(defaults).all(|(a, b)| a.eq_ignore_ascii_case(b.as_bytes()))
    };
    let kind = match op {
        "LSTM" if names(&["Sigmoid", "Tanh", "Tanh"]) => Kind::Lstm,
        "GRU" if names(&["Sigmoid", "Tanh"]) && number("linear_before_reset") != 0 => Kind::Gru,
        "GRU" if names(&["Sigmoid", "Tanh"]) => return fail("resets before the product"),
        "RNN" if names(&["Tanh"]) => Kind::Tanh,
        "RNN" if names(&["Relu"]) => Kind::Relu,
        _ => return fail("has uncommon activations"),
    };
    let odd =
        ["clip", "activation_alpha", "activation_beta"].iter().any(|name| attribute(node, name).is_some());
    if !forward || number("layout") != 0 || number("input_forget") != 0 || odd || !node.domain.is_empty() {
        return fail("has uncommon attributes");
    }
    let input = |at: usize| node.input.get(at).filter(|name| !name.is_empty());
    if input(4).is_some() {
        return fail("takes lengths");
    }
    for at in 5..if kind == Kind::Lstm { 7 } else { 6 } {
        let from = input(at).map(|name| walk.sources(name)).unwrap_or_default();
        let [from] = Vec::from_iter(from)[..] else { return fail("does not begin with a state") };
        if !signature.states.iter().any(|state| state.input == from) {
            return fail("does not begin with a state");
        }
    }
    let size = usize::try_from(number("hidden_size")).unwrap_or(0);
    let weight = |at: usize| input(at).map(|name| constant(walk, name)).transpose();
    let (Some(w), Some(r)) = (weight(1)?, weight(2)?) else { return fail("has no weights") };
    let p = if kind == Kind::Lstm { weight(7)? } else { None };
    Ok(Names { kind, size, w, r, b: weight(3)?, p })
}

/// A matrix before it is transposed, and whether it is.
fn upright<'a>(walk: &Walk<'a>, name: &'a str) -> (&'a str, bool) {
    let (mut name, mut turned) = (name, false);
    for _ in 0..MOST_STEPS {
        let Some(node) = walk.maker(name) else { break };
        let swaps = attribute(node, "perm").is_none_or(|perm| perm.ints == [1, 0]);
        match (&*node.op_type, node.input.first()) {
            ("Transpose", Some(input)) if swaps => (name, turned) = (input, !turned),
            ("Identity", Some(input)) => name = input,
            _ => break,
        }
    }
    (name, turned)
}

/// Whether a value is converted to float32.
fn is_float(walk: &Walk<'_>, name: &str) -> bool {
    let to = walk.maker(name).filter(|node| node.op_type == "Cast").and_then(|node| attribute(node, "to"));
    to.is_some_and(|to| to.i == i64::from(Dtype::FLOAT.0))
}

fn constant(walk: &Walk<'_>, name: &str) -> Result<Constant, String> {
    match walk.weight(name) {
        Some((weight, false)) if weight.dtype == Dtype::FLOAT => Ok(Constant::Stored(weight.name.clone())),
        Some((weight, false)) if weight.dtype == Dtype::FLOAT16 && is_float(walk, name) => {
            Ok(Constant::Stored(weight.name.clone()))
        }
        _ if walk.sources(name).is_empty() && walk.maker(name).is_some() => {
            Ok(Constant::Made(name.to_owned()))
        }
        _ => Err("its weights are not constant".to_owned()),
    }
}

/// What changes no number: with one token a row, a slice of positions does not either.
const VIEWS: [&str; 10] = [
    "Identity",
    "Cast",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Transpose",
    "Slice",
    "Gather",
    "Dropout",
];
/// A cycle occurs in hostile files only.
const MOST_STEPS: usize = 1000;
