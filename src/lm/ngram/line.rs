//! The parts of an ARPA file's line.

use std::fmt::Display;

use super::list::head;
use super::number;

/// A word that stood in the same place of the line before: sorted files have most of them again.
#[derive(Clone, Copy, Default)]
pub(super) struct Last {
    /// 0 for those too long to be kept, as for none.
    length: usize,
    first: u64,
    rest: u64,
}

impl Last {
    /// A word with its head.
    #[inline]
    pub(super) fn new(word: &[u8], first: u64) -> Self {
        if word.len() > 16 {
            return Self::default();
        }
        Self { length: word.len(), first, rest: head(word.get(8..).unwrap_or(&[])) }
    }

    /// Whether it is this word, which has this head.
    #[inline]
    pub(super) fn is(&self, word: &[u8], first: u64) -> bool {
        self.length == word.len()
            && self.length > 0
            && self.first == first
            && (self.length <= 8 || self.rest == head(&word[8..]))
    }
}

/// The word that begins at `at` of a line that ends at `end`, with its head; the line's memory may go on
/// behind its end. As [`split_word`], without a step for each byte.
#[inline]
pub(super) fn word_at(padded: &[u8], end: usize, at: usize) -> (&[u8], u64) {
    let Some(&first) = padded[at..].first_chunk() else {
        let (word, _) = split_word(&padded[at..end]);
        return (word, head(word));
    };
    let first = u64::from_le_bytes(first);
    let length = (separators(first).trailing_zeros() / 8) as usize;
    let length = length.min(end - at);
    if length < 8 {
        return (&padded[at..at + length], first & ((1 << (8 * length)) - 1));
    }
    let (more, _) = split_word(&padded[at + 8..end]);
    (&padded[at..at + 8 + more.len()], first)
}

/// The upper bit of each byte that separates. Above the lowest one, of others, too.
#[inline]
fn separators(eight: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let equal = |byte: u8| {
        let zero = eight ^ (ONES * u64::from(byte));
        zero.wrapping_sub(ONES) & !zero
    };
    (equal(b' ') | equal(b'\t') | equal(b'\r') | equal(b'\n')) & (ONES << 7)
}

pub(super) fn probability<'a>(
    line: &'a [u8],
    order: usize,
    at: u64,
    counts: &[u64],
) -> Result<(f32, &'a [u8]), String> {
    let (token, rest) = split_word(skip_blanks(line));
    match number::parse(token) {
        Some(prob) if prob > 0.0 => {
            Err(format!("the log probability {} is above 0; repair the model", shown(token)))
        }
        Some(prob) => Ok((prob, rest)),
        None if token.starts_with(b"\\") => {
            let count = counts[order - 1];
            Err(format!(
                "{} comes after {at} of the {count} {order}-grams that \\data\\ promises",
                shown(token)
            ))
        }
        None => Err(format!("expected a log10 probability, found {}", shown(token))),
    }
}

/// What follows the words: nothing, or a tab and a number. Zero is -0.0 until an n-gram is found
/// that continues this one (see `hashed`).
pub(super) fn backoff(rest: &[u8], highest: bool) -> Result<f32, String> {
    if is_blank(rest) {
        return Ok(-0.0);
    }
    let Some(token) = rest.strip_prefix(b"\t") else {
        return Err(format!("expected a tab and the backoff, or the line's end, found {}", shown(rest)));
    };
    let token = token.trim_ascii_end();
    match number::parse(token) {
        Some(0.0) => Ok(-0.0),
        Some(_) if highest => {
            Err(format!("an n-gram of the highest order has the backoff {}; it can have none", shown(token)))
        }
        Some(value) if value.is_finite() => Ok(value),
        _ => Err(format!("expected a finite log10 backoff, found {}", shown(token))),
    }
}

pub(super) fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| separates(byte)).unwrap_or(text.len());
    text.split_at(end)
}

pub(super) fn skip_blanks(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| !separates(byte)).unwrap_or(text.len());
    &text[start..]
}

/// Everything else, NBSP and vertical tab among it, is part of a word.
fn separates(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|&byte| separates(byte) || matches!(byte, 0x0b | 0x0c))
}

/// Bytes of the file for a message: at most 40, control characters escaped, in backquotes.
pub(crate) fn shown(bytes: &[u8]) -> impl Display {
    let cut = &bytes[..bytes.len().min(40)];
    let text: String = String::from_utf8_lossy(cut).chars().flat_map(|c| c.escape_debug()).collect();
    format!(
        "`{}{}`",
        text.replace("\\\\", "\\").replace("\\\"", "\"").replace("\\'", "'"),
        if cut.len() < bytes.len() { ".." } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_end_where_they_end_byte_by_byte(
            text in prop::collection::vec(prop_oneof![
                Just(b' '), Just(b'\t'), Just(b'\r'), Just(b'\n'), Just(0x0b), Just(0x21), Just(0xa0), Just(0x8a),
                any::<u8>(), Just(b'a'), Just(b'b'), Just(b'c'), Just(b'd'), Just(b'e'), Just(b'f'), Just(b'g')
            ], 0..40),
            end in 0usize..40,
            at in 0usize..40,
        ) {
            let end = end.min(text.len());
            let at = at.min(end);
            let (expected, _) = split_word(&text[at..end]);
            prop_assert_eq!(word_at(&text, end, at), (expected, head(expected)));
        }

        #[test]
        fn the_word_of_the_line_before_is_that_and_no_other(
            word in "[ab\0]{1,20}", other in "[ab\0]{0,20}"
        ) {
            let [word, other] = [word.as_bytes(), other.as_bytes()];
            let last = Last::new(word, head(word));
            prop_assert_eq!(last.is(word, head(word)), word.len() <= 16);
            prop_assert_eq!(last.is(other, head(other)), word == other && word.len() <= 16);
            prop_assert!(!Last::default().is(other, head(other)));
        }
    }
}
