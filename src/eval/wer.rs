//! Word and character errors: the counts that Kaldi's `compute-wer` and jiwer give, or those of
//! NIST's `sclite`.
//!
//! ```
//! use secondpass::eval::{Scorer, Tally};
//! let mut scorer = Scorer::words();
//! scorer.reference(b"a cat sat");
//! let counts = scorer.counts(b"a cat sad down");
//! assert_eq!((counts.substitutions, counts.insertions, counts.deletions), (1, 1, 0));
//!
//! let mut tally = Tally::default();
//! tally.add(counts);
//! assert!(tally.to_string().starts_with("%WER 66.67 [ 2 / 3, 1 ins, 0 del, 1 sub ]\n%SER 100.00 [ 1 / 1 ]"));
//! ```

use std::collections::HashMap;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use super::align::{Alignment, DELETE, INSERT};

/// What one hypothesis, or any number of them, got wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Words of the reference that came out as others.
    pub substitutions: u64,
    /// Words that were not said.
    pub insertions: u64,
    /// Words of the reference that are missing.
    pub deletions: u64,
    /// Words of the reference.
    pub reference: u64,
}

/// Counts of many utterances; its `Display` is the three lines of Kaldi's `compute-wer`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Errors over all utterances.
    pub counts: Counts,
    /// Utterances scored.
    pub sentences: u64,
    /// Utterances with at least one error.
    pub wrong: u64,
    /// References without a hypothesis, whether scored as empty or left out.
    pub absent: u64,
}

/// One step of an alignment, with the words as they were compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// The same in both.
    Correct(Vec<u8>),
    /// Said and recognised as something else.
    Substitution {
        /// What was said.
        reference: Vec<u8>,
        /// What was recognised.
        hypothesis: Vec<u8>,
    },
    /// Recognised, not said.
    Insertion(Vec<u8>),
    /// Said, not recognised.
    Deletion(Vec<u8>),
}

/// Calls its second argument with each word of a text: where the text is normalised for scoring.
pub type Split = dyn Fn(&[u8], &mut dyn FnMut(&[u8])) + Send + Sync;

/// Compares hypotheses with one reference after another.
///
/// The hypotheses of an utterance share the work done for its reference, and nothing is
/// allocated per hypothesis once the buffers have grown.
pub struct Scorer {
    split: Box<Split>,
    unit: Unit,
    alignment: Alignment,
    /// Numbers of the reference's words; any other word is [`UNKNOWN`].
    ids: HashMap<Vec<u8>, u32>,
    reference: Vec<u32>,
    hypothesis: Vec<u32>,
    row: Vec<u64>,
}

/// Splits at ASCII white space: what a [`Scorer`] does unless told otherwise.
pub fn white_space(text: &[u8], each: &mut dyn FnMut(&[u8])) {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).for_each(each);
}

/// The error rate of counts: errors / reference. 0 if both are 0, infinite for errors against
/// nothing.
pub fn rate(errors: u64, reference: u64) -> f64 {
    if errors == 0 { 0.0 } else { errors as f64 / reference as f64 }
}

impl Counts {
    /// The counts of an utterance of `reference` words for which nothing was recognised.
    pub fn missing(reference: u64) -> Self {
        Self { deletions: reference, reference, ..Self::default() }
    }

    /// Substitutions, insertions and deletions together.
    pub fn errors(&self) -> u64 {
        self.substitutions + self.insertions + self.deletions
    }

    /// The error rate, as [`rate`] gives it: 0.05 is 5 %.
    pub fn rate(&self) -> f64 {
        rate(self.errors(), self.reference)
    }
}

impl Tally {
    /// Adds the counts of one utterance.
    pub fn add(&mut self, counts: Counts) {
        self.counts += counts;
        self.sentences += 1;
        self.wrong += u64::from(counts.errors() > 0);
    }
}

impl Scorer {
    /// Counts words, split at ASCII white space.
    pub fn words() -> Self {
        Self::new(Unit::Word)
    }

    /// Counts characters (Unicode scalar values) without white space, as is usual for CER.
    /// A byte that is not UTF-8 counts as one character.
    pub fn characters() -> Self {
        Self::new(Unit::Character)
    }

    /// Counts characters and one space between words, as jiwer's `cer` does.
    pub fn characters_and_spaces() -> Self {
        Self::new(Unit::CharacterAndSpace)
    }

    /// Splits texts into words by `split`, which may also map case and drop punctuation or
    /// markers; both references and hypotheses go through it.
    pub fn split_by(mut self, split: impl Fn(&[u8], &mut dyn FnMut(&[u8])) + Send + Sync + 'static) -> Self {
        self.split = Box::new(split);
        self
    }

    /// Aligns by other costs than Levenshtein's.
    pub fn alignment(self, alignment: Alignment) -> Self {
        Self { alignment, ..self }
    }

    /// Sets what the next hypotheses are compared with; returns its length.
    pub fn reference(&mut self, text: &[u8]) -> u64 {
        let Self { split, unit, ids, reference, .. } = self;
        ids.clear();
        reference.clear();
        unit.each(&**split, text, &mut |part| {
            reference.push(match part {
                Part::Character(c) => c,
                Part::Word(word) => match ids.get(word) {
                    Some(&id) => id,
                    None => {
                        let id = ids.len() as u32;
                        ids.insert(word.to_vec(), id);
                        id
                    }
                },
            });
        });
        self.reference.len() as u64
    }

    /// The errors of a hypothesis. Where several alignments cost least, the split into kinds is the
    /// one that `compute-wer`, or `sclite`, reports. Time is the product of the lengths.
    pub fn counts(&mut self, hypothesis: &[u8]) -> Counts {
        let Self { split, unit, ids, hypothesis: words, .. } = self;
        words.clear();
        unit.each(&**split, hypothesis, &mut |part| {
            words.push(match part {
                Part::Character(c) => c,
                Part::Word(word) => ids.get(word).copied().unwrap_or(UNKNOWN),
            });
        });
        self.alignment.count(&self.reference, &self.hypothesis, &mut self.row)
    }

    /// A best alignment of two texts, the one Kaldi's `align-text`, or `sclite`, prints. With Levenshtein
    /// costs its split into kinds may differ from [`Scorer::counts`], its number of errors never. Takes a
    /// byte of memory for each pair of words; the reference of [`Scorer::counts`] stays.
    pub fn align(&self, reference: &[u8], hypothesis: &[u8]) -> Vec<Edit> {
        let (mut reference, mut hypothesis) = (self.parts(reference), self.parts(hypothesis));
        let steps = self.alignment.trace(&reference, &hypothesis);
        let width = hypothesis.len() + 1;
        let mut edits = Vec::with_capacity(reference.len().max(hypothesis.len()));
        loop {
            let step = steps[reference.len() * width + hypothesis.len()];
            let said = if step == INSERT { None } else { reference.pop() };
            let heard = if step == DELETE { None } else { hypothesis.pop() };
            edits.push(match (said, heard) {
                (Some(a), Some(b)) if a == b => Edit::Correct(a),
                (Some(reference), Some(hypothesis)) => Edit::Substitution { reference, hypothesis },
                (Some(a), None) => Edit::Deletion(a),
                (None, Some(b)) => Edit::Insertion(b),
                (None, None) => break,
            });
        }
        edits.reverse();
        edits
    }

    /// The words (or characters) of a text as they are compared.
    pub fn parts(&self, text: &[u8]) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        self.unit.each(&*self.split, text, &mut |part| {
            parts.push(match part {
                Part::Word(word) => word.to_vec(),
                Part::Character(c) => match char::from_u32(c) {
                    Some(c) => c.to_string().into_bytes(),
                    None => vec![(c - NOT_UTF8) as u8],
                },
            });
        });
        parts
    }

    fn new(unit: Unit) -> Self {
        Self {
            split: Box::new(white_space),
            unit,
            alignment: Alignment::Levenshtein,
            ids: HashMap::new(),
            reference: Vec::new(),
            hypothesis: Vec::new(),
            row: Vec::new(),
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.substitutions += other.substitutions;
        self.insertions += other.insertions;
        self.deletions += other.deletions;
        self.reference += other.reference;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { substitutions, insertions, deletions, reference } = self.counts;
        let errors = self.counts.errors();
        writeln!(
            f,
            "%WER {:.2} [ {errors} / {reference}, {insertions} ins, {deletions} del, {substitutions} sub ]{}",
            percent(errors, reference),
            if self.absent > 0 { " [PARTIAL]" } else { "" },
        )?;
        writeln!(
            f,
            "%SER {:.2} [ {} / {} ]",
            percent(self.wrong, self.sentences),
            self.wrong,
            self.sentences
        )?;
        write!(f, "Scored {} sentences, {} not present in hyp.", self.sentences, self.absent)
    }
}

impl fmt::Debug for Scorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scorer").field("unit", &self.unit).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Word,
    Character,
    CharacterAndSpace,
}

enum Part<'a> {
    Word(&'a [u8]),
    /// A scalar value, or [`NOT_UTF8`] and a byte.
    Character(u32),
}

impl Unit {
    fn each(self, split: &Split, text: &[u8], each: &mut dyn FnMut(Part<'_>)) {
        let mut first = true;
        split(text, &mut |word| {
            if self == Self::Word {
                return each(Part::Word(word));
            }
            if self == Self::CharacterAndSpace && !first {
                each(Part::Character(' '.into()));
            }
            first = false;
            for chunk in word.utf8_chunks() {
                chunk.valid().chars().for_each(|c| each(Part::Character(c.into())));
                chunk.invalid().iter().for_each(|&b| each(Part::Character(NOT_UTF8 + u32::from(b))));
            }
        });
    }
}

/// Kaldi computes in single precision; so that the last digit agrees, so do we.
fn percent(part: u64, whole: u64) -> f32 {
    if part == 0 { 0.0 } else { (100.0 * f64::from(part as f32) / f64::from(whole as f32)) as f32 }
}

const UNKNOWN: u32 = u32::MAX;
const NOT_UTF8: u32 = 0x11_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(mut scorer: Scorer, reference: &str, hypothesis: &str) -> [u64; 4] {
        scorer.reference(reference.as_bytes());
        let c = scorer.counts(hypothesis.as_bytes());
        [c.substitutions, c.insertions, c.deletions, c.reference]
    }

    #[test]
    fn by_hand() {
        let words = |a, b| counts(Scorer::words(), a, b);
        assert_eq!(words("", ""), [0, 0, 0, 0]);
        assert_eq!(words("a b", ""), [0, 0, 2, 2]);
        assert_eq!(words("", "a b"), [0, 2, 0, 0]);
        assert_eq!(words("a  b\tc\n", " a x c"), [1, 0, 0, 3]);
        assert_eq!(words("a b c d", "b c d e"), [0, 1, 1, 4]);
        assert_eq!(words("x", "y z"), [1, 1, 0, 1]);
        assert_eq!(counts(Scorer::characters(), "né à", "nea"), [2, 0, 0, 3]);
        assert_eq!(counts(Scorer::characters_and_spaces(), "né  à", " né a"), [1, 0, 0, 4]);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_characters() {
        let mut scorer = Scorer::characters();
        assert_eq!(scorer.reference(b"a\xff\xfe"), 3);
        assert_eq!(scorer.counts(b"a\xff\xfd").substitutions, 1);
        assert_eq!(scorer.align(b"\xff", b"\xff"), [Edit::Correct(vec![0xff])]);
    }

    #[test]
    fn the_split_normalises_both_sides() {
        let mut scorer = Scorer::words()
            .split_by(|text, each| white_space(text, &mut |word| each(&word.to_ascii_lowercase())));
        scorer.reference(b"The CAT");
        assert_eq!(scorer.counts(b"the cat").errors(), 0);
    }

    /// The totals are jiwer's, the split into kinds that of Kaldi's own code.
    #[test]
    fn as_jiwer_and_kaldi() {
        let mut scorers = [Scorer::words(), Scorer::characters_and_spaces(), Scorer::characters()];
        let mut lines = 0;
        for line in include_str!("../../fixtures/eval/wer.tsv").lines().filter(|l| !l.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let number = |n: usize| fields[n].parse::<u64>().unwrap();
            for (n, scorer) in scorers.iter_mut().enumerate() {
                let reference = scorer.reference(fields[0].as_bytes());
                let c = scorer.counts(fields[1].as_bytes());
                assert_eq!((c.errors(), reference), (number(2 + n), number(5 + n)), "{line}");
                if n == 0 {
                    assert_eq!(
                        [c.insertions, c.deletions, c.substitutions],
                        [8, 9, 10].map(number),
                        "{line}"
                    );
                }
            }
            lines += 1;
        }
        assert!(lines >= 2000);
    }

    #[test]
    fn kaldi_layout() {
        let counts = Counts { substitutions: 337, insertions: 45, deletions: 69, reference: 8234 };
        let mut tally = Tally { counts, sentences: 362, wrong: 120, absent: 0 };
        let text = "%WER 5.48 [ 451 / 8234, 45 ins, 69 del, 337 sub ]\n%SER 33.15 [ 120 / 362 ]\n\
                    Scored 362 sentences, 0 not present in hyp.";
        assert_eq!(tally.to_string(), text);
        tally.absent = 2;
        assert!(tally.to_string().contains("337 sub ] [PARTIAL]\n"));
        assert_eq!(
            Tally::default().to_string().lines().next(),
            Some("%WER 0.00 [ 0 / 0, 0 ins, 0 del, 0 sub ]")
        );
        assert_eq!(Counts::missing(3).rate(), 1.0);
        assert_eq!(rate(1, 0), f64::INFINITY);
    }

    proptest! {
        #[test]
        fn alignments_and_counts_agree(reference in "[a-c ]{0,16}", hypothesis in "[a-d ]{0,16}") {
            let mut scorer = Scorer::words();
            scorer.reference(reference.as_bytes());
            let counts = scorer.counts(hypothesis.as_bytes());
            let (mut said, mut heard, mut errors) = (Vec::new(), Vec::new(), 0);
            for edit in scorer.align(reference.as_bytes(), hypothesis.as_bytes()) {
                errors += u64::from(!matches!(edit, Edit::Correct(_)));
                match edit {
                    Edit::Correct(a) => { said.push(a.clone()); heard.push(a) }
                    Edit::Substitution { reference, hypothesis } => { said.push(reference); heard.push(hypothesis) }
                    Edit::Insertion(a) => heard.push(a),
                    Edit::Deletion(a) => said.push(a),
                }
            }
            let words = |text: &str| -> Vec<Vec<u8>> { text.split_ascii_whitespace().map(|w| w.into()).collect() };
            prop_assert_eq!((said, heard), (words(&reference), words(&hypothesis)));
            prop_assert_eq!(errors, counts.errors());
        }
    }
}
