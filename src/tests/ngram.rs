//! `secondpass ngram`: what it prints, byte for byte.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::data::fixture;
use crate::harness::Dir;

fn gunzip(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
    bytes
}

/// A folder with one of KenLM's models of order 6.
fn unicode6(format: &str) -> Dir {
    let dir = Dir::new();
    dir.write("model", gunzip(&fixture(&format!("kenlm/unicode6.{format}.gz"))));
    dir
}

fn head(text: &[u8], lines: usize) -> Vec<u8> {
    text.split_inclusive(|&byte| byte == b'\n').take(lines).flatten().copied().collect()
}

#[test]
fn query_prints_what_kenlms_query_prints() {
    let dir = unicode6("trie_a22");
    let text = head(&std::fs::read(fixture("kenlm/unicode6.txt")).expect("a fixture"), 400);
    for (flags, name) in [(&[][..], ""), (&["-n"][..], ".n")] {
        let expected = gunzip(&fixture(&format!("kenlm/unicode6.trie_a22{name}.v2.out.gz")));
        let query = |more: &[&str]| {
            dir.secondpass(["ngram", "query", "model"]).args(flags).args(more).stdin(text.clone())
        };
        for run in
            [query(&[]), query(&["-v", "2"]), query(&["--load", "mmap"]), query(&[]).pieces(&[1, 7, 100])]
        {
            assert!(run.run().code(0).stdout == expected, "{flags:?}");
        }
        // Without words, then without lines.
        let totals: Vec<u8> = expected
            .split_inclusive(|&byte| byte == b'\n')
            .flat_map(|line| match line.windows(7).rposition(|part| part == b"Total: ") {
                Some(at) => &line[at..],
                None => line,
            })
            .copied()
            .collect();
        for level in ["sentence", "1"] {
            assert!(query(&["-v", level]).run().code(0).stdout == totals, "{flags:?}");
        }
        let summary = totals.split_inclusive(|&byte| byte == b'\n').skip(400).flatten().copied();
        assert!(query(&["-v", "summary"]).run().code(0).stdout == summary.collect::<Vec<u8>>());
    }
}

#[test]
fn every_query_vector_is_printed_byte_for_byte() {
    let Some(data) = std::env::var_os("SECONDPASS_DATA").filter(|folder| !folder.is_empty()) else {
        crate::skip!("every_query_vector_is_printed_byte_for_byte", "SECONDPASS_DATA is not set");
    };
    let data = PathBuf::from(data).join("kenlm");
    let mut compared = 0;
    for entry in std::fs::read_dir(data.join("query")).expect("vectors") {
        let path = entry.expect("vectors").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let name = name.strip_suffix(".v2.out.gz").expect("a vector");
        let (name, flags) = name.strip_suffix(".n").map_or((name, &[][..]), |name| (name, &["-n"][..]));
        let dir = Dir::new();
        let plain = data.join("bin").join(name);
        let packed = data.join("bin").join(format!("{name}.gz"));
        dir.write(
            "model",
            if plain.exists() { std::fs::read(plain).expect("a model") } else { gunzip(&packed) },
        );
        let (text, _) = name.split_once('.').expect("a format");
        let text = head(&std::fs::read(data.join(format!("sent/{text}.txt"))).expect("text"), 400);
        let run = dir.secondpass(["ngram", "query", "model"]).args(flags).stdin(text).run().code(0);
        assert!(run.stdout == gunzip(&path), "{name} {flags:?}");
        compared += 1;
    }
    assert_eq!(compared, 10);
}

/// KenLM's own forgets such a line's total and end.
#[test]
fn a_last_line_without_its_end_counts_like_the_others() {
    let dir = Dir::ngram();
    let query = |text: &str| dir.secondpass(["ngram", "query", "lm.arpa"]).stdin(text).run().code(0).text();
    assert_eq!(query("a cat\nsat"), query("a cat\nsat\n"));
    assert_eq!(query("a cat\n"), query("  a \t cat \r\n"));
    assert!(query("zebra\n").starts_with("zebra=0 "), "{}", query("zebra\n"));
    // No text at all: no tokens, so no perplexity.
    assert_eq!(
        query(""),
        "Perplexity including OOVs:\tNaN\nPerplexity excluding OOVs:\tNaN\nOOVs:\t0\nTokens:\t0\n"
    );
}

#[test]
fn vocab_finds_words_both_ways() {
    for format in ["probing", "trie"] {
        let dir = unicode6(format);
        let expected =
            std::fs::read_to_string(fixture(&format!("kenlm/unicode6.{format}.vocab"))).expect("words");
        let rows: Vec<&str> = expected.lines().filter(|line| !line.starts_with('#')).collect();
        let vocab = || dir.secondpass(["ngram", "vocab", "model"]);
        assert_eq!(vocab().run().code(0).text(), rows.join("\n") + "\n");
        let (id, word) = rows[7].split_once('\t').expect("a tab");
        for flags in [["--id", id], ["--word", word]] {
            assert_eq!(vocab().args(flags).run().code(0).text(), rows[7].to_owned() + "\n");
        }
        let unknown = vocab().args(["--word", "nowhere"]).run().code(0);
        assert_eq!(unknown.text(), "0\tnowhere\n");
        assert!(unknown.stderr.contains("`nowhere` is unknown"), "{}", unknown.stderr);
        vocab().args(["--id", "100000"]).run().code(2);
    }
}

#[test]
fn info_and_verify_tell_what_a_file_is() {
    let dir = unicode6("trie_q8b8_a22");
    let info = dir.secondpass(["ngram", "info", "model"]).run().code(0).text();
    for row in [
        "kind             KenLM quantised array trie",
        "order            6",
        "quantised to 8 bits",
        "at most 22",
    ] {
        assert!(info.contains(row), "no `{row}` in\n{info}");
    }
    let verify = || dir.secondpass(["ngram", "verify", "model"]).run();
    assert!(verify().code(0).text().starts_with("ok: "));
    // Bits in the middle of the 3-grams; opening does not look there.
    let mut bytes = dir.read("model");
    let at = bytes.len() / 2;
    bytes[at..at + 64].fill(0xff);
    dir.write("model", &bytes);
    dir.secondpass(["ngram", "info", "model"]).run().code(0);
    let damaged = verify().code(2);
    assert!(damaged.text().contains("-grams, record "), "{}", damaged.text());
    assert!(damaged.stderr.contains("is damaged, as listed"), "{}", damaged.stderr);
    let dir = Dir::ngram();
    let info = dir.secondpass(["ngram", "info", "lm.arpa"]).run().code(0).text();
    assert!(info.contains("kind             ARPA") && info.contains("26 with <unk>"), "{info}");
    assert!(dir.secondpass(["ngram", "verify", "lm.arpa"]).run().code(0).text().starts_with("ok: "));
}

#[test]
fn a_binary_rescores_as_its_arpa_file_does() {
    let dir = unicode6("probing");
    dir.write("arpa.gz", std::fs::read(fixture("kenlm/unicode6.arpa.gz")).expect("a fixture"));
    let text = head(&std::fs::read(fixture("kenlm/unicode6.txt")).expect("a fixture"), 200);
    let score = |flags: &[&str]| {
        dir.secondpass(["score", "--json"]).args(flags).stdin(text.clone()).run().code(0).stdout
    };
    let expected = score(&["--ngram", "arpa.gz"]);
    assert!(score(&["--ngram", "model"]) == expected);
    assert!(score(&["--ngram", "model", "--load", "mmap"]) == expected);
}
