//! n-gram language models with backoff: read from ARPA files, scored exactly as KenLM scores.
//!
//! [`Ngram`] is a [`LanguageModel`](super::LanguageModel); used on its own it scores sentences
//! ([`Ngram::score`]) and words after states ([`Ngram::full_score`]) in log10, with the bits that
//! KenLM's probing model gives.

mod arpa;
mod hashed;
mod input;
mod number;
mod pieces;
mod scorer;
mod search;
mod table;
mod vocab;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use self::hashed::{Builder, Hashed};
use self::input::Lines;
pub use self::pieces::PieceNgram;
use self::search::Lookup;
pub use self::search::{Full, State};
pub use self::vocab::Words;
use super::{Grain, Spec};
use crate::Result;
use crate::tokens::Vocab;

/// How to read an n-gram model.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// log10 probability of unknown words in models that list no `<unk>`; KenLM's -100 by default.
    pub missing_unk_log10: f32,
}

/// An n-gram language model. Immutable; clones share it.
///
/// ```
/// use secondpass::lm::ngram::{Ngram, Options};
/// let arpa = "\\data\\\nngram 1=3\n\n\\1-grams:\n-99\t<s>\n-0.5\t</s>\n-0.25\ta\n\n\\end\\\n";
/// let model = Ngram::from_reader("tiny", arpa.as_bytes(), &Options::default())?;
/// let sentence = model.score(&[b"a", b"a"]);
/// assert_eq!(sentence.log10, -1.0);
/// # Ok::<(), secondpass::Error>(())
/// ```
#[derive(Clone)]
pub struct Ngram {
    core: Arc<Core>,
    spec: Spec,
}

/// A sentence's score.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentence {
    /// Each word, then `</s>`.
    pub words: Vec<Word>,
    /// log10 p(words, `</s>`): the running `f32` sum, as KenLM's `query` prints it.
    pub log10: f32,
    /// Number of words that the model does not know.
    pub oov: usize,
}

/// A word's score in its sentence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Word {
    /// The word's id; 0 if the model does not know it.
    pub id: u32,
    /// log10 p(word | the words before it).
    pub log10: f32,
    /// Length of the n-gram that matched.
    pub length: u8,
    /// Whether the model does not know it.
    pub oov: bool,
}

/// What scoring needs; shared with the scorers.
struct Core {
    engine: Engine,
    words: Arc<Words>,
}

/// The data structures that hold n-grams.
enum Engine {
    Hashed(Hashed),
}

impl Default for Options {
    fn default() -> Self {
        Self { missing_unk_log10: -100.0 }
    }
}

impl Ngram {
    /// Reads an ARPA file, plain or packed with gzip or bzip2; the file's first bytes say which.
    ///
    /// Takes time and memory in proportion to the file, whatever its header claims.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged or is of another kind. The message says what, where
    /// and what to do.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        Self::read(path, Lines::open(path)?, options)
    }

    /// Reads the same from a stream or from memory; `name` stands for the path in messages.
    ///
    /// # Errors
    /// As [`Ngram::open`].
    pub fn from_reader(
        name: impl AsRef<Path>,
        reader: impl Read + 'static,
        options: &Options,
    ) -> Result<Self> {
        let name = name.as_ref();
        Self::read(name, Lines::new(name, reader, None)?, options)
    }

    /// Length of the longest n-grams.
    pub fn order(&self) -> usize {
        self.core.order()
    }

    /// Number of n-grams per order from 1, with `<unk>` and the blanks inserted for pruned
    /// suffixes.
    pub fn counts(&self) -> Vec<u64> {
        match &self.core.engine {
            Engine::Hashed(model) => model.counts(),
        }
    }

    /// The words and their ids.
    pub fn words(&self) -> &Arc<Words> {
        &self.core.words
    }

    /// What the user should know before trusting the scores: one line each.
    pub fn warnings(&self) -> &[String] {
        &self.spec.warnings
    }

    /// The state of a sentence's beginning, after `<s>`.
    pub fn begin(&self) -> State {
        self.core.begin()
    }

    /// Scores a word after a state, writing the state after it to `out`. Does not allocate for
    /// models up to order 8.
    ///
    /// `State::default()` is the state without any context. An id that the model does not have is
    /// taken for the unknown word.
    pub fn full_score(&self, state: &State, word: u32, out: &mut State) -> Full {
        self.core.full_score(state, word, out)
    }

    /// Scores a whole sentence, its end included.
    pub fn score(&self, words: &[&[u8]]) -> Sentence {
        let mut state = self.begin();
        let mut next = State::default();
        let mut sentence = Sentence { words: Vec::with_capacity(words.len() + 1), log10: 0.0, oov: 0 };
        let ids = words.iter().map(|word| self.core.words.id(word));
        let end = std::iter::once(self.core.words.eos());
        for id in ids.chain(end) {
            let full = self.full_score(&state, id, &mut next);
            std::mem::swap(&mut state, &mut next);
            sentence.log10 += full.log10;
            sentence.oov += usize::from(id == 0);
            sentence.words.push(Word { id, log10: full.log10, length: full.length, oov: id == 0 });
        }
        sentence
    }

    fn read(name: &Path, mut lines: Lines, options: &Options) -> Result<Self> {
        let mut words = Words::new();
        let mut builder = Builder::new(options.missing_unk_log10);
        let unknowns = arpa::read(&mut lines, &mut words, &mut builder)?;
        let words = Arc::new(words);
        let name = name.display();
        let mut warnings = Vec::new();
        if unknowns == 0 {
            warnings.push(format!(
                "{name}: the model has no <unk>, so each unknown word costs log10 p = {}; set a penalty for unknown words, or train with an open vocabulary",
                options.missing_unk_log10
            ));
        }
        if unknowns > 1 {
            warnings.push(format!(
                "{name}: both <unk> and <UNK> are listed and are one word; the later line counts"
            ));
        }
        let spec = Spec {
            vocab: words.clone(),
            grain: Grain::Token,
            backward: false,
            carries: false,
            carries_bos: false,
            context: Vec::new(),
            warnings,
        };
        Ok(Self { core: Arc::new(Core { engine: Engine::Hashed(builder.finish()), words }), spec })
    }
}

impl Core {
    fn order(&self) -> usize {
        match &self.engine {
            Engine::Hashed(model) => model.order(),
        }
    }

    fn begin(&self) -> State {
        if self.order() == 1 {
            return State::default();
        }
        let bos = self.words.bos();
        let backoff = match &self.engine {
            Engine::Hashed(model) => model.unigram(bos).0.backoff,
        };
        State::of(bos, backoff)
    }

    fn full_score(&self, state: &State, word: u32, out: &mut State) -> Full {
        let word = if (word as usize) < self.words.len() { word } else { 0 };
        match &self.engine {
            Engine::Hashed(model) => search::full_score(model, state, word, out),
        }
    }
}

#[cfg(test)]
mod tests;
