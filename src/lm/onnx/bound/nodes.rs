//! Nodes, constants and ends of a graph, as changes of it.

use super::super::graph::rewrite::info;
use super::super::graph::{Dim, Dtype, Edit};
use super::super::proto;

/// Changes in the making.
pub(super) struct Nodes {
    pub edits: Vec<Edit>,
    /// Version of the standard operators.
    opset: i64,
}

impl Nodes {
    pub fn new(opset: i64) -> Self {
        Self { edits: vec![Edit::ForgetShapes], opset }
    }

    /// An input of the graph; `None` is a free size.
    pub fn input(&mut self, name: &str, dtype: Dtype, dims: &[Option<usize>]) {
        self.edits.push(Edit::AddInput(end(name, dtype, dims)));
    }

    /// A float32 output of the graph.
    pub fn output(&mut self, name: &str, dims: &[Option<usize>]) {
        self.edits.push(Edit::AddOutput(end(name, Dtype::FLOAT, dims)));
    }

    /// A constant of whole numbers.
    pub fn list(&mut self, name: &str, dims: &[usize], values: Vec<i64>) {
        self.edits.push(Edit::AddWeight(proto::TensorProto {
            dims: dims.iter().map(|&size| size as i64).collect(),
            data_type: Dtype::INT64.0,
            name: name.to_owned(),
            int64_data: values,
            ..proto::TensorProto::default()
        }));
    }

    /// A node before those of the model.
    pub fn first(&mut self, op: &str, reads: &[&str], writes: &str, with: &[(&str, i64)]) {
        self.edits.push(Edit::Prepend(node(op, reads, writes, with)));
    }

    /// A node after those of the model.
    pub fn then(&mut self, op: &str, reads: &[&str], writes: &str, with: &[(&str, i64)]) {
        self.edits.push(Edit::Append(node(op, reads, writes, with)));
    }

    /// Log-sum-exp over dimension 1.
    pub fn log_sum_exp(&mut self, reads: &str, writes: &str, keep: bool) {
        self.reduce("ReduceLogSumExp", 18, reads, writes, keep);
    }

    /// The sum over dimension 1.
    pub fn sum(&mut self, reads: &str, writes: &str) {
        self.reduce("ReduceSum", 13, reads, writes, false);
    }

    /// Operators since version `since` read the dimensions, where they had an attribute before.
    fn reduce(&mut self, op: &str, since: i64, reads: &str, writes: &str, keep: bool) {
        let keep = ("keepdims", i64::from(keep));
        if self.opset >= since {
            let axes = format!("{writes}.axes");
            self.list(&axes, &[1], vec![1]);
            return self.then(op, &[reads, &axes], writes, &[keep]);
        }
        let mut made = node(op, &[reads], writes, &[keep]);
        made.attribute.push(proto::Attribute {
            name: "axes".into(),
            ints: vec![1],
            kind: INTS,
            ..proto::Attribute::default()
        });
        self.edits.push(Edit::Append(made));
    }

    /// Rows of `from` along dimension `axis` go to `arena` at the indices `to`, one for each row.
    pub fn scatter(&mut self, arena: &str, to: &str, from: &str, writes: &str, axis: usize, rank: usize) {
        let [turned, shape, spread, place] =
            ["at", "shape", "spread", "place"].map(|part| format!("{writes}.{part}"));
        let mut dims = vec![1; rank];
        dims[axis] = -1;
        self.list(&place, &[rank], dims);
        self.then("Reshape", &[to, &place], &turned, &[]);
        self.then("Shape", &[from], &shape, &[]);
        self.then("Expand", &[&turned, &shape], &spread, &[]);
        self.then("ScatterElements", &[arena, &spread, from], writes, &[("axis", axis as i64)]);
    }
}

fn node(op: &str, reads: &[&str], writes: &str, with: &[(&str, i64)]) -> proto::Node {
    let attribute = |&(name, i): &(&str, i64)| proto::Attribute {
        name: name.to_owned(),
        i,
        kind: proto::INT,
        ..proto::Attribute::default()
    };
    proto::Node {
        input: reads.iter().map(|&name| name.to_owned()).collect(),
        output: vec![writes.to_owned()],
        name: format!("{op}.{writes}"),
        op_type: op.to_owned(),
        attribute: with.iter().map(attribute).collect(),
        ..proto::Node::default()
    }
}

fn end(name: &str, dtype: Dtype, dims: &[Option<usize>]) -> proto::ValueInfo {
    let dims: Vec<Dim> = dims.iter().map(|size| size.map_or(Dim::Unknown, Dim::Fixed)).collect();
    info(name, dtype, Some(&dims))
}

/// [`proto::Attribute::kind`] of a list of integers.
const INTS: i32 = 7;
