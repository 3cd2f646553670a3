//! What the pool costs per input: a stage that does nothing, so that only hand-over, order
//! and window are measured.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::thread;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secondpass::pool::{Pool, PoolOptions, Stage, Ticket};

/// Holds up to `room` inputs and finishes them all in one step.
struct Nothing {
    room: usize,
    flight: VecDeque<(Ticket, Arc<u64>)>,
}

impl Stage for Nothing {
    type In = u64;
    type Out = u64;

    fn room(&self) -> bool {
        self.flight.len() < self.room
    }

    fn submit(&mut self, ticket: Ticket, input: Arc<u64>) {
        self.flight.push_back((ticket, input));
    }

    fn step(&mut self, done: &mut Vec<(Ticket, u64)>) -> bool {
        done.extend(self.flight.drain(..).map(|(ticket, input)| (ticket, *input)));
        false
    }
}

fn run(workers: usize, room: usize, keys: Option<u64>) {
    let make = move |_| Ok(Nothing { room, flight: VecDeque::new() });
    let Pool { mut submitter, outputs } = Pool::new(PoolOptions::new(workers), make).unwrap();
    let producer = thread::spawn(move || {
        for number in 0..INPUTS {
            let key = keys.map(|keys| (number % keys).to_le_bytes().to_vec());
            submitter.submit(number, 8, key).unwrap();
        }
    });
    for output in outputs {
        black_box(output);
    }
    producer.join().unwrap();
}

fn overhead(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool");
    group.sample_size(10).throughput(Throughput::Elements(INPUTS));
    for workers in [1, 2] {
        for room in [1, 16] {
            let id = BenchmarkId::new(format!("{workers} workers"), format!("{room} in flight"));
            group.bench_function(id, |b| b.iter(|| run(workers, room, None)));
        }
        let id = BenchmarkId::new(format!("{workers} workers"), "50 keys");
        group.bench_function(id, |b| b.iter(|| run(workers, 16, Some(50))));
    }
    group.finish();
}

const INPUTS: u64 = 50_000;

criterion_group!(benches, overhead);
criterion_main!(benches);
