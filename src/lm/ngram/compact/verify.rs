//! Looking for any damage of a compact file.

use std::path::Path;
use std::sync::Arc;

use super::super::search::Lookup;
use super::bits::half;
use super::codes::{Coded, Codes};
use super::layout::{Layout, damaged, name};
use super::model::{Compact, Level, Store, UNIGRAM};
use crate::{Error, Result};

/// Checks a compact file whole: every checksum, and that all parts agree. Returns the number of
/// n-grams per order, blanks included. Reads the file into memory.
///
/// # Errors
/// If the file cannot be read, or is damaged in any way.
pub fn verify(path: impl AsRef<Path>) -> Result<Vec<u64>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    check(Arc::new(bytes)).map_err(|what| Error::model(path, what))
}

impl Compact {
    /// What is wrong with the bytes that the model is in, if anything.
    pub(crate) fn verify(&self) -> Option<String> {
        check(self.store()).err()
    }
}

/// Checks the file whose bytes are these.
pub(super) fn check(store: Store) -> Result<Vec<u64>, String> {
    let bytes = (*store).as_ref();
    let layout = Layout::open(bytes)?;
    layout.check(bytes)?;
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
