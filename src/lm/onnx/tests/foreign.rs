//! Models as other toolkits export them, against scores computed from the same weights in numpy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::open;
use crate::lm::onnx::OnnxLm;
use crate::lm::onnx::signature::Run;
use crate::lm::{Job, LanguageModel, Limits, Scores};
use crate::nbest::Tensor;
use crate::testing::{fixture, runtime_or_skip, skipped};
use crate::trie::{self, Trie};

/// A model and what it must say.
pub(super) struct Case {
    pub name: String,
    pub path: PathBuf,
    pub json: Value,
}

pub(super) fn cases() -> Vec<Case> {
    cases_in(&fixture("models/foreign"))
}

fn cases_in(folder: &Path) -> Vec<Case> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| folder.join(name).join("model.onnx").exists() && !name.starts_with('.'));
    names.sort();
    let case = |name: String| {
        let text = std::fs::read(folder.join(&name).join("expected.json")).unwrap();
        Case {
            path: folder.join(&name).join("model.onnx"),
            json: serde_json::from_slice(&text).unwrap(),
            name,
        }
    };
    names.into_iter().map(case).collect()
}

impl Case {
    pub fn run(&self) -> &str {
        self.json["run"].as_str().unwrap()
    }

    pub fn tolerance(&self) -> f64 {
        self.json["tolerance"].as_f64().unwrap()
    }

    /// Ids, the last of them `</s>`, and ln p of each.
    pub fn sentences(&self) -> Vec<(Vec<u32>, Vec<f64>)> {
        let sentences = self.json["sentences"].as_array().unwrap().iter();
        let ids = |sentence: &Value| {
            sentence["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
        };
        let logs = |sentence: &Value| {
            sentence["log_probs"].as_array().unwrap().iter().map(|ln| ln.as_f64().unwrap()).collect()
        };
        sentences.map(|sentence| (ids(sentence), logs(sentence))).collect()
    }

    pub fn context(&self) -> Arc<[Tensor]> {
        let tensors = self.json["context"].as_array().cloned().unwrap_or_default();
        let tensor = |tensor: &Value| Tensor {
            name: tensor["name"].as_str().unwrap().to_owned(),
            shape: tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect(),
            values: tensor["values"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32).collect(),
        };
        tensors.iter().map(tensor).collect()
    }
}

pub(super) fn trie(bos: u32, sentences: &[(Vec<u32>, Vec<f64>)]) -> Arc<Trie> {
    let mut builder = trie::Builder::default();
    builder.start(bos);
    for (ids, _) in sentences {
        builder.push(ids, &(0..ids.len() as u32).collect::<Vec<_>>());
    }
    Arc::new(builder.finish())
}

pub(super) fn job(trie: &Arc<Trie>, context: Arc<[Tensor]>) -> Job {
    Job { trie: trie.clone(), start: None, context, deadline: None, boundaries: false, keep: false }
}

/// The largest difference of a token's score, in a scorer whose steps hold `rows` rows; of scores beyond
/// -10, of a tenth of it: float32 has that many digits.
pub(super) fn worst(lm: &OnnxLm, case: &Case, rows: usize) -> f64 {
    let sentences = case.sentences();
    let limits = Limits { rows, step_time: None, alone: false, threads: 1 };
    let mut scorer = lm.scorer(&limits).unwrap();
    // Two jobs that share steps: all sentences, and one of them.
    let all = trie(lm.signature().bos, &sentences);
    let one = trie(lm.signature().bos, &sentences[sentences.len() - 1..]);
    let slots = [&all, &one].map(|trie| scorer.submit(job(trie, case.context())).unwrap());
    let mut worst = 0f64;
    for (slot, trie, sentences) in
        [(slots[0], &all, &sentences[..]), (slots[1], &one, &sentences[sentences.len() - 1..])]
    {
        let scores = loop {
            if let std::task::Poll::Ready(scores) = scorer.take(slot) {
                break scores.unwrap();
            }
            scorer.step().unwrap();
        };
        for (number, ((ids, logs), &end)) in sentences.iter().zip(&trie.ends).enumerate() {
            match &scores {
                Scores::Nodes { ln, .. } => {
                    for (node, expected) in trie.path(end).zip(logs.iter().rev()) {
                        let apart = (f64::from(ln[node as usize]) - expected).abs();
                        worst = worst.max(apart / (expected.abs() / 10.0).max(1.0));
                    }
                }
                Scores::Sentences(totals) => {
                    let apart = (totals[number] - logs.iter().sum::<f64>()).abs();
                    worst = worst.max(apart / ids.len() as f64);
                }
            }
        }
    }
    let work = scorer.work();
    assert!(work.rows > 0 && work.steps > 0 && work.raw > 0);
    worst
}

/// What is refused says what it is and what to do instead.
#[test]
fn what_cannot_be_used_is_refused_by_name() {
    if !runtime_or_skip("what_cannot_be_used_is_refused_by_name") {
        return;
    }
    let said = [
        ("bidirectional", "reads the sentence from the end"),
        ("lstm-bf16", "its LSTM is bfloat16"),
        ("lstm-fp64", "its LSTM is float64"),
        ("masked", "depends on the words after it"),
    ];
    let refused: Vec<Case> = cases().into_iter().filter(|case| case.run() == "refused").collect();
    assert_eq!(refused.len(), said.len());
    for (case, (name, what)) in refused.iter().zip(said) {
        let Err(error) = open(&case.path) else { panic!("{name}: accepted") };
        let message = error.to_string();
        assert!(case.name == name && message.contains(what) && !message.contains('\n'), "{message}");
    }
}

/// A dynamically quantised model gives a list the same scores whatever else is in flight.
#[test]
fn quantised_models_are_batched_by_utterance() {
    if !runtime_or_skip("quantised_models_are_batched_by_utterance") {
        return;
    }
    for name in ["icefall-with-state-int8", "icefall-no-state-int8", "lstm-int8"] {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let lm = open(&case.path).unwrap();
        assert!(lm.spec().warnings.iter().any(|warning| warning.contains("dynamically quantised")));
        let sentences = case.sentences();
        let (first, second) = sentences.split_at(4);
        let tries = [first, second].map(|part| trie(lm.signature().bos, part));
        let run = |together: bool| -> Vec<Vec<u64>> {
            let limits = Limits { rows: 64, step_time: None, alone: false, threads: 1 };
            let mut scorer = lm.scorer(&limits).unwrap();
            let mut found = Vec::new();
            for waves in if together { vec![&tries[..]] } else { tries.chunks(1).collect() } {
                let slots: Vec<_> =
                    waves.iter().map(|trie| scorer.submit(job(trie, Arc::new([]))).unwrap()).collect();
                for slot in slots {
                    let scores = loop {
                        if let std::task::Poll::Ready(scores) = scorer.take(slot) {
                            break scores.unwrap();
                        }
                        scorer.step().unwrap();
                    };
                    found.push(match scores {
                        Scores::Nodes { ln, .. } => ln.iter().map(|ln| u64::from(ln.to_bits())).collect(),
                        Scores::Sentences(totals) => totals.iter().map(|total| total.to_bits()).collect(),
                    });
                    scorer.release(slot);
                }
            }
            found
        };
        assert_eq!(run(true), run(false), "{name}");
    }
}

/// A conditional decoder without its tensor, and a sentence that is too long, fail alone.
#[test]
fn what_a_record_lacks_costs_that_record() {
    if !runtime_or_skip("what_a_record_lacks_costs_that_record") {
        return;
    }
    let all = cases();
    let case = |name: &str| all.iter().find(|case| case.name == name).unwrap();
    let limits = Limits { rows: 64, step_time: None, alone: false, threads: 1 };
    let wenet = case("wenet-decoder");
    let lm = open(&wenet.path).unwrap();
    assert_eq!(lm.spec().context, ["encoder_out"]);
    let all_sentences = trie(lm.signature().bos, &wenet.sentences());
    let mut scorer = lm.scorer(&limits).unwrap();
    let message = scorer.submit(job(&all_sentences, Arc::new([]))).unwrap_err().to_string();
    assert!(message.contains("brings no tensor `encoder_out`"), "{message}");
    scorer.submit(job(&all_sentences, wenet.context())).unwrap();

    let lm = open(&case("dynamo-rnn-unrolled").path).unwrap();
    let mut scorer = lm.scorer(&limits).unwrap();
    let long = trie(lm.signature().bos, &[(vec![5; 30], Vec::new())]);
    let short = trie(lm.signature().bos, &[(vec![5, 1], Vec::new())]);
    let slots = [&long, &short].map(|trie| scorer.submit(job(trie, Arc::new([]))).unwrap());
    (0..4).for_each(|_| scorer.step().unwrap());
    let std::task::Poll::Ready(Err(error)) = scorer.take(slots[0]) else { panic!("scored") };
    assert!(error.to_string().contains("exported for 12"), "{error}");
    assert!(matches!(scorer.take(slots[1]), std::task::Poll::Ready(Ok(_))));
}

#[test]
fn every_toolkit_scores_as_its_weights_say() {
    if !runtime_or_skip("every_toolkit_scores_as_its_weights_say") {
        return;
    }
    let faults = differences(&cases());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The same for what the real exporters wrote (`models/train/export_real.py`), against the modules they
/// were given.
#[test]
fn real_exports_score_as_their_modules() {
    const NAME: &str = "real_exports_score_as_their_modules";
    let folder = std::env::var_os("SECONDPASS_EXPORTS").filter(|folder| !folder.is_empty());
    let Some(folder) = folder else { return skipped(NAME, "SECONDPASS_EXPORTS is not set") };
    if !runtime_or_skip(NAME) {
        return;
    }
    let cases = cases_in(Path::new(&folder));
    assert!(cases.len() > 20, "only {} exports", cases.len());
    let faults = differences(&cases);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Holds models against what they must say, and prints how far off they are.
fn differences(cases: &[Case]) -> Vec<String> {
    let mut faults = Vec::new();
    for case in cases.iter().filter(|case| case.json["run"] != "refused") {
        let lm = match open(&case.path) {
            Ok(lm) => lm,
            Err(error) => {
                faults.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        let signature = lm.signature();
        let run = match signature.run {
            Run::Steps => "step",
            Run::Window(_) => "window",
            Run::Prefixes => "prefix",
            Run::Sentences => "sentence",
        };
        let expected = case.json["run"].as_str().unwrap_or(run);
        let differences = [64, 3].map(|rows| worst(&lm, case, rows));
        let worst = differences[0].max(differences[1]);
        eprintln!("{:<28} {:<42} {run:<9} {worst:.1e}", case.name, signature.family);
        let findings: Vec<String> =
            signature.findings.iter().map(|f| format!("{}: {} ({})", f.what, f.value, f.why)).collect();
        if run != expected || worst.is_nan() || worst > case.tolerance() {
            let findings = findings.join("\n    ");
            faults.push(format!("{}: {run} for {expected}, {worst:e}\n    {findings}", case.name));
        }
        let numbers = ["bos_id", "eos_id"].map(|name| case.json[name].as_u64().unwrap() as u32);
        if numbers != [signature.bos, signature.eos] {
            faults.push(format!("{}: starts and ends with {}, {}", case.name, signature.bos, signature.eos));
        }
    }
    faults
}
