//! Words encoded each second, with the worker's cache and without.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use secondpass::tokens::{Case, Markers, Pieces, TextMap, Vocab, WordCache};

/// A model of the user's with SECONDPASS_BENCH_PIECES=FILE, else the fixture.
fn pieces() -> Pieces {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokens/unigram.model");
    let path = std::env::var_os("SECONDPASS_BENCH_PIECES").map_or(fixture, Into::into);
    Pieces::open(&path, 1 << 20, 1, 2, None).expect("a SentencePiece model")
}

/// Lists repeat their words: 20,000 words, Zipf-like over 2,000 that are made of syllables.
fn text() -> Vec<u8> {
    const SYLLABLES: [&str; 16] = [
        "the", "ing", "sta", "wa", "ter", "mor", "ri", "ver", "lo", "o", "en", "cap", "tain", "gar", "den",
        "s",
    ];
    let mut seed = 1u64;
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut text = Vec::new();
    for _ in 0..20_000 {
        let limit = 1 + draw(2_000);
        let mut word = draw(limit);
        loop {
            text.extend_from_slice(SYLLABLES[(word % 16) as usize].as_bytes());
            word /= 16;
            if word == 0 {
                break;
            }
        }
        text.push(b' ');
    }
    text
}

fn encode(criterion: &mut Criterion) {
    let vocab = pieces();
    let text = text();
    let words = Markers::default().words(&text);
    let keep = TextMap::default();
    let lower = TextMap { case: Case::Lower, strip_punctuation: true, ..TextMap::default() };
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(words.len() as u64));
    group.bench_function("uncached", |bench| {
        let mut ids = Vec::new();
        bench.iter(|| {
            ids.clear();
            for word in &words {
                vocab.encode(black_box(word), &mut ids);
            }
            ids.len()
        });
    });
    for (name, map) in [("cached", &keep), ("cached, mapped", &lower)] {
        let mut cache = WordCache::default();
        group.bench_function(name, |bench| {
            bench.iter(|| {
                words.iter().map(|word| cache.encode(&vocab, map, black_box(word)).ids.len()).sum::<usize>()
            });
        });
    }
    group.bench_function("markers and split", |bench| {
        let markers = Markers::default();
        bench.iter(|| markers.words(black_box(&text)).len());
    });
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
