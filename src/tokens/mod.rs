//! From words to the token ids of one language model.
//!
//! A hypothesis is cut into words ([`Markers::words`]); for each language model a [`TextMap`]
//! writes a word as the model was trained to see it, and a [`Vocab`] spells that as token ids.
//! [`WordCache`] does the last two at once and remembers the answers.

mod cache;
mod fit;
mod normalise;
mod numbers;
mod sentencepiece;
mod symbols;

pub use cache::{Encoded, MOST_WORDS, WordCache};
pub use fit::Fit;
pub use normalise::{Case, Composition, Digits, MARKERS, Mapped, Markers, TextMap, is_unknown, split};
pub use sentencepiece::Pieces;
pub use symbols::Symbols;

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The vocabulary of one language model: how it spells words as token ids.
///
/// Implemented by symbol tables, SentencePiece and the n-gram's own word list.
pub trait Vocab: Send + Sync {
    /// Number of token ids: every id that [`Vocab::encode`] gives is below it.
    fn size(&self) -> usize;

    /// The token a sentence starts from; context only, never scored.
    fn bos(&self) -> u32;

    /// The token that ends a sentence.
    fn eos(&self) -> u32;

    /// The token of what the model does not know, if it has one.
    fn unk(&self) -> Option<u32>;

    /// Appends the ids of one word (no white space inside, not empty) and says whether the model
    /// knows all of it. Appends none if the vocabulary's own normalisation leaves nothing of the
    /// word (a lone zero-width space). Never panics for any bytes.
    fn encode(&self, word: &[u8], ids: &mut Vec<u32>) -> Known;

    /// Whether a token begins a word. `true` for every token of a word-level vocabulary, and
    /// then [`Vocab::words`] is `true`.
    fn starts_word(&self, token: u32) -> bool;

    /// Whether every word is exactly one token.
    fn words(&self) -> bool;

    /// The spelling of a token, where it is known.
    fn symbol(&self, token: u32) -> Option<Vec<u8>>;

    /// A number that equal vocabularies share and others do not.
    fn hash(&self) -> u64;
}

/// Whether a vocabulary knows a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Every part of it.
    Yes,
    /// Some or all of it became the unknown token.
    No,
}

/// Reads a vocabulary that lies beside a model.
pub type Loader = fn(&Path) -> Result<Arc<dyn Vocab>>;

/// The vocabulary that lies in a model's folder.
///
/// `kind` is the model's `secondpass.tokenizer`: `words` (`tokens.txt` or `words.txt`) or
/// `sentencepiece` (`bpe.model`). `size` is the number of the model's outputs.
///
/// # Errors
/// If the kind is unknown, the file is missing or damaged, or an id is not below `size`.
pub fn beside(
    folder: &Path,
    kind: &str,
    size: usize,
    bos: u32,
    eos: u32,
    unk: Option<u32>,
) -> Result<Arc<dyn Vocab>> {
    let find = |names: &[&str]| {
        names.iter().map(|name| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
            Error::model(folder, format!("no {} in it; put the model's vocabulary there", names.join(" or ")))
        })
    };
    Ok(match kind {
        "words" => Arc::new(Symbols::open(&find(&["tokens.txt", "words.txt"])?, size, bos, eos, unk)?),
        "sentencepiece" => Arc::new(Pieces::open(&find(&["bpe.model"])?, size, bos, eos, unk)?),
        "characters" => {
            return Err(Error::model(
                folder,
                "character models (secondpass.tokenizer = \"characters\") are not supported yet",
            ));
        }
        _ => {
            return Err(Error::model(
                folder,
                format!("unknown tokenizer {kind:?}; secondpass.tokenizer is \"words\" or \"sentencepiece\""),
            ));
        }
    })
}

/// Refuses special tokens that a model with `size` outputs cannot have.
fn check_specials(size: usize, bos: u32, eos: u32, unk: Option<u32>) -> Result<(), String> {
    for (name, id) in [("bos", Some(bos)), ("eos", Some(eos)), ("unk", unk)] {
        if let Some(id) = id
            && id as usize >= size
        {
            return Err(format!(
                "the model's {name} is token {id}, but it has {size} tokens; correct secondpass.{name}_id"
            ));
        }
    }
    Ok(())
}

/// A stable hash over symbols in the order of their ids.
fn fingerprint<'a>(symbols: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hash = Sha256::new();
    for symbol in symbols {
        hash.update((symbol.len() as u64).to_le_bytes());
        hash.update(symbol);
    }
    hash.finalize().iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let load = |kind| beside(folder.path(), kind, 4, 0, 1, Some(2));
        let error = |kind| load(kind).err().unwrap().to_string();
        assert!(error("words").contains("tokens.txt or words.txt"));
        assert!(error("sentencepiece").contains("bpe.model"));
        assert!(error("characters").contains("not supported"));
        assert!(error("hieroglyphs").contains("\"words\" or \"sentencepiece\""));
        std::fs::write(folder.path().join("words.txt"), "<s>\n</s>\n<unk>\na\n").unwrap();
        assert_eq!(load("words").unwrap().symbol(3), Some(b"a".to_vec()));
        assert!(beside(folder.path(), "words", 4, 4, 1, None).is_err());
    }
}
