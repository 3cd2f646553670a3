//! The output layer: rows of hidden states to the log probability of one token each, in f32, bf16 and int8.
//!
//! `elements` are multiplications with an addition, so that criterion's rate times two is FLOP/s.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secondpass::lm::Wanted;
use secondpass::lm::onnx::Precision;
use secondpass::lm::onnx::head::{Head, Scratch};

fn output_layer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    for (width, vocabulary) in [(512, 4_000), (650, 10_000), (512, 200_000)] {
        // Small enough for nobody to call the logits broken, different enough to be no constant.
        let number = |at: usize| ((at.wrapping_mul(2_654_435_761) >> 7) % 2_001) as f32 / 1e4 - 0.1;
        let weight = |token: usize, k: usize| number(token * width + k);
        let starts = |token: usize| token.is_multiple_of(2);
        let head = |precision| Head::pack_in(precision, width, vocabulary, weight, number, starts);
        let all = [Precision::F32, Precision::Bf16, Precision::Int8];
        let heads = all.map(|precision| (precision, head(precision)));
        for rows in [1, 8, 24, 128] {
            let hidden: Vec<f32> = (0..rows * width).map(number).collect();
            let tokens: Vec<u32> = (0..rows as u32).map(|row| row * 31 % vocabulary as u32).collect();
            let offsets: Vec<u32> = (0..=rows as u32).collect();
            let wanted = Wanted { tokens: &tokens, offsets: &offsets };
            let (mut out, mut scratch) = (vec![0.0; rows], Scratch::default());
            group.throughput(Throughput::Elements((rows * width * vocabulary) as u64));
            for (precision, head) in &heads {
                let Some(head) = head else { continue };
                let id = BenchmarkId::new(format!("{width}x{vocabulary} {precision}"), rows);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| head.run(black_box(&hidden), wanted, &mut out, &mut scratch));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, output_layer);
criterion_main!(benches);
