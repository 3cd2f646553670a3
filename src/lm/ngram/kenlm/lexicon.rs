//! The vocabulary of a KenLM file: hashes of words to ids in place, and spellings if it has them.

use std::sync::{Arc, OnceLock};

use super::header::damaged;
use super::layout::{MIDDLE_ENTRY, REST_ENTRY, Table, VOCABULARY_ENTRY};
use super::raw::{u32_at, u64_at};
use crate::lm::bytes::Bytes;
use crate::lm::ngram::vocab::{is_unk, murmur};
use crate::lm::prefetch::{prefetch, prefetch_on};

/// Words known by their 64-bit hashes. Two words with one hash would be one word.
#[derive(Debug, Clone)]
pub(crate) struct Lexicon {
    bytes: Arc<Bytes>,
    index: Index,
    /// Number of ids, `<unk>` (0) included.
    bound: u32,
    /// Where the spellings begin.
    strings: Option<usize>,
    /// Where each word begins, and the last ends; made when first asked for.
    starts: OnceLock<Result<Vec<usize>, String>>,
    bos: u32,
    eos: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Index {
    /// A hash table of (hash, id).
    Table(Table),
    /// Hashes in ascending order; the first is that of word 1.
    Sorted { start: usize },
}

impl Lexicon {
    /// The lexicon in a hash table. Looks at every entry.
    ///
    /// # Errors
    /// If the table contradicts itself.
    pub(crate) fn table(
        bytes: &Arc<Bytes>,
        table: Table,
        words: u64,
        strings: Option<usize>,
    ) -> Result<Self, String> {
        let head = table.start - 8;
        let (version, bound) = (u32_at(bytes, head), u32_at(bytes, head + 4));
        if version != 0 {
            return Err(format!(
                "has version {version} of the vocabulary, expected 0; build it again from the ARPA file"
            ));
        }
        if bound == 0 || u64::from(bound) > words + 1 {
            return Err(damaged(format!("the vocabulary has {bound} ids for {words} words")));
        }
        let mut used = 0u64;
        for (hash, id) in entries(bytes, table) {
            if hash != 0 && (id == 0 || id >= bound) {
                return Err(damaged(format!("a word has the id {id}, and ids are below {bound}")));
            }
            used += u64::from(hash != 0);
        }
        if used >= u64::from(bound) || used == table.buckets.divisor() {
            return Err(damaged(format!("the vocabulary has {used} words for {bound} ids")));
        }
        Self::new(bytes, Index::Table(table), bound, strings)
    }

    /// The lexicon in sorted hashes. Looks at each of them.
    ///
    /// # Errors
    /// If they are not ascending or there are more than the header says.
    pub(crate) fn sorted(
        bytes: &Arc<Bytes>,
        start: usize,
        words: u64,
        strings: Option<usize>,
    ) -> Result<Self, String> {
        let count = u64_at(bytes, start);
        if count >= words {
            return Err(damaged(format!("the vocabulary has {count} hashes for {words} words")));
        }
        let start = start + 8;
        let mut last = None;
        for at in 0..count as usize {
            let hash = u64_at(bytes, start + 8 * at);
            if last.is_some_and(|last| last >= hash) {
                return Err(damaged("the hashes of the words are not in ascending order"));
            }
            last = Some(hash);
        }
        Self::new(bytes, Index::Sorted { start }, count as u32 + 1, strings)
    }

    fn new(bytes: &Arc<Bytes>, index: Index, bound: u32, strings: Option<usize>) -> Result<Self, String> {
        if let Some(at) = strings
            && !bytes[at..].starts_with(FIRST)
        {
            return Err(damaged("the words are not where the header says"));
        }
        let bytes = bytes.clone();
        let mut lexicon = Self { bytes, index, bound, strings, starts: OnceLock::new(), bos: 0, eos: 0 };
        lexicon.bos = lexicon.id(b"<s>");
        lexicon.eos = lexicon.id(b"</s>");
        Ok(lexicon)
    }

    pub(crate) fn id(&self, word: &[u8]) -> u32 {
        if is_unk(word) { 0 } else { self.hashed(murmur(word)).unwrap_or(0) }
    }

    /// The id of the word with this hash.
    pub(crate) fn hashed(&self, hash: u64) -> Option<u32> {
        match self.index {
            Index::Table(table) => find(&self.bytes, table, hash).map(|at| u32_at(&self.bytes, at + 8)),
            Index::Sorted { start } => self.rank(start, hash).map(|rank| rank as u32 + 1),
        }
    }

    /// Hashes are as good as random, so a word is near where its hash says; and wherever it is, the
    /// range shrinks.
    fn rank(&self, start: usize, hash: u64) -> Option<usize> {
        let (mut low, mut high) = (0, self.bound as usize - 1);
        let (mut left, mut right) = (0, u64::MAX);
        let mut guesses = 8;
        while low < high {
            let width = high - low;
            let pivot = if guesses > 0 && width > 8 {
                guesses -= 1;
                let share = u128::from(hash.saturating_sub(left)) * width as u128;
                let guess = share / u128::from(right.saturating_sub(left).max(1));
                low + (guess as usize).min(width - 1)
            } else {
                low + width / 2
            };
            let found = u64_at(&self.bytes, start + 8 * pivot);
            match found.cmp(&hash) {
                std::cmp::Ordering::Less => (low, left) = (pivot + 1, found),
                std::cmp::Ordering::Greater => (high, right) = (pivot, found),
                std::cmp::Ordering::Equal => return Some(pivot),
            }
        }
        None
    }

    /// Asks for the memory that finding the word with this hash will read.
    pub(crate) fn near(&self, hash: u64) {
        match self.index {
            Index::Table(table) => prefetch_on(&self.bytes, place(table, hash)),
            Index::Sorted { start } => {
                let share = (u128::from(hash) * u128::from(self.bound)) >> 64;
                prefetch(&self.bytes, start + 8 * share as usize);
            }
        }
    }

    /// The spelling of a word, where the file has one.
    pub(crate) fn word(&self, id: u32) -> Option<&[u8]> {
        let starts = self.starts().ok()?;
        let (&start, &next) = (starts.get(id as usize)?, starts.get(id as usize + 1)?);
        self.bytes.get(start..next - 1)
    }

    /// Where each word begins, and the end behind the last.
    ///
    /// # Errors
    /// If there are no spellings, or other than the vocabulary needs.
    pub(crate) fn starts(&self) -> Result<&[usize], &str> {
        let starts = self.starts.get_or_init(|| self.find_starts());
        starts.as_deref().map_err(String::as_str)
    }

    fn find_starts(&self) -> Result<Vec<usize>, String> {
        let at = self.strings.ok_or(
            "has no spellings of its words (built with -v); build it again from the ARPA file without that",
        )?;
        let strings = &self.bytes[at..];
        let ends = || memchr::memchr_iter(0, strings);
        let (count, bound) = (ends().take(self.bound as usize + 1).count(), self.bound);
        if count != bound as usize || strings.last() != Some(&0) {
            return Err(damaged(format!("the spellings at its end are not those of {bound} words")));
        }
        Ok(std::iter::once(at).chain(ends().map(|end| at + end + 1)).collect())
    }

    /// The hash of each word, by id; 0 for `<unk>`.
    pub(crate) fn hashes(&self) -> Vec<u64> {
        let mut hashes = vec![0; self.bound as usize];
        match self.index {
            Index::Table(table) => {
                for (hash, id) in entries(&self.bytes, table).filter(|&(hash, _)| hash != 0) {
                    if let Some(slot) = hashes.get_mut(id as usize) {
                        *slot = hash;
                    }
                }
            }
            Index::Sorted { start } => {
                for (at, slot) in hashes[1..].iter_mut().enumerate() {
                    *slot = u64_at(&self.bytes, start + 8 * at);
                }
            }
        }
        hashes
    }

    /// Number of ids.
    pub(crate) fn len(&self) -> usize {
        self.bound as usize
    }

    pub(crate) fn bos(&self) -> u32 {
        self.bos
    }

    pub(crate) fn eos(&self) -> u32 {
        self.eos
    }
}

/// Where the entry with this key is, whatever the size of entries.
#[inline]
pub(crate) fn find(bytes: &[u8], table: Table, key: u64) -> Option<usize> {
    let place = place(table, key);
    Some(match table.entry {
        VOCABULARY_ENTRY => find_from::<VOCABULARY_ENTRY>(bytes, table, key, place)?.1,
        MIDDLE_ENTRY => find_from::<MIDDLE_ENTRY>(bytes, table, key, place)?.1,
        _ => find_from::<REST_ENTRY>(bytes, table, key, place)?.1,
    })
}

/// The entry with this key, and where it is. The search begins at its [`place`], and ends in a damaged table
/// without an empty bucket, too. No entry has the key 0.
#[inline]
pub(crate) fn find_from<const ENTRY: usize>(
    bytes: &[u8],
    table: Table,
    key: u64,
    place: usize,
) -> Option<(&[u8; ENTRY], usize)> {
    let end = table.start + table.buckets.divisor() as usize * ENTRY;
    let mut rest = bytes.get(place..end)?;
    let mut again = false;
    loop {
        while let Some((entry, more)) = rest.split_first_chunk::<ENTRY>() {
            let found = u64_at(entry, 0);
            if found == 0 {
                return None;
            }
            if found == key {
                return Some((entry, end - rest.len()));
            }
            rest = more;
        }
        if again {
            return None;
        }
        (again, rest) = (true, bytes.get(table.start..end)?);
    }
}

/// Where the entry with this key would be if no other were.
#[inline]
pub(crate) fn place(table: Table, key: u64) -> usize {
    table.start + table.buckets.of(key) as usize * table.entry
}

fn entries(bytes: &[u8], table: Table) -> impl Iterator<Item = (u64, u32)> + '_ {
    let places = (0..table.buckets.divisor() as usize).map(move |at| table.start + at * VOCABULARY_ENTRY);
    places.map(|at| (u64_at(bytes, at), u32_at(bytes, at + 8)))
}

const FIRST: &[u8] = b"<unk>\0";
