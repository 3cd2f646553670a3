//! Every number of every row of KenLM's own results.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::*;
use crate::testing::{data_or_skip, fixture};

#[test]
fn models_of_order_6_score_as_kenlm() {
    let folder = fixture("kenlm");
    let formats = ["probing", "rest_max", "trie", "trie_a22", "trie_q8b8", "trie_q8b8_a22"];
    let mut rows = arpa(&folder, &folder, &folder, "unicode6");
    assert_eq!(rows, 35_806, "rows compared");
    for format in formats {
        let path = unpacked(&folder.join(format!("unicode6.{format}.gz")));
        rows += binary(path.as_ref(), &folder, &folder, "unicode6", format).rows;
    }
    // Read and mapped; three of the formats have results from the empty state, too.
    assert_eq!(rows, 35_806 + 2 * (3 * 35_806 + 3 * 18_903));
}

#[test]
fn every_reference_model_scores_as_kenlm() {
    let Some(data) = data_or_skip("every_reference_model_scores_as_kenlm") else { return };
    let data = data.join("kenlm");
    let (bin, sent, tsv) = (data.join("bin"), data.join("sent"), data.join("tsv"));
    let mut rows = 0;
    for name in ["test", "test_nounk", "bigram", "novels3", "unicode6"] {
        rows += arpa(&data.join("arpa"), &sent, &tsv, name);
    }
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(bin).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut used = std::collections::BTreeSet::new();
    for file in &files {
        let full = file.file_name().unwrap().to_str().unwrap();
        let (name, format) = full.trim_end_matches(".gz").split_once('.').unwrap();
        let compared = if full.ends_with(".gz") {
            binary(unpacked(file).as_ref(), &sent, &tsv, name, format)
        } else {
            binary(file, &sent, &tsv, name, format)
        };
        rows += compared.rows;
        used.extend(compared.vectors);
    }
    let vectors = std::fs::read_dir(&tsv).unwrap().count();
    assert_eq!((files.len(), used.len()), (55, vectors), "models, and files of vectors used");
    eprintln!("{} models, {vectors} files of vectors, {rows} rows compared, 0 differ", files.len());
}

/// What a comparison found.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) rows: usize,
    pub(super) differ: usize,
    /// The first difference, ours and theirs.
    pub(super) first: Option<(String, String)>,
    vectors: Vec<PathBuf>,
}

/// The ARPA file of a model; the number of rows, all equal.
fn arpa(arpa: &Path, sentences: &Path, tsv: &Path, name: &str) -> usize {
    let path = [format!("{name}.arpa"), format!("{name}.arpa.gz")].map(|file| arpa.join(file));
    let path = path.iter().find(|path| path.exists()).expect("a model");
    let model = Ngram::open(path, &Options::default()).unwrap();
    all(&model, sentences, tsv, name, "probing").rows
}

/// A binary, read and mapped; every row equal.
fn binary(path: &Path, sentences: &Path, tsv: &Path, name: &str, format: &str) -> Compared {
    // Formats that differ in how much room they take give equal scores.
    let same = match format {
        "trie_a22" | "trie_novocab" => "trie",
        "trie_q8b8_a22" | "trie_q8b8_a0" => "trie_q8b8",
        "probing_novocab" | "probing_p1.1" | "probing_p3.7" => "probing",
        other => other,
    };
    // SAFETY: nobody writes to these files.
    #[allow(unsafe_code)]
    let map = Load::Map(unsafe { Unchanging::promise() });
    let mut sum = Compared::default();
    for load in [Load::Read, map] {
        let model = Ngram::open(path, &Options { load, ..Options::default() }).unwrap();
        let compared = all(&model, sentences, tsv, name, same);
        sum.rows += compared.rows;
        sum.vectors = compared.vectors;
    }
    sum
}

/// From `<s>`, and from the empty state where there are results of that.
fn all(model: &Ngram, sentences: &Path, tsv: &Path, name: &str, format: &str) -> Compared {
    let lines = std::fs::read(sentences.join(format!("{name}.txt"))).unwrap();
    let mut sum = Compared::default();
    for (suffix, start) in [("", model.begin()), (".nullctx", State::default())] {
        let path = tsv.join(format!("{name}.{format}{suffix}.tsv.gz"));
        if !path.exists() {
            assert!(!suffix.is_empty(), "no vectors for {name}.{format}");
            continue;
        }
        let compared = compare(model, start, &lines, &gunzip(&path));
        assert_eq!((compared.differ, compared.first), (0, None), "{}", path.display());
        sum.rows += compared.rows;
        sum.vectors.push(path);
    }
    sum
}

/// Rows: line, token, word, id, prob, n-gram length, OOV, state length, rest, independent left.
/// From the empty state the reference has no `</s>`.
pub(super) fn compare(model: &Ngram, start: State, lines: &[u8], rows: &[u8]) -> Compared {
    let end = !start.is_empty();
    let mut rows = rows.split(|&b| b == b'\n').filter(|row| !row.is_empty());
    let mut compared = Compared::default();
    let mut expect = |ours: String| {
        let theirs = String::from_utf8_lossy(rows.next().unwrap_or_default()).into_owned();
        compared.rows += 1;
        if ours != theirs.trim_end_matches('\t') {
            compared.differ += 1;
            compared.first.get_or_insert((ours, theirs));
        }
    };
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    for (line, text) in lines.split(|&b| b == b'\n').enumerate() {
        let words = text.split(|b| matches!(b, 9..=13 | 32)).filter(|word| !word.is_empty());
        let words: Vec<&[u8]> = words.chain(end.then_some(&b"</s>"[..])).collect();
        let mut state = start.clone();
        let mut out = State::default();
        let mut total = 0.0f32;
        let mut unknown = 0;
        for (at, word) in words.iter().enumerate() {
            let id = model.words().id(word);
            let full = model.full_score(&state, id, &mut out);
            std::mem::swap(&mut state, &mut out);
            total += full.log10;
            unknown += usize::from(id == 0);
            expect(format!(
                "{line}\t{at}\t{}\t{id}\t{:08x}\t{}\t{}\t{}\t{:08x}\t{}",
                String::from_utf8_lossy(word),
                full.log10.to_bits(),
                full.length,
                u8::from(id == 0),
                state.len(),
                full.rest.to_bits(),
                u8::from(full.independent_left),
            ));
        }
        expect(format!("{line}\tTOTAL\t\t\t{:08x}\t{}\t{unknown}", total.to_bits(), words.len()));
        if end {
            let sentence = model.score(&words[..words.len() - 1]);
            assert_eq!((sentence.log10.to_bits(), sentence.oov), (total.to_bits(), unknown));
        }
    }
    assert!(rows.next().is_none(), "rows left over");
    side_by_side(model, &start, lines);
    compared
}

/// Sentences in any company score as they do alone.
fn side_by_side(model: &Ngram, start: &State, lines: &[u8]) {
    let sentences: Vec<Vec<u32>> = lines
        .split(|&b| b == b'\n')
        .map(|line| {
            let words = line.split(|b| matches!(b, 9..=13 | 32)).filter(|word| !word.is_empty());
            let words: Vec<&[u8]> = words.collect();
            let mut ids = Vec::new();
            model.words().ids(words.iter().copied(), &mut ids);
            let alone: Vec<u32> = words.iter().map(|word| model.words().id(word)).collect();
            assert_eq!(ids, alone);
            ids
        })
        .collect();
    let given: Vec<&[u32]> = sentences.iter().map(Vec::as_slice).collect();
    let mut scores: Vec<Vec<Full>> = vec![Vec::new(); given.len()];
    model.score_batch(start, &given, |sentence, word, full| {
        assert_eq!(scores[sentence].len(), word);
        scores[sentence].push(full);
    });
    for (words, scores) in given.iter().zip(&scores) {
        let mut state = start.clone();
        let mut next = State::default();
        assert_eq!(words.len(), scores.len());
        for (&word, &score) in words.iter().zip(scores) {
            assert_eq!(model.full_score(&state, word, &mut next), score);
            std::mem::swap(&mut state, &mut next);
        }
    }
}

/// A packed model, unpacked for as long as the path lives.
pub(super) fn unpacked(path: &Path) -> tempfile::TempPath {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), gunzip(path)).unwrap();
    file.into_temp_path()
}

pub(super) fn gunzip(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}
