//! The contract of this project's own exporter, which leaves nothing to find out.

use super::super::graph::{Dim, Dtype, Graph, Value};
use super::{Ids, Kind, Layout, MAX_STATE, Run, Signature, State, Tokens};

/// Whether a model says that it keeps the contract of recurrent models.
pub(super) fn is(graph: &Graph) -> bool {
    let inputs = graph.inputs.iter().all(|input| input.name == "tokens" || numbered(&input.name));
    graph.metadata.contains_key("secondpass.version")
        && graph.input("tokens").is_some()
        && graph.inputs.len() > 1
        && inputs
        && graph.output("log_probs").is_some()
}

/// The signature of a model that keeps the contract.
///
/// # Errors
/// If it does not keep it: what was found, and what was expected.
pub(super) fn detect(graph: &Graph) -> Result<Signature, String> {
    let (Some(tokens), Some(output)) = (graph.input("tokens"), graph.output("log_probs")) else {
        return Err("has no tokens or no log_probs".to_owned());
    };
    let batch = match tokens.dims.as_deref() {
        Some([Dim::Symbol(batch), length])
            if tokens.dtype == Dtype::INT64 && !matches!(length, Dim::Fixed(_)) =>
        {
            batch.as_str()
        }
        _ => return Err(format!("input `{tokens}` should be tokens int64 [N, L], both sizes free")),
    };
    match output.dims.as_deref() {
        Some([_, _, _]) | None if output.dtype == Dtype::FLOAT => {}
        _ => return Err(format!("output `{output}` should be log_probs float32 [N, L, V]")),
    }
    let states = states(graph, batch)?;
    let mut signature = Signature {
        family: "secondpass recurrent model".to_owned(),
        tokens: Tokens {
            ids: Ids { name: "tokens".to_owned(), dtype: Dtype::INT64 },
            time_major: false,
            length: None,
            batch: None,
        },
        lengths: None,
        fills: Vec::new(),
        targets: None,
        output: "log_probs".to_owned(),
        kind: Kind::LogProbs,
        layout: Layout::Each { time_major: false, flat: false },
        states,
        context: Vec::new(),
        adds_ends: false,
        vocab_size: 0,
        bos: 0,
        eos: 0,
        unk: None,
        pad: None,
        tokenizer: String::new(),
        cell: None,
        run: Run::Steps,
        findings: Vec::new(),
    };
    signature.found("signature", signature.family.clone(), "metadata");
    Ok(signature)
}

fn states(graph: &Graph, batch: &str) -> Result<Vec<State>, String> {
    let mut states = Vec::new();
    for input in &graph.inputs {
        if input.name == "tokens" {
            continue;
        }
        if !numbered(&input.name) {
            return Err(format!(
                "input `{input}` is unknown; a model has `tokens`, `state_0`, `state_1`, .."
            ));
        }
        let output = format!("next_{}", input.name);
        let next = graph.output(&output).ok_or_else(|| format!("input `{input}` has no output {output}"))?;
        let state = state(input, next, batch)?;
        states.push(state);
    }
    let expected = states.len() + 1;
    if graph.outputs.len() != expected {
        let names: Vec<String> = graph.outputs.iter().map(Value::to_string).collect();
        return Err(format!(
            "its outputs are {}; expected log_probs and one next_state_K per state",
            list(&names)
        ));
    }
    Ok(states)
}

fn state(input: &Value, next: &Value, batch: &str) -> Result<State, String> {
    let wrong =
        || format!("state `{input}` should be float32, its batch size named {batch}, its other sizes fixed");
    let dims = input.dims.as_deref().filter(|_| input.dtype == Dtype::FLOAT).ok_or_else(wrong)?;
    let is_batch = |dim: &Dim| matches!(dim, Dim::Symbol(symbol) if symbol == batch);
    let at = dims.iter().position(is_batch).ok_or_else(wrong)?;
    let sizes: Option<Vec<usize>> = dims
        .iter()
        .enumerate()
        .map(|(i, dim)| match dim {
            _ if i == at => Some(1),
            &Dim::Fixed(size) if size > 0 => Some(size),
            _ => None,
        })
        .collect();
    let sizes = sizes.ok_or_else(wrong)?;
    let total = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    if total.is_none_or(|total| total > MAX_STATE) {
        return Err(format!("state `{input}` is too large; at most {MAX_STATE} numbers a row"));
    }
    // Declared output sizes may be missing; those that are there must agree.
    let differs = |a: &Dim, b: &Dim| matches!((a, b), (Dim::Fixed(a), Dim::Fixed(b)) if a != b);
    let paired = next.dtype == Dtype::FLOAT
        && next.dims.as_ref().is_none_or(|next| {
            next.len() == dims.len() && !dims.iter().zip(next).any(|(a, b)| differs(a, b))
        });
    if !paired {
        return Err(format!("output `{next}` does not fit input `{input}`"));
    }
    Ok(State { input: input.name.clone(), output: next.name.clone(), dims: sizes, batch: at, grows: None })
}

fn numbered(name: &str) -> bool {
    name.strip_prefix("state_").is_some_and(|k| !k.is_empty() && k.bytes().all(|b| b.is_ascii_digit()))
}

pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names if names.len() > 8 => {
            format!("{}, .. ({} in all)", names[..8].join(", "), names.len())
        }
        names => names.join(", "),
    }
}
