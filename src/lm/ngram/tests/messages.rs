//! What is told of a file that cannot be used (M2): what was found, what was expected, what to do.

use std::collections::HashSet;
use std::io::Cursor;

use super::super::build::{BuildOptions, Target, build};
use super::super::*;
use crate::testing::fixture;

/// A file and how it is refused, behind its name.
type Told = (&'static str, Vec<u8>, &'static str);

#[test]
fn each_kind_of_damage_has_a_message_of_its_own() {
    let mut seen = HashSet::new();
    for (what, bytes, expected) in cases() {
        let told = Ngram::from_reader("model", Cursor::new(bytes), &Options::default()).err();
        let told = told.unwrap_or_else(|| panic!("{what}: is taken")).to_string();
        assert_eq!(told, format!("model: {expected}"), "{what}");
        assert!(seen.insert(told), "{what}: as another");
    }
    assert_eq!(seen.len(), 20);
}

fn cases() -> Vec<Told> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let arpa = fixture("kenlm/malformed/ok_base.arpa");
    let kenlm = |target: Target| {
        build(&arpa, &out, &BuildOptions::new(target), &mut |_| {}).unwrap();
        std::fs::read(&out).unwrap()
    };
    let trie = |quantise, array| kenlm(Target::Trie { quantise, array });
    let probing = kenlm(Target::Probing { multiplier: 1.5 });
    let (quantised, arrays) = (trie(Some((4, 3)), None), trie(None, Some(3)));
    let compact = |prefer| {
        compact::build(&arpa, &out, &compact::Options { prefer, ..compact::Options::default() }).unwrap();
        std::fs::read(&out).unwrap()
    };
    let small = compact(compact::Prefer::Size);
    let changed = |bytes: &[u8], at: usize, new: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    vec![
        ("empty", Vec::new(), "is empty; check the path, or how the file was made"),
        (
            "another format",
            b"\x08\x07\x12\x07pytorch".to_vec(),
            "is not an ARPA file: there is no line \\data\\ near its beginning; check the path",
        ),
        (
            "KenLM, never finished",
            changed(&probing, 0, b"mmap lm http://kheafield.com/code incomplete\n"),
            "was never finished: the program that built it was stopped; build it again",
        ),
        (
            "KenLM, version",
            changed(&probing, 49, b"4"),
            "is a KenLM binary of format version 4, and version 5 is read; build it again from the ARPA file",
        ),
        (
            "KenLM, byte order",
            changed(&probing, 56, &big_endian()),
            "is a KenLM binary of a big-endian machine, and little-endian ones are read; build it again from the ARPA file on a machine like this one",
        ),
        (
            "KenLM, machine",
            changed(&probing, 56, &[9]),
            "is a KenLM binary of another kind of machine (of 32 bits?), or damaged; build it again from the ARPA file",
        ),
        (
            "KenLM, type",
            changed(&probing, 96, &[6]),
            "is of model type 6, which is not known; types 0 to 5 are: build it again from the ARPA file",
        ),
        (
            "KenLM, order",
            changed(&probing, 88, &[0]),
            "is damaged: the order is 0, and can be 2 to 32; copy or build it again",
        ),
        (
            "KenLM, multiplier",
            changed(&probing, 92, &f32::NAN.to_le_bytes()),
            "is damaged: the probing multiplier is NaN, and must be 1 or more; copy or build it again",
        ),
        (
            "KenLM, counts",
            changed(&probing, 108, &(1u64 << 40).to_le_bytes()),
            "is damaged: the header claims 1099511627776 1-grams in 427 bytes; copy or build it again",
        ),
        (
            "KenLM, search",
            changed(&probing, 104, &[7]),
            "has version 7 of the probing search structure, expected 0; build it again from the ARPA file",
        ),
        (
            "KenLM, vocabulary",
            changed(&probing, section(&probing, "vocabulary"), &[1]),
            "has version 1 of the vocabulary, expected 0; build it again from the ARPA file",
        ),
        (
            "KenLM, quantiser",
            changed(&quantised, section(&quantised, "quantiser"), &[1]),
            "has version 1 of the quantiser, expected 2; build it again from the ARPA file",
        ),
        (
            "KenLM, arrays",
            changed(&arrays, section(&arrays, "2-gram pointers"), &[1]),
            "has version 1 of the pointer array, expected 0; build it again from the ARPA file",
        ),
        (
            "KenLM, cut in its header",
            probing[..100].to_vec(),
            "is cut short inside its header; copy or build it again",
        ),
        (
            "KenLM, cut",
            probing[..400].to_vec(),
            "has 400 bytes, and its header promises at least 408; it was cut short or is damaged: copy or build it again",
        ),
        (
            "compact, never finished",
            changed(&small, 0, b"secondpass n-gram incomplete\n\0\0\0"),
            "was not written to its end: the build was interrupted; build it again",
        ),
        (
            "compact, version",
            changed(&small, 36, &[3]),
            "has version 3 of the compact format, and only versions 1 and 2 are known here; build it anew from its ARPA file, or use a newer program",
        ),
        (
            "compact, header",
            changed(&small, 50, &[9]),
            "is damaged: its header cannot be right; copy or build it again",
        ),
        (
            "compact, cut",
            small[..small.len() - 1].to_vec(),
            "has 1727 bytes and should have 1728; copy or build it again",
        ),
    ]
}

/// Where a part of a KenLM file begins.
fn section(bytes: &[u8], name: &str) -> usize {
    let (model, _) = kenlm::open(bytes.to_vec().into()).unwrap();
    model.sections.parts.iter().find(|(part, _)| part == name).unwrap().1.start
}

/// Numbers by which KenLM's files tell machines apart, as a big-endian one writes them.
fn big_endian() -> Vec<u8> {
    let floats = [0.0f32, 1.0, -0.5].map(|value| value.to_be_bytes()).concat();
    let numbers = [1u32, u32::MAX, 0].map(|value| value.to_be_bytes()).concat();
    [floats, numbers, 1u64.to_be_bytes().to_vec()].concat()
}
