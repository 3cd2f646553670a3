//! What toolkits do to a text before SentencePiece sees it.

use super::SPACE;
use crate::tokens::List;
use crate::tokens::prefixes::Prefixes;

/// How a word is prepared.
#[derive(Debug)]
pub(super) enum Front {
    /// Not at all.
    Plain,
    /// WeNet's mixed units: Han characters are tokens by themselves, looked up in the list.
    Han(Prefixes),
    /// icefall's byte-level BPE: characters of East Asian scripts become words, and bytes printable
    /// characters. With `upper` letters become upper case, as the pieces are.
    Bytes {
        /// Whether the pieces have capital letters only.
        upper: bool,
    },
}

/// A part of a word.
pub(super) enum Part<'a> {
    /// To be encoded as a word.
    Text(&'a str),
    /// A character that is a token by itself, if the list has it.
    Listed(Option<u32>),
}

impl Front {
    /// What the pieces of a model and the list beside it tell.
    pub fn new<'a>(pieces: impl Iterator<Item = &'a [u8]> + Clone, list: Option<&List>) -> Self {
        let texts = || pieces.clone().filter_map(|piece| std::str::from_utf8(piece).ok());
        let characters = || texts().flat_map(str::chars).filter(|&c| c != SPACE_CHAR);
        // Every byte has a piece there, and most of these are no letters of any text.
        let coded = characters().all(|c| byte_of(c).is_some());
        if coded
            && texts()
                .filter(|text| text.chars().count() == 1)
                .filter_map(|t| t.chars().next())
                .filter(|&c| u32::from(c) >= 256)
                .count()
                > 100
        {
            let lower = characters().any(|c| c.is_ascii_lowercase());
            return Self::Bytes { upper: !lower && characters().any(|c| c.is_ascii_uppercase()) };
        }
        let own: std::collections::HashSet<&[u8]> = pieces.clone().collect();
        let han = || list.into_iter().flat_map(List::iter).filter(|(symbol, _)| is_han(symbol));
        if han().any(|(symbol, _)| !own.contains(symbol)) {
            Self::Han(Prefixes::new(han()))
        } else {
            Self::Plain
        }
    }

    /// Whether a word can begin with this symbol. A Han character in a list stands for both: one that
    /// begins a word and one that does not.
    pub fn starts_word(&self, symbol: &[u8]) -> bool {
        symbol.starts_with(SPACE.as_bytes()) || matches!(self, Self::Han(_)) && is_han(symbol)
    }

    /// Calls `each` with the parts of a word; ends with the first `None`.
    pub fn parts(&self, word: &str, mut each: impl FnMut(Part<'_>) -> Option<()>) -> Option<()> {
        match self {
            Self::Plain => each(Part::Text(word)),
            Self::Han(list) => split(
                word,
                |c| ('\u{4e00}'..='\u{9fff}').contains(&c),
                |part, alone| match alone {
                    true => each(Part::Listed(list.find(part.as_bytes()))),
                    false => each(Part::Text(part)),
                },
            ),
            Self::Bytes { upper } => {
                let upper = upper.then(|| word.to_uppercase());
                split(upper.as_deref().unwrap_or(word), is_east_asian, |part, _| {
                    let coded: String = part.bytes().map(char_of).collect();
                    each(Part::Text(&coded))
                })
            }
        }
    }
}

/// Calls `each` with every character that stands alone, and with what lies between those.
fn split(
    word: &str,
    alone: impl Fn(char) -> bool,
    mut each: impl FnMut(&str, bool) -> Option<()>,
) -> Option<()> {
    let mut start = 0;
    for (at, c) in word.char_indices().filter(|&(_, c)| alone(c)) {
        let end = at + c.len_utf8();
        if start < at {
            each(&word[start..at], false)?;
        }
        each(&word[at..end], true)?;
        start = end;
    }
    if start < word.len() { each(&word[start..], false) } else { Some(()) }
}

fn is_han(symbol: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(symbol) else { return false };
    let mut characters = text.chars();
    matches!((characters.next(), characters.next()), (Some('\u{4e00}'..='\u{9fff}'), None))
}

/// The characters that icefall makes words of their own.
fn is_east_asian(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{a4cf}' | '\u{a840}'..='\u{d7af}' | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe4f}' | '\u{ff65}'..='\u{ffdc}' | '\u{20000}'..='\u{2ffff}')
}

/// icefall's printable character for a byte: printable ASCII is itself, the others are letters from
/// U+0100 on that NFKC leaves alone.
fn char_of(byte: u8) -> char {
    let skip = |after: u32, code: u32| if code >= after { 1 } else { 0 };
    let code = match u32::from(byte) {
        byte @ 0..32 => 256 + byte,
        byte @ 32..127 => byte,
        byte => {
            let mut code = 288 + byte - 127;
            for gap in GAPS {
                code += skip(gap, code);
            }
            code
        }
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn byte_of(c: char) -> Option<u8> {
    (0..=u8::MAX).find(|&byte| char_of(byte) == c)
}

/// Letters with a compatibility decomposition, which are left out.
const GAPS: [u32; 6] = [306, 307, 319, 320, 329, 383];
const SPACE_CHAR: char = '\u{2581}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_characters() {
        // Read off icefall's table.
        for (byte, code) in [
            (0, 256),
            (31, 287),
            (32, 32),
            (126, 126),
            (127, 288),
            (144, 305),
            (145, 308),
            (155, 318),
            (156, 321),
            (163, 328),
            (164, 330),
            (216, 382),
            (217, 384),
            (255, 422),
        ] {
            assert_eq!(char_of(byte), char::from_u32(code).unwrap(), "{byte}");
        }
        assert!((0..=255).all(|byte| byte_of(char_of(byte)) == Some(byte)));
    }
}
