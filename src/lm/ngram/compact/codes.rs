//! Symbols ranked by frequency, in layers of growing code width: directly addressable codes
//! (Brisaboa, Ladra and Navarro 2009).
//!
//! A layer holds the symbols of its span of ranks in a fixed width, and a bit for each entry that
//! says whether it went to the next layer. What no symbol was worth goes to the last one as it is.

use std::io::{self, Write};

use super::bits::{MAX_WIDTH, Packed, Packer, half, word};
use super::rank::{Bits, Bitter};
use super::spool::{Space, Spool};

/// Where coded entries lie in a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Codes {
    count: u64,
    layers: Vec<Layer>,
    raw: Packed,
    raw_base: u32,
    symbols: u64,
    table: usize,
    kind: u64,
}

#[derive(Debug, Clone, Copy)]
struct Layer {
    first: u64,
    escapes: Bits,
    codes: Packed,
}

/// An entry's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coded {
    /// The symbol of this rank.
    Symbol(u64),
    /// A value as it is.
    Raw(u32),
}

/// How entries are coded.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// Code width of each layer.
    widths: Vec<u32>,
    /// Number of symbols used, from the most frequent on.
    pub(super) symbols: usize,
    /// Bits that it takes, about.
    pub(super) bits: u64,
    raw_base: u32,
    raw_width: u32,
}

impl Codes {
    /// The entries in a section of a file.
    ///
    /// # Errors
    /// If the section's size is not that of what it speaks of.
    pub(super) fn open(bytes: &[u8], start: usize, length: u64) -> Result<Self, &'static str> {
        const WRONG: &str = "coded values have another size than their header says";
        let field = |at: usize| word(bytes, start.wrapping_add(8 * at));
        let [count, layers, symbols, raw_base, raw_width] = [0, 1, 2, 3, 4].map(field);
        if length < HEADER as u64
            || layers > LAYERS as u64
            || raw_base > u64::from(u32::MAX)
            || raw_width > 32
        {
            return Err("coded values have no valid header");
        }
        let mut open = Self { count, symbols, raw_base: raw_base as u32, kind: field(15), ..Self::default() };
        // Sums are of what was found to lie within the section, so they do not overflow.
        let mut left = length - HEADER as u64;
        let mut at = start + HEADER;
        let mut take = |size: Option<u64>| -> Result<usize, &'static str> {
            let size = size.filter(|&size| size <= left).ok_or(WRONG)?;
            let place = at;
            left -= size;
            at += size as usize;
            Ok(place)
        };
        open.table = take(symbols.checked_mul(8))?;
        let (mut entries, mut first) = (count, 0u64);
        for layer in 0..layers as usize {
            let [width, escaped] = [5, 6].map(|at| field(at + 2 * layer));
            if width > u64::from(MAX_WIDTH) || escaped > entries {
                return Err("coded values have no valid header");
            }
            let width = width as u32;
            let escapes = Bits::new(take(Bits::bytes(entries, escaped))?, entries, escaped);
            let codes = Packed::new(take(Packed::bytes(entries - escaped, width))?, width);
            open.layers.push(Layer { first, escapes, codes });
            first = first.saturating_add(1 << width);
            entries = escaped;
        }
        open.raw = Packed::new(take(Packed::bytes(entries, raw_width as u32))?, raw_width as u32);
        if left != 0 {
            return Err(WRONG);
        }
        Ok(open)
    }

    /// How many entries.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// What the symbols are; see [`Writer::finish`].
    pub(super) fn kind(&self) -> u64 {
        self.kind
    }

    /// How many symbols.
    pub(super) fn symbols(&self) -> u64 {
        self.symbols
    }

    /// The entry at `at`.
    #[inline]
    pub(super) fn at(&self, bytes: &[u8], mut at: u64) -> Coded {
        for layer in &self.layers {
            let (escaped, before) = layer.escapes.rank(bytes, at);
            if !escaped {
                return Coded::Symbol(layer.first + layer.codes.at(bytes, at.wrapping_sub(before)));
            }
            at = before;
        }
        Coded::Raw(self.raw_base.wrapping_add(self.raw.at(bytes, at) as u32))
    }

    /// The two halves of a symbol's value: a number, and what goes with it.
    #[inline]
    pub(super) fn symbol(&self, bytes: &[u8], rank: u64) -> (u32, u32) {
        let at = self.table.wrapping_add((rank.min(self.symbols) as usize).wrapping_mul(8));
        (half(bytes, at), half(bytes, at.wrapping_add(4)))
    }
}

impl Plan {
    /// The cheapest way to code entries. `counts` has each symbol's frequency, falling; `others`
    /// is the number of entries beside them; raw values take about `raw_width` bits.
    pub(super) fn new(counts: &[u32], others: u64, raw_width: u32) -> Self {
        let mut tail: Vec<u64> = vec![others; counts.len() + 1];
        for (at, &count) in counts.iter().enumerate().rev() {
            tail[at] = tail[at + 1] + u64::from(count);
        }
        let mut plan = Self::cheapest(&tail, raw_width, 0, LAYERS);
        plan.widths.reverse();
        plan.symbols = plan.widths.iter().map(|&width| 1usize << width).sum::<usize>().min(counts.len());
        plan
    }

    /// Says between which bounds raw values lie; there must be none beyond.
    pub(super) fn set_raw(&mut self, (low, high): (u32, u32)) {
        self.raw_base = low;
        self.raw_width = u32::BITS - (high - low).leading_zeros();
    }

    /// From symbol `from` on, `tail` entries being of symbols from each on. Widths come last first.
    fn cheapest(tail: &[u64], raw_width: u32, from: usize, layers: usize) -> Self {
        let entries = tail[from];
        let mut best = Self { bits: entries * u64::from(raw_width), ..Self::default() };
        if layers == 0 || from + 1 >= tail.len() || entries == 0 {
            return best;
        }
        for width in 0..=MAX_SPAN {
            let to = (from + (1 << width)).min(tail.len() - 1);
            let own = entries * VISIT
                + entries / 7
                + (entries - tail[to]) * u64::from(width)
                + 64 * (to - from) as u64;
            if own >= best.bits {
                continue;
            }
            let rest = Self::cheapest(tail, raw_width, to, layers - 1);
            if own + rest.bits < best.bits {
                best = rest;
                best.bits += own;
                best.widths.push(width);
            }
            if to + 1 == tail.len() {
                break;
            }
        }
        best
    }
}

/// Writes coded entries.
pub(super) struct Writer {
    plan: Plan,
    layers: Vec<(Bitter<Spool>, Packer<Spool>, u64)>,
    raw: Packer<Spool>,
    count: u64,
}

impl Writer {
    pub(super) fn new(space: &Space, plan: Plan) -> Self {
        let layer =
            |&width: &u32| (Bitter::new(space.spool()), Packer::new(space.spool(), width), 1 << width);
        let layers = plan.widths.iter().map(layer).collect();
        Self { layers, raw: Packer::new(space.spool(), plan.raw_width), count: 0, plan }
    }

    /// Appends a symbol by its rank, if it is among the plan's, else `value` as it is.
    pub(super) fn push(&mut self, rank: Option<u32>, value: u32) -> io::Result<()> {
        self.count += 1;
        let mut rank = rank.filter(|&rank| (rank as usize) < self.plan.symbols).map(u64::from);
        for (escapes, codes, span) in &mut self.layers {
            match &mut rank {
                Some(rank) if *rank < *span => {
                    escapes.push(false)?;
                    return codes.push(*rank);
                }
                Some(rank) => *rank -= *span,
                None => {}
            }
            escapes.push(true)?;
        }
        self.raw.push(u64::from(value.wrapping_sub(self.plan.raw_base)))
    }

    /// Writes the section; `symbols` are the values of the plan's symbols, of a kind that their
    /// user knows.
    pub(super) fn finish(self, kind: u64, symbols: &[(u32, u32)], out: &mut impl Write) -> io::Result<()> {
        let Plan { raw_base, raw_width, ref widths, .. } = self.plan;
        let mut header = vec![self.count, widths.len() as u64, symbols.len() as u64];
        header.extend([u64::from(raw_base), u64::from(raw_width)]);
        for (&width, (escapes, ..)) in widths.iter().zip(&self.layers) {
            header.extend([u64::from(width), escapes.ones()]);
        }
        header.resize(HEADER / 8 - 1, 0);
        header.push(kind);
        for value in header {
            out.write_all(&value.to_le_bytes())?;
        }
        for &(value, more) in symbols {
            out.write_all(&value.to_le_bytes())?;
            out.write_all(&more.to_le_bytes())?;
        }
        for (escapes, codes, _) in self.layers {
            io::copy(&mut escapes.finish()?.reader()?, out)?;
            io::copy(&mut codes.finish()?.reader()?, out)?;
        }
        io::copy(&mut self.raw.finish()?.reader()?, out)?;
        Ok(())
    }
}

/// Six fields and two for each layer, in whole lines of the cache.
const HEADER: usize = 128;
const LAYERS: usize = 5;
/// Bits that a layer is taken to cost each entry that comes to it, the one it does cost included.
const VISIT: u64 = 4;
/// Layers are at most this wide, so that planning stays short.
const MAX_SPAN: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_are_read_back(
            entries in prop::collection::vec(prop_oneof![4 => 0u32..3, 2 => 0u32..40, 1 => 5000u32..90000], 0..900)
        ) {
            let mut counts = std::collections::BTreeMap::new();
            for &entry in &entries {
                *counts.entry(entry).or_insert(0u32) += 1;
            }
            let mut ranked: Vec<(u32, u32)> = counts.into_iter().filter(|&(_, count)| count > 1).collect();
            ranked.sort_by_key(|&(entry, count)| (std::cmp::Reverse(count), entry));
            let falling: Vec<u32> = ranked.iter().map(|&(_, count)| count).collect();
            let others = entries.len() as u64 - falling.iter().map(|&count| u64::from(count)).sum::<u64>();
            let mut plan = Plan::new(&falling, others, 17);
            plan.set_raw((0, 90000));
            let symbols: Vec<(u32, u32)> = ranked[..plan.symbols].iter().map(|&(entry, _)| (entry, entry + 1)).collect();
            let mut writer = Writer::new(&Space::new(1 << 20, std::env::temp_dir()), plan);
            for &entry in &entries {
                let rank = ranked.iter().position(|&(other, _)| other == entry).map(|rank| rank as u32);
                writer.push(rank, entry).unwrap();
            }
            let mut bytes = vec![0; 64];
            writer.finish(7, &symbols, &mut bytes).unwrap();
            let length = bytes.len() as u64 - 64;
            let codes = Codes::open(&bytes, 64, length).unwrap();
            prop_assert_eq!((codes.len(), codes.kind()), (entries.len() as u64, 7));
            for (at, &entry) in entries.iter().enumerate() {
                let read = match codes.at(&bytes, at as u64) {
                    Coded::Symbol(rank) => codes.symbol(&bytes, rank).0,
                    Coded::Raw(value) => value,
                };
                prop_assert_eq!(read, entry);
            }
            prop_assert!(Codes::open(&bytes, 64, length - 1).is_err());
        }
    }
}
