//! Models of other toolkits: known names first, then structure.

use super::super::graph::{Dim, Dtype, Ending, Graph, Value, Walk};
use super::own::list;
use super::sidecar::{Positions, Sidecar};
use super::states::{batch_symbol, states};
use super::{Fill, Ids, Kind, Layout, Run, Signature, Tokens, With};

/// Drafts the signature of a model that may come from anywhere.
///
/// # Errors
/// If it cannot be scored, or what is what cannot be told.
pub(super) fn detect(graph: &Graph, sidecar: &Sidecar) -> Result<Signature, String> {
    refuse(graph)?;
    let walk = Walk::new(graph);
    let tokens = tokens(graph, &walk, sidecar)?;
    let output = output(graph, sidecar)?;
    let mut rest: Vec<&Value> = graph.inputs.iter().filter(|input| input.name != tokens.ids.name).collect();
    let mut take = |named: &Option<String>, is: &dyn Fn(&Value) -> bool| -> Result<Option<Ids>, String> {
        let at = match named {
            Some(name) => Some(rest.iter().position(|input| input.name == *name).ok_or_else(|| {
                format!("the file beside it names `{name}`, which is no input of the model")
            })?),
            None => rest.iter().position(|input| is(input)),
        };
        Ok(at.map(|at| rest.remove(at)).map(|input| Ids { name: input.name.clone(), dtype: input.dtype }))
    };
    let named = |parts: &'static [&'static str]| {
        move |input: &Value| parts.iter().any(|&part| input.name.contains(part))
    };
    let mut fills = Vec::new();
    let fill = |ids: Option<Ids>, with| ids.map(|ids| Fill { ids, with });
    fills.extend(fill(
        take(&sidecar.mask, &named(&["attention_mask", "input_mask", "pad_mask"]))?,
        With::Mask,
    ));
    fills.extend(fill(take(&sidecar.positions, &named(&["position"]))?, With::Positions));
    fills.extend(fill(take(&None, &named(&["token_type", "segment_ids"]))?, With::Zeros));
    fills.extend(fill(take(&None, &named(&["use_cache_branch"]))?, With::Zero));
    let lengths = take(&sidecar.lengths, &|input| {
        input.dtype.is_integer()
            && input.rank().is_none_or(|rank| rank <= 1)
            && !input.name.contains("encoder")
            && (input.name.contains("len") || input.rank() == Some(1))
    })?;
    let targets = take(&sidecar.targets, &|input| {
        input.dtype.is_integer() && ["y", "target", "targets", "labels", "tgt"].contains(&&*input.name)
    })?;
    let mut signature = Signature {
        family: family(graph).to_owned(),
        lengths,
        fills,
        targets,
        output: output.name.clone(),
        kind: kind(&walk, output, sidecar),
        layout: layout(graph, output, sidecar),
        states: Vec::new(),
        context: Vec::new(),
        adds_ends: false,
        vocab_size: 0,
        bos: 0,
        eos: 0,
        unk: None,
        pad: sidecar.pad,
        tokenizer: String::new(),
        cell: sidecar.cell.clone().or_else(|| cell(graph)),
        run: Run::Sentences,
        findings: Vec::new(),
        tokens,
    };
    states(graph, sidecar, &rest, &mut signature)?;
    signature.tokens.time_major = sidecar.time_major.unwrap_or_else(|| time_major(graph, &signature));
    fixed_sizes(graph, &mut signature);
    signature.adds_ends = sidecar.adds_ends.unwrap_or(
        matches!(signature.layout, Layout::Sentence | Layout::Targets { .. })
            && signature.targets.is_none()
            && !walk.embedding(&signature.tokens.ids.name).is_some_and(|(node, _)| {
                walk.is_view(&graph.nodes[node].input[1], &signature.tokens.ids.name)
            }),
    );
    explain(graph, &walk, sidecar, &mut signature);
    Ok(signature)
}

/// Exports that are known and cannot be used are refused by their names.
fn refuse(graph: &Graph) -> Result<(), String> {
    let input = |name: &str| graph.input(name).is_some();
    let output = |name: &str| graph.output(name).is_some();
    if input("hyps_pad_sos_eos") || output("best_index") {
        return Err(
            "WeNet's decoder for GPU servers: its output `best_index` is a choice without scores; export \
                    decoder.onnx with wenet/bin/export_onnx_cpu.py instead"
                .to_owned(),
        );
    }
    if (input("encoder_outputs") && input("targets")) || output("prednet_lengths") || output("decoder_out") {
        return Err(
            "the prediction network of a transducer (RNN-T), not a language model: its scores mean nothing \
                    without the acoustics; name a language model"
                .to_owned(),
        );
    }
    let encoder = ["last_hidden_state", "pooler_output", "sentence_embedding", "encoder_out"];
    if let Some(name) = encoder.iter().find(|&&name| output(name))
        && !output("logits")
    {
        return Err(format!(
            "gives `{name}`, hidden states and no scores of tokens; export the model with its language model head \
             (for Hugging Face --task text-generation)"
        ));
    }
    for node in &graph.nodes {
        let direction = super::super::graph::attribute(node, "direction").map(|direction| &direction.s[..]);
        if matches!(direction, Some(b"bidirectional" | b"reverse")) {
            return Err(format!(
                "its {} reads the sentence from the end ({}): not causal, such a model has seen the word it should \
                 predict; train one that reads from left to right",
                node.op_type,
                String::from_utf8_lossy(direction.unwrap_or_default())
            ));
        }
    }
    unsupported_types(graph)
}

/// ONNX Runtime loads recurrent nodes of other types, and fails when they run.
fn unsupported_types(graph: &Graph) -> Result<(), String> {
    let walk = Walk::new(graph);
    for (_, node) in walk.recurrent().unwrap_or_default() {
        let dtype = node.input.get(1).and_then(|name| walk.weight(name)).map(|(weight, _)| weight.dtype);
        if let Some(dtype) = dtype.filter(|&dtype| dtype == Dtype::DOUBLE || dtype == Dtype::BFLOAT16) {
            return Err(format!(
                "its {} is {dtype}, which ONNX Runtime cannot run; export it in float32",
                node.op_type
            ));
        }
    }
    Ok(())
}

fn tokens(graph: &Graph, walk: &Walk<'_>, sidecar: &Sidecar) -> Result<Tokens, String> {
    let show = |values: &[Value]| list(&values.iter().map(Value::to_string).collect::<Vec<_>>());
    let grid = |input: &&Value| input.rank().is_none_or(|rank| rank == 2);
    let filled = ["mask", "position", "token_type", "segment_ids", "len"];
    let integers: Vec<&Value> = graph
        .inputs
        .iter()
        .filter(|input| input.dtype.is_integer())
        .filter(grid)
        .filter(|input| !filled.iter().any(|part| input.name.contains(part)))
        .collect();
    let found = match &sidecar.tokens {
        Some(name) => graph
            .input(name)
            .ok_or_else(|| format!("the file beside it names `{name}`, which is no input of the model"))?,
        None => {
            let known =
                TOKENS.iter().find_map(|&name| integers.iter().find(|input| input.name == name).copied());
            let floats = || {
                let floats = graph.inputs.iter().filter(|input| input.dtype == Dtype::FLOAT).filter(grid);
                floats.filter(|input| walk.embedding(&input.name).is_some()).collect::<Vec<_>>()
            };
            match (known, &integers[..]) {
                (Some(input), _) => input,
                (None, [input]) => input,
                (None, []) => match floats()[..] {
                    [input] => input,
                    _ => {
                        return Err(format!(
                            "takes no token ids: its inputs are {}; a language model reads integers [N, L] (or name the \
                             input, `tokens = ..` in a file beside it)",
                            show(&graph.inputs)
                        ));
                    }
                },
                _ => {
                    return Err(format!(
                        "which of its inputs {} holds the tokens cannot be told; write `tokens = \"NAME\"` in a file \
                         beside it",
                        show(&graph.inputs)
                    ));
                }
            }
        }
    };
    if !(found.dtype.is_integer() || found.dtype == Dtype::FLOAT)
        || found.rank().is_some_and(|rank| rank != 2)
    {
        return Err(format!("input `{found}` should be token ids, int64, int32 or float32 [N, L]"));
    }
    let ids = Ids { name: found.name.clone(), dtype: found.dtype };
    Ok(Tokens { ids, time_major: false, length: None, batch: None })
}

fn output<'a>(graph: &'a Graph, sidecar: &Sidecar) -> Result<&'a Value, String> {
    let found = match &sidecar.output {
        Some(name) => graph
            .output(name)
            .ok_or_else(|| format!("the file beside it names `{name}`, which is no output of the model"))?,
        None => OUTPUTS
            .iter()
            .find_map(|&name| graph.output(name))
            .or(graph.outputs.first())
            .ok_or("has no output; export it again")?,
    };
    if !found.dtype.is_float() {
        return Err(format!("output `{found}` should be scores of tokens, float32 [N, L, V]"));
    }
    Ok(found)
}

fn kind(walk: &Walk<'_>, output: &Value, sidecar: &Sidecar) -> Kind {
    sidecar.scores.unwrap_or_else(|| match walk.ending(&output.name) {
        Ending::LogSoftmax => Kind::LogProbs,
        Ending::Softmax => Kind::Probabilities,
        Ending::Loss => Kind::NegativeLog,
        Ending::Product | Ending::Other if output.name == "nll" => Kind::NegativeLog,
        Ending::Product | Ending::Other => Kind::Logits,
    })
}

fn layout(graph: &Graph, output: &Value, sidecar: &Sidecar) -> Layout {
    match sidecar.layout {
        Some(Positions::Last) => return Layout::Last,
        Some(Positions::First) => return Layout::First,
        Some(Positions::Sentence) => return Layout::Sentence,
        Some(Positions::Targets) => {
            return Layout::Targets {
                time_major: sidecar.time_major == Some(true),
                flat: output.rank() == Some(1),
            };
        }
        Some(Positions::Each) | None => {}
    }
    match output.rank() {
        Some(0 | 1) => Layout::Sentence,
        Some(2) if output.name == "nll" => Layout::Sentence,
        // Settled by trying: the last position, the first, or all in one dimension.
        Some(2) if sidecar.layout.is_none() => {
            if graph.metadata.get("comment").is_some_and(|comment| comment == "rnnlm state") {
                Layout::First
            } else {
                Layout::Last
            }
        }
        rank => Layout::Each { time_major: sidecar.time_major.unwrap_or(false), flat: rank == Some(2) },
    }
}

/// A first guess, which trying corrects.
fn time_major(graph: &Graph, signature: &Signature) -> bool {
    let Some([first, second]) =
        graph.input(&signature.tokens.ids.name).and_then(|input| input.dims.as_deref())
    else {
        return false;
    };
    match (first, second) {
        (Dim::Fixed(length), Dim::Fixed(1)) => *length > 1,
        (Dim::Symbol(_), Dim::Symbol(second)) => {
            let stated = batch_symbol(graph, signature);
            let states = !signature.states.is_empty() && stated == Some(second.as_str());
            states || second.eq_ignore_ascii_case("n") || second.contains("batch")
        }
        (_, Dim::Fixed(1)) => !signature.states.is_empty(),
        _ => false,
    }
}

fn fixed_sizes(graph: &Graph, signature: &mut Signature) {
    let tokens = &mut signature.tokens;
    let Some([first, second]) = graph.input(&tokens.ids.name).and_then(|input| input.dims.as_deref()) else {
        return;
    };
    let fixed = |dim: &Dim| if let Dim::Fixed(size) = dim { Some(*size) } else { None };
    let (rows, positions) = if tokens.time_major { (second, first) } else { (first, second) };
    (tokens.batch, tokens.length) = (fixed(rows), fixed(positions));
    for state in &signature.states {
        let dims = graph.input(&state.input).and_then(|input| input.dims.as_deref());
        tokens.batch = tokens.batch.or_else(|| dims.and_then(|dims| fixed(&dims[state.batch])));
    }
}

fn cell(graph: &Graph) -> Option<String> {
    let names = [
        ("LSTM", "LSTM"),
        ("GRU", "GRU"),
        ("RNN", "RNN"),
        ("com.microsoft::DynamicQuantizeLSTM", "LSTM, dynamically quantised"),
        ("com.microsoft::GroupQueryAttention", "transformer"),
    ];
    let found = names.iter().find(|(op, _)| graph.ops.contains_key(*op)).map(|(_, name)| (*name).to_owned());
    let attention =
        graph.ops.contains_key("Softmax") && graph.ops.get("MatMul").is_some_and(|&count| count > 4);
    found.or_else(|| attention.then(|| "attention".to_owned()))
}

fn family(graph: &Graph) -> &'static str {
    let inputs = |names: &[&str]| names.iter().all(|name| graph.input(name).is_some());
    let output = |name: &str| graph.output(name).is_some();
    let like = |prefix: &str| graph.inputs.iter().any(|input| input.name.starts_with(prefix));
    let of = |maker: &str| graph.producer.starts_with(maker);
    if inputs(&["x", "x_lens"]) && output("nll") {
        "icefall RNN language model without states"
    } else if inputs(&["x", "y", "h0", "c0"]) && output("nll") {
        "icefall RNN language model with states, version 1"
    } else if inputs(&["x", "h0", "c0"]) && output("log_softmax") {
        "icefall RNN language model with states"
    } else if inputs(&["x", "in_hidden1"]) && output("y") {
        "espnet_onnx SequentialRNNLM"
    } else if inputs(&["tgt"]) && like("cache_") && output("y") {
        "espnet_onnx TransformerLM"
    } else if inputs(&["hyps", "hyps_lens", "encoder_out"]) && output("score") {
        "WeNet attention decoder"
    } else if inputs(&["input_ids"]) && output("logits") {
        if like("past") {
            "Hugging Face causal language model with past"
        } else {
            "Hugging Face language model"
        }
    } else if graph.metadata.contains_key("secondpass.version") {
        "secondpass model"
    } else if of("tf2onnx") {
        "Keras model by tf2onnx"
    } else if of("pytorch") {
        "PyTorch model"
    } else {
        "unknown export"
    }
}

fn explain(graph: &Graph, walk: &Walk<'_>, sidecar: &Sidecar, signature: &mut Signature) {
    let by = |told: bool, else_by: &'static str| if told { "the file beside it" } else { else_by };
    let names = ["unknown export", "PyTorch model", "Keras model by tf2onnx"];
    let why = if names.contains(&&*signature.family) { "producer" } else { "names" };
    signature.found("signature", signature.family.clone(), why);
    let declared =
        |name: &str| graph.inputs.iter().chain(&graph.outputs).find(|v| v.name == name).map(Value::to_string);
    let tokens = declared(&signature.tokens.ids.name).unwrap_or_default();
    let known = TOKENS.contains(&&*signature.tokens.ids.name);
    let why = by(sidecar.tokens.is_some(), if known { "name" } else { "the one input of ids" });
    signature.found("tokens", tokens, why);
    for state in signature.states.clone() {
        let grows = if state.grows.is_some() { ", grows with the history" } else { "" };
        let value =
            format!("{} -> {} {:?}, batch at {}{grows}", state.input, state.output, state.dims, state.batch);
        signature.found("state", value, by(!sidecar.state.is_empty(), "names and shapes"));
    }
    for context in signature.context.clone() {
        let why = by(sidecar.context.is_some(), "an input without an output to go with");
        signature.found("with input", declared(&context.ids.name).unwrap_or_default(), why);
    }
    let known = OUTPUTS.contains(&&*signature.output);
    let why = by(sidecar.output.is_some(), if known { "name" } else { "first output" });
    signature.found("scores", declared(&signature.output).unwrap_or_default(), why);
    let ending = match walk.ending(&signature.output) {
        Ending::LogSoftmax => "the graph ends in LogSoftmax",
        Ending::Softmax => "the graph ends in Softmax",
        Ending::Loss => "the graph ends in a loss",
        Ending::Product => "the graph ends in a matrix product",
        Ending::Other => "the graph's end says nothing",
    };
    signature.found("kind", signature.kind.to_string(), by(sidecar.scores.is_some(), ending));
}

/// What inputs of tokens are called, surest first.
const TOKENS: [&str; 10] =
    ["tokens", "input_ids", "x", "tgt", "hyps", "input", "input.1", "src", "history", "token_ids"];
/// What outputs with scores are called, surest first.
const OUTPUTS: [&str; 9] =
    ["log_probs", "log_softmax", "logits", "nll", "score", "scores", "logprobs", "probabilities", "y"];
