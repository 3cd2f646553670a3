//! The other commands: `score`, `eval`, `inspect`, `tune`.

use serde_json::Value;

use crate::data::{fixture, read};
use crate::harness::Dir;

/// Sums by an independent implementation (numpy) beside each tiny model.
fn expected(model: &str) -> Vec<Value> {
    let expected: Value =
        serde_json::from_slice(&read(&format!("models/{model}/expected.json"))).expect("JSON");
    expected["sentences"].as_array().expect("a list").clone()
}

#[test]
fn score_agrees_with_an_independent_implementation() {
    let library = crate::runtime!("score_agrees_with_an_independent_implementation");
    let dir = Dir::new();
    for model in ["tiny-lstm", "tiny-bpe"] {
        let path = fixture(&format!("models/{model}/model.onnx"));
        let sentences = expected(model);
        let text: String =
            sentences.iter().map(|s| s["text"].as_str().expect("a text").to_owned() + "\n").collect();
        let score = || dir.secondpass(["score", "--rnnlm"]).arg(&path).ort(library).stdin(text.clone());
        let json = score().args(["--json", "--words", "-j2"]).run().code(0).json();
        let plain = score().run().code(0).text();
        assert_eq!((json.len(), plain.lines().count()), (sentences.len(), sentences.len()));
        for ((sentence, got), plain) in sentences.iter().zip(&json).zip(plain.lines()) {
            let tokens = sentence["log_probs"].as_array().expect("a list").len();
            let total = sentence["total"].as_f64().expect("a number");
            let ln = got["scores"]["rnnlm"].as_f64().expect("a number");
            // 1e-6 a token, and f32's own grain on a sum of this size.
            let near = 1e-6 * tokens as f64;
            assert!((ln - total).abs() <= near, "{model} {sentence}: {ln}");
            assert!((plain.parse::<f64>().expect("a number") - total).abs() <= near, "{model}: {plain}");
            assert_eq!(got["tokens"]["rnnlm"], tokens, "{model} {sentence}");
            assert_eq!(got["oov"]["rnnlm"], sentence["unknown"], "{model} {sentence}");
            let words = got["by_word"].as_array().expect("a list");
            assert_eq!(words.last().expect("an end")["word"], "</s>");
            assert_eq!(got["words"], words.len() - 1);
            let sum: f64 = words.iter().filter_map(|word| word["scores"]["rnnlm"].as_f64()).sum();
            assert!((sum - ln).abs() <= near);
        }
    }
}

/// Previewed logits move a score a little, by as much for any number of workers, and are refused with a reason.
#[test]
fn an_output_rank_is_near_an_independent_implementation_or_refused() {
    let library = crate::runtime!("an_output_rank_is_near_an_independent_implementation_or_refused");
    let dir = Dir::new();
    let sentences = expected("wide-lstm");
    let text: String =
        sentences.iter().map(|s| s["text"].as_str().expect("a text").to_owned() + "\n").collect();
    let score = |model: &str, rank: &str| {
        let path = fixture(&format!("models/{model}/model.onnx"));
        let score = dir.secondpass(["score", "--rnnlm"]).arg(&path).args(["--output-rank", rank]);
        score.ort(library).stdin(text.clone())
    };
    let got = score("wide-lstm", "16").args(["--json", "-j2"]).run().code(0).json();
    assert_eq!(got, score("wide-lstm", "16").args(["--json", "-j1"]).run().code(0).json());
    let mut moved = false;
    for (sentence, got) in sentences.iter().zip(&got) {
        let tokens = sentence["log_probs"].as_array().expect("a list").len() as f64;
        let total = sentence["total"].as_f64().expect("a number");
        let ln = got["scores"]["rnnlm"].as_f64().expect("a number");
        assert!((ln - total).abs() <= 0.03 * tokens, "{sentence}: {ln}");
        moved |= (ln - total).abs() > 1e-5 * tokens;
    }
    assert!(moved, "nothing was previewed");
    for (model, rank, why) in
        [("tiny-lstm", "8", "tokens most would be exact"), ("wide-lstm", "40", "1 to 16")]
    {
        let error = score(model, rank).run().code(2).stderr;
        assert!(error.contains(why), "{error}");
    }
}

/// The command line on exports of other toolkits, through the vocabulary beside them.
#[test]
fn score_and_inspect_take_what_other_toolkits_export() {
    let library = crate::runtime!("score_and_inspect_take_what_other_toolkits_export");
    let dir = Dir::new();
    for (model, facts) in [
        ("icefall-no-state", ["its states made inputs and outputs", "one step for each distinct history"]),
        ("icefall-with-state", ["log probabilities of the first position", "h0 -> next_h0"]),
        ("espnet-transformer", ["cache_0 -> out_cache_0", "histories of equal length batched"]),
        ("wlm-dynamo", ["input int64 [35, 1]", "its fixed sizes freed"]),
        ("keras-next-word", ["probabilities of the last position", "distinct window of 10 tokens"]),
        ("hf-gpt-with-past", ["0, 0 (config.json)", "its last token and the states of the others"]),
        ("icefall-no-state-int8", ["negative log probabilities for a sentence", "adds <s> and </s> itself"]),
    ] {
        let path = fixture(&format!("models/foreign/{model}/model.onnx"));
        let run = dir.secondpass(["inspect"]).arg(&path).ort(library).run().code(0);
        let text = run.text();
        for fact in facts {
            assert!(text.contains(fact), "{model}: no `{fact}` in\n{text}");
        }
        assert_eq!(run.stderr.contains("dynamically quantised"), model.ends_with("int8"), "{}", run.stderr);
        let symbols = String::from_utf8(read(&format!("models/foreign/{model}/tokens.txt"))).expect("UTF-8");
        let symbols: Vec<&str> = symbols.lines().filter_map(|line| line.split(' ').next()).collect();
        let sentences = expected(&format!("foreign/{model}"));
        let words = |sentence: &Value| -> String {
            let ids = sentence["ids"].as_array().expect("a list");
            let words = ids[..ids.len() - 1].iter().map(|id| symbols[id.as_u64().expect("an id") as usize]);
            words.collect::<Vec<_>>().join(" ") + "\n"
        };
        let text: String = sentences.iter().map(words).collect();
        let score =
            || dir.secondpass(["score", "--json", "--rnnlm"]).arg(&path).ort(library).stdin(text.clone());
        let near = if model.ends_with("int8") { 0.5 } else { 1e-5 };
        for (sentence, got) in sentences.iter().zip(score().run().code(0).json()) {
            let total = sentence["total"].as_f64().expect("a number");
            let ln = got["scores"]["rnnlm"].as_f64().expect("a number");
            let tokens = got["tokens"]["rnnlm"].as_u64().expect("a number");
            assert!((ln - total).abs() <= near * tokens as f64, "{model}: {ln} for {sentence}");
        }
        // One number for a sentence cannot be had without its end.
        let code = if model.ends_with("int8") { 2 } else { 0 };
        score().arg("--no-eos").run().code(code);
    }
    let masked = fixture("models/foreign/masked/model.onnx");
    let output = dir.secondpass(["inspect"]).arg(masked).ort(library).run().code(2);
    assert!(output.stderr.contains("not causal") && output.text().contains("input_ids"), "{}", output.stderr);
}

#[test]
fn an_empty_line_is_the_empty_sentence() {
    let dir = Dir::ngram();
    let output = dir.secondpass(["score", "--ngram", "lm.arpa", "--json"]).stdin("\na cat\n\n").run().code(0);
    let records = output.json();
    assert_eq!(records.len(), 3);
    assert_eq!(records[0], records[2]);
    assert_eq!(records[0]["tokens"]["ngram"], 1);
    assert_eq!(records[0]["words"], 0);
    let names: Vec<&String> = records[0].as_object().expect("an object").keys().collect();
    assert_eq!(names, ["scores", "tokens", "oov", "words"]);
    assert!(output.stderr.contains("perplexity"), "{}", output.stderr);
}

/// Kaldi's lines, on lists whose errors can be counted by hand.
#[test]
fn eval_counts_as_kaldi_does() {
    let dir = Dir::new();
    let lists = r#"{"id":"a","ref":"a cat sat","hyps":[{"text":"a cat sad","score":-1},{"text":"a cat sat","score":-2}]}
{"id":"b","ref":"the dog ran home","hyps":[{"text":"the dog ran","score":-1},{"text":"dog ran","score":-2}]}
{"id":"c","ref":"it was red","hyps":[{"text":"it was so red","score":-1}]}
"#;
    let output = dir.secondpass(["eval", "--resamples", "0"]).stdin(lists).run().code(0);
    let text = output.text();
    for line in [
        "%WER 30.00 [ 3 / 10, 1 ins, 1 del, 1 sub ]",
        "%SER 100.00 [ 3 / 3 ]",
        "Scored 3 sentences, 0 not present in hyp.",
        "%WER 20.00 [ 2 / 10 ] best of 2",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("second pass"));
    // Reordered by us: `rank` is before, the order is after.
    let ours = r#"{"ref":"a cat sat","hyps":[{"text":"a cat sat","scores":{"total":-1},"rank":2},{"text":"a cat sad","scores":{"total":-2},"rank":1}],"secondpass":{"status":"ok"}}"#;
    let text = dir.secondpass(["eval", "--resamples", "10"]).stdin(ours).run().code(0).text();
    assert!(text.contains("%WER 33.33 [ 1 / 3, 0 ins, 0 del, 1 sub ]"), "{text}");
    assert!(text.contains("second pass\n%WER 0.00 [ 0 / 3, 0 ins, 0 del, 0 sub ]"), "{text}");
    dir.secondpass(["eval"]).stdin("{\"hyps\":[\"a\"]}\n").run().code(2);
}

#[test]
fn inspect_says_what_a_model_is() {
    let dir = Dir::ngram();
    let text = dir.secondpass(["inspect", "lm.arpa"]).run().code(0).text();
    assert!(text.contains("ARPA, order 3") && text.contains("26 words"), "{text}");
    dir.secondpass(["inspect", "nowhere"]).run().code(2);
    let library = crate::runtime!("inspect_says_what_a_model_is");
    for (model, facts) in [
        ("tiny-lstm", ["lstm", "44 tokens (words)", "tokens int64 [N, L]", "state_1 float32 [1, N, 16]"]),
        ("tiny-bpe", ["lstm", "tokens (sentencepiece)", "<s> 1, </s> 2, <unk> 0", "log_probs float32"]),
    ] {
        let run = dir
            .secondpass(["inspect"])
            .arg(fixture(&format!("models/{model}/model.onnx")))
            .ort(library)
            .run();
        let text = run.code(0).text();
        for fact in facts {
            assert!(text.contains(fact), "no `{fact}` in\n{text}");
        }
    }
}

#[test]
fn inspect_knows_every_kind_of_ngram_file() {
    let dir = Dir::ngram();
    dir.secondpass(["ngram", "build", "lm.arpa", "lm.compact", "--type", "compact"]).run().code(0);
    dir.secondpass(["ngram", "build", "lm.arpa", "lm.probing"]).run().code(0);
    let shipped = fixture("../models/en/4gram.compact");
    let shipped = shipped.to_str().expect("UTF-8");
    for (file, kind) in
        [("lm.arpa", "ARPA"), ("lm.compact", "compact"), ("lm.probing", "KenLM"), (shipped, "compact")]
    {
        let text = dir.secondpass(["inspect", file]).run().code(0).text();
        assert!(text.contains(kind), "{file}: {text}");
    }
}

#[test]
fn what_a_format_has_no_place_for_is_said() {
    let dir = Dir::ngram();
    dir.write("moses.txt", "0 ||| a cat ||| s= -1 ||| -1\n0 ||| the cat ||| s= -2 ||| -2\n");
    let run = |more: &str| dir.rescore().args(["moses.txt", "--format", "moses", more]).run();
    assert!(run("--confidence").code(0).stderr.contains("--confidence changes nothing"));
    assert!(run("--consensus=rover").code(2).stderr.contains("--output-format jsonl"));
}

#[test]
fn tune_writes_what_rescore_reads() {
    let shipped = fixture("../models/en/4gram.compact");
    if !shipped.exists() {
        crate::skip!("tune_writes_what_rescore_reads", "the shipped n-gram is not there");
    }
    let dir = Dir::new();
    let lists = dir.write("lists.jsonl", read("speech/nbest.jsonl"));
    let tune = dir.secondpass([
        "tune",
        "--restarts",
        "2",
        "--folds",
        "2",
        "--force",
        "--write",
        "tuned.toml",
        "--ngram",
    ]);
    tune.arg(&shipped).arg(&lists).run().code(0);
    let config = String::from_utf8(dir.read("tuned.toml")).expect("UTF-8");
    for part in ["[[lm]]", "[weights]", "[spread]"] {
        assert!(config.contains(part), "{config}");
    }
    let rescored = dir.secondpass(["rescore", "--config", "tuned.toml"]).arg(&lists).run().code(0);
    assert!(
        !rescored.stderr.contains("untuned") && !rescored.stderr.contains("its scale is another"),
        "{}",
        rescored.stderr
    );
    let rate = |text: &str, pass: &str| -> f64 {
        let line = text.split(pass).nth(1).and_then(|rest| rest.split("%WER ").nth(1)).expect("a rate");
        line.split(' ').next().and_then(|rate| rate.parse().ok()).expect("a rate")
    };
    let text = dir.secondpass(["eval", "--resamples", "0"]).stdin(rescored.stdout).run().code(0).text();
    assert!(rate(&text, "second pass") < rate(&text, "first pass"), "{text}");
}
