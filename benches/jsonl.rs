//! Reading and writing a record of 100 hypotheses, in bytes of input per second; for the other
//! formats cutting the stream into records too.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use secondpass::Name;
use secondpass::formats::jsonl::{Reader, write};
use secondpass::formats::{
    Answer, Chunk, Format, Gained, Given, Kept, Names, OwnNames, Reader as AnyReader, Source,
};

criterion_group!(benches, jsonl, others);
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

fn others(criterion: &mut Criterion) {
    let own = OwnNames::new(["rnnlm", "ngram"]);
    let given = Given { beam_size: Some(100), ..Given::default() };
    let mut reader = AnyReader::new(own, given.clone().into(), Default::default());
    let order: Vec<_> = (0..100).rev().collect();
    let gained = Gained { order: &order, ..Gained::default() };
    let mut group = criterion.benchmark_group("formats");
    for format in [
        Format::Kaldi,
        Format::Srilm,
        Format::Nbest1,
        Format::Moses,
        Format::Nemo,
        Format::Wenet,
        Format::Cued,
        Format::Pocketsphinx,
        Format::Espnet1,
        Format::Mlm,
        Format::Hypo2trans,
    ] {
        let chunk = Chunk::line(line());
        let mut record = reader.read(&chunk).unwrap();
        let mut text = Vec::new();
        if format == Format::Kaldi {
            for (at, hypothesis) in record.utterance.hypotheses.iter().enumerate() {
                text.extend_from_slice(
                    format!("1272-128104-0000-{} {}\n", at + 1, hypothesis.text()).as_bytes(),
                );
            }
        } else {
            let envelope = format.envelope();
            text.extend_from_slice(envelope.map_or("", |envelope| envelope.before).as_bytes());
            let forward: Vec<_> = (0..100).collect();
            let gained = Gained { order: &forward, ..gained };
            Answer { format: Some(format), ..Answer::default() }
                .write(&mut record, &chunk, &gained, &mut text)
                .unwrap();
            text.extend_from_slice(envelope.map_or("", |envelope| envelope.after).as_bytes());
        }
        group.throughput(Throughput::Bytes(text.len() as u64));
        let open = || {
            let input = Box::new(std::io::Cursor::new(text.clone()));
            Source::open(input, Some(format), &given, &Names::default(), Kept::default()).unwrap()
        };
        group.bench_function(format!("{format} read"), |b| {
            b.iter(|| {
                let records = open().map(Result::unwrap).filter(Chunk::is_record);
                records.map(|chunk| reader.read(&chunk).unwrap().utterance.hypotheses.len()).sum::<usize>()
            });
        });
        let chunk = open().map(Result::unwrap).find(Chunk::is_record).unwrap();
        let mut record = reader.read(&chunk).unwrap();
        record.utterance.status = secondpass::Status::Ok;
        for (at, hypothesis) in record.utterance.hypotheses.iter_mut().enumerate() {
            hypothesis.total = -300.123_456_789 - at as f64;
        }
        let mut out = Vec::new();
        group.bench_function(format!("{format} write"), |b| {
            b.iter(|| {
                out.clear();
                Answer::default().write(&mut record, &chunk, &gained, &mut out).unwrap();
                black_box(out.len())
            });
        });
    }
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
