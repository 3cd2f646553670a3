//! `--confirm`: winners by rounded scores are those of f32, and `tune` learns how near rivals have to be.

use serde_json::Value;

use crate::data::{count, fixture, read, records};
use crate::harness::{Dir, Output};

fn totals(record: &Value) -> Vec<(u64, f64)> {
    let of = |h: &Value| Some((h["rank"].as_u64()?, h["scores"]["total"].as_f64()?));
    record["hyps"].as_array().expect("a list").iter().filter_map(of).collect()
}

fn confirmed(output: &Output) -> Vec<u64> {
    output.json().iter().map(|record| record["secondpass"]["confirmed"].as_u64().unwrap_or(0)).collect()
}

#[test]
fn confirmed_winners_are_those_of_f32() {
    let library = crate::runtime!("confirmed_winners_are_those_of_f32");
    let dir = Dir::ngram();
    let input = records(count(100, 2_000), 65);
    let model = fixture("models/tiny-bpe/model.onnx");
    let run = |flags: &[&str]| {
        let run = dir.rescore().arg("--rnnlm").arg(&model).args(flags).ort(library);
        run.stdin(input.clone()).run().code(0)
    };
    let mixed = ["--interpolate", "linear", "--lambda", "0.9", "--weight", "mix=20"];
    for how in [&["--weight", "rnnlm=20"][..], &mixed, &[&mixed[..], &["-j1", "--fast-mix"]].concat()] {
        let exact = run(how).json();
        let rounded = [how, &["--precision", "int8"]].concat();
        let inexact = run(&rounded).json();
        let mut most = 0.0f64;
        for (exact, inexact) in exact.iter().zip(&inexact) {
            let of = |rank: u64| totals(exact).into_iter().find(|other| other.0 == rank).expect("a rank").1;
            most = totals(inexact).iter().map(|&(rank, total)| (total - of(rank)).abs()).fold(most, f64::max);
        }
        assert!(most > 1e-3, "int8 moved nothing: {most}");
        let margin = (2.0 * most + 0.01).to_string();
        let confirm = [&rounded[..], &["--confirm", &margin]].concat();
        for flags in [confirm.clone(), [&confirm[..], &["--best-only", "--width", "2"]].concat()] {
            let output = run(&flags);
            assert!(confirmed(&output).iter().any(|&of| of > 1), "{flags:?}: nobody had rivals");
            assert!(!confirmed(&output).contains(&1), "{flags:?}");
            for ((exact, record), again) in exact.iter().zip(output.json()).zip(confirmed(&output)) {
                assert_eq!(exact["hyps"][0]["rank"], record["hyps"][0]["rank"], "{flags:?}");
                let (right, got) = (totals(exact)[0].1, totals(&record)[0].1);
                // What the batch does to a sum of some dozen tokens, times the weight.
                assert!(again == 0 || (right - got).abs() < 2e-3, "{flags:?}: {got} is not {right}");
            }
        }
    }
    let refused = |flags: &[&str]| {
        let run = dir.rescore().arg("--rnnlm").arg(&model).args(flags).ort(library);
        run.stdin(input.clone()).run().code(2).stderr
    };
    assert!(refused(&["--confirm", "1"]).contains("--confirm is about --precision"));
    assert!(refused(&["--precision", "int8", "--confirm=-1"]).contains("--confirm"));
    assert!(refused(&["--precision", "int8", "--confirm", "inf"]).contains("--confirm"));
}

#[test]
fn the_margin_is_learnt_and_holds_for_what_it_was_learnt_with() {
    let library = crate::runtime!("the_margin_is_learnt_and_holds_for_what_it_was_learnt_with");
    let dir = Dir::ngram();
    // Enough lists to show something, and few hypotheses to score.
    let mut lists = Vec::new();
    for line in read("speech/nbest.jsonl").split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let mut record: Value = serde_json::from_slice(line).expect("JSON");
        record["hyps"].as_array_mut().expect("a list").truncate(4);
        lists.extend(format!("{record}\n").into_bytes());
    }
    let input = lists;
    let model = fixture("models/tiny-bpe/model.onnx");
    let tune = |flags: &str| {
        let fixed = "tune --ngram lm.arpa --restarts 2 --folds 2 --force --write tuned.toml --rnnlm";
        let run = dir.secondpass(fixed.split(' ')).arg(&model).args(flags.split_whitespace());
        let output = run.ort(library).stdin(input.clone()).run().code(0);
        (output.stderr, String::from_utf8(dir.read("tuned.toml")).expect("UTF-8"))
    };
    // 145 lists show 2.05 % (1 - 0.05^(1/145)), and no less.
    let (said, config) = tune("--precision rnnlm=int8");
    assert!(said.contains("145 lists cannot show that at most 1.00 %") && said.contains("2.05 %"), "{said}");
    assert!(!config.contains("confirm"), "{config}");
    let (said, config) = tune("--precision rnnlm=int8 --confirm-risk 0.021");
    assert!(said.contains("confirm      within ") && said.contains(" of 145 ("), "{said}");
    let table: toml::Table = config.parse().expect("TOML");
    let margin = table["confirm"].as_float().expect("a margin");
    let weight = table["weights"]["rnnlm"].as_float().expect("a weight");
    assert!(margin > 0.0 || weight == 0.0, "{config}");
    // Whatever was found: a configuration with a weight that matters.
    let config = config.replace(&format!("confirm = {margin:?}"), "confirm = 5.0");
    dir.write("tuned.toml", config.replace(&format!("rnnlm = {weight:?}"), "rnnlm = 9.0"));
    let run = |flags: &[&str]| {
        let run = dir.secondpass(["rescore", "--config", "tuned.toml"]).args(flags).ort(library);
        run.stdin(input.clone()).run()
    };
    let plain = run(&[]).code(0);
    assert!(confirmed(&plain).iter().any(|&again| again > 1));
    for off in [&["--confirm", "0"][..], &["--precision", "rnnlm=f32"]] {
        assert!(confirmed(&run(off).code(0)).iter().all(|&again| again == 0), "{off:?}");
    }
    let wider = run(&["--confirm", "50"]).code(0);
    assert!(confirmed(&wider).iter().sum::<u64>() > confirmed(&plain).iter().sum());
    let stale = run(&["--weight", "rnnlm=8"]).code(2);
    assert!(stale.stderr.contains("`confirm` was learnt with other"), "{}", stale.stderr);
    run(&["--weight", "rnnlm=8", "--confirm", "5"]).code(0);
    // What is counted belongs to the bench too.
    let bench = dir.secondpass(["bench", "--config", "tuned.toml", "--json", "--alone", "3", "-j2"]);
    let bench = bench.ort(library).stdin(input.clone()).run().code(0).json().remove(0);
    let again: u64 = confirmed(&plain).iter().sum();
    let told = bench["fast"]["confirmed"]["hypotheses_per_list"].as_f64().expect("a number");
    assert!((told * 145.0 - again as f64).abs() < 0.5, "{told} a list, and {again} in all");
    assert!(bench["models"]["rnnlm.exact"]["histories"].as_u64() > Some(0), "{bench}");
}
