//! Flags of `rescore` that choose what is read and written; exit codes.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::data::{count, lines, read, records};
use crate::harness::Dir;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("in memory")
}

#[test]
fn nbest_writes_only_the_best() {
    let dir = Dir::ngram();
    let input = read("speech/nbest.jsonl");
    let all = dir.rescore().stdin(input.clone()).run().code(0).json();
    for (given, kept) in [("1", 1), ("3", 3), ("1000", usize::MAX), ("0", usize::MAX)] {
        let some = dir.rescore().args(["--nbest", given]).stdin(input.clone()).run().code(0).json();
        for (all, some) in all.iter().zip(&some) {
            let (all, some) =
                (all["hyps"].as_array().expect("a list"), some["hyps"].as_array().expect("a list"));
            assert_eq!(some.len(), kept.min(all.len()));
            assert_eq!(some[..], all[..some.len()]);
        }
    }
}

#[test]
fn gzip_is_read_by_content_and_written_by_name() {
    let dir = Dir::ngram();
    let input = records(count(300, 30_000), 101);
    let want = dir.rescore().stdin(input.clone()).run().code(0).stdout;
    let half = lines(&input)[..100].concat().len();
    let members = [gzip(&input[..half]), gzip(&input[half..])].concat();
    for (name, bytes) in [("a.gz", gzip(&input)), ("plain.gz", input.clone()), ("a.jsonl", members)] {
        dir.write(name, &bytes);
        assert!(dir.rescore().arg(name).run().code(0).stdout == want, "{name}");
        assert!(dir.rescore().stdin(bytes).run().code(0).stdout == want, "{name} through a pipe");
    }
    let output = dir.rescore().args(["a.gz", "-o", "out.jsonl.gz"]).run().code(0);
    assert!(output.stdout.is_empty());
    let mut text = Vec::new();
    MultiGzDecoder::new(&dir.read("out.jsonl.gz")[..]).read_to_end(&mut text).expect("whole");
    assert!(text == want);
    // Cut short: an error, not an end.
    let whole = gzip(&input);
    dir.rescore().stdin(&whole[..whole.len() - 20]).run().code(2);
}

#[test]
fn output_goes_to_a_file_and_a_mistake_costs_none() {
    let dir = Dir::ngram();
    let input = records(20, 102);
    let want = dir.rescore().stdin(input.clone()).run().code(0).stdout;
    for name in ["--output=out", "-oout"] {
        assert!(dir.rescore().arg(name).stdin(input.clone()).run().code(0).stdout.is_empty());
        assert!(dir.read("out") == want);
    }
    assert!(dir.rescore().args(["--output", "-", "-"]).stdin(input.clone()).run().code(0).stdout == want);
    for mistake in [
        &["rescore", "--ngram", "nowhere.arpa", "-oout"][..],
        &["rescore", "--ngram", "lm.arpa", "--weight", "ngram", "-oout"],
        &["rescore", "--ngram", "lm.arpa", "--nbset", "1", "-oout"],
        &["rescore", "--ngram", "lm.arpa", "-oout", "nowhere.jsonl"],
        &["rescore", "--ngram", "lm.arpa", "-oout", "."],
    ] {
        dir.secondpass(mistake).stdin(input.clone()).run().code(2);
        assert!(dir.read("out") == want, "{mistake:?} cost the file");
    }
}

#[test]
fn resume_needs_a_plain_file() {
    let dir = Dir::ngram();
    for arguments in [&["--resume"][..], &["--resume", "-oout.gz"]] {
        let output = dir.rescore().args(arguments).run().code(2);
        assert!(output.stderr.contains("--resume"), "{}", output.stderr);
    }
    // The last of a flag and its negation counts.
    dir.rescore().args(["--resume", "--no-resume"]).run().code(0);
    // What mbr writes first is not what the conversation went on from.
    for (consensus, code) in [("mbr", 2), ("rover", 0), ("best", 0)] {
        let arguments = ["--resume", "-oout", "--carry-over", "--consensus", consensus];
        let output = dir.rescore().args(arguments).run().code(code);
        assert_eq!(output.stderr.contains("which mbr chose"), code == 2, "{}", output.stderr);
    }
}

#[test]
fn underscores_are_dashes_in_flag_names() {
    let dir = Dir::ngram();
    let input = records(30, 103);
    let dashes =
        ["--unk-penalty=-1", "--max-line-bytes", "100000", "--batch-rows", "3", "--weight", "ngram.oov=1"];
    let want = dir.rescore().args(dashes).stdin(input.clone()).run().code(0).stdout;
    let lower = dashes.map(|argument| match argument.strip_prefix("--") {
        Some(flag) => format!("--{}", flag.replace('-', "_").replace("=_", "=-")),
        None => argument.to_owned(),
    });
    assert!(dir.rescore().args(lower).stdin(input).run().code(0).stdout == want);
}

#[test]
fn exit_codes() {
    let dir = Dir::ngram();
    let good = records(3, 104);
    let bad = [&good[..], b"{}\n"].concat();
    for quiet in [&[][..], &["-q"]] {
        dir.rescore().args(quiet).stdin(good.clone()).run().code(0);
        dir.rescore().args(quiet).stdin(bad.clone()).run().code(1);
        dir.rescore().args(quiet).arg("--strict").stdin(bad.clone()).run().code(2);
        let output = dir.secondpass(["rescore", "--ngram", "nowhere"]).args(quiet).run().code(2);
        assert_eq!(output.stderr.is_empty(), !quiet.is_empty());
    }
    for help in [&["--help"][..], &["--version"], &["rescore", "--help"], &["rescore", "-h"]] {
        let output = dir.secondpass(help).run().code(0);
        assert!(output.stderr.is_empty() && !output.stdout.is_empty());
        assert!(output.text().lines().all(|line| line.len() <= 100), "{}", output.text());
    }
    for mistake in [&[][..], &["rescroe"], &["rescore", "--deadline-ms", "-1"], &["rescore", "--jobs", "x"]] {
        let output = dir.secondpass(mistake).run().code(2);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn messages_are_ten_of_a_kind_and_a_count() {
    let dir = Dir::ngram();
    let output = dir.rescore().stdin("no record\n".repeat(25)).run().code(1);
    let said =
        output.stderr.lines().filter(|line| line.contains("line ") && line.contains("unrescored:")).count();
    assert_eq!(said, 10, "{}", output.stderr);
    assert!(output.stderr.contains("25 records passed through in all"), "{}", output.stderr);
    assert!(output.stderr.lines().all(|line| line.starts_with("secondpass: ")), "{}", output.stderr);
}

#[test]
fn stats_are_counted() {
    let dir = Dir::ngram();
    let input = [&records(30, 105)[..], b"{}\n"].concat();
    let output = dir.rescore().args(["--stats", "1000"]).stdin(input).run().code(1);
    assert!(
        output.stderr.contains("31 records in") && output.stderr.contains("30 rescored"),
        "{}",
        output.stderr
    );
}
