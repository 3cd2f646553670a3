//! A hash table from 64-bit n-gram keys to weights.

use super::modulo::Modulo;
use crate::lm::memory::Memory;
use crate::lm::prefetch::{prefetch_many, prefetch_on};

/// An n-gram's weights, log10.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) key: u64,
    /// Minus its absolute value is the probability. A set sign says that no longer n-gram ends
    /// with this one.
    pub(crate) prob: f32,
    /// -0.0 if no n-gram continues this one.
    pub(crate) backoff: f32,
}

/// Open addressing with linear probing. At most three quarters full; or, if `FIXED`, of one size,
/// with keys where KenLM's files have them.
///
/// Keys are compared, words are not: two n-grams with equal keys would be one (2^-64 for each
/// pair; KenLM's tables do the same).
pub(crate) struct Table<const FIXED: bool> {
    /// [`Slot`]s as KenLM's files have them; those that are empty are zeros.
    memory: Memory,
    /// Number of slots.
    size: Modulo,
    used: usize,
}

/// What became of an n-gram that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is in the table.
    New,
    /// Its key was in the table before.
    Known,
    /// There is no room: in a table of fixed size, or in memory for a larger one.
    Full,
}

impl Table<true> {
    /// A table with this many slots, at least one; `None` if there is no memory for them.
    pub(crate) fn fixed(slots: usize) -> Option<Self> {
        Self::with(slots)
    }

    /// All slots in their order, as a KenLM file has them: key, probability, backoff.
    pub(crate) fn entries(&self) -> &[[u8; SLOT]] {
        self.slots()
    }
}

impl<const FIXED: bool> Table<FIXED> {
    /// A table with room for about `expected` n-grams, or for a few if there is too little memory; it
    /// grows when there are more.
    pub(crate) fn new(expected: usize) -> Self {
        let slots = expected.saturating_add(expected / 2).saturating_add(FEWEST);
        Self::with(slots).unwrap_or_else(|| Self::of(vec![0; FEWEST * SLOT].into()))
    }

    /// `None` if there is too little memory.
    fn with(slots: usize) -> Option<Self> {
        Some(Self::of(Memory::zeroed(slots.checked_mul(SLOT)?).ok()?))
    }

    fn of(memory: Memory) -> Self {
        let size = Modulo::new((memory.len() / SLOT) as u64);
        Self { memory, size, used: 0 }
    }

    /// Where a key's weights are.
    pub(crate) fn find(&self, key: u64) -> Option<usize> {
        let key = sane(key);
        let (place, found) = self.place(key);
        (found == key).then_some(place)
    }

    /// A key's slot, searched from its ideal one.
    #[inline]
    pub(crate) fn find_from(&self, key: u64, ideal: usize) -> Option<Slot> {
        let key = sane(key);
        let (slots, mut at) = (self.slots(), ideal);
        loop {
            let slot = Slot::of(slots[at]);
            if slot.key == key {
                return Some(slot);
            }
            if slot.key == 0 {
                return None;
            }
            at += 1;
            if at == slots.len() {
                at = 0;
            }
        }
    }

    /// The weights at a place that [`Table::find`] gave.
    pub(crate) fn at(&self, place: usize) -> Slot {
        Slot::of(self.slots()[place])
    }

    /// Changes the probability at a place that [`Table::find`] gave.
    pub(crate) fn set_prob(&mut self, place: usize, prob: f32) {
        self.put(place, Slot { prob, ..self.at(place) });
    }

    /// Changes the backoff at a place that [`Table::find`] gave.
    pub(crate) fn set_backoff(&mut self, place: usize, backoff: f32) {
        self.put(place, Slot { backoff, ..self.at(place) });
    }

    /// Asks for a key's ideal slot, and those behind it.
    pub(crate) fn near(&self, key: u64) {
        prefetch_on(self.slots(), self.ideal(key));
    }

    /// Asks for a slot and those behind it, one of many.
    #[inline]
    pub(crate) fn near_place(&self, place: usize) {
        prefetch_many(self.slots(), place);
    }

    /// Adds an n-gram.
    pub(crate) fn insert(&mut self, key: u64, prob: f32, backoff: f32) -> Added {
        let key = sane(key);
        let (place, found) = self.place(key);
        if found == key {
            return Added::Known;
        }
        if FIXED && self.used + 1 == self.slots().len() {
            return Added::Full;
        }
        self.put(place, Slot { key, prob, backoff });
        self.used += 1;
        if !FIXED && self.used > self.slots().len() / 4 * 3 && self.grow().is_none() {
            return Added::Full;
        }
        Added::New
    }

    /// Number of n-grams.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    fn slots(&self) -> &[[u8; SLOT]] {
        self.memory.as_chunks().0
    }

    fn put(&mut self, place: usize, slot: Slot) {
        let weight = |weight: f32, bit: u32| u128::from(weight.to_bits()) << bit;
        let all = u128::from(slot.key) | weight(slot.prob, 64) | weight(slot.backoff, 96);
        let slots: &mut [[u8; SLOT]] = self.memory.as_chunks_mut().0;
        slots[place] = all.to_le_bytes();
    }

    /// The slot of a key, or the empty one where it would go; and the key that is there. Ends because
    /// one is empty at least.
    fn place(&self, key: u64) -> (usize, u64) {
        let slots = self.slots();
        let mut at = self.ideal(key);
        loop {
            let found = u128::from_le_bytes(slots[at]) as u64;
            if found == key || found == 0 {
                return (at, found);
            }
            at += 1;
            if at == slots.len() {
                at = 0;
            }
        }
    }

    /// Upper bits of the key times the size: cheaper than a remainder, which is what KenLM takes. Keys
    /// are products with random odd constants, so their upper bits are well mixed.
    #[inline]
    pub(crate) fn ideal(&self, key: u64) -> usize {
        let key = sane(key);
        if FIXED {
            return self.size.of(key) as usize;
        }
        ((u128::from(key) * u128::from(self.size.divisor())) >> 64) as usize
    }

    /// None if there is too little memory; then all stays as it is.
    fn grow(&mut self) -> Option<()> {
        let larger = Self::with(self.slots().len().checked_mul(2)?)?;
        let old = std::mem::replace(self, larger);
        for place in 0..old.slots().len() {
            let slot = old.at(place);
            if slot.key != 0 {
                let (place, _) = self.place(slot.key);
                self.put(place, slot);
            }
        }
        self.used = old.used;
        Some(())
    }
}

impl Slot {
    #[inline]
    fn of(bytes: [u8; SLOT]) -> Self {
        let all = u128::from_le_bytes(bytes);
        let weight = |bit: u32| f32::from_bits((all >> bit) as u32);
        Self { key: all as u64, prob: weight(64), backoff: weight(96) }
    }
}

/// 0 marks empty slots, so the one key that is 0 shares with key 1.
fn sane(key: u64) -> u64 {
    key.max(1)
}

/// Bytes of a slot.
const SLOT: usize = 16;
const FEWEST: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_fixed_table_keeps_a_slot_empty() {
        let mut table = Table::fixed(4).unwrap();
        let added: Vec<Added> = [5, 9, 9, 1, 2].map(|key| table.insert(key, 0.0, 0.0)).into();
        assert_eq!(added, [Added::New, Added::New, Added::Known, Added::New, Added::Full]);
        // 5, 9 and 1 have the ideal slot 1, and went where there was room, in turn.
        assert_eq!([0, 1, 2, 3].map(|place| table.at(place).key), [0, 5, 9, 1]);
        assert_eq!(table.find(2), None);
    }

    proptest! {
        #[test]
        fn holds_what_a_map_holds(
            keys in prop::collection::vec(prop_oneof![0u64..50, any::<u64>(), (u64::MAX - 9)..], 0..400),
            expected in 0usize..40,
        ) {
            let mut table = Table::<false>::new(expected);
            let mut map = HashMap::new();
            for (value, &key) in keys.iter().enumerate() {
                let fresh = !map.contains_key(&key.max(1));
                prop_assert_eq!(table.insert(key, value as f32, 0.0) == Added::New, fresh);
                map.entry(key.max(1)).or_insert(value as f32);
            }
            prop_assert_eq!(table.len(), map.len());
            for (&key, &value) in &map {
                prop_assert_eq!(table.find(key).map(|place| table.at(place).prob), Some(value));
            }
            for key in 50..90 {
                prop_assert_eq!(table.find(key).is_some(), map.contains_key(&key));
            }
        }
    }
}
