//! Making n-gram models smaller: fewer words, then entropy pruning (Stolcke 1998), then new
//! backoffs.
//!
//! An n-gram goes if the model's perplexity rises too little without it. Probabilities that stay
//! are not touched; backoffs are computed anew, so that every distribution still sums to one.
//! Words that are dropped give their unigram probability to `<unk>`.
//!
//! Pruning weighs each context by how often it occurs. Kneser-Ney's lower orders are no such
//! frequencies, and pruning by them throws away the wrong n-grams (Chelba, Brants, Neveitt and Xu
//! 2010); [`Pruner::count`] counts the contexts in text instead.

mod entropy;
mod histories;
mod model;
mod write;

use std::io::{Read, Write};
use std::path::Path;

use self::histories::Counts;
use self::model::Model;
use super::input::{Lines, Opened};
use crate::{Error, Result};

/// How much stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Keep {
    /// At most this many n-grams, words among them.
    Most(u64),
    /// What raises the perplexity by this part, or more, if it goes; 1e-8 is usual.
    Threshold(f64),
}

/// A model to be pruned, in memory.
pub struct Pruner {
    model: Model,
    counts: Option<Counts>,
}

impl Pruner {
    /// Reads an ARPA file.
    ///
    /// # Errors
    /// If it cannot be read, has only words or too many, or lacks `<s>`, `</s>` or `<unk>`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(path, Lines::open(path)?)
    }

    /// Reads the same from a stream or from memory; `name` stands for the path in messages.
    ///
    /// # Errors
    /// As [`Pruner::open`].
    pub fn from_reader(name: impl AsRef<Path>, reader: impl Read + 'static) -> Result<Self> {
        let name = name.as_ref();
        Self::of(name, Lines::new(name, Opened::stream(name, reader)?)?)
    }

    /// n-grams by order from 1.
    pub fn counts(&self) -> Vec<u64> {
        self.model.tables.iter().map(|table| table.codes.len() as u64).collect()
    }

    /// Counts contexts in a text, which then weigh by what all texts counted say.
    ///
    /// # Errors
    /// If the text cannot be read.
    pub fn count(&mut self, name: &str, text: impl Read + Send + 'static) -> Result<()> {
        let counts = self.counts.get_or_insert_with(|| Counts::new(&self.model));
        counts.add(&self.model, name, text)
    }

    /// Keeps the `words` most frequent words (by the texts counted, else by their probability),
    /// `<s>`, `</s>` and `<unk>` among them. Returns the probability given to `<unk>`.
    pub fn limit_vocabulary(&mut self, words: usize) -> f64 {
        let weights = match &self.counts {
            Some(counts) => counts.words().to_vec(),
            None => self.model.tables[0].prob.clone(),
        };
        let (moved, rows) = self.model.limit_vocabulary(words, weights);
        if let Some(counts) = &mut self.counts {
            counts.select(&rows);
        }
        moved
    }

    /// Prunes; returns the threshold in force.
    ///
    /// # Errors
    /// If fewer n-grams are wanted than the model has words.
    pub fn prune(&mut self, keep: Keep) -> Result<f64> {
        let words = self.counts()[0];
        if let Keep::Most(most) = keep
            && most < words
        {
            return Err(Error::config(format!(
                "the model has {words} words and {most} n-grams are wanted: words are not pruned; limit the vocabulary too"
            )));
        }
        let frequencies = match &self.counts {
            Some(counts) => counts.frequencies(),
            None => histories::by_the_model(&self.model),
        };
        let threshold = entropy::prune(&mut self.model, keep, &frequencies);
        // Rows are others now.
        self.counts = None;
        Ok(threshold)
    }

    /// Writes the model as ARPA text with so many decimals; words in the order of their bytes.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn write(&self, out: &mut dyn Write, decimals: usize) -> Result<()> {
        write::write(&self.model, out, decimals)
            .map_err(|source| Error::Io { what: "the model".into(), source })
    }

    fn of(name: &Path, lines: Lines) -> Result<Self> {
        Ok(Self { model: Model::read(name, lines)?, counts: None })
    }
}

#[cfg(test)]
mod tests;
