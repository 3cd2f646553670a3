//! From words to what one language model was trained on.
//!
//! [`Markers::words`](super::Markers::words) gives the words of a text as everybody counts them. Each
//! language model then has a [`TextMap`], which turns one of these words into zero or more of its own
//! ("Twenty-One," into "twenty-one"). Nothing here changes what is written out.
//!
//! Text is bytes: valid UTF-8 stretches are mapped by Unicode's rules, other bytes stay as they
//! are.

use std::borrow::Cow;

use serde::Deserialize;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::numbers;

/// How words are mapped for one language model; the default changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TextMap {
    /// Letter case.
    pub case: Case,
    /// Strips punctuation around words, and words that are nothing else; writes typographic
    /// apostrophes and hyphens as `'` and `-`, and splits words at dashes and ellipses.
    ///
    /// Apostrophes and hyphens inside a word stay, and so do the apostrophes of `'tis` and
    /// `dogs'`, but not those around `'quoted'`.
    pub strip_punctuation: bool,
    /// Splits `twenty-one` into two words.
    pub split_hyphens: bool,
    /// Numbers in figures.
    pub digits: Digits,
    /// How characters are composed.
    pub unicode: Composition,
}

/// What to do with letter case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// Leave it.
    #[default]
    Keep,
    /// To lower case.
    Lower,
    /// To upper case.
    Upper,
}

/// What to do with numbers in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Digits {
    /// Leave them.
    #[default]
    Keep,
    /// Spell whole numbers below a thousand million as English cardinals, one word each:
    /// `21` and `1,021` become `twenty one` and `one thousand twenty one`. Anything else with a
    /// digit in it (`3.5`, `21st`) is left.
    Spell,
}

/// What to do with characters that Unicode spells in more than one way: `é` as one code point or as
/// letter and accent, a Korean syllable as one or as its letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Composition {
    /// Leave them.
    #[default]
    Keep,
    /// Compose them (normalisation form C), as most text and most models have them.
    Nfc,
}

/// The words that one word was mapped to.
#[derive(Debug, Clone, Default)]
pub struct Mapped {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl TextMap {
    /// Whether every word stays as it is.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// Replaces `out` by the words that `word` becomes; there may be none. Never panics for any
    /// bytes.
    pub fn map(&self, word: &[u8], out: &mut Mapped) {
        out.clear();
        let composed = match self.unicode {
            Composition::Keep => Cow::Borrowed(word),
            Composition::Nfc => compose(word),
        };
        let word = &*composed;
        if self.is_identity() {
            out.push(word);
        } else if self.strip_punctuation {
            let plain = plain_marks(word);
            for part in split_at_dashes(&plain) {
                self.hyphens(trim(part), out);
            }
        } else {
            self.hyphens(word, out);
        }
    }

    fn hyphens(&self, word: &[u8], out: &mut Mapped) {
        if self.split_hyphens && word.contains(&b'-') {
            word.split(|&byte| byte == b'-').for_each(|part| self.finish(part, out));
        } else {
            self.finish(word, out);
        }
    }

    fn finish(&self, word: &[u8], out: &mut Mapped) {
        if word.is_empty() {
            return;
        }
        if self.digits == Digits::Spell
            && let Some(number) = numbers::parse(word)
        {
            numbers::spell(number, |part| out.push(&self.cased(part.as_bytes())));
        } else {
            out.push(&self.cased(word));
        }
    }

    fn cased(&self, word: &[u8]) -> Vec<u8> {
        match self.case {
            Case::Keep => return word.to_vec(),
            Case::Lower if word.is_ascii() => return word.to_ascii_lowercase(),
            Case::Upper if word.is_ascii() => return word.to_ascii_uppercase(),
            _ => {}
        }
        let mut cased = Vec::with_capacity(word.len());
        for chunk in word.utf8_chunks() {
            let text = match self.case {
                Case::Upper => chunk.valid().to_uppercase(),
                _ => chunk.valid().to_lowercase(),
            };
            cased.extend_from_slice(text.as_bytes());
            cased.extend_from_slice(chunk.invalid());
        }
        cased
    }
}

impl Mapped {
    /// The words in order; none is empty.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().scan(0, |start, &end| Some(&self.bytes[std::mem::replace(start, end)..end]))
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the word became nothing.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
    }
}

/// Normalisation form C.
fn compose(word: &[u8]) -> Cow<'_, [u8]> {
    let composed = |text: &str| is_nfc_quick(text.chars()) == IsNormalized::Yes;
    if word.is_ascii() || word.utf8_chunks().all(|chunk| composed(chunk.valid())) {
        return Cow::Borrowed(word);
    }
    let mut bytes = Vec::with_capacity(word.len());
    for chunk in word.utf8_chunks() {
        for c in chunk.valid().nfc() {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        bytes.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(bytes)
}

/// Typographic apostrophes and hyphens as ASCII.
fn plain_marks(word: &[u8]) -> Vec<u8> {
    if word.is_ascii() {
        return word.to_vec();
    }
    let mut plain = Vec::with_capacity(word.len());
    for chunk in word.utf8_chunks() {
        for c in chunk.valid().chars() {
            let c = match c {
                '\u{2018}' | '\u{2019}' | '\u{02bc}' | '\u{ff07}' => '\'',
                '\u{2010}' | '\u{2011}' => '-',
                c => c,
            };
            plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        plain.extend_from_slice(chunk.invalid());
    }
    plain
}

/// Parts between dashes and ellipses, which join words without white space.
fn split_at_dashes(word: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(word);
    std::iter::from_fn(move || {
        let word = rest?;
        let cut = (0..word.len())
            .find_map(|at| JOINTS.iter().find(|j| word[at..].starts_with(j)).map(|j| (at, j.len())));
        rest = cut.map(|(at, len)| &word[at + len..]);
        Some(cut.map_or(word, |(at, _)| &word[..at]))
    })
}

/// A word without the punctuation around it.
fn trim(word: &[u8]) -> &[u8] {
    let mut inner = word;
    loop {
        while let Some(c) = first(inner).filter(|&c| c != '\'' && is_punctuation(c)) {
            inner = &inner[c.len_utf8()..];
        }
        while let Some(c) = last(inner).filter(|&c| c != '\'' && is_punctuation(c)) {
            inner = &inner[..inner.len() - c.len_utf8()];
        }
        let opened = inner.first() == Some(&b'\'');
        let closed = inner.len() > 1 && inner.last() == Some(&b'\'');
        // 'tis and dogs' keep theirs.
        let elision = opened && !closed && inner.get(1).is_some_and(|&byte| byte != b'\'' && byte != b'-');
        let genitive = closed && !opened && matches!(inner[inner.len() - 2], b's' | b'S');
        if elision || genitive || !(opened || closed) {
            return inner;
        }
        // What the quotes enclosed may end in punctuation again: 'well,'
        inner = &inner[usize::from(opened)..inner.len() - usize::from(closed)];
    }
}

fn first(word: &[u8]) -> Option<char> {
    (1..=word.len().min(4)).find_map(|len| std::str::from_utf8(&word[..len]).ok()?.chars().next())
}

fn last(word: &[u8]) -> Option<char> {
    (1..=word.len().min(4))
        .find_map(|len| std::str::from_utf8(&word[word.len() - len..]).ok()?.chars().next())
}

/// Punctuation and the symbols written beside words. The complement of letters and digits would
/// not do: it has the vowel signs of Indic scripts in it.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(c,
            '\u{a1}'..='\u{a9}' | '\u{ab}'..='\u{b1}' | '\u{b4}' | '\u{b6}'..='\u{b8}' | '\u{bb}' | '\u{bf}'
            | '\u{37e}' | '\u{387}' | '\u{55a}'..='\u{55f}' | '\u{589}' | '\u{5be}' | '\u{5c0}' | '\u{5c3}'
            | '\u{5f3}' | '\u{5f4}' | '\u{60c}' | '\u{61b}' | '\u{61f}' | '\u{66a}'..='\u{66d}' | '\u{6d4}'
            | '\u{964}' | '\u{965}' | '\u{1361}'..='\u{1368}' | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}'
            | '\u{20a0}'..='\u{20c0}' | '\u{2122}' | '\u{2669}'..='\u{266f}' | '\u{3001}'..='\u{3003}'
            | '\u{3008}'..='\u{3020}' | '\u{30fb}' | '\u{fe50}'..='\u{fe6b}' | '\u{ff01}'..='\u{ff0f}'
            | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}')
}

/// Em and en dash, two or three hyphens, ellipsis; longest first.
const JOINTS: [&[u8]; 7] = [
    "\u{2014}".as_bytes(),
    "\u{2013}".as_bytes(),
    "\u{2015}".as_bytes(),
    "\u{2026}".as_bytes(),
    b"---",
    b"--",
    b"...",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(map: &TextMap, word: &str) -> String {
        let mut out = Mapped::default();
        map.map(word.as_bytes(), &mut out);
        let words: Vec<_> = out.iter().map(|word| String::from_utf8(word.to_vec()).unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn punctuation_case_and_digits() {
        let whisper = TextMap { case: Case::Lower, strip_punctuation: true, ..TextMap::default() };
        for (word, expected) in [
            ("Hello,", "hello"),
            ("\u{201c}Well,\u{201d}", "well"),
            ("-", ""),
            ("...", ""),
            ("don\u{2019}t", "don't"),
            ("Twenty-One.", "twenty-one"),
            ("'Tis", "'tis"),
            ("dogs'", "dogs'"),
            ("'quoted'", "quoted"),
            ("\u{2018}well,\u{2019}", "well"),
            ("wait\u{2014}what?", "wait what"),
            ("no--yes", "no yes"),
            ("so...what", "so what"),
            ("\u{c9}T\u{c9}", "\u{e9}t\u{e9}"),
            ("$5", "5"),
            ("3.5%", "3.5"),
            ("&", ""),
            ("'", ""),
            ("''", ""),
            ("''a''", "a"),
            ("\u{39f}\u{394}\u{39f}\u{3a3}", "\u{3bf}\u{3b4}\u{3bf}\u{3c2}"),
            ("\u{bf}qu\u{e9}?", "qu\u{e9}"),
            ("\u{92a}\u{94d}\u{964}", "\u{92a}\u{94d}"),
            ("U.S.", "u.s"),
        ] {
            assert_eq!(map(&whisper, word), expected, "{word}");
        }
        assert_eq!(map(&TextMap::default(), "Hello,"), "Hello,");
        let upper = TextMap { case: Case::Upper, ..TextMap::default() };
        assert_eq!(map(&upper, "stra\u{df}e,"), "STRASSE,");
        let split = TextMap { split_hyphens: true, ..TextMap::default() };
        assert_eq!(map(&split, "up-to-date-"), "up to date");
        let spell = TextMap {
            digits: Digits::Spell,
            case: Case::Upper,
            strip_punctuation: true,
            ..TextMap::default()
        };
        assert_eq!(map(&spell, "1,021."), "ONE THOUSAND TWENTY ONE");
        assert_eq!(map(&spell, "21st"), "21ST");
    }

    #[test]
    fn other_bytes_stay() {
        let mut out = Mapped::default();
        let all = TextMap { case: Case::Upper, strip_punctuation: true, ..TextMap::default() };
        all.map(b"\"\xff\xc3\xa9a\xfe,", &mut out);
        assert_eq!(out.iter().collect::<Vec<_>>(), [b"\xff\xc3\x89A\xfe"]);
    }

    /// What Python's `unicodedata.normalize("NFC", ..)` says.
    #[test]
    fn composed_characters() {
        let nfc = TextMap { unicode: Composition::Nfc, ..TextMap::default() };
        for (word, expected) in [
            ("\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}", "\u{d55c}\u{ae00}"),
            ("\u{d55c}\u{ae00}", "\u{d55c}\u{ae00}"),
            ("e\u{301}t\u{e9}", "\u{e9}t\u{e9}"),
            ("\u{212b}", "\u{c5}"),
            ("q\u{307}\u{323}", "q\u{323}\u{307}"),
            ("\u{fb01}", "\u{fb01}"),
        ] {
            assert_eq!(map(&nfc, word), expected, "{word}");
        }
        assert_eq!(map(&TextMap::default(), "e\u{301}"), "e\u{301}");
        let mut out = Mapped::default();
        nfc.map(b"\xffe\xcc\x81\xfe", &mut out);
        assert_eq!(out.iter().collect::<Vec<_>>(), [b"\xff\xc3\xa9\xfe"]);
    }

    #[test]
    fn options_as_written() {
        let map: TextMap =
            toml::from_str("case = \"lower\"\nstrip_punctuation = true\ndigits = \"spell\"").unwrap();
        assert_eq!((map.case, map.strip_punctuation, map.digits), (Case::Lower, true, Digits::Spell));
        let error = toml::from_str::<TextMap>("case = \"small\"").unwrap_err().to_string();
        assert!(["keep", "lower", "upper"].iter().all(|valid| error.contains(valid)), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes(word: Vec<u8>, lower: bool, strip_punctuation: bool, split_hyphens: bool) {
            let case = if lower { Case::Lower } else { Case::Upper };
            let mut out = Mapped::default();
            TextMap { case, strip_punctuation, split_hyphens, digits: Digits::Spell, unicode: Composition::Nfc }
                .map(&word, &mut out);
            prop_assert!(out.iter().all(|word| !word.is_empty()));
            prop_assert_eq!(out.iter().count(), out.len());
        }

        #[test]
        fn any_marks(word in "['\"\u{2019},.a\u{e9}-]{0,12}") {
            let strip = TextMap { strip_punctuation: true, ..TextMap::default() };
            let once = map(&strip, &word);
            let twice: Vec<_> = once.split(' ').map(|word| map(&strip, word)).collect();
            prop_assert_eq!(twice.join(" "), once);
        }
    }
}
