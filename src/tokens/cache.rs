//! Words already encoded, kept by each worker.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{Known, Mapped, TextMap, Vocab};

/// One worker's memory of the words it has encoded for one language model.
///
/// Lists repeat their words a thousandfold, and encoding a word is a search; a hit is one look
/// into a hash table. Bounded: emptied when it holds [`MOST_WORDS`].
#[derive(Debug, Default)]
pub struct WordCache {
    entries: HashMap<Box<[u8]>, Entry, RandomState>,
    /// Those of first words, where these are spelled otherwise.
    firsts: HashMap<Box<[u8]>, Entry, RandomState>,
    /// Tokens of all entries, and the word of each.
    ids: Vec<u32>,
    words: Vec<u32>,
    mapped: Mapped,
}

/// One word of a hypothesis as one language model sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded<'a> {
    /// The tokens; there may be none.
    pub ids: &'a [u32],
    /// Which of the language model's words, from 0, each token belongs to.
    pub words: &'a [u32],
    /// How many of its words there are.
    pub lm_words: u32,
    /// How many of these it does not know.
    pub oov: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    end: usize,
    lm_words: u32,
    oov: u32,
}

impl WordCache {
    /// Encodes one word of a hypothesis. A cache serves one vocabulary and one map: always give
    /// it the same. Never panics for any bytes.
    pub fn encode(&mut self, vocab: &dyn Vocab, map: &TextMap, word: &[u8]) -> Encoded<'_> {
        let entry = match self.entries.get(word) {
            Some(&entry) => entry,
            None => self.miss(vocab, map, word, false),
        };
        self.encoded(entry)
    }

    /// As [`WordCache::encode`], for a word before which a hypothesis has no tokens.
    pub fn encode_first(&mut self, vocab: &dyn Vocab, map: &TextMap, word: &[u8]) -> Encoded<'_> {
        if !vocab.first_differs() {
            return self.encode(vocab, map, word);
        }
        let entry = match self.firsts.get(word) {
            Some(&entry) => entry,
            None => self.miss(vocab, map, word, true),
        };
        self.encoded(entry)
    }

    fn encoded(&self, entry: Entry) -> Encoded<'_> {
        Encoded {
            ids: &self.ids[entry.start..entry.end],
            words: &self.words[entry.start..entry.end],
            lm_words: entry.lm_words,
            oov: entry.oov,
        }
    }

    /// Number of words held.
    pub fn len(&self) -> usize {
        self.entries.len() + self.firsts.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn miss(&mut self, vocab: &dyn Vocab, map: &TextMap, word: &[u8], first: bool) -> Entry {
        if self.len() >= MOST_WORDS || self.ids.len() >= MOST_TOKENS {
            self.entries.clear();
            self.firsts.clear();
            self.ids.clear();
            self.words.clear();
        }
        let start = self.ids.len();
        map.map(word, &mut self.mapped);
        let (mut lm_words, mut oov) = (0, 0);
        for part in self.mapped.iter() {
            let before = self.ids.len();
            let known = match first && before == start {
                true => vocab.encode_first(part, &mut self.ids),
                false => vocab.encode(part, &mut self.ids),
            };
            // The vocabulary's own normalisation may leave nothing of a word either.
            if self.ids.len() > before {
                self.words.resize(self.ids.len(), lm_words);
                lm_words += 1;
                oov += u32::from(known == Known::No);
            }
        }
        let entry = Entry { start, end: self.ids.len(), lm_words, oov };
        // A longer one will not come again; its tokens go with the next clearing.
        if word.len() <= LONGEST_WORD {
            let entries = if first { &mut self.firsts } else { &mut self.entries };
            entries.insert(word.into(), entry);
        }
        entry
    }
}

/// The cache is emptied when it holds this many words.
pub const MOST_WORDS: usize = 200_000;
const MOST_TOKENS: usize = 4 << 20;
const LONGEST_WORD: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{Case, Symbols};

    #[test]
    fn words_within_a_word() {
        let vocab =
            Symbols::parse("words.txt", b"<s> 0\n</s> 1\n<unk> 2\ntwenty 3\none 4\n", 5, 0, 1, Some(2))
                .unwrap();
        let map =
            TextMap { case: Case::Lower, strip_punctuation: true, split_hyphens: true, ..TextMap::default() };
        let mut cache = WordCache::default();
        for _ in 0..2 {
            let encoded = cache.encode(&vocab, &map, b"Twenty-nine,");
            assert_eq!(encoded, Encoded { ids: &[3, 2], words: &[0, 1], lm_words: 2, oov: 1 });
            let encoded = cache.encode(&vocab, &map, b"-");
            assert_eq!(encoded, Encoded { ids: &[], words: &[], lm_words: 0, oov: 0 });
        }
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn bounded() {
        let vocab = Symbols::parse("words.txt", b"<s>\n</s>\n<unk>\na\n", 4, 0, 1, Some(2)).unwrap();
        let mut cache = WordCache::default();
        let map = TextMap::default();
        for n in 0..MOST_WORDS + 10 {
            assert_eq!(cache.encode(&vocab, &map, format!("w{n}").as_bytes()).ids, [2]);
        }
        assert_eq!(cache.len(), 10);
        cache.encode(&vocab, &map, &[b'a'; 1000]);
        assert_eq!(cache.len(), 10);
        assert_eq!(cache.encode(&vocab, &map, b"a").ids, [3]);
    }
}
