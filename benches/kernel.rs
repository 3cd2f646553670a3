//! Rows (distinct histories) a second of the ONNX kernel, by the number of rows in a step: all layers run
//! here, the output layer alone, and everything by ONNX Runtime.
//!
//! Runs on the shipped English model where it is present, else on a tiny one, which shows the overhead of a
//! step. `SECONDPASS_BENCH_MODEL` names another, `SECONDPASS_BENCH_THREADS` the threads of a step.

use std::hint::black_box;
use std::path::Path;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secondpass::lm::onnx::{OnnxLm, OnnxOptions};
use secondpass::lm::{Rows, Wanted};

fn steps(criterion: &mut Criterion) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let models =
        ["models/en/lstm/model.onnx", "fixtures/models/tiny-lstm/model.onnx"].map(|path| root.join(path));
    let named = std::env::var_os("SECONDPASS_BENCH_MODEL").map(Into::into);
    let path = named.or_else(|| models.into_iter().find(|path| path.exists())).expect("a model");
    let threads = std::env::var("SECONDPASS_BENCH_THREADS").ok().and_then(|text| text.parse().ok());
    let mut group = criterion.benchmark_group("kernel");
    for (name, cell, split) in [("own", true, false), ("split", false, true), ("whole", false, false)] {
        let options = OnnxOptions { cell: Some(cell), split: Some(split), ..OnnxOptions::default() };
        match OnnxLm::open(&path, "lm", &options) {
            Ok(lm) => run(&mut group, name, &lm, threads.unwrap_or(1)),
            Err(error) => eprintln!("skipped: kernel ({error})"),
        }
    }
    group.finish();
}

fn run(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, lm: &OnnxLm, threads: usize) {
    let size = lm.signature().vocab_size as u32;
    let mut kernel = lm.kernel(threads).expect("a session");
    kernel.reserve(512).expect("memory");
    for n in [1, 8, 24, 128, 256u32] {
        let tokens: Vec<u32> = (0..n).map(|row| row * 37 % size).collect();
        let from: Vec<u32> = (0..n).collect();
        let to: Vec<u32> = (256..256 + n).collect();
        let wanted: Vec<u32> = (0..3 * n).map(|i| i * 11 % size).collect();
        let offsets: Vec<u32> = (0..=n).map(|row| row * 3).collect();
        let mut out = vec![0.0; wanted.len()];
        from.iter().for_each(|&state| kernel.reset(state));
        group.throughput(Throughput::Elements(u64::from(n)));
        group.bench_function(BenchmarkId::new(name, n), |bencher| {
            bencher.iter(|| {
                let rows = Rows { tokens: &tokens, from: &from, to: &to };
                kernel.run(rows, Wanted { tokens: &wanted, offsets: &offsets }, &mut out).expect("a step");
                black_box(&out);
            });
        });
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
