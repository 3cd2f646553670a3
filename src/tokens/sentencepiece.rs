//! SentencePiece models (`bpe.model`), unigram and BPE: the vocabularies of subword models.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use prost::Message;
use sentencepiece_rs::{SentencePieceModel, SentencePieceProcessor};

use super::{Known, Vocab, check_specials, fingerprint, is_unknown};
use crate::{Error, Result};

/// A vocabulary of subword pieces, from a SentencePiece model file; token ids are piece ids.
///
/// Words are encoded one by one, as SentencePiece encodes them in the middle of a sentence.
/// What a text cannot mean becomes the unknown token: control and bracketed user-defined pieces
/// spelled out in it, bytes that are not UTF-8, and words of more than [`Pieces::LONGEST`] bytes.
pub struct Pieces {
    processor: SentencePieceProcessor,
    size: usize,
    bos: u32,
    eos: u32,
    unk: u32,
    /// The piece of a white space alone, which an unknown word starts with.
    space: Option<u32>,
    starts: Vec<bool>,
    forbidden: Vec<bool>,
    hash: u64,
}

impl Pieces {
    /// Words of more bytes are unknown: encoding takes time that grows with the square.
    pub const LONGEST: usize = 2048;

    /// Reads a model file for a language model with `size` outputs and the given special tokens.
    ///
    /// # Errors
    /// If the file cannot be read, or for what [`Pieces::parse`] refuses.
    pub fn open(path: &Path, size: usize, bos: u32, eos: u32, unk: Option<u32>) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::parse(path, &bytes, size, bos, eos, unk)
    }

    /// As [`Pieces::open`], from memory; `path` is for messages.
    ///
    /// # Errors
    /// If it is no SentencePiece model, has more pieces than the language model has outputs, has
    /// another unknown token, or marks words in another way than by a ▁ in front of them.
    pub fn parse(
        path: impl AsRef<Path>,
        bytes: &[u8],
        size: usize,
        bos: u32,
        eos: u32,
        unk: Option<u32>,
    ) -> Result<Self> {
        let fail = |what: String| Error::model(path.as_ref(), what);
        let damaged = |what: String| {
            fail(format!("no usable SentencePiece model ({what}); copy it again from the training"))
        };
        let proto = Proto::decode(bytes).map_err(|e| damaged(e.to_string()))?;
        let processor =
            contained(|| SentencePieceProcessor::from_serialized_model(bytes)).map_err(damaged)?;
        let model = processor.model();
        proto.refuse().map_err(fail)?;
        check_specials(size, bos, eos, unk).map_err(fail)?;
        refuse_ids(model, size, unk).map_err(fail)?;
        refuse_inner_spaces(model).map_err(fail)?;

        let pieces = || model.pieces().iter().map(|piece| piece.piece.as_str());
        let space = model.try_piece_to_id(SPACE).map(|id| id as u32);
        let unk = model.unk_id() as u32;
        let mut starts: Vec<_> = pieces().map(|piece| piece.starts_with(SPACE)).collect();
        // Without a piece for white space the unknown token takes it in.
        starts[unk as usize] |= space.is_none();
        let forbidden = (0..model.vocab_size())
            .map(|id| id as u32 == bos || id as u32 == eos || model.is_control(id) || is_bracketed(model, id))
            .collect();
        let hash = fingerprint(pieces().map(str::as_bytes));
        Ok(Self { size, bos, eos, unk, space, starts, forbidden, hash, processor })
    }

    /// An unknown word as SentencePiece spells a word of unknown characters.
    fn unknown(&self, ids: &mut Vec<u32>) -> Known {
        ids.extend(self.space);
        ids.push(self.unk);
        Known::No
    }
}

impl Vocab for Pieces {
    fn size(&self) -> usize {
        self.size
    }

    fn bos(&self) -> u32 {
        self.bos
    }

    fn eos(&self) -> u32 {
        self.eos
    }

    fn unk(&self) -> Option<u32> {
        Some(self.unk)
    }

    fn encode(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        let Some(text) =
            std::str::from_utf8(word).ok().filter(|text| text.len() <= Self::LONGEST && !is_unknown(word))
        else {
            return self.unknown(ids);
        };
        let Ok(pieces) = contained(|| self.processor.encode_to_ids(text)) else {
            return self.unknown(ids);
        };
        if pieces.iter().any(|&id| self.forbidden[id]) {
            return self.unknown(ids);
        }
        let before = ids.len();
        ids.extend(pieces.into_iter().map(|id| id as u32));
        if ids[before..].contains(&self.unk) { Known::No } else { Known::Yes }
    }

    fn starts_word(&self, token: u32) -> bool {
        self.starts.get(token as usize).copied().unwrap_or(false)
    }

    fn words(&self) -> bool {
        false
    }

    fn symbol(&self, token: u32) -> Option<Vec<u8>> {
        self.processor.model().pieces().get(token as usize).map(|piece| piece.piece.clone().into_bytes())
    }

    fn hash(&self) -> u64 {
        self.hash
    }
}

/// What we must know of a model file that the reader does not tell.
#[derive(Message)]
struct Proto {
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
}

#[derive(Message)]
struct Trainer {
    #[prost(bool, optional, tag = "24")]
    treat_whitespace_as_suffix: Option<bool>,
}

#[derive(Message)]
struct Normalizer {
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    escape_whitespaces: Option<bool>,
}

impl Proto {
    fn refuse(&self) -> Result<(), String> {
        let trainer = self.trainer.as_ref();
        let normalizer = self.normalizer.as_ref();
        if trainer.and_then(|t| t.treat_whitespace_as_suffix) == Some(true) {
            return Err("was trained with treat_whitespace_as_suffix: its pieces mark where words end, \
                        and only models that mark where they start can be used"
                .into());
        }
        for (name, value) in [
            ("add_dummy_prefix", normalizer.and_then(|n| n.add_dummy_prefix)),
            ("escape_whitespaces", normalizer.and_then(|n| n.escape_whitespaces)),
        ] {
            if value == Some(false) {
                return Err(format!(
                    "was trained with {name}=false: its pieces do not mark where words start; train it without that"
                ));
            }
        }
        Ok(())
    }
}

fn refuse_ids(model: &SentencePieceModel, size: usize, unk: Option<u32>) -> Result<(), String> {
    let pieces = model.vocab_size();
    if pieces > size {
        return Err(format!(
            "has {pieces} pieces, but the model has {size} tokens; this is another model's file"
        ));
    }
    match unk {
        Some(unk) if unk as usize != model.unk_id() => Err(format!(
            "its unknown piece has id {}, the model's has {unk}; token ids must be piece ids",
            model.unk_id()
        )),
        _ => Ok(()),
    }
}

/// With pieces of several words the encoding of a sentence is not that of its words.
fn refuse_inner_spaces(model: &SentencePieceModel) -> Result<(), String> {
    let inner = |piece: &&str| piece.trim_start_matches(SPACE).contains(SPACE);
    match model.pieces().iter().map(|piece| piece.piece.as_str()).find(inner) {
        Some(piece) => {
            Err(format!("has pieces of more than one word ({piece:?}); train it with split_by_whitespace"))
        }
        None => Ok(()),
    }
}

/// A user-defined piece such as `<sos/eos>`, which SentencePiece would find in a text.
fn is_bracketed(model: &SentencePieceModel, id: usize) -> bool {
    let piece = &model.pieces()[id];
    let text = piece.piece.trim_start_matches(SPACE);
    let bracketed = |open, close| text.len() > 2 && text.starts_with(open) && text.ends_with(close);
    piece.kind == sentencepiece_rs::PieceType::UserDefined && (bracketed('<', '>') || bracketed('[', ']'))
}

/// The reader slices text where a damaged normalisation table tells it to, and may panic there.
fn contained<T>(run: impl FnOnce() -> sentencepiece_rs::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("its normalisation table is damaged".into()),
    }
}

/// SentencePiece's white space.
const SPACE: &str = "\u{2581}";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZES: [(&str, usize, u32, u32, u32); 3] =
        [("unigram", 120, 1, 1, 2), ("bpe", 200, 1, 2, 0), ("bytes", 400, 1, 2, 0)];

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
                let known: Vec<_> =
                    words.iter().map(|word| vocab.encode(word.as_bytes(), &mut ours)).collect();
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
        assert!(
            !vocab.starts_word(vocab.unk) && !vocab.starts_word(vocab.eos()) && !vocab.starts_word(u32::MAX)
        );
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
            Pieces::parse("bpe.model", bytes, size, 1, eos, unk).err().expect("an error").to_string()
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
}
