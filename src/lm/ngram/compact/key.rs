//! N-grams as keys that sort in the order of the trie: the predicted word first, then its
//! context from the nearest word back.

use std::io::{self, Read, Write};

use super::sort::Record;

/// Word ranks, packed so that comparing keys compares n-grams; words that are not there are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key<const W: usize>([u64; W]);

/// How words lie in keys: as many whole ones in a number as fit, from its top.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    width: u32,
    each: usize,
}

/// An n-gram of the file to be built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ngram<const W: usize> {
    pub(super) key: Key<W>,
    /// Bits of log10 p.
    pub(super) prob: u32,
    pub(super) backoff: u32,
}

/// The context of an n-gram, which has the given number in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Context<const W: usize> {
    pub(super) key: Key<W>,
    pub(super) of: u64,
}

impl<const W: usize> Key<W> {
    pub(super) const EMPTY: Self = Self([0; W]);
}

impl Fields {
    /// For ranks below `words`.
    pub(super) fn new(words: u64) -> Self {
        let width = 64 - words.saturating_sub(1).max(1).leading_zeros();
        Self { width, each: (64 / width) as usize }
    }

    /// How many 64-bit numbers keys of `order` words take.
    pub(super) fn numbers(&self, order: usize) -> usize {
        order.div_ceil(self.each)
    }

    /// Puts a word in a place that has none.
    pub(super) fn set<const W: usize>(&self, key: &mut Key<W>, at: usize, word: u32) {
        key.0[at / self.each] |= u64::from(word) << self.shift(at);
    }

    pub(super) fn word<const W: usize>(&self, key: &Key<W>, at: usize) -> u32 {
        (key.0[at / self.each] >> self.shift(at)) as u32 & (u64::MAX >> (64 - self.width)) as u32
    }

    /// The first `length` words.
    pub(super) fn prefix<const W: usize>(&self, key: &Key<W>, length: usize) -> Key<W> {
        let mut prefix = Key::EMPTY;
        let whole = length / self.each;
        prefix.0[..whole].copy_from_slice(&key.0[..whole]);
        if let (Some(place), rest @ 1..) = (prefix.0.get_mut(whole), length % self.each) {
            *place = key.0[whole] & u64::MAX << self.shift(rest - 1);
        }
        prefix
    }

    /// All `length` words but the first: the context of an n-gram.
    pub(super) fn context<const W: usize>(&self, key: &Key<W>, length: usize) -> Key<W> {
        let mut context = Key::EMPTY;
        for at in 1..length {
            self.set(&mut context, at - 1, self.word(key, at));
        }
        context
    }

    /// How many of the first `limit` words two keys share from their beginning.
    pub(super) fn common<const W: usize>(&self, a: &Key<W>, b: &Key<W>, limit: usize) -> usize {
        let differ = a.0.iter().zip(&b.0).position(|(a, b)| a != b);
        let shared = differ
            .map_or(limit, |at| at * self.each + ((a.0[at] ^ b.0[at]).leading_zeros() / self.width) as usize);
        shared.min(limit)
    }

    fn shift(&self, at: usize) -> u32 {
        64 - self.width * (at % self.each + 1) as u32
    }
}

impl<const W: usize> Record for Key<W> {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.0.iter().try_for_each(|part| out.write_all(&part.to_le_bytes()))
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        let mut key = Self::EMPTY;
        for part in &mut key.0 {
            *part = read_u64(input)?;
        }
        Ok(key)
    }
}

impl<const W: usize> Record for Ngram<W> {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.key.write(out)?;
        self.prob.write(out)?;
        self.backoff.write(out)
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        Ok(Self { key: Key::read(input)?, prob: u32::read(input)?, backoff: u32::read(input)? })
    }
}

impl<const W: usize> Record for Context<W> {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.key.write(out)?;
        out.write_all(&self.of.to_le_bytes())
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        Ok(Self { key: Key::read(input)?, of: read_u64(input)? })
    }
}

pub(super) fn read_u64(input: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_and_split_as_lists_of_words(
            words in 1u64..1 << 32,
            a in prop::collection::vec(any::<u32>(), 1..7),
            b in prop::collection::vec(any::<u32>(), 1..7),
            same in 0usize..7,
        ) {
            let fields = Fields::new(words);
            let a: Vec<u32> = a.iter().map(|&w| (u64::from(w) % words) as u32).collect();
            let mut b: Vec<u32> = b.iter().map(|&w| (u64::from(w) % words) as u32).collect();
            let same = same.min(a.len()).min(b.len());
            b[..same].copy_from_slice(&a[..same]);
            prop_assert!(fields.numbers(6) <= 6);
            let key = |words: &[u32]| {
                let mut key = Key::<6>::EMPTY;
                words.iter().enumerate().for_each(|(at, &word)| fields.set(&mut key, at, word));
                key
            };
            let (ka, kb) = (key(&a), key(&b));
            if a.len() == b.len() {
                prop_assert_eq!(ka.cmp(&kb), a.cmp(&b));
            }
            for (at, &word) in a.iter().enumerate() {
                prop_assert_eq!(fields.word(&ka, at), word);
                prop_assert_eq!(fields.prefix(&ka, at), key(&a[..at]));
            }
            prop_assert_eq!(fields.context(&ka, a.len()), key(&a[1..]));
            let limit = a.len().min(b.len());
            let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(fields.common(&ka, &kb, limit), common);
            let mut bytes = Vec::new();
            let ngram = Ngram { key: ka, prob: 1, backoff: 2 };
            ngram.write(&mut bytes).unwrap();
            prop_assert_eq!(Ngram::read(&mut &bytes[..]).unwrap(), ngram);
        }
    }
}
