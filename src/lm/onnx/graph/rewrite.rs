//! What is worth changing in a model before it is run: plans only, made from the summary of a graph and
//! carried out by [`super::apply`]. None is trusted: the changed model must give the old one's scores.

use super::walk::{RECURRENT, attribute};
use super::{Dim, Dtype, Edit, Graph, Projection, Value, Walk, proto};

/// States given to a model that was exported without.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposed {
    /// The changes.
    pub edits: Vec<Edit>,
    /// The input of token ids: the old one, or a new one behind what the graph added to the sentence.
    pub tokens: String,
    /// Whether that is a new one, int64, that gets `<s>` and all tokens.
    pub cut: bool,
    /// The output with the scores.
    pub output: String,
    /// Input, output and size of each state, [1, N, size].
    pub states: Vec<(String, String, usize)>,
}

/// A model cut before its output layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The changes: the hidden tensor is the output now, in place of the scores.
    pub edits: Vec<Edit>,
    /// Where the cut is and what was cut off.
    pub projection: Projection,
}

/// Makes inputs and outputs of other floating point types float32, converted inside. Token ids stay.
pub fn float_ends(graph: &Graph, tokens: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    let odd = |value: &&Value| value.dtype.is_float() && value.dtype != Dtype::FLOAT;
    for input in graph.inputs.iter().filter(|input| input.name != tokens).filter(odd) {
        let inner = format!("{}.as_{}", input.name, input.dtype);
        rename_reads(graph, &input.name, &inner, &mut edits);
        edits.push(Edit::Input(info(&input.name, Dtype::FLOAT, input.dims.as_deref())));
        edits.push(Edit::Prepend(cast(&input.name, &inner, input.dtype)));
    }
    for output in graph.outputs.iter().filter(odd) {
        let inner = format!("{}.as_{}", output.name, output.dtype);
        for (node, at) in places(graph, &output.name, |node| &node.output) {
            edits.push(Edit::Write { node, at, name: inner.clone() });
        }
        rename_reads(graph, &output.name, &inner, &mut edits);
        edits.push(Edit::Output(info(&output.name, Dtype::FLOAT, output.dims.as_deref())));
        edits.push(Edit::Append(cast(&inner, &output.name, Dtype::FLOAT)));
    }
    if !edits.is_empty() {
        edits.push(Edit::ForgetShapes);
    }
    edits
}

/// Frees the sizes that `tokens` and the inputs of its shape (`grids`: masks, positions, ..) were exported
/// with, and the batch size of the `states` (with the place of the batch among their dimensions). Sound only
/// if nothing inside has the sizes built in.
pub fn free_sizes(graph: &Graph, tokens: &str, grids: &[&str], states: &[(&str, usize)]) -> Vec<Edit> {
    let free = |name: &str| Dim::Symbol(name.to_owned());
    let mut edits = vec![Edit::ForgetShapes];
    for input in &graph.inputs {
        let Some(mut dims) = input.dims.clone() else { continue };
        if input.name == tokens {
            let names = ["secondpass_0", "secondpass_1"];
            dims.iter_mut().zip(names).for_each(|(dim, name)| *dim = free(name));
        } else if let Some((_, batch)) = states.iter().find(|(name, _)| *name == input.name) {
            dims[*batch] = free("secondpass_batch");
        } else if grids.contains(&&*input.name) {
            dims.fill(Dim::Unknown);
        } else {
            continue;
        }
        edits.push(Edit::Input(info(&input.name, input.dtype, Some(&dims))));
    }
    let outputs = graph.outputs.iter().map(|output| Edit::Output(info(&output.name, output.dtype, None)));
    edits.extend(outputs);
    if let Some([Dim::Fixed(a), Dim::Fixed(b)]) = graph.input(tokens).and_then(|input| input.dims.as_deref())
    {
        free_reshapes(graph, [*a as i64, *b as i64], &mut edits);
    }
    edits
}

/// Reshapes to the sizes of the exporter's example (`[35, 1, H]`, as the dynamo exporter writes them behind
/// recurrent nodes) keep what they find instead.
fn free_reshapes(graph: &Graph, [a, b]: [i64; 2], edits: &mut Vec<Edit>) {
    for (at, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.op_type == "Reshape") {
        let [data, shape] = &node.input[..] else { continue };
        let Some(list) = graph.lists.get(shape) else { continue };
        let mut free = list.clone();
        match &mut free[..] {
            [first, second, ..] if [*first, *second] == [a, b] || [*first, *second] == [b, a] => {
                (*first, *second) = (0, 0);
            }
            [first, rest @ ..] if *first == a * b && !rest.contains(&-1) => *first = -1,
            _ => continue,
        }
        let name = format!("secondpass.shape_{at}");
        edits.push(Edit::AddWeight(proto::TensorProto {
            dims: vec![free.len() as i64],
            data_type: Dtype::INT64.0,
            name: name.clone(),
            int64_data: free,
            ..proto::TensorProto::default()
        }));
        // Not the old node with another input: it may say that 0 means 0.
        let with = proto::Node {
            input: vec![data.clone(), name],
            output: node.output.clone(),
            name: node.name.clone(),
            op_type: "Reshape".into(),
            ..proto::Node::default()
        };
        edits.push(Edit::Replace { node: at, with });
    }
}

/// Makes inputs and outputs of the states of LSTM, GRU and RNN nodes that start from zeros.
///
/// Where the graph adds the ends of the sentence itself and gives a loss (icefall's no-state export), the
/// tokens enter behind that, and what comes out is what the loss is computed from.
pub fn expose_states(graph: &Graph, tokens: &str, output: &str) -> Option<Exposed> {
    let walk = Walk::new(graph);
    let nodes = walk.recurrent().filter(|nodes| !nodes.is_empty())?;
    let mut edits = vec![Edit::ForgetShapes];
    let mut states = Vec::new();
    for (at, node) in nodes {
        let forward = attribute(node, "direction").is_none_or(|direction| direction.s == b"forward");
        let layout = attribute(node, "layout").is_none_or(|layout| layout.i == 0);
        let lengths = node.input.get(4).is_some_and(|name| !name.is_empty());
        let size = attribute(node, "hidden_size").and_then(|size| usize::try_from(size.i).ok())?;
        if !forward || !layout || lengths || !node.domain.is_empty() || size == 0 {
            return None;
        }
        let parts = if node.op_type == RECURRENT[0] { 2 } else { 1 };
        for part in 0..parts {
            if let Some(first) = node.input.get(5 + part).filter(|name| !name.is_empty()) {
                // Zeros of the right shape are made from the tokens' shape; anything else is a state already.
                if walk.sources(first).into_iter().any(|source| source != tokens) {
                    return None;
                }
            }
            let input = format!("secondpass.state_{}", states.len());
            let last = node.output.get(1 + part).filter(|name| !name.is_empty()).cloned();
            let next = last.clone().unwrap_or_else(|| format!("secondpass.next_state_{}", states.len()));
            edits.push(Edit::Read { node: at, at: 5 + part, name: input.clone() });
            if last.is_none() {
                edits.push(Edit::Write { node: at, at: 1 + part, name: next.clone() });
            }
            let dims = [Dim::Fixed(1), Dim::Symbol("secondpass_batch".into()), Dim::Fixed(size)];
            edits.push(Edit::AddInput(info(&input, Dtype::FLOAT, Some(&dims))));
            if graph.output(&next).is_none() {
                edits.push(Edit::AddOutput(info(&next, Dtype::FLOAT, None)));
            }
            states.push((input, next, size));
        }
    }
    let mut scores = output;
    if let Some(before) = walk.before_loss(output) {
        edits.push(Edit::RemoveOutput(output.to_owned()));
        edits.push(Edit::AddOutput(info(before, Dtype::FLOAT, None)));
        scores = before;
    }
    let (node, _) = walk.embedding(tokens)?;
    let cut = !walk.is_view(&graph.nodes[node].input[1], tokens);
    let mut input = tokens;
    if cut {
        input = "secondpass.tokens";
        let dims = [Dim::Symbol("secondpass_batch".into()), Dim::Unknown];
        edits.push(Edit::Read { node, at: 1, name: input.into() });
        edits.push(Edit::AddInput(info(input, Dtype::INT64, Some(&dims))));
    }
    edits.push(Edit::Prune);
    Some(Exposed { edits, tokens: input.to_owned(), cut, output: scores.to_owned(), states })
}

/// Cuts the model before the output layer of `output`: hidden states come out in place of scores.
pub fn split(graph: &Graph, output: &str) -> Option<Split> {
    let projection = Walk::new(graph).projection(output)?;
    let mut edits = vec![Edit::ForgetShapes, Edit::RemoveOutput(output.to_owned())];
    if graph.output(&projection.hidden).is_none() {
        edits.push(Edit::AddOutput(info(&projection.hidden, Dtype::FLOAT, None)));
    }
    edits.push(Edit::Prune);
    Some(Split { edits, projection })
}

/// Where a name occurs among the names that `list` gives of each node.
fn places<'a>(
    graph: &'a Graph,
    name: &'a str,
    list: impl Fn(&'a proto::Node) -> &'a [String],
) -> Vec<(usize, usize)> {
    let nodes = graph.nodes.iter().enumerate();
    let found = |(node, values): (usize, &'a [String])| {
        let at = move |(at, value): (usize, &String)| (value == name).then_some((node, at));
        values.iter().enumerate().filter_map(at).collect::<Vec<_>>()
    };
    nodes.map(|(at, node)| (at, list(node))).flat_map(found).collect()
}

fn rename_reads(graph: &Graph, old: &str, new: &str, edits: &mut Vec<Edit>) {
    for (node, at) in places(graph, old, |node| &node.input) {
        edits.push(Edit::Read { node, at, name: new.to_owned() });
    }
}

fn cast(from: &str, to: &str, dtype: Dtype) -> proto::Node {
    let target = proto::Attribute {
        name: "to".into(),
        i: i64::from(dtype.0),
        kind: proto::INT,
        ..proto::Attribute::default()
    };
    proto::Node {
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        name: format!("secondpass.cast.{to}"),
        op_type: "Cast".into(),
        attribute: vec![target],
        ..proto::Node::default()
    }
}

/// An input or output.
pub(in crate::lm::onnx) fn info(name: &str, dtype: Dtype, dims: Option<&[Dim]>) -> proto::ValueInfo {
    let dimension = |dim: &Dim| match dim {
        Dim::Fixed(size) => proto::Dimension { dim_value: i64::try_from(*size).ok(), dim_param: None },
        Dim::Symbol(symbol) => proto::Dimension { dim_value: None, dim_param: Some(symbol.clone()) },
        Dim::Unknown => proto::Dimension::default(),
    };
    let shape = dims.map(|dims| proto::Shape { dim: dims.iter().map(dimension).collect() });
    let tensor = proto::TensorType { elem_type: dtype.0, shape };
    proto::ValueInfo { name: name.to_owned(), r#type: Some(proto::TypeProto { tensor_type: Some(tensor) }) }
}
