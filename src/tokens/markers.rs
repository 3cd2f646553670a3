//! From a text to its words, as everybody counts them.

use serde::Deserialize;

use crate::{Error, Result};

/// Which tokens of a hypothesis are no words: sentence marks, pauses, noises. They are scored
/// and counted by none.
///
/// In a configuration: `"default"`, `"none"`, or a list of further markers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Spelling")]
pub struct Markers {
    exact: Vec<Vec<u8>>,
    /// First bytes of markers, in any letter case, as bits.
    starts: [u64; 4],
    brackets: bool,
}

impl Default for Markers {
    /// [`MARKERS`] in any letter case, and everything in square brackets (`[NOISE]`,
    /// `[laughter]`). The unknown word (`<unk>`, `[unk]`) is a word.
    fn default() -> Self {
        let mut brackets = Self { brackets: true, ..Self::none() };
        brackets.starting(b'[');
        MARKERS.iter().fold(brackets, |markers, &marker| markers.and(marker))
    }
}

impl Markers {
    /// No markers: every token is a word.
    pub fn none() -> Self {
        Self { exact: Vec::new(), starts: [0; 4], brackets: false }
    }

    /// One more marker.
    #[must_use]
    pub fn and(mut self, marker: impl Into<Vec<u8>>) -> Self {
        let marker = marker.into();
        if let Some(first) = marker.first() {
            self.starting(first.to_ascii_lowercase());
            self.starting(first.to_ascii_uppercase());
        }
        self.exact.push(marker);
        self
    }

    fn starting(&mut self, first: u8) {
        self.starts[usize::from(first >> 6)] |= 1 << (first & 63);
    }

    /// Whether a token is a marker and no word.
    pub fn contains(&self, token: &[u8]) -> bool {
        // Nearly every word differs in its first letter from all of them: it is asked of each word of each
        // hypothesis, and a look at the length of every marker would cost more than spelling the word.
        let Some(&first) = token.first() else { return false };
        if self.starts[usize::from(first >> 6)] >> (first & 63) & 1 == 0 {
            return false;
        }
        let bracketed = self.brackets && matches!(token, [b'[', _, .., b']']) && !is_unknown(token);
        bracketed || self.exact.iter().any(|marker| marker.eq_ignore_ascii_case(token))
    }

    /// The words of a text: split at ASCII white space, without markers. This is what `words`
    /// counts.
    pub fn words<'a>(&self, text: &'a [u8]) -> Vec<&'a [u8]> {
        // Most words have more letters than three.
        let mut words = Vec::with_capacity(text.len() / 4 + 1);
        words.extend(self.split(text));
        words
    }

    /// The same, one by one.
    pub fn split<'a>(&self, text: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        split(text).filter(|token| !self.contains(token))
    }

    /// How many words a text has: as many as [`Markers::words`] gives.
    pub fn count(&self, text: &[u8]) -> usize {
        self.split(text).count()
    }
}

/// The tokens of a text: split at ASCII white space, the vertical tab included.
pub fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|&byte| !is_space(byte))?;
        let (token, after) = rest[start..].split_at(until_space(&rest[start..]));
        rest = after;
        Some(token)
    })
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// How many bytes come before the first white space: every word of every hypothesis is looked for in this
/// way, eight bytes at once.
fn until_space(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let mut at = 0;
    while let Some(&next) = text[at..].first_chunk::<8>() {
        let next = u64::from_le_bytes(next);
        // The highest bit of each byte up to the space, and of some above the lowest such.
        let low = next.wrapping_sub(ONES * 0x21) & !next & (ONES * 0x80);
        let clear = (low.trailing_zeros() / 8) as usize;
        at += clear;
        if clear < 8 {
            if is_space(text[at]) {
                return at;
            }
            // Some other control character.
            at += 1;
        }
    }
    text[at..].iter().position(|&byte| is_space(byte)).map_or(text.len(), |more| at + more)
}

/// Whether a token is the unknown word as recognisers spell it.
pub fn is_unknown(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"<unk>") || token.eq_ignore_ascii_case(b"[unk]")
}

/// Sentence marks and pauses of the systems whose lists we read: SRILM, Kaldi, HTK, Sphinx,
/// ESPnet and icefall.
pub const MARKERS: [&str; 18] = [
    "<s>",
    "</s>",
    "<sos>",
    "<eos>",
    "<bos>",
    "<sos/eos>",
    "<eps>",
    "<blk>",
    "<blank>",
    "<pad>",
    "<sil>",
    "!SIL",
    "!NULL",
    "!ENTER",
    "!EXIT",
    "-pau-",
    "<noise>",
    "<spoken_noise>",
];

/// A configuration's `markers`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelling {
    Name(String),
    More(Vec<String>),
}

impl TryFrom<Spelling> for Markers {
    type Error = Error;

    fn try_from(spelling: Spelling) -> Result<Self> {
        match spelling {
            Spelling::Name(name) if name == "default" => Ok(Self::default()),
            Spelling::Name(name) if name == "none" => Ok(Self::none()),
            Spelling::Name(name) => Err(Error::config(format!(
                "unknown markers {name:?}: give \"default\", \"none\" or a list of further markers"
            ))),
            Spelling::More(list) => Ok(list.into_iter().fold(Self::default(), Self::and)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markers_are_no_words() {
        let markers = Markers::default();
        let words = |markers: &Markers, text: &'static str| -> Vec<_> {
            markers
                .words(text.as_bytes())
                .into_iter()
                .map(|word| std::str::from_utf8(word).unwrap())
                .collect()
        };
        assert_eq!(
            words(&markers, "<s> a <SIL>\tcat [NOISE] <unk> [unk] sat\x0b-pau- []\r\n</s>"),
            ["a", "cat", "<unk>", "[unk]", "sat", "[]"]
        );
        assert_eq!(words(&Markers::none(), "<s> [a]"), ["<s>", "[a]"]);
        assert_eq!(words(&markers.and("hm"), "hm a Hm"), ["a"]);
        assert_eq!(words(&Markers::none().and("\u{e9}h").and("[x]"), "\u{e9}h [X] [y]"), ["[y]"]);
    }

    #[test]
    fn options_as_written() {
        #[derive(Deserialize)]
        struct Options {
            markers: Markers,
        }
        let options = |text| toml::from_str::<Options>(text).map(|options| options.markers);
        assert_eq!(options("markers = \"none\"").unwrap(), Markers::none());
        assert_eq!(options("markers = [\"hm\"]").unwrap(), Markers::default().and("hm"));
        assert!(options("markers = \"all\"").unwrap_err().to_string().contains("\"none\""));
    }

    proptest! {
        #[test]
        fn texts_are_split_at_any_white_space(text in "[a\\x00\\x01\\x08-\\x0e\\x1f !\\x7f\u{a0}\u{e9}]{0,40}") {
            let space = |byte: &u8| *byte == 0x0b || byte.is_ascii_whitespace();
            let words = text.as_bytes().split(space).filter(|word| !word.is_empty());
            prop_assert_eq!(split(text.as_bytes()).collect::<Vec<_>>(), words.collect::<Vec<_>>());
        }
    }
}
