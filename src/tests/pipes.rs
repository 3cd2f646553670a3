//! Who reads the answers, and what if nobody can (S5 to S8).

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::data::{count, lines, records};
use crate::harness::{Dir, Output, signal, wait};

#[test]
fn s5_a_reader_that_goes_away_is_no_error() {
    let dir = Dir::ngram();
    let input = records(3_000, 31);
    for run in 0..count(6, 1_000) {
        let quiet = if run % 2 == 0 { "-q" } else { "--no-progress" };
        let mut child = dir.rescore().args([quiet, ["-j1", "-j4"][run / 2 % 2]]).spawn();
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.clone();
        // The input stays open: who waits for its end hangs.
        let feeder = std::thread::spawn(move || while stdin.write_all(&input).is_ok() {});
        let mut stdout = child.stdout.take().expect("piped");
        let mut start = vec![0; 100 + 500 * run];
        stdout.read_exact(&mut start).expect("a first answer");
        drop(stdout);
        let status = wait(&mut child);
        feeder.join().expect("the feeder");
        let mut stderr = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(quiet != "-q" || stderr.is_empty(), "{stderr}");
        assert!(!stderr.to_lowercase().contains("pipe"), "{stderr}");
    }
}

fn shell(dir: &Dir, script: &str, input: &[u8]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("PROGRAM", env!("CARGO_BIN_EXE_secondpass"));
    dir.other(command).stdin(input).run()
}

#[test]
fn s5_nor_for_the_other_commands() {
    let dir = Dir::ngram();
    for arguments in [
        &["score", "--ngram", "lm.arpa", "-q"][..],
        &["score", "--ngram", "lm.arpa", "-q", "--json"],
        &["--help"],
    ] {
        let mut child = dir.secondpass(arguments).spawn();
        drop(child.stdout.take());
        let mut stdin = child.stdin.take().expect("piped");
        let text = "a cat sat\n".repeat(1_000);
        let feeder = std::thread::spawn(move || while stdin.write_all(text.as_bytes()).is_ok() {});
        let status = wait(&mut child);
        feeder.join().expect("the feeder");
        let mut stderr = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
        assert_eq!((status.code(), &*stderr), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn s6_a_failed_write_is_never_success() {
    let dir = Dir::ngram();
    // One record fits every buffer, many do not.
    for records_ in [1, 2_000] {
        let input = records(records_, 32);
        let ways = [
            "$PROGRAM rescore --ngram lm.arpa > /dev/full",
            "$PROGRAM rescore --ngram lm.arpa --output /dev/full",
            "$PROGRAM rescore --ngram lm.arpa --output /dev/full --strict -j3",
            "$PROGRAM score --ngram lm.arpa > /dev/full",
            "$PROGRAM eval > /dev/full",
        ];
        for script in ways {
            let input =
                if script.contains("eval") { crate::data::read("speech/nbest.jsonl") } else { input.clone() };
            let output = shell(&dir, script, &input).code(2);
            let said = output.stderr.lines().filter(|line| line.contains("No space left")).count();
            assert_eq!(said, 1, "{script}: {}", output.stderr);
        }
    }
}

#[test]
fn s6_a_file_size_limit_is_never_success() {
    let dir = Dir::ngram();
    let input = records(2_000, 33);
    for (number, to) in ["> out", "--output out", "--output out.gz"].into_iter().enumerate() {
        let script = format!("ulimit -f 40; exec $PROGRAM rescore --ngram lm.arpa {to}");
        let output = shell(&dir, &script, &input).code(2);
        assert!(output.stderr.contains("too large"), "{to}: {}", output.stderr);
        if number < 2 {
            let want = dir.rescore().stdin(input.clone()).run().code(0).stdout;
            assert!(want.starts_with(&dir.read("out")), "{to}");
        }
    }
}

#[test]
fn s7_every_answer_comes_before_the_next_question() {
    let dir = Dir::ngram();
    let input = records(count(100, 1_000), 34);
    let want = dir.rescore().stdin(input.clone()).run().code(0).stdout;
    let mut running = dir.rescore().arg("-j3").start();
    for (line, want) in lines(&input).into_iter().zip(lines(&want)) {
        running.write(line);
        assert!(running.line() == want);
    }
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(0));
}

#[test]
fn s7_gzip_answers_come_at_once_too() {
    let dir = Dir::ngram();
    let mut running = dir.rescore().args(["--output", "out.gz"]).start();
    running.write(&records(1, 35));
    let started = Instant::now();
    loop {
        let bytes = std::fs::read(dir.path("out.gz")).unwrap_or_default();
        let mut text = Vec::new();
        // It ends in the middle: what was there before counts.
        let _ = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text);
        if text.ends_with(b"}\n") {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "held back");
        sleep(Duration::from_millis(5));
    }
    drop(running.stdin.take());
    assert_eq!(running.end().code(), Some(0));
}

#[test]
fn s8_a_reader_that_stalls_stops_the_reading() {
    let dir = Dir::ngram();
    let input = records(count(12_000, 120_000), 36);
    let longest = lines(&input).iter().map(|line| line.len()).max().expect("lines");
    let path = dir.write("in.jsonl", &input);
    let mut command = dir.rescore().args(["--window", "64", "-j2"]);
    command.command.stdin(File::open(&path).expect("the input"));
    command.command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.command.spawn().expect("the program starts");
    // The offset of its standard input; settled when it has not moved for a second.
    let consumed = || {
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/0", child.id())).expect("/proc");
        info.lines().find_map(|line| line.strip_prefix("pos:")?.trim().parse::<usize>().ok()).expect("pos")
    };
    let mut before = (0, Instant::now());
    let started = Instant::now();
    while before.0 == 0 || before.1.elapsed() < Duration::from_secs(1) {
        let now = consumed();
        if now != before.0 {
            before = (now, Instant::now());
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it never stops reading: {now}");
        sleep(Duration::from_millis(20));
    }
    // In flight: the window, one line in each hand, the buffer of the reader; answered already: our
    // output buffer and the pipe, 64 KiB each (an answer is longer than its question).
    let bound = (64 + 4) * longest + (64 << 10) + 2 * (64 << 10);
    assert!(
        before.0 <= bound && bound < input.len() / 2,
        "{} consumed, bound {bound} of {}",
        before.0,
        input.len()
    );
    signal(&child, "KILL");
    wait(&mut child);
}
