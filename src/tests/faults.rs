//! Every fallible call of the stream may fail, once or always, and a panic costs one record (F1, F2).

#[allow(dead_code)]
mod data;
#[allow(dead_code)]
mod harness;
#[allow(dead_code)]
mod runtime;
#[allow(dead_code)]
mod skip;

use data::{count, lines, records};
use harness::{Dir, Output};

const TERMS: [&str; 2] = ["1*", ""];

fn run(dir: &Dir, failpoints: &str, input: &[u8], jobs: &str) -> Output {
    dir.rescore()
        .args([jobs, "--window", "32"])
        .env("FAILPOINTS", failpoints)
        .stdin(input)
        .pieces(&[20_000])
        .run()
}

#[test]
fn f1_a_read_or_write_that_fails() {
    let dir = Dir::ngram();
    let input = records(count(600, 6_000), 201);
    let want = dir.rescore().stdin(input.clone()).run().code(0).stdout;
    for point in ["stream::read", "stream::write", "stream::flush"] {
        // At once, later, now and then.
        for when in ["return", "1*return", "3*off->return", "3*off->1*return", "50%return"] {
            for jobs in ["-j1", "-j4"] {
                let output = run(&dir, &format!("{point}={when}"), &input, jobs);
                let certain = matches!(when, "return" | "1*return") || point == "stream::write";
                if !certain && output.status.code() == Some(0) {
                    // It was not called so often.
                    assert!(output.stdout == want && !output.stderr.contains("on purpose"), "{point}={when}");
                    continue;
                }
                assert_eq!(output.status.code(), Some(2), "{point}={when}: {}", output.stderr);
                assert!(output.stderr.contains("failed on purpose"), "{point}={when}: {}", output.stderr);
                assert!(want.starts_with(&output.stdout), "{point}={when}: no prefix of the answer");
                assert!(output.stdout.is_empty() || output.stdout.ends_with(b"\n"), "{point}={when}: torn");
            }
        }
    }
}

#[test]
fn f1_a_file_that_cannot_be_opened() {
    let dir = Dir::ngram();
    let input = records(5, 204);
    let lists = dir.write("in.jsonl", &input);
    for point in ["files::open", "files::create", "ngram::open"] {
        let output = dir
            .rescore()
            .arg(&lists)
            .args(["--output", "out.jsonl"])
            .env("FAILPOINTS", format!("{point}=return"))
            .run();
        assert_eq!(output.status.code(), Some(2), "{point}: {}", output.stderr);
        assert!(
            output.stderr.lines().last().is_some_and(|line| line.contains("failed on purpose")),
            "{point}"
        );
    }
}

/// A disk that fails at any moment of a build leaves the old file, and nothing beside it (M5).
#[test]
fn f1_a_file_that_cannot_be_built() {
    let dir = Dir::ngram();
    let build = |failpoints: &str| {
        dir.secondpass(["ngram", "build", "lm.arpa", "out", "--type", "trie"])
            .env("FAILPOINTS", failpoints)
            .run()
    };
    for point in ["ngram::open", "whole::create", "whole::write", "whole::finish"] {
        for when in ["return", "1*off->return", "3*off->return", "9*off->return"] {
            dir.write("out", "old");
            let output = build(&format!("{point}={when}"));
            if output.status.code() == Some(0) {
                // It was not called so often.
                assert!(dir.read("out").starts_with(b"mmap lm ") && when != "return", "{point}={when}");
                continue;
            }
            let output = output.code(2);
            assert!(output.stderr.contains("failed on purpose"), "{point}={when}: {}", output.stderr);
            assert_eq!(dir.read("out"), b"old", "{point}={when}");
            assert_eq!(std::fs::read_dir(dir.path("")).expect("the folder").count(), 2, "{point}={when}");
        }
    }
}

/// A session that fails costs the lists it fails on, not the run.
#[test]
fn f1_a_model_that_fails() {
    let library = match runtime::runtime() {
        Ok(library) => library,
        Err(reason) => return skip::record("f1_a_model_that_fails", reason),
    };
    let dir = Dir::new();
    let input = records(40, 205);
    let model = data::fixture("models/tiny-lstm/model.onnx");
    let rescore = |failpoints: &str| {
        let model = model.to_str().expect("a path");
        // Small steps, so that there are many.
        let arguments = ["rescore", "-j1", "--batch-cells=4", "--rnnlm", model];
        let command = dir.secondpass(arguments).ort(library).stdin(input.clone());
        command.env("FAILPOINTS", failpoints).run()
    };
    let want = rescore("").code(0).stdout;
    // The model is tried a few times when it is opened: after that, once, and from then on.
    let lost = contained(&rescore("onnx::run=20*off->1*return->off"), &want, &input, "onnx::run");
    assert!(lost <= 1, "{lost} lists lost by one failure");
    let output = rescore("onnx::run=20*off->return");
    assert!(contained(&output, &want, &input, "onnx::run") > 0);
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
}

/// Each line rescored as ever, or as it was with a mark; in order.
fn contained(output: &Output, want: &[u8], input: &[u8], why: &str) -> usize {
    let (got, want, sent) = (output.lines(), lines(want), lines(input));
    assert_eq!(got.len(), sent.len(), "{}", output.stderr);
    let mut lost = 0;
    for ((got, want), sent) in got.into_iter().zip(want).zip(sent) {
        if got != want {
            lost += 1;
            let got = String::from_utf8_lossy(got);
            let sent = String::from_utf8_lossy(sent);
            assert!(got.starts_with(sent.trim_end().trim_end_matches('}')), "{got}");
            assert!(got.contains("\"status\":\"passed\"") && got.contains(why), "{got}");
        }
    }
    lost
}

#[test]
fn f2_a_panic_costs_one_record() {
    let dir = Dir::ngram();
    let input = records(count(1_000, 100_000), 202);
    let want = dir.rescore().stdin(input.clone()).run().code(0).stdout;
    for point in ["stream::submit", "stream::step"] {
        for term in TERMS {
            for jobs in ["-j1", "-j4"] {
                let failpoints = format!("{point}=10*off->{term}panic");
                let output = run(&dir, &failpoints, &input, jobs);
                let lost = contained(&output, &want, &input, "internal error, contained");
                assert!(output.status.code() == Some(i32::from(lost > 0)), "{failpoints}: {}", output.stderr);
                if term == "1*" {
                    assert!(lost <= 1, "{failpoints}: {lost} records lost");
                }
            }
        }
        // One call in fifty, for the whole run. A record that is tried again and then goes well is not lost.
        let output = run(&dir, &format!("{point}=2%panic"), &input, "-j3");
        let lost = contained(&output, &want, &input, "internal error, contained");
        assert!(lost < lines(&input).len() / 10, "{point}: {lost} lost");
        assert_eq!(output.status.code(), Some(i32::from(lost > 0)));
        assert!(!output.stderr.contains("please report"), "{}", output.stderr);
    }
}

/// A list whose winner is being confirmed is begun again like any other.
#[test]
fn f2_a_panic_costs_no_confirmed_winner() {
    let library = crate::runtime!("f2_a_panic_costs_no_confirmed_winner");
    let dir = Dir::ngram();
    let input = records(count(60, 1_000), 205);
    let run = |failpoints: &str| {
        let flags =
            ["--precision", "int8", "--confirm", "30", "--weight", "rnnlm=9", "--deterministic", "-j2"];
        let run = dir.rescore().arg("--rnnlm").arg(data::fixture("models/tiny-bpe/model.onnx")).args(flags);
        run.env("FAILPOINTS", failpoints).ort(library).stdin(input.clone()).run()
    };
    let want = run("").code(0);
    assert!(want.text().contains("\"confirmed\":"), "nobody was confirmed");
    for after in [5, 25, 60] {
        let output = run(&format!("stream::step={after}*off->1*panic"));
        let lost = contained(&output, &want.stdout, &input, "internal error, contained");
        assert!(lost <= 1, "{lost} records lost");
    }
}

#[test]
fn f1_a_failed_write_can_be_resumed() {
    let dir = Dir::ngram();
    let input = dir.write("in.jsonl", records(200, 203));
    let to = |failpoints: &str, name: &str| {
        dir.rescore().arg(&input).args(["-j2", "--output", name]).env("FAILPOINTS", failpoints)
    };
    to("", "want.jsonl").run().code(0);
    for failpoints in ["stream::write=70*off->return", "stream::read=1*off->return", "stream::flush=return"] {
        to(failpoints, "got.jsonl").run().code(2);
        to("", "got.jsonl").arg("--resume").run().code(0);
        assert!(dir.read("got.jsonl") == dir.read("want.jsonl"), "{failpoints}");
    }
}
