//! The n-gram engine: reading ARPA text and scoring.
//!
//! With `SECONDPASS_BENCH_NGRAM=MODEL` and `SECONDPASS_BENCH_TEXT=FILE`, also a model too large for the
//! processor's caches; `benches/compact.rs` has such models beside each other and beside KenLM.

use std::hint::black_box;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use secondpass::lm::ngram::{Ngram, Options, State, compact};
use secondpass::lm::{Job, LanguageModel, Limits};
use secondpass::tokens::Vocab;
use secondpass::trie::Builder;

fn read(bench: &mut Criterion) {
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

fn score(bench: &mut Criterion) {
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
fn large(bench: &mut Criterion) {
    let named = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(path), Some(text)) = (named("SECONDPASS_BENCH_NGRAM"), named("SECONDPASS_BENCH_TEXT")) else {
        return;
    };
    let model = Ngram::open(&path, &Options::default()).expect("SECONDPASS_BENCH_NGRAM");
    let text = std::fs::read(text).expect("SECONDPASS_BENCH_TEXT");
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
    group.finish();
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/kenlm").join(name)
}

criterion_group!(benches, read, score, large);
criterion_main!(benches);
