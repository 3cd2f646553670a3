//! SIGTERM and SIGINT: everything that was read is written (S4).

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::data::{count, lines, records};
use crate::harness::{Dir, signal, wait};

const SIGNALS: [(&str, i32); 2] = [("TERM", 143), ("INT", 130)];

#[test]
fn s4_while_it_waits_for_input() {
    let dir = Dir::ngram();
    let input = records(20, 21);
    let want = dir.rescore().stdin(input.clone()).run().code(0).stdout;
    for run in 0..count(6, 250) {
        let (name, code) = SIGNALS[run % 2];
        let mut running = dir.rescore().arg("-j2").start();
        let sent = run % 20 + 1;
        lines(&input).iter().take(sent).for_each(|line| running.write(line));
        // Half of a record is none.
        running.write(b"{\"id\":\"cut off");
        let got: Vec<u8> = (0..sent).flat_map(|_| running.line()).collect();
        signal(&running.child, name);
        assert_eq!(running.end().code(), Some(code), "SIG{name}");
        assert!(got == lines(&want)[..sent].concat());
        assert!(running.lines.recv().is_err(), "something after the last answer");
    }
}

#[test]
fn s4_while_it_is_busy() {
    let dir = Dir::ngram();
    let input = records(count(6_000, 60_000), 22);
    let path = dir.write("in.jsonl", &input);
    let want = dir.rescore().stdin(input.clone()).run().code(0).stdout;
    for run in 0..count(6, 250) {
        let (name, code) = SIGNALS[run % 2];
        // The offset of an open file is shared: it says how much was read.
        let mut file = File::open(&path).expect("the input");
        let mut command = dir.rescore().args(["-j3"]);
        command.command.stdin(file.try_clone().expect("a descriptor"));
        command.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("piped");
        let (ready, first) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut stdout = std::io::BufReader::new(stdout);
            let mut got = Vec::new();
            for _ in 0..=run * 40 {
                std::io::BufRead::read_until(&mut stdout, b'\n', &mut got).expect("output");
            }
            ready.send(()).expect("waited for");
            std::io::Read::read_to_end(&mut stdout, &mut got).expect("output");
            got
        });
        first.recv_timeout(Duration::from_secs(60)).expect("a first answer");
        signal(&child, name);
        let status = wait(&mut child);
        let got = reader.join().expect("the reader");
        assert!(want.starts_with(&got) && got.ends_with(b"\n"), "no prefix by whole lines");
        let position = file.stream_position().expect("an offset") as usize;
        if position == input.len() && got.len() == want.len() && status.code() == Some(0) {
            continue; // all done before the signal came
        }
        assert_eq!(status.code(), Some(code), "SIG{name} {:?}", status.signal());
        // A read that was under way when the signal came counts as not read: at most one buffer.
        let surely_read = &input[..position.saturating_sub(64 << 10)];
        let whole = lines(surely_read).iter().filter(|line| line.ends_with(b"\n")).count();
        assert!(lines(&got).len() >= whole, "{} answers for {whole} lines read", lines(&got).len());
    }
}

#[test]
fn s4_a_second_signal_ends_it_at_once() {
    let dir = Dir::ngram();
    let mut command = dir.rescore();
    let mut child = command.spawn();
    let mut stdin = child.stdin.take().expect("piped");
    let input = records(4_000, 23);
    let feeder = std::thread::spawn(move || stdin.write_all(&input).is_err());
    // Nobody reads the output: it cannot finish what was read.
    sleep(Duration::from_millis(1500));
    signal(&child, "TERM");
    sleep(Duration::from_millis(500));
    assert!(child.try_wait().expect("a child").is_none(), "it dropped what it had read");
    signal(&child, "TERM");
    assert_eq!(wait(&mut child).code(), Some(143));
    assert!(feeder.join().expect("the feeder"), "it read all the input with nowhere to put it");
}
