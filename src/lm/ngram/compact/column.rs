//! Weights whose codes lie with the n-grams: the most frequent values by their rank, others
//! beside them.

use std::io::{self, BufReader, Write};

use tempfile::SpooledTempFile;

use super::bits::{Packed, Packer, half, word};
use super::codes::Coded;
use super::rank::{Bits, Bitter};
use super::sort::Record;
use super::spool::{Space, Spool};

/// Where a weight's values lie in a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Column {
    kind: u64,
    symbols: u64,
    table: usize,
    escaped: u64,
    escapes: Bits,
    others: Packed,
    base: u32,
}

impl Column {
    /// The values in a section of a file, of n-grams with so many places.
    ///
    /// # Errors
    /// If the section's size is not that of what it speaks of.
    pub(super) fn open(bytes: &[u8], start: usize, length: u64, places: u64) -> Result<Self, &'static str> {
        let field = |at: usize| word(bytes, start.wrapping_add(8 * at));
        let [kind, symbols, escaped, base, width] = [0, 1, 2, 3, 4].map(field);
        if length < HEADER as u64 || kind > PLAIN || base > u64::from(u32::MAX) || width > 32 {
            return Err("weights have no valid header");
        }
        let sizes = || {
            let table = symbols.checked_mul(8)?;
            let bits = if escaped == 0 { 0 } else { Bits::bytes(places, escaped)? };
            let others = Packed::bytes(escaped, width as u32)?;
            (escaped <= places).then_some(())?;
            Some((table, bits, table.checked_add(bits)?.checked_add(others)?))
        };
        match sizes() {
            Some((table, bits, all)) if all == length - HEADER as u64 => {
                let start = start + HEADER;
                let others = start + (table + bits) as usize;
                let escapes = Bits::new(start + table as usize, places, escaped);
                let others = Packed::new(others, width as u32);
                Ok(Self { kind, symbols, table: start, escaped, escapes, others, base: base as u32 })
            }
            _ => Err("weights have another size than their header says"),
        }
    }

    /// What the symbols are: [`PLAIN`] if codes are values themselves.
    pub(super) fn kind(&self) -> u64 {
        self.kind
    }

    pub(super) fn symbols(&self) -> u64 {
        self.symbols
    }

    /// The value of the n-gram at a place with this code.
    #[inline]
    pub(super) fn at(&self, bytes: &[u8], place: u64, code: u64) -> Coded {
        if code < self.symbols {
            return Coded::Symbol(code);
        }
        if self.kind == PLAIN {
            return Coded::Raw(self.base.wrapping_add(code as u32));
        }
        let (_, before) = self.escapes.rank(bytes, place);
        Coded::Raw(self.base.wrapping_add(self.others.at(bytes, before) as u32))
    }

    /// Whether the n-gram at a place is marked as one whose value is beside.
    pub(super) fn escaped(&self, bytes: &[u8], place: u64) -> bool {
        self.escaped > 0 && self.escapes.rank(bytes, place).0
    }

    /// The two halves of a symbol's value.
    #[inline]
    pub(super) fn symbol(&self, bytes: &[u8], rank: u64) -> (u32, u32) {
        let at = self.table.wrapping_add((rank as usize).wrapping_mul(8));
        (half(bytes, at), half(bytes, at.wrapping_add(4)))
    }
}

/// How a weight is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coding {
    /// Bits of a code.
    pub(super) width: u32,
    /// How many of the most frequent values have one.
    pub(super) symbols: usize,
    /// N-grams with none.
    pub(super) escaped: u64,
    /// Codes are values above the smallest.
    pub(super) plain: bool,
}

impl Coding {
    /// By symbols, in so many bits. `counts` are their frequencies, falling; all n-grams are
    /// `total`.
    pub(super) fn symbols(counts: &[u64], total: u64, width: u32) -> Self {
        let room = 1usize << width;
        let all: u64 = counts.iter().sum();
        // One code is left for all others, if there are any.
        let symbols =
            if all == total && counts.len() <= room { counts.len() } else { counts.len().min(room - 1) };
        let covered: u64 = counts[..symbols].iter().sum();
        Self { width, symbols, escaped: total - covered, plain: false }
    }

    /// As they are.
    pub(super) fn plain(width: u32) -> Self {
        Self { width, symbols: 0, escaped: 0, plain: true }
    }
}

/// Writes the values that have no code, and a mark for each place.
pub(super) struct Writer {
    escapes: Bitter<Spool>,
    others: Spool,
    range: Option<(u32, u32)>,
}

impl Writer {
    pub(super) fn new(space: &Space) -> Self {
        Self { escapes: Bitter::new(space.spool()), others: space.spool(), range: None }
    }

    /// The next place: empty, coded, or with a value without a code.
    pub(super) fn push(&mut self, other: Option<u32>) -> io::Result<()> {
        self.escapes.push(other.is_some())?;
        let Some(value) = other else { return Ok(()) };
        let (low, high) = self.range.unwrap_or((value, value));
        self.range = Some((low.min(value), high.max(value)));
        value.write(&mut self.others)
    }

    /// Writes the section.
    pub(super) fn finish(
        self,
        space: &Space,
        kind: u64,
        base: u32,
        symbols: &[(u32, u32)],
        out: &mut impl Write,
    ) -> io::Result<()> {
        let escaped = self.escapes.ones();
        let (low, high) = self.range.unwrap_or_default();
        let width = u32::BITS - (high - low).leading_zeros();
        let base = if kind == PLAIN { base } else { low };
        let mut header = vec![kind, symbols.len() as u64, escaped, u64::from(base), u64::from(width)];
        header.resize(HEADER / 8, 0);
        for value in header {
            out.write_all(&value.to_le_bytes())?;
        }
        for &(value, more) in symbols {
            out.write_all(&value.to_le_bytes())?;
            out.write_all(&more.to_le_bytes())?;
        }
        let escapes = self.escapes.finish()?;
        if escaped > 0 {
            io::copy(&mut escapes.reader()?, out)?;
        }
        let mut packer = Packer::new(space.spool(), width);
        let mut others: BufReader<SpooledTempFile> = self.others.reader()?;
        for _ in 0..escaped {
            packer.push(u64::from(u32::read(&mut others)? - low))?;
        }
        io::copy(&mut packer.finish()?.reader()?, out)?;
        Ok(())
    }
}

/// Codes are values less the base: the last of the kinds, after those of [`super::model`].
pub(super) const PLAIN: u64 = 2;
const HEADER: usize = 64;
