//! SentencePiece's normalisation: a table of replacements in the model file, and white space.

use super::SPACE;
use crate::tokens::prefixes::Prefixes;

/// Normalises one word: the rules of the model, and a ▁ in front.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// A double array as Darts-clone writes it.
    units: Vec<u32>,
    /// The replacements, each ended by a zero byte.
    replacements: Vec<u8>,
    /// User-defined pieces, which stay as they are.
    user: Prefixes,
    collapse: bool,
}

impl Rules {
    /// The rules of a `precompiled_charsmap`; none if it is empty. `collapse`: white space is
    /// trimmed, and several are one.
    pub fn new(charsmap: &[u8], user: Prefixes, collapse: bool) -> Result<Self, String> {
        let mut rules = Self { user, collapse, ..Self::default() };
        if charsmap.is_empty() {
            return Ok(rules);
        }
        let damaged = || "its normalisation table is damaged".to_owned();
        let (size, rest) = charsmap.split_first_chunk::<4>().ok_or_else(damaged)?;
        let size = u32::from_le_bytes(*size) as usize;
        let (units, replacements) = rest.split_at_checked(size).ok_or_else(damaged)?;
        if units.is_empty() || !size.is_multiple_of(4) || replacements.last() != Some(&0) {
            return Err(damaged());
        }
        rules.units = units
            .chunks_exact(4)
            .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]))
            .collect();
        rules.replacements = replacements.to_vec();
        Ok(rules)
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
        if let Some((len, at)) = self.longest(text)
            && let Some(tail) = self.replacements.get(at..)
            && let Some(end) = memchr::memchr(0, tail)
        {
            return (&tail[..end], len);
        }
        let len = super::char_len(text);
        (&text[..len], len)
    }

    /// The longest rule that applies: how long, and where its replacement lies.
    fn longest(&self, text: &[u8]) -> Option<(usize, usize)> {
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut found = None;
        let mut at = offset(*self.units.first()?);
        for (len, &byte) in text.iter().enumerate() {
            at ^= usize::from(byte);
            let Some(&unit) = self.units.get(at) else { break };
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            at ^= offset(unit);
            if unit >> 8 & 1 == 1
                && let Some(&leaf) = self.units.get(at)
            {
                found = Some((len + 1, (leaf & 0x7fff_ffff) as usize));
            }
        }
        found
    }
}
