//! What is computed, and how it is asked for: weights, configurations, `--explain`.

use serde_json::Value;

use crate::data::{read, records};
use crate::harness::Dir;

const CONFIG: &str = "[[lm]]\nname = \"ngram\"\npath = \"lm.arpa\"\nweight = 2.5\n[weights]\nwords = -0.5\n";

#[test]
fn the_formula_is_said_at_the_start() {
    let dir = Dir::ngram();
    let input = records(3, 111);
    let formula = |arguments: &[&str]| {
        let output = dir.rescore().args(arguments).stdin(input.clone()).run().code(0);
        let said = output
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix("secondpass: total = ").map(str::to_owned));
        said.unwrap_or_else(|| panic!("no formula: {}", output.stderr))
    };
    assert_eq!(formula(&[]), "score + 0.5 ngram");
    let said = formula(&["--weight", "ngram=0.25", "--weight", "words=2", "--weight", "score=3"]);
    for term in ["3 score", "0.25 ngram", "2 words"] {
        assert!(said.contains(term), "{said}");
    }
    assert!(formula(&["--weight", "ngram=-0.5"]).contains("0.5 ngram"));
}

#[test]
fn totals_are_the_weighted_sum() {
    let dir = Dir::ngram();
    let weights =
        ["--weight", "ngram=0.75", "--weight", "words=-2", "--weight", "ngram.oov=-1.5", "--explain"];
    let output = dir.rescore().args(weights).stdin(read("speech/nbest.jsonl")).run().code(0);
    for record in output.json() {
        let list = record["hyps"].as_array().expect("a list");
        for hypothesis in list {
            let value = |name: &str| hypothesis["scores"][name].as_f64().expect("a number");
            let score = hypothesis["score"].as_f64().expect("as it came");
            let total = score + 0.75 * value("ngram") - 2.0 * value("words") - 1.5 * value("ngram.oov");
            assert!((total - value("total")).abs() < 1e-6, "{hypothesis}");
            let words = hypothesis["text"].as_str().expect("a text").split_whitespace().count();
            assert_eq!(value("words"), words as f64);
        }
        let explained = &record["secondpass"]["explain"];
        for (name, rank) in [("winner", &list[0]["rank"]), ("first_pass", &Value::from(1))] {
            let terms = explained[name].as_object().unwrap_or_else(|| panic!("no {name}: {explained}"));
            assert_eq!(&terms["rank"], rank);
            let sum: f64 = terms
                .iter()
                .filter(|(name, _)| !["rank", "total"].contains(&name.as_str()))
                .filter_map(|(_, value)| value.as_f64())
                .sum();
            assert!((sum - terms["total"].as_f64().expect("a total")).abs() < 1e-6, "{explained}");
        }
    }
}

#[test]
fn an_unknown_weight_is_an_error_at_the_first_record() {
    let dir = Dir::ngram();
    let input = records(5, 112);
    let output = dir.rescore().args(["--weight", "ngarm=1"]).stdin(input.clone()).run().code(2);
    assert!(output.stderr.contains("`ngarm`") && output.stderr.contains("ngram"), "{}", output.stderr);
    assert!(output.stdout.is_empty());
    dir.write("weights.toml", "[weights]\nacoustic = 1.0\n");
    let output = dir.rescore().args(["--weights", "weights.toml"]).stdin(input).run().code(2);
    assert!(output.stderr.contains("`acoustic`"), "{}", output.stderr);
}

#[test]
fn a_clash_is_an_error_at_the_first_record() {
    let dir = Dir::ngram();
    let clash = read("cases/clash.jsonl");
    let output = dir.rescore().stdin(clash.clone()).run().code(2);
    assert!(output.stderr.contains("`ngram`") && output.stderr.contains("NAME=FILE"), "{}", output.stderr);
    assert!(output.stdout.is_empty());
    let other = dir.secondpass(["rescore", "--ngram", "other=lm.arpa"]).stdin(clash.clone()).run();
    assert_eq!(other.code(0).json()[0]["secondpass"]["status"], "ok");
    // Later, it is that record's trouble alone.
    let output = dir.rescore().stdin([records(2, 113), clash].concat()).run().code(1);
    assert_eq!(output.json()[2]["secondpass"]["status"], "passed");
}

#[test]
fn configurations_weights_and_flags_in_that_order() {
    let dir = Dir::ngram();
    let input = records(20, 114);
    let run = |arguments: &[&str]| {
        dir.secondpass(["rescore"]).args(arguments).stdin(input.clone()).run().code(0).stdout
    };
    let flags = run(&["--ngram", "lm.arpa", "--weight", "ngram=2.5", "--weight", "words=-0.5"]);
    dir.write("asr.toml", CONFIG);
    assert!(run(&["--config", "asr.toml"]) == flags);
    // Its paths are relative to itself.
    std::fs::create_dir_all(dir.path("sub")).expect("scratch");
    dir.write("sub/asr.toml", CONFIG.replace("lm.arpa", "../lm.arpa"));
    assert!(run(&["--config", "sub/asr.toml"]) == flags);
    dir.write("other.toml", CONFIG.replace("2.5", "9").replace("-0.5", "9"));
    assert!(run(&["--config", "other.toml", "--weights", "asr.toml"]) == flags);
    assert!(run(&["--config", "other.toml", "--weight", "ngram=2.5", "--weight", "words=-0.5"]) == flags);
    assert!(run(&["--config", "other.toml"]) != flags);
}

#[test]
fn a_mistake_in_a_configuration_is_found() {
    let dir = Dir::ngram();
    for (mistake, said) in [
        ("[[lm]]\nname = \"ngram\"\npath = \"lm.arpa\"\nwieght = 1\n", "wieght"),
        ("[[lm]]\nname = \"ngram\"\npath = \"nowhere.arpa\"\n", "nowhere.arpa"),
        ("[[lm]\n", "asr.toml"),
        ("[[lm]]\nname = \"words\"\npath = \"lm.arpa\"\n", "words"),
        ("[[lm]]\nname = \"a\"\npath = \"lm.arpa\"\n[[lm]]\nname = \"a\"\npath = \"lm.arpa\"\n", "`a`"),
        ("unk_penalty = 1.0\n[[lm]]\nname = \"a\"\npath = \"lm.arpa\"\n", "penalty"),
    ] {
        dir.write("asr.toml", mistake);
        let output = dir.secondpass(["rescore", "--config", "asr.toml"]).run().code(2);
        assert!(output.stderr.contains(said), "{mistake}: {}", output.stderr);
    }
}

#[test]
fn duplicates_are_kept_in_first_pass_order() {
    let dir = Dir::ngram();
    let hypothesis = |mark: u32, text: &str| format!("{{\"text\":\"{text}\",\"score\":-1,\"mark\":{mark}}}");
    let list =
        [hypothesis(1, "a cat"), hypothesis(2, "a cat"), hypothesis(3, "  a  cat "), hypothesis(4, "a cat")];
    let input = format!("{{\"hyps\":[{}]}}\n", list.join(","));
    let record = &dir.rescore().stdin(input).run().code(0).json()[0];
    let marks: Vec<&Value> = record["hyps"].as_array().expect("a list").iter().map(|h| &h["mark"]).collect();
    assert_eq!(marks, [1, 2, 3, 4]);
    let scores: Vec<&Value> =
        record["hyps"].as_array().expect("a list").iter().map(|h| &h["scores"]["ngram"]).collect();
    assert!(scores.windows(2).all(|pair| pair[0] == pair[1]), "{scores:?}");
}
