//! What is asked for, and the steps in their order.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::adjust::{Count, Pruning, adjust};
use super::corpus::{Corpus, Vocabulary};
use super::count::count;
use super::discount::Discounts;
use super::interpolate::Unigrams;
use super::key::Packing;
use super::normalise::Shares;
use super::orders::Orders;
use super::output::{self, Format, Output};
use super::sort::{Pool, Sorter};
use super::temporary::Folder;
use super::watch::{Observer, Phase, Watch};
use crate::{Error, Result};

/// What model to make, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Length of the longest n-grams, from 1 to 16.
    pub order: usize,
    /// For each order from 1, n-grams that occur this often, or less, are left out; the last one
    /// counts for all longer ones. They must not fall, and words are not pruned so: the first is 0.
    pub prune: Vec<u64>,
    /// Which words the model keeps; n-grams with others are left out.
    pub vocabulary: Vocabulary,
    /// Whether words share what discounts take off them; else `<unk>` has it alone.
    pub interpolate_unigrams: bool,
    /// Discounts for orders whose counts give none; without them that is an error.
    pub fallback: Option<Discounts>,
    /// Leave out `<s>`, `</s>` and `<unk>` in texts; else they are an error.
    pub skip_symbols: bool,
    /// Bytes of memory in all; what does not fit is sorted on disk.
    pub memory: u64,
    /// The folder of temporary files.
    pub temporary: PathBuf,
    /// Threads; 0: as many as the machine runs at once.
    pub threads: usize,
    /// Compress the model with gzip.
    pub gzip: bool,
}

/// Makes an n-gram model from texts.
pub struct Estimator {
    options: Options,
    folder: Folder,
    corpus: Corpus,
}

/// What was read, and what the rest will need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Sentences.
    pub sentences: u64,
    /// Words, sentence ends not counted.
    pub words: u64,
    /// Different words.
    pub vocabulary: u64,
    /// Bytes of memory that will be used at most.
    pub memory: u64,
    /// Bytes of temporary files at most; 0 if everything fits into memory.
    pub disk: u64,
}

/// What was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// n-grams of the model, by order from 1.
    pub counts: Vec<u64>,
    /// n-grams of the text, by order from 1.
    pub seen: Vec<u64>,
    /// The discounts, by order from 1.
    pub discounts: Vec<Discounts>,
    /// What to know before trusting the model: one line each.
    pub warnings: Vec<String>,
    /// Bytes written.
    pub bytes: u64,
    /// Bytes that were sorted on disk.
    pub spilled: u64,
}

impl Options {
    /// A model of this order without pruning, in 1 GiB of memory.
    pub fn new(order: usize) -> Self {
        Self {
            order,
            prune: Vec::new(),
            vocabulary: Vocabulary::All,
            interpolate_unigrams: true,
            fallback: None,
            skip_symbols: false,
            memory: 1 << 30,
            temporary: std::env::temp_dir(),
            threads: 0,
            gzip: false,
        }
    }

    fn check(&self) -> Result<()> {
        if !(1..=HIGHEST).contains(&self.order) {
            return Err(Error::config(format!(
                "order {}: n-grams have 1 to {HIGHEST} words; 3 to 5 are usual",
                self.order
            )));
        }
        if self.prune.len() > self.order {
            return Err(Error::config(format!(
                "{} pruning thresholds for {} orders; give at most one for each",
                self.prune.len(),
                self.order
            )));
        }
        if self.prune.first().is_some_and(|&first| first != 0) {
            return Err(Error::config(
                "the first pruning threshold must be 0: words are not pruned by count; limit the vocabulary instead",
            ));
        }
        if !self.prune.is_sorted() {
            return Err(Error::config(
                "pruning thresholds must not fall from one order to the next: longer n-grams need the shorter ones",
            ));
        }
        if self.fallback.is_some_and(|fallback| !fallback.valid()) {
            return Err(Error::config(
                "a fallback discount must be between 0 and the count it is taken off: at most 1, 2 and 3",
            ));
        }
        Ok(())
    }

    fn thresholds(&self) -> Vec<u64> {
        let last = self.prune.last().copied().unwrap_or(0);
        (0..self.order).map(|at| self.prune.get(at).copied().unwrap_or(last)).collect()
    }

    fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

impl Estimator {
    /// An estimator that has read nothing.
    ///
    /// # Errors
    /// If the options make no sense.
    pub fn new(options: Options) -> Result<Self> {
        options.check()?;
        let folder = Folder::new(&options.temporary);
        let corpus = Corpus::new(&folder, options.skip_symbols);
        Ok(Self { options, folder, corpus })
    }

    /// Adds a text: a sentence a line (an empty line is the empty sentence), words separated by
    /// white space; plain, or packed with gzip, bzip2, xz or zstd. `name` stands for it in messages.
    ///
    /// # Errors
    /// If it cannot be read, is no text, or contains `<s>`, `</s>` or `<unk>` as words.
    pub fn read(&mut self, name: &str, reader: impl Read + Send + 'static) -> Result<()> {
        self.read_with(name, reader, 0, &mut |_| ControlFlow::Continue(()))
    }

    /// The same, told to an observer; `bytes` is the size of the file, 0 where it is not known.
    ///
    /// # Errors
    /// As [`Estimator::read`]; [`std::io::ErrorKind::Interrupted`] if the observer says so.
    pub fn read_with(
        &mut self,
        name: &str,
        reader: impl Read + Send + 'static,
        bytes: u64,
        observer: &mut Observer<'_>,
    ) -> Result<()> {
        self.corpus.read(name, reader, &mut Watch::new(observer, Phase::Reading, bytes))
    }

    /// What was read so far, and what [`Estimator::finish`] will need.
    pub fn plan(&self) -> Plan {
        let (words, order) = (self.corpus.words.len(), self.options.order as u64);
        let packing = Packing::new(words);
        let tokens = self.corpus.tokens;
        let key = packing.bytes(self.options.order) as u64;
        let entry = key.next_multiple_of(8) + 8;
        // At most: every n-gram occurs once. Two steps are in memory, or on disk, at a time.
        let all = tokens.saturating_mul(entry).saturating_mul(order + 1);
        let vocabulary = self.corpus.memory() + FIXED;
        let room = self.options.memory.saturating_sub(vocabulary);
        let disk = tokens.saturating_mul(key + 8).saturating_mul(order + 1);
        Plan {
            sentences: self.corpus.sentences,
            words: tokens - self.corpus.sentences,
            vocabulary: words as u64 - 3,
            memory: vocabulary + all.min(room),
            disk: if all > room { disk } else { 0 },
        }
    }

    /// Estimates the model and writes it as ARPA text.
    ///
    /// # Errors
    /// If there was no text, or too little for discounts and there is no fallback; if memory is too
    /// small for the vocabulary; if temporary files or `out` cannot be written.
    pub fn finish(self, out: &mut dyn Write) -> Result<Summary> {
        self.finish_with(out, &mut |_| ControlFlow::Continue(()))
    }

    /// The same, told to an observer.
    ///
    /// # Errors
    /// As [`Estimator::finish`]; [`std::io::ErrorKind::Interrupted`] if the observer says so.
    pub fn finish_with(self, out: &mut dyn Write, observer: &mut Observer<'_>) -> Result<Summary> {
        if self.corpus.tokens == self.corpus.sentences {
            return Err(Error::config("the text has no words; give text with a sentence a line"));
        }
        let packing = Packing::new(self.corpus.words.len());
        let bits = packing.bits * self.options.order as u32;
        match bits {
            ..=64 => self.run::<1>(packing, out, observer),
            65..=128 => self.run::<2>(packing, out, observer),
            129..=256 => self.run::<4>(packing, out, observer),
            _ => Err(Error::config(format!(
                "{}-grams over {} words are too long to be sorted ({bits} bits; 256 are the most); lower the order",
                self.options.order,
                self.corpus.words.len()
            ))),
        }
    }

    fn run<const L: usize>(
        mut self,
        packing: Packing,
        out: &mut dyn Write,
        observer: &mut Observer<'_>,
    ) -> Result<Summary> {
        let options = &self.options;
        let order = options.order;
        let pool = self.pool::<L>()?;
        let tokens = self.corpus.tokens;
        let ids = self.corpus.take_ids(&self.folder);
        let mut watch = Watch::new(observer, Phase::Counting, tokens);
        let grams = count(ids, tokens, order, packing, &pool, &mut watch)?;
        let mut spilled = grams.spilled();

        let kept = self.corpus.kept(&options.vocabulary);
        let pruning = Pruning { thresholds: options.thresholds(), kept: kept.as_deref() };
        let mut watch = Watch::new(observer, Phase::Adjusting, tokens);
        let grams = grams.finish(pool.limit() / 3)?;
        let words = self.corpus.words.len();
        let adjusted = adjust(grams, words, packing, &pruning, &pool, &mut watch)?;
        let mut warnings = Vec::new();
        let mut discounts = Vec::with_capacity(order);
        for (statistics, n) in adjusted.statistics.iter().zip(1..) {
            let (found, message) = statistics.discounts(n, options.fallback)?;
            discounts.push(found);
            warnings.extend(message);
        }

        spilled += adjusted.orders.iter().map(Sorter::spilled).sum::<u64>();
        let mut watch = Watch::new(observer, Phase::Discounting, adjusted.counted[1..].iter().sum());
        let orders = Orders { pool, folder: &self.folder, packing };
        let normalised = orders.normalise(adjusted.orders, &discounts, &mut watch)?;
        spilled += normalised.grams.iter().map(Sorter::spilled).sum::<u64>();

        let format =
            Format { words: &self.corpus.words, packing, gzip: options.gzip, threads: options.threads() };
        let counts = adjusted
            .unigrams
            .iter()
            .zip(0usize..)
            .map(|(&adjusted, id)| Count { adjusted, pruned: kept.as_ref().is_some_and(|kept| !kept[id]) });
        let unigrams = Unigrams {
            shares: Shares::of(counts, discounts[0]),
            adjusted: adjusted.unigrams,
            kept: kept.as_deref(),
            interpolate: options.interpolate_unigrams,
        };
        let mut watch = Watch::new(observer, Phase::Writing, adjusted.kept.iter().sum());
        let produce = |output: &mut Output<'_, L>| {
            orders.write(&adjusted.kept, &unigrams, normalised, output, &mut watch)
        };
        let ((), bytes) = output::write(out, format, produce)?;
        Ok(Summary { counts: adjusted.kept, seen: adjusted.counted, discounts, warnings, bytes, spilled })
    }

    /// The memory that is left beside the vocabulary.
    fn pool<const L: usize>(&self) -> Result<Arc<Pool<L>>> {
        let options = &self.options;
        let needed = self.corpus.memory() + FIXED;
        let sorters = options.order + 1;
        let least = needed + (sorters as u64) * LEAST_SORTER;
        if options.memory < least {
            return Err(Error::Limit {
                what: format!(
                    "bytes of memory for {} words and order {} (give more with --memory)",
                    self.corpus.words.len(),
                    options.order
                ),
                limit: options.memory,
                got: least,
            });
        }
        Ok(Pool::new(&self.folder, options.memory - needed, sorters, options.threads()))
    }
}

/// The longest n-grams.
const HIGHEST: usize = 16;
/// Buffers of readers, writers and threads.
const FIXED: u64 = 24 << 20;
/// What a sorter needs to make runs worth merging.
const LEAST_SORTER: u64 = 256 << 10;
