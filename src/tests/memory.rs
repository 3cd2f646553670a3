//! Memory stays bounded on input that does not end (S9, S10).

use std::io::Write;
use std::process::Child;

use crate::data::{Random, count, fixture, record, records};
use crate::harness::{Dir, Running};

/// A figure of /proc/PID/status, in KiB.
fn kib(child: &Child, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the figure");
    line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Feeds `total` records and samples the resident size ten times, with nothing in flight.
fn sampled(running: &mut Running, total: usize, most: usize) -> Vec<u64> {
    let mut random = Random::new(51);
    let mut samples = Vec::new();
    for _ in 0..10 {
        let block: String = (0..total / 10).map(|at| record(&format!("u{at}"), &mut random, most)).collect();
        let mut stdin = running.stdin.take().expect("open");
        let feeder = std::thread::spawn(move || {
            stdin.write_all(block.as_bytes()).expect("it reads");
            stdin
        });
        for _ in 0..total / 10 {
            running.line();
        }
        running.stdin = Some(feeder.join().expect("the feeder"));
        samples.push(kib(&running.child, "VmRSS"));
    }
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(0));
    samples
}

#[test]
fn s9_memory_is_bounded_with_an_ngram() {
    let dir = Dir::ngram();
    let mut running = dir.rescore().args(["-j2", "-q"]).start();
    let total = count(100_000, 1_000_000);
    let samples = sampled(&mut running, total, 6);
    // The last nine tenths: less than 1 MiB for a million records, and an allocator's grain.
    let grown = samples[9].saturating_sub(samples[1]);
    let bound = 2048 + total as u64 / 1_000;
    assert!(grown <= bound, "{grown} KiB more after {total} records: {samples:?}");
    assert!(samples[9] < 128 << 10, "{samples:?}");
}

#[test]
fn s9_memory_reaches_a_plateau_with_onnx() {
    let library = crate::runtime!("s9_memory_reaches_a_plateau_with_onnx");
    let dir = Dir::new();
    let model = fixture("models/tiny-lstm/model.onnx");
    let mut running = dir.secondpass(["rescore", "-j2", "-q", "--rnnlm"]).arg(model).ort(library).start();
    let samples = sampled(&mut running, count(5_000, 100_000), 6);
    assert!(samples[9] as f64 <= samples[1] as f64 * 1.1, "KiB after each tenth: {samples:?}");
}

#[test]
fn s10_a_huge_line_costs_no_memory() {
    let dir = Dir::ngram();
    let mut running = dir.rescore().args(["--max-line-bytes", "1048576", "-j2", "-q"]).start();
    let good = records(1, 52);
    running.write(&good);
    let answer = running.line();
    let before = kib(&running.child, "VmHWM");
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..count(256, 4_096) {
        running.write(&piece);
    }
    running.write(b"\n");
    running.write(&good);
    let over = String::from_utf8(running.line()).expect("UTF-8");
    assert!(over.contains("\"status\":\"passed\"") && over.contains("over the limit"), "{over}");
    assert!(running.line() == answer);
    let grown = kib(&running.child, "VmHWM") - before;
    assert!(grown <= 32 << 10, "{grown} KiB");
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(1));
}
