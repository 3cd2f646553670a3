//! One record out for each record in, in the same order (S1, S2, S13, N6).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::data::{Random, count, fixture, lines, read, records};
use crate::harness::Dir;

#[test]
fn s1_bytes_do_not_depend_on_jobs_window_or_pieces() {
    let dir = Dir::ngram();
    let input = records(count(1_250, 125_000), 1);
    let want = dir.rescore().arg("-j1").stdin(input.clone()).run().code(0).stdout;
    assert_eq!(lines(&want).len(), lines(&input).len());
    let ways: [(&str, &str, &[usize]); 7] = [
        ("-j2", "0", &[]),
        ("-j3", "1", &[1 << 16]),
        ("-j4", "7", &[1, 999, 3]),
        ("-j8", "100", &[4096]),
        ("-j16", "0", &[13]),
        ("-j1", "1", &[777]),
        ("-j0", "0", &[100_000, 1]),
    ];
    for (jobs, window, pieces) in ways {
        let got = dir.rescore().args([jobs, "--window", window]).stdin(input.clone()).pieces(pieces).run();
        assert!(got.code(0).stdout == want, "{jobs} --window {window}, pieces of {pieces:?}");
    }
}

#[test]
fn s1_neural_bytes_do_not_depend_on_jobs_if_deterministic() {
    let library = crate::runtime!("s1_neural_bytes_do_not_depend_on_jobs_if_deterministic");
    let dir = Dir::ngram();
    let input = records(count(250, 25_000), 2);
    let run = |jobs: &str| {
        let model = fixture("models/tiny-lstm/model.onnx");
        let run = dir.rescore().args(["--deterministic", jobs, "--rnnlm"]).arg(model).ort(library);
        run.stdin(input.clone()).run().code(0).stdout
    };
    let want = run("-j1");
    assert_eq!(lines(&want).len(), lines(&input).len());
    for jobs in ["-j2", "-j5"] {
        assert!(run(jobs) == want, "{jobs}");
    }
}

/// Good lists with a bad line after every ninth.
fn mixed(good: &[u8]) -> (Vec<u8>, Vec<bool>) {
    let bad = read("cases/bad.jsonl");
    let mut bad = lines(&bad).into_iter().filter(|line| !line.trim_ascii().is_empty()).cycle();
    let (mut input, mut is_good) = (Vec::new(), Vec::new());
    for (at, line) in lines(good).into_iter().enumerate() {
        input.extend_from_slice(line);
        is_good.push(true);
        if at % 9 == 8 {
            input.extend_from_slice(bad.next().expect("endless"));
            is_good.push(false);
        }
    }
    (input, is_good)
}

#[test]
fn s2_nothing_is_lost_among_bad_records() {
    let dir = Dir::ngram();
    let good = records(count(1_800, 900_000), 3);
    let alone = dir.rescore().stdin(good.clone()).run().code(0).stdout;
    let (input, is_good) = mixed(&good);
    let output = dir.rescore().arg("-j3").stdin(input.clone()).run().code(1);
    let (got, sent) = (output.lines(), lines(&input));
    assert_eq!(got.len(), sent.len());
    let mut alone = lines(&alone).into_iter();
    for ((got, sent), is_good) in got.into_iter().zip(sent).zip(is_good) {
        if is_good {
            assert!(Some(got) == alone.next(), "{}", String::from_utf8_lossy(sent));
        } else if got != sent {
            unharmed(got, sent);
        }
    }
    assert!(output.stderr.contains("passed through unrescored"), "{}", output.stderr);
}

/// The line that went in, and our mark.
fn unharmed(got: &[u8], sent: &[u8]) {
    let got = std::str::from_utf8(got).expect("UTF-8");
    let at = got.rfind("\"secondpass\":").unwrap_or_else(|| panic!("neither as it was nor marked: {got}"));
    let mark: Value = serde_json::from_str(&format!("{{{}", got[at..].trim_end())).expect("the mark is last");
    let sent = String::from_utf8_lossy(sent);
    match mark["secondpass"]["status"].as_str() {
        Some("passed") => {
            assert!(mark["secondpass"]["reason"].is_string(), "{got}");
            let open = sent.trim_end().strip_suffix('}').expect("an object");
            assert_eq!(got[..at].trim_end_matches([',', ' ']), open.trim_end(), "{got}");
        }
        // A fixture that another reader would refuse may be rescored, but nothing of it is lost.
        status => assert_eq!(status, Some("ok"), "{got}"),
    }
}

#[test]
fn s2_strict_stops_at_the_first_bad_record() {
    let dir = Dir::ngram();
    let good = records(40, 4);
    let (input, is_good) = mixed(&good);
    let first_bad = is_good.iter().position(|good| !good).expect("a bad one");
    let output = dir.rescore().args(["--strict", "-j4"]).stdin(input).run().code(2);
    assert_eq!(output.lines().len(), first_bad);
    assert!(output.stderr.contains(&format!("line {}", first_bad + 1)), "{}", output.stderr);
    dir.rescore().arg("--strict").stdin(good).run().code(0);
}

const FIXTURES: [&str; 6] = [
    "speech/nbest.jsonl",
    "cases/aliases.jsonl",
    "cases/traps.jsonl",
    "cases/bad.jsonl",
    "cases/crlf.jsonl",
    "cases/invalid-utf8.bin",
];

#[test]
fn s13_rescoring_our_own_output_changes_nothing() {
    let dir = Dir::ngram();
    for fixture in FIXTURES {
        let weights = ["--weight", "ngram=3", "--weight", "words=-0.5"];
        let once = dir.rescore().args(weights).stdin(read(fixture)).run();
        assert!(once.status.code() < Some(2), "{fixture}: {}", once.stderr);
        let twice = dir.rescore().args(weights).stdin(once.stdout.clone()).run();
        assert_eq!(twice.status.code(), once.status.code(), "{fixture}: {}", twice.stderr);
        for (once, twice) in once.lines().into_iter().zip(twice.lines()) {
            assert_eq!(String::from_utf8_lossy(once), String::from_utf8_lossy(twice), "{fixture}");
        }
        assert!(once.stdout == twice.stdout, "{fixture}");
    }
}

#[test]
fn n6_without_weight_the_first_pass_order_comes_out() {
    let dir = Dir::ngram();
    let mut reordered = BTreeSet::new();
    for fixture in FIXTURES {
        let sent = read(fixture);
        let run = |weight: &str| dir.rescore().args(["--weight", weight]).stdin(sent.clone()).run();
        let output = run("ngram=0");
        for (got, sent) in output.lines().into_iter().zip(lines(&sent)) {
            // Ours had been reordered already.
            if sent.windows(12).any(|part| part == b"\"secondpass\"") {
                continue;
            }
            let texts = |line: &[u8]| serde_json::from_slice(line).map(|line: Value| texts(&line)).ok();
            assert_eq!(texts(got), texts(sent), "{fixture}");
        }
        if run("ngram=30").stdout != output.stdout {
            reordered.insert(fixture);
        }
    }
    assert!(reordered.len() >= 3, "the model had no say: {reordered:?}");
}

fn texts(record: &Value) -> Vec<Value> {
    let names =
        ["hyps", "nbest", "n_best", "NBest", "hypotheses", "alternatives", "candidates", "input", "text"];
    let list = names.iter().find_map(|name| record[*name].as_array());
    let text = |hypothesis: &Value| match hypothesis.as_object() {
        Some(object) => {
            let names = ["text", "Lexical", "transcript", "sentence", "hyp", "pred_text"];
            names.iter().find_map(|name| object.get(*name)).cloned().unwrap_or_default()
        }
        None => hypothesis.clone(),
    };
    list.map(|list| list.iter().map(text).collect()).unwrap_or_default()
}

#[test]
fn windows_line_ends_and_ids_come_back_in_order() {
    let dir = Dir::ngram();
    let mut random = Random::new(9);
    let input: String =
        (0..300).map(|at| crate::data::record(&format!("é{at}\\n"), &mut random, 3)).collect();
    let output = dir.rescore().arg("-j4").stdin(input).run().code(0);
    for (at, record) in output.json().into_iter().enumerate() {
        assert_eq!(record["id"], format!("é{at}\n"));
    }
}
