//! KenLM's tries.
//!
//! A trie goes from the predicted word back into its context, so n-grams are sorted with their
//! words reversed, and each needs those without its farthest words: where pruning left one out, a
//! blank stands in. Which values blanks have, and which backoffs are continued, the hash tables
//! know that score ARPA files.

use std::path::Path;

use super::quantiser::Steps;
use super::{BuildOptions, Source};
use crate::lm::ngram::arpa::{Fault, Sink};
use crate::lm::ngram::hashed::{Builder, Hashed};
use crate::lm::ngram::kenlm::Header;
use crate::lm::ngram::kenlm::layout::{Array, Records, TrieLayout};
use crate::lm::ngram::kenlm::raw::put_bits;
use crate::lm::ngram::keyed::extend;
use crate::lm::ngram::vocab::{Words, murmur};
use crate::whole::Whole;
use crate::{Error, Result};

pub(super) fn build(
    mut source: Source<'_>,
    words: &mut Words,
    out: &Path,
    (quantise, array): (Option<(u8, u8)>, Option<u8>),
    options: &BuildOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let order = source.counts.len();
    let mut output = Whole::create(out)?;
    output.put(&Header::incomplete(order))?;
    let mut collector = Collector::new(options.missing_unk_log10, order);
    collector.builder.counts(&source.counts, source.lines.size());
    let unknowns = source.read(words, &mut collector, progress)?;
    let ranks = Ranks::new(words)
        .ok_or_else(|| Error::model(source.arpa, "two words have the same hash; remove one of them"))?;
    let mut model = Model { hashed: collector.builder.finish(), ranks, levels: Vec::new() };
    model.sort(collector.grams);
    let mut counts = vec![source.counts[0] + u64::from(unknowns == 0)];
    counts.extend(model.levels.iter().map(Level::len));
    let header = super::header(options, counts);
    let layout = TrieLayout::new(&header, |_| quantise.unwrap_or((0, 0)), |_| array.unwrap_or(0))
        .map_err(|what| Error::model(source.arpa, what))?;

    let mut section = Vec::new();
    section.extend((model.ranks.hashes.len() as u64).to_le_bytes());
    section.extend(model.ranks.hashes.iter().flat_map(|hash| hash.to_le_bytes()));
    section.resize(8 + 8 * header.counts[0] as usize, 0);
    output.put(&section)?;
    let steps = quantise.map(|bits| model.steps(bits));
    if let (Some((probs, backoffs)), Some(steps)) = (quantise, &steps) {
        output.put(&[2, probs, backoffs, 0, 0, 0, 0, 0])?;
        for (probs, backoffs) in steps {
            let values = probs.values.iter().chain(backoffs.iter().flat_map(|steps| &steps.values));
            output.put(&values.flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
        }
    }
    output.put(&model.unigrams(&collector.unigrams, header.counts[0] as usize))?;
    for n in 2..=order {
        let steps = steps.as_ref().map(|steps| &steps[n - 2]);
        match layout.middles.get(n - 2) {
            Some((records, compressed)) => {
                let pointers = model.pointers(n);
                if let Some(compressed) = compressed {
                    output.put(&upper(compressed, records, array.unwrap_or(0), &pointers))?;
                }
                output.put(&model.records(n, records, steps, &pointers))?;
            }
            None => output.put(&model.records(n, &layout.longest, steps, &[]))?,
        }
    }
    if options.spellings {
        let ids = std::iter::once(0).chain(model.ranks.word.iter().copied());
        super::tables::spellings(&mut output, words, ids)?;
    }
    output.finish_with(&header.write())
}

/// Keeps what hash tables forget: the words of n-grams, and how unigrams were written.
struct Collector {
    builder: Builder,
    unigrams: Vec<f32>,
    /// For each order from 2, the ids of all n-grams one after another.
    grams: Vec<Vec<u32>>,
}

/// Words by the order of their hashes, which is that of their ids in the file.
struct Ranks {
    hashes: Vec<u64>,
    /// The id in the ARPA file's order of each word but `<unk>`.
    word: Vec<u32>,
    /// The other way round, `<unk>` included.
    rank: Vec<u32>,
}

/// An order's n-grams, sorted by their words from the last to the first, one after another.
struct Level {
    order: usize,
    ids: Vec<u32>,
}

struct Model {
    hashed: Hashed,
    ranks: Ranks,
    /// Orders 2 and up.
    levels: Vec<Level>,
}

impl Collector {
    fn new(unknown: f32, order: usize) -> Self {
        let grams = vec![Vec::new(); order - 1];
        Self { builder: Builder::new(unknown), unigrams: vec![unknown], grams }
    }
}

impl Sink for Collector {
    fn counts(&mut self, counts: &[u64], bytes: Option<u64>) {
        self.builder.counts(counts, bytes);
    }

    fn unigram(&mut self, id: u32, prob: f32, backoff: f32) {
        match self.unigrams.get_mut(id as usize) {
            Some(old) => *old = prob,
            None => self.unigrams.push(prob),
        }
        self.builder.unigram(id, prob, backoff);
    }

    fn ngram(&mut self, line: u64, words: &[u32], prob: f32, backoff: f32) -> Result<(), Fault> {
        self.grams[words.len() - 2].extend(words.iter().rev());
        self.builder.ngram(line, words, prob, backoff)
    }

    fn settle(&mut self) -> Result<(), Fault> {
        self.builder.settle()
    }
}

impl Ranks {
    /// None if two words have one hash.
    fn new(words: &Words) -> Option<Self> {
        let hash = |id: u32| murmur(words.word(id).unwrap_or_default());
        let mut sorted: Vec<(u64, u32)> = (1..words.len() as u32).map(|id| (hash(id), id)).collect();
        sorted.sort_unstable();
        let (hashes, word): (Vec<u64>, Vec<u32>) = sorted.into_iter().unzip();
        let mut rank = vec![0; words.len()];
        for (&id, at) in word.iter().zip(1..) {
            rank[id as usize] = at;
        }
        hashes.is_sorted_by(|a, b| a < b).then_some(Self { hashes, word, rank })
    }

    /// The id in the ARPA file's order.
    fn id(&self, rank: u32) -> u32 {
        rank.checked_sub(1).map_or(0, |at| self.word[at as usize])
    }
}

impl Level {
    fn len(&self) -> u64 {
        (self.ids.len() / self.order) as u64
    }

    fn iter(&self) -> std::slice::ChunksExact<'_, u32> {
        self.ids.chunks_exact(self.order)
    }
}

impl Model {
    /// Sorts each order, the highest first, and adds what the order above needs.
    fn sort(&mut self, grams: Vec<Vec<u32>>) {
        let highest = grams.len() + 1;
        for (mut ids, order) in grams.into_iter().zip(2..highest + 1).rev() {
            for id in &mut ids {
                *id = self.ranks.rank[*id as usize];
            }
            sort(&mut ids, order);
            if let Some(longer) = self.levels.last() {
                ids = with_parents(ids, order, longer);
            }
            self.levels.push(Level { order, ids });
        }
        self.levels.reverse();
    }

    /// Calls `take` with each n-gram of an order and its log10 probability and backoff.
    ///
    /// Where these are is random, so a handful of places are asked for before the first is read.
    fn each_value(&self, level: &Level, mut take: impl FnMut(&[u32], f32, f32)) {
        let table = &self.hashed.tables[level.order - 2];
        let mut keys = [0; AHEAD];
        for grams in level.ids.chunks(AHEAD * level.order) {
            let grams = grams.chunks_exact(level.order);
            for (gram, key) in grams.clone().zip(&mut keys) {
                let mut words = gram.iter().map(|&rank| self.ranks.id(rank));
                let last = words.next().unwrap_or_default();
                *key = words.fold(u64::from(last), extend);
                table.near(*key);
            }
            for (gram, &key) in grams.zip(&keys) {
                match table.find(key) {
                    Some(place) => take(gram, -table.at(place).prob.abs(), table.at(place).backoff),
                    // There is no such n-gram; and if a hash could lie, it would be one without weight.
                    None => take(gram, f32::NEG_INFINITY, -0.0),
                }
            }
        }
    }

    /// The steps of each order's values; of the highest, no backoffs.
    fn steps(&self, (prob_bits, backoff_bits): (u8, u8)) -> Vec<(Steps, Option<Steps>)> {
        let highest = self.levels.len() + 1;
        let steps = |level: &Level| {
            let (mut probs, mut backoffs) = (Vec::new(), Vec::new());
            self.each_value(level, |_, prob, backoff| {
                probs.push(prob);
                backoffs.extend(Some(backoff).filter(|&backoff| backoff != 0.0));
            });
            let backoffs = (level.order < highest).then(|| Steps::backoffs(&mut backoffs, backoff_bits));
            (Steps::probs(&mut probs, prob_bits), backoffs)
        };
        self.levels.iter().map(steps).collect()
    }

    /// Where the children of each n-gram of an order begin; one more for the end of the last.
    fn pointers(&self, order: usize) -> Vec<u64> {
        let mut children = self.levels[order - 1].iter().peekable();
        let mut at = 0;
        let mut pointers = Vec::with_capacity(self.levels[order - 2].len() as usize + 1);
        for gram in self.levels[order - 2].iter() {
            pointers.push(at);
            while children.next_if(|child| child.starts_with(gram)).is_some() {
                at += 1;
            }
        }
        pointers.push(at);
        pointers
    }

    fn unigrams(&self, probs: &[f32], count: usize) -> Vec<u8> {
        let mut section = Vec::with_capacity(16 * (count + 2));
        let mut next = 0;
        let mut children = self.levels[0].iter().map(|gram| gram[0]).peekable();
        for rank in 0..probs.len() as u32 {
            let id = self.ranks.id(rank) as usize;
            section.extend(probs[id].to_le_bytes());
            section.extend(self.hashed.unigrams[id].backoff.to_le_bytes());
            section.extend(u64::to_le_bytes(next));
            while children.next_if_eq(&rank).is_some() {
                next += 1;
            }
        }
        while section.len() < 16 * (count + 1) {
            section.extend([0; 8]);
            section.extend(next.to_le_bytes());
        }
        section.extend([0; 16]);
        section
    }

    fn records(
        &self,
        order: usize,
        records: &Records,
        steps: Option<&(Steps, Option<Steps>)>,
        pointers: &[u64],
    ) -> Vec<u8> {
        let bits = records.bits();
        let mut section = vec![0; ((records.count + 1) * bits).div_ceil(8) as usize + 8];
        let inline = (1u64 << records.pointer_bits) - 1;
        let mut at = 0;
        self.each_value(&self.levels[order - 2], |gram, prob, backoff| {
            let mut bit = at * bits;
            let mut put = |width: u8, value: u64| {
                put_bits(&mut section, bit, width, value);
                bit += u64::from(width);
            };
            put(records.word_bits, u64::from(gram[order - 1]));
            let middle = !pointers.is_empty();
            match steps {
                Some((probs, backoffs)) => {
                    let backoff_bits = backoffs.as_ref().map_or(0, |steps| steps.values.len().ilog2() as u8);
                    if let Some(steps) = backoffs {
                        put(backoff_bits, steps.backoff(backoff));
                    }
                    put(records.value_bits - backoff_bits, probs.prob(prob));
                }
                None => {
                    put(31, u64::from(prob.to_bits() & !(1 << 31)));
                    if middle {
                        put(32, u64::from(backoff.to_bits()));
                    }
                }
            }
            if middle {
                put(records.pointer_bits, pointers[at as usize] & inline);
            }
            at += 1;
        });
        if let Some(&end) = pointers.last() {
            let bit = records.count * bits + u64::from(records.word_bits) + u64::from(records.value_bits);
            put_bits(&mut section, bit, records.pointer_bits, end & inline);
        }
        section
    }
}

/// The array of a middle order: for each upper part of pointers, the first record that has it.
fn upper(array: &Array, records: &Records, limit: u8, pointers: &[u64]) -> Vec<u8> {
    let before = array.start - array.header;
    // Its size holds room to align it, used or not.
    let mut section = vec![0; 8 * (array.len as usize + 1) + 7];
    section[1] = limit;
    let mut record = 0;
    for at in 0..array.len {
        while pointers[record] >> records.pointer_bits < at {
            record += 1;
        }
        let place = before + 8 * at as usize;
        section[place..place + 8].copy_from_slice(&(record as u64).to_le_bytes());
    }
    section
}

/// Sorts n-grams that lie one after another.
fn sort(ids: &mut [u32], order: usize) {
    match order {
        2 => ids.as_chunks_mut::<2>().0.sort_unstable(),
        3 => ids.as_chunks_mut::<3>().0.sort_unstable(),
        4 => ids.as_chunks_mut::<4>().0.sort_unstable(),
        5 => ids.as_chunks_mut::<5>().0.sort_unstable(),
        6 => ids.as_chunks_mut::<6>().0.sort_unstable(),
        _ => {
            let mut grams: Vec<&[u32]> = ids.chunks_exact(order).collect();
            grams.sort_unstable();
            let sorted = grams.concat();
            ids.copy_from_slice(&sorted);
        }
    }
}

/// Sorted n-grams and those that longer ones, sorted too, begin with.
fn with_parents(ids: Vec<u32>, order: usize, longer: &Level) -> Vec<u32> {
    let mut parents = longer.iter().map(|gram| &gram[..order]).peekable();
    let mut own = ids.chunks_exact(order).peekable();
    let mut merged = Vec::with_capacity(ids.len());
    loop {
        let next = match (own.peek(), parents.peek()) {
            (Some(&own), Some(&parent)) => own.min(parent),
            (Some(&gram), None) | (None, Some(&gram)) => gram,
            (None, None) => return merged,
        };
        merged.extend_from_slice(next);
        while own.next_if_eq(&next).is_some() {}
        while parents.next_if_eq(&next).is_some() {}
    }
}

/// N-grams whose places are asked for at once.
const AHEAD: usize = 32;
