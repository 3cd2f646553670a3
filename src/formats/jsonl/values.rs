//! What the values of a record's members say.

use std::sync::Arc;

use super::span::{Cursor, Span, unescape};
use crate::{Error, Result};

/// A string unescaped; anything else as it is written.
pub(super) fn string(line: &[u8], span: Span) -> Vec<u8> {
    let raw = span.of(line);
    if raw.first() == Some(&b'"') { unescape(raw).into_owned() } else { raw.to_vec() }
}

/// Token ids: a list of numbers, or a string of them. What is no id becomes `u32::MAX`, which no
/// vocabulary has, and so does what is too much.
pub(super) fn token_ids(line: &[u8], span: Span) -> Option<Arc<[u32]>> {
    let one =
        |raw: &[u8]| std::str::from_utf8(raw).ok().and_then(|text| text.parse().ok()).unwrap_or(u32::MAX);
    let mut ids = Vec::new();
    if span.first(line) == b'"' {
        let text = unescape(span.of(line)).into_owned();
        if !text.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ') {
            return None;
        }
        ids.extend(text.split(|&byte| byte == b' ').filter(|id| !id.is_empty()).take(MAX_IDS + 1).map(one));
    } else {
        let mut cursor = Cursor::new(line, span.start);
        cursor.open(b'[').ok()?;
        while cursor.item(b']').ok()?.is_some() {
            let first = cursor.peek();
            let value = cursor.value().ok()?;
            if ids.is_empty() && !matches!(first, b'-' | b'0'..=b'9') {
                return None;
            }
            if ids.len() <= MAX_IDS {
                ids.push(one(value.of(line)));
            }
        }
    }
    if let Some(id) = ids.get_mut(MAX_IDS) {
        *id = u32::MAX;
    }
    Some(ids.into())
}

/// The first 64 bits of a hash in hexadecimal digits.
pub(super) fn hash(text: &[u8]) -> Result<u64> {
    let digits =
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let number = digits.and_then(|text| u64::from_str_radix(text.get(..16)?, 16).ok());
    number.ok_or_else(|| {
        Error::record("the vocabulary's hash is not 16 or more hexadecimal digits: `inspect` prints it")
    })
}

/// Whether a value that begins so is a number or null.
pub(super) fn is_number(first: u8) -> bool {
    matches!(first, b'-' | b'0'..=b'9' | b'n')
}

/// A number's value; `NaN` for null and what is not finite.
pub(super) fn number(raw: &[u8]) -> f64 {
    let value = std::str::from_utf8(raw).ok().and_then(|s| s.parse().ok());
    finite(value.unwrap_or(f64::NAN))
}

/// The value of a member that is a score by its name.
pub(super) fn due(key: &[u8], at: usize, first: u8, raw: &[u8]) -> Result<f64> {
    if is_number(first) {
        return Ok(number(raw));
    }
    let key = String::from_utf8_lossy(key);
    Err(Error::record(format!("`{key}` at byte {} is not a number: write one, or null", at + 1)))
}

pub(super) fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}

pub(super) fn whole(raw: &[u8]) -> Option<u32> {
    std::str::from_utf8(raw).ok()?.parse().ok().filter(|&rank| rank > 0)
}

/// Token ids of one hypothesis.
const MAX_IDS: usize = 1 << 16;
