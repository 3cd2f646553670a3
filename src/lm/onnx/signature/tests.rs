use super::super::graph::{Dim, Value};
use super::*;

fn value(name: &str, dtype: Dtype, dims: &[&str]) -> Value {
    let dim = |text: &&str| text.parse().map_or_else(|_| Dim::Symbol(text.to_string()), Dim::Fixed);
    Value { name: name.to_owned(), dtype, dims: Some(dims.iter().map(dim).collect()) }
}

fn own() -> Graph {
    let pair = |(key, value): (&str, &str)| (format!("secondpass.{key}"), value.to_owned());
    Graph {
        path: "m.onnx".into(),
        inputs: vec![
            value("tokens", Dtype::INT64, &["N", "L"]),
            value("state_0", Dtype::FLOAT, &["2", "N", "16"]),
            value("state_1", Dtype::FLOAT, &["2", "N", "16"]),
        ],
        outputs: vec![
            value("log_probs", Dtype::FLOAT, &["N", "L", "50"]),
            value("next_state_0", Dtype::FLOAT, &["2", "N", "16"]),
            value("next_state_1", Dtype::FLOAT, &["2", "n2", "16"]),
        ],
        metadata: [("version", "1"), ("vocab_size", "50"), ("bos_id", "1"), ("eos_id", "2"), ("unk_id", "0")]
            .map(pair)
            .into(),
        ..Graph::default()
    }
}

fn graph(inputs: &[(&str, Dtype, &[&str])], outputs: &[(&str, Dtype, &[&str])]) -> Graph {
    let values = |list: &[(&str, Dtype, &[&str])]| list.iter().map(|&(n, t, d)| value(n, t, d)).collect();
    Graph { path: "m.onnx".into(), inputs: values(inputs), outputs: values(outputs), ..Graph::default() }
}

fn detect(graph: &Graph) -> Result<Signature, String> {
    Signature::detect_with(graph, Sidecar::default()).map(|draft| draft.signature)
}

#[test]
fn our_own_contract() {
    let draft = Signature::detect_with(&own(), Sidecar::default()).unwrap();
    assert!(draft.own);
    let found = &draft.specials;
    assert_eq!(
        (found.bos, found.eos, found.unk),
        (Some((1, "metadata")), Some((2, "metadata")), Some((0, "metadata")))
    );
    assert_eq!(found.vocab_size, Some((50, "metadata")));
    let signature = draft.signature;
    assert_eq!(signature.states.len(), 2);
    assert_eq!(signature.states[1].shape(5, 0), [2, 5, 16]);
    assert_eq!(signature.states[0].size(), 32);
    assert_eq!(signature.state_bytes(), 256);
}

#[test]
fn whatever_breaks_the_contract_is_named() {
    let float = Dtype::FLOAT;
    let refusal = |change: &dyn Fn(&mut Graph)| {
        let mut graph = own();
        change(&mut graph);
        Signature::detect_with(&graph, Sidecar::default()).unwrap_err()
    };
    for (message, what) in [
        (refusal(&|g| g.inputs[0].dtype = float), "tokens float32 [N, L]"),
        (refusal(&|g| g.inputs[0] = value("tokens", Dtype::INT64, &["N"])), "tokens int64 [N]"),
        (refusal(&|g| g.inputs[0] = value("tokens", Dtype::INT64, &["N", "35"])), "tokens int64 [N, 35]"),
        (refusal(&|g| g.outputs[0].dtype = Dtype::FLOAT16), "log_probs float16"),
        (refusal(&|g| g.outputs[0] = value("log_probs", float, &["N", "50"])), "log_probs float32 [N, 50]"),
        (refusal(&|g| g.inputs[1].dtype = Dtype::FLOAT16), "state_0 float16"),
        (refusal(&|g| g.inputs[1] = value("state_0", float, &["2", "1", "16"])), "batch size named N"),
        (refusal(&|g| g.inputs[1] = value("state_0", float, &["2", "N", "H"])), "other sizes fixed"),
        (refusal(&|g| g.inputs[1].dims = None), "state_0 float32 [..]"),
        (refusal(&|g| drop(g.outputs.pop())), "no output next_state_1"),
        (refusal(&|g| g.outputs[1] = value("next_state_0", float, &["2", "N", "8"])), "does not fit"),
        (refusal(&|g| g.outputs.push(value("extra", float, &["N"]))), "extra float32 [N]"),
        (refusal(&|g| drop(g.metadata.insert("secondpass.vocab_size".into(), "51".into()))), "51, but"),
        (refusal(&|g| drop(g.metadata.insert("secondpass.bos_id".into(), "-1".into()))), "not a number"),
        (refusal(&|g| drop(g.metadata.insert("secondpass.version".into(), "2".into()))), "update secondpass"),
    ] {
        assert!(message.contains(what) && !message.contains('\n'), "{what}: {message}");
    }
}

const INT: Dtype = Dtype::INT64;
const FLOAT: Dtype = Dtype::FLOAT;

#[test]
fn known_exports_that_cannot_be_used_are_refused_by_name() {
    let grid: &[&str] = &["N", "L"];
    for (inputs, outputs, what) in [
        (
            vec![
                ("encoder_out", FLOAT, &["B", "T", "F"][..]),
                ("encoder_out_lens", Dtype::INT32, &["B"]),
                ("hyps_pad_sos_eos", INT, &["B", "10", "L"]),
                ("hyps_lens_sos", Dtype::INT32, &["B", "10"]),
                ("r_hyps_pad_sos_eos", INT, &["B", "10", "L"]),
                ("ctc_score", FLOAT, &["B", "10"]),
            ],
            vec![("best_index", INT, &["B"][..])],
            "export_onnx_cpu.py",
        ),
        (
            vec![
                ("encoder_outputs", FLOAT, &["B", "D", "T"][..]),
                ("targets", Dtype::INT32, grid),
                ("target_length", Dtype::INT32, &["B"]),
                ("input_states_1", FLOAT, &["2", "B", "640"]),
            ],
            vec![("outputs", FLOAT, &["B", "T", "L", "1025"][..]), ("prednet_lengths", Dtype::INT32, &["B"])],
            "prediction network of a transducer",
        ),
        (
            vec![("y", INT, &["N", "2"][..])],
            vec![("decoder_out", FLOAT, &["N", "512"][..])],
            "prediction network of a transducer",
        ),
        (
            vec![("input_ids", INT, grid), ("attention_mask", INT, grid), ("token_type_ids", INT, grid)],
            vec![("last_hidden_state", FLOAT, &["N", "L", "768"][..])],
            "--task text-generation",
        ),
        (
            vec![("speech", FLOAT, &["N", "T", "80"][..])],
            vec![("logits", FLOAT, &["N", "T", "500"][..])],
            "takes no token ids",
        ),
        (
            vec![("a", INT, grid), ("b", INT, grid)],
            vec![("c", FLOAT, &["N", "L", "50"][..])],
            "write `tokens = \"NAME\"`",
        ),
        (vec![("ids", INT, grid)], vec![("best", INT, &["N"][..])], "should be scores of tokens"),
        (
            vec![("ids", INT, grid), ("h", FLOAT, &["a", "b", "c"])],
            vec![("p", FLOAT, &["N", "L", "50"][..]), ("n", FLOAT, &["a", "b", "c"])],
            "write [[state]]",
        ),
    ] {
        let message = detect(&graph(&inputs, &outputs)).unwrap_err();
        assert!(message.contains(what) && !message.contains('\n'), "{what}: {message}");
    }
}

#[test]
fn structure_says_what_names_do_not() {
    // PyTorch's own names for a fixed, time-major, flattened language model.
    let found = detect(&graph(
        &[
            ("input.1", INT, &["35", "1"]),
            ("onnx::Slice_1", FLOAT, &["2", "1", "200"]),
            ("onnx::Slice_2", FLOAT, &["2", "1", "200"]),
        ],
        &[
            ("167", FLOAT, &["35", "1000"]),
            ("160", FLOAT, &["2", "1", "200"]),
            ("161", FLOAT, &["2", "1", "200"]),
        ],
    ))
    .unwrap();
    assert!(found.tokens.time_major);
    assert_eq!((found.tokens.length, found.tokens.batch), (Some(35), Some(1)));
    let pairs: Vec<_> = found.states.iter().map(|s| (&*s.input, &*s.output, s.batch)).collect();
    assert_eq!(pairs, [("onnx::Slice_1", "160", 1), ("onnx::Slice_2", "161", 1)]);
    // Caches grow along their second free dimension; masks and positions are filled in.
    let found = detect(&graph(
        &[
            ("input_ids", INT, &["B", "L"]),
            ("attention_mask", INT, &["B", "past + L"]),
            ("position_ids", INT, &["B", "L"]),
            ("past_key_values.0.key", FLOAT, &["B", "2", "past", "4"]),
            ("past_key_values.0.value", FLOAT, &["B", "2", "past", "4"]),
            ("use_cache_branch", Dtype::BOOL, &["1"]),
        ],
        &[
            ("logits", FLOAT, &["B", "L", "50"]),
            ("present.0.key", FLOAT, &["B", "2", "all", "4"]),
            ("present.0.value", FLOAT, &["B", "2", "all", "4"]),
        ],
    ))
    .unwrap();
    assert!(found.grows() && found.states[1].output == "present.0.value");
    assert_eq!(found.states[0].shape(3, 7), [3, 2, 7, 4]);
    let fills: Vec<_> = found.fills.iter().map(|fill| fill.with).collect();
    assert_eq!(fills, [With::Mask, With::Positions, With::Zero]);
    assert!(found.context.is_empty());
}

#[test]
fn a_file_beside_the_model_has_the_last_word() {
    let graph = graph(
        &[
            ("a", INT, &["N", "L"]),
            ("b", INT, &["N", "L"]),
            ("h", FLOAT, &["N", "4"]),
            ("c", FLOAT, &["N", "4"]),
        ],
        &[("p", FLOAT, &["N", "L", "9"]), ("x", FLOAT, &["N", "4"]), ("y", FLOAT, &["N", "4"])],
    );
    let told = |text: &str| Signature::detect_with(&graph, toml::from_str(text).unwrap());
    let text = "tokens = \"b\"\ntargets = \"a\"\noutput = \"p\"\nscores = \"logits\"\ntime_major = true\nbos = 3\neos = 4\n\
        pad = 5\ncell = \"mine\"\n[[state]]\ninput = \"c\"\noutput = \"x\"\n[[state]]\ninput = \"h\"\noutput = \"y\"\nbatch = 0\n";
    let draft = told(text).unwrap();
    let found = &draft.signature;
    assert_eq!((&*found.tokens.ids.name, &*found.targets.as_ref().unwrap().name), ("b", "a"));
    assert_eq!((found.kind, found.tokens.time_major, found.pad), (Kind::Logits, true, Some(5)));
    let pairs: Vec<_> = found.states.iter().map(|s| (&*s.input, &*s.output)).collect();
    assert_eq!(pairs, [("c", "x"), ("h", "y")]);
    assert_eq!(draft.specials.bos, Some((3, "the file beside it")));
    assert_eq!(found.cell.as_deref(), Some("mine"));
    for (text, what) in [
        ("tokens = \"z\"", "names `z`, which is no input"),
        ("tokens = \"a\"\nmask = \"z\"", "names `z`, which is no input"),
        ("tokens = \"a\"\noutput = \"z\"", "names `z`, which is no output"),
        ("tokens = \"a\"\ntargets = \"b\"\n[[state]]\ninput = \"z\"\noutput = \"x\"", "names `z`"),
        (
            "tokens = \"a\"\ntargets = \"b\"\n[[state]]\ninput = \"h\"\noutput = \"z\"",
            "goes with its input `h",
        ),
    ] {
        let message = told(text).unwrap_err();
        assert!(message.contains(what), "{what}: {message}");
    }
}
