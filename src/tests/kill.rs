//! kill -9 loses no completed line, and `--resume` completes the rest (S3).

use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::data::{Random, count, fixture, lines, records};
use crate::harness::{Dir, TestCommand};

/// Kills at random points of the output, then completes it.
fn killed(dir: &Dir, input: &[u8], kills: usize, seed: u64, command: &dyn Fn() -> TestCommand) {
    dir.write("in.jsonl", input);
    let to = |name: &str| command().args(["in.jsonl", "--output", name]);
    to("want.jsonl").run().code(0);
    let want = dir.read("want.jsonl");
    assert_eq!(lines(&want).len(), lines(input).len());
    let mut random = Random::new(seed);
    let mut cut_short = 0;
    for _ in 0..kills {
        let _ = std::fs::remove_file(dir.path("got.jsonl"));
        // One kill in three comes again while the rest is being completed.
        let mut resume = false;
        let mut least = 0;
        while least == 0 || random.below(3) == 0 {
            least = least.max(random.below(want.len())) + 1;
            let run = if resume { to("got.jsonl").arg("--resume") } else { to("got.jsonl") };
            kill_at(run, &dir.path("got.jsonl"), least as u64);
            resume = true;
            let got = std::fs::read(dir.path("got.jsonl")).unwrap_or_default();
            assert!(want.starts_with(&got), "{} bytes are no prefix of the answer", got.len());
            cut_short += usize::from(got.len() < want.len());
            if random.below(2) == 0 {
                // What a kill in the middle of a write leaves.
                let torn = got.len() - random.below(got.len().min(900));
                std::fs::write(dir.path("got.jsonl"), &got[..torn]).expect("scratch");
            }
        }
        to("got.jsonl").arg("--resume").run().code(0);
        assert!(dir.read("got.jsonl") == want, "completed it is another");
    }
    assert!(cut_short > 0, "no kill came in time");
    // Complete already: nothing changes.
    to("got.jsonl").arg("--resume").run().code(0);
    assert!(dir.read("got.jsonl") == want);
}

/// Runs until the output has so many bytes.
fn kill_at(mut run: TestCommand, output: &Path, bytes: u64) {
    let mut child = run.spawn();
    drop((child.stdin.take(), child.stdout.take(), child.stderr.take()));
    let started = Instant::now();
    let length = || std::fs::metadata(output).map_or(0, |metadata| metadata.len());
    while length() < bytes && child.try_wait().expect("a child").is_none() {
        assert!(started.elapsed() < Duration::from_secs(120), "it hangs");
        sleep(Duration::from_micros(200));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
}

#[test]
fn s3_kill_9_loses_no_completed_line() {
    let dir = Dir::ngram();
    killed(&dir, &records(2_000, 11), count(10, 600), 1, &|| dir.rescore().arg("-j4"));
}

#[test]
fn s3_kill_9_with_carried_states() {
    let library = crate::runtime!("s3_kill_9_with_carried_states");
    let dir = Dir::ngram();
    killed(&dir, &records(250, 12), count(6, 200), 2, &|| {
        let model = fixture("models/tiny-lstm/model.onnx");
        dir.rescore().args(["-j2", "--carry-over", "--deterministic", "--rnnlm"]).arg(model).ort(library)
    });
}

#[test]
fn s3_killed_while_input_comes_slowly() {
    let dir = Dir::ngram();
    let input = records(60, 13);
    let want = dir.rescore().stdin(input.clone()).run().code(0).stdout;
    for kill in 0..count(4, 200) {
        // The file is emptied at the first answer only: an earlier one would be taken for this one's.
        let _ = std::fs::remove_file(dir.path("slow.jsonl"));
        let mut run = dir.rescore().args(["-j2", "--output", "slow.jsonl"]);
        run.command.stderr(Stdio::null());
        let mut running = run.start();
        let sent = lines(&input).into_iter().take(10 + 7 * (kill % 7)).collect::<Vec<_>>();
        sent.iter().for_each(|line| running.write(line));
        let whole: usize = lines(&want).iter().take(sent.len()).map(|line| line.len()).sum();
        let started = Instant::now();
        let length = || std::fs::metadata(dir.path("slow.jsonl")).map_or(0, |metadata| metadata.len());
        // Everything that was answered is in the file although the input is still open.
        while length() < whole as u64 {
            assert!(started.elapsed() < Duration::from_secs(60), "answers are held back");
            sleep(Duration::from_millis(1));
        }
        running.child.kill().expect("killed");
        running.end();
        assert!(dir.read("slow.jsonl") == want[..whole]);
    }
}

#[test]
fn s3_a_torn_last_line_is_cut_wherever_it_is_torn() {
    let dir = Dir::ngram();
    let good = String::from_utf8(records(3, 14)).expect("UTF-8");
    // Blank lines, bad ones, both endings, byte order marks, none at the end.
    let input =
        format!("\u{feff}\u{feff}{{\n\n{}no record\r\n{}", good.replace('\n', "\r\n"), good.trim_end());
    dir.write("in.jsonl", input);
    let run = |name: &str| dir.rescore().args(["in.jsonl", "-j2", "-q", "--output", name]);
    run("want.jsonl").run().code(1);
    let want = dir.read("want.jsonl");
    let step = count(want.len() / 40, 1);
    let ends = want.iter().enumerate().filter(|(_, byte)| **byte == b'\n').flat_map(|(at, _)| at - 1..at + 3);
    for cut in (0..=want.len()).step_by(step).chain(ends).chain([want.len()]) {
        std::fs::write(dir.path("got.jsonl"), &want[..cut.min(want.len())]).expect("scratch");
        assert!(run("got.jsonl").arg("--resume").run().status.code() < Some(2), "cut at {cut}");
        assert!(dir.read("got.jsonl") == want, "cut at {cut}");
    }
}
