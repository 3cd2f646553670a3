//! Making texts comparable before they are scored: what is not an error must not count as one.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::wer::Scorer;
use crate::tokens::{Mapped, Markers, TextMap, split};
use crate::{Error, Result};

/// What is done to references and hypotheses alike before they are compared.
///
/// In this order: Unicode's composed form, markers dropped, words replaced, words mapped (case,
/// punctuation, digits), those replaced that are in the table only now, words dropped.
///
/// ```
/// use secondpass::eval::{Normaliser, Scorer};
/// // `é` as one character, and as two.
/// let mut scorer = Normaliser::default().scorer(Scorer::characters());
/// assert_eq!(scorer.reference("caf\u{e9}".as_bytes()), 4);
/// assert_eq!(scorer.counts("cafe\u{301}".as_bytes()).errors(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct Normaliser {
    /// Unicode normalisation form C, so that a letter counts once however its accents are written.
    /// Bytes that are not UTF-8 stay.
    pub compose: bool,
    /// Tokens that are no words.
    pub markers: Markers,
    /// Case, punctuation, hyphens and digits.
    pub map: TextMap,
    /// Words that stand for others: `gonna` for `going to`. A word is looked up as it stands in the text,
    /// and if it is not there, as the mapping leaves it. What has replaced a word is not replaced again.
    pub replacements: HashMap<Vec<u8>, Vec<u8>>,
    /// Words that count neither said nor heard, as they are after the mapping: `uh`, `um`.
    pub dropped: HashSet<Vec<u8>>,
}

impl Default for Normaliser {
    fn default() -> Self {
        Self {
            compose: true,
            markers: Markers::default(),
            map: TextMap::default(),
            replacements: HashMap::new(),
            dropped: HashSet::new(),
        }
    }
}

impl Normaliser {
    /// `scorer`, comparing texts so normalised.
    pub fn scorer(self, scorer: Scorer) -> Scorer {
        scorer.split_by(move |text, each| self.words(text, each))
    }

    /// Calls `each` with the words of a text.
    pub fn words(&self, text: &[u8], each: &mut dyn FnMut(&[u8])) {
        let text = if self.compose { composed(text) } else { Cow::Borrowed(text) };
        let (mut mapped, mut others) = (Mapped::default(), Mapped::default());
        let mut keep = |word: &[u8]| {
            if !self.dropped.contains(word) {
                each(word);
            }
        };
        let mut instead = |words: &[u8], keep: &mut dyn FnMut(&[u8])| {
            for word in split(words) {
                self.map.map(word, &mut others);
                others.iter().for_each(&mut *keep);
            }
        };
        for word in self.markers.words(&text) {
            if let Some(others) = self.replacements.get(word) {
                instead(others, &mut keep);
                continue;
            }
            self.map.map(word, &mut mapped);
            for word in mapped.iter() {
                match self.replacements.get(word) {
                    Some(others) => instead(others, &mut keep),
                    None => keep(word),
                }
            }
        }
    }

    /// Adds replacements, one a line: a word, white space, the words it stands for (none drops it).
    /// Lines that begin with `#` and empty ones are passed over.
    ///
    /// # Errors
    /// [`Error::Config`] where a word has two replacements.
    pub fn replace(&mut self, table: &[u8]) -> Result<()> {
        for (line, number) in table.split(|&byte| byte == b'\n').zip(1..) {
            let line = if self.compose { composed(line) } else { Cow::Borrowed(line) };
            let mut words = split(&line);
            let Some(word) = words.next().filter(|word| !word.starts_with(b"#")) else { continue };
            let others = words.collect::<Vec<_>>().join(&b' ');
            if self.replacements.insert(word.to_vec(), others).is_some() {
                let word = String::from_utf8_lossy(word);
                return Err(Error::Config(format!(
                    "line {number}: a second replacement for `{word}`; keep one"
                )));
            }
        }
        Ok(())
    }
}

/// The text in Unicode normalisation form C; stretches that are not UTF-8 as they are.
pub fn composed(text: &[u8]) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    if let Ok(text) = std::str::from_utf8(text)
        && is_nfc_quick(text.chars()) == IsNormalized::Yes
    {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().nfc().collect::<String>().as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Case;

    fn words(normaliser: &Normaliser, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        normaliser.words(text.as_bytes(), &mut |word| words.push(String::from_utf8_lossy(word).into_owned()));
        words
    }

    #[test]
    fn both_forms_of_unicode_are_one() {
        // Vietnamese, Korean, and an accent that no composed letter has.
        for (composed, decomposed) in [
            ("ti\u{1ebf}ng Vi\u{1ec7}t", "tie\u{302}\u{301}ng Vie\u{323}\u{302}t"),
            ("\u{d55c}\u{ad6d}", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}"),
            ("x\u{302}", "x\u{302}"),
        ] {
            for scorer in [Scorer::words, Scorer::characters, Scorer::characters_and_spaces] {
                let mut scorer = Normaliser::default().scorer(scorer());
                let length = scorer.reference(composed.as_bytes());
                assert_eq!(scorer.counts(decomposed.as_bytes()).errors(), 0, "{composed}");
                assert_eq!(scorer.reference(decomposed.as_bytes()), length, "{composed}");
                let a = scorer.counts(b"other text");
                scorer.reference(composed.as_bytes());
                assert_eq!(scorer.counts(b"other text"), a);
            }
        }
        let mut kept = Normaliser { compose: false, ..Normaliser::default() }.scorer(Scorer::characters());
        assert_eq!(
            (kept.reference("e\u{301}".as_bytes()), kept.counts("\u{e9}".as_bytes()).errors()),
            (2, 2)
        );
        assert_eq!(&*composed(b"\xffe\xcc\x81\xfe"), b"\xff\xc3\xa9\xfe");
    }

    #[test]
    fn words_are_replaced_mapped_and_dropped() {
        let mut normaliser = Normaliser {
            map: TextMap { case: Case::Lower, strip_punctuation: true, ..TextMap::default() },
            dropped: [b"uh".to_vec()].into(),
            ..Normaliser::default()
        };
        normaliser.replace(b"# spoken forms\ngonna\tgoing to\nMr. mister\n\n<noise>\nhm\n").unwrap();
        assert_eq!(
            words(&normaliser, "<s> Mr. Uh, I'm Gonna GO hm."),
            ["mister", "i'm", "going", "to", "go"]
        );
        // Once each: no chains, no circles.
        normaliser.replace(b"tis it's\nit's 'tis\n").unwrap();
        assert_eq!(words(&normaliser, "tis It's"), ["it's", "'tis"]);
        assert_eq!(words(&normaliser, "hm go"), ["go"]);
        assert!(normaliser.replace(b"a b\ngonna x").unwrap_err().to_string().contains("line 2"));
    }
}
