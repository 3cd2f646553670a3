//! n-gram language models with backoff: ARPA files and KenLM's binaries, scored exactly as KenLM
//! scores.
//!
//! [`Ngram`] is a [`LanguageModel`](super::LanguageModel); used on its own it scores sentences
//! ([`Ngram::score`]) and words after states ([`Ngram::full_score`]) in log10, with the bits that
//! KenLM gives for the same file (for ARPA: as a probing model).
//!
//! Every access to a file's bytes and to tables is bounds-checked, always: nothing here is `unsafe`, which
//! mapping a file and prefetching alone need (`lm/bytes.rs`, `lm/prefetch.rs`), so there is no unchecked
//! build to be told from a checked one.

mod arpa;
pub mod build;
pub mod compact;
pub mod estimate;
mod groups;
mod hashed;
mod info;
mod input;
mod kenlm;
mod keyed;
mod lanes;
mod line;
mod list;
mod modulo;
mod number;
mod pieces;
pub mod prune;
mod scorer;
mod search;
mod table;
mod vocab;
mod zstd;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

pub use self::arpa::read_arpa;
use self::compact::{Compact, Tables, Vocabulary};
use self::hashed::{Builder, Hashed};
pub use self::info::{Info, Section};
use self::input::{Lines, Opened};
use self::kenlm::{Kenlm, Search};
pub use self::pieces::PieceNgram;
use self::search::Lookup;
pub use self::search::{Full, State};
pub use self::vocab::Words;
pub use super::bytes::{Load, Unchanging};
use super::{Grain, Spec};
use crate::tokens::Vocab;
use crate::{Error, Result};

/// How to read an n-gram model.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// log10 probability of unknown words in ARPA files that list no `<unk>`; KenLM's -100 by
    /// default.
    pub missing_unk_log10: f32,
    /// How KenLM's binaries come into memory.
    pub load: Load,
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
    Kenlm(Kenlm),
    Compact(Compact),
    Tables(Tables),
}

/// Calls a function with the data structure of a model, whichever it is.
macro_rules! with {
    ($engine:expr, $model:ident => $call:expr) => {
        match $engine {
            Engine::Hashed($model) => $call,
            Engine::Compact($model) => $call,
            Engine::Tables($model) => $call,
            Engine::Kenlm(Kenlm { search: Search::Probing(model), .. }) => {
                let $model = &model.view();
                $call
            }
            Engine::Kenlm(Kenlm { search: Search::Trie($model), .. }) => $call,
        }
    };
}

impl Default for Options {
    fn default() -> Self {
        Self { missing_unk_log10: -100.0, load: Load::Read }
    }
}

impl Ngram {
    /// Opens an ARPA file, plain or packed with gzip, bzip2, xz or zstd, a KenLM binary of any
    /// type, or a [`compact`] file; the file's first bytes say which.
    ///
    /// An ARPA file takes time and memory in proportion to it, whatever its header claims. A binary
    /// takes its own size ([`Options::load`]) and a look at its words.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged or is of another kind. The message says what, where
    /// and what to do.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        Self::detect(path, Opened::file(path)?, options)
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
        Self::detect(name, Opened::stream(name, reader)?, options)
    }

    /// Whether a file that begins like this is one of the binaries that [`Ngram::open`] takes.
    pub fn is_binary(head: &[u8]) -> bool {
        kenlm::is_kenlm(head) || head.starts_with(compact::MAGIC)
    }

    /// Length of the longest n-grams.
    pub fn order(&self) -> usize {
        self.core.order()
    }

    /// Number of n-grams per order from 1, with `<unk>` and the blanks inserted for pruned
    /// suffixes; in KenLM's probing files without either.
    pub fn counts(&self) -> Vec<u64> {
        match &self.core.engine {
            Engine::Hashed(model) => model.counts(),
            Engine::Kenlm(model) => model.header.counts.clone(),
            Engine::Compact(model) => model.counts(),
            Engine::Tables(model) => model.counts(),
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

    /// Scores the words of many sentences, given as ids, after the state `begin`, several sentences
    /// side by side: faster than one by one where the model is larger than the processor's caches.
    /// `each` is called with a sentence's index, a word's index in it, and its
    /// score: for each sentence in the order of its words, but sentences in no order.
    ///
    /// `</s>` is scored if it is given as the last word ([`Words::eos`](crate::tokens::Vocab::eos)).
    /// An id that the model does not have is taken for the unknown word.
    pub fn score_batch(&self, begin: &State, sentences: &[&[u32]], each: impl FnMut(usize, usize, Full)) {
        let size = self.core.words.len();
        if sentences.iter().flat_map(|words| words.iter()).all(|&word| (word as usize) < size) {
            return with!(&self.core.engine, model => lanes::score(model, begin, sentences, each));
        }
        let known = |&word: &u32| if (word as usize) < size { word } else { 0 };
        let sane: Vec<Vec<u32>> = sentences.iter().map(|words| words.iter().map(known).collect()).collect();
        let sane: Vec<&[u32]> = sane.iter().map(Vec::as_slice).collect();
        with!(&self.core.engine, model => lanes::score(model, begin, &sane, each))
    }

    fn detect(name: &Path, opened: Opened, options: &Options) -> Result<Self> {
        if kenlm::is_kenlm(&opened.head) {
            let bytes = opened.bytes(options.load).map_err(|error| Error::io(name, error))?;
            let (model, lexicon) = kenlm::open(bytes).map_err(|what| Error::model(name, what))?;
            let unknown = model.missing_unk(&lexicon);
            let mut warnings = Vec::new();
            warnings.extend(unknown.map(|log10| missing_unk(name, log10)));
            return Ok(Self::of(Engine::Kenlm(model), lexicon.into(), warnings));
        }
        if opened.head.starts_with(compact::MAGIC) {
            let bytes = opened.bytes(options.load).map_err(|error| Error::io(name, error))?;
            let opened = compact::open(Arc::new(bytes), options.missing_unk_log10);
            let (model, Vocabulary { words, unknowns }) = opened.map_err(|what| Error::model(name, what))?;
            let engine = match model {
                compact::Opened::Size(model) => Engine::Compact(model),
                compact::Opened::Speed(model) => Engine::Tables(model),
            };
            return Ok(Self::of(engine, words, unknown_words(name, unknowns, options)));
        }
        let mut lines = Lines::new(name, opened)?;
        let mut words = Words::new();
        let mut builder = Builder::new(options.missing_unk_log10);
        let unknowns = arpa::read(&mut lines, &mut words, &mut builder)?;
        Ok(Self::of(Engine::Hashed(builder.finish()), words, unknown_words(name, unknowns, options)))
    }

    fn of(engine: Engine, words: Words, warnings: Vec<String>) -> Self {
        let words = Arc::new(words);
        let spec = Spec {
            vocab: words.clone(),
            grain: Grain::Token,
            backward: false,
            carries: false,
            carries_bos: false,
            context: Vec::new(),
            warnings,
        };
        Self { core: Arc::new(Core { engine, words }), spec }
    }
}

impl Core {
    fn order(&self) -> usize {
        with!(&self.engine, model => model.order())
    }

    fn begin(&self) -> State {
        if self.order() == 1 {
            return State::default();
        }
        let bos = self.words.bos();
        with!(&self.engine, model => {
            let (entry, path) = model.unigram(bos);
            State::of(bos, entry.backoff, model.link(&path))
        })
    }

    /// Scores words after states, several at a time; see [`lanes::words`]. Words are of the vocabulary.
    fn words_after(&self, states: &[State], pairs: &[(u32, u32)], out: &mut [search::Scored]) {
        with!(&self.engine, model => lanes::words(model, states, pairs, out));
    }

    fn full_score(&self, state: &State, word: u32, out: &mut State) -> Full {
        let word = if (word as usize) < self.words.len() { word } else { 0 };
        with!(&self.engine, model => search::full_score(model, state, word, out))
    }
}

/// What to say of a model that lists the unknown word so many times.
fn unknown_words(name: &Path, listed: u32, options: &Options) -> Vec<String> {
    match listed {
        0 => vec![missing_unk(name, options.missing_unk_log10)],
        1 => Vec::new(),
        _ => vec![format!(
            "{}: both <unk> and <UNK> are listed and are one word; the later line counts",
            name.display()
        )],
    }
}

fn missing_unk(name: &Path, log10: f32) -> String {
    format!(
        "{}: the model has no <unk>, so each unknown word costs log10 p = {log10}; set a penalty for unknown words, or train with an open vocabulary",
        name.display()
    )
}

#[cfg(test)]
mod tests;
