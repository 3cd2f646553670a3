//! A word list made word by word, as ARPA files give them.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use super::vocab::{MULTIPLIER, UNK, is_unk, murmur};
use crate::lm::prefetch::prefetch;

/// Words numbered in the order they came; `<unk>` is 0.
///
/// Finding a word of up to eight bytes reads one slot, usually; a longer one is compared with what
/// its id spells besides.
#[derive(Debug, Clone)]
pub(crate) struct List {
    bytes: Vec<u8>,
    /// Where each word ends in `bytes`; the next one begins there.
    ends: Vec<usize>,
    /// Open addressing, a power of two long, at most half full.
    slots: Vec<Slot>,
    /// Seeded by chance, so that no file can be made to have all its words in one place.
    hasher: RandomState,
    hash: u64,
    bos: u32,
    eos: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// What the word begins with ([`head`]).
    head: u64,
    /// Its length, and a part of its hash.
    check: u32,
    id: u32,
}

/// What a word is looked up by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Key {
    hash: u64,
    /// As in [`Slot`].
    head: u64,
    check: u32,
}

impl List {
    /// A list of `<unk>` alone.
    pub(crate) fn new() -> Self {
        Self {
            bytes: UNK.to_vec(),
            ends: vec![UNK.len()],
            slots: vec![EMPTY; 64],
            hasher: RandomState::default(),
            hash: 0,
            bos: 0,
            eos: 0,
        }
    }

    /// Makes room for so many words that have so many bytes together; for no more than can differ from each
    /// other.
    pub(crate) fn reserve(&mut self, words: usize, bytes: usize) {
        // A file that lies must not cost more than one that has so many words: all but the short have three bytes.
        let words = words.min(SHORT + bytes / 3);
        self.bytes.reserve_exact(bytes);
        self.ends.reserve_exact(words);
        let slots = ((self.ends.len() + words) * 2).next_power_of_two();
        if slots > self.slots.len() {
            self.rehash(slots);
        }
    }

    /// The word of an id. `None` if there is no such id.
    pub(crate) fn word(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.bytes[start..end])
    }

    /// Number of words, `<unk>` included.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The id of a word that the model lists, `<unk>` and `<UNK>` (0) included.
    pub(crate) fn find(&self, word: &[u8]) -> Option<u32> {
        self.find_by(&self.key(word), word)
    }

    /// The same with the word's key.
    #[inline]
    pub(crate) fn find_by(&self, key: &Key, word: &[u8]) -> Option<u32> {
        match self.slots[self.place(key, word)].id {
            NONE => is_unk(word).then_some(0),
            id => Some(id),
        }
    }

    /// The key of a word.
    #[inline]
    pub(crate) fn key(&self, word: &[u8]) -> Key {
        self.key_of(word, head(word))
    }

    /// The key of a word that has this [`head`].
    #[inline]
    pub(crate) fn key_of(&self, word: &[u8], head: u64) -> Key {
        let mut hasher = self.hasher.build_hasher();
        if word.len() <= 8 {
            hasher.write_u64(head);
        } else {
            hasher.write(word);
        }
        let hash = hasher.finish();
        let check = (hash >> 32) as u32 & !0xff | word.len().min(0xff) as u32;
        Key { hash, head, check }
    }

    /// Asks for the memory that [`List::find_by`] reads.
    #[inline]
    pub(crate) fn near(&self, key: &Key) {
        prefetch(&self.slots, key.hash as usize & (self.slots.len() - 1));
    }

    /// Adds a word that is neither of the unknown word's spellings; `None` if it is there already
    /// or there are too many.
    pub(crate) fn insert(&mut self, word: &[u8]) -> Option<u32> {
        let key = self.key(word);
        let place = self.place(&key, word);
        if self.slots[place].id != NONE || self.ends.len() >= NONE as usize {
            return None;
        }
        let id = self.ends.len() as u32;
        self.slots[place] = Slot { head: key.head, check: key.check, id };
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
        self.hash = mix(self.hash, murmur(word));
        match word {
            b"<s>" => self.bos = id,
            b"</s>" => self.eos = id,
            _ => {}
        }
        if self.ends.len() * 2 > self.slots.len() {
            self.rehash(self.slots.len() * 2);
        }
        Some(id)
    }

    /// The slot that holds `word`, or the empty one where it would go. Ends because at least half
    /// of the slots are empty.
    #[inline]
    fn place(&self, key: &Key, word: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = key.hash as usize & mask;
        loop {
            let slot = self.slots[at];
            let alike = (slot.head, slot.check) == (key.head, key.check);
            if slot.id == NONE || alike && (word.len() <= 8 || self.word(slot.id) == Some(word)) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    fn rehash(&mut self, slots: usize) {
        self.slots = vec![EMPTY; slots];
        for id in 1..self.ends.len() as u32 {
            let word = self.word(id).unwrap_or_default();
            let key = self.key(word);
            let place = self.place(&key, word);
            self.slots[place] = Slot { head: key.head, check: key.check, id };
        }
    }

    /// A number that equal lists share.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn bos(&self) -> u32 {
        self.bos
    }

    pub(crate) fn eos(&self) -> u32 {
        self.eos
    }
}

/// Adds a word's hash to that of the words before it.
pub(crate) fn mix(before: u64, word: u64) -> u64 {
    (before.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER)
}

/// The first eight bytes of a word; of a shorter one all of it, and zeros.
#[inline]
pub(super) fn head(word: &[u8]) -> u64 {
    if let Some(&first) = word.first_chunk::<8>() {
        return u64::from_le_bytes(first);
    }
    word.iter().rev().fold(0, |head, &byte| head << 8 | u64::from(byte))
}

const NONE: u32 = u32::MAX;
const EMPTY: Slot = Slot { head: 0, check: 0, id: NONE };
/// Different words of one byte or two.
const SHORT: usize = 256 + 256 * 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_is_made_for_words_that_cannot_be() {
        let mut list = List::new();
        list.reserve(usize::MAX, 30_000);
        assert_eq!(list.slots.len(), 1 << 18);
        // All words of two bytes have room, and longer ones.
        for word in 0..76_000u32 {
            let bytes = word.to_le_bytes();
            list.insert(&bytes[..if word < 1 << 16 { 2 } else { 3 }]).unwrap();
        }
        assert_eq!((list.slots.len(), list.len()), (1 << 18, 76_001));
    }
}
