//! From a rescored utterance back to its line: the line's own bytes, reordered, with what was
//! gained put in between.
//!
//! A member's piece reaches from the comma before it to the comma after it, or to its value's
//! end if it is the last; white space before the closing brace stays there. Pieces are dropped
//! and added whole, and hypotheses change places inside the separators of the list: so our own
//! output, taken apart and put together the same way, is the same.

use serde::de::IgnoredAny;

use super::read::{Layout, Record};
use super::span::{Cursor, Pieces, Span, elements, unescape};
use crate::formats::Gained;
use crate::{Error, Hypothesis, Result, Status, Utterance};

/// Appends the record as its utterance's status says, without a line ending. `line` is the one
/// it was read from.
///
/// Rescored, hypotheses come as `gained` orders them. Passed, the line comes as it was, with the
/// reason; if it was our own output, then in first-pass order and without what was ours.
///
/// # Errors
///
/// [`Error::Internal`] if `record`, `line` and `gained` do not belong together, and then `out`
/// is as it was.
pub fn write(record: &Record, line: &[u8], gained: &Gained<'_>, out: &mut Vec<u8>) -> Result<()> {
    let before = out.len();
    let hypotheses = &record.utterance.hypotheses;
    let done = match &record.utterance.status {
        Status::Passed(reason) if !record.layout.own => {
            passed(line, reason, out);
            return Ok(());
        }
        Status::Passed(_) => {
            let mut order: Vec<_> = (0..hypotheses.len()).collect();
            order.sort_by_key(|&at| hypotheses[at].rank);
            Writer::new(record, line, gained, &order, false).and_then(|w| w.record(out))
        }
        _ => Writer::new(record, line, gained, gained.order, true).and_then(|w| w.record(out)),
    };
    if done.is_err() {
        out.truncate(before);
    }
    done
}

/// Appends a line that could not be read, as it was: with the reason if it is a JSON object,
/// and else without.
pub fn passed(line: &[u8], reason: &str, out: &mut Vec<u8>) {
    let before = out.len();
    let text = std::str::from_utf8(line).ok();
    let valid = text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    if !valid || mark(line, reason, out).is_err() {
        out.truncate(before);
        out.extend_from_slice(line);
    }
}

/// Appends the record that stands for a line over the limit.
pub fn over(total: u64, limit: u64, out: &mut Vec<u8>) {
    let reason = format!("line of {total} bytes is over the limit of {limit}");
    out.push(b'{');
    secondpass(&Status::Passed(reason), &Gained::default(), out);
    out.push(b'}');
}

/// An object with its `secondpass` set to passed.
fn mark(line: &[u8], reason: &str, out: &mut Vec<u8>) -> Result<()> {
    let mut pieces = Pieces::open(Cursor::new(line, 0), out)?;
    while let Some(piece) = pieces.next()? {
        if piece.key.of(line) != SECONDPASS {
            pieces.copy(&piece, out);
        }
    }
    pieces.comma(out);
    secondpass(&Status::Passed(reason.to_owned()), &Gained::default(), out);
    pieces.close(out);
    out.extend_from_slice(pieces.rest());
    Ok(())
}

/// One record on its way out.
struct Writer<'a> {
    line: &'a [u8],
    utterance: &'a Utterance,
    layout: &'a Layout,
    gained: &'a Gained<'a>,
    /// The hypotheses to write and the slots they lie in.
    chosen: Vec<(&'a Hypothesis, usize)>,
    /// Whether they gain anything, or are given back as they first came.
    scored: bool,
}

impl<'a> Writer<'a> {
    fn new(
        record: &'a Record,
        line: &'a [u8],
        gained: &'a Gained<'a>,
        order: &[usize],
        scored: bool,
    ) -> Result<Self> {
        let Record { utterance, layout, .. } = record;
        let chosen = order.iter().map(|&at| {
            let hypothesis = utterance.hypotheses.get(at)?;
            let at = layout.ranks.binary_search_by_key(&hypothesis.rank, |&(rank, _)| rank).ok()?;
            Some((hypothesis, layout.ranks[at].1 as usize))
        });
        let chosen = chosen.collect::<Option<Vec<_>>>().ok_or_else(stranger)?;
        if chosen.len() > layout.slots.len() || layout.list.end > line.len() {
            return Err(stranger());
        }
        Ok(Self { line, utterance, layout, gained, chosen, scored })
    }

    fn record(&self, out: &mut Vec<u8>) -> Result<()> {
        let Layout { own, parallel, list, ref slots, .. } = *self.layout;
        out.reserve(self.line.len() + self.chosen.len() * (64 + 32 * self.gained.features.len()));
        let mut scores = false;
        let mut pieces = Pieces::open(Cursor::new(self.line, 0), out)?;
        while let Some(piece) = pieces.next()? {
            let key = unescape(piece.key.of(self.line));
            if piece.key.of(self.line) == SECONDPASS || (parallel && &*key == b"rank" && (self.scored || own))
            {
                continue;
            }
            if piece.value.start == list.start {
                pieces.lead(&piece, out);
                self.permute(list, slots, out, |hypothesis, old, out| self.element(hypothesis, old, out))?;
                pieces.trail(&piece, out);
                continue;
            }
            let beside = if parallel { elements(self.line, piece.value)? } else { Vec::new() };
            if beside.is_empty() || beside.len() != slots.len() {
                pieces.copy(&piece, out);
                continue;
            }
            let ours = &*key == b"scores";
            scores |= ours;
            pieces.lead(&piece, out);
            self.permute(piece.value, &beside, out, |hypothesis, old, out| match ours {
                true => self.scores(hypothesis, Some(old), out),
                false => {
                    out.extend_from_slice(old.of(self.line));
                    Ok(())
                }
            })?;
            pieces.trail(&piece, out);
        }
        if parallel && self.scored {
            if !scores {
                pieces.key("scores", out);
                self.array(out, |hypothesis, out| self.scores(hypothesis, None, out))?;
            }
            pieces.key("rank", out);
            self.array(out, |hypothesis, out| {
                json(&hypothesis.rank, out);
                Ok(())
            })?;
        }
        pieces.comma(out);
        secondpass(&self.utterance.status, self.gained, out);
        pieces.close(out);
        out.extend_from_slice(pieces.rest());
        Ok(())
    }

    /// One element of the hypothesis list.
    fn element(&self, hypothesis: &Hypothesis, old: Span, out: &mut Vec<u8>) -> Result<()> {
        if old.first(self.line) == b'{' {
            return self.hypothesis(hypothesis, old, out);
        }
        if self.layout.parallel || !self.scored {
            out.extend_from_slice(old.of(self.line));
            return Ok(());
        }
        out.extend_from_slice(b"{\"text\":");
        out.extend_from_slice(old.of(self.line));
        out.extend_from_slice(b",\"scores\":");
        self.scores(hypothesis, None, out)?;
        out.extend_from_slice(b",\"rank\":");
        json(&hypothesis.rank, out);
        out.push(b'}');
        Ok(())
    }

    fn hypothesis(&self, hypothesis: &Hypothesis, old: Span, out: &mut Vec<u8>) -> Result<()> {
        let mut scores = false;
        let mut pieces = Pieces::open(Cursor::new(self.line, old.start), out)?;
        while let Some(piece) = pieces.next()? {
            match &*unescape(piece.key.of(self.line)) {
                b"rank" if self.scored || self.layout.own => {}
                b"scores" => {
                    scores = true;
                    pieces.lead(&piece, out);
                    self.scores(hypothesis, Some(piece.value), out)?;
                    pieces.trail(&piece, out);
                }
                _ => pieces.copy(&piece, out),
            }
        }
        if self.scored {
            if !scores {
                pieces.key("scores", out);
                self.scores(hypothesis, None, out)?;
            }
            pieces.key("rank", out);
            json(&hypothesis.rank, out);
        }
        pieces.close(out);
        Ok(())
    }

    /// A `scores` object from what was there, if anything was.
    fn scores(&self, hypothesis: &Hypothesis, old: Option<Span>, out: &mut Vec<u8>) -> Result<()> {
        let kind = old.map_or(0, |old| old.first(self.line));
        let Some(old) = old.filter(|_| kind == b'{') else {
            if let (Some(old), false) = (old, self.scored) {
                out.extend_from_slice(old.of(self.line));
                return Ok(());
            }
            let mut pieces = Pieces::new(out);
            if let Some(old) = old.filter(|_| kind != b'n') {
                pieces.key("score", out);
                out.extend_from_slice(old.of(self.line));
            }
            self.gains(hypothesis, &mut pieces, out);
            out.push(b'}');
            return Ok(());
        };
        let mut pieces = Pieces::open(Cursor::new(self.line, old.start), out)?;
        while let Some(piece) = pieces.next()? {
            let key = unescape(piece.key.of(self.line));
            if self.replaced(&key) {
                continue;
            }
            if self.scored && &*key == b"total" {
                // The first pass's makes room for ours.
                pieces.renamed(&piece, "score", out);
            } else {
                pieces.copy(&piece, out);
            }
        }
        self.gains(hypothesis, &mut pieces, out);
        pieces.close(out);
        Ok(())
    }

    /// Whether a member of `scores` is not the first pass's.
    fn replaced(&self, key: &[u8]) -> bool {
        (self.layout.own && (key == b"total" || self.layout.names.contains(key)))
            || (self.scored && self.gained.features.iter().any(|name| name.as_bytes() == key))
    }

    fn gains(&self, hypothesis: &Hypothesis, pieces: &mut Pieces<'_>, out: &mut Vec<u8>) {
        if !self.scored {
            return;
        }
        for name in self.gained.features {
            let Some(value) = hypothesis.feature(name) else { continue };
            pieces.key(name, out);
            let count = &**name == "words" || name.ends_with(".oov");
            if count && value.fract() == 0.0 && value.abs() < 1e15 {
                json(&(value as i64), out);
            } else {
                json(&value, out);
            }
        }
        pieces.key("total", out);
        json(&hypothesis.total, out);
    }

    /// An array with its elements in the order wanted; the separators keep their places.
    fn permute(
        &self,
        array: Span,
        slots: &[Span],
        out: &mut Vec<u8>,
        mut each: impl FnMut(&Hypothesis, Span, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else {
            out.extend_from_slice(array.of(self.line));
            return Ok(());
        };
        out.extend_from_slice(Span { start: array.start, end: first.start }.of(self.line));
        let mut end = first.start;
        for (&(hypothesis, from), slot) in self.chosen.iter().zip(slots) {
            out.extend_from_slice(Span { start: end, end: slot.start }.of(self.line));
            end = slot.end;
            each(hypothesis, *slots.get(from).ok_or_else(stranger)?, out)?;
        }
        out.extend_from_slice(Span { start: last.end, end: array.end }.of(self.line));
        Ok(())
    }

    /// A new array with one element for each.
    fn array(
        &self,
        out: &mut Vec<u8>,
        mut each: impl FnMut(&Hypothesis, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        out.push(b'[');
        for (at, (hypothesis, _)) in self.chosen.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            each(hypothesis, out)?;
        }
        out.push(b']');
        Ok(())
    }
}

/// The member `secondpass`.
pub(in crate::formats) fn secondpass(status: &Status, gained: &Gained<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(SECONDPASS);
    out.extend_from_slice(b":{\"status\":");
    match status {
        Status::New | Status::Ok => out.extend_from_slice(b"\"ok\""),
        Status::Partial(lms) => {
            out.extend_from_slice(b"\"partial\",\"left_out\":");
            json(lms, out);
        }
        Status::Passed(reason) => {
            out.extend_from_slice(b"\"passed\",\"reason\":");
            json(reason, out);
        }
    }
    if let Some(explain) = gained.explain {
        out.extend_from_slice(b",\"explain\":");
        out.extend_from_slice(explain.as_bytes());
    }
    out.extend_from_slice(gained.members.as_bytes());
    out.push(b'}');
}

/// Numbers in the fewest digits that read back the same, what is not finite as null.
fn json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Neither memory nor strings, numbers and lists of them can fail.
    let _ = serde_json::to_writer(out, value);
}

fn stranger() -> Error {
    Error::Internal("record, line and order do not belong together".to_owned())
}

/// As we write it. A key spelt with escapes is not ours.
const SECONDPASS: &[u8] = b"\"secondpass\"";
