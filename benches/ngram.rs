//! The n-gram engine: reading ARPA text and scoring.
//!
//! All times are processor time, which other programs disturb less than time on the clock.
//!
//! With `SECONDPASS_BENCH_ARPA=FILE` also a large ARPA file: read, and built into KenLM's files, as bytes
//! of ARPA a second. With `SECONDPASS_BENCH_NGRAM=MODEL` and `SECONDPASS_BENCH_TEXT=FILE` also a model too
//! large for the processor's caches, and beside it, with `SECONDPASS_BENCH_PYTHON=python3` (which needs
//! `pip install kenlm`), KenLM's module on the same model and text. `benches/compact.rs` has several such
//! models beside each other.
//!
//! What KenLM's C++ takes for ids inside that module, `benches/peers/kenlm_sampled.py` finds out; what it took
//! on another model and machine stands in `benches/compact.rs`.

mod query;

use std::hint::black_box;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use secondpass::lm::ngram::build::{BuildOptions, Target, build};
use secondpass::lm::ngram::{Ngram, Options, State, compact, read_arpa};
use secondpass::lm::{Job, LanguageModel, Limits};
use secondpass::tokens::Vocab;
use secondpass::trie::Builder;

/// Processor time of this process.
struct Processor;

impl Measurement for Processor {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
        Duration::from_nanos(text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number"))
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn files(bench: &mut Criterion<Processor>) {
    let Some(arpa) = std::env::var_os("SECONDPASS_BENCH_ARPA").map(PathBuf::from) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let mut group = bench.benchmark_group("ngram-arpa");
    let bytes = std::fs::metadata(&arpa).expect("SECONDPASS_BENCH_ARPA").len();
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    group.bench_function("read", |b| {
        b.iter(|| {
            let mut total = 0.0;
            read_arpa(&arpa, |_, log10, backoff| total += f64::from(log10 + backoff)).expect("an ARPA file");
            black_box(total)
        });
    });
    let trie = Target::Trie { quantise: None, array: None };
    for (name, target) in [("to probing", Target::Probing { multiplier: 1.5 }), ("to trie", trie)] {
        let options = BuildOptions::new(target);
        group.bench_function(name, |b| b.iter(|| build(&arpa, &out, &options, &mut |_| {}).expect("built")));
    }
    group.finish();
}

fn read(bench: &mut Criterion<Processor>) {
    let packed = std::fs::read(fixture("unicode6.arpa.gz")).expect("fixture");
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut text).expect("fixture");
    let mut group = bench.benchmark_group("ngram-read");
    group.throughput(Throughput::Bytes(text.len() as u64));
    for (name, bytes) in [("plain", text), ("gzip", packed)] {
        group.bench_function(name, |b| {
            b.iter(|| Ngram::from_reader(name, Cursor::new(bytes.clone()), &Options::default()));
        });
    }
    group.finish();
}

fn score(bench: &mut Criterion<Processor>) {
    let model = Ngram::open(fixture("unicode6.arpa.gz"), &Options::default()).expect("fixture");
    let text = std::fs::read(fixture("unicode6.txt")).expect("fixture");
    let sentences: Vec<Vec<u32>> = text
        .split(|&b| b == b'\n')
        .map(|line| {
            let words = line.split(|b| matches!(b, 9..=13 | 32)).filter(|word| !word.is_empty());
            words.map(|word| model.words().id(word)).chain([model.words().eos()]).collect()
        })
        .collect();
    let tokens: usize = sentences.iter().map(Vec::len).sum();
    let mut group = bench.benchmark_group("ngram-score");
    group.throughput(Throughput::Elements(tokens as u64));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model");
    compact::build(fixture("unicode6.arpa.gz"), &file, &compact::Options::default()).expect("a compact file");
    let small = Ngram::open(file, &Options::default()).expect("a compact file");
    for (name, model) in [("sentences", &model), ("sentences, compact file", &small)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut total = 0.0;
                for sentence in &sentences {
                    let mut state = model.begin();
                    let mut next = State::default();
                    for &word in sentence {
                        total += model.full_score(&state, word, &mut next).log10;
                        std::mem::swap(&mut state, &mut next);
                    }
                }
                black_box(total)
            });
        });
    }
    let mut builder = Builder::default();
    let tries: Vec<_> = sentences
        .chunks(100)
        .map(|list| {
            builder.start(model.words().bos());
            for sentence in list {
                let words: Vec<u32> = (0..sentence.len() as u32).collect();
                builder.push(sentence, &words);
            }
            Arc::new(builder.finish())
        })
        .collect();
    let limits = Limits { rows: 128, step_time: None, alone: false, threads: 1 };
    let mut scorer = model.scorer(&limits).expect("a scorer");
    group.bench_function("tries", |b| {
        b.iter(|| {
            for trie in &tries {
                let job = Job {
                    trie: trie.clone(),
                    start: None,
                    context: [].into(),
                    deadline: None,
                    boundaries: false,
                    keep: false,
                };
                let slot = scorer.submit(job).expect("a slot");
                while scorer.demand().ready > 0 {
                    scorer.step().expect("a step");
                }
                black_box(scorer.take(slot).is_ready());
                scorer.release(slot);
            }
        });
    });
    group.finish();
}

/// Whole sentences of ids, one by one and side by side.
fn large(bench: &mut Criterion<Processor>) {
    let named = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(path), Some(text)) = (named("SECONDPASS_BENCH_NGRAM"), named("SECONDPASS_BENCH_TEXT")) else {
        return;
    };
    let model = Ngram::open(&path, &Options::default()).expect("SECONDPASS_BENCH_NGRAM");
    let file = text;
    let text = std::fs::read(&file).expect("SECONDPASS_BENCH_TEXT");
    let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|&b| b == b'\n');
    let sentences: Vec<Vec<u32>> = lines
        .map(|line| {
            let words = line.split(|b| matches!(b, 9..=13 | 32)).filter(|word| !word.is_empty());
            words.map(|word| model.words().id(word)).chain([model.words().eos()]).collect()
        })
        .collect();
    let sentences: Vec<&[u32]> = sentences.iter().map(Vec::as_slice).collect();
    let tokens: usize = sentences.iter().map(|sentence| sentence.len()).sum();
    let mut group = bench.benchmark_group("ngram-large");
    group.sample_size(10).throughput(Throughput::Elements(tokens as u64));
    group.bench_function("one by one", |b| {
        b.iter(|| {
            let mut total = 0.0;
            for sentence in &sentences {
                let mut state = model.begin();
                let mut next = State::default();
                for &word in *sentence {
                    total += f64::from(model.full_score(&state, word, &mut next).log10);
                    std::mem::swap(&mut state, &mut next);
                }
            }
            black_box(total)
        });
    });
    group.bench_function("side by side", |b| {
        b.iter(|| {
            let mut total = 0.0;
            model.score_batch(&model.begin(), &sentences, |_, _, full| total += f64::from(full.log10));
            black_box(total)
        });
    });
    group.bench_function("text to scores", |b| b.iter(|| query::from_text(&model, &text)));
    if let Some(python) = named("SECONDPASS_BENCH_PYTHON") {
        let modes = [("read into memory", "READ"), ("mapped, its default", "POPULATE_OR_READ")];
        for (name, load) in modes {
            group.bench_function(format!("KenLM's module, text to scores, {name}"), |b| {
                b.iter_custom(|rounds| {
                    let each = query::peer(&python, &path, &file, load).expect("a Python with kenlm");
                    Duration::from_secs_f64(each * tokens as f64 * rounds as f64 / 1e9)
                });
            });
        }
    }
    group.finish();
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/kenlm").join(name)
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(Processor);
    targets = read, files, score, large
}
criterion_main!(benches);
