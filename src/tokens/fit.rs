//! Does a vocabulary fit the lists? Said early, not discovered in the results.

use super::{Case, TextMap, Vocab, WordCache};

/// Counts, over the first records, the words that a language model does not know, and what
/// another text mapping would make of it.
#[derive(Debug)]
pub struct Fit {
    name: String,
    records: u64,
    /// Words that are written as pieces of words, and all that were given.
    pieces: u64,
    given: u64,
    as_set: Count,
    /// What could be set instead, smallest change first.
    others: Vec<(Change, Count)>,
}

#[derive(Debug, Default)]
struct Count {
    words: u64,
    oov: u64,
    cache: WordCache,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    case: Option<Case>,
    strip: bool,
}

impl Fit {
    /// Starts counting for the language model of that name.
    pub fn new(name: impl Into<String>) -> Self {
        let others = CHANGES.map(|change| (change, Count::default())).into();
        Self { name: name.into(), records: 0, pieces: 0, given: 0, as_set: Count::default(), others }
    }

    /// Counts the words of one record (one hypothesis of it is enough).
    pub fn observe(&mut self, vocab: &dyn Vocab, map: &TextMap, words: &[&[u8]]) {
        self.records += 1;
        for word in words {
            self.given += 1;
            self.pieces += u64::from(is_piece(word));
            self.as_set.add(vocab, map, word);
            for (change, count) in &mut self.others {
                count.add(vocab, &change.of(map), word);
            }
        }
    }

    /// Records counted so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Words counted so far, as the language model sees them.
    pub fn words(&self) -> u64 {
        self.as_set.words
    }

    /// How many of these it does not know.
    pub fn oov(&self) -> u64 {
        self.as_set.oov
    }

    /// What does not fit and what to set, one line each; none if there is nothing to say.
    pub fn warnings(&self) -> Vec<String> {
        let rate = self.as_set.rate();
        if self.as_set.words < FEWEST_WORDS || rate < WORTH_SAYING {
            return Vec::new();
        }
        let mut warning = format!(
            "{}: {} of the words of the first {} records are unknown",
            self.name,
            percent(rate),
            self.records
        );
        // Spelled in pieces, whatever the case may be.
        if 5 * self.pieces > self.given {
            return vec![format!(
                "{warning}; the texts are written in pieces of words (\u{2581}, @@): give them as words, or token ids with \
                 ids = true"
            )];
        }
        let best = self.others.iter().reduce(|best, other| {
            // A larger change must be worth it.
            if other.1.rate() < 0.9 * best.1.rate() - 0.005 { other } else { best }
        });
        match best {
            Some((change, count)) if count.rate() < 0.5 * rate => {
                warning +=
                    &format!("; {} {}: set {}", percent(count.rate()), change.effect(), change.setting());
            }
            _ => warning += "; is it a model of this language and text?",
        }
        vec![warning]
    }
}

impl Count {
    /// Counts one word; returns how many unknown words are in it.
    fn add(&mut self, vocab: &dyn Vocab, map: &TextMap, word: &[u8]) -> u32 {
        let encoded = self.cache.encode(vocab, map, word);
        let oov = encoded.oov;
        self.words += u64::from(encoded.lm_words);
        self.oov += u64::from(oov);
        oov
    }

    fn rate(&self) -> f64 {
        self.oov as f64 / self.words.max(1) as f64
    }
}

impl Change {
    fn of(self, map: &TextMap) -> TextMap {
        let mut map = map.clone();
        map.case = self.case.unwrap_or(map.case);
        map.strip_punctuation |= self.strip;
        map
    }

    fn effect(self) -> String {
        let case = self.case.map(|case| match case {
            Case::Upper => "in upper case",
            _ => "in lower case",
        });
        let strip = self.strip.then_some("without punctuation");
        case.into_iter().chain(strip).collect::<Vec<_>>().join(" and ")
    }

    fn setting(self) -> String {
        let case = self.case.map(|case| match case {
            Case::Upper => "case = \"upper\"",
            _ => "case = \"lower\"",
        });
        let strip = self.strip.then_some("strip_punctuation = true");
        case.into_iter().chain(strip).collect::<Vec<_>>().join(" and ")
    }
}

/// Whether a word is written as SentencePiece's or subword-nmt's pieces are.
fn is_piece(word: &[u8]) -> bool {
    word.starts_with("\u{2581}".as_bytes()) || word.len() > 2 && word.ends_with(b"@@")
}

/// A share, with a decimal only where it says something.
fn percent(rate: f64) -> String {
    let percent = 100.0 * rate;
    if percent > 0.0 && percent < 1.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

const CHANGES: [Change; 5] = [
    Change { case: Some(Case::Lower), strip: false },
    Change { case: Some(Case::Upper), strip: false },
    Change { case: None, strip: true },
    Change { case: Some(Case::Lower), strip: true },
    Change { case: Some(Case::Upper), strip: true },
];
/// Fewer words than this say nothing.
const FEWEST_WORDS: u64 = 20;

/// Unknown words are common; one in ten is not.
const WORTH_SAYING: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{Markers, Symbols};

    fn warnings(map: &TextMap, text: &str) -> Vec<String> {
        let vocab =
            Symbols::parse("words.txt", b"<s>\n</s>\n<unk>\na\ncat\nsat\n", 6, 0, 1, Some(2)).unwrap();
        let mut fit = Fit::new("rnnlm");
        for _ in 0..10 {
            fit.observe(&vocab, map, &Markers::default().words(text.as_bytes()));
        }
        assert_eq!(fit.records(), 10);
        fit.warnings()
    }

    #[test]
    fn what_to_set() {
        let keep = TextMap::default();
        let said = |text| warnings(&keep, text).pop().unwrap_or_default();
        assert_eq!(said("a cat sat"), "");
        assert_eq!(
            said("A CAT sat"),
            "rnnlm: 67 % of the words of the first 10 records are unknown; 0 % in lower case: set case = \"lower\""
        );
        assert!(said("a cat, sat.").ends_with("0 % without punctuation: set strip_punctuation = true"));
        assert!(said("A Cat, sat.").ends_with("set case = \"lower\" and strip_punctuation = true"));
        assert!(said("le chat est assis le").ends_with("; is it a model of this language and text?"));
        let said = warnings(&keep, "\u{2581}a c@@ at sat").pop().unwrap_or_default();
        assert!(said.ends_with("give them as words, or token ids with ids = true"), "{said}");
        let lower = TextMap { case: Case::Lower, ..TextMap::default() };
        assert!(warnings(&lower, "A CAT sat").is_empty());
    }
}
