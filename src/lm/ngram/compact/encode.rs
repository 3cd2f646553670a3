//! The last pass: the n-grams of one order as sections of the file.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, BufReader, Seek};

use tempfile::SpooledTempFile;

use super::codes::{self, Plan};
use super::elias_fano;
use super::formula::predict;
use super::layout;
use super::level::{Level, Weights};
use super::model::{SHARES, VALUES};
use super::shares::{Shares, least};
use super::sort::{Record, Sorter, frequent};
use super::spool::Space;

/// Writes an order's sections; the highest order has no backoffs.
pub(super) fn encode(
    mut level: Level,
    highest: bool,
    space: &Space,
    out: &mut layout::Writer,
) -> io::Result<()> {
    if let Some(pointers) = level.pointers.take() {
        pointers.finish(out)?;
        out.section()?;
    }
    ids(&mut level, space, out)?;
    probs(&mut level, space, out)?;
    if !highest {
        let column = values(&mut level, space, |weights| weights.backoff, u32::BITS)?;
        column.write(&mut level, space, out)?;
    }
    Ok(())
}

/// How a weight of each n-gram is coded.
struct Column<'a> {
    value: fn(&Weights) -> u32,
    /// One symbol for each n-gram; if `None` the values are the symbols.
    symbols: Option<BufReader<SpooledTempFile>>,
    /// Symbols with their frequencies, which fall.
    ranked: Vec<(u32, u32)>,
    plan: Plan,
    kind: u64,
    stored: Box<dyn Fn(u32) -> (u32, u32) + 'a>,
}

impl Column<'_> {
    fn write(mut self, level: &mut Level, space: &Space, out: &mut layout::Writer) -> io::Result<()> {
        self.ranked.truncate(self.plan.symbols);
        let ranks: HashMap<u32, u32> = self.ranked.iter().map(|&(symbol, _)| symbol).zip(0..).collect();
        let value = self.value;
        let mut symbols = self.symbols;
        let mut each = |then: &mut dyn FnMut(Option<u32>, u32) -> io::Result<()>| {
            if let Some(symbols) = &mut symbols {
                symbols.rewind()?;
            }
            level.each(|weights| {
                let value = value(&weights);
                let symbol = symbols.as_mut().map_or(Ok(value), u32::read)?;
                then(ranks.get(&symbol).copied(), value)
            })
        };
        let mut raw: Option<(u32, u32)> = None;
        each(&mut |rank, value| {
            if rank.is_none() {
                let (low, high) = raw.unwrap_or((value, value));
                raw = Some((low.min(value), high.max(value)));
            }
            Ok(())
        })?;
        self.plan.set_raw(raw.unwrap_or_default());
        let mut writer = codes::Writer::new(space, self.plan);
        each(&mut |rank, value| writer.push(rank, value))?;
        let stored: Vec<_> = self.ranked.iter().map(|&(symbol, _)| (self.stored)(symbol)).collect();
        writer.finish(self.kind, &stored, out)?;
        out.section()
    }
}

fn ids(level: &mut Level, space: &Space, out: &mut layout::Writer) -> io::Result<()> {
    let mut ids = elias_fano::Writer::new(space, level.count, level.last_id);
    let (mut base, mut next) = (0, 0);
    level.each(|weights| {
        if weights.first {
            base = next;
        }
        let id = base + u64::from(weights.link);
        next = id + 1;
        ids.push(id)
    })?;
    ids.finish(out)?;
    out.section()
}

/// Probabilities as shares and small differences, or as values, whatever takes less.
fn probs(level: &mut Level, space: &Space, out: &mut layout::Writer) -> io::Result<()> {
    let value = |weights: &Weights| weights.prob;
    let shares = Shares::of(level, space)?;
    let mut symbols = space.spool();
    let mut counts: HashMap<u32, u32> = HashMap::new();
    let (mut low, mut high) = (u32::MAX, 0);
    level.each(|weights| {
        (low, high) = (low.min(weights.prob), high.max(weights.prob));
        let symbol = shares.symbol(&weights, |share| predict(share, weights.context, weights.lower));
        if let Some(symbol) = symbol {
            *counts.entry(symbol).or_default() += 1;
        }
        symbol.unwrap_or(u32::MAX).write(&mut symbols)
    })?;
    let raw_width = u32::BITS - high.saturating_sub(low).leading_zeros();
    let ranked = ranked(counts.into_iter().collect(), least(level.count));
    let plan = plan(&ranked, level.count, raw_width);
    let bits = plan.bits;
    let stored = Box::new(|symbol| shares.stored(symbol));
    let mut column = Column { value, symbols: Some(symbols.reader()?), ranked, plan, kind: SHARES, stored };
    // Where the formula holds almost everywhere, values cannot be shorter.
    if bits > level.count * FEW_BITS {
        let other = values(level, space, value, raw_width)?;
        if other.plan.bits < bits {
            column = other;
        }
    }
    column.write(level, space, out)
}

/// A column whose symbols are the values themselves.
fn values(
    level: &mut Level,
    space: &Space,
    value: fn(&Weights) -> u32,
    raw_width: u32,
) -> io::Result<Column<'static>> {
    let ranked = common(level, space, least(level.count), value)?;
    let plan = plan(&ranked, level.count, raw_width);
    let stored = Box::new(|value| (value, 0));
    Ok(Column { value, symbols: None, ranked, plan, kind: VALUES, stored })
}

/// The most frequent values of a weight, with their frequencies.
pub(super) fn common(
    level: &mut Level,
    space: &Space,
    least: u32,
    value: fn(&Weights) -> u32,
) -> io::Result<Vec<(u32, u32)>> {
    let mut sorter = Sorter::new(space, space.sorting(1));
    level.each(|weights| sorter.push(value(&weights)))?;
    Ok(ranked(frequent(&mut sorter.finish()?, least)?, least))
}

/// The most frequent first, down to a frequency.
pub(super) fn ranked(mut symbols: Vec<(u32, u32)>, least: u32) -> Vec<(u32, u32)> {
    symbols.retain(|&(_, count)| count >= least);
    symbols.sort_unstable_by_key(|&(symbol, count)| (Reverse(count), symbol));
    symbols
}

fn plan(ranked: &[(u32, u32)], entries: u64, raw_width: u32) -> Plan {
    let counts: Vec<u32> = ranked.iter().map(|&(_, count)| count).collect();
    let covered: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    Plan::new(&counts, entries - covered, raw_width)
}

/// Bits for a probability that are few.
const FEW_BITS: u64 = 8;
