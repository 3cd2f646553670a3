//! Compact files against the hash tables, and against damage.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::layout::reseal;
use super::model::EXTREME;
use super::verify::check;
use super::*;
use crate::lm::ngram::{Full, Ngram, State};
use crate::testing::{data_or_skip, fixture};

#[test]
fn unicode_model_of_order_6_scores_alike() {
    let folder = fixture("kenlm");
    let tokens = compare(&folder.join("unicode6.arpa.gz"), &folder.join("unicode6.txt"));
    assert!(tokens > 15_000, "only {tokens} tokens");
}

#[test]
fn reference_models_score_alike() {
    let Some(data) = data_or_skip("reference_models_score_alike") else { return };
    let data = data.join("kenlm");
    for name in ["test.arpa", "test_nounk.arpa", "bigram.arpa.gz", "novels3.arpa.gz"] {
        let text = name.split('.').next().unwrap();
        let tokens = compare(&data.join("arpa").join(name), &data.join(format!("sent/{text}.txt")));
        assert!(tokens > 10_000, "{name}: only {tokens} tokens");
    }
}

#[test]
fn models_that_kenlm_takes_score_alike() {
    let folder = fixture("kenlm/malformed");
    let mut taken = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "arpa") {
            continue;
        }
        let opened = Ngram::open(&path, &super::super::Options::default());
        for prefer in BOTH {
            let pair = pair(&path, Options { prefer, ..Options::default() });
            assert_eq!(opened.is_ok(), pair.is_ok(), "{}: {:?}", path.display(), pair.err());
            let Ok((ours, theirs)) = pair else { continue };
            taken += 1;
            assert_eq!(ours.warnings().len(), theirs.warnings().len());
            for words in ["a b", "b a a b", "zz a b zz", "<unk> b", "", "a b b a </s> a", "<s> a b"] {
                let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
                same(&ours, &theirs, &words);
            }
        }
    }
    assert!(taken > 40, "only {taken} models");
}

proptest! {
    #[test]
    fn random_models_score_alike(
        order in 1usize..6,
        words in 1usize..30,
        picks in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>(), 0u8..8), 0..300),
        text in prop::collection::vec(any::<u8>(), 1..200),
        memory in prop_oneof![Just(0), Just(1 << 30)],
        prefer in prop::sample::select(&BOTH[..]),
    ) {
        let folder = TempDir::new().unwrap();
        let arpa = folder.path().join("model.arpa");
        std::fs::write(&arpa, random(order, words, &picks)).unwrap();
        let (ours, theirs) = pair(&arpa, Options { prefer, memory, ..Options::default() }).unwrap();
        let names = ["<s>", "</s>", "<unk>"].map(String::from).into_iter().chain((0..=words).map(|w| format!("w{w}")));
        let names: Vec<String> = names.collect();
        let text: Vec<&[u8]> = text.iter().map(|&at| names[usize::from(at) % names.len()].as_bytes()).collect();
        same(&ours, &theirs, &text);
    }
}

#[test]
fn interpolated_models_take_few_bytes_and_score_alike() {
    let Some(data) = data_or_skip("interpolated_models_take_few_bytes_and_score_alike") else { return };
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("model");
    for name in ["small.o3.prune-0-1-1", "small.o4.prune-0-0-1-2", "small.o5"] {
        let arpa = data.join(format!("lm/{name}.arpa.bz2"));
        let tokens = compare(&arpa, &data.join("lm/tiny.txt"));
        assert!(tokens > 400, "only {tokens} tokens");
        let report = build(&arpa, &out, &Options { prefer: Prefer::Size, ..Options::default() }).unwrap();
        let strings = report.sections[0].1 + report.sections[1].1;
        let ngrams: u64 = report.counts[1..].iter().sum();
        let each = (report.file_bytes - strings) as f64 / ngrams as f64;
        assert!(each < 4.0, "{name}: {each} bytes for an n-gram");
        assert_eq!(verify(&out).unwrap(), report.counts);
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    BOTH.into_iter().for_each(every_damage_is_found);
}

fn every_damage_is_found(prefer: Prefer) {
    let bytes = small(prefer);
    assert_eq!(check(Arc::new(bytes.clone().into())).unwrap(), [6, 6, 4]);
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let found = check(Arc::new(damaged.into())).err();
        assert!(found.is_some(), "bit {bit} of {} bytes", bytes.len());
    }
    for length in 0..bytes.len() {
        assert!(check(Arc::new(bytes[..length].to_vec().into())).is_err(), "cut to {length}");
    }
    let longer = [&bytes[..], &[0; 64]].concat();
    assert!(check(Arc::new(longer.into())).is_err());
}

/// Checksums are made to fit again: what is read must be safe all the same.
#[test]
fn damage_that_no_checksum_shows_is_an_error_or_finite_scores() {
    BOTH.into_iter().for_each(damage_is_safe);
}

fn damage_is_safe(prefer: Prefer) {
    let bytes = small(prefer);
    let (mut opened, mut refused) = (0, 0);
    let mut attempt = |mut damaged: Vec<u8>| {
        reseal(&mut damaged);
        let extreme = damaged.get(52).is_some_and(|flags| flags & EXTREME as u8 != 0);
        let _ = check(Arc::new(damaged.clone().into()));
        match Ngram::from_reader("damaged", std::io::Cursor::new(damaged), &super::super::Options::default())
        {
            Ok(model) => {
                opened += 1;
                finite(&model, extreme);
            }
            Err(_) => refused += 1,
        }
    };
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        attempt(damaged);
    }
    for at in (0..bytes.len() - 8).step_by(4) {
        for value in [0, u64::MAX, 1 << 63, 1 << 40] {
            let mut damaged = bytes.clone();
            damaged[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
            attempt(damaged);
        }
    }
    for length in 0..bytes.len() {
        attempt(bytes[..length].to_vec());
    }
    assert!(opened > 1000 && refused > 1000, "{opened} opened, {refused} refused");
}

proptest! {
    #[test]
    fn any_bytes_are_a_model_or_an_error(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 1usize..9), 0..12),
        prefer in prop::sample::select(&BOTH[..]),
    ) {
        let mut bytes = small(prefer);
        for (at, value, length) in edits {
            let at = at.index(bytes.len() - 8);
            bytes[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
        }
        reseal(&mut bytes);
        let extreme = bytes[52] & EXTREME as u8 != 0;
        let _ = check(Arc::new(bytes.clone().into()));
        if let Ok(model) = Ngram::from_reader("any", std::io::Cursor::new(bytes), &super::super::Options::default()) {
            finite(&model, extreme);
        }
    }
}

#[test]
fn files_that_cannot_be_used_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model");
    let told = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let text = Ngram::open(&path, &super::super::Options::default()).err().unwrap().to_string();
        assert_eq!(verify(&path).unwrap_err().to_string(), text);
        text
    };
    let bytes = small(Prefer::Size);
    let mut other = bytes.clone();
    other[..32].copy_from_slice(b"secondpass n-gram incomplete\n\0\0\0");
    assert!(told(&other).contains("interrupted"));
    other = bytes.clone();
    other[36] = 3;
    assert!(told(&other).contains("version 3"), "{}", told(&other));
    other = bytes.clone();
    other[32..36].reverse();
    assert!(told(&other).contains("damaged"));
    assert!(told(&bytes[..bytes.len() - 1]).contains("should have"));
}

#[test]
fn a_build_that_fails_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("model");
    for (name, expected) in [
        ("duplicate_bigram", "the 2-gram `a b` is listed twice"),
        ("missing_context_noblank", "is not among the 2-grams"),
        ("count_too_big", "line"),
    ] {
        let arpa = fixture(&format!("kenlm/malformed/{name}.arpa"));
        if !arpa.exists() {
            continue;
        }
        for prefer in BOTH {
            let options = Options { prefer, ..Options::default() };
            let error = build(&arpa, &out, &options).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(name), "{error}");
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "{name}");
        }
    }
    let nowhere = folder.path().join("none/model");
    assert!(build(fixture("kenlm/unicode6.arpa.gz"), nowhere, &Options::default()).is_err());
}

#[test]
fn little_memory_gives_the_same_file() {
    let folder = TempDir::new().unwrap();
    let file = |prefer, memory| {
        let out = folder.path().join("model");
        let options = Options { prefer, memory, ..Options::default() };
        build(fixture("kenlm/unicode6.arpa.gz"), &out, &options).unwrap();
        std::fs::read(out).unwrap()
    };
    for prefer in BOTH {
        let whole = file(prefer, 1 << 30);
        assert!(whole == file(prefer, 1 << 16) && whole == file(prefer, 1 << 12));
    }
}

#[test]
fn an_estimate_needs_the_header_only() {
    let estimate = estimate(fixture("kenlm/unicode6.arpa.gz"), &Options::default()).unwrap();
    assert_eq!(estimate.counts.len(), 6);
    assert!(estimate.memory_bytes < 1 << 30 && estimate.file_bytes > 10_000);
}

/// A file of all kinds of sections, small enough to be damaged at every bit.
fn small(prefer: Prefer) -> Vec<u8> {
    let arpa = "\\data\\\nngram 1=6\nngram 2=5\nngram 3=4\n\n\\1-grams:\n-1\t<unk>\n-9\t<s>\t-0.5\n-1\t</s>\n-0.75\ta\t-0.25\n-1.5\tb\t-0.5\n-2\tc\n\n\
        \\2-grams:\n-0.25\t<s> a\t-0.125\n-0.5\ta b\t-0.25\n-0.75\ta a\t-0.5\n-1\tb a\t-0.125\n-0.3\tb </s>\n\n\
        \\3-grams:\n-0.125\t<s> a b\n-0.3\ta b b\n-0.4\ta a b\n-0.6\tb a a\n\n\\end\\\n";
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.arpa");
    let out = folder.path().join("model");
    std::fs::File::create(&path).unwrap().write_all(arpa.as_bytes()).unwrap();
    build(&path, &out, &Options { prefer, ..Options::default() }).unwrap();
    std::fs::read(&out).unwrap()
}

/// Both kinds of files.
const BOTH: [Prefer; 2] = [Prefer::Size, Prefer::Speed];

fn finite(model: &Ngram, extreme: bool) {
    let words: [&[u8]; 9] = [b"a", b"b", b"b", b"a", b"a", b"b", b"c", b"a", b"b"];
    let sentence = model.score(&words);
    assert!(!sentence.log10.is_nan());
    if !extreme {
        assert!(sentence.log10.is_finite(), "{}", sentence.log10);
    }
    assert_eq!(sentence.words.len(), 10);
}

/// The model from a compact file and from hash tables.
fn pair(arpa: &Path, options: Options) -> crate::Result<(Ngram, Ngram)> {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("model");
    let report = build(arpa, &out, &options)?;
    let open = |path: &Path| Ngram::open(path, &super::super::Options::default());
    let (ours, theirs) = (open(&out)?, open(arpa)?);
    assert_eq!(report.counts, theirs.counts());
    assert_eq!(ours.counts(), theirs.counts());
    assert_eq!(verify(&out)?, theirs.counts());
    assert_eq!(std::fs::metadata(&out).unwrap().len(), report.file_bytes);
    Ok((ours, theirs))
}

/// Compares both forms with the hash tables on sentences; returns the number of tokens.
fn compare(arpa: &Path, sentences: &Path) -> usize {
    BOTH.map(|prefer| compare_one(arpa, sentences, prefer)).iter().sum::<usize>() / BOTH.len()
}

fn compare_one(arpa: &Path, sentences: &Path, prefer: Prefer) -> usize {
    let (ours, theirs) = pair(arpa, Options { prefer, ..Options::default() }).unwrap();
    let text = std::fs::read(sentences).unwrap();
    let lines = text.split(|&byte| byte == b'\n');
    batched(&ours, &theirs, lines.clone());
    lines
        .map(|line| {
            let words = line.split(|b| matches!(b, 9..=13 | 32)).filter(|word| !word.is_empty());
            same(&ours, &theirs, &words.chain([&b"</s>"[..]]).collect::<Vec<_>>())
        })
        .sum()
}

/// Sentences side by side, too.
fn batched<'a>(ours: &Ngram, theirs: &Ngram, lines: impl Iterator<Item = &'a [u8]>) {
    let words = |line: &'a [u8]| line.split(|b| matches!(b, 9..=13 | 32)).filter(|word| !word.is_empty());
    let ids: Vec<Vec<u32>> =
        lines.map(|line| words(line).map(|word| ours.words().id(word)).collect()).collect();
    let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let all = |model: &Ngram| {
        let mut scores: Vec<Vec<u32>> = vec![Vec::new(); ids.len()];
        model.score_batch(&model.begin(), &ids, |line, _, full| scores[line].push(full.log10.to_bits()));
        scores
    };
    assert!(all(ours) == all(theirs));
}

/// All that is said of each word, with the state of a sentence's beginning and with none.
fn same(ours: &Ngram, theirs: &Ngram, words: &[&[u8]]) -> usize {
    let said = |full: Full| (full.log10.to_bits(), full.rest.to_bits(), full.length, full.independent_left);
    for begin in [Ngram::begin, |_: &Ngram| State::default()] {
        let (mut a, mut b) = (begin(ours), begin(theirs));
        let (mut next_a, mut next_b) = (State::default(), State::default());
        for &word in words {
            let id = ours.words().id(word);
            assert_eq!(id, theirs.words().id(word));
            let (x, y) = (ours.full_score(&a, id, &mut next_a), theirs.full_score(&b, id, &mut next_b));
            assert_eq!(
                said(x),
                said(y),
                "{:?} after {:?}: {x:?} and {y:?}",
                String::from_utf8_lossy(word),
                b.words().collect::<Vec<_>>()
            );
            std::mem::swap(&mut a, &mut next_a);
            std::mem::swap(&mut b, &mut next_b);
            assert_eq!(a, b);
        }
    }
    words.len()
}

/// An ARPA file whose contexts are all there, but not all suffixes.
fn random(order: usize, words: usize, picks: &[(u32, u32, u32, u8)]) -> String {
    let mut names: Vec<String> = ["<s>", "</s>", "<unk>"].map(String::from).to_vec();
    names.extend((0..words).map(|word| format!("w{word}")));
    let mut grams: Vec<Vec<Vec<usize>>> = vec![(0..names.len()).map(|word| vec![word]).collect()];
    for length in 2..=order {
        let below = &grams[length - 2];
        let of = |&(at, word, ..): &(u32, u32, u32, u8)| {
            let mut gram = below[at as usize % below.len()].clone();
            gram.push(word as usize % names.len());
            gram
        };
        let fresh: BTreeSet<_> = if below.is_empty() {
            BTreeSet::new()
        } else {
            picks.iter().skip(length).step_by(length).map(of).collect()
        };
        // In no particular order.
        let mut fresh: Vec<_> = fresh.into_iter().collect();
        fresh.sort_by_key(|gram| {
            gram.iter().fold(7usize, |hash, &word| hash.wrapping_mul(31) ^ word.wrapping_mul(0x9e37)) % 997
        });
        grams.push(fresh);
    }
    let mut text = String::from("\\data\\\n");
    for (at, grams) in grams.iter().enumerate() {
        text += &format!("ngram {}={}\n", at + 1, grams.len());
    }
    let mut at = 0;
    for (length, grams) in (1..).zip(&grams) {
        text += &format!("\n\\{length}-grams:\n");
        for gram in grams {
            let (a, b, c, kind) = picks.get(at % picks.len().max(1)).copied().unwrap_or((1, 2, 3, 4));
            at += 1;
            let prob = match kind {
                0 => "0".into(),
                1 => "-inf".into(),
                2 => "-0.5".into(),
                _ => format!("-{}", (c ^ a) as f64 / 1e9),
            };
            let words: Vec<&str> = gram.iter().map(|&word| &names[word][..]).collect();
            text += &format!("{prob}\t{}", words.join(" "));
            text += &match kind {
                _ if length == order => String::new(),
                3 | 4 => String::new(),
                5 => "\t0".into(),
                6 => "\t-0.25".into(),
                _ => format!("\t-{}", f64::from(b) / 3e9),
            };
            text += "\n";
        }
    }
    text + "\n\\end\\\n"
}
