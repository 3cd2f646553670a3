//! Every n-gram of the highest order, and how often it occurs.

use std::sync::Arc;

use super::corpus::{BOS, EOS};
use super::key::{Key, Packing};
use super::sort::{Codec, Entry, Pool, Sorter, Value};
use super::temporary::Stored;
use super::watch::Watch;
use crate::Result;

/// Collects the n-grams of `tokens` ids in suffix order, with their counts.
///
/// A sentence begins with as many `<s>` as a context has words, so that each of its words, and its
/// end, is the last word of one n-gram.
pub(super) fn count<const L: usize>(
    ids: Stored,
    tokens: u64,
    order: usize,
    packing: Packing,
    pool: &Arc<Pool<L>>,
    watch: &mut Watch<'_>,
) -> Result<Sorter<L>> {
    let codec = Codec { key: packing.bytes(order), value: Value::Number };
    let mut sorter = Sorter::adding(pool, codec);
    let begin = (0..order).fold(Key::ZERO, |key, _| packing.roll(key, order, BOS));
    let mut key = begin;
    let mut ids = ids.read(READ_CHUNK)?;
    for _ in 0..tokens {
        let id = ids.number()? as u32;
        key = packing.roll(key, order, id);
        if sorter.push(Entry { key, value: 1 })? && pool.full() {
            sorter.spill()?;
        }
        if id == EOS {
            key = begin;
        }
        watch.advance(1)?;
    }
    Ok(sorter)
}

const READ_CHUNK: usize = 1 << 16;
