//! What is wrong with a model file is said before ONNX Runtime sees it: some of it would crash there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Component, Path};

use super::{External, outline, proto, walk};
use crate::{Error, Result};

/// Weight files must lie in the model's directory, links resolved, and be as long as the model says.
///
/// # Errors
/// If one does not.
pub fn external(model: &Path, parts: &[External]) -> Result<()> {
    let fail = |what: String| Err(Error::model(model, what));
    let directory = model.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let root = directory.canonicalize().map_err(|e| Error::io(directory, e))?;
    for part in parts {
        let shown = part.file.display();
        if part.file.as_os_str().is_empty()
            || !part.file.components().all(|c| matches!(c, Component::Normal(_)))
        {
            return fail(format!(
                "its weights lie in `{shown}`, outside the model's directory; export it again"
            ));
        }
        let file = match root.join(&part.file).canonicalize() {
            Ok(file) if !file.starts_with(&root) => {
                return fail(format!(
                    "`{shown}` leads outside the model's directory; copy the file itself there"
                ));
            }
            Ok(file) if file.is_file() => file,
            _ => {
                return fail(format!(
                    "its weights are in `{shown}`, which is missing; copy it beside the model"
                ));
            }
        };
        let bytes = file.metadata().map_err(|e| Error::io(&file, e))?.len();
        let end = u64::try_from(part.offset).ok().zip(u64::try_from(part.length.unwrap_or(0)).ok());
        if end.and_then(|(offset, length)| offset.checked_add(length)).is_none_or(|end| end > bytes) {
            return fail(format!("`{shown}` is shorter than the model says; copy or export it again"));
        }
    }
    Ok(())
}

/// Values inside the file must be as many as the dimensions say.
///
/// # Errors
/// If a weight is damaged.
pub fn weights(path: &Path, model: &[u8]) -> Result<()> {
    let graphs = proto::Fields(model).filter(|&(tag, _)| tag == 7).filter_map(|(_, body)| body);
    for graph in graphs {
        let tensors = proto::Fields(graph).filter(|&(tag, _)| tag == 5).filter_map(|(_, body)| body);
        for tensor in tensors {
            weight(path, tensor).map_err(|what| Error::model(path, what))?;
        }
    }
    Ok(())
}

fn weight(path: &Path, tensor: &[u8]) -> Result<(), String> {
    use prost::Message;
    // Packed or not, prost reads the dimensions; it skips the values.
    let summary = proto::TensorProto::decode(tensor).map_err(|_| "a damaged weight")?;
    let named = summary.name.escape_debug();
    let count = summary.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?));
    let Some(count) = count.filter(|&count| count <= MOST_NUMBERS) else {
        return Err(format!("weight `{named}` has dimensions {:?}; export the model again", summary.dims));
    };
    let raw = match External::of(&summary) {
        None => proto::Fields(tensor).find_map(|(tag, body)| body.filter(|_| tag == 9)).map(<[u8]>::len),
        Some(part) if outline::is_own(path, &part) => {
            part.length.and_then(|length| usize::try_from(length).ok())
        }
        Some(_) => None,
    };
    let Some(raw) = raw else { return Ok(()) };
    let bits = match summary.data_type {
        1 | 6 | 12 => 32,
        2 | 3 | 9 | 17..=20 => 8,
        4 | 5 | 10 | 16 => 16,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        _ => return Ok(()),
    };
    if (count * bits).div_ceil(8) != raw as u64 {
        return Err(format!(
            "weight `{named}` holds {raw} bytes, its dimensions {:?} need {}; export the model again",
            summary.dims,
            (count * bits).div_ceil(8)
        ));
    }
    Ok(())
}

/// Operators must be those that ONNX Runtime has, or defined in the model.
///
/// # Errors
/// If one is not: which.
pub fn operators(ops: &BTreeMap<String, usize>, functions: &[proto::Function]) -> Result<(), String> {
    let own: HashSet<&str> = functions.iter().map(|function| &*function.domain).collect();
    for op in ops.keys() {
        let Some((domain, name)) = op.split_once("::") else { continue };
        if !DOMAINS.contains(&domain) && !own.contains(domain) {
            return Err(format!(
                "needs the operator {name} of `{}`, which ONNX Runtime does not have; libraries of operators are not \
                 loaded, export it with standard ones",
                domain.escape_debug()
            ));
        }
    }
    Ok(())
}

/// Every tensor must be made once, before it is needed, by something that does not need it.
///
/// # Errors
/// If a name is unknown or made twice, or nodes wait for each other.
pub fn order(graph: &proto::GraphProto) -> Result<(), String> {
    let again = "export the model again";
    let given = graph.input.iter().map(|input| &*input.name);
    let stored = graph.initializer.iter().map(|tensor| &*tensor.name);
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_ref());
    let there: HashSet<&str> = given.chain(stored).chain(sparse.map(|tensor| &*tensor.name)).collect();
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if makers.insert(name, at).is_some() {
                return Err(format!("two nodes make `{}`; {again}", name.escape_debug()));
            }
        }
    }
    let known = |name: &str| makers.contains_key(name) || there.contains(name);
    let mut waits = vec![0usize; graph.node.len()];
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (at, node) in graph.node.iter().enumerate() {
        if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !known(name)) {
            return Err(format!("`{}` is needed but neither stored nor made; {again}", name.escape_debug()));
        }
        // Names inside a subgraph may be its own.
        walk::reads(node, &mut |name| {
            if let Some(&maker) = makers.get(name) {
                waits[at] += 1;
                followers[maker].push(at);
            }
        });
    }
    if let Some(output) = graph.output.iter().find(|output| !known(&output.name)) {
        return Err(format!("nothing makes its output `{}`; {again}", output.name.escape_debug()));
    }
    let mut ready: Vec<usize> = (0..waits.len()).filter(|&at| waits[at] == 0).collect();
    let mut done = 0;
    while let Some(at) = ready.pop() {
        done += 1;
        for &next in &followers[at] {
            waits[next] -= 1;
            if waits[next] == 0 {
                ready.push(next);
            }
        }
    }
    if done < waits.len() {
        return Err(format!("its nodes wait for each other in a circle; {again}"));
    }
    Ok(())
}

/// Sets of operators that ONNX Runtime brings.
const DOMAINS: [&str; 8] = [
    "ai.onnx.ml",
    "ai.onnx.training",
    "ai.onnx.preview.training",
    "com.microsoft",
    "com.microsoft.nchwc",
    "com.microsoft.experimental",
    "com.ms.internal.nhwc",
    "org.pytorch.aten",
];
/// Half a terabyte of float32: more is a mistake.
const MOST_NUMBERS: u64 = 1 << 37;
