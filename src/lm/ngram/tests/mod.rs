//! The engine against KenLM's own results, and against anything that could be called a file.

mod binaries;
mod build;
mod hostile;
mod keys;
mod lines;
mod messages;
mod tries;
mod vectors;

use std::io::{Cursor, Write};

use proptest::prelude::*;

use super::*;
use crate::testing::fixture;

#[test]
fn malformed_files_are_taken_or_refused_as_kenlm_does() {
    let folder = fixture("kenlm/malformed");
    // KenLM refuses these; they say clearly enough what they mean.
    let lenient = [
        "bom",
        "leading_text",
        "ngram_header_trailing_space",
        "trailing_tab_no_backoff",
        "trailing_space_after_backoff",
        "unigram_only",
    ];
    // KenLM takes these: a duplicate is a fault of whatever made the file.
    let strict = ["duplicate_unigram", "duplicate_bigram"];
    let results = std::fs::read_to_string(folder.join("results_arpa.tsv")).unwrap();
    let mut cases = 0;
    let mut scored = 0;
    for row in results.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let (name, tool, rc) = (columns[0], columns[1], columns[2]);
        if tool != "build_probing" {
            continue;
        }
        cases += 1;
        let opened = Ngram::open(folder.join(format!("{name}.arpa")), &Options::default());
        let expected = (rc == "0" || lenient.contains(&name)) && !strict.contains(&name);
        match opened {
            Ok(model) => {
                assert!(expected, "{name}: taken, but KenLM refuses it");
                let same = ["bom", "leading_text", "ngram_header_trailing_space"].contains(&name);
                let reference = if same { "ok_base" } else { name };
                if let Ok(tsv) = std::fs::read(folder.join(format!("{reference}.probing.expected.tsv"))) {
                    let lines = b"a b\nb a a b\nzz a b zz\n<unk> b\n\n";
                    let compared = vectors::compare(&model, model.begin(), lines, &tsv);
                    assert_eq!(compared.first, None, "{name}");
                    assert_eq!(compared.rows, 22, "{name}");
                    scored += 1;
                }
            }
            Err(error) => {
                assert!(!expected, "{name}: refused ({error}), but KenLM takes it");
                let text = error.to_string();
                assert!(!text.contains('\n') && text.contains(name), "{name}: {text}");
            }
        }
    }
    assert_eq!((cases, scored), (51, 28));
}

#[test]
fn a_pruned_suffix_becomes_a_blank() {
    // "a b b" is there and "b b" is not: KenLM inserts "b b", p = p(b) * backoff(b), so that
    // "b b" has an n-gram length of 2 and leads to "a b b".
    let model = Ngram::open(fixture("kenlm/malformed/missing_suffix.arpa"), &Options::default()).unwrap();
    assert_eq!(model.counts(), [5, 5, 2]);
    let b = model.words().id(b"b");
    let mut after = State::default();
    let mut out = State::default();
    model.full_score(&State::default(), b, &mut after);
    let full = model.full_score(&after, b, &mut out);
    assert_eq!((full.log10, full.length, full.independent_left), (-0.875 - 0.375, 2, false));
}

#[test]
fn unigram_models_score() {
    let model = Ngram::open(fixture("kenlm/malformed/unigram_only.arpa"), &Options::default()).unwrap();
    assert_eq!(model.order(), 1);
    assert!(model.begin().is_empty());
    let sentence = model.score(&[b"a", b"zz"]);
    assert_eq!((sentence.log10, sentence.oov), (-0.75 - 1.5 - 1.25, 1));
}

#[test]
fn a_missing_unknown_word_is_told_and_can_be_set() {
    let text = |unk: &str| {
        let words = if unk.is_empty() { 3 } else { 4 };
        format!("\\data\\\nngram 1={words}\n\n\\1-grams:\n-9\t<s>\n-1\t</s>\n-0.5\ta\n{unk}\n\\end\\\n")
    };
    let model = read(text("").as_bytes()).unwrap();
    assert_eq!(model.score(&[b"zz"]).words[0].log10, -100.0);
    assert!(model.warnings()[0].contains("no <unk>"), "{:?}", model.warnings());
    let options = Options { missing_unk_log10: -7.5, ..Options::default() };
    let model = Ngram::from_reader("memory", Cursor::new(text("")), &options).unwrap();
    assert_eq!(model.score(&[b"zz"]).words[0].log10, -7.5);
    let model = read(text("-3\t<UNK>\n").as_bytes()).unwrap();
    assert_eq!(model.score(&[b"<unk>"]).words[0].log10, -3.0);
    assert!(model.warnings().is_empty());
}

#[test]
fn errors_name_the_line_and_what_to_do() {
    let base = "\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-9\t<s>\t-1\n-1\t</s>\n-0.5\ta\n\n\\2-grams:\n-0.1\t<s> a\n\n\\end\\\n";
    read(base.as_bytes()).unwrap();
    let told = |from: &str, to: &str| {
        assert!(base.contains(from));
        let error = read(base.replacen(from, to, 1).as_bytes()).err().expect(to);
        error.to_string()
    };
    for (from, to, expected) in [
        ("\\data\\", "data", "no line \\data\\"),
        ("ngram 2=1", "ngram 3=1", "line 3: expected `ngram 2=COUNT` or a blank line, found `ngram 3=1`"),
        ("ngram 2=1", "ngram 2=-1", "line 3: a count cannot be negative"),
        ("ngram 2=1", "ngram 2=2", "line 13: `\\end\\` comes after 1 of the 2 2-grams"),
        ("ngram 2=1", "ngram 2=0", "line 11: expected \\end\\, found `-0.1\\t<s> a`; are there more"),
        ("ngram 2=1", "ngram 2=18446744073709551616", "line 3: the count is too large"),
        ("\\1-grams:", "\\2-grams:", "line 5: expected \\1-grams:"),
        ("-1\t</s>", "-1 </s>", "line 7: expected a number, one tab and a word"),
        ("-1\t</s>", "-1\t</t>", "line 8: the 1-grams end without </s>"),
        ("a\n\n", "<s>\n\n", "line 8: the word `<s>` is listed twice"),
        ("a\n\n", "a\0\n\n", "line 8: a NUL byte inside the word"),
        ("-0.5\ta", "0.5\ta", "line 8: the log probability `0.5` is above 0"),
        ("-0.5\ta", "x\ta", "line 8: expected a log10 probability, found `x`"),
        ("\t-1\n", "\tinf\n", "line 6: expected a finite log10 backoff, found `inf`"),
        ("\t-1\n", " -1\n", "line 6: expected a tab and the backoff"),
        ("<s> a", "<s>", "line 11: expected 2 words"),
        ("<s> a", "<s> b", "line 11: the word `b` is not among the 1-grams"),
        ("<s> a", "<s> a\t-1", "line 11: an n-gram of the highest order has the backoff `-1`"),
        ("\\end\\\n", "", "line 12: the file ends where \\end\\ should come; it was cut short"),
        ("\\end\\\n", "\\end\\\nmore\n", "line 14: nothing may follow \\end\\"),
    ] {
        let text = told(from, to);
        assert!(text.contains(expected), "{to:?}: {text}");
    }
    for (head, expected) in [
        (&b""[..], "is empty"),
        (b"\xfd7zXZ\0 and so on", "the xz data is damaged"),
        (b"\x28\xb5\x2f\xfd and so on", "the zstd data is damaged"),
        (b"mmap lm http://kheafield.com/code format version 5\n\0", "cut short inside its header"),
        (&gzip(b"mmap lm http://kheafield.com/code format version 5\n\0"), "KenLM binary"),
        (b"iARPA\n", "IRSTLM"),
        (&vec![b'x'; 3 << 20], "longer than 1 MiB"),
        (&b"text\n".repeat(1 << 19), "not an ARPA file"),
    ] {
        let text = read(head).err().expect(expected).to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn faults_that_are_found_late_name_their_own_line() {
    for (name, expected) in [
        ("duplicate_bigram", "line 16: this 2-gram is listed twice"),
        ("missing_context_noblank", "line 20: the first 2 words of this 3-gram are not among the 2-grams"),
    ] {
        let path = fixture(&format!("kenlm/malformed/{name}.arpa"));
        let error = Ngram::open(path, &Options::default()).err().expect(name).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn headers_that_lie_cost_nothing() {
    let text = "\\data\\\nngram 1=4000000000\nngram 2=18446744073709551615\n\n\\1-grams:\n-1\t<s>\n";
    assert!(read(text.as_bytes()).is_err());
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(text.as_bytes()).unwrap();
    assert!(Ngram::open(file.path(), &Options::default()).is_err());
}

#[test]
fn packed_files_are_read_whole_or_not_at_all() {
    let text = std::fs::read(fixture("kenlm/malformed/ok_base.arpa")).unwrap();
    let (first, second) = text.split_at(100);
    let expected = read(&text).unwrap().score(&[b"a", b"b"]);
    for pack in [gzip, bzip2, xz, zstd] {
        let members = [pack(first), pack(second)].concat();
        assert_eq!(read(&members).unwrap().score(&[b"a", b"b"]), expected);
        for cut in 0..members.len() {
            assert!(read(&members[..cut]).is_err(), "cut to {cut} of {} bytes", members.len());
        }
        let mut followed = members.clone();
        followed.extend_from_slice(b"plain text");
        assert!(read(&followed).is_err());
    }
}

#[test]
fn high_orders_keep_long_states() {
    // Order 12: states are longer than what is kept without allocating.
    let order = 12;
    let mut text = String::from("\\data\\\nngram 1=4\n");
    for n in 2..=order {
        text += &format!("ngram {n}=1\n");
    }
    text += "\n\\1-grams:\n-9\t<s>\n-1\t</s>\n-1\t<unk>\n-2\ta\t-0.5\n";
    for n in 2..=order {
        let backoff = if n == order { "" } else { "\t-0.25" };
        text +=
            &format!("\n\\{n}-grams:\n-{}\t{}{backoff}\n", 2.0 - n as f32 / 8.0, ["a"; 12][..n].join(" "));
    }
    text += "\n\\end\\\n";
    let model = read(text.as_bytes()).unwrap();
    let sentence = model.score(&[b"a".as_slice(); 14]);
    let lengths: Vec<u8> = sentence.words.iter().map(|word| word.length).collect();
    assert_eq!(lengths, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12, 12, 1]);
    assert_eq!(sentence.words[11].log10, -0.5);
    // </s> backs off through all eleven contexts.
    assert_eq!(sentence.words[14].log10, -1.0 - 0.5 - 10.0 * 0.25);
}

proptest! {
    #[test]
    fn any_bytes_are_a_model_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let _ = read(&[b"\\data\\\nngram 1=2\n\n\\1-grams:\n", &bytes[..]].concat());
        let _ = read(&[b"\x1f\x8b\x08\0", &bytes[..]].concat());
        let _ = read(&[b"BZh91AY&SY", &bytes[..]].concat());
    }

    #[test]
    fn a_damaged_model_is_an_error_or_scores(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..4),
        lines in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..2),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let base = if flips.len() % 2 == 0 { "ok_base" } else { "missing_suffix" };
        let mut text = std::fs::read(fixture(&format!("kenlm/malformed/{base}.arpa"))).unwrap();
        for (a, b) in lines {
            let mut rows: Vec<Vec<u8>> = text.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
            let (a, b) = (a.index(rows.len()), b.index(rows.len()));
            rows.swap(a, b);
            text = rows.join(&b'\n');
        }
        for (place, bit) in flips {
            let place = place.index(text.len());
            text[place] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            text.truncate(cut.index(text.len()));
        }
        if let Ok(model) = read(&text) {
            let sentence = model.score(&[b"a", b"b", b"b", b"a", b"zz", b"b"]);
            prop_assert!(!sentence.log10.is_nan());
            prop_assert_eq!(sentence.words.len(), 7);
        }
    }
}

fn read(bytes: &[u8]) -> Result<Ngram> {
    Ngram::from_reader("memory", Cursor::new(bytes.to_vec()), &Options::default())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// From the program `xz`: the writer of the crate that reads is no independent witness.
fn xz(bytes: &[u8]) -> Vec<u8> {
    packed("xz", bytes)
}

/// From the program `zstd`.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    packed("zstd", bytes)
}

/// The halves of `ok_base.arpa` as a program packed them.
fn packed(with: &str, bytes: &[u8]) -> Vec<u8> {
    let half = if bytes.starts_with(b"\\data\\") { "first" } else { "second" };
    std::fs::read(fixture(&format!("kenlm/halves/{half}.{with}"))).unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}
