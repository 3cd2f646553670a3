//! How long the program takes to answer: one list in, one list out, through its pipes.
//!
//!     SECONDPASS_DATA=... cargo bench --bench latency [-- ARGUMENTS OF rescore]
//!
//! The next list is written when the last was answered. Beside the shipped models (or those that the
//! arguments name) it measures `--no-models`: the filter alone. Of equal size are lists whose
//! number of distinct beginnings, the work of a model, is within 10 % of the median.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    // Cargo says `--bench`; what follows is the program's. `cargo test` does not: then a few lists show that it runs.
    let (told, arguments): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument == "--bench");
    let mut lists = lists();
    if told.is_empty() {
        lists.truncate(3);
    }
    let mut sizes: Vec<usize> = lists.iter().map(|list| beginnings(list)).collect();
    let of = sizes.clone();
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    let alike = |size: usize| size.abs_diff(median) * 10 <= median;
    for (name, more) in [("filter alone", &["--no-models".to_owned()][..]), ("with models", &arguments[..])] {
        let times = answers(&lists, more);
        let equal = times.iter().zip(&of).filter(|&(_, &size)| alike(size)).map(|(&time, _)| time);
        say(&format!("{name}, all lists"), times.clone());
        say(&format!("{name}, lists of equal size ({median} beginnings +- 10 %)"), equal.collect());
    }
}

/// The time from writing each list to reading its answer.
fn answers(lists: &[Vec<u8>], more: &[String]) -> Vec<Duration> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_secondpass"))
        .args(["rescore", "-", "--jobs", "1", "--quiet"])
        .args(more)
        .env("SECONDPASS_MODELS", Path::new(env!("CARGO_MANIFEST_DIR")).join("models"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut input = program.stdin.take().expect("a pipe");
    let mut output = BufReader::new(program.stdout.take().expect("a pipe"));
    let mut answer = Vec::new();
    let mut one = |list: &[u8]| {
        let begun = Instant::now();
        input.write_all(list).expect("the program reads");
        answer.clear();
        output.read_until(b'\n', &mut answer).expect("the program writes");
        assert!(
            answer.windows(15).any(|part| part == br#""status":"ok"}}"#.as_slice()),
            "a list was not rescored"
        );
        begun.elapsed()
    };
    // The first answers wait for the models to be opened, and warm caches.
    for list in lists.iter().take(5) {
        one(list);
    }
    let times = lists.iter().map(|list| one(list)).collect();
    drop(input);
    assert!(program.wait().expect("the program ends").success());
    times
}

fn say(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    // Nearest rank.
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64() * 1e3;
    println!(
        "{what}: {} lists, p50 {:.3} ms, p95 {:.3} ms, p99 {:.3} ms, p99 / p50 {:.2}",
        times.len(),
        at(50),
        at(95),
        at(99),
        at(99) / at(50)
    );
}

/// Distinct word beginnings of a list's hypotheses.
fn beginnings(list: &[u8]) -> usize {
    let list: serde_json::Value = serde_json::from_slice(list).expect("a list");
    let texts = list["hyps"].as_array().into_iter().flatten().filter_map(|hyp| hyp["text"].as_str());
    let mut seen = HashSet::new();
    for text in texts {
        seen.extend(text.match_indices(' ').map(|(at, _)| text[..at].to_owned()));
        seen.insert(text.to_owned());
    }
    seen.len() + 1
}

fn lists() -> Vec<Vec<u8>> {
    let bytes = match std::env::var_os("SECONDPASS_DATA").map(PathBuf::from) {
        Some(data) => std::fs::read(data.join("nbest/flite-librispeech.dev.jsonl")).expect("SECONDPASS_DATA"),
        None => {
            let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/speech/nbest.jsonl.gz");
            let packed = std::fs::read(fixture).expect("the fixture");
            let mut bytes = Vec::new();
            flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("the fixture");
            bytes
        }
    };
    let line = |line: &[u8]| [line, b"\n"].concat();
    bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(line).collect()
}
