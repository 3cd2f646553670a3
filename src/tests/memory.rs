//! Memory stays bounded on input that does not end (S9, S10).

use std::io::Write;
use std::process::Child;

use crate::data::{Random, count, fixture, record, records};
use crate::harness::{Dir, Running};
use crate::onnx::{FLOAT, Graph, INT64, field, floats, int, node, number, tensor, value};

/// A figure of /proc/PID/status, in KiB.
fn kib(child: &Child, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the figure");
    line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Feeds `total` records and samples the resident size ten times, with nothing in flight.
fn sampled(running: &mut Running, total: usize, most: usize) -> Vec<u64> {
    let mut random = Random::new(51);
    let mut samples = Vec::new();
    for _ in 0..10 {
        let block: String = (0..total / 10).map(|at| record(&format!("u{at}"), &mut random, most)).collect();
        let mut stdin = running.stdin.take().expect("open");
        let feeder = std::thread::spawn(move || {
            stdin.write_all(block.as_bytes()).expect("it reads");
            stdin
        });
        for _ in 0..total / 10 {
            running.line();
        }
        running.stdin = Some(feeder.join().expect("the feeder"));
        samples.push(kib(&running.child, "VmRSS"));
    }
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(0));
    samples
}

#[test]
fn s9_memory_is_bounded_with_an_ngram() {
    let dir = Dir::ngram();
    let mut running = dir.rescore().args(["-j2", "-q"]).start();
    let total = count(100_000, 1_000_000);
    let samples = sampled(&mut running, total, 6);
    // The last nine tenths: less than 1 MiB for a million records, and an allocator's grain.
    let grown = samples[9].saturating_sub(samples[1]);
    let bound = 2048 + total as u64 / 1_000;
    assert!(grown <= bound, "{grown} KiB more after {total} records: {samples:?}");
    assert!(samples[9] < 128 << 10, "{samples:?}");
}

#[test]
fn s9_memory_reaches_a_plateau_with_onnx() {
    let library = crate::runtime!("s9_memory_reaches_a_plateau_with_onnx");
    let dir = Dir::new();
    let model = fixture("models/tiny-lstm/model.onnx");
    let mut running = dir.secondpass(["rescore", "-j2", "-q", "--rnnlm"]).arg(model).ort(library).start();
    let samples = sampled(&mut running, count(5_000, 100_000), 6);
    assert!(samples[9] as f64 <= samples[1] as f64 * 1.1, "KiB after each tenth: {samples:?}");
}

#[test]
fn s10_a_huge_line_costs_no_memory() {
    let dir = Dir::ngram();
    let mut running = dir.rescore().args(["--max-line-bytes", "1048576", "-j2", "-q"]).start();
    let good = records(1, 52);
    running.write(&good);
    let answer = running.line();
    let before = kib(&running.child, "VmHWM");
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..count(256, 4_096) {
        running.write(&piece);
    }
    running.write(b"\n");
    running.write(&good);
    let over = String::from_utf8(running.line()).expect("UTF-8");
    assert!(over.contains("\"status\":\"passed\"") && over.contains("over the limit"), "{over}");
    assert!(running.line() == answer);
    let grown = kib(&running.child, "VmHWM") - before;
    assert!(grown <= 32 << 10, "{grown} KiB");
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(1));
}

/// An LSTM with an output layer of so many tokens that it is nearly all of the model, tied to the embedding.
fn wide(tokens: usize, size: usize) -> Graph {
    let weights = |count: usize| {
        let mut random = Random::new(count as u64);
        floats((0..count).map(|_| random.below(2001) as f32 / 10_000.0 - 0.1))
    };
    let (v, h) = (tokens as i64, size as i64);
    let batch_first = [field(1, "perm"), number(8, 1), number(8, 0), number(8, 2), number(20, 7)].concat();
    let state = |name| value(name, FLOAT, &["1", "N", &size.to_string()]);
    Graph {
        nodes: vec![
            node("Transpose", &["tokens"], &["by_time"], &[]),
            node("Gather", &["embedding", "by_time"], &["embedded"], &[]),
            node(
                "LSTM",
                &["embedded", "w", "r", "b", "", "state_0", "state_1"],
                &["layer", "next_state_0", "next_state_1"],
                &[int("hidden_size", h)],
            ),
            node("Squeeze", &["layer", "axis"], &["flow"], &[]),
            node("Transpose", &["flow"], &["hidden"], &[batch_first]),
            node("Transpose", &["embedding"], &["matrix"], &[]),
            node("MatMul", &["hidden", "matrix"], &["product"], &[]),
            node("Add", &["product", "bias"], &["logits"], &[]),
            node("LogSoftmax", &["logits"], &["log_probs"], &[int("axis", -1)]),
        ],
        weights: vec![
            tensor("embedding", FLOAT, &[v, h], &weights(tokens * size)),
            tensor("w", FLOAT, &[1, 4 * h, h], &weights(4 * size * size)),
            tensor("r", FLOAT, &[1, 4 * h, h], &weights(4 * size * size)),
            tensor("b", FLOAT, &[1, 8 * h], &weights(8 * size)),
            tensor("bias", FLOAT, &[v], &weights(tokens)),
            tensor("axis", INT64, &[1], &1i64.to_le_bytes()),
        ],
        inputs: vec![value("tokens", INT64, &["N", "L"]), state("state_0"), state("state_1")],
        outputs: vec![
            value("log_probs", FLOAT, &["N", "L", &tokens.to_string()]),
            state("next_state_0"),
            state("next_state_1"),
        ],
        others: Vec::new(),
    }
}

/// Neither while it is loaded nor while it runs does a large model take more than is promised.
#[test]
fn s9_a_large_model_stays_within_its_bound() {
    let library = crate::runtime!("s9_a_large_model_stays_within_its_bound");
    const TOKENS: usize = 200_000;
    let dir = Dir::new();
    let facts = [
        ("version", "1"),
        ("cell", "lstm"),
        ("vocab_size", "200000"),
        ("bos_id", "0"),
        ("eos_id", "1"),
        ("unk_id", "2"),
        ("tokenizer", "words"),
    ];
    let facts = facts.map(|(key, value)| (format!("secondpass.{key}"), value));
    let facts: Vec<(&str, &str)> = facts.iter().map(|(key, value)| (&**key, *value)).collect();
    dir.write("model.onnx", wide(TOKENS, 96).with(&facts));
    let words = (3..TOKENS).map(|id| format!("word{id} {id}\n"));
    dir.write("tokens.txt", format!("<s> 0\n</s> 1\n<unk> 2\n{}", words.collect::<String>()));
    let list = |id: usize| {
        let hypothesis = |n: usize| {
            let text = format!("word{} word{} word{}", 3 + id, 50_000 + n, 199_999 - id * n);
            serde_json::json!({"text": text, "score": -1.0 - n as f64})
        };
        serde_json::json!({"id": id.to_string(), "hyps": (0..4).map(hypothesis).collect::<Vec<_>>()})
    };
    let lists: String = (0..3).map(|id| format!("{}\n", list(id))).collect();
    dir.write("lists.jsonl", lists);
    let output = dir
        .secondpass(["bench", "lists.jsonl", "--json", "--jobs", "1", "--rnnlm", "model.onnx"])
        .ort(library)
        .run()
        .code(0);
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    let (peak, bound) = (&figures["peak_memory_bytes"], &figures["memory_bound_bytes"]);
    let (peak, bound) = (peak.as_u64().expect("Linux tells"), bound.as_u64().expect("a number"));
    // 1.7 times the model and 64 MiB.
    assert!(bound < 210 << 20, "{bound}");
    assert!(peak <= bound, "{} MiB, promised {}", peak >> 20, bound >> 20);
}
