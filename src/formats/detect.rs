//! Which format a stream has, from its first bytes.

use super::jsonl::span::Cursor;
use super::kaldi;
use super::known::Format;

/// The format of what begins so: `None` if more is needed to tell, never at the `end` of the
/// input. What is no format known is JSON Lines, where each record is judged by itself.
///
/// ```
/// use secondpass::formats::{Format, detect};
/// assert_eq!(detect(b"0 ||| a cat ||| LM0= -3 ||| -1\n", false), Some(Format::Moses));
/// assert_eq!(detect(b"0 ||| a c", false), None);
/// ```
pub fn detect(head: &[u8], end: bool) -> Option<Format> {
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let rest = head.trim_ascii_start();
    match rest.first() {
        None => return end.then_some(Format::Jsonl),
        Some(b'{') => return object(rest).or(end.then_some(Format::Jsonl)),
        Some(b'[') => return array(rest).or(end.then_some(Format::Json)),
        Some(_) => {}
    }
    // The first line that says anything, blanks at its start included: an id may be missing.
    let skipped = head.len() - rest.len();
    let from = memchr::memrchr(b'\n', &head[..skipped]).map_or(0, |newline| newline + 1);
    let line = &head[from..];
    let length = memchr::memchr(b'\n', line);
    if length.is_none() && !end {
        return None;
    }
    Some(text(&line[..length.unwrap_or(line.len())]))
}

fn object(head: &[u8]) -> Option<Format> {
    let mut cursor = Cursor::new(head, 0);
    cursor.open(b'{').ok()?;
    let Ok(Some(member)) = cursor.member() else {
        // `{}`, or nonsense, or not all of it is here.
        return memchr::memchr(b'}', head).map(|_| Format::Jsonl);
    };
    match cursor.peek() {
        0 => return None,
        b'{' => {}
        _ => return Some(Format::Jsonl),
    }
    if member.key.of(head) == b"\"utts\"" {
        return Some(Format::Espnet1);
    }
    cursor.open(b'{').ok()?;
    match cursor.member() {
        Ok(Some(inner)) if inner.key.of(head).starts_with(b"\"hyp_") => Some(Format::Mlm),
        // The keys may be sorted in another way; the reference is one of them.
        Ok(Some(inner)) if inner.key.of(head) == b"\"ref\"" => Some(Format::Mlm),
        Ok(_) => Some(Format::Jsonl),
        Err(_) => None,
    }
}

/// Hypo2Trans has lists of strings under `input`.
fn array(head: &[u8]) -> Option<Format> {
    let mut cursor = Cursor::new(head, 0);
    cursor.open(b'[').ok()?;
    match cursor.peek() {
        0 => return None,
        b'{' => {}
        _ => return Some(Format::Json),
    }
    cursor.open(b'{').ok()?;
    let mut strings = false;
    let mut output = false;
    loop {
        match cursor.member() {
            Ok(Some(member)) => {
                let key = member.key.of(head);
                let first = cursor.peek();
                let mut inside = cursor;
                inside.at += 1;
                strings |= key == b"\"input\"" && first == b'[' && inside.peek() == b'"';
                output |= key == b"\"output\"" && first == b'"';
                if key != b"\"input\"" && key != b"\"output\"" {
                    return Some(Format::Json);
                }
                if cursor.value().is_err() || cursor.peek() == 0 {
                    return None;
                }
            }
            Ok(None) => return Some(if strings && output { Format::Hypo2trans } else { Format::Json }),
            Err(_) => return None,
        }
    }
}

fn text(line: &[u8]) -> Format {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let trimmed = line.trim_ascii();
    match trimmed {
        b"NBestList1.0" => return Format::Nbest1,
        b"NBestList2.0" => return Format::Nbest2,
        _ => {}
    }
    let bars = memchr::memmem::find_iter(line, b"|||").count();
    if bars >= 2 {
        return Format::Moses;
    }
    if let Some(tab) = memchr::memrchr(b'\t', line)
        && is_number(line[tab + 1..].trim_ascii())
        && memchr::memchr_iter(b'\t', line).count() <= 2
    {
        return Format::Nemo;
    }
    let fields: Vec<&[u8]> =
        trimmed.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).collect();
    let number = |at: usize| fields.get(at).is_some_and(|field| is_number(field));
    let count = |at: usize| fields.get(at).is_some_and(|field| field.iter().all(u8::is_ascii_digit));
    if fields.len() == 2 && fields[0] == b"wav" {
        return Format::Wenet;
    }
    if number(1) && number(2) && count(3) && fields.get(4) == Some(&&b"<s>"[..]) {
        return Format::Cued;
    }
    if number(0) && number(1) && count(2) {
        return Format::Srilm;
    }
    // The best hypothesis comes first.
    if kaldi::split(fields[0]).is_some_and(|(utterance, number)| number == 1 && !utterance.is_empty()) {
        return Format::Kaldi;
    }
    let score = fields.last().is_some_and(|last| {
        let digits = last.strip_prefix(b"-").unwrap_or_default();
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    });
    if fields.len() > 1 && score { Format::Pocketsphinx } else { Format::Jsonl }
}

fn is_number(field: &[u8]) -> bool {
    let digits = field.iter().any(u8::is_ascii_digit);
    digits && std::str::from_utf8(field).is_ok_and(|field| field.parse::<f64>().is_ok())
}
