//! The members of a record, found under whichever of their names they have.

use super::names;
use super::span::{Cursor, Span, unescape};
use crate::{Error, Result};

/// The members of a record that matter.
#[derive(Debug, Default)]
pub(super) struct Top {
    pub(super) id: Best,
    pub(super) session: Best,
    pub(super) reference: [Option<Span>; names::REFERENCE.len()],
    /// Lists under a list's name, and whether their first element is a string.
    pub(super) list: Best,
    pub(super) strings: bool,
    /// Lists of strings under a text's name.
    pub(super) texts: Best,
    /// Whether a list stands under a feature's name or `scores`.
    pub(super) parallel: bool,
    pub(super) recognised: bool,
    pub(super) secondpass: Option<Span>,
    pub(super) vocabulary: Best,
    pub(super) tensors: Option<Span>,
    pub(super) encoder_out: Option<Span>,
}

impl Top {
    pub(super) fn find(line: &[u8]) -> Result<Self> {
        let mut top = Self::default();
        let mut cursor = Cursor::new(line, 0);
        if cursor.peek() != b'{' {
            return Err(Error::record(
                "the line is JSON, but not an object: write one object per line (`jq -c .[]`)",
            ));
        }
        cursor.open(b'{')?;
        while let Some(member) = cursor.member()? {
            let key = &*unescape(member.key.of(line));
            let first = cursor.peek();
            let start = cursor.at;
            let value = cursor.value()?;
            let mut fresh = true;
            top.recognised |= names::place(names::RECOGNISED, key).is_some();
            match first {
                b'"' | b'-' | b'0'..=b'9' => {
                    if let Some(place) = names::place(names::ID, key) {
                        fresh = top.id.offer(place, value);
                    } else if let Some(place) = names::place(names::SESSION, key) {
                        fresh = top.session.offer(place, value);
                    } else if let (b'"', Some(place)) = (first, names::place(names::REFERENCE, key)) {
                        fresh = top.reference[usize::from(place)].replace(value).is_none();
                    } else if let Some(place) = names::place(names::VOCABULARY, key) {
                        fresh = top.vocabulary.offer(place, value);
                    }
                }
                b'[' => {
                    let inside = Cursor::new(line, start + 1).peek();
                    if let Some(place) = names::place(names::LIST, key) {
                        if matches!(inside, b'{' | b'"' | b']') {
                            let best = top.list.0.is_none_or(|(p, _)| place < p);
                            fresh = top.list.offer(place, value);
                            if best {
                                top.strings = inside == b'"';
                            }
                        }
                    } else if let Some(place) = names::place(names::TEXT, key) {
                        if matches!(inside, b'"' | b']') {
                            fresh = top.texts.offer(place, value);
                        }
                    } else {
                        top.parallel |= key == b"scores" || names::feature(key).is_some();
                    }
                }
                _ => {}
            }
            match key {
                b"secondpass" => fresh = top.secondpass.replace(value).is_none(),
                _ if key == names::TENSORS.as_bytes() && matches!(first, b'{' | b'[') => {
                    fresh = top.tensors.replace(value).is_none();
                }
                _ if key == names::ENCODER_OUT.as_bytes() && matches!(first, b'{' | b'[') => {
                    fresh = top.encoder_out.replace(value).is_none();
                }
                _ => {}
            }
            if !fresh {
                let key = String::from_utf8_lossy(key);
                let at = member.key.start + 1;
                return Err(Error::record(format!("a second member `{key}` at byte {at}: keep one")));
            }
        }
        Ok(top)
    }

    /// Whether this is our own output. A record that was passed on holds nothing of ours.
    pub(super) fn own(&self, line: &[u8]) -> Result<bool> {
        let Some(span) = self.secondpass else { return Ok(false) };
        if span.first(line) != b'{' {
            return Ok(true);
        }
        let mut cursor = Cursor::new(line, span.start);
        cursor.open(b'{')?;
        while let Some(member) = cursor.member()? {
            let value = cursor.value()?;
            if member.key.of(line) == b"\"status\"" {
                return Ok(value.of(line) != b"\"passed\"");
            }
        }
        Ok(true)
    }

    /// The hypothesis list, and whether others stand beside it.
    pub(super) fn list(&self) -> Result<(Span, bool)> {
        match (self.list.0, self.texts.0) {
            (Some((_, list)), _) => Ok((list, self.strings && self.parallel)),
            (None, Some((_, texts))) => Ok((texts, true)),
            (None, None) => Err(Error::record("the record has no hypothesis list: name it `hyps`")),
        }
    }

    pub(super) fn reference(&self) -> Option<Span> {
        let names = self.reference.iter().zip(names::REFERENCE);
        names.filter(|(_, name)| !(self.recognised && **name == "text")).find_map(|(span, _)| *span)
    }
}

/// The member with the best of several names.
#[derive(Debug, Default)]
pub(super) struct Best(pub(super) Option<(u8, Span)>);

impl Best {
    /// `false` if the name has been seen.
    pub(super) fn offer(&mut self, place: u8, value: Span) -> bool {
        match self.0 {
            Some((best, _)) if best <= place => best < place,
            _ => {
                self.0 = Some((place, value));
                true
            }
        }
    }
}
