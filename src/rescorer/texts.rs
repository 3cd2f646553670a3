//! The words of a list by number: texts are split and their words looked up once, for all models.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::Utterance;
use crate::tokens::Markers;

/// The words of a list's hypotheses, equal words by one number, from 0.
pub(super) struct Texts {
    numbers: Vec<u32>,
    /// Where each hypothesis begins, and the last ends.
    begins: Vec<usize>,
    /// The distinct words one after another, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    pub fn new(utterance: &Utterance, markers: &Markers) -> Self {
        let mut texts = Self {
            numbers: Vec::with_capacity(utterance.hypotheses.iter().map(|one| one.bytes.len() / 4 + 1).sum()),
            begins: Vec::with_capacity(utterance.hypotheses.len() + 1),
            bytes: Vec::new(),
            ends: Vec::new(),
        };
        // Seeded by chance: texts are others'.
        let mut known: HashMap<&[u8], u32, _> = HashMap::with_capacity_and_hasher(64, RandomState::default());
        for hypothesis in &utterance.hypotheses {
            texts.begins.push(texts.numbers.len());
            for word in markers.split(&hypothesis.bytes) {
                let number = *known.entry(word).or_insert_with(|| {
                    texts.bytes.extend_from_slice(word);
                    texts.ends.push(texts.bytes.len());
                    texts.ends.len() as u32 - 1
                });
                texts.numbers.push(number);
            }
        }
        texts.begins.push(texts.numbers.len());
        texts
    }

    /// The words of a hypothesis.
    pub fn of(&self, hypothesis: usize) -> &[u32] {
        &self.numbers[self.begins[hypothesis]..self.begins[hypothesis + 1]]
    }

    /// What a number stands for.
    pub fn word(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin..self.ends[number]]
    }

    /// How many words are distinct.
    pub fn distinct(&self) -> usize {
        self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hypothesis;

    #[test]
    fn equal_words_have_one_number_and_markers_none() {
        let hypothesis = |text: &str| Hypothesis::new(text, 1);
        let hypotheses = [" a bb\t<sil> a", "", "bb ccc  a"].map(hypothesis).to_vec();
        let utterance = Utterance { hypotheses, ..Utterance::default() };
        let texts = Texts::new(&utterance, &Markers::none().and("<sil>"));
        assert_eq!([0, 1, 2].map(|at| texts.of(at)), [&[0, 1, 0][..], &[], &[1, 2, 0]]);
        assert_eq!([0, 1, 2].map(|number| texts.word(number)), [&b"a"[..], b"bb", b"ccc"]);
        assert_eq!(texts.distinct(), 3);
    }
}
