//! `ngram train` and `ngram prune`: output appears whole or not at all, nothing is left behind,
//! memory stays within what is given.

use std::io::{Read, Write};
use std::time::Duration;

use crate::data::Random;
use crate::harness::{Dir, signal, wait};

/// Sentences with ever new pairs of words.
fn text(sentences: usize, vocabulary: usize) -> Vec<u8> {
    let mut random = Random::new(91);
    let mut text = Vec::new();
    for _ in 0..sentences {
        for _ in 0..random.below(14) + 1 {
            // Frequent words and rare ones.
            let most = random.below(vocabulary) + 1;
            writeln!(text, "w{}", random.below(most)).expect("in memory");
            text.pop();
            text.push(b' ');
        }
        text.push(b'\n');
    }
    text
}

fn names(dir: &Dir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path(".")).expect("the folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_trained_model_scores_and_can_be_pruned() {
    let dir = Dir::new();
    let input = text(3000, 300);
    dir.write("text.txt", &input);
    let trained = dir.secondpass(["ngram", "train", "text.txt", "-n4", "--discount_fallback"]).run().code(0);
    let arpa = trained.stdout;
    assert!(arpa.starts_with(b"\\data\\\nngram 1=") && arpa.ends_with(b"\\end\\\n"));
    assert!(trained.stderr.contains("4-grams:"), "{}", trained.stderr);
    // From standard input, by flag, compressed by name: the same model.
    let pipe = dir.secondpass([
        "-q",
        "ngram",
        "train",
        "--order=4",
        "--discount-fallback",
        "0.5,1,1.5",
        "-olm.arpa.gz",
    ]);
    let output = pipe.stdin(input.clone()).run().code(0);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{}", output.stderr);
    let mut unpacked = Vec::new();
    flate2::read::MultiGzDecoder::new(&dir.read("lm.arpa.gz")[..]).read_to_end(&mut unpacked).expect("gzip");
    assert!(unpacked == arpa);
    let score = |name: &str| {
        let output = dir.secondpass(["score", "text.txt", "--ngram", name]).run().code(0);
        output.text().split_whitespace().map(|number| number.parse::<f64>().expect("a number")).sum::<f64>()
    };
    let whole = score("lm.arpa.gz");
    let prune =
        ["ngram", "prune", "lm.arpa.gz", "small.arpa.gz", "--ngrams", "8000", "--history-text", "text.txt"];
    let output = dir.secondpass(prune).run().code(0);
    assert!(output.stderr.contains("wrote small.arpa.gz"), "{}", output.stderr);
    let small = score("small.arpa.gz");
    assert!(small < whole && small > whole * 3.0, "{small} after {whole}");
    assert_eq!(names(&dir), ["lm.arpa.gz", "small.arpa.gz", "text.txt"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| std::fs::metadata(dir.path(name)).expect("a file").permissions().mode();
        assert_eq!(mode("lm.arpa.gz"), mode("text.txt"), "as other files are made");
    }
}

#[test]
fn mistakes_are_told_and_cost_no_file() {
    let dir = Dir::new();
    dir.write("text.txt", "a b\n");
    dir.write("old.arpa", "the old model");
    for (arguments, advice) in [
        (&["-o5"][..], "--order 5"),
        (&["--prune", "0", "1", "text.txt"], "texts before --prune"),
        (&["text.txt", "--prune", "1,1"], "limit the vocabulary"),
        (&["text.txt", "-o", "text.txt"], "both a text and the output"),
        (&["text.txt", "-o", "lm.arpa.xz"], ".gz"),
        (&["text.txt", "-o", "old.arpa"], "--discount-fallback"),
        (&["text.txt", "nowhere.txt", "-o", "old.arpa"], "nowhere.txt"),
        (&["text.txt", "--memory", "2 giga"], "80%"),
        (&["text.txt", "--memory", "1M", "--discount-fallback"], "--memory"),
        (&["text.txt", "--discount-fallback", "0.5", "1"], "three discounts"),
        (&["text.txt", "--discount-fallback", "-o", "nowhere/lm.arpa"], "nowhere/lm.arpa"),
        (&["text.txt", "--limit-vocab-file", "words", "--vocab-limit", "3"], "cannot be used with"),
    ] {
        let output = dir.secondpass(["ngram", "train"]).args(arguments).run().code(2);
        assert!(output.stderr.contains(advice), "{arguments:?}: {}", output.stderr);
    }
    assert_eq!(dir.read("old.arpa"), b"the old model");
    assert_eq!(names(&dir), ["old.arpa", "text.txt"]);
}

#[test]
fn a_signal_leaves_the_old_model_and_nothing_else() {
    let dir = Dir::new();
    let input = text(60_000, 5000);
    std::fs::create_dir(dir.path("temporary")).expect("a folder");
    let temporary = || std::fs::read_dir(dir.path("temporary")).expect("the folder").count();
    let arguments =
        ["ngram", "train", "-n5", "--memory=32M", "--temp=temporary", "-olm.arpa", "--discount-fallback"];
    // While it waits for more text, and some time after it has all.
    for (name, code, delay) in [
        ("TERM", Some(143), None),
        ("INT", Some(130), None),
        ("TERM", Some(143), Some(100)),
        ("INT", Some(130), Some(1000)),
        ("KILL", None, None),
        ("KILL", None, Some(1000)),
    ] {
        dir.write("lm.arpa", "the old model");
        let mut command = dir.secondpass(arguments);
        let mut child = command.spawn();
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(&input).expect("it reads");
        let held = if let Some(delay) = delay {
            drop(stdin);
            std::thread::sleep(Duration::from_millis(delay));
            None
        } else {
            Some(stdin)
        };
        signal(&child, name);
        let status = wait(&mut child);
        drop(held);
        assert_eq!(temporary(), 0, "SIG{name}");
        if delay.is_some() && status.code() == Some(0) {
            // It was faster.
            assert!(dir.read("lm.arpa").ends_with(b"\\end\\\n"));
            continue;
        }
        assert_eq!(status.code(), code, "SIG{name} after {delay:?}");
        assert_eq!(dir.read("lm.arpa"), b"the old model");
        if name != "KILL" {
            assert_eq!(names(&dir), ["lm.arpa", "temporary"], "SIG{name}");
        }
    }
}

#[test]
fn memory_stays_within_what_is_given() {
    let dir = Dir::new();
    dir.write("text.txt", text(60_000, 3000));
    // 450,000 words: five orders of them are four times what is given.
    let arguments = ["ngram", "train", "text.txt", "-n5", "--memory=40M", "-olm.arpa", "--discount-fallback"];
    let mut command = dir.secondpass(arguments);
    let mut child = command.spawn();
    let mut most = 0;
    while child.try_wait().expect("a child").is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let kib = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse().ok()
        };
        // The pages of the program itself are no memory that it takes.
        most = most.max(kib("VmHWM:").unwrap_or(0).saturating_sub(kib("RssFile:").unwrap_or(0)));
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(wait(&mut child).code(), Some(0), "{said}");
    assert!(said.contains("were sorted on disk"), "{said}");
    assert!(most > 10 << 10 && most <= 40 << 10, "{most} KiB");
}
