//! Which parts of a model ONNX Runtime keeps on the processor when the rest runs on a GPU.

use super::device::Device;
use super::graph::{Graph, Walk, attribute};
use super::proto;
use super::session::{Plan, Runner, Source};

/// The nodes that stay on the processor, as far as that can be told, one line each.
pub(super) fn on_processor(graph: &Graph, source: &Source, plan: Plan) -> Vec<String> {
    if !matches!(plan.device, Device::Cuda(_)) {
        return Vec::new();
    }
    let nodes = Walk::new(graph).recurrent().unwrap_or_default();
    let mut found: Vec<String> = nodes
        .iter()
        .filter_map(|(_, node)| Some(format!("{} `{}`, because {}", node.op_type, node.name, reason(node)?)))
        .collect();
    // ONNX Runtime says whether there are others, not which.
    if found.is_empty() && Runner::all_on_device(source, plan).is_err() {
        found.push("some nodes for which ONNX Runtime has no CUDA kernel".to_owned());
    }
    found
}

/// Why cuDNN does not take a recurrent node (ONNX Runtime, `RNNNeedFallbackToCPU`).
fn reason(node: &proto::Node) -> Option<&'static str> {
    let has = |name| attribute(node, name).is_some();
    let number = |name| attribute(node, name).map_or(0, |attribute| attribute.i);
    let usual: &[&[u8]] = match &*node.op_type {
        "LSTM" => &[b"sigmoid", b"tanh", b"tanh"],
        "GRU" => &[b"sigmoid", b"tanh"],
        _ => &[b"tanh"],
    };
    let unusual = attribute(node, "activations").is_some_and(|attribute| {
        let mut given = attribute.strings.iter().zip(usual.iter().cycle());
        given.any(|(given, usual)| !given.eq_ignore_ascii_case(usual))
    });
    match node {
        _ if has("activation_alpha") || has("activation_beta") => {
            Some("it sets parameters of its activations")
        }
        _ if has("clip") => Some("it clips"),
        _ if unusual => Some("cuDNN has other activations"),
        _ if number("input_forget") != 0 => Some("it couples input and forget gates"),
        _ if node.input.get(7).is_some_and(|name| !name.is_empty()) => Some("it has peepholes"),
        _ if node.op_type == "GRU" && number("linear_before_reset") != 1 => {
            Some("it resets before the recurrent product (linear_before_reset = 0)")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cudnn_does_not_take() {
        let node = |op: &str, attributes: Vec<proto::Attribute>, inputs: usize| proto::Node {
            op_type: op.into(),
            attribute: attributes,
            input: vec!["x".into(); inputs],
            ..Default::default()
        };
        let named = |name: &str| proto::Attribute { name: name.into(), i: 1, ..Default::default() };
        let activations = |names: &[&str]| proto::Attribute {
            strings: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
            ..named("activations")
        };
        for (node, what) in [
            (node("LSTM", vec![], 7), None),
            (node("LSTM", vec![activations(&["Sigmoid", "Tanh", "Tanh"])], 7), None),
            (node("LSTM", vec![activations(&["HardSigmoid", "Tanh", "Tanh"])], 7), Some("other activations")),
            (node("LSTM", vec![], 8), Some("peepholes")),
            (node("LSTM", vec![named("input_forget")], 7), Some("forget")),
            (node("LSTM", vec![named("clip")], 7), Some("clips")),
            (node("GRU", vec![named("linear_before_reset")], 6), None),
            (node("GRU", vec![], 6), Some("linear_before_reset")),
            (node("RNN", vec![activations(&["Relu"])], 6), Some("other activations")),
            (node("RNN", vec![activations(&["Tanh"])], 6), None),
        ] {
            let found = reason(&node);
            assert_eq!(found.is_some(), what.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(what.unwrap_or_default()));
        }
    }
}
