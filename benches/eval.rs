//! Scoring and tuning: alignment, resampling, and a whole tuning run.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use secondpass::eval::{Bootstrap, Feature, Problem, Sample, Scorer, Tuner};

/// Pseudo-random numbers, the same in every run.
fn numbers() -> impl FnMut(u64) -> u64 {
    let mut state = 1u64;
    move |below| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    }
}

/// A reference of 20 words and 100 hypotheses that each get three of them wrong.
fn list() -> (String, Vec<String>) {
    let mut number = numbers();
    let words: Vec<String> = (0..20).map(|_| format!("word{}", number(500))).collect();
    let mut hypothesis = || {
        let mut words = words.clone();
        (0..3).for_each(|_| words[number(20) as usize] = format!("word{}", number(500)));
        words.join(" ")
    };
    let hypotheses = (0..100).map(|_| hypothesis()).collect();
    (words.join(" "), hypotheses)
}

/// Lists in which the sum of all features is nearly right.
fn problem(utterances: usize, hypotheses: usize, features: usize) -> Problem {
    let mut number = numbers();
    let mut all = vec![Feature::fixed("score", 1.0)];
    all.extend((1..features).map(|k| Feature::free(format!("lm{k}"))));
    let mut problem = Problem::new(all).unwrap();
    for speaker in 0..utterances {
        let mut list: Vec<Vec<f64>> =
            (0..hypotheses).map(|_| (0..features).map(|_| number(1000) as f64 / -100.0).collect()).collect();
        list.sort_by(|a, b| b[0].total_cmp(&a[0]));
        let errors: Vec<u32> =
            list.iter().map(|v| (-v.iter().sum::<f64>() / 5.0) as u32 + number(3) as u32).collect();
        problem.push(Some(&[speaker as u8 % 40]), 20, &errors, &list.concat()).unwrap();
    }
    problem
}

fn wer(c: &mut Criterion) {
    let (reference, hypotheses) = list();
    let mut group = c.benchmark_group("wer");
    let mut bench = |name: &str, units: u64, mut scorer: Scorer| {
        group.throughput(Throughput::Elements(units));
        group.bench_function(name, |b| {
            b.iter(|| {
                scorer.reference(reference.as_bytes());
                hypotheses.iter().map(|text| scorer.counts(text.as_bytes()).errors()).sum::<u64>()
            });
        });
    };
    bench("words", 100 * 20, Scorer::words());
    let characters = hypotheses.iter().map(|text| text.len() as u64).sum();
    bench("characters", characters, Scorer::characters_and_spaces());
    group.finish();
}

fn bootstrap(c: &mut Criterion) {
    let mut number = numbers();
    let samples: Vec<Sample> =
        (0..1000).map(|_| Sample { before: number(9), after: number(8), reference: 20 }).collect();
    c.bench_function("bootstrap/1000 samples, 1000 times", |b| {
        let bootstrap = Bootstrap { resamples: 1000, ..Bootstrap::default() };
        b.iter(|| bootstrap.compare(&samples));
    });
}

fn tune(c: &mut Criterion) {
    let mut group = c.benchmark_group("tune");
    group.sample_size(10);
    // One free weight and no restarts: a search is then two line searches and little else.
    let line = problem(1000, 100, 2);
    let tuner = Tuner { restarts: 0, folds: 1, ..Tuner::default() };
    group.bench_function("1000 lists of 100, 1 weight, no restarts", |b| {
        b.iter_batched(|| tuner.clone(), |tuner| tuner.run(&line), BatchSize::SmallInput);
    });
    let whole = problem(1000, 100, 6);
    group
        .bench_function("1000 lists of 100, 5 weights, 5 folds", |b| b.iter(|| Tuner::default().run(&whole)));
    group.finish();
}

criterion_group!(benches, wer, bootstrap, tune);
criterion_main!(benches);
