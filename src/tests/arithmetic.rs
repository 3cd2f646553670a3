//! n-gram scores: the arithmetic of the ARPA file (N4), the same bits from everywhere (N3), whatever
//! becomes of the file meanwhile (M4).

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;

use serde_json::Value;

use crate::data::{Random, WORDS, arpa, count, lines, records, sentence};
use crate::harness::{Dir, Output, wait};

/// What an ARPA file says: words to log10 probability and backoff.
type Grams = HashMap<Vec<String>, (f64, f64)>;

fn grams(text: &str) -> Grams {
    let rows = text.lines().filter(|line| line.starts_with('-'));
    let parts = rows.map(|line| line.split('\t').collect::<Vec<&str>>());
    let number = |text: &str| text.parse().expect("a number");
    parts
        .map(|parts| {
            let backoff = parts.get(2).map_or(0.0, |text| number(text));
            (parts[1].split(' ').map(str::to_owned).collect(), (number(parts[0]), backoff))
        })
        .collect()
}

/// p(last word | those before it), log10: the longest n-gram that is listed, and the backoffs of the
/// contexts that were too long.
fn backed_off(grams: &Grams, words: &[String]) -> f64 {
    match (grams.get(words), words) {
        (Some((prob, _)), _) => *prob,
        (None, [_]) => grams[&vec!["<unk>".to_owned()]].0,
        (None, _) => {
            let backoff = grams.get(&words[..words.len() - 1]).map_or(0.0, |(_, backoff)| *backoff);
            backoff + backed_off(grams, &words[1..])
        }
    }
}

#[test]
fn n4_scores_are_the_arithmetic_of_the_arpa_file() {
    let dir = Dir::ngram();
    let grams = grams(&arpa());
    assert!(grams.keys().any(|words| words.len() == 3), "no 3-grams were read");
    let mut random = Random::new(401);
    let mut text = String::new();
    let mut expected = Vec::new();
    for _ in 0..count(10_000, 100_000) {
        let length = random.below(13);
        let words: Vec<&str> = sentence(&mut random, length);
        text += &(words.join(" ") + "\n");
        // The last of the words is unknown to the model.
        let known = words.iter().map(|word| if *word == WORDS[23] { "<unk>" } else { word });
        let whole: Vec<String> =
            ["<s>"].into_iter().chain(known).chain(["</s>"]).map(str::to_owned).collect();
        let total: f64 =
            (1..whole.len()).map(|at| backed_off(&grams, &whole[at.saturating_sub(2)..=at])).sum();
        expected
            .push((total * std::f64::consts::LN_10, words.iter().filter(|word| **word == WORDS[23]).count()));
    }
    let run = dir.secondpass(["score", "--json", "--ngram", "lm.arpa"]).stdin(text).run().code(0);
    let got = run.lines().into_iter().map(|line| serde_json::from_slice::<Value>(line).expect("JSON"));
    let got: Vec<Value> = got.collect();
    assert_eq!(got.len(), expected.len());
    for (at, (got, (score, unknown))) in got.iter().zip(expected).enumerate() {
        let value = got["scores"]["ngram"].as_f64().expect("a score");
        assert!((value - score).abs() <= 1e-5, "line {}: {value}, and should be {score}", at + 1);
        assert_eq!(got["oov"]["ngram"].as_u64(), Some(unknown as u64), "line {}", at + 1);
    }
}

/// Every kind of file that keeps all bits, made from `lm.arpa`.
const FILES: [(&str, &[&str]); 5] = [
    ("probing", &["--type", "probing"]),
    ("trie", &["--type", "trie"]),
    ("array", &["--type", "array"]),
    ("size", &["--type", "compact", "--prefer", "size"]),
    ("speed", &["--type", "compact", "--prefer", "speed"]),
];

#[test]
fn n3_bits_are_the_same_from_every_file_in_any_company() {
    let dir = Dir::ngram();
    let input = records(count(1_250, 25_000), 402);
    let rescore = |model: &str, more: &[&str], input: &[u8]| -> Output {
        let arguments = ["rescore", "--weight", "ngram=0.7", "--ngram", model];
        dir.secondpass(arguments).args(more).stdin(input).run().code(0)
    };
    let want = rescore("lm.arpa", &["-j1"], &input);
    assert_eq!(want.lines().len(), lines(&input).len());
    for (name, kind) in FILES {
        dir.secondpass(["ngram", "build", "lm.arpa", name]).args(kind).run().code(0);
        for load in ["read", "mmap"] {
            for jobs in ["-j1", "-j3"] {
                let got = rescore(name, &[jobs, "--load", load], &input);
                assert!(got.stdout == want.stdout, "{name} {load} {jobs}");
            }
        }
    }
    // Without company: each hypothesis a list of its own.
    let mut alone = String::new();
    let mut scores = Vec::new();
    for line in want.lines() {
        let list: Value = serde_json::from_slice(line).expect("JSON");
        for hypothesis in list["hyps"].as_array().expect("hypotheses") {
            alone += &format!("{{\"hyps\":[{{\"text\":{},\"score\":0}}]}}\n", hypothesis["text"]);
            scores.push(hypothesis["scores"]["ngram"].clone());
        }
    }
    let got = rescore("speed", &["-j1"], alone.as_bytes());
    assert_eq!(got.lines().len(), scores.len());
    for (line, score) in got.lines().into_iter().zip(scores) {
        let list: Value = serde_json::from_slice(line).expect("JSON");
        assert_eq!(list["hyps"][0]["scores"]["ngram"], score);
    }
}

/// A model file that becomes empty while it is used: nothing happens to those who read it; who mapped
/// it may be killed, and has written whole lines only.
#[test]
fn m4_a_model_that_is_cut_while_it_is_used() {
    let dir = Dir::ngram();
    let input = records(200, 403);
    let rescore = |load: &str| {
        dir.secondpass(["rescore", "-j2", "--weight", "ngram=0.7", "--ngram", "model", "--load", load])
    };
    let build = || dir.secondpass(["ngram", "build", "lm.arpa", "model"]).run().code(0);
    build();
    let want = rescore("read").stdin(input.clone()).run().code(0).stdout;
    let mut random = Random::new(404);
    for round in 0..count(6, 200) {
        let load = ["read", "mmap"][round % 2];
        build();
        let mut running = rescore(load).start();
        let fed = lines(&input);
        let before = 1 + random.below(fed.len() - 1);
        running.write(&fed[..before].concat());
        let mut got = running.line();
        // In place, unlike a rename, which would leave those that have it open what they opened.
        let file = std::fs::File::options().write(true).open(dir.path("model")).expect("a model");
        file.set_len(0).expect("cut");
        // Who was killed does not read any more.
        let stdin = running.stdin.take();
        let sent = stdin.map(|mut stdin| std::io::Write::write_all(&mut stdin, &fed[before..].concat()));
        let status = wait(&mut running.child);
        got.extend(running.lines.iter().flatten());
        if load == "read" {
            assert!(sent.is_some_and(|sent| sent.is_ok()) && status.success(), "{status}");
            assert!(got == want);
            continue;
        }
        const SIGBUS: i32 = 7;
        assert!(status.success() || status.signal() == Some(SIGBUS), "{status}");
        assert!(want.starts_with(&got), "not a prefix of the answer");
    }
}
