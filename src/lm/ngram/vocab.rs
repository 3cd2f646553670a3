//! The vocabulary of an n-gram model.

use super::kenlm::Lexicon;
use super::list::{Key, List, mix};
use crate::tokens::{Known, Vocab};

/// The words of an n-gram model, numbered as its file numbers them; `<unk>` is 0.
///
/// Words are bytes, compared exactly; KenLM's binary files know them by their 64-bit hashes only,
/// and may lack their spellings.
#[derive(Debug, Clone)]
pub struct Words(Source);

#[derive(Debug, Clone)]
enum Source {
    List(List),
    Lexicon(Box<Lexicon>),
}

impl Words {
    /// A list of `<unk>` alone.
    pub(crate) fn new() -> Self {
        Self(Source::List(List::new()))
    }

    /// Makes room for so many words that have so many bytes together.
    pub(crate) fn reserve(&mut self, words: usize, bytes: usize) {
        if let Source::List(list) = &mut self.0 {
            list.reserve(words, bytes);
        }
    }

    /// The id of a word; 0 for `<unk>`, `<UNK>` and every word the model does not list.
    pub fn id(&self, word: &[u8]) -> u32 {
        match &self.0 {
            Source::List(list) => list.find(word).unwrap_or(0),
            Source::Lexicon(lexicon) => lexicon.id(word),
        }
    }

    /// The ids of many words, as [`Words::id`] gives them; faster than one by one.
    pub fn ids<'a>(&self, words: impl IntoIterator<Item = &'a [u8]>, ids: &mut Vec<u32>) {
        let Source::Lexicon(lexicon) = &self.0 else {
            return ids.extend(words.into_iter().map(|word| self.id(word)));
        };
        let mut words = words.into_iter();
        let mut hashes = [0; AHEAD];
        loop {
            let mut count = 0;
            for (word, hash) in words.by_ref().take(AHEAD).zip(&mut hashes) {
                // No word has the hash 0.
                *hash = if is_unk(word) { 0 } else { murmur(word) };
                lexicon.near(*hash);
                count += 1;
            }
            ids.extend(hashes[..count].iter().map(|&hash| lexicon.hashed(hash).unwrap_or(0)));
            if count < AHEAD {
                return;
            }
        }
    }

    /// The word of an id. `None` if there is no such id, or no spelling of it.
    pub fn word(&self, id: u32) -> Option<&[u8]> {
        match &self.0 {
            Source::List(list) => list.word(id),
            Source::Lexicon(lexicon) => lexicon.word(id),
        }
    }

    /// Number of words, `<unk>` included.
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::List(list) => list.len(),
            Source::Lexicon(lexicon) => lexicon.len(),
        }
    }

    /// Never: there is always `<unk>`.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Checks that ids can be turned into words.
    ///
    /// # Errors
    /// Why they cannot, as the end of a sentence that begins with the file's name: a KenLM file was
    /// built without the spellings, or they are damaged.
    pub fn spelled(&self) -> Result<(), &str> {
        match &self.0 {
            Source::List(_) => Ok(()),
            Source::Lexicon(lexicon) => lexicon.starts().map(|_| ()),
        }
    }

    /// The id of a word that the model lists, `<unk>` and `<UNK>` (0) included.
    pub(crate) fn find(&self, word: &[u8]) -> Option<u32> {
        match &self.0 {
            Source::List(list) => list.find(word),
            Source::Lexicon(lexicon) => Some(lexicon.id(word)).filter(|&id| id > 0 || is_unk(word)),
        }
    }

    /// Begins to find a word with this [`head`](super::list::head): its key, of which the memory was
    /// asked for.
    #[inline]
    pub(crate) fn seek(&self, word: &[u8], head: u64) -> Key {
        match &self.0 {
            Source::List(list) => {
                let key = list.key_of(word, head);
                list.near(&key);
                key
            }
            // Those that are found side by side have [`Words::ids`].
            Source::Lexicon(_) => Key::default(),
        }
    }

    /// As [`Words::find`], with what [`Words::seek`] gave.
    #[inline]
    pub(crate) fn find_by(&self, key: &Key, word: &[u8]) -> Option<u32> {
        match &self.0 {
            Source::List(list) => list.find_by(key, word),
            Source::Lexicon(_) => self.find(word),
        }
    }

    /// Adds a word that is neither of the unknown word's spellings; `None` if it is there already
    /// or there are too many, or the vocabulary is a file's.
    pub(crate) fn insert(&mut self, word: &[u8]) -> Option<u32> {
        match &mut self.0 {
            Source::List(list) => list.insert(word),
            Source::Lexicon(_) => None,
        }
    }
}

impl From<Lexicon> for Words {
    fn from(lexicon: Lexicon) -> Self {
        Self(Source::Lexicon(Box::new(lexicon)))
    }
}

impl Vocab for Words {
    fn size(&self) -> usize {
        self.len()
    }

    fn bos(&self) -> u32 {
        match &self.0 {
            Source::List(list) => list.bos(),
            Source::Lexicon(lexicon) => lexicon.bos(),
        }
    }

    fn eos(&self) -> u32 {
        match &self.0 {
            Source::List(list) => list.eos(),
            Source::Lexicon(lexicon) => lexicon.eos(),
        }
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
        match &self.0 {
            Source::List(list) => list.hash(),
            // Of the words that the model has, in the order of ids, as a list's.
            Source::Lexicon(lexicon) => lexicon.hashes()[1..].iter().fold(0, |hash, &word| mix(hash, word)),
        }
    }
}

/// Whether a word is one of the two spellings of the unknown word.
pub(crate) fn is_unk(word: &[u8]) -> bool {
    word == UNK || word == b"<UNK>"
}

/// MurmurHash64A with seed 0 (Austin Appleby, public domain): what KenLM's files know words by.
#[inline]
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
        hash = (hash ^ little_endian(tail)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 47;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ hash >> 47
}

/// The number that at most seven bytes are: two reads that overlap, instead of a step for each byte.
#[inline]
fn little_endian(bytes: &[u8]) -> u64 {
    let more = |by: usize| 8 * (bytes.len() - by);
    if let (Some(&first), Some(&last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return u64::from(u32::from_le_bytes(first)) | u64::from(u32::from_le_bytes(last)) << more(4);
    }
    if let (Some(&first), Some(&last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return u64::from(u16::from_le_bytes(first)) | u64::from(u16::from_le_bytes(last)) << more(2);
    }
    bytes.first().map_or(0, |&byte| byte.into())
}

/// Words that are looked up side by side.
const AHEAD: usize = 32;
/// How the unknown word is spelled.
pub(crate) const UNK: &[u8] = b"<unk>";
pub(crate) const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;

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
        fn up_to_seven_bytes_are_a_number(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(&bytes);
            prop_assert_eq!(little_endian(&bytes), u64::from_le_bytes(padded));
        }

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
