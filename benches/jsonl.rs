//! Reading and writing a record of 100 hypotheses, in bytes of input per second. All formats: `rates`.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use secondpass::Name;
use secondpass::formats::jsonl::{Reader, write};
use secondpass::formats::{Gained, OwnNames};

criterion_group!(benches, jsonl);
criterion_main!(benches);

fn jsonl(criterion: &mut Criterion) {
    let line = line();
    let own = OwnNames::new(["rnnlm", "ngram"]);
    let mut reader = Reader::new(own);
    let mut group = criterion.benchmark_group("jsonl");
    group.throughput(Throughput::Bytes(line.len() as u64));
    group.bench_function("validate", |b| {
        let text = std::str::from_utf8(&line).unwrap();
        b.iter(|| serde_json::from_str::<serde::de::IgnoredAny>(black_box(text)).unwrap());
    });
    group.bench_function("read", |b| b.iter(|| reader.read(black_box(&line)).unwrap()));

    let mut record = reader.read(&line).unwrap();
    let names = ["ngram", "rnnlm", "words", "rnnlm.oov"].map(Name::from);
    for (at, hypothesis) in record.utterance.hypotheses.iter_mut().enumerate() {
        for name in &names[..2] {
            hypothesis.set(name, -11.234_567_890_123 * (at + 1) as f64);
        }
        hypothesis.set(&names[2], 19.0);
        hypothesis.set(&names[3], 0.0);
        hypothesis.total = -300.123_456_789 - at as f64;
    }
    let order: Vec<_> = (0..record.utterance.hypotheses.len()).rev().collect();
    let gained = Gained { order: &order, features: &names, explain: None, ..Gained::default() };
    let mut out = Vec::new();
    group.bench_function("write", |b| {
        b.iter(|| {
            out.clear();
            write(&record, &line, &gained, &mut out).unwrap();
            black_box(out.len())
        });
    });
    group.finish();
}

/// A list as a recogniser gives it: about 19 words a hypothesis, which differ in two places.
fn line() -> Vec<u8> {
    let mut line = r#"{"id":"1272-128104-0000","ref":"mister quilter","hyps":["#.to_owned();
    for i in 0..100 {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(
            line,
            r#"{comma}{{"text":"mister quilter is the apostle of the middle class{} and we are glad to welcome his gospel{}","scores":{{"am":-{}.{:06},"lm":-{}.{:05}}}}}"#,
            ["", "es"][i % 2],
            ["", "s", " here", " there"][i / 2 % 4],
            310 + i,
            i * 7919 % 1_000_000,
            60 + i % 13,
            i * 104_729 % 100_000,
        );
    }
    line.push_str("]}");
    line.into_bytes()
}
