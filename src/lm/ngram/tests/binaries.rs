//! KenLM's binaries that are damaged, or lack something.

use super::super::*;
use super::vectors::{compare, gunzip, unpacked};
use crate::testing::fixture;

/// What must be refused, and how that reads; everything else scores.
const REFUSED: [(&str, &str); 32] = [
    ("p_empty", "is empty"),
    ("p_magic_only", "cut short inside its header"),
    ("p_short_header100", "cut short inside its header"),
    ("p_trunc_1byte_before_vocab", "has 2715 bytes, and its header promises at least 2716"),
    ("p_version4", "format version 4, and version 5 is read"),
    ("p_sanity_float", "another kind of machine"),
    ("p_big_endian_header", "of a big-endian machine, and little-endian ones are read"),
    ("p_order0", "the order is 0"),
    ("p_order2", "a word has the id 0"),
    ("p_order7", "the header claims"),
    ("p_mult_nan", "multiplier is NaN"),
    ("p_mult_huge", "is damaged"),
    ("p_mult_two", "its header promises"),
    ("p_type6", "model type 6"),
    ("p_type_as_rest", "its header promises"),
    ("p_count0_huge", "the header claims"),
    ("p_count_wrap", "the header claims"),
    ("p_count2_plus1", "the words are not where the header says"),
    ("p_vocabversion1", "version 1 of the vocabulary, expected 0"),
    ("p_bound_huge", "ids for 37 words"),
    ("p_vocab_table_full_infinite_loop", "the vocabulary has"),
    ("p_backoff_inf", "is not a number"),
    ("t_vocabcount_huge", "the vocabulary has"),
    ("t_vocabcount_wrap", "the vocabulary has"),
    ("t_vocab_all_equal", "not in ascending order"),
    ("t_type_as_array", "the words are not where the header says"),
    ("t_type_as_quant", "quantised to"),
    ("t_counts_swap", "the header claims 4000000000 1-grams in 2026 bytes"),
    ("q_version", "version 1 of the quantiser, expected 2"),
    ("q_bits0", "quantised to 0 bits"),
    ("q_bits64", "quantised to 64 bits"),
    ("a_first_nonzero", "does not begin with 0"),
];

#[test]
fn damaged_binaries_are_refused_or_give_finite_scores() {
    let folder = fixture("kenlm/malformed");
    let results = std::fs::read_to_string(folder.join("results_bin.tsv")).unwrap();
    let names: Vec<&str> = results
        .lines()
        .skip(1)
        .filter_map(|line| line.split('\t').next().filter(|_| line.split('\t').nth(1) == Some("query")))
        .collect();
    assert_eq!(names.len(), 38);
    let mut faults = Vec::new();
    for name in names {
        let refused = REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, how)| *how);
        match Ngram::open(folder.join(format!("{name}.bin")), &Options::default()) {
            Err(error) => {
                let text = error.to_string();
                if !refused.is_some_and(|how| text.contains(how)) || text.contains('\n') {
                    faults.push(text);
                }
            }
            Ok(model) => {
                if refused.is_some() {
                    faults.push(format!("{name} is taken"));
                }
                finite(&model);
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn words_are_found_both_ways() {
    for (format, expected) in [("probing", "probing"), ("trie", "trie"), ("trie_q8b8_a22", "trie")] {
        let path = unpacked(&fixture(&format!("kenlm/unicode6.{format}.gz")));
        let model = Ngram::open(&path, &Options::default()).unwrap();
        let vocab = std::fs::read(fixture(&format!("kenlm/unicode6.{expected}.vocab"))).unwrap();
        let mut count = 0;
        for line in vocab.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            let words = model.words();
            if line.starts_with(b"#") {
                let specials = format!("#bos={} eos={} order=6", words.id(b"<s>"), words.id(b"</s>"));
                assert_eq!(String::from_utf8_lossy(line), specials);
                continue;
            }
            let tab = line.iter().position(|&b| b == b'\t').unwrap();
            let id: u32 = std::str::from_utf8(&line[..tab]).unwrap().parse().unwrap();
            assert_eq!(words.word(id), Some(&line[tab + 1..]));
            assert_eq!(words.id(&line[tab + 1..]), id);
            count += 1;
        }
        assert_eq!((count, model.words().word(count)), (model.words().len() as u32, None));
        assert!(model.words().spelled().is_ok());
    }
}

#[test]
fn an_arpa_file_and_a_probing_file_of_it_have_one_vocabulary() {
    use crate::tokens::Vocab;
    let arpa = Ngram::open(fixture("kenlm/unicode6.arpa.gz"), &Options::default()).unwrap();
    let hash = |format: &str| {
        let path = unpacked(&fixture(&format!("kenlm/unicode6.{format}.gz")));
        Ngram::open(path, &Options::default()).unwrap().words().hash()
    };
    assert_eq!(arpa.words().hash(), hash("probing"));
    assert_eq!(hash("probing"), hash("rest_max"));
    assert_eq!(hash("trie"), hash("trie_q8b8_a22"));
    // The order of words is another one.
    assert_ne!(hash("trie"), hash("probing"));
}

#[test]
fn spellings_that_do_not_fit_are_not_used() {
    let open = |name: &str| {
        Ngram::open(fixture(&format!("kenlm/malformed/{name}.bin")), &Options::default()).unwrap()
    };
    for name in ["p_vocab_extra_strings", "p_vocab_no_final_nul"] {
        let model = open(name);
        assert!(model.words().spelled().unwrap_err().contains("the spellings at its end are not those of"));
        assert_eq!(model.words().word(1), None);
        assert!(model.words().id(b"looking") > 0);
    }
}

#[test]
fn a_binary_from_a_stream_is_the_same_model() {
    let bytes = gunzip(&fixture("kenlm/unicode6.trie.gz"));
    let model = Ngram::from_reader("stream", std::io::Cursor::new(bytes), &Options::default()).unwrap();
    let lines = std::fs::read(fixture("kenlm/unicode6.txt")).unwrap();
    let rows = gunzip(&fixture("kenlm/unicode6.trie.tsv.gz"));
    assert_eq!(compare(&model, model.begin(), &lines, &rows).first, None);
}

#[test]
fn info_tells_what_is_where() {
    for (format, kind) in [
        ("probing", "KenLM probing"),
        ("rest_max", "KenLM probing with rest costs"),
        ("trie", "KenLM trie"),
        ("trie_q8b8", "KenLM quantised trie"),
        ("trie_a22", "KenLM array trie"),
        ("trie_q8b8_a22", "KenLM quantised array trie"),
    ] {
        let bytes = gunzip(&fixture(&format!("kenlm/unicode6.{format}.gz")));
        let size = bytes.len();
        let model = Ngram::from_reader("stream", std::io::Cursor::new(bytes), &Options::default()).unwrap();
        let info = model.info();
        assert_eq!((&*info.kind, info.counts.len(), info.words), (kind, 6, model.words().len()));
        // The parts follow each other without a gap, to the last byte.
        let mut at = 0;
        for section in &info.sections {
            assert_eq!(section.bytes.start, at, "{format}: {}", section.name);
            at = section.bytes.end;
        }
        assert_eq!(at, size, "{format}");
    }
}

/// Opening a mapped file costs its header and its words: this one, which has a hole of 64 GiB, could
/// not be read at all (M3).
#[test]
#[cfg(target_pointer_width = "64")]
fn a_mapped_file_is_not_read() {
    let slots = (64u64 << 30) / 12;
    // A word (`<unk>`) and 2-grams in tables without slack; no spellings.
    let counts = vec![1, slots - 1];
    let header = kenlm::Header { kind: kenlm::Kind::Probing, multiplier: 1.0, spelled: false, counts };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), header.write()).unwrap();
    let mut bytes = std::fs::read(file.path()).unwrap();
    bytes.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    std::fs::write(file.path(), &bytes).unwrap();
    file.as_file().set_len(65 << 30).unwrap();
    // SAFETY: the file is this test's own.
    #[allow(unsafe_code)]
    let load = Load::Map(unsafe { Unchanging::promise() });
    let model = Ngram::open(file.path(), &Options { load, ..Options::default() }).unwrap();
    assert_eq!(model.counts(), [1, slots - 1]);
    assert!(model.info().sections.last().unwrap().bytes.end > 60 << 30);
    assert_eq!(model.score(&[b"a"]).words.len(), 2);
    finite(&model);
}

/// Scores are numbers, from every state that a few words lead to.
fn finite(model: &Ngram) {
    let words: Vec<u32> = (0..model.words().len() as u32).collect();
    let mut out = State::default();
    for &first in &words {
        let mut state = model.begin();
        for &word in [first].iter().chain(&words) {
            let full = model.full_score(&state, word, &mut out);
            assert!(full.log10.is_finite(), "{full:?}");
            std::mem::swap(&mut state, &mut out);
        }
    }
}
