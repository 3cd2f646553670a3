//! `secondpass ngram build`: byte for byte, and atomic (M5).

use std::io::Read;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::data::{Random, count, fixture};
use crate::harness::Dir;

fn gunzip(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(fixture(name)).expect("a fixture");
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
    bytes
}

/// A folder with an ARPA file of order 6.
fn arpa() -> Dir {
    let dir = Dir::new();
    dir.write("lm.arpa", gunzip("kenlm/unicode6.arpa.gz"));
    dir
}

fn names(dir: &Dir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path("")).expect("the folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_type_is_kenlms_byte_for_byte() {
    let dir = arpa();
    for (kind, format) in [
        ("probing", "probing"),
        ("trie", "trie"),
        ("array", "trie_a22"),
        ("quant", "trie_q8b8"),
        ("quant-array", "trie_q8b8_a22"),
    ] {
        let run = dir.secondpass(["ngram", "build", "lm.arpa", "out", "--type", kind]).run().code(0);
        assert!(dir.read("out") == gunzip(&format!("kenlm/unicode6.{format}.gz")), "{kind}");
        assert!(
            run.stdout.is_empty() && run.stderr.contains(" of memory and 1 s to build it"),
            "{}",
            run.stderr
        );
        dir.secondpass(["ngram", "verify", "out"]).run().code(0);
    }
    assert_eq!(names(&dir), ["lm.arpa", "out"]);
}

#[test]
fn both_forms_of_compact_files_score_as_the_hash_tables() {
    let dir = arpa();
    dir.write("text", std::fs::read(fixture("kenlm/unicode6.txt")).expect("a fixture"));
    let query =
        |model: &str| dir.secondpass(["ngram", "query", model, "text", "-v", "word"]).run().code(0).text();
    let expected = query("lm.arpa");
    for prefer in ["size", "speed"] {
        dir.secondpass(["ngram", "build", "lm.arpa", prefer, "--type", "compact", "--prefer", prefer])
            .run()
            .code(0);
        dir.secondpass(["ngram", "verify", prefer]).run().code(0);
        assert!(query(prefer) == expected, "{prefer}");
    }
}

#[test]
fn sizes_are_shown_before_anything_is_built() {
    let dir = arpa();
    let text = dir.secondpass(["ngram", "build", "lm.arpa"]).run().code(0).text();
    let sizes: Vec<f64> = text
        .lines()
        .filter(|line| line.contains(" kB") || line.contains(" MB"))
        .map(|line| line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a size"))
        .collect();
    // The fixtures' sizes, less 0.5 kB of spellings at most; the compact file is an estimate, and last.
    let formats = ["probing", "trie", "trie_a22", "trie_q8b8", "trie_q8b8_a22"];
    assert_eq!(sizes.len(), formats.len() + 1, "{text}");
    for (size, format) in sizes.iter().zip(formats) {
        let real = gunzip(&format!("kenlm/unicode6.{format}.gz")).len() as f64 / 1e3;
        assert!((size - real).abs() < 0.6, "{format}: {size} of {real}");
    }
    assert_eq!(names(&dir), ["lm.arpa"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = arpa();
    for (arguments, expected) in [
        (&["lm.arpa", "out", "--type", "quant", "--backoff-bits", "1"][..], "2 to 25 for backoffs"),
        (&["lm.arpa", "out", "--multiplier", "0.5"], "must be 1 or more"),
        (&["lm.arpa", "out", "--type", "trie", "--multiplier", "2"], "only for probing"),
        (&["lm.arpa", "out", "--prob-bits", "8"], "only for quant and quant-array"),
        (&["lm.arpa", "out", "--memory", "1G"], "only for compact"),
        (&["lm.arpa", "out", "--type", "compact", "--no-spellings"], "needs them"),
        (&["lm.arpa", "out", "--unk", "1"], "at most 0"),
        (&["lm.arpa", "lm.arpa"], "the ARPA file itself"),
        (&["lm.arpa", "nowhere/out"], "nowhere/out"),
        (&["nowhere", "out"], "nowhere: "),
    ] {
        let run = dir.secondpass(["ngram", "build"]).args(arguments).run().code(2);
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
    assert_eq!(names(&dir), ["lm.arpa"]);
}

/// Everything that writes `out`, a model.
const WRITERS: [&[&str]; 6] = [
    &["build", "lm.arpa", "out"],
    &["build", "lm.arpa", "out", "--type", "trie"],
    &["build", "lm.arpa", "out", "--type", "compact", "--prefer", "size"],
    &["build", "lm.arpa", "out", "--type", "compact", "--prefer", "speed"],
    &["train", "text", "-n4", "--discount-fallback", "--skip-symbols", "--memory=32M", "-oout"],
    &["prune", "lm.arpa", "out", "--threshold", "1e-4"],
];

/// Killed at any moment: the old file or the new one.
#[test]
fn m5_a_killed_build_leaves_the_old_file_or_the_new() {
    let dir = arpa();
    dir.write("text", std::fs::read(fixture("kenlm/unicode6.txt")).expect("a fixture"));
    for writer in WRITERS {
        killed(&dir, writer);
    }
}

fn killed(dir: &Dir, arguments: &[&str]) {
    let mut random = Random::new(61);
    let mut olds = 0;
    // How long it takes on this machine, now.
    let build = || dir.secondpass(["ngram"]).args(arguments).arg("--quiet");
    let mut took = build().run().code(0).took;
    let new = dir.read("out");
    let mut rounds = 0;
    while rounds < count(8, 100) || olds == 0 && rounds < 200 {
        rounds += 1;
        dir.write("out", "old");
        let mut child = build().spawn();
        sleep(Duration::from_micros(random.below(took.as_micros() as usize * 5 / 4) as u64));
        child.kill().expect("a child");
        child.wait().expect("a child");
        let out = dir.read("out");
        assert!(out == b"old" || out == new, "{arguments:?}: {} bytes are neither file", out.len());
        // Closer to its end each time.
        took = if out == b"old" { took * 5 / 4 } else { took * 3 / 4 };
        olds += usize::from(out == b"old");
    }
    assert!(olds > 0, "{arguments:?}: none was killed in time");
    // What is left over of a killed build is not in the way of the next one, and opens nowhere unless
    // only the renaming was left to do.
    for name in names(dir).iter().filter(|name| name.ends_with(".part")) {
        let info = dir.secondpass(["ngram", "info", name]).run();
        if dir.read(name) != new {
            info.code(2);
        }
        std::fs::remove_file(dir.path(name)).expect("what was left over");
    }
    build().run().code(0);
    assert!(dir.read("out") == new);
}

/// No room for the file, at any size: an error, and the old file.
#[test]
fn m5_a_full_disk_leaves_the_old_file() {
    let dir = arpa();
    dir.write("text", std::fs::read(fixture("kenlm/unicode6.txt")).expect("a fixture"));
    for writer in WRITERS {
        dir.secondpass(["ngram"]).args(writer).run().code(0);
        let size = dir.read("out").len();
        for step in 0..count(4, 100) {
            dir.write("out", "old");
            let blocks = size / 512 * step / count(4, 100);
            let mut command = Command::new("sh");
            let script = format!("ulimit -f {blocks}; exec \"$PROGRAM\" ngram {}", writer.join(" "));
            command.args(["-c", &script]).env("PROGRAM", env!("CARGO_BIN_EXE_secondpass"));
            let run = dir.other(command).run().code(2);
            assert!(run.stderr.contains("out: "), "{writer:?}: {}", run.stderr);
            assert_eq!(dir.read("out"), b"old", "{writer:?}: {blocks} blocks");
            assert_eq!(names(&dir), ["lm.arpa", "out", "text"]);
        }
    }
}

/// What is no file is not replaced by one, as `root` could.
#[test]
fn devices_and_folders_are_not_replaced() {
    let dir = arpa();
    std::fs::create_dir(dir.path("folder")).expect("a folder");
    for out in ["folder", "/dev/null"] {
        for kind in ["probing", "trie", "compact"] {
            let run = dir.secondpass(["ngram", "build", "lm.arpa", out, "--type", kind]).run().code(2);
            assert!(run.stderr.contains(&format!("{out}: is no regular file")), "{}", run.stderr);
        }
    }
    dir.secondpass(["ngram", "prune", "lm.arpa", "/dev/null", "--threshold", "1e-4"]).run().code(0);
    assert!(!std::fs::metadata("/dev/null").expect("a device").is_file());
    if std::path::Path::new("/dev/full").exists() {
        let full =
            dir.secondpass(["ngram", "prune", "lm.arpa", "/dev/full", "--threshold", "1e-4"]).run().code(2);
        assert!(full.stderr.contains("/dev/full: "), "{}", full.stderr);
    }
}

/// Compact files as each version of the format was first written; they stay readable (M6).
#[test]
fn m6_files_of_every_version_are_read() {
    let dir = arpa();
    dir.write("text", std::fs::read(fixture("kenlm/unicode6.txt")).expect("a fixture"));
    let query = |model: &str| dir.secondpass(["ngram", "query", model, "text"]).run();
    let expected = query("lm.arpa").code(0).stdout;
    for version in 1..=2 {
        let bytes = gunzip(&format!("kenlm/unicode6.compact-{version}.gz"));
        dir.write("model", &bytes);
        dir.secondpass(["ngram", "verify", "model"]).run().code(0);
        assert!(query("model").code(0).stdout == expected, "version {version}");
        let mut newer = bytes;
        newer[36] += 2;
        dir.write("model", &newer);
        let said = query("model").code(2).stderr;
        let advice = "build it anew from its ARPA file, or use a newer program";
        assert!(said.contains(&format!("version {}", version + 2)) && said.contains(advice), "{said}");
    }
    // KenLM's: another version, another machine, one that was not finished.
    let probing = gunzip("kenlm/unicode6.probing.gz");
    for (at, bytes, expected) in [
        (49, &b"4"[..], "version 4"),
        (60, &[0, 0, 0, 63], "machine"),
        (34, b"incomplete\n", "never finished"),
    ] {
        let mut other = probing.clone();
        other[at..at + bytes.len()].copy_from_slice(bytes);
        dir.write("model", &other);
        let said = query("model").code(2).stderr;
        assert!(said.contains(expected) && said.contains("build it again"), "{at}: {said}");
    }
}
