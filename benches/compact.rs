//! Sizes and times of a compact n-gram file beside the hash tables, on any model and text:
//!
//! ```text
//! cargo bench --bench compact -- MODEL.arpa[.gz|.bz2] TEXT [FILE]
//! ```
//!
//! Builds FILE unless it is there. Without arguments there is nothing to do.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use secondpass::lm::ngram::{Ngram, Options, State, compact};
use secondpass::tokens::Vocab;

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|word| !word.to_string_lossy().starts_with("--"))
        .map(PathBuf::from)
        .collect();
    let (Some(arpa), Some(text)) = (arguments.first(), arguments.get(1)) else {
        println!("give a model and a text");
        return;
    };
    let scratch = std::env::temp_dir().join("secondpass-bench.compact");
    let file = arguments.get(2).unwrap_or(&scratch);
    if !file.exists() || file == &scratch {
        let start = Instant::now();
        let options = compact::Options::default();
        println!("estimate: {:?}", compact::estimate(arpa, &options).expect("an ARPA file"));
        let report = compact::build(arpa, file, &options).expect("a model");
        println!(
            "built in {:.1} s, at most {} kB resident",
            start.elapsed().as_secs_f64(),
            resident("VmHWM")
        );
        let ngrams: u64 = report.counts.iter().sum();
        for (name, bytes) in &report.sections {
            println!("{name:>24} {bytes:>12}");
        }
        println!(
            "{:?}: {} bytes, {:.3} each",
            report.counts,
            report.file_bytes,
            report.file_bytes as f64 / ngrams as f64
        );
    }
    let start = Instant::now();
    println!(
        "verified {:?} in {:.2} s",
        compact::verify(file).expect("a whole file"),
        start.elapsed().as_secs_f64()
    );
    let text = std::fs::read(text).expect("a text");
    let ours = measure("compact", file, &text);
    let theirs = measure("hashed", arpa, &text);
    assert_eq!(ours, theirs, "scores differ");
}

/// Prints how long opening and a lookup take; returns all scores, added up.
fn measure(name: &str, path: &Path, text: &[u8]) -> f64 {
    let start = Instant::now();
    let model = Ngram::open(path, &Options::default()).expect("a model");
    let opened = start.elapsed().as_secs_f64();
    let ids: Vec<Vec<u32>> = text
        .split(|&byte| byte == b'\n')
        .map(|line| {
            let words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
            words.map(|word| model.words().id(word)).chain([model.words().eos()]).collect()
        })
        .collect();
    let tokens: usize = ids.iter().map(Vec::len).sum();
    let mut best = f64::MAX;
    let mut total = 0.0;
    for _ in 0..3 {
        total = 0.0;
        let start = processor();
        for sentence in &ids {
            let mut state = model.begin();
            let mut next = State::default();
            for &word in sentence {
                total += f64::from(model.full_score(&state, word, &mut next).log10);
                std::mem::swap(&mut state, &mut next);
            }
        }
        best = best.min(processor() - start);
    }
    println!(
        "{name}: opened in {opened:.3} s; {:.1} ns a token of {tokens}; {} kB resident",
        best / tokens as f64 * 1e9,
        resident("VmRSS")
    );
    black_box(total)
}

/// Seconds of processor time so far, which other programs disturb less than time on the clock.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

/// A figure of memory in kB, where the system tells.
fn resident(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
