//! The word list of an n-gram model.

use crate::tokens::{Known, Vocab};

/// The words of an n-gram model, numbered in the order of its file; `<unk>` is 0.
///
/// Words are bytes, compared exactly. All of them lie in one block of memory; finding one costs a
/// hash and usually one comparison.
#[derive(Debug, Clone)]
pub struct Words {
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

impl Words {
    /// A list of `<unk>` alone.
    pub(crate) fn new() -> Self {
        Self { bytes: UNK.to_vec(), ends: vec![UNK.len()], slots: vec![EMPTY; 64], hash: 0, bos: 0, eos: 0 }
    }

    /// The id of a word; 0 for `<unk>`, `<UNK>` and every word the model does not list.
    pub fn id(&self, word: &[u8]) -> u32 {
        self.find(word).unwrap_or(0)
    }

    /// The word of an id. `None` if there is no such id.
    pub fn word(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.bytes[start..end])
    }

    /// Number of words, `<unk>` included.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Never: there is always `<unk>`.
    pub fn is_empty(&self) -> bool {
        false
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
        self.hash = (self.hash.rotate_left(5) ^ hash).wrapping_mul(MULTIPLIER);
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
}

impl Vocab for Words {
    fn size(&self) -> usize {
        self.len()
    }

    fn bos(&self) -> u32 {
        self.bos
    }

    fn eos(&self) -> u32 {
        self.eos
    }

    fn unk(&self) -> Option<u32> {
        Some(0)
    }

    fn encode(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        let id = self.id(word);
        ids.push(id);
        if id == 0 { Known::No } else { Known::Yes }
    }

    fn starts_word(&self, _token: u32) -> bool {
        true
    }

    fn words(&self) -> bool {
        true
    }

    fn symbol(&self, token: u32) -> Option<Vec<u8>> {
        self.word(token).map(<[u8]>::to_vec)
    }

    fn hash(&self) -> u64 {
        self.hash
    }
}

/// Whether a word is one of the two spellings of the unknown word.
pub(crate) fn is_unk(word: &[u8]) -> bool {
    word == UNK || word == b"<UNK>"
}

/// MurmurHash64A with seed 0 (Austin Appleby, public domain): what KenLM's files know words by.
pub(crate) fn murmur(bytes: &[u8]) -> u64 {
    let mut hash = (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (blocks, tail) = bytes.as_chunks();
    for &block in blocks {
        let mut k = u64::from_le_bytes(block);
        k = k.wrapping_mul(MULTIPLIER);
        k ^= k >> 47;
        hash = (hash ^ k.wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        let tail = tail.iter().rev().fold(0, |tail, &byte| tail << 8 | u64::from(byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 47;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ hash >> 47
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

const UNK: &[u8] = b"<unk>";
const NONE: u32 = u32::MAX;
const EMPTY: Slot = Slot { tag: 0, id: NONE };
const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn both_spellings_of_the_unknown_word_are_zero_and_no_others() {
        let mut words = Words::new();
        assert_eq!(words.insert(b"<Unk>"), Some(1));
        assert_eq!(words.find(b"<unk>"), Some(0));
        assert_eq!(words.find(b"<UNK>"), Some(0));
        assert_eq!(words.find(b"<uNK>"), None);
        assert_eq!(words.id(b"nowhere"), 0);
        assert_eq!(words.symbol(0).as_deref(), Some(&b"<unk>"[..]));
        assert_eq!(words.symbol(2), None);
        let mut ids = Vec::new();
        assert_eq!(words.encode(b"<Unk>", &mut ids), Known::Yes);
        assert_eq!(words.encode(b"zz", &mut ids), Known::No);
        assert_eq!(ids, [1, 0]);
    }

    #[test]
    fn the_hash_of_words_is_murmur_64a() {
        // From the vocabulary tables of files that KenLM built.
        assert_eq!(murmur(b"#"), 0xdc71_467e_5580_a8aa);
        assert_eq!(murmur(b"</s>"), 0x6be0_737d_f1f7_6c0a);
        assert_eq!(murmur("עולם".as_bytes()), 0x53c5_68c7_f53c_ede9);
        assert_eq!(murmur("दुनिया".as_bytes()), 0x596e_c95c_9585_3814);
    }

    proptest! {
        #[test]
        fn any_words_get_ids_in_order_and_are_found_again(
            list in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..4), 0..300)
        ) {
            let mut words = Words::new();
            let mut model: HashMap<Vec<u8>, u32> = HashMap::new();
            for word in list {
                let expected = model.len() as u32 + 1;
                let fresh = !model.contains_key(&word);
                prop_assert_eq!(words.insert(&word), fresh.then_some(expected));
                model.entry(word).or_insert(expected);
            }
            prop_assert_eq!(words.size(), model.len() + 1);
            for (word, &id) in &model {
                prop_assert_eq!(words.id(word), id);
                prop_assert_eq!(words.word(id), Some(&word[..]));
            }
        }
    }
}
