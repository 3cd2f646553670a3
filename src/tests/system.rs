//! What it does beside its work: no network, no transcripts in messages (P1, P3).

use std::collections::BTreeSet;
use std::process::Command;

use crate::data::{fixture, read, records};
use crate::harness::Dir;

/// Calls of `rescore` that touch the network, or `None` where nothing can be traced.
fn network(dir: &Dir, arguments: &[&str], library: Option<&std::path::Path>) -> Option<String> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=network", "-o", "trace.txt", env!("CARGO_BIN_EXE_secondpass")]);
    if Command::new("strace").arg("-V").output().is_err() {
        return None;
    }
    strace.args(arguments);
    let mut command = dir.other(strace).stdin(records(50, 91));
    if let Some(library) = library {
        command = command.ort(library);
    }
    let output = command.run();
    if output.stderr.contains("ptrace") || output.stderr.contains("PTRACE") {
        return None;
    }
    output.code(0);
    let trace = String::from_utf8_lossy(&dir.read("trace.txt")).into_owned();
    let calls = trace.lines().filter(|line| !line.contains("socketpair") && line.contains('('));
    Some(calls.filter(|line| !line.contains("+++") && !line.contains("---")).collect::<Vec<_>>().join("\n"))
}

#[test]
fn p1_no_network_with_an_ngram() {
    let dir = Dir::ngram();
    match network(&dir, &["rescore", "--ngram", "lm.arpa", "-j2"], None) {
        None => crate::skip!("p1_no_network_with_an_ngram", "strace is missing or forbidden"),
        Some(calls) => assert_internal(&calls),
    }
}

#[test]
fn p1_no_network_with_onnx() {
    let library = crate::runtime!("p1_no_network_with_onnx");
    let dir = Dir::new();
    let model = fixture("models/tiny-lstm/model.onnx");
    let model = model.to_str().expect("a path in UTF-8");
    match network(&dir, &["rescore", "--rnnlm", model, "-j2"], Some(library)) {
        None => crate::skip!("p1_no_network_with_onnx", "strace is missing or forbidden"),
        Some(calls) => assert_internal(&calls),
    }
}

/// A pair of sockets wakes the signal thread; nothing reaches outside.
#[track_caller]
fn assert_internal(calls: &str) {
    for call in ["socket(", "connect(", "bind(", "listen(", "accept(", "sendto(AF_INET"] {
        assert!(!calls.contains(call), "{calls}");
    }
}

fn words(text: &str) -> BTreeSet<String> {
    let apart = |c: char| !(c.is_alphanumeric() || c == '\'');
    text.to_lowercase().split(apart).filter(|word| word.len() > 2).map(str::to_owned).collect()
}

fn texts(value: &serde_json::Value, into: &mut String) {
    match value {
        serde_json::Value::String(text) => {
            into.push(' ');
            into.push_str(text);
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| texts(value, into)),
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                if !["id", "session", "secondpass"].contains(&key.as_str()) {
                    texts(value, into);
                }
            }
        }
        _ => {}
    }
}

/// Words that the program's sources have, and so its messages may; the other words of a transcript can
/// come from nowhere else.
fn ours(folder: &std::path::Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("the sources").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "tests") {
            ours(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.extend(words(&std::fs::read_to_string(&path).expect("a source")));
        }
    }
}

#[test]
fn p3_no_transcripts_in_messages() {
    let dir = Dir::ngram();
    let fixtures = [
        "speech/nbest.jsonl",
        "cases/aliases.jsonl",
        "cases/traps.jsonl",
        "cases/bad.jsonl",
        "cases/crlf.jsonl",
        "cases/bom.jsonl",
        "cases/clash.jsonl",
        "cases/invalid-utf8.bin",
    ];
    let mut known = BTreeSet::new();
    ours(&fixture("../src"), &mut known);
    for fixture in fixtures {
        let input = read(fixture);
        let mut transcripts = String::new();
        for line in String::from_utf8_lossy(&input).lines() {
            if let Ok(value) = serde_json::from_str(line) {
                texts(&value, &mut transcripts);
            }
        }
        let secret: BTreeSet<String> = words(&transcripts).difference(&known).cloned().collect();
        assert!(!fixture.contains("speech") || secret.len() > 300, "{fixture}: {secret:?}");
        for level in ["", "info"] {
            let ways = [
                vec!["rescore", "--ngram", "lm.arpa", "--stats", "0.01", "--explain"],
                vec!["rescore", "--ngram", "lm.arpa", "--strict"],
                vec!["eval", "--resamples", "0"],
                vec!["tune", "--ngram", "lm.arpa", "--restarts", "1"],
            ];
            for way in ways {
                let output = dir.secondpass(&way).env("SECONDPASS_LOG", level).stdin(input.clone()).run();
                assert!(way[0] == "eval" || !output.stderr.is_empty());
                let said = words(&output.stderr);
                let told: Vec<_> = said.intersection(&secret).collect();
                assert!(told.is_empty(), "{fixture} {way:?}: {told:?} in {}", output.stderr);
            }
        }
    }
}

/// A test that needs strace, run where there is none.
#[test]
fn a_skip_is_said_and_counted() {
    let dir = Dir::new();
    let mut tests = std::process::Command::new(std::env::current_exe().expect("this program"));
    tests.args(["--exact", "system::p1_no_network_with_an_ngram"]);
    let output = dir.other(tests).env("PATH", "").env("SECONDPASS_SKIPS", dir.path("skips")).run().code(0);
    assert!(output.stderr.contains("skipped: p1_no_network_with_an_ngram: "), "{}", output.stderr);
    assert_eq!(dir.read("skips"), b"p1_no_network_with_an_ngram\n");
}
