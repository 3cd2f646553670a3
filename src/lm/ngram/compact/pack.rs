//! The last pass of a file made for speed: the n-grams of one order as a table and its columns.

use std::collections::HashMap;
use std::io::{self, BufReader, Seek, Write};

use tempfile::SpooledTempFile;

use super::column::{Coding, PLAIN};
use super::encode::{common, ranked};
use super::formula::{Log10, linear};
use super::key::read_u64;
use super::layout;
use super::level::{Level, Weights};
use super::model::{SHARES, VALUES};
use super::place::{Code, Full, Item, Placed, place};
use super::shares::{self, Shares};
use super::sort::{Record, Sorted, Sorter};
use super::spool::{Space, Spool};
use super::table::Shape;
use super::tables::sum;

/// The n-grams of the order below, as those above need them.
pub(super) struct Parents {
    known: Known,
    /// Number of places.
    places: u64,
}

enum Known {
    /// By rank: id and probability.
    Words(Vec<(u64, f64)>),
    /// By number, as they come: place and probability. The next one's number, and the last one.
    Placed(BufReader<SpooledTempFile>, u64, (u64, f64)),
}

/// How an order's probabilities are coded.
struct Probs {
    /// One symbol for each n-gram; if `None` they are stored as they are.
    symbols: Option<BufReader<SpooledTempFile>>,
    ranked: Vec<(u32, u32)>,
    shares: Shares,
    kind: u64,
    low: u32,
    coding: Coding,
}

impl Parents {
    /// Below the bigrams: words by rank.
    pub(super) fn words(words: Vec<(u64, f64)>) -> Self {
        Self { places: words.len() as u64, known: Known::Words(words) }
    }

    fn placed(sorted: &mut Sorted<Placed>, places: u64, space: &Space) -> io::Result<Self> {
        let mut spool = space.spool();
        while let Some(Placed { place, linear, .. }) = sorted.next()? {
            spool.write_all(&place.to_le_bytes())?;
            spool.write_all(&linear.to_le_bytes())?;
        }
        Ok(Self { known: Known::Placed(spool.reader()?, 0, (0, 0.0)), places })
    }

    fn rewind(&mut self) -> io::Result<()> {
        if let Known::Placed(reader, next, _) = &mut self.known {
            reader.rewind()?;
            *next = 0;
        }
        Ok(())
    }

    /// The place of the n-gram with a number, and its probability; numbers do not fall.
    fn at(&mut self, number: u64) -> io::Result<(u64, f64)> {
        match &mut self.known {
            Known::Words(words) => Ok(words[number as usize]),
            Known::Placed(reader, next, last) => {
                while *next <= number {
                    *last = (read_u64(reader)?, f64::from_bits(read_u64(reader)?));
                    *next += 1;
                }
                Ok(*last)
            }
        }
    }
}

/// Writes an order's sections; the highest order has no backoffs. `all` is the number of n-grams of all
/// orders; `ids` are the words' by rank.
pub(super) fn pack(
    mut level: Level,
    highest: bool,
    all: u64,
    ids: &[u32],
    mut below: Parents,
    space: &Space,
    out: &mut layout::Writer,
) -> io::Result<Parents> {
    let mut probs = probs(&mut level, &mut below, space)?;
    let least = rare(level.count);
    let ranked_backoffs =
        if highest { Vec::new() } else { common(&mut level, space, least, |weights| weights.backoff)? };
    let search = (SEARCH * all as f64 / level.count.max(1) as f64) as u64;
    let (coding, shape) =
        plan(&mut probs, &ranked_backoffs, &level, highest, search, ids.len() as u64, below.places)?;
    let ranks = |ranked: &[(u32, u32)], coding: &Coding| -> HashMap<u32, u32> {
        ranked[..coding.symbols].iter().map(|&(symbol, _)| symbol).zip(0..).collect()
    };
    let prob_ranks = ranks(&probs.ranked, &probs.coding);
    let backoff_ranks = ranks(&ranked_backoffs, &coding);
    let mut attempt = 0;
    let (shape, full) = loop {
        let mut items = Sorter::new(space, space.sorting(2));
        below.rewind()?;
        if let Some(symbols) = &mut probs.symbols {
            symbols.rewind()?;
        }
        // Homes that do not suffice get others and, if that does not help, more of them.
        let shape = match attempt {
            0 => shape,
            _ => more(&shape, attempt, &level, ids.len() as u64, below.places)?,
        };
        let mut number = 0;
        level.each(|weights| {
            let (parent, lower) = below.at(weights.parent)?;
            let (prob, linear) = probs.code(&weights, lower, &prob_ranks)?;
            let backoff = if highest {
                Code { code: 0, other: None }
            } else {
                code(&backoff_ranks, &coding, weights.backoff, weights.backoff)
            };
            let (home, remainder) = shape.home(parent, ids[weights.word as usize]);
            let (extends, linear) = (weights.extends, linear.to_bits());
            items.push(Item { home, remainder, number, extends, linear, prob, backoff })?;
            number += 1;
            Ok(())
        })?;
        match place(items.finish()?, &shape, space)? {
            Some(full) => break (shape, full),
            None => attempt += 1,
        }
    };
    let places = full.all(&shape);
    let ((lines, counts), placed, [prob_column, backoff_column]) = full.parts();
    Full::finish(lines, counts, &shape, out)?;
    out.section()?;
    let symbols: Vec<_> =
        probs.ranked[..probs.coding.symbols].iter().map(|&(symbol, _)| probs.shares.stored(symbol)).collect();
    prob_column.finish(space, probs.kind, probs.low, &symbols, out)?;
    out.section()?;
    if !highest {
        let number = |bits: u32| (linear(f32::from_bits(bits)) as f32).to_bits();
        let symbols: Vec<_> =
            ranked_backoffs[..coding.symbols].iter().map(|&(bits, _)| (bits, number(bits))).collect();
        backoff_column.finish(space, VALUES, 0, &symbols, out)?;
        out.section()?;
    }
    Parents::placed(&mut placed.finish()?, places, space)
}

/// Looks at all probabilities.
fn probs(level: &mut Level, below: &mut Parents, space: &Space) -> io::Result<Probs> {
    let shares = Shares::of(level, space)?;
    let log10 = Log10::new();
    let mut symbols = space.spool();
    let mut counts: HashMap<u32, u32> = HashMap::new();
    let (mut low, mut high) = (u32::MAX, 0);
    level.each(|weights| {
        (low, high) = (low.min(weights.prob), high.max(weights.prob));
        let (_, lower) = below.at(weights.parent)?;
        let backoff = linear(weights.context) as f32;
        let symbol = shares.symbol(&weights, |share| log10.magnitude(sum(share, backoff, lower)));
        if let Some(symbol) = symbol {
            *counts.entry(symbol).or_default() += 1;
        }
        symbol.unwrap_or(u32::MAX).write(&mut symbols)
    })?;
    let ranked = ranked(counts.into_iter().collect(), shares::least(level.count));
    let symbols = Some(Spool::reader(symbols)?);
    let low = low.min(high);
    // Replaced by the plan.
    let coding = Coding::plain(u32::BITS - (high - low).leading_zeros());
    Ok(Probs { symbols, ranked, shares, kind: SHARES, low, coding })
}

impl Probs {
    /// An n-gram's code, and its probability as a reader finds it.
    fn code(&mut self, weights: &Weights, lower: f64, ranks: &HashMap<u32, u32>) -> io::Result<(Code, f64)> {
        let exact = linear(f32::from_bits(weights.prob | 1 << 31));
        let Some(symbols) = &mut self.symbols else {
            return Ok((Code { code: weights.prob - self.low, other: None }, exact));
        };
        let symbol = u32::read(symbols)?;
        let code = code(ranks, &self.coding, symbol, weights.prob);
        let linear = match code.other {
            Some(_) => exact,
            None => {
                let (share, _) = self.shares.stored(symbol);
                sum(f32::from_bits(share), linear(weights.context) as f32, lower)
            }
        };
        Ok((code, linear))
    }
}

/// The code of a symbol; that of no symbol, and the value itself, if it has none.
fn code(ranks: &HashMap<u32, u32>, coding: &Coding, symbol: u32, value: u32) -> Code {
    match ranks.get(&symbol) {
        Some(&rank) => Code { code: rank, other: None },
        None => Code { code: coding.symbols as u32, other: Some(value) },
    }
}

/// The widths of codes that take the fewest bits in all; and lines for them.
fn plan(
    probs: &mut Probs,
    backoffs: &[(u32, u32)],
    level: &Level,
    highest: bool,
    search: u64,
    words: u64,
    places: u64,
) -> io::Result<(Coding, Shape)> {
    let (count, plain) = (level.count, probs.coding);
    let counts =
        |ranked: &[(u32, u32)]| -> Vec<u64> { ranked.iter().map(|&(_, count)| u64::from(count)).collect() };
    let codings = |ranked: &[(u32, u32)]| -> Vec<Coding> {
        let counts = counts(ranked);
        (0..=MOST_BITS).map(|width| Coding::symbols(&counts, count, width)).collect()
    };
    let mut of_probs = codings(&probs.ranked);
    of_probs.push(plain);
    let of_backoffs = if highest { vec![Coding::plain(0)] } else { codings(backoffs) };
    let mut best: Option<(u64, Coding, Coding, Shape)> = None;
    for &prob in &of_probs {
        for &backoff in &of_backoffs {
            let widths = [u32::from(!highest), prob.width, backoff.width];
            let Some(shape) = Shape::new(words, places, count, widths, USED) else { continue };
            let beside = |coding: Coding| {
                let marks = if coding.escaped > 0 { shape.homes * u64::from(shape.slots) * 8 / 7 } else { 0 };
                marks + coding.escaped * (u64::from(plain.width) + search) + 64 * coding.symbols as u64
            };
            let bits = 512 * shape.homes + beside(prob) + beside(backoff);
            if best.as_ref().is_none_or(|&(least, ..)| bits < least) {
                best = Some((bits, prob, backoff, shape));
            }
        }
    }
    let (_, prob, backoff, shape) = best.ok_or_else(too_many)?;
    probs.coding = prob;
    if prob.plain {
        (probs.kind, probs.symbols) = (PLAIN, None);
    }
    Ok((backoff, shape))
}

/// Backoffs that occur less often have no code. Frequent n-grams have backoffs of their own, so of orders
/// that are not too large all have one.
fn rare(count: u64) -> u32 {
    u32::try_from(count >> 22).unwrap_or(u32::MAX).max(1)
}

/// Other homes, a tenth more at each attempt but the first few.
fn more(shape: &Shape, attempt: u64, level: &Level, words: u64, places: u64) -> io::Result<Shape> {
    let widths = [shape.extends, shape.prob, shape.backoff];
    let used = USED * 0.9f64.powi(attempt.saturating_sub(2) as i32);
    let shape = Shape::new(words, places, level.count, widths, used).filter(|_| attempt < ATTEMPTS);
    Ok(Shape { seed: attempt, ..shape.ok_or_else(too_many)? })
}

fn too_many() -> io::Error {
    io::Error::other("these n-grams cannot be placed in tables; build the file for size")
}

/// The share of lines that is used: more makes looks longer, less makes files larger.
const USED: f64 = 0.88;
/// Bits that an n-gram with a weight without a code is taken to cost on top, for the time it takes, if
/// all n-grams were of its order. Words are looked for in each order about as often, so those of a small
/// order come up more often each.
const SEARCH: f64 = 48.0;
/// Codes are at most this wide.
const MOST_BITS: u32 = 18;
const ATTEMPTS: u64 = 40;
