//! From words to the token ids of one language model.

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
    /// knows all of it. Never panics for any bytes.
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
pub type Loader = fn(&std::path::Path) -> Result<std::sync::Arc<dyn Vocab>>;
