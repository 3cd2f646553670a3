//! SentencePiece's normalisation: a table of replacements in the model file, and white space.

use super::SPACE;
use crate::tokens::charsmap::Charsmap;
use crate::tokens::prefixes::Prefixes;

/// Normalises one word: the rules of the model, and a ▁ in front.
#[derive(Debug, Default)]
pub(super) struct Rules {
    charsmap: Charsmap,
    /// User-defined pieces, which stay as they are.
    user: Prefixes,
    collapse: bool,
}

impl Rules {
    /// The rules of a `precompiled_charsmap`; none if it is empty. `collapse`: white space is
    /// trimmed, and several are one.
    pub fn new(charsmap: &[u8], user: Prefixes, collapse: bool) -> Result<Self, String> {
        Ok(Self { charsmap: Charsmap::parse(charsmap)?, user, collapse })
    }

    /// Replaces `out` by the normalised word; nothing if nothing is left of it.
    pub fn apply(&self, word: &str, out: &mut Vec<u8>) {
        out.clear();
        let mut rest = word.as_bytes();
        if self.collapse {
            while let (b" ", used) = self.prefix(rest) {
                rest = &rest[used..];
            }
        }
        if rest.is_empty() {
            return;
        }
        out.extend_from_slice(SPACE.as_bytes());
        let mut after_space = self.collapse;
        while !rest.is_empty() {
            let (mut piece, used) = self.prefix(rest);
            while let (true, Some((b' ', tail))) = (after_space, piece.split_first()) {
                piece = tail;
            }
            for &byte in piece {
                match byte {
                    b' ' => out.extend_from_slice(SPACE.as_bytes()),
                    byte => out.push(byte),
                }
            }
            if let Some(&last) = piece.last() {
                after_space = self.collapse && last == b' ';
            }
            after_space &= self.collapse;
            rest = &rest[used..];
        }
        while self.collapse && out.ends_with(SPACE.as_bytes()) {
            out.truncate(out.len() - SPACE.len());
        }
    }

    /// What the text's beginning becomes, and how many bytes of it that is: at least one, unless
    /// there is no text.
    fn prefix<'a>(&'a self, text: &'a [u8]) -> (&'a [u8], usize) {
        if let Some((len, _)) = self.user.longest(text) {
            return (&text[..len], len);
        }
        if let Some((len, replacement)) = self.charsmap.longest(text) {
            return (replacement, len);
        }
        let len = super::char_len(text);
        (&text[..len], len)
    }
}
