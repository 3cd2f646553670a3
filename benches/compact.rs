//! One n-gram model in several forms beside each other, in one run, on one core:
//!
//! ```text
//! cargo bench --bench compact -- TEXT MODEL...
//! ```
//!
//! MODELs are files of any kind: KenLM binaries, compact files, ARPA. For each: bytes, time to open,
//! and nanoseconds of processor time for each token (`</s>` included): of whole sentences of ids, one
//! by one and side by side; and from text to scores. Each is the median and the least of some
//! rounds, which take the models in turn. Scores must be equal, those of quantised files aside.
//!
//! With `SECONDPASS_BENCH_PYTHON=python3`, which needs `pip install kenlm`, KenLM's module is
//! measured between the rounds on the KenLM binaries (`benches/peers/kenlm_score.py`), from text to
//! scores. Without arguments there is nothing to do.

mod query;

use std::hint::black_box;
use std::path::{Path, PathBuf};

use query::{from_text, lines, peer, words};
use secondpass::lm::ngram::{Ngram, Options, State};
use secondpass::tokens::Vocab;

/// A model, what the text is in its ids, and what was measured.
struct Subject {
    name: String,
    path: PathBuf,
    model: Ngram,
    ids: Vec<Vec<u32>>,
    opened: f64,
    times: [Vec<f64>; 4],
    total: f64,
}

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|word| !word.to_string_lossy().starts_with("--"))
        .map(PathBuf::from)
        .collect();
    let [text, models @ ..] = &arguments[..] else {
        println!("give a text and models");
        return;
    };
    let python = std::env::var_os("SECONDPASS_BENCH_PYTHON");
    let bytes = std::fs::read(text).expect("a text");
    let mut subjects: Vec<Subject> = models.iter().map(|path| Subject::new(path, &bytes)).collect();
    let tokens: usize = subjects.first().map_or(0, |first| first.ids.iter().map(Vec::len).sum());
    for _ in 0..ROUNDS {
        for subject in &mut subjects {
            let one = timed(|| subject.one_by_one());
            let side = timed(|| subject.side_by_side());
            let whole = timed(|| from_text(&subject.model, &bytes));
            assert!((one.1 - side.1).abs() < 1e-6 * one.1.abs(), "{}: scores differ", subject.name);
            assert!((one.1 - whole.1).abs() < 1e-6 * one.1.abs(), "{}: scores differ", subject.name);
            subject.total = one.1;
            for (times, time) in subject.times.iter_mut().zip([one.0, side.0, whole.0]) {
                times.push(time / tokens as f64 * 1e9);
            }
            let theirs = python.as_ref().filter(|_| subject.model.info().kind.starts_with("KenLM"));
            if let Some(nanoseconds) =
                theirs.and_then(|python| peer(python.as_ref(), &subject.path, text, "READ"))
            {
                subject.times[3].push(nanoseconds);
            }
        }
    }
    println!("{tokens} tokens, median (least) of {ROUNDS} rounds in turn, ns of processor time a token");
    println!(
        "{:<28} {:>8} {:>13} {:>8} {:>15} {:>15} {:>15} {:>17}",
        "model",
        "MB",
        "bytes/n-gram",
        "open ms",
        "one by one",
        "side by side",
        "text to scores",
        "KenLM's module"
    );
    let exact = subjects.iter().find(|subject| !subject.name.contains("quantised")).map(|first| first.total);
    for subject in &mut subjects {
        let size = std::fs::metadata(&subject.path).map_or(0, |file| file.len());
        let ngrams: u64 = subject.model.counts().iter().sum();
        let [one, side, whole, theirs] = subject.times.each_mut().map(|times| middle(times));
        println!(
            "{:<28} {:>8.1} {:>13.2} {:>8.1} {one:>15} {side:>15} {whole:>15} {theirs:>17}",
            subject.name,
            size as f64 / 1e6,
            size as f64 / ngrams as f64,
            subject.opened * 1e3,
        );
        let equal = exact.is_some_and(|exact| (exact - subject.total).abs() <= 1e-9 * exact.abs());
        assert!(equal || subject.name.contains("quantised"), "{}: other scores", subject.name);
    }
    println!("{QUOTED}");
}

impl Subject {
    fn new(path: &Path, text: &[u8]) -> Self {
        let (opened, model) = timed(|| Ngram::open(path, &Options::default()).expect("a model"));
        let ids = lines(text)
            .map(|line| words(line).map(|word| model.words().id(word)).chain([model.words().eos()]).collect())
            .collect();
        let name = model.info().kind;
        Self { name, path: path.into(), model, ids, opened, times: Default::default(), total: 0.0 }
    }

    fn one_by_one(&self) -> f64 {
        let mut total = 0.0;
        for sentence in &self.ids {
            let mut state = self.model.begin();
            let mut next = State::default();
            for &word in sentence {
                total += f64::from(self.model.full_score(&state, word, &mut next).log10);
                std::mem::swap(&mut state, &mut next);
            }
        }
        black_box(total)
    }

    fn side_by_side(&self) -> f64 {
        let mut total = 0.0;
        let sentences: Vec<&[u32]> = self.ids.iter().map(Vec::as_slice).collect();
        self.model.score_batch(&self.model.begin(), &sentences, |_, _, full| total += f64::from(full.log10));
        black_box(total)
    }
}

fn timed<T>(run: impl FnOnce() -> T) -> (f64, T) {
    let start = processor();
    let result = run();
    (processor() - start, result)
}

/// The middle of some times, and the least.
fn middle(times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    let Some(least) = times.first() else { return "-".into() };
    format!("{:.0} ({least:.0})", times[times.len() / 2])
}

/// Seconds of processor time so far, which other programs disturb less than time on the clock.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

const ROUNDS: usize = 5;
/// Not measured by this program.
const QUOTED: &str = "KenLM's C++ on other models, as quoted from a measurement of 2025 (5-gram of 30.6 M, one core of an EPYC):\n\
    ids: probing 189-292 ns a token, trie 592-741, quantised array 697-805; text to scores: 337-370, 840-1015, 977-1020";
