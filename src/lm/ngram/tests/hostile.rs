//! Every truncation and every flipped bit of small files (M1): an error, or scores that are numbers.
//!
//! In a process of its own, with little memory and little time: what hangs or asks for too much ends
//! that process, and its last words name the case.

use std::io::Cursor;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::build::{BuildOptions, Target, build};
use super::super::*;
use super::vectors::gunzip;
use crate::testing::fixture;
use crate::tokens::Vocab;

/// As many cases as a change is worth. `SECONDPASS_FULL=1` runs all, over three million.
const CASES: usize = 24_000;

#[test]
fn damaged_files_are_errors_or_score() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    // Address space for the program, the files (0.6 MB at most) and the largest dictionary of xz.
    let script = "ulimit -v 700000; ulimit -t 3000; exec \"$0\" --exact \"$1\" --nocapture --test-threads 1";
    let name = "lm::ngram::tests::hostile::damaged_files_are_errors_or_score";
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap()).arg(name).env(INSIDE, "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let told = text.lines().find(|line| line.contains(" damaged files: ")).unwrap_or_default();
    assert!(output.status.success() && !told.is_empty(), "{}\n{text}", output.status);
    eprintln!("{told}");
}

fn inside() {
    let full = std::env::var_os("SECONDPASS_FULL").is_some_and(|value| value == "1");
    let files = files();
    // A file of n bytes can be cut in n ways, and has 8n bits.
    let all: usize = files.iter().map(|(_, bytes)| bytes.len() * 9).sum();
    let small: usize = files.iter().map(|(_, bytes)| bytes.len().min(SMALL) * 9).sum();
    let done = Arc::new(AtomicUsize::new(0));
    watch(done.clone());
    let (mut errors, mut models) = (0, 0);
    for (name, bytes) in &files {
        let cases = bytes.len() * 9;
        let share = if full { cases } else { bytes.len().min(SMALL) * 9 * CASES / small };
        for number in 0..share.min(cases) {
            // Spread over the file.
            let case = (number as u128 * cases as u128 / share.min(cases) as u128) as usize;
            let cut = case < bytes.len();
            let mut damaged = bytes.clone();
            if cut {
                damaged.truncate(case);
            } else {
                let bit = case - bytes.len();
                damaged[bit / 8] ^= 1 << (bit % 8);
            }
            let what = || format!("{name}, {} {case}", if cut { "cut to" } else { "case" });
            let outcome = std::panic::catch_unwind(|| look(damaged, cut));
            match outcome.unwrap_or_else(|_| panic!("{}", what())) {
                Ok(()) => models += 1,
                Err(text) => {
                    assert!(!text.is_empty() && !text.contains('\n'), "{}: {text}", what());
                    errors += 1;
                }
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert!(errors > 0 && models > 0);
    eprintln!("{} of {all} damaged files: {errors} errors, {models} models", errors + models);
}

/// Opens the file, scores with it, and looks at all of it. A file that was cut is an error, if not
/// at once then when its words are asked for.
fn look(bytes: Vec<u8>, cut: bool) -> Result<(), String> {
    let whole = bytes.ends_with(b"\\end\\");
    let model =
        Ngram::from_reader("memory", Cursor::new(bytes), &Options::default()).map_err(|e| e.to_string())?;
    let faults = model.verify();
    // Text may lack its last line's end.
    assert!(!cut || !faults.is_empty() || whole, "a cut was not noticed");
    let words = model.words();
    let sample = (words.len() / 12).max(1);
    let mut out = State::default();
    for first in (0..words.len() as u32).step_by(sample) {
        let mut state = model.begin();
        for word in [first, words.id(b"a"), words.id(b"b"), first + 1, words.id(b"b"), words.eos()] {
            let full = model.full_score(&state, word, &mut out);
            assert!(full.log10 < f32::INFINITY, "{full:?}");
            std::mem::swap(&mut state, &mut out);
        }
    }
    words.hash();
    words.word(words.len() as u32 - 1);
    if faults.is_empty() { Ok(()) } else { Err(faults[0].clone()) }
}

/// ARPA text, packed in every way, and every kind of binary.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for name in ["ok_base", "missing_suffix", "gz_ok", "bz2_ok", "xz_ok"] {
        let path = fixture(&format!("kenlm/malformed/{name}.arpa"));
        files.push((name.to_owned(), std::fs::read(path).unwrap()));
    }
    let zstd =
        ["first", "second"].map(|half| std::fs::read(fixture(&format!("kenlm/halves/{half}.zstd"))).unwrap());
    files.push(("zstd".to_owned(), zstd.concat()));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for target in [
        Target::Probing { multiplier: 1.5 },
        Target::Trie { quantise: None, array: None },
        Target::Trie { quantise: None, array: Some(3) },
        Target::Trie { quantise: Some((4, 3)), array: None },
        Target::Trie { quantise: Some((4, 3)), array: Some(3) },
    ] {
        for spellings in [true, false] {
            let mut options = BuildOptions { spellings, ..BuildOptions::new(target) };
            if let (Target::Probing { multiplier }, true) = (&mut options.target, spellings) {
                *multiplier = 3.0;
            }
            let arpa = fixture("kenlm/malformed/missing_suffix.arpa");
            build(&arpa, &out, &options, &mut |_| {}).unwrap();
            files.push((format!("{target:?}, {spellings}"), std::fs::read(&out).unwrap()));
        }
    }
    for format in ["rest_max", "trie_q8b8_a22"] {
        files.push((format.to_owned(), gunzip(&fixture(&format!("kenlm/unicode6.{format}.gz")))));
    }
    files
}

/// Ends the process when no case is done for long.
fn watch(done: Arc<AtomicUsize>) {
    std::thread::spawn(move || {
        let mut last = 0;
        loop {
            std::thread::sleep(Duration::from_secs(30));
            let now = done.load(Ordering::Relaxed);
            if now == last {
                eprintln!("hangs after {now} cases");
                std::process::exit(3);
            }
            last = now;
        }
    });
}

/// Set in the process that does the work.
const INSIDE: &str = "SECONDPASS_HOSTILE";
/// Larger files count as much as one of this size.
const SMALL: usize = 2000;
