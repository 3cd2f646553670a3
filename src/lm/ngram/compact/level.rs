//! The third pass, once for each order: what needs an n-gram's context or suffix is worked out.

use std::io::{self, BufReader, Read, Seek, Write};

use tempfile::SpooledTempFile;

use super::super::search::continues;
use super::elias_fano;
use super::formula::MAGNITUDE;
use super::key::read_u64;
use super::sort::{Record, Sorted, Sorter};
use super::spool::{Space, Spool};
use super::tree::{Node, Tree};
use super::{Fail, Gram};

/// An n-gram with all that goes into the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    /// What its farthest word is known by among the n-grams with the same suffix.
    pub(super) link: u32,
    /// Whether it is the first of them.
    pub(super) first: bool,
    /// Its farthest word's rank.
    pub(super) word: u32,
    /// The number of its suffix in the order below.
    pub(super) parent: u64,
    /// Whether some n-gram ends with it.
    pub(super) extends: bool,
    /// Bits of |log10 p|.
    pub(super) prob: u32,
    pub(super) backoff: u32,
    /// The backoff of its context, log10.
    pub(super) context: f32,
    /// log10 p of its suffix.
    pub(super) lower: f32,
}

/// What an n-gram needs of its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Joined {
    /// The n-gram.
    of: u64,
    backoff: u32,
    link: u32,
}

/// The n-grams of one order.
pub(super) struct Level {
    pub(super) count: u64,
    /// Where the n-grams of each suffix begin, if that is to be written.
    pub(super) pointers: Option<elias_fano::Writer>,
    /// The number that the last of the ids comes to, see [`elias_fano::EliasFano::find`].
    pub(super) last_id: u64,
    pub(super) weights: BufReader<SpooledTempFile>,
    /// Some weight is beyond this magnitude.
    pub(super) largest: f32,
}

/// What one order leaves for the next.
pub(super) struct Below {
    probs: Probs,
    joined: Option<Sorted<Joined>>,
}

enum Probs {
    /// By rank, and the backoffs.
    Unigrams(Vec<(f32, f32)>),
    /// As they come, and the number of the last one read.
    Stored(BufReader<SpooledTempFile>, u64, f32),
}

impl Below {
    /// Below the bigrams: the words' probabilities and backoffs by rank.
    pub(super) fn words(weights: Vec<(f32, f32)>) -> Self {
        Self { probs: Probs::Unigrams(weights), joined: None }
    }
}

/// Works out the n-grams of an order; where those of each suffix begin, if `pointers` is set.
///
/// # Errors
/// If an n-gram's context is missing, or files cannot be read and written.
pub(super) fn level<const W: usize>(
    tree: &mut Tree<W>,
    order: usize,
    mut below: Below,
    pointers: bool,
    space: &Space,
) -> Result<(Level, Below), Fail> {
    let count = tree.counts[order - 1];
    let parents = tree.counts[order - 2];
    let mut nodes = std::mem::replace(&mut tree.nodes[order - 2], space.spool()).reader()?;
    let mut contexts = if order - 2 < tree.contexts.len() {
        let empty = Sorter::new(space, 0);
        Some(std::mem::replace(&mut tree.contexts[order - 2], empty).finish()?)
    } else {
        None
    };
    let mut joined = Sorter::new(space, space.sorting(2));
    let mut pointers = pointers.then(|| elias_fano::Writer::new(space, parents + 1, count));
    let mut point = |at| pointers.as_mut().map_or(Ok(()), |pointers| pointers.push(at));
    let (mut weights, mut probs) = (space.spool(), space.spool());
    let (mut pointed, mut base, mut last_id, mut sibling, mut largest) = (0, 0, 0, 0, 0f32);
    for at in 0..count {
        let node = Node::<W>::read(&mut nodes)?;
        let first = pointed <= node.parent;
        while pointed <= node.parent {
            point(at)?;
            pointed += 1;
        }
        sibling = if first { 0 } else { sibling + 1 };
        let lower = below.probs.at(node.parent)?;
        let word = tree.fields.word(&node.key, order - 1);
        let (link, id, context) = match (&below.probs, &mut below.joined) {
            (Probs::Unigrams(words), _) => (sibling, word, words[word as usize].1),
            (_, Some(joined)) => match joined.next()? {
                Some(found) if found.of == at => (found.link, found.link, f32::from_bits(found.backoff)),
                _ => return Err(Fail::gram(&tree.fields, &node.key, order, Gram::Context)),
            },
            (_, None) => (0, 0, 0.0),
        };
        // A blank has the probability that backing off gives.
        let prob = match node.prob {
            Some(bits) => f32::from_bits(bits),
            None => lower + if continues(context) { context } else { 0.0 },
        };
        let prob = -prob.abs();
        let mut backoff = f32::from_bits(node.backoff);
        while let Some(&context) = contexts.as_ref().and_then(Sorted::peek) {
            if context.key != node.key {
                if context.key < node.key {
                    return Err(Fail::gram(&tree.fields, &context.key, order, Gram::Context));
                }
                break;
            }
            // Zero is -0.0 where nothing continues the n-gram, and +0.0 where something does.
            backoff = if continues(backoff) { backoff } else { 0.0 };
            joined.push(Joined { of: context.of, backoff: backoff.to_bits(), link })?;
            contexts.as_mut().map(Sorted::next).transpose()?;
        }
        if first {
            base = if at == 0 { 0 } else { last_id + 1 };
        }
        last_id = base + u64::from(id);
        largest = largest.max(prob.abs()).max(backoff.abs());
        let (prob_bits, backoff) = (prob.to_bits() & MAGNITUDE, backoff.to_bits());
        let (parent, extends) = (node.parent, tree.extends(order, at));
        let all =
            Weights { link: id, first, word, parent, extends, prob: prob_bits, backoff, context, lower };
        all.write(&mut weights)?;
        probs.write_all(&prob.to_le_bytes())?;
    }
    if let Some(context) = contexts.as_ref().and_then(Sorted::peek) {
        return Err(Fail::gram(&tree.fields, &context.key, order, Gram::Context));
    }
    while pointed <= parents {
        point(count)?;
        pointed += 1;
    }
    let level = Level { count, pointers, last_id, weights: weights.reader()?, largest };
    let probs = Probs::Stored(probs.reader()?, 0, 0.0);
    Ok((level, Below { probs, joined: Some(joined.finish()?) }))
}

impl Level {
    /// The n-grams from the first on.
    pub(super) fn each(&mut self, mut then: impl FnMut(Weights) -> io::Result<()>) -> io::Result<()> {
        self.weights.rewind()?;
        for _ in 0..self.count {
            then(Weights::read(&mut self.weights)?)?;
        }
        Ok(())
    }
}

impl Probs {
    /// The log10 probability of an n-gram, whose number is not below the one asked for before.
    fn at(&mut self, at: u64) -> io::Result<f32> {
        match self {
            Self::Unigrams(words) => Ok(-words[at as usize].0.abs()),
            Self::Stored(reader, next, last) => {
                while *next <= at {
                    *last = f32::from_bits(u32::read(reader)?);
                    *next += 1;
                }
                Ok(*last)
            }
        }
    }
}

impl Weights {
    fn write(&self, out: &mut Spool) -> io::Result<()> {
        out.write_all(&(u64::from(self.link) << 1 | u64::from(self.first)).to_le_bytes())?;
        out.write_all(&(self.parent << 1 | u64::from(self.extends)).to_le_bytes())?;
        let Self { word, prob, backoff, context, lower, .. } = *self;
        [word, prob, backoff, context.to_bits(), lower.to_bits()].iter().try_for_each(|part| part.write(out))
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        let (link, parent) = (read_u64(input)?, read_u64(input)?);
        let mut part = || u32::read(input);
        let (word, prob, backoff) = (part()?, part()?, part()?);
        let (context, lower) = (f32::from_bits(part()?), f32::from_bits(part()?));
        let (link, first) = ((link >> 1) as u32, link & 1 == 1);
        let (parent, extends) = (parent >> 1, parent & 1 == 1);
        Ok(Self { link, first, word, parent, extends, prob, backoff, context, lower })
    }
}

impl Record for Joined {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.of.to_le_bytes())?;
        self.backoff.write(out)?;
        self.link.write(out)
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        Ok(Self { of: read_u64(input)?, backoff: u32::read(input)?, link: u32::read(input)? })
    }
}
