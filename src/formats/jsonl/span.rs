//! A cursor over JSON that is known to be valid. It checks only what it needs to go on, and
//! never panics.

use std::borrow::Cow;

use crate::{Error, Result};

/// A range of bytes of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::formats) struct Span {
    pub start: usize,
    pub end: usize,
}

/// A member of an object whose value comes next.
#[derive(Debug, Clone, Copy)]
pub(in crate::formats) struct Member {
    /// Where its piece of the object begins: after the brace or comma before it.
    pub lead: usize,
    /// The key, quotes included.
    pub key: Span,
}

/// A place in a line.
#[derive(Debug, Clone, Copy)]
pub(in crate::formats) struct Cursor<'a> {
    pub line: &'a [u8],
    pub at: usize,
}

impl Span {
    /// The bytes it spans.
    pub fn of(self, line: &[u8]) -> &[u8] {
        line.get(self.start..self.end).unwrap_or_default()
    }

    /// Bytes spanned.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// The first byte; 0 for none.
    pub fn first(self, line: &[u8]) -> u8 {
        line.get(self.start).copied().unwrap_or(0)
    }
}

impl<'a> Cursor<'a> {
    pub fn new(line: &'a [u8], at: usize) -> Self {
        Self { line, at }
    }

    /// The next byte that is not white space, and stops at it; 0 at the end.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        loop {
            match self.line.get(self.at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(&byte) => return byte,
                None => return 0,
            }
        }
    }

    /// Steps over `bracket`, which must come next.
    pub fn open(&mut self, bracket: u8) -> Result<()> {
        if self.peek() != bracket {
            return Err(self.lost());
        }
        self.at += 1;
        Ok(())
    }

    /// The next member of the object just opened, up to its value; after the last, steps over
    /// the brace. The value must be consumed before the next call.
    #[inline]
    pub fn member(&mut self) -> Result<Option<Member>> {
        let Some(lead) = self.item(b'}')? else { return Ok(None) };
        self.peek();
        let key = self.string()?;
        self.open(b':')?;
        self.peek();
        Ok(Some(Member { lead, key }))
    }

    /// Likewise for an array: where the next element's piece begins.
    #[inline]
    pub fn item(&mut self, close: u8) -> Result<Option<usize>> {
        let before = self.at;
        let byte = self.peek();
        if byte == close {
            self.at += 1;
            return Ok(None);
        }
        if byte == b',' {
            self.at += 1;
            return Ok(Some(self.at));
        }
        // The first has no comma before it.
        if before == 0 || byte == 0 { Err(self.lost()) } else { Ok(Some(before)) }
    }

    /// Steps over the next value, whatever it is.
    #[inline]
    pub fn value(&mut self) -> Result<Span> {
        match self.peek() {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            _ => {
                let start = self.at;
                let rest = self.line.get(start..).unwrap_or_default();
                let len =
                    rest.iter().position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'));
                self.at = start + len.unwrap_or(rest.len());
                if self.at == start { Err(self.lost()) } else { Ok(Span { start, end: self.at }) }
            }
        }
    }

    /// Steps over a string; its span includes the quotes.
    #[inline]
    fn string(&mut self) -> Result<Span> {
        let start = self.at;
        if self.line.get(start) != Some(&b'"') {
            return Err(self.lost());
        }
        self.at += 1;
        // Keys are short: found before a call of memchr has begun.
        let rest = self.line.get(self.at..).unwrap_or_default();
        if let Some(n) = rest.iter().take(SHORT).position(|&byte| byte == b'"' || byte == b'\\')
            && rest[n] == b'"'
        {
            self.at += n + 1;
            return Ok(Span { start, end: self.at });
        }
        loop {
            let rest = self.line.get(self.at..).unwrap_or_default();
            match memchr::memchr2(b'"', b'\\', rest) {
                Some(n) if rest[n] == b'"' => {
                    self.at += n + 1;
                    return Ok(Span { start, end: self.at });
                }
                Some(n) => self.at += n + 2,
                None => return Err(self.lost()),
            }
        }
    }

    /// Steps over an object or array, without recursion.
    fn nested(&mut self) -> Result<Span> {
        let start = self.at;
        let mut depth = 0usize;
        loop {
            let rest = self.line.get(self.at..).unwrap_or_default();
            // Most bytes are within strings, which are jumped over, or numbers.
            let Some(skipped) = rest.iter().position(|&byte| STRUCTURE[usize::from(byte)]) else {
                return Err(self.lost());
            };
            self.at += skipped;
            match rest[skipped] {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                _ if depth == 1 => {
                    self.at += 1;
                    return Ok(Span { start, end: self.at });
                }
                _ => depth = depth.saturating_sub(1),
            }
            self.at += 1;
        }
    }

    fn lost(&self) -> Error {
        Error::Internal(format!("lost the thread of valid JSON at byte {}", self.at + 1))
    }
}

/// Bytes of a string looked at one by one.
const SHORT: usize = 8;

/// Bytes that open or close something.
const STRUCTURE: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 5 {
        table[b"\"{}[]"[at] as usize] = true;
        at += 1;
    }
    table
};

/// A member of an object taken apart.
#[derive(Debug, Clone, Copy)]
pub(in crate::formats) struct Piece {
    lead: usize,
    pub key: Span,
    pub value: Span,
    end: usize,
}

/// An object taken apart and put together again, member by member.
#[derive(Debug)]
pub(in crate::formats) struct Pieces<'a> {
    cursor: Cursor<'a>,
    /// The end of the last value: what follows it up to the brace stays at the end.
    tail: usize,
    empty: bool,
}

impl Pieces<'static> {
    /// A new object, of which the brace is written.
    pub fn new(out: &mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { cursor: Cursor::new(b"", 0), tail: 0, empty: true }
    }
}

impl<'a> Pieces<'a> {
    /// The object that comes next; writes what is before it and its brace.
    pub fn open(mut cursor: Cursor<'a>, out: &mut Vec<u8>) -> Result<Self> {
        let start = cursor.at;
        cursor.open(b'{')?;
        out.extend_from_slice(Span { start, end: cursor.at }.of(cursor.line));
        Ok(Self { cursor, tail: cursor.at, empty: true })
    }

    /// The next member.
    pub fn next(&mut self) -> Result<Option<Piece>> {
        let Some(Member { lead, key }) = self.cursor.member()? else { return Ok(None) };
        let value = self.cursor.value()?;
        self.tail = value.end;
        let end = if self.cursor.peek() == b',' { self.cursor.at } else { value.end };
        Ok(Some(Piece { lead, key, value, end }))
    }

    /// Writes a member as it was.
    pub fn copy(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        self.lead(piece, out);
        out.extend_from_slice(piece.value.of(self.cursor.line));
        self.trail(piece, out);
    }

    /// Writes a member up to its value.
    pub fn lead(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        self.comma(out);
        out.extend_from_slice(Span { start: piece.lead, end: piece.value.start }.of(self.cursor.line));
    }

    /// Writes a member from its value on.
    pub fn trail(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        out.extend_from_slice(Span { start: piece.value.end, end: piece.end }.of(self.cursor.line));
    }

    /// Writes a member under another name, which needs no escapes.
    pub fn renamed(&mut self, piece: &Piece, key: &str, out: &mut Vec<u8>) {
        self.comma(out);
        out.extend_from_slice(Span { start: piece.lead, end: piece.key.start }.of(self.cursor.line));
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.push(b'"');
        out.extend_from_slice(Span { start: piece.key.end, end: piece.end }.of(self.cursor.line));
    }

    /// Writes the key of a new member.
    pub fn key(&mut self, key: &str, out: &mut Vec<u8>) {
        self.comma(out);
        // Writing a string to memory cannot fail.
        let _ = serde_json::to_writer(&mut *out, key);
        out.push(b':');
    }

    /// Writes the comma before a member, if one is needed.
    pub fn comma(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.empty, false) {
            out.push(b',');
        }
    }

    /// After the last member: writes what was at the end, and the brace.
    pub fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(Span { start: self.tail, end: self.cursor.at }.of(self.cursor.line));
    }

    /// What comes after the object.
    pub fn rest(&self) -> &'a [u8] {
        self.cursor.line.get(self.cursor.at..).unwrap_or_default()
    }
}

/// The elements of an array; none of anything else.
pub(in crate::formats) fn elements(line: &[u8], array: Span) -> Result<Vec<Span>> {
    let mut all = Vec::new();
    if array.first(line) == b'[' {
        let mut cursor = Cursor::new(line, array.start + 1);
        while cursor.item(b']')?.is_some() {
            all.push(cursor.value()?);
        }
    }
    Ok(all)
}

/// What a string (quotes included) says.
pub(in crate::formats) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    let Some(first) = memchr::memchr(b'\\', inner) else { return Cow::Borrowed(inner) };
    let mut out = Vec::with_capacity(inner.len());
    let mut at = first;
    out.extend_from_slice(&inner[..first]);
    while let Some(&byte) = inner.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let escape = inner.get(at).copied().unwrap_or(b'\\');
        at += 1;
        match escape {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut code = hex(inner, at);
                at += 4;
                if (0xD800..0xDC00).contains(&code) && inner.get(at..at + 2) == Some(b"\\u") {
                    let low = hex(inner, at + 2);
                    if (0xDC00..0xE000).contains(&low) {
                        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                        at += 6;
                    }
                }
                push_code(code, &mut out);
            }
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

fn hex(bytes: &[u8], at: usize) -> u32 {
    let digits = bytes.get(at..at + 4).unwrap_or_default();
    digits.iter().fold(0, |code, &d| code * 16 + char::from(d).to_digit(16).unwrap_or(0))
}

/// UTF-8, or for a lone surrogate what UTF-8 would be.
fn push_code(code: u32, out: &mut Vec<u8>) {
    match char::from_u32(code) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            out.extend([0xE0 | (code >> 12) as u8, 0x80 | (code >> 6 & 63) as u8, 0x80 | (code & 63) as u8])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_unescaped() {
        for (raw, want) in [
            (r#""a b""#, &b"a b"[..]),
            (r#""\"\\\/\b\f\n\r\t""#, b"\"\\/\x08\x0c\n\r\t"),
            (r#""x\u00e9\ud83d\ude00""#, "x\u{e9}\u{1F600}".as_bytes()),
            (r#""\ud800x\udc00""#, b"\xED\xA0\x80x\xED\xB0\x80"),
            (r#""\ud800\u0041""#, b"\xED\xA0\x80A"),
            (r#""\u0000""#, b"\0"),
        ] {
            assert_eq!(&*unescape(raw.as_bytes()), want, "{raw}");
        }
    }

    #[test]
    fn nothing_panics() {
        let seed = br#"{"a":["\u00e9",{"b":1e5}],"c":null}"#;
        for at in 0..seed.len() {
            for byte in 0..=255 {
                let mut line = seed.to_vec();
                line[at] = byte;
                for cut in [at, line.len()] {
                    let mut cursor = Cursor::new(&line[..cut], 0);
                    let _ = cursor.value();
                    let mut cursor = Cursor::new(&line[..cut], 0);
                    if cursor.open(b'{').is_ok() {
                        while let Ok(Some(member)) = cursor.member() {
                            unescape(member.key.of(&line));
                            if cursor.value().is_err() {
                                break;
                            }
                        }
                    }
                    unescape(&line[at..cut]);
                }
            }
        }
    }
}
