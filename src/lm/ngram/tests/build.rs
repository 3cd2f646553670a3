//! Files that are built here against those that KenLM's `build_binary` built.

use std::path::{Path, PathBuf};

use super::super::build::{BuildOptions, Target, build, plan};
use super::super::*;
use super::vectors::gunzip;
use crate::testing::{data_or_skip, fixture};

#[test]
fn files_of_order_6_are_kenlms_byte_for_byte() {
    let arpa = fixture("kenlm/unicode6.arpa.gz");
    for format in ["probing", "trie", "trie_a22", "trie_q8b8", "trie_q8b8_a22"] {
        same(&arpa, format, &gunzip(&fixture(&format!("kenlm/unicode6.{format}.gz"))));
    }
}

#[test]
fn every_reference_file_is_built_byte_for_byte() {
    let Some(data) = data_or_skip("every_reference_file_is_built_byte_for_byte") else { return };
    let data = data.join("kenlm");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(data.join("bin")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut built = 0;
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let (model, format) = name.trim_end_matches(".gz").split_once('.').unwrap();
        // Rest costs are not built; one bit for backoffs, two of whose values are taken, is refused.
        if format.starts_with("rest") || format == "trie_q1b1" {
            continue;
        }
        let expected = if name.ends_with(".gz") { gunzip(&file) } else { std::fs::read(&file).unwrap() };
        let arpa = [format!("{model}.arpa"), format!("{model}.arpa.gz")];
        let arpa = arpa.iter().map(|name| data.join("arpa").join(name)).find(|path| path.exists()).unwrap();
        same(&arpa, format, &expected);
        built += 1;
    }
    assert_eq!(built, 46);
}

#[test]
fn what_cannot_be_built_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let told = |arpa: &str, target: Target| {
        let arpa = fixture(&format!("kenlm/malformed/{arpa}.arpa"));
        let error = build(&arpa, &out, &BuildOptions::new(target), &mut |_| {}).unwrap_err().to_string();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{error}");
        error
    };
    let trie = |quantise| Target::Trie { quantise, array: None };
    for (text, expected) in [
        (told("unigram_only", trie(None)), "single words only"),
        (told("ok_base", trie(Some((8, 1)))), "cannot be quantised to 8 and 1 bits"),
        (told("ok_base", trie(Some((26, 8)))), "cannot be quantised to 26 and 8 bits"),
        (told("ok_base", Target::Probing { multiplier: 0.9 }), "must be 1 or more"),
        (told("ok_base", Target::Probing { multiplier: f32::NAN }), "must be 1 or more"),
        (told("no_end", trie(None)), "the file ends where"),
        (told("duplicate_bigram", Target::Probing { multiplier: 1.5 }), "listed twice"),
        (told("duplicate_bigram", trie(None)), "listed twice"),
        (told("missing_context_noblank", trie(None)), "where every context must be"),
        (told("nowhere", trie(None)), "nowhere.arpa"),
    ] {
        assert!(text.contains(expected), "{text}");
    }
    // An old file stays as it was.
    std::fs::write(&out, "old").unwrap();
    let arpa = fixture("kenlm/malformed/no_end.arpa");
    build(&arpa, &out, &BuildOptions::new(trie(None)), &mut |_| {}).unwrap_err();
    assert_eq!(std::fs::read(&out).unwrap(), b"old");
    // KenLM's cannot build this one either: blanks need more room than the multiplier leaves.
    let Some(data) = crate::testing::data() else { return };
    let options = BuildOptions::new(Target::Probing { multiplier: 1.1 });
    let error = build(&data.join("kenlm/arpa/test.arpa"), &out, &options, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("build with a larger multiplier"), "{error}");
}

#[test]
fn a_pruned_suffix_comes_back_in_every_kind_of_file() {
    let arpa = fixture("kenlm/malformed/missing_suffix.arpa");
    let expected = Ngram::open(&arpa, &Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let quantise = Some((8, 8));
    for target in [
        Target::Probing { multiplier: 2.0 },
        Target::Trie { quantise: None, array: None },
        Target::Trie { quantise: None, array: Some(255) },
        Target::Trie { quantise, array: None },
        Target::Trie { quantise, array: Some(1) },
    ] {
        let out = folder.path().join("out");
        build(&arpa, &out, &BuildOptions::new(target), &mut |_| {}).unwrap();
        let model = Ngram::open(&out, &Options::default()).unwrap();
        assert_eq!(model.verify(), [""; 0], "{target:?}");
        for line in ["a b b a", "b b", "b b b b", "zz b b zz", "", "a a a b b"] {
            let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
            let (ours, theirs) = (model.score(&words), expected.score(&words));
            // Few enough values for each to have a step of its own.
            assert_eq!(ours.log10.to_bits(), theirs.log10.to_bits(), "{target:?}: {line}");
            let lengths =
                |sentence: &Sentence| sentence.words.iter().map(|word| word.length).collect::<Vec<_>>();
            assert_eq!(lengths(&ours), lengths(&theirs), "{target:?}: {line}");
        }
    }
}

/// Builds a file as its name says and compares all bytes.
fn same(arpa: &Path, format: &str, expected: &[u8]) {
    let mut options = options(format);
    if let Some(unknown) = format.split("_u").nth(1) {
        options.missing_unk_log10 = -unknown.parse::<f32>().unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    build(arpa, &out, &options, &mut |_| {}).unwrap();
    let built = std::fs::read(&out).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something is left over");
    let at = built.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!((built.len(), at), (expected.len(), None), "{} as {format}", arpa.display());
    let planned = plan(arpa, &options).unwrap().bytes as usize;
    assert!(planned <= built.len() && (format.starts_with("trie") || planned > built.len() / 2));
}

fn options(format: &str) -> BuildOptions {
    let number = |mark: &str| -> Option<u8> {
        let rest = format.strip_prefix("trie")?.split(mark).nth(1)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let target = match format.strip_prefix("probing") {
        Some(rest) => {
            let multiplier = rest.strip_prefix("_p").map_or(1.5, |number| number.parse().unwrap());
            Target::Probing { multiplier }
        }
        None => {
            Target::Trie { quantise: number("_q").and_then(|q| Some((q, number("b")?))), array: number("_a") }
        }
    };
    let mut options = BuildOptions::new(target);
    options.spellings = !format.ends_with("novocab");
    options
}

/// Whatever the n-grams, what is built scores as the text it was built from.
mod any_model {
    use super::*;
    use proptest::prelude::*;

    const WORDS: [&str; 7] = ["<unk>", "<s>", "</s>", "a", "b", "c", "d"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn scores_the_same_from_every_kind_of_file(
            grams in prop::collection::vec((prop::collection::vec(0usize..7, 2..6), 0u32..4000, 0u32..3), 0..60),
            sentences in prop::collection::vec(prop::collection::vec(0usize..7, 0..9), 10),
            limit in 0u8..8,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let arpa = folder.path().join("arpa");
            std::fs::write(&arpa, text(&grams)).unwrap();
            let expected = Ngram::open(&arpa, &Options::default()).unwrap();
            for target in [
                Target::Probing { multiplier: 8.0 },
                Target::Trie { quantise: None, array: None },
                Target::Trie { quantise: None, array: Some(limit) },
                Target::Trie { quantise: Some((12, 12)), array: Some(limit) },
            ] {
                let out = folder.path().join("out");
                build(&arpa, &out, &BuildOptions::new(target), &mut |_| {}).unwrap();
                let model = Ngram::open(&out, &Options::default()).unwrap();
                prop_assert_eq!(model.verify(), [""; 0]);
                for sentence in &sentences {
                    let words: Vec<&[u8]> = sentence.iter().map(|&word| WORDS[word].as_bytes()).collect();
                    let (ours, theirs) = (model.score(&words), expected.score(&words));
                    prop_assert_eq!(ours.log10, theirs.log10, "{:?} {:?}", target, sentence);
                    for (a, b) in ours.words.iter().zip(&theirs.words) {
                        prop_assert_eq!((a.length, a.oov), (b.length, b.oov));
                    }
                }
            }
        }
    }

    /// An ARPA file of these n-grams and their contexts; suffixes may be missing.
    fn text(grams: &[(Vec<usize>, u32, u32)]) -> String {
        let mut levels = vec![std::collections::BTreeMap::new(); 5];
        for word in 0..7 {
            levels[0].insert(vec![word], (100, 1));
        }
        levels[1].insert(vec![3, 4], (50, 0));
        for (gram, prob, backoff) in grams {
            for length in 2..=gram.len() {
                levels[length - 1].entry(gram[..length].to_vec()).or_insert((*prob, *backoff));
            }
        }
        while levels.last().is_some_and(|level| level.is_empty()) {
            levels.pop();
        }
        let mut text = String::from("\\data\\\n");
        for (n, level) in (1..).zip(&levels) {
            text += &format!("ngram {n}={}\n", level.len());
        }
        for (n, level) in (1..).zip(&levels) {
            text += &format!("\n\\{n}-grams:\n");
            for (gram, (prob, backoff)) in level {
                let words: Vec<&str> = gram.iter().map(|&word| WORDS[word]).collect();
                text += &format!("-{}\t{}", f64::from(*prob) / 1000.0, words.join(" "));
                if n < levels.len() {
                    text += &format!("\t{}", f64::from(*backoff) / -4.0);
                }
                text += "\n";
            }
        }
        text + "\n\\end\\\n"
    }
}
