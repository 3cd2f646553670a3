//! A hash table from 64-bit n-gram keys to weights.

use crate::lm::prefetch::prefetch;

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
#[derive(Debug, Clone)]
pub(crate) struct Table<const FIXED: bool> {
    slots: Vec<Slot>,
    used: usize,
}

/// What became of an n-gram that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is in the table.
    New,
    /// Its key was in the table before.
    Known,
    /// There is no room; only in tables of fixed size.
    Full,
}

impl Table<true> {
    /// A table with this many slots, at least one; `None` if there is no memory for them.
    pub(crate) fn fixed(slots: usize) -> Option<Self> {
        let mut table = Self { slots: Vec::new(), used: 0 };
        table.slots.try_reserve_exact(slots).ok()?;
        table.slots.resize(slots, EMPTY);
        Some(table)
    }

    /// All slots in their order; empty ones have the key 0.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

impl<const FIXED: bool> Table<FIXED> {
    /// A table with room for about `expected` n-grams; it grows when there are more.
    pub(crate) fn new(expected: usize) -> Self {
        Self { slots: vec![EMPTY; expected + expected / 2 + 2], used: 0 }
    }

    /// Where a key's weights are.
    pub(crate) fn find(&self, key: u64) -> Option<usize> {
        let key = sane(key);
        let place = self.place(key);
        (self.slots[place].key == key).then_some(place)
    }

    /// The weights at a place that [`Table::find`] gave.
    pub(crate) fn at(&self, place: usize) -> &Slot {
        &self.slots[place]
    }

    /// The same, to be changed.
    pub(crate) fn at_mut(&mut self, place: usize) -> &mut Slot {
        &mut self.slots[place]
    }

    /// Asks for a key's ideal slot.
    pub(crate) fn near(&self, key: u64) {
        prefetch(&self.slots, self.ideal(sane(key)));
    }

    /// Adds an n-gram.
    pub(crate) fn insert(&mut self, key: u64, prob: f32, backoff: f32) -> Added {
        let key = sane(key);
        let place = self.place(key);
        if self.slots[place].key == key {
            return Added::Known;
        }
        if FIXED && self.used + 1 == self.slots.len() {
            return Added::Full;
        }
        self.slots[place] = Slot { key, prob, backoff };
        self.used += 1;
        if !FIXED && self.used > self.slots.len() / 4 * 3 {
            self.grow();
        }
        Added::New
    }

    /// Number of n-grams.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// The slot of a key, or the empty one where it would go. Ends because one is empty at least.
    fn place(&self, key: u64) -> usize {
        let mut at = self.ideal(key);
        loop {
            let slot = &self.slots[at];
            if slot.key == key || slot.key == 0 {
                return at;
            }
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
    }

    /// Upper bits of the key times the size: a modulo without division, for any size. Keys are
    /// products with random odd constants, so their upper bits are well mixed.
    /// KenLM divides.
    fn ideal(&self, key: u64) -> usize {
        if FIXED {
            return (key % self.slots.len() as u64) as usize;
        }
        ((u128::from(key) * self.slots.len() as u128) >> 64) as usize
    }

    fn grow(&mut self) {
        let empty = vec![EMPTY; self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, empty) {
            if slot.key != 0 {
                let place = self.place(slot.key);
                self.slots[place] = slot;
            }
        }
    }
}

/// 0 marks empty slots, so the one key that is 0 shares with key 1.
fn sane(key: u64) -> u64 {
    key.max(1)
}

const EMPTY: Slot = Slot { key: 0, prob: 0.0, backoff: 0.0 };

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
        assert_eq!(table.slots().iter().map(|slot| slot.key).collect::<Vec<_>>(), [0, 5, 9, 1]);
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
