//! Against what Python's sentencepiece says.

use super::*;
use crate::testing::data_or_skip;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const SIZES: [(&str, usize, u32, u32, u32); 4] =
    [("unigram", 120, 1, 1, 2), ("bpe", 200, 1, 2, 0), ("bytes", 400, 1, 2, 0), ("korean", 370, 1, 2, 0)];

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokens").join(name);
    std::fs::read(path).expect("a fixture of the repository")
}

fn load(name: &str) -> Pieces {
    let &(_, size, bos, eos, unk) = SIZES.iter().find(|model| model.0 == name).unwrap();
    Pieces::parse(name, &fixture(&format!("{name}.model")), size, bos, eos, Some(unk)).unwrap()
}

fn encode(vocab: &Pieces, word: &[u8]) -> (Vec<u32>, Known) {
    let mut ids = Vec::new();
    let known = vocab.encode(word, &mut ids);
    (ids, known)
}

/// fixtures/tokens/expected.tsv is what Python's sentencepiece says.
#[test]
fn as_python_encodes() {
    let expected = String::from_utf8(fixture("expected.tsv")).unwrap();
    for (name, ..) in SIZES {
        let vocab = load(name);
        let mut checked = 0;
        for line in expected.lines().filter(|line| line.split('\t').next() == Some(name)) {
            let [_, kind, text, ids] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
            if text == "<unk>"
                || (name == "unigram" && (text.contains("<blk>") || text.contains("<sos/eos>")))
            {
                // Here we differ: Python finds these pieces in the text, or spells "<unk>" out.
                assert_eq!(
                    encode(&vocab, text.as_bytes()),
                    (vec![vocab.space.unwrap(), vocab.unk], Known::No)
                );
                continue;
            }
            let mut ours = Vec::new();
            let words = if kind == "s" { text.split(' ').collect() } else { vec![text] };
            let known: Vec<_> = words.iter().map(|word| vocab.encode(word.as_bytes(), &mut ours)).collect();
            assert_eq!(ours, ids, "{line}");
            assert_eq!(known.contains(&Known::No), ids.contains(&vocab.unk), "{line}");
            checked += 1;
        }
        assert!(checked > 100, "{checked} lines of {name}");
    }
}

#[test]
fn word_starts() {
    let vocab = load("unigram");
    let (ids, known) = encode(&vocab, b"walking");
    assert_eq!(known, Known::Yes);
    let spelled: Vec<u8> = ids.iter().flat_map(|&id| vocab.symbol(id).unwrap()).collect();
    assert_eq!(spelled, "\u{2581}walking".as_bytes());
    assert!(ids.iter().enumerate().all(|(at, &id)| vocab.starts_word(id) == (at == 0)));
    assert!(!vocab.starts_word(vocab.unk) && !vocab.starts_word(vocab.eos()) && !vocab.starts_word(u32::MAX));
    assert!(!vocab.words());
    assert_ne!(vocab.hash(), load("bpe").hash());
    assert_eq!(encode(&vocab, b"caf\xe9"), (vec![vocab.space.unwrap(), vocab.unk], Known::No));
    assert_eq!(encode(&vocab, &[b'a'; Pieces::LONGEST + 1]).1, Known::No);
    assert_eq!(encode(&vocab, &[b'a'; Pieces::LONGEST]).1, Known::Yes);
}

#[test]
fn refusals() {
    let bytes = fixture("bpe.model");
    let error = |bytes: &[u8], size, eos, unk| {
        Pieces::parse("bpe.model", bytes, size, 1, eos, unk).unwrap_err().to_string()
    };
    assert!(error(&bytes, 199, 2, None).contains("200 pieces"));
    assert!(error(&bytes, 200, 200, None).contains("eos"));
    assert!(error(&bytes, 200, 2, Some(3)).contains("unknown piece"));
    assert!(error(&fixture("suffix.model"), 100, 2, None).contains("treat_whitespace_as_suffix"));
    assert!(error(b"", 200, 2, None).contains("no usable SentencePiece model"));
    assert!(error(b"symbol 1\n", 200, 2, None).contains("no usable SentencePiece model"));
    assert!(Pieces::parse("bpe.model", &bytes, 201, 1, 2, None).is_ok());
}

proptest! {
    #[test]
    fn any_bytes(word: Vec<u8>, text in "\\PC{1,20}", pieces in "[a-z<>/\u{2581}' ]{1,20}") {
        for (name, size, ..) in SIZES {
            thread_local!(static MODELS: Vec<Pieces> = SIZES.iter().map(|model| load(model.0)).collect());
            MODELS.with(|models| {
                let vocab = &models[SIZES.iter().position(|model| model.0 == name).unwrap()];
                for word in [&word, text.as_bytes(), pieces.as_bytes()] {
                    let (ids, _) = encode(vocab, word);
                    assert!(ids.iter().all(|&id| (id as usize) < size && id != vocab.eos && id != vocab.bos));
                }
            });
        }
    }

    /// Damaged models are refused, or encode something; they never crash.
    #[test]
    fn damaged(at: prop::sample::Index, byte: u8, cut: prop::sample::Index, text in "\\PC{1,12}") {
        for name in ["unigram.model", "bytes.model"] {
            let mut bytes = fixture(name);
            let place = at.index(bytes.len());
            bytes[place] = byte;
            if byte % 4 == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(vocab) = Pieces::parse("x", &bytes, 500, 1, 2, None) {
                let (ids, _) = encode(&vocab, text.as_bytes());
                assert!(ids.iter().all(|&id| id < 500));
            }
        }
    }
}

/// Every distinct word of the measurement data, by the digests of fixtures/tokens/words.tsv.
#[test]
fn as_python_encodes_the_words_of_the_data() {
    let Some(data) = data_or_skip("as_python_encodes_the_words_of_the_data") else { return };
    let mut words = std::collections::BTreeSet::new();
    for file in ["text/dev.txt", "korean/korean-ccby.txt"] {
        let text = std::fs::read(data.join(file)).unwrap();
        // As Python splits bytes.
        let split = text.split(|byte| matches!(byte, b' ' | b'\t'..=b'\r'));
        let plain =
            |word: &&[u8]| !word.is_empty() && word.len() <= 2048 && !word.iter().any(|b| b"<[".contains(b));
        words.extend(split.filter(plain).map(<[u8]>::to_vec));
    }
    assert!(words.len() > 100_000);
    let digests = String::from_utf8(fixture("words.tsv")).unwrap();
    for line in digests.lines() {
        let [name, count, digest] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(words.len().to_string(), count);
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/en/lstm/bpe.model");
        let vocab =
            if name == "shipped" { Pieces::open(&shipped, 1 << 20, 1, 2, None).unwrap() } else { load(name) };
        let mut hash = Sha256::new();
        let mut ids = Vec::new();
        for word in &words {
            ids.clear();
            vocab.encode(word, &mut ids);
            let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
            hash.update(ids.join(" ") + "\n");
        }
        let ours: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(ours, digest, "{name}");
    }
}

/// The ids of ESPnet's list are not those of its model, and what the list lacks is unknown.
#[test]
fn ids_of_a_list() {
    let bytes = fixture("bpe.model");
    let plain = load("bpe");
    let mut symbols: Vec<String> =
        (3..200).rev().map(|id| String::from_utf8(plain.symbol(id).unwrap()).unwrap()).collect();
    let lost = symbols.pop().unwrap();
    symbols.insert(0, "<blank>".into());
    symbols.insert(1, "<unk>".into());
    symbols.push("\u{65e5}".into());
    symbols.push("<sos/eos>".into());
    let list = List::parse(symbols.join("\n").as_bytes(), symbols.len()).unwrap();
    let eos = symbols.len() as u32 - 1;
    let vocab = Pieces::with_list("bpe.model", &bytes, &list, symbols.len(), eos, eos, None).unwrap();
    assert_eq!((vocab.unk(), vocab.size()), (Some(1), 200));
    for word in ["walking", "the", "don't", "x\u{434}", &lost] {
        let (ids, known) = encode(&vocab, word.as_bytes());
        let expected: Vec<u32> = encode(&plain, word.as_bytes())
            .0
            .iter()
            .map(|&id| {
                let symbol = String::from_utf8(plain.symbol(id).unwrap()).unwrap();
                symbols.iter().position(|other| *other == symbol).unwrap_or(1) as u32
            })
            .collect();
        assert_eq!(ids, expected, "{word}");
        assert_eq!(known == Known::No, ids.contains(&1), "{word}");
        assert!(vocab.starts_word(ids[0]) || ids[0] == 1, "{word}");
    }
    // WeNet's mixed units: the character is in the list, not in the model.
    let (ids, known) = encode(&vocab, "the\u{65e5}\u{672c}".as_bytes());
    let the = encode(&vocab, b"the").0;
    assert_eq!((ids, known), ([&the[..], &[eos - 1, 1]].concat(), Known::No));
    let strange = List::parse(b"<unk>\na\nb\n", 9).unwrap();
    let error = Pieces::with_list("bpe.model", &bytes, &strange, 9, 0, 0, None).unwrap_err().to_string();
    assert!(error.contains("different models"), "{error}");
}
