//! Rewritten graphs against the files as they are.

use std::path::Path;
use std::sync::Arc;

use super::foreign::{Case, cases, job, trie};
use super::open;
use crate::lm::onnx::OnnxLm;
use crate::lm::onnx::device::Device;
use crate::lm::onnx::graph::{Graph, rewrite, values};
use crate::lm::onnx::session::{Batch, Plan, Runner, Source};
use crate::lm::onnx::signature::sidecar_path;
use crate::lm::{Job, LanguageModel, Limits, Scores};
use crate::testing::runtime_or_skip;

/// Total score of each sentence, and ln of the mass of word starts after every history, if the model gives
/// that.
fn totals(lm: &OnnxLm, case: &Case) -> (Vec<f64>, Option<Vec<f32>>) {
    let limits = Limits { rows: 64, step_time: None, alone: false, threads: 1 };
    let mut scorer = lm.scorer(&limits).unwrap();
    let trie = trie(lm.signature().bos, &case.sentences());
    let slot = scorer.submit(Job { boundaries: true, ..job(&trie, case.context()) }).unwrap();
    loop {
        match scorer.take(slot) {
            std::task::Poll::Pending => scorer.step().unwrap(),
            std::task::Poll::Ready(Ok(Scores::Sentences(totals))) => return (totals, None),
            std::task::Poll::Ready(Ok(Scores::Nodes { ln, boundary, .. })) => {
                let total = |&end: &u32| trie.path(end).map(|node| f64::from(ln[node as usize])).sum();
                return (trie.ends.iter().map(total).collect(), Some(boundary));
            }
            std::task::Poll::Ready(Err(error)) => panic!("{}: {error}", case.name),
        }
    }
}

fn copy(case: &Case, folder: &Path) -> std::path::PathBuf {
    for entry in std::fs::read_dir(case.path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    folder.join("model.onnx")
}

#[test]
fn a_rewritten_model_scores_as_the_file_does() {
    if !runtime_or_skip("a_rewritten_model_scores_as_the_file_does") {
        return;
    }
    let mut rewritten = Vec::new();
    for case in cases().iter().filter(|case| case.run() == "step") {
        let lm = open(&case.path).unwrap();
        if !lm.signature().findings.iter().any(|finding| finding.what == "rewritten") {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = copy(case, folder.path());
        std::fs::write(sidecar_path(&path), "rewrite = false\n").unwrap();
        let plain = open(&path).unwrap();
        assert!(plain.signature().findings.iter().all(|finding| finding.what != "rewritten"));
        let sentences = case.sentences();
        let ((new, new_masses), (old, old_masses)) = (totals(&lm, case), totals(&plain, case));
        let (new_masses, old_masses) = (new_masses.unwrap(), old_masses.unwrap_or_default());
        assert!(new_masses.iter().any(|&mass| mass < -0.01));
        for (a, b) in new_masses.iter().zip(&old_masses) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs() / 10.0), "{}: masses {a} and {b}", case.name);
        }
        for (((ids, _), a), b) in sentences.iter().zip(new).zip(old) {
            let apart = (a - b).abs() / ids.len() as f64;
            assert!(apart <= 1e-5 * (1.0 + a.abs() / 10.0), "{}: {a} and {b}", case.name);
        }
        rewritten.push(case.name.clone());
    }
    assert_eq!(
        rewritten,
        [
            "dynamo-gru-no-state",
            "icefall-no-state",
            "keras-gru",
            "keras-last",
            "keras-lstm",
            "legacy-gru-no-state",
            "legacy-rnn-relu-no-state",
            "plain-time-major-no-state",
            "wlm-dynamo",
            "wlm-gru",
            "wlm-legacy",
        ]
    );
}

/// The hidden states that come out of a graph cut before its output layer, times the layer that was cut
/// off, are the logits that the whole graph gives.
#[test]
fn a_graph_cut_before_its_output_layer_lacks_that_layer_alone() {
    if !runtime_or_skip("a_graph_cut_before_its_output_layer_lacks_that_layer_alone") {
        return;
    }
    let mut cut = 0;
    for case in cases().iter().filter(|case| case.run() != "refused" && case.context().is_empty()) {
        let graph = Graph::read(&case.path).unwrap();
        let mut signature = super::Signature::detect(&graph).unwrap().signature;
        let Some(split) = rewrite::split(&graph, &signature.output) else { continue };
        if signature.grows() || signature.targets.is_some() {
            continue;
        }
        cut += 1;
        let projection = &split.projection;
        let matrix = values(&case.path, &projection.matrix).unwrap();
        let bias = projection.bias.as_ref().map(|name| values(&case.path, name).unwrap());
        let size = case.json["vocab_size"].as_u64().unwrap() as usize;
        let width = matrix.len() / size;
        let plan = Plan { device: Device::Cpu, threads: 1, half: graph.half, tf32: false };
        let source = Source {
            path: case.path.clone(),
            edits: Vec::new(),
            external: !graph.external.is_empty(),
            mapped: false,
        };
        let length = signature.tokens.length.unwrap_or(3);
        let ids: Vec<i64> = (0..length as i64).map(|at| 2 + at % 7).collect();
        let states: Vec<Vec<f32>> = signature.states.iter().map(|state| vec![0.0; state.size()]).collect();
        let batch = Batch { ids: &ids, rows: 1, length, states: &states, ..Batch::default() };
        let mut run = |source: &Source, output: &str| {
            signature.output = output.to_owned();
            let mut runner = Runner::new(source, plan).unwrap();
            runner.run_raw(&signature, batch, None, |outputs| outputs.scores.to_vec()).unwrap()
        };
        // Both the cut graph and one that gives its logits beside, from the same file.
        let hidden = run(&Source { edits: vec![split.edits.into()], ..source.clone() }, &projection.hidden);
        let whole = {
            let logits = crate::lm::onnx::graph::Edit::AddOutput(super::proto::ValueInfo {
                name: projection.logits.clone(),
                r#type: graph_type(),
            });
            let shown = graph.output(&projection.logits).is_some();
            let edits = if shown { Vec::new() } else { vec![Arc::from([logits])] };
            run(&Source { edits, ..source }, &projection.logits)
        };
        assert_eq!(hidden.len() / width, whole.len() / size, "{}", case.name);
        for (row, logits) in hidden.chunks_exact(width).zip(whole.chunks_exact(size)) {
            for (token, &logit) in logits.iter().enumerate() {
                let weight = |at: usize| {
                    f64::from(if projection.by_token {
                        matrix[token * width + at]
                    } else {
                        matrix[at * size + token]
                    })
                };
                let product: f64 = (0..width).map(|at| f64::from(row[at]) * weight(at)).sum();
                let expected = product + bias.as_ref().map_or(0.0, |bias| f64::from(bias[token]));
                let near = 1e-5 * (1.0 + expected.abs());
                assert!((f64::from(logit) - expected).abs() <= near, "{}: {logit}, {expected}", case.name);
            }
        }
    }
    assert!(cut >= 15, "only {cut} graphs were cut");
}

fn graph_type() -> Option<super::proto::TypeProto> {
    let tensor = super::proto::TensorType { elem_type: 1, shape: None };
    Some(super::proto::TypeProto { tensor_type: Some(tensor) })
}
