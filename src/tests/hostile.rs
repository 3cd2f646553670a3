//! Promise M8: whatever an ONNX file holds, the program works or says in one line why not. Each file is
//! opened in a process of its own, where a crash of ONNX Runtime would show.

use std::path::Path;

use crate::data::{Random, fixture, read};
use crate::harness::Dir;
use crate::onnx::*;

/// A file and what must come of it.
struct Hostile {
    name: String,
    bytes: Vec<u8>,
    expect: Expect,
}

enum Expect {
    /// Exit 2, and a line with these words.
    Says(&'static str),
    /// Exit 0, or exit 2 with one line: damage may hit what does not matter.
    Either,
    Works,
}

use Expect::{Either, Says, Works};

fn score(dir: &Dir, library: &Path, model: &str) -> crate::harness::Output {
    dir.secondpass(["score", "--rnnlm", model]).ort(library).stdin("a b c\n\n").run()
}

fn check(name: &str, expect: &Expect, output: &crate::harness::Output) -> Result<(), String> {
    let (code, said) = (output.status.code(), output.stderr.trim_end());
    let refused = code == Some(2) && said.starts_with("secondpass: ") && said.lines().count() == 1;
    let right = match expect {
        Says(what) => refused && said.contains(what),
        Either => refused || code == Some(0),
        Works => code == Some(0),
    };
    if right { Ok(()) } else { Err(format!("{name}: {}: {said}", output.status)) }
}

#[test]
fn m8_hostile_models() {
    let library = crate::runtime!("m8_hostile_models");
    let mut files = bytes();
    files.extend(graphs());
    files.extend(shapes());
    assert!(files.len() >= 60, "only {} files", files.len());
    let dir = Dir::new();
    dir.write("tokens.txt", TOKENS);
    let mut faults = Vec::new();
    for Hostile { name, bytes, expect } in &files {
        dir.write("model.onnx", bytes);
        faults.extend(check(name, expect, &score(&dir, library, "model.onnx")).err());
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), files.len(), faults.join("\n"));
}

/// Bytes that are no model, or a damaged one.
fn bytes() -> Vec<Hostile> {
    let mut files = Vec::new();
    let mut add =
        |name: &str, bytes: Vec<u8>, expect| files.push(Hostile { name: name.into(), bytes, expect });
    let good = bigram().model();
    add("a sound model", good.clone(), Works);
    add("nothing", Vec::new(), Says("the file is empty"));
    add("one byte", vec![8], Says("damaged or truncated"));
    add("a text", b"this is no model\n".to_vec(), Says("not an ONNX model"));
    add("a web page", b"<!DOCTYPE html><html>404</html>".to_vec(), Says("not an ONNX model"));
    add(
        "a pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(),
        Says("git lfs pull"),
    );
    add("an image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), Says("not an ONNX model"));
    add("an archive", b"PK\x03\x04\x14\0\0\0\x08\0".to_vec(), Says("not an ONNX model"));
    add("zeros", vec![0; 4096], Says("not an ONNX model"));
    add("ones", vec![0xff; 4096], Says("not an ONNX model"));
    let mut random = Random::new(5);
    add("noise", (0..4096).map(|_| random.below(256) as u8).collect(), Either);
    let lstm = read("models/tiny-lstm/model.onnx");
    for tenths in [1, 3, 5, 7, 9] {
        add(
            &format!("the first {tenths} tenths"),
            lstm[..lstm.len() * tenths / 10].to_vec(),
            Says("truncated"),
        );
    }
    add("all but a byte", lstm[..lstm.len() - 1].to_vec(), Says("truncated"));
    add("twice", [good.clone(), good.clone()].concat(), Either);
    add("and something behind it", [&good[..], &[7; 100]].concat(), Either);
    add(
        "a length without end",
        vec![8, 8, 0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        Says("damaged"),
    );
    for place in 0..12 {
        let mut damaged = good.clone();
        let at = random.below(damaged.len());
        damaged[at] ^= 1 << random.below(8);
        add(&format!("damage {place} at {at}"), damaged, Either);
    }
    let flood: Vec<u8> = [0x0a, 0].repeat(1_100_000);
    add("a million empty nodes", [number(1, 8), field(7, flood)].concat(), Says("over the limit"));
    let mut deep = Graph::default().bytes();
    for _ in 0..300 {
        deep = field(1, node("If", &["c"], &["y"], &[graph_attribute("then_branch", &deep)]));
    }
    add("graphs in graphs", [number(1, 8), field(7, deep)].concat(), Says("damaged"));
    files
}

/// Graphs that make no sense.
fn graphs() -> Vec<Hostile> {
    let mut files = Vec::new();
    let mut add =
        |name: &str, bytes: Vec<u8>, expect| files.push(Hostile { name: name.into(), bytes, expect });
    let changed = |change: &dyn Fn(&mut Graph)| {
        let mut graph = bigram();
        change(&mut graph);
        graph.model()
    };
    add("no graph", number(1, 8), Says("no graph"));
    add("no inputs", changed(&|g| g.inputs.clear()), Says("`ids` is needed"));
    add("no outputs", changed(&|g| g.outputs.clear()), Says("no output"));
    add("no nodes", changed(&|g| g.nodes.clear()), Says("nothing makes its output"));
    add("no weights", changed(&|g| g.weights.clear()), Says("`table` is needed but neither stored nor made"));
    add(
        "an operator that does not exist",
        changed(&|g| g.nodes[1] = node("Frobnicate", &["logits"], &["scores"], &[])),
        Says("Frobnicate"),
    );
    add(
        "no operator",
        changed(&|g| g.nodes[1] = node("", &["logits"], &["scores"], &[])),
        Says("cannot load"),
    );
    let own = [node("Mine", &["logits"], &["scores"], &[]), field(7, "com.example")].concat();
    add("an operator of somebody", changed(&|g| g.nodes[1] = own.clone()), Says("`com.example`"));
    add(
        "a circle",
        changed(&|g| {
            g.nodes[0] = node("Add", &["table", "scores"], &["logits"], &[]);
        }),
        Says("in a circle"),
    );
    add(
        "a node that waits for itself",
        changed(&|g| g.nodes[1] = node("Relu", &["scores"], &["scores"], &[])),
        Says("in a circle"),
    );
    add(
        "two makers",
        changed(&|g| g.nodes.push(node("Relu", &["logits"], &["scores"], &[]))),
        Says("two nodes make `scores`"),
    );
    add("a weight twice", changed(&|g| g.weights.push(g.weights[0].clone())), Either);
    add(
        "a name that is no text",
        changed(&|g| g.nodes[1] = [field(1, [0xff, 0xfe]), field(4, "Relu")].concat()),
        Says("damaged"),
    );
    add(
        "a name without end",
        changed(&|g| g.inputs[0] = value("ids", INT64, &["N", &"L".repeat(1 << 20)])),
        Works,
    );
    add(
        "an If without branches",
        changed(&|g| g.nodes[1] = node("If", &["logits"], &["scores"], &[])),
        Says("cannot load"),
    );
    let calls = [node("F", &["x"], &["y"], &[]), field(7, "f")].concat();
    let function = [
        field(1, "F"),
        field(4, "x"),
        field(5, "y"),
        field(7, &calls),
        field(9, [field(1, "f"), number(2, 1)].concat()),
        field(10, "f"),
    ]
    .concat();
    let user = [node("F", &["logits"], &["scores"], &[]), field(7, "f")].concat();
    let recursive = [changed(&|g| g.nodes[1] = user.clone()), opset("f", 1), field(25, function)].concat();
    add("a function that calls itself", recursive, Says("recursive"));
    // `Loop` until the end of time.
    let body = Graph {
        nodes: vec![node("Identity", &["go"], &["on"], &[]), node("Identity", &["x"], &["z"], &[])],
        inputs: vec![value("i", INT64, &[]), value("go", 9, &[]), value("x", FLOAT, &["N", "L", "8"])],
        outputs: vec![value("on", 9, &[]), value("z", FLOAT, &["N", "L", "8"])],
        ..Graph::default()
    };
    let forever =
        node("Loop", &["most", "yes", "logits"], &["scores"], &[graph_attribute("body", &body.bytes())]);
    add(
        "a loop without end",
        changed(&|g| {
            g.nodes[1] = forever.clone();
            g.weights.push(tensor("most", INT64, &[], &i64::MAX.to_le_bytes()));
            g.weights.push(tensor("yes", 9, &[], &[1]));
        }),
        Says("no answer within"),
    );
    add("opset 999", [number(1, 8), field(7, bigram().bytes()), opset("", 999)].concat(), Either);
    add("no opset", [number(1, 8), field(7, bigram().bytes())].concat(), Either);
    add("format 999", [number(1, 999), field(7, bigram().bytes()), opset("", 17)].concat(), Either);
    files
}

/// Types, sizes and numbers that do not fit.
fn shapes() -> Vec<Hostile> {
    let mut files = Vec::new();
    let mut add =
        |name: &str, bytes: Vec<u8>, expect| files.push(Hostile { name: name.into(), bytes, expect });
    let changed = |change: &dyn Fn(&mut Graph)| {
        let mut graph = bigram();
        change(&mut graph);
        graph.model()
    };
    let table = |dtype, dims: &[i64], bytes: usize| {
        let weight = tensor("table", dtype, dims, &vec![0; bytes]);
        changed(&move |g| g.weights[0] = weight.clone())
    };
    add("a negative size", table(FLOAT, &[-8, 8], 256), Says("has dimensions [-8, 8]"));
    add("sizes beyond counting", table(FLOAT, &[i64::MAX, i64::MAX], 256), Says("has dimensions"));
    add("sizes beyond memory", table(FLOAT, &[1 << 30, 8], 256), Says("holds 256 bytes"));
    add("a weight too short", table(FLOAT, &[8, 8], 255), Says("holds 255 bytes"));
    add("a weight too long", table(FLOAT, &[8, 8], 260), Says("holds 260 bytes"));
    add("a weight of no type", table(99, &[8, 8], 256), Either);
    add("a weight of texts", table(8, &[8, 8], 256), Either);
    add("a weight of no size", table(FLOAT, &[0, 8], 0), Either);
    let input = |dtype, dims: &[&str]| {
        let input = value("ids", dtype, dims);
        changed(&move |g| g.inputs[0] = input.clone())
    };
    add("ids [N]", input(INT64, &["N"]), Says("takes no token ids"));
    add("ids [N, L, D]", input(INT64, &["N", "L", "D"]), Says("takes no token ids"));
    add("ids of texts", input(8, &["N", "L"]), Says("takes no token ids"));
    add("ids of no type", input(0, &["N", "L"]), Says("takes no token ids"));
    add("ids that are sound", input(INT64, &["N", "L"]), Works);
    add("rows beyond counting", input(INT64, &["1048576", "1048576"]), Says("more than makes sense"));
    add("a size of 0", input(INT64, &["0", "L"]), Either);
    add(
        "scores that are integers",
        changed(&|g| g.outputs[0] = value("scores", INT64, &["N", "L", "8"])),
        Says("should be scores"),
    );
    add("scores of another rank", changed(&|g| g.outputs[0] = value("scores", FLOAT, &["N"])), Either);
    let nan = tensor("table", FLOAT, &[8, 8], &floats([f32::NAN; 64]));
    add("scores that are no numbers", changed(&|g| g.weights[0] = nan.clone()), Says("are not numbers"));
    let with = |metadata: &[(&str, &str)]| bigram().with(metadata);
    add("another vocabulary", with(&[("vocab_size", "9"), ("bos_id", "0")]), Says("vocab_size 9"));
    add("a start outside", with(&[("bos_id", "8")]), Says("outside the vocabulary of 8"));
    add("a start that is no number", with(&[("bos_id", "zero")]), Says("not a number"));
    add("a start below 0", with(&[("bos_id", "-1")]), Says("not a number"));
    add("a contract of the future", with(&[("secondpass.version", "99")]), Says("update secondpass"));
    let small = floats((0..4 * 8).map(|n| n as f32));
    let small = tensor("table", FLOAT, &[4, 8], &small);
    // Half of its tokens cannot be looked up: a record that has them fails, the program does not.
    add("a table too small", changed(&|g| g.weights[0] = small.clone()), Either);
    add(
        "a reshape that cannot be",
        changed(&|g| {
            g.nodes[1] = node("Reshape", &["logits", "to"], &["scores"], &[]);
            g.weights.push(tensor("to", INT64, &[2], &[7i64.to_le_bytes(), 11i64.to_le_bytes()].concat()));
        }),
        Either,
    );
    add(
        "a terabyte of zeros",
        changed(&|g| {
            g.nodes[1] = node("ConstantOfShape", &["to"], &["big"], &[]);
            g.nodes.push(node("ReduceSum", &["big"], &["one"], &[int("keepdims", 0)]));
            g.nodes.push(node("Add", &["logits", "one"], &["scores"], &[]));
            g.weights.push(tensor("to", INT64, &[1], &(1i64 << 38).to_le_bytes()));
        }),
        Either,
    );
    let lstm = |hidden: i64| {
        let mut graph = bigram();
        graph.weights.push(tensor("w", FLOAT, &[1, 32, 8], &[0; 1024]));
        graph.weights.push(tensor("r", FLOAT, &[1, 32, 8], &[0; 1024]));
        graph.nodes[1] = node("LSTM", &["logits", "w", "r"], &["y"], &[int("hidden_size", hidden)]);
        graph.nodes.push(node("LogSoftmax", &["y"], &["scores"], &[]));
        graph.outputs[0] = value("scores", FLOAT, &["L", "1", "N", "8"]);
        graph.model()
    };
    for hidden in [0, -8, 7, 1 << 40] {
        add(&format!("an LSTM of {hidden}"), lstm(hidden), Either);
    }
    files
}

/// Weights in other files: only beside the model, links resolved.
#[cfg(unix)]
#[test]
fn m8_weights_stay_in_the_models_folder() {
    let library = crate::runtime!("m8_weights_stay_in_the_models_folder");
    let outer = Dir::new();
    let values = floats((0..64).map(|n| n as f32 / 9.0));
    outer.write("secret", &values);
    let folder = outer.path("model");
    std::fs::create_dir_all(folder.join("folder")).expect("a folder");
    std::fs::write(folder.join("tokens.txt"), TOKENS).expect("a file");
    std::fs::write(folder.join("weights"), &values).expect("a file");
    std::os::unix::fs::symlink(outer.path("secret"), folder.join("link")).expect("a link");
    std::os::unix::fs::symlink("weights", folder.join("inner")).expect("a link");
    std::os::unix::fs::symlink(outer.path(""), folder.join("way")).expect("a link");
    let fifo = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status();
    assert!(fifo.is_ok_and(|status| status.success()), "mkfifo");
    let secret = outer.path("secret").display().to_string();
    let place = |file: &str, pairs: &[(&str, &str)]| {
        let mut graph = bigram();
        let mut all = vec![("location", file)];
        all.extend(pairs);
        graph.weights[0] = outside("table", &[8, 8], &all);
        graph
    };
    let part = outside("inside", &[8, 8], &[("location", "../secret")]);
    let mut constant = bigram();
    constant.nodes.push(node("Constant", &[], &["unused"], &[tensor_attribute("value", &part)]));
    let mut branch = bigram();
    let hidden = Graph { weights: vec![part.clone()], ..Graph::default() }.bytes();
    branch.nodes.push(node("If", &["yes"], &[], &[graph_attribute("then_branch", &hidden)]));
    branch.weights.push(tensor("yes", 9, &[], &[1]));
    let mut sparse = bigram();
    sparse.others = field(15, field(1, &part));
    let files = [
        ("beside it", place("weights", &[]), Works),
        ("beside it, in part", place("weights", &[("offset", "0"), ("length", "256")]), Works),
        ("a link inside", place("inner", &[]), Either),
        ("an absolute path", place(&secret, &[]), Says("outside the model's directory")),
        ("a way up", place("../secret", &[]), Says("outside the model's directory")),
        ("a way down and up", place("folder/../../secret", &[]), Says("outside the model's directory")),
        ("a link", place("link", &[]), Says("leads outside")),
        ("a folder that is a link", place("way/secret", &[]), Says("leads outside")),
        ("no name", place("", &[]), Says("outside the model's directory")),
        ("nothing there", place("missing", &[]), Says("missing")),
        ("a folder", place("folder", &[]), Says("missing")),
        ("a pipe", place("pipe", &[]), Says("missing")),
        ("behind the end", place("weights", &[("offset", "1000")]), Says("shorter than")),
        ("over the end", place("weights", &[("offset", "200"), ("length", "256")]), Says("shorter than")),
        ("before the start", place("weights", &[("offset", "-4")]), Says("shorter than")),
        ("beyond counting", place("weights", &[("length", "18446744073709551615")]), Says("shorter than")),
        ("no number", place("weights", &[("offset", "abc")]), Says("shorter than")),
        ("in a constant", constant, Says("outside the model's directory")),
        ("in a branch", branch, Says("outside the model's directory")),
        ("among zeros", sparse, Says("outside the model's directory")),
    ];
    let mut faults = Vec::new();
    for (name, graph, expect) in &files {
        outer.write("model/model.onnx", graph.model());
        faults.extend(check(name, expect, &score(&outer, library, "model/model.onnx")).err());
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), files.len(), faults.join("\n"));
}

/// Tensors of records in files: only in the folder named, links resolved.
#[cfg(unix)]
#[test]
fn m8_tensors_stay_in_their_folder() {
    let library = crate::runtime!("m8_tensors_stay_in_their_folder");
    let json: serde_json::Value =
        serde_json::from_slice(&read("models/foreign/wenet-decoder/expected.json")).expect("JSON");
    let tensor = &json["context"][0];
    let shape: Vec<String> =
        tensor["shape"].as_array().expect("a list").iter().map(ToString::to_string).collect();
    let values = tensor["values"].as_array().expect("a list").iter();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}\n", shape.join(", "));
    let file = [
        b"\x93NUMPY\x01\x00".as_slice(),
        &(header.len() as u16).to_le_bytes(),
        header.as_bytes(),
        &floats(values.map(|value| value.as_f64().expect("a number") as f32)),
    ]
    .concat();
    let dir = Dir::new();
    std::fs::create_dir(dir.path("tensors")).expect("a folder");
    dir.write("tensors/utt1.npy", &file);
    dir.write("secret.npy", &file);
    std::os::unix::fs::symlink(dir.path("secret.npy"), dir.path("tensors/link.npy")).expect("a link");
    let fifo = std::process::Command::new("mkfifo").arg(dir.path("tensors/pipe.npy")).status();
    assert!(fifo.is_ok_and(|status| status.success()), "mkfifo");
    let record = |tensor: &str| {
        format!(
            "{{\"encoder_out\":{tensor},\"hyps\":[{{\"text\":\"wc wd\",\"scores\":{{\"score\":-1}}}},\
             {{\"text\":\"wc we\",\"scores\":{{\"score\":-1.5}}}}]}}\n"
        )
    };
    let rescore = |tensor: &str, folder: &[&str]| {
        let model = fixture("models/foreign/wenet-decoder/model.onnx");
        let command = dir.secondpass(["rescore", "--rnnlm"]).arg(model).args(folder).ort(library);
        command.stdin(record(tensor)).run()
    };
    let inside = &["--tensor-dir", "tensors"];
    let inline = format!("{{\"shape\":{},\"data\":{}}}", tensor["shape"], tensor["values"]);
    let (file, inline) = (rescore(r#"{"file":"utt1.npy"}"#, inside).code(0), rescore(&inline, &[]).code(0));
    assert_eq!(file.json()[0]["hyps"], inline.json()[0]["hyps"]);
    let secret = dir.path("secret.npy").display().to_string();
    for (name, folder, what) in [
        ("../secret.npy", &inside[..], "not named by its place"),
        (&*secret, inside, "not named by its place"),
        ("link.npy", inside, "leads outside"),
        ("pipe.npy", inside, "no file"),
        ("nowhere.npy", inside, "cannot be read"),
        ("utt1.npy", &[], "--tensor-dir"),
    ] {
        let passed = rescore(&format!("{{\"file\":\"{name}\"}}"), folder).code(1);
        let reason = passed.json()[0]["secondpass"]["reason"].to_string();
        assert!(reason.contains(what), "{name}: {reason}");
    }
}

/// What lies beside a model may be wrong too; and what a known crash of ONNX Runtime needs.
#[test]
fn m8_hostile_surroundings() {
    let library = crate::runtime!("m8_hostile_surroundings");
    let mut faults = Vec::new();
    for (name, file, text, expect) in [
        ("a vocabulary too large", "tokens.txt", TOKENS.to_owned() + "f 8\n", Says("another model")),
        ("no vocabulary", "tokens.txt", String::new(), Either),
        ("a correction with a slip", "model.onnx.toml", "time_mayor = true\n".into(), Says("line 1")),
        ("a correction that is no TOML", "model.onnx.toml", "\0\u{1}{{".into(), Says("line 1")),
        ("a correction about nothing", "model.onnx.toml", "tokens = \"none\"\n".into(), Says("names `none`")),
        (
            "a correction that is wrong",
            "model.onnx.toml",
            "scores = \"probabilities\"\n".into(),
            Says("not normalised"),
        ),
        ("a size that is wrong", "model.onnx.toml", "vocab_size = 9\n".into(), Says("9 tokens")),
        ("metadata that are no JSON", "config.json", "{{{".into(), Works),
    ] {
        let dir = Dir::new();
        dir.write("tokens.txt", TOKENS);
        dir.write("model.onnx", bigram().model());
        dir.write(file, text);
        faults.extend(check(name, &expect, &score(&dir, library, "model.onnx")).err());
    }
    let dir = Dir::new();
    std::fs::create_dir(dir.path("model.onnx")).expect("a folder");
    faults.extend(check("a folder", &Says("not a file"), &score(&dir, library, "model.onnx")).err());
    // float16, Transpose and MatMul: ONNX Runtime 1.32 crashes on it at its highest level.
    for name in ["lstm-fp16", "lstm-bf16", "lstm-fp64", "masked", "bidirectional"] {
        let model = fixture(&format!("models/foreign/{name}/model.onnx"));
        let output = dir.secondpass(["score", "--rnnlm"]).arg(model).ort(library).stdin("wa\n").run();
        let expect = if name == "lstm-fp16" { Works } else { Says("") };
        faults.extend(check(name, &expect, &output).err());
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What a model does not say can be said beside it; what it says wrongly too.
#[test]
fn what_cannot_be_found_out_can_be_told() {
    let library = crate::runtime!("what_cannot_be_found_out_can_be_told");
    let dir = Dir::new();
    // A list of symbols that names no ends, and no metadata.
    dir.write("tokens.txt", TOKENS.replace("<s>", "start").replace("</s>", "stop"));
    dir.write("model.onnx", bigram().with(&[]));
    let output = score(&dir, library, "model.onnx").code(2);
    assert!(
        output.stderr.contains("write `bos = ..` and `eos = ..` in model.onnx.toml"),
        "{}",
        output.stderr
    );
    let told = |text: &str| {
        dir.write("model.onnx.toml", text);
        let text = score(&dir, library, "model.onnx").code(0).text();
        text.lines().map(|line| line.parse::<f64>().expect("a number")).collect::<Vec<_>>()
    };
    // ln p of each next token is the log-softmax of the row of the token before.
    let ln = |before: usize, after: usize| {
        let value = |token: usize| f64::from(((before * SIZE + token) * 37 % 101) as f32 / 20.0);
        value(after) - (0..SIZE).map(|token| value(token).exp()).sum::<f64>().ln()
    };
    let sentence = |bos: usize, eos: usize| [ln(bos, 3) + ln(3, 4) + ln(4, 5) + ln(5, eos), ln(bos, eos)];
    for (text, expected) in [
        ("bos = 0\neos = 1\n", sentence(0, 1)),
        ("bos = 7\neos = 6\n", sentence(7, 6)),
        ("bos = 1\neos = 1\nrewrite = false\nscores = \"log-probs\"\ntokens = \"ids\"\n", sentence(1, 1)),
    ] {
        for (got, expected) in told(text).iter().zip(expected) {
            assert!((got - expected).abs() < 1e-5, "{text}: {got}, {expected}");
        }
    }
}
