//! From words to the token ids of one language model.
//!
//! A hypothesis is cut into words ([`Markers::words`]); for each language model a [`TextMap`]
//! writes a word as the model was trained to see it, and a [`Vocab`] spells that as token ids.
//! [`WordCache`] does the last two at once and remembers the answers.

mod beside;
mod cache;
mod characters;
mod charsmap;
mod fit;
mod huggingface;
mod list;
mod markers;
mod normalise;
mod numbers;
mod prefixes;
mod sentencepiece;
mod symbols;
mod viterbi;

pub use beside::{Choice, beside, open};
pub use cache::{Encoded, MOST_WORDS, WordCache};
pub use characters::Characters;
pub use fit::Fit;
pub use huggingface::HuggingFace;
pub use list::{List, Specials};
pub use markers::{MARKERS, Markers, is_unknown, split};
pub use normalise::{Case, Composition, Digits, Mapped, TextMap};
pub use sentencepiece::Pieces;
pub use symbols::Symbols;

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::Result;

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

    /// As [`Vocab::encode`], for the first word of a sentence, where that is spelled otherwise.
    fn encode_first(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        self.encode(word, ids)
    }

    /// Whether the first word of a sentence is spelled otherwise: without the token or the mark that
    /// stands between words. That a word starts there is then certain, whatever the tokens.
    fn first_differs(&self) -> bool {
        false
    }

    /// Whether a token begins a word. `true` for every token of a word-level vocabulary, and
    /// then [`Vocab::words`] is `true`.
    fn starts_word(&self, token: u32) -> bool;

    /// Whether every word is exactly one token.
    fn words(&self) -> bool;

    /// The spelling of a token, where it is known.
    fn symbol(&self, token: u32) -> Option<Vec<u8>>;

    /// A number that equal vocabularies share and others do not: the first 8 bytes of the SHA-256 of
    /// the symbols in the order of their ids, each followed by a line feed.
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

/// The first 8 bytes, as a number, of the SHA-256 of the symbols in the order of their ids, a line
/// feed after each: what `sha256sum` says of a file with one symbol on each line. Ids without a
/// symbol count as empty lines, but not after the last symbol.
fn fingerprint<'a>(symbols: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hash = Sha256::new();
    let mut missing = 0;
    for symbol in symbols {
        if symbol.is_empty() {
            missing += 1;
            continue;
        }
        (0..std::mem::take(&mut missing)).for_each(|_| hash.update(b"\n"));
        hash.update(symbol);
        hash.update(b"\n");
    }
    hash.finalize().iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Bytes of the character that a text begins with, by its first byte; no more than there are.
fn char_len(text: &[u8]) -> usize {
    let len = match text.first() {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    };
    len.min(text.len())
}
