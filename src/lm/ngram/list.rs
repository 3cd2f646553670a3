//! A word list made word by word, as ARPA files give them.

use super::vocab::{MULTIPLIER, UNK, is_unk, murmur};

/// Words numbered in the order they came; `<unk>` is 0.
///
/// All of them lie in one block of memory; finding one costs a hash and usually one comparison.
#[derive(Debug, Clone)]
pub(crate) struct List {
    bytes: Vec<u8>,
    /// Where each word ends in `bytes`; the next one begins there.
    ends: Vec<usize>,
    /// Open addressing, a power of two long, at most half full.
    slots: Vec<Slot>,
    hash: u64,
    bos: u32,
    eos: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The upper half of the word's hash: spares most comparisons of words.
    tag: u32,
    id: u32,
}

impl List {
    /// A list of `<unk>` alone.
    pub(crate) fn new() -> Self {
        Self { bytes: UNK.to_vec(), ends: vec![UNK.len()], slots: vec![EMPTY; 64], hash: 0, bos: 0, eos: 0 }
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
        let hash = murmur(word);
        let slot = self.slots[self.place(word, hash)];
        match slot.id {
            NONE => is_unk(word).then_some(0),
            id => Some(id),
        }
    }

    /// Adds a word that is neither of the unknown word's spellings; `None` if it is there already
    /// or there are too many.
    pub(crate) fn insert(&mut self, word: &[u8]) -> Option<u32> {
        let hash = murmur(word);
        let place = self.place(word, hash);
        if self.slots[place].id != NONE || self.ends.len() >= NONE as usize {
            return None;
        }
        let id = self.ends.len() as u32;
        self.slots[place] = Slot { tag: tag(hash), id };
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
        self.hash = mix(self.hash, hash);
        match word {
            b"<s>" => self.bos = id,
            b"</s>" => self.eos = id,
            _ => {}
        }
        if self.ends.len() * 2 > self.slots.len() {
            self.grow();
        }
        Some(id)
    }

    /// The slot that holds `word`, or the empty one where it would go. Ends because at least half
    /// of the slots are empty.
    fn place(&self, word: &[u8], hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.id == NONE || slot.tag == tag(hash) && self.word(slot.id) == Some(word) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        self.slots = vec![EMPTY; self.slots.len() * 2];
        for id in 1..self.ends.len() as u32 {
            let word = self.word(id).unwrap_or_default();
            let hash = murmur(word);
            let place = self.place(word, hash);
            self.slots[place] = Slot { tag: tag(hash), id };
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

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

const NONE: u32 = u32::MAX;
const EMPTY: Slot = Slot { tag: 0, id: NONE };
