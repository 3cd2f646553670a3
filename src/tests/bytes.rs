//! Any bytes come in, and every line comes out (S10, S11, S12).

use crate::data::{Random, WORDS, count, lines, read, records};
use crate::harness::{Dir, Output};

#[test]
fn s11_line_ends_change_nothing_else() {
    let dir = Dir::ngram();
    for fixture in ["cases/aliases.jsonl", "cases/traps.jsonl", "cases/bad.jsonl"] {
        let plain = read(fixture);
        let contents: Vec<&[u8]> = lines(&plain).iter().map(|line| line.trim_ascii_end_matches()).collect();
        let run = |ending: &[u8], start: &[u8], end: &[u8]| {
            let input = [start, &contents.join(ending), end].concat();
            (dir.rescore().arg("-j2").stdin(input.clone()).run(), input)
        };
        let (want, _) = run(b"\n", b"", b"\n");
        let answers: Vec<&[u8]> = want.lines().into_iter().map(Line::trim_ascii_end_matches).collect();
        for ending in [&b"\n"[..], b"\r\n"] {
            for start in [&b""[..], b"\xEF\xBB\xBF"] {
                for end in [ending, b""] {
                    let (got, _) = run(ending, start, end);
                    assert_eq!(got.status.code(), want.status.code(), "{fixture}: {}", got.stderr);
                    let mut expected = answers.join(ending);
                    expected.extend_from_slice(end);
                    assert!(
                        got.stdout == expected,
                        "{fixture}, ending {ending:?}, start {start:?}, end {end:?}"
                    );
                }
            }
        }
    }
}

trait Line {
    fn trim_ascii_end_matches(&self) -> &Self;
}

impl Line for [u8] {
    /// Without `\n` or `\r\n`.
    fn trim_ascii_end_matches(&self) -> &Self {
        let line = self.strip_suffix(b"\n").unwrap_or(self);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

#[test]
fn s11_empty_input_lines_and_nul() {
    let dir = Dir::ngram();
    assert!(dir.rescore().run().code(0).stdout.is_empty());
    let good = records(1, 41);
    for blank in [&b"\n"[..], b"\r\n", b" \n", b"\n\n\n"] {
        let input = [blank, &good, blank, &good, blank].concat();
        let output = dir.rescore().stdin(input.clone()).run().code(0);
        assert_eq!(output.lines().len(), lines(&input).len());
        assert!(output.stdout.starts_with(blank) && output.stdout.ends_with(blank));
    }
    let output = dir.rescore().stdin([&good[..], b"\0\n", &good].concat()).run().code(1);
    assert_eq!(output.lines()[1], b"\0\n");
    assert_eq!(output.lines()[0], output.lines()[2]);
}

const SEED: &str = "{\"id\":\"é7\",\"x\":[1.0,null],\"hyps\":[{\"text\":\"a cat\",\"score\":-1.5,\"y\":\"\\n\"},\
                    {\"text\":\"the dog\",\"scores\":{\"score\":-2e0}}]}";

/// As many lines out as in, each with its own content, and the good ones at both ends rescored.
#[track_caller]
fn survives(output: &Output, input: &[u8]) {
    assert!(output.status.code().is_some_and(|code| code < 2), "{} {}", output.status, output.stderr);
    let (got, sent) = (output.lines(), lines(input));
    assert_eq!(got.len(), sent.len());
    for (got, sent) in got.iter().zip(&sent) {
        // What was not rescored or marked came out as it was.
        let ours = got.windows(14).any(|part| part == b"\"secondpass\":{");
        assert!(
            ours || got == sent,
            "{:?} became {:?}",
            String::from_utf8_lossy(sent),
            String::from_utf8_lossy(got)
        );
    }
    assert_eq!(got.first(), got.last());
}

/// A good record first and last: it is the first that fixes the formula.
fn between(middle: &[u8]) -> Vec<u8> {
    [SEED.as_bytes(), b"\n", middle, SEED.as_bytes(), b"\n"].concat()
}

#[test]
fn s12_every_byte_at_every_place() {
    let dir = Dir::ngram();
    let mut middle = Vec::new();
    for at in 0..SEED.len() {
        for byte in 0..=255 {
            let mut line = SEED.as_bytes().to_vec();
            line[at] = byte;
            middle.extend_from_slice(&line);
            middle.push(b'\n');
        }
    }
    let input = between(&middle);
    let output = dir.rescore().arg("-j2").stdin(input.clone()).run();
    survives(&output, &input);
}

/// Random changes: bytes, cuts, repeats, and pieces that mean something in JSON.
fn mutated(random: &mut Random, seeds: &[&[u8]]) -> Vec<u8> {
    const PIECES: [&[u8]; 20] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b",",
        b":",
        b"\\",
        b"\\u",
        b"\\ud800",
        b"null",
        b"1e999",
        b"-0",
        b"\xff",
        b"\0",
        b"\"secondpass\":{},",
        b"\"rank\":2,",
        b"\"ngram\":1,",
        b"\xED\xA0\x80",
        b"\"hyps\":",
    ];
    let mut line = seeds[random.below(seeds.len())].trim_ascii().to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(line.len() + 1);
        let end = (at + random.below(12)).min(line.len());
        match random.below(5) {
            0 if at < line.len() => line[at] = random.below(256) as u8,
            1 => drop(line.drain(at..end)),
            2 => line.extend_from_within(at..end),
            3 => drop(line.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            _ => drop(line.splice(at..at, WORDS[random.below(WORDS.len())].bytes())),
        }
    }
    line.push(b'\n');
    line
}

#[test]
fn s12_mutated_records() {
    let dir = Dir::ngram();
    let fixtures = ["aliases.jsonl", "bad.jsonl", "traps.jsonl", "invalid-utf8.bin", "clash.jsonl"];
    let fixtures: Vec<u8> = fixtures.iter().flat_map(|name| read(&format!("cases/{name}"))).collect();
    // The longest only make it slow.
    let mut seeds: Vec<&[u8]> = lines(&fixtures).into_iter().filter(|line| line.len() < 400).collect();
    seeds.push(SEED.as_bytes());
    let mut random = Random::new(42);
    let mut left = count(80_000, 10_000_000);
    while left > 0 {
        let some = left.min(20_000);
        left -= some;
        let middle: Vec<u8> = (0..some).flat_map(|_| mutated(&mut random, &seeds)).collect();
        let input = between(&middle);
        let output = dir.rescore().args(["-j2", "--explain"]).stdin(input.clone()).run();
        survives(&output, &input);
    }
}

#[test]
fn s10_a_line_over_the_limit_is_one_marked_record() {
    let dir = Dir::ngram();
    let good = records(1, 43);
    let long = format!("{{\"id\":\"long\",\"x\":\"{}\"}}", "x".repeat(5_000));
    let input = [&good[..], long.as_bytes(), b"\r\n", &good, long.as_bytes()].concat();
    let output = dir.rescore().args(["--max-line-bytes", "5000"]).stdin(input).run().code(1);
    let got = output.lines();
    assert_eq!(got.len(), 4);
    assert_eq!(got[0], got[2]);
    assert!(got[1].ends_with(b"}\r\n") && got[3].ends_with(b"}"));
    for record in [1, 3].map(|at| output.json()[at].clone()) {
        assert_eq!(record["secondpass"]["status"], "passed");
        let reason = record["secondpass"]["reason"].as_str().expect("a reason");
        assert!(reason.contains("over the limit of 5000"), "{reason}");
    }
}
