//! Building model files: from ARPA text to what opens at once.
//!
//! KenLM's files come out byte for byte as its `build_binary` writes them.

mod quantiser;
mod tables;
mod trie;

use std::path::Path;

use super::arpa::{self, Fault, Sink};
use super::input::{Lines, Opened};
use super::kenlm::layout::{Tables, TrieLayout};
use super::kenlm::{Header, Kind};
use super::vocab::Words;
use crate::{Error, Result};

/// What kind of file to build.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// KenLM's hash tables: the fastest and the largest.
    Probing {
        /// Slots over n-grams, at least 1; KenLM's default is 1.5.
        multiplier: f32,
    },
    /// KenLM's trie.
    Trie {
        /// Bits of quantised probabilities and backoffs, 1 to 25 (backoffs: from 2); exact if none.
        quantise: Option<(u8, u8)>,
        /// The most upper bits of pointers that may go to an array, 255 for any number; pointers
        /// are not compressed if none.
        array: Option<u8>,
    },
}

/// How to build a file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BuildOptions {
    /// The kind of file.
    pub target: Target,
    /// log10 probability of unknown words if the ARPA file lists no `<unk>`.
    pub missing_unk_log10: f32,
    /// Whether the words' spellings go into the file. Without them it still scores.
    pub spellings: bool,
}

/// What building a file will take.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// Number of n-grams for each order, as the ARPA file's header has them.
    pub counts: Vec<u64>,
    /// Size of the file, without the words' spellings. For tries a lower bound: n-grams that pruning
    /// left out come back.
    pub bytes: u64,
    /// Memory that building will use at its peak, about.
    pub memory_bytes: u64,
    /// Seconds on one core of a machine of 2023, about; more for packed files.
    pub seconds: f64,
}

impl BuildOptions {
    /// A file of this kind, with KenLM's defaults.
    pub fn new(target: Target) -> Self {
        Self { target, missing_unk_log10: -100.0, spellings: true }
    }
}

/// What building a file from `arpa` will take, from the ARPA file's header alone.
///
/// # Errors
/// If the header cannot be read, or there can be no such file of its n-grams.
pub fn plan(arpa: &Path, options: &BuildOptions) -> Result<Plan> {
    let mut lines = Lines::new(arpa, Opened::file(arpa)?)?;
    plan_counts(arpa, &arpa::head(&mut lines)?, options)
}

/// Builds the model file `out` from the ARPA file `arpa`, plain or packed. `progress` is told now
/// and then how many n-grams were read.
///
/// Everything is written under another name first: after whatever interruption there is the old
/// file `out`, the new one, or none.
///
/// # Errors
/// If the ARPA file is damaged, or the file cannot be written; it is then not there, or the old one.
pub fn build(arpa: &Path, out: &Path, options: &BuildOptions, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let mut lines = Lines::new(arpa, Opened::file(arpa)?)?;
    let counts = arpa::head(&mut lines)?;
    plan_counts(arpa, &counts, options)?;
    if let Some(bytes) = lines.size()
        && let Some((&count, order)) = counts.iter().zip(1..).find(|(count, _)| **count > bytes)
    {
        let what = format!("claims {count} {order}-grams in {bytes} bytes; if that is true, unpack it");
        return Err(Error::model(arpa, what));
    }
    let mut words = Words::new();
    let source = Source { arpa, lines, counts };
    match options.target {
        Target::Probing { multiplier } => {
            tables::build(source, &mut words, out, multiplier, options, progress)
        }
        Target::Trie { quantise, array } => {
            trie::build(source, &mut words, out, (quantise, array), options, progress)
        }
    }
}

/// An ARPA file of which the header was read.
struct Source<'a> {
    arpa: &'a Path,
    lines: Lines,
    counts: Vec<u64>,
}

impl Source<'_> {
    /// Reads the rest into a sink; returns how often the unknown word was listed.
    fn read(
        &mut self,
        words: &mut Words,
        sink: &mut impl Sink,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u32> {
        let mut sink = Counted { sink, seen: 0, progress };
        arpa::body(&mut self.lines, &self.counts, words, &mut sink)
    }
}

/// A sink that tells how far it is.
struct Counted<'a, S> {
    sink: &'a mut S,
    seen: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl<S> Counted<'_, S> {
    fn count(&mut self) {
        self.seen += 1;
        if self.seen.is_multiple_of(1 << 16) {
            (self.progress)(self.seen);
        }
    }
}

impl<S: Sink> Sink for Counted<'_, S> {
    fn counts(&mut self, counts: &[u64], bytes: Option<u64>) {
        self.sink.counts(counts, bytes);
    }

    fn unigram(&mut self, id: u32, prob: f32, backoff: f32) {
        self.count();
        self.sink.unigram(id, prob, backoff);
    }

    fn ngram(&mut self, line: u64, words: &[u32], prob: f32, backoff: f32) -> Result<(), Fault> {
        self.count();
        self.sink.ngram(line, words, prob, backoff)
    }

    fn settle(&mut self) -> Result<(), Fault> {
        self.sink.settle()
    }
}

fn plan_counts(arpa: &Path, counts: &[u64], options: &BuildOptions) -> Result<Plan> {
    if counts.len() < 2 {
        return Err(Error::model(
            arpa,
            "has single words only, and KenLM's files need 2-grams at least; use the ARPA file as it is, or build a compact file",
        ));
    }
    let unknown = options.missing_unk_log10;
    if !(f32::MIN..=0.0).contains(&unknown) {
        return Err(Error::Config(format!(
            "a log10 probability of unknown words is at most 0, not {unknown}"
        )));
    }
    let header = header(options, counts.to_vec());
    let sizes = match options.target {
        Target::Probing { multiplier } => {
            if !(multiplier >= 1.0 && multiplier.is_finite()) {
                return Err(Error::Config(format!("the multiplier is {multiplier}, and must be 1 or more")));
            }
            Tables::new(&header).map(|layout| {
                let tables: u64 = layout.levels.iter().map(|table| table.buckets.divisor() * 16).sum();
                (layout.sections.end() as u64, tables + 60 * counts[0])
            })
        }
        Target::Trie { quantise, array } => {
            if let Some((probs, backoffs)) = quantise
                && !((1..=25).contains(&probs) && (2..=25).contains(&backoffs))
            {
                return Err(Error::Config(format!(
                    "values cannot be quantised to {probs} and {backoffs} bits: 1 to 25 for probabilities, 2 to 25 for backoffs"
                )));
            }
            // A table of hashes with every n-gram, the ids of all of them, and a part of the file.
            let grams = counts[1..].iter().zip(2..).map(|(&count, n)| count.saturating_mul(24 + 4 * n));
            let memory = grams.fold(80 * counts[0], u64::saturating_add);
            let layout = TrieLayout::new(&header, |_| quantise.unwrap_or((0, 0)), |_| array.unwrap_or(0));
            layout.map(|layout| {
                let bytes = layout.sections.end() as u64;
                (bytes, memory.saturating_add(bytes / 2))
            })
        }
    };
    let (bytes, memory_bytes) = sizes.map_err(|what| Error::model(arpa, what))?;
    let each = match options.target {
        Target::Probing { .. } => PROBING_SECONDS,
        Target::Trie { .. } => TRIE_SECONDS,
    };
    let seconds = counts.iter().map(|&count| count as f64).sum::<f64>() * each;
    let memory_bytes = memory_bytes.saturating_add(PROGRAM_BYTES);
    Ok(Plan { counts: counts.to_vec(), bytes, memory_bytes, seconds })
}

fn header(options: &BuildOptions, counts: Vec<u64>) -> Header {
    let (kind, multiplier) = match options.target {
        Target::Probing { multiplier } => (Kind::Probing, multiplier),
        Target::Trie { quantise, array } => {
            (Kind::trie(quantise.is_some(), array.is_some()), DEFAULT_MULTIPLIER)
        }
    };
    Header { kind, multiplier, spelled: options.spellings, counts }
}

/// Memory that is not for n-grams: the program, buffers.
const PROGRAM_BYTES: u64 = 20 << 20;
/// Time for an n-gram, its text included.
const PROBING_SECONDS: f64 = 0.4e-6;
const TRIE_SECONDS: f64 = 0.8e-6;
/// What stands in the headers of tries, too.
const DEFAULT_MULTIPLIER: f32 = 1.5;
