//! The second pass: the trie in the order of its nodes, with blanks where suffixes were pruned.

use std::io::{self, Read, Write};

use super::collect::Collected;
use super::key::{Context, Fields, Key, Ngram, read_u64};
use super::sort::{Record, Sorted, Sorter};
use super::spool::{Space, Spool};
use super::{Fail, Gram};

/// All n-grams by order, each order sorted.
pub(super) struct Tree<const W: usize> {
    pub(super) fields: Fields,
    /// Of each order, blanks included.
    pub(super) counts: Vec<u64>,
    /// Orders 2 and up: [`Node`]s.
    pub(super) nodes: Vec<Spool>,
    /// The contexts of orders 3 and up.
    pub(super) contexts: Vec<Sorter<Context<W>>>,
    /// By a word's rank: whether some bigram ends with it, and begins with it.
    pub(super) ends: Vec<bool>,
    pub(super) begins: Vec<bool>,
    /// Of orders 2 and up, a bit for each n-gram: whether another ends with it.
    extended: Vec<Vec<u64>>,
}

/// An n-gram with its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<const W: usize> {
    pub(super) key: Key<W>,
    /// The number of its suffix in the order below.
    pub(super) parent: u64,
    /// Bits of log10 p; `None` for a blank.
    pub(super) prob: Option<u32>,
    pub(super) backoff: u32,
}

impl<const W: usize> Tree<W> {
    /// Merges the orders of an ARPA file.
    ///
    /// # Errors
    /// If an n-gram is there twice, or files cannot be written.
    pub(super) fn grow(collected: Collected<W>, space: &Space) -> Result<Self, Fail> {
        let words = collected.unigrams.len();
        let orders = collected.ngrams.len();
        let sorting = space.sorting(orders);
        let mut tree = Self {
            fields: collected.fields,
            counts: vec![0; orders + 1],
            nodes: (0..orders).map(|_| space.spool()).collect(),
            contexts: (1..orders).map(|_| Sorter::new(space, sorting)).collect(),
            ends: vec![false; words],
            begins: vec![false; words],
            extended: vec![Vec::new(); orders],
        };
        tree.counts[0] = words as u64;
        let sorted = collected.ngrams.into_iter().map(Sorter::finish);
        let mut sorted = sorted.collect::<io::Result<Vec<_>>>()?;
        let (mut last, mut depth) = (Key::EMPTY, 0);
        while let Some((order, ngram)) = next(&mut sorted)? {
            let common = tree.fields.common(&last, &ngram.key, depth.min(order));
            if common == order {
                return Err(Fail::gram(&tree.fields, &ngram.key, order, Gram::Twice));
            }
            for length in (common + 1).max(2)..order {
                tree.push(&ngram.key, length, None)?;
            }
            tree.push(&ngram.key, order, Some(&ngram))?;
            (last, depth) = (ngram.key, order);
        }
        Ok(tree)
    }

    /// Whether another n-gram ends with n-gram number `at` of an order from 2.
    pub(super) fn extends(&self, order: usize, at: u64) -> bool {
        let bits = self.extended[order - 2].get((at / 64) as usize);
        bits.is_some_and(|bits| bits >> (at % 64) & 1 == 1)
    }

    /// Adds the n-gram of the first `order` words of `key`, whose suffix is there.
    fn push(&mut self, key: &Key<W>, order: usize, ngram: Option<&Ngram<W>>) -> io::Result<()> {
        let key = self.fields.prefix(key, order);
        let number = self.counts[order - 1];
        self.counts[order - 1] += 1;
        let parent = if order == 2 {
            let (last, first) = (self.fields.word(&key, 0), self.fields.word(&key, 1));
            self.ends[last as usize] = true;
            self.begins[first as usize] = true;
            u64::from(last)
        } else {
            let context = Context { key: self.fields.context(&key, order), of: number };
            self.contexts[order - 3].push(context)?;
            let parent = self.counts[order - 2] - 1;
            let (at, bits) = ((parent / 64) as usize, &mut self.extended[order - 3]);
            if bits.len() <= at {
                bits.resize(at + 1, 0);
            }
            bits[at] |= 1 << (parent % 64);
            parent
        };
        let backoff = ngram.map_or((-0.0f32).to_bits(), |ngram| ngram.backoff);
        let node = Node { key, parent, prob: ngram.map(|ngram| ngram.prob), backoff };
        node.write(&mut self.nodes[order - 2])
    }
}

impl<const W: usize> Node<W> {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.key.write(out)?;
        out.write_all(&(self.parent << 1 | u64::from(self.prob.is_some())).to_le_bytes())?;
        self.prob.unwrap_or(0).write(out)?;
        self.backoff.write(out)
    }

    pub(super) fn read(input: &mut impl Read) -> io::Result<Self> {
        let key = Key::read(input)?;
        let parent = read_u64(input)?;
        let prob = u32::read(input)?;
        let prob = (parent & 1 == 1).then_some(prob);
        Ok(Self { key, parent: parent >> 1, prob, backoff: u32::read(input)? })
    }
}

/// The n-gram that comes first in the trie, and its order. Before those that extend an n-gram
/// comes that n-gram itself.
fn next<const W: usize>(sorted: &mut [Sorted<Ngram<W>>]) -> io::Result<Option<(usize, Ngram<W>)>> {
    let heads = sorted.iter().enumerate();
    let keys = heads.filter_map(|(at, sorted)| sorted.peek().map(|ngram| (ngram.key, at)));
    let Some((_, at)) = keys.min() else { return Ok(None) };
    Ok(sorted[at].next()?.map(|ngram| (at + 2, ngram)))
}
