//! Looking for any damage of a compact file.

use std::path::Path;
use std::sync::Arc;

use super::super::search::Lookup;
use super::bits::half;
use super::codes::{Coded, Codes};
use super::column::{Column, PLAIN};
use super::formula::linear;
use super::layout::{Layout, Prefer, damaged};
use super::model::{Compact, Level, Store, UNIGRAM};
use super::tables::{self, Tables};
use crate::{Error, Result};

/// Checks a compact file whole: every checksum, and that all parts agree. Returns the number of
/// n-grams per order, blanks included. Reads the file into memory.
///
/// # Errors
/// If the file cannot be read, or is damaged in any way.
pub fn verify(path: impl AsRef<Path>) -> Result<Vec<u64>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    check(Arc::new(bytes.into())).map_err(|what| Error::model(path, what))
}

impl Compact {
    /// What is wrong with the bytes that the model is in, if anything.
    pub(crate) fn verify(&self) -> Option<String> {
        check(self.store()).err()
    }
}

impl Tables {
    /// What is wrong with the bytes that the model is in, if anything.
    pub(crate) fn verify(&self) -> Option<String> {
        check(self.store()).err()
    }
}

/// Checks the file whose bytes are these.
pub(super) fn check(store: Store) -> Result<Vec<u64>, String> {
    let bytes: &[u8] = &store;
    let layout = Layout::open(bytes)?;
    layout.check(bytes)?;
    if layout.prefer == Prefer::Speed {
        let (model, _) = Tables::open(store.clone(), f32::NAN)?;
        return tables(bytes, &model);
    }
    let (model, vocabulary) = Compact::open(store.clone(), f32::NAN)?;
    let words = vocabulary.words.len();
    let mut seen = vec![false; words];
    for word in 0..words {
        let at = model.unigrams.start + word * UNIGRAM;
        let weights = [0, 4].map(|offset| f32::from_bits(half(bytes, at + offset)));
        let rank = half(bytes, at + 8) as usize;
        let fresh = seen.get_mut(rank).is_some_and(|seen| !std::mem::replace(seen, true));
        if !fresh || weights[0].is_nan() || !weights[1].is_finite() {
            return Err(damaged(&name(1)));
        }
        let (begin, end) = model.children(bytes, 1, rank as u64);
        if begin < end && weights[0].is_sign_negative() {
            return Err(damaged(&name(1)));
        }
    }
    let mut parents = words as u64;
    for (at, level) in model.levels.iter().enumerate() {
        let fault = |section: usize| damaged(&name(2 + 4 * at + section));
        structure(bytes, level, parents, words as u64).map_err(fault)?;
        codes(bytes, &level.probs, |value| level.formula && value >> 31 == 0 || value < 0x7f80_0001)
            .map_err(|()| fault(2))?;
        if let Some(backoffs) = &level.backoffs {
            codes(bytes, backoffs, |value| f32::from_bits(value).is_finite()).map_err(|()| fault(3))?;
        }
        parents = level.ids.len();
    }
    debug_assert_eq!(model.order(), model.levels.len() + 1);
    Ok(model.counts())
}

fn name(section: usize) -> String {
    super::layout::name(Prefer::Size, section)
}

/// Checks a file of tables: every n-gram is where it is looked for, once, and has a suffix that
/// says so; every weight is one.
fn tables(bytes: &[u8], model: &Tables) -> Result<Vec<u64>, String> {
    let fault = |section: usize| damaged(&super::layout::name(Prefer::Speed, section));
    let counts = model.counts();
    let words = counts[0];
    // Of the order below: which places are n-grams that others end with.
    let mut extends = vec![false; words as usize];
    for (word, extends) in extends.iter_mut().enumerate() {
        let at = model.unigrams.start + word * tables::UNIGRAM;
        let [prob, backoff, number, other] =
            [0, 4, 8, 12].map(|offset| f32::from_bits(half(bytes, at + offset)));
        let numbers = [linear(-prob.abs()) as f32, linear(backoff) as f32].map(f32::to_bits);
        if prob.is_nan() || !backoff.is_finite() || numbers != [number, other].map(f32::to_bits) {
            return Err(fault(1));
        }
        *extends = prob.is_sign_positive();
    }
    for (at, level) in model.levels.iter().enumerate() {
        let section = 2 + 3 * at;
        let table = &level.table;
        let mut own = vec![false; usize::try_from(table.places()).map_err(|_| fault(section))?];
        let mut extended = vec![false; extends.len()];
        let (mut next, mut count) = (0, 0);
        for home in 0..table.shape.homes {
            let (begin, many) = table.homed(bytes, home);
            if begin != next.max(home * u64::from(table.shape.slots)) || begin + many > table.places() {
                return Err(fault(section));
            }
            next = begin + many;
            count += many;
            for place in begin..next {
                let (remainder, entry) = table.entry(bytes, place);
                let (parent, word) = table.shape.key(home, remainder);
                // A context can only be extended where the suffix is one that is.
                let known = extends.get(parent as usize).copied().unwrap_or(false);
                if !known || word >= words || table.find(bytes, parent, word as u32) != Some(entry) {
                    return Err(fault(section));
                }
                extended[parent as usize] = true;
                own[place as usize] = entry.extends;
                let prob = |value: u32| level.formula && value >> 31 == 0 || value < 0x7f80_0001;
                weight(bytes, &level.probs, place, entry.prob, prob).map_err(|()| fault(section + 1))?;
                if let Some(backoffs) = &level.backoffs {
                    let finite = |value: u32| f32::from_bits(value).is_finite();
                    weight(bytes, backoffs, place, entry.backoff, finite).map_err(|()| fault(section + 2))?;
                }
            }
        }
        // Lines behind the last home are for what overflows; no more of them than that takes.
        let lines = table.shape.homes.max(next.div_ceil(u64::from(table.shape.slots)));
        if count != table.len() || lines != table.lines() {
            return Err(fault(section));
        }
        // A word may say so without: nothing but a look more comes of it.
        if at > 0 && extended != extends {
            return Err(fault(section - 3));
        }
        if let Some(backoffs) = &level.backoffs {
            let right = |rank| {
                let (bits, number) = backoffs.symbol(bytes, rank);
                (linear(f32::from_bits(bits)) as f32).to_bits() == number
            };
            if !(0..backoffs.symbols()).all(right) {
                return Err(fault(section + 2));
            }
        }
        extends = own;
    }
    Ok(counts)
}

/// A code that is one, of a value that may be, and a mark where the value is elsewhere.
fn weight(
    bytes: &[u8],
    column: &Column,
    place: u64,
    code: u64,
    may_be: impl Fn(u32) -> bool,
) -> Result<(), ()> {
    let coded = code < column.symbols() || column.kind() == PLAIN;
    let value = match column.at(bytes, place, code) {
        Coded::Symbol(rank) => column.symbol(bytes, rank).0,
        Coded::Raw(value) => value,
    };
    let right = may_be(value) && column.escaped(bytes, place) != coded && (coded || code == column.symbols());
    if right { Ok(()) } else { Err(()) }
}

/// Pointers that never fall and ids that rise within each range; which section is wrong if not.
fn structure(bytes: &[u8], level: &Level, parents: u64, words: u64) -> Result<(), usize> {
    let count = level.ids.len();
    let mut next = 0;
    let mut base = 0;
    for parent in 0..parents {
        let (begin, end) = level.pointers.pair(bytes, parent);
        if begin != next || end < begin || end > count {
            return Err(0);
        }
        next = end;
        let from = base;
        for at in begin..end {
            let id = level.ids.at(bytes, at);
            let rank = id.wrapping_sub(from);
            if id < base || rank >= words || level.ids.find(bytes, begin, end, rank) != Some(at) {
                return Err(1);
            }
            base = id + 1;
        }
    }
    if next == count { Ok(()) } else { Err(0) }
}

/// Codes of symbols that there are, of values that may be.
fn codes(bytes: &[u8], codes: &Codes, may_be: impl Fn(u32) -> bool) -> Result<(), ()> {
    let symbols = (0..codes.symbols()).all(|rank| may_be(codes.symbol(bytes, rank).0));
    let entries = (0..codes.len()).all(|at| match codes.at(bytes, at) {
        Coded::Symbol(rank) => rank < codes.symbols(),
        Coded::Raw(value) => may_be(value),
    });
    if symbols && entries { Ok(()) } else { Err(()) }
}
