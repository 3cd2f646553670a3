//! Lists as slots: where each hypothesis lies in its record, and the few bytes of it that change
//! with its place or its score. Writing puts the input's own bytes together in another order.

use std::ops::Range;

use super::chunk::Chunk;
use super::known::Format;
use crate::{Error, Name, Result, Status, Utterance};

/// What a number of a format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Natural logarithm.
    Natural,
    /// Minus the natural logarithm: lower is better.
    Cost,
    /// Logarithm of base 10.
    Log10,
    /// Decipher's: log10 p = b * 1024 / 10000.5 / ln 10.
    Bytelog,
    /// Pocketsphinx's: a whole number, logarithm of base 1.0001 without its last ten bits.
    Sphinx,
}

impl Unit {
    /// As a natural logarithm, higher is better.
    pub fn natural(self, value: f64) -> f64 {
        let natural = match self {
            Self::Natural => value,
            Self::Cost => -value,
            Self::Log10 => value * std::f64::consts::LN_10,
            Self::Bytelog => value * BYTELOG,
            Self::Sphinx => value * sphinx(),
        };
        if natural.is_finite() { natural } else { f64::NAN }
    }

    /// Back, as it is written.
    pub fn write(self, natural: f64, out: &mut Vec<u8>) {
        let value = match self {
            Self::Natural => natural,
            Self::Cost => -natural,
            Self::Log10 => natural / std::f64::consts::LN_10,
            Self::Bytelog => natural / BYTELOG,
            Self::Sphinx => (natural / sphinx()).round(),
        };
        // -0 is nobody's score; ten digits are what no format's users have more of.
        let value = value + 0.0;
        let digits = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
        let decimals = (9.0 - digits).clamp(0.0, 30.0) as usize;
        let text = format!("{value:.decimals$}");
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        out.extend_from_slice(text.as_bytes());
    }
}

/// Where one hypothesis lies.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    pub pieces: Vec<Piece>,
    /// The number that takes up what the total changes: where it lies, its value as a natural
    /// logarithm and its weight in the first pass's score.
    pub score: Option<(Range<usize>, f64, f64)>,
    /// The first pass's score.
    pub total: f64,
}

/// A part of a hypothesis in one file.
#[derive(Debug, Clone, Default)]
pub(super) struct Piece {
    /// Which of the folder's kinds of file.
    pub kind: usize,
    pub span: Range<usize>,
    /// The bytes that belong to the place, not to the hypothesis: `-1` of a Kaldi key.
    pub place: Option<Range<usize>>,
}

/// A record of slots.
#[derive(Debug, Clone)]
pub struct Record {
    /// What was read, in first-pass order.
    pub utterance: Utterance,
    /// A first-pass feature that rescoring computes too.
    pub clash: Option<String>,
    pub(super) format: Format,
    /// In first-pass order.
    pub(super) slots: Vec<Slot>,
    /// Numbers of the places, in that order: what names the files of a folder.
    pub(super) places: Vec<u32>,
}

impl Slot {
    /// A slot of one piece.
    pub fn of(span: Range<usize>) -> Self {
        Self { pieces: vec![Piece { span, ..Piece::default() }], score: None, total: f64::NAN }
    }

    /// With the score that lies at `span`; `score` is its value, a natural logarithm.
    pub fn scored(mut self, span: Range<usize>, score: f64) -> Self {
        self.score = Some((span, score, 1.0));
        self.total = score;
        self
    }
}

impl Record {
    pub(super) fn new(format: Format) -> Self {
        Self { utterance: Utterance::default(), clash: None, format, slots: Vec::new(), places: Vec::new() }
    }

    /// Adds a hypothesis.
    pub(super) fn push(&mut self, text: Vec<u8>, features: Vec<(Name, f64)>, slot: Slot) -> Result<()> {
        let rank = self.slots.len() as u32 + 1;
        if self.slots.len() >= MAX_HYPOTHESES {
            return Err(Error::record(format!("more than {MAX_HYPOTHESES} hypotheses: cut the list")));
        }
        self.utterance.hypotheses.push(crate::Hypothesis { features, ..crate::Hypothesis::new(text, rank) });
        self.slots.push(slot);
        self.places.push(rank);
        Ok(())
    }

    /// Appends the record, hypotheses in this order: indexes into the utterance's. For a folder,
    /// as [frames](super::folder::frame).
    pub(super) fn write(&self, chunk: &Chunk, order: &[usize], keep: bool, out: &mut Vec<u8>) -> Result<()> {
        let scored = matches!(self.utterance.status, Status::Ok | Status::Partial(_)) && !keep;
        // First-pass slots of the hypotheses chosen.
        let mut chosen = Vec::with_capacity(order.len());
        for &at in order {
            let hypothesis = self.utterance.hypotheses.get(at).ok_or_else(stranger)?;
            let from = self.slots.get(hypothesis.rank as usize - 1).ok_or_else(stranger)?;
            chosen.push((from, hypothesis.total));
        }
        if let Some(folder) = &chunk.folder {
            for ((slot, total), (to, place)) in chosen.iter().zip(self.slots.iter().zip(&self.places)) {
                for piece in &slot.pieces {
                    let mut line = Vec::new();
                    let twin = to.pieces.iter().find(|twin| twin.kind == piece.kind).or(to.pieces.first());
                    splice(&chunk.bytes, slot, piece, twin, scored.then_some(*total), self.format, &mut line);
                    super::folder::frame(&folder.path(piece.kind, *place), &line, out);
                }
            }
            return Ok(());
        }
        let mut places: Vec<usize> = (0..self.slots.len()).collect();
        let start = |at: usize| self.slots[at].pieces.first().map_or(0, |piece| piece.span.start);
        places.sort_by_key(|&at| start(at));
        let mut end = 0;
        for &place in &places {
            let Some(to) = self.slots[place].pieces.first() else { continue };
            let gap = chunk.bytes.get(end..to.span.start).ok_or_else(stranger)?;
            end = to.span.end;
            let Some((slot, total)) = chosen.get(place) else { continue };
            let Some(piece) = slot.pieces.first() else { continue };
            out.extend_from_slice(gap);
            splice(&chunk.bytes, slot, piece, Some(to), scored.then_some(*total), self.format, out);
        }
        out.extend_from_slice(chunk.bytes.get(end..).ok_or_else(stranger)?);
        Ok(())
    }
}

/// One piece of a hypothesis, with what changes.
fn splice(
    bytes: &[u8],
    slot: &Slot,
    piece: &Piece,
    to: Option<&Piece>,
    total: Option<f64>,
    format: Format,
    out: &mut Vec<u8>,
) {
    let mut edits: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
    if let (Some(old), Some(new)) = (&piece.place, to.and_then(|to| to.place.as_ref())) {
        edits.push((old.clone(), bytes.get(new.clone()).unwrap_or_default().to_vec()));
    }
    if let (Some((span, value, weight)), Some(total)) = (&slot.score, total)
        && piece.span.start <= span.start
        && span.end <= piece.span.end
        && total.is_finite()
        && slot.total.is_finite()
        && (total - slot.total).abs() > 1e-9 * total.abs()
    {
        let mut text = Vec::new();
        format.unit().write(value + (total - slot.total) / weight, &mut text);
        edits.push((span.clone(), text));
    }
    edits.sort_by_key(|edit| edit.0.start);
    let mut at = piece.span.start;
    for (span, new) in edits {
        out.extend_from_slice(bytes.get(at..span.start).unwrap_or_default());
        out.extend_from_slice(&new);
        at = span.end;
    }
    out.extend_from_slice(bytes.get(at..piece.span.end).unwrap_or_default());
}

/// The number in `bytes[span]`; what is not finite is `NaN`.
pub(super) fn number(bytes: &[u8], span: &Range<usize>, what: &str) -> Result<f64> {
    let raw = bytes.get(span.clone()).unwrap_or_default();
    let value = std::str::from_utf8(raw).ok().and_then(|text| text.trim().parse::<f64>().ok());
    let value =
        value.ok_or_else(|| Error::record(format!("the {what} at byte {} is no number", span.start + 1)))?;
    Ok(if value.is_finite() { value } else { f64::NAN })
}

/// The next field from `at`, between blanks and tabs.
pub(super) fn field(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = bytes.get(at..)?;
    let start = at + rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let length = bytes[start..].iter().position(u8::is_ascii_whitespace);
    Some(start..length.map_or(bytes.len(), |length| start + length))
}

/// The lines of a chunk, without their endings.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let start = at;
        at += memchr::memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
        let line = bytes[start..at].strip_suffix(b"\n").map_or(at, |line| start + line.len());
        Some(start..if bytes[start..line].ends_with(b"\r") { line - 1 } else { line })
    })
}

/// A span without white space at its ends.
pub(super) fn trim(bytes: &[u8], span: Range<usize>) -> Range<usize> {
    let raw = bytes.get(span.clone()).unwrap_or_default();
    let start = span.start + (raw.len() - raw.trim_ascii_start().len());
    start..start.max(span.start + raw.trim_ascii_end().len())
}

pub(super) fn stranger() -> Error {
    Error::Internal("record, chunk and order do not belong together".to_owned())
}

/// ln p for one of pocketsphinx's steps: its search keeps logarithms shifted right by ten bits.
fn sphinx() -> f64 {
    1024.0 * 1.0001_f64.ln()
}

/// ln p for one bytelog.
const BYTELOG: f64 = 1024.0 / 10_000.5;
const MAX_HYPOTHESES: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_go_there_and_back() {
        // The definitions, computed by hand: -10 dB-like values of each.
        for (unit, value, natural) in [
            (Unit::Natural, -3.21, -3.21),
            (Unit::Cost, 12.5, -12.5),
            (Unit::Log10, -2.0, -4.605_170_185_988_091),
            (Unit::Bytelog, -2034.0, -208.271_186_440_678),
            (Unit::Sphinx, -10_000.0, -1_023.948_803_412_964),
        ] {
            assert!((unit.natural(value) - natural).abs() < 1e-9, "{unit:?} {}", unit.natural(value));
            let mut out = Vec::new();
            unit.write(unit.natural(value), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string(), "{unit:?}");
        }
    }
}
