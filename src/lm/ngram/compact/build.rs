//! Building a compact file from an ARPA file.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::super::arpa;
use super::super::input::Lines;
use super::super::vocab::Words;
use super::collect::Collected;
use super::encode::encode;
use super::formula::linear;
use super::key::Fields;
use super::layout::{self, Prefer, Writer};
use super::level::{Below, level};
use super::model::{EXTREME, MODERATE, UNKNOWNS};
use super::pack::{Parents, pack};
use super::spool::Space;
use super::tree::Tree;
use super::{Fail, Gram};
use crate::{Error, Result};

/// How to build a file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Whether the file is to be made for size or for speed; for size by default.
    pub prefer: Prefer,
    /// Bytes of memory for n-grams; what does not fit goes to temporary files. The words come on
    /// top, and marks and codebooks of at most a few dozen bytes for each 100 n-grams. 1 GiB by default.
    pub memory: usize,
    /// Where temporary files lie; beside the file that is built by default.
    pub temporary: Option<PathBuf>,
    /// log10 probability of unknown words in models that list no `<unk>`, which only matters to
    /// blanks that end with `<unk>`; -100 by default.
    pub missing_unk_log10: f32,
}

/// What building a file will take, by the counts that the ARPA file claims.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// n-grams per order, without blanks.
    pub counts: Vec<u64>,
    /// Size of the file for a model that interpolates, in bytes; up to twice that for others.
    pub file_bytes: u64,
    /// Bytes of temporary files, at most.
    pub temporary_bytes: u64,
    /// Bytes of memory, at most.
    pub memory_bytes: u64,
    /// Seconds on one core of a machine of 2023.
    pub seconds: f64,
}

/// What was built.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// n-grams per order, with `<unk>` and with blanks for pruned suffixes.
    pub counts: Vec<u64>,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Its parts and their sizes in bytes.
    pub sections: Vec<(String, u64)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { prefer: Prefer::default(), memory: 1 << 30, temporary: None, missing_unk_log10: -100.0 }
    }
}

/// Estimates what [`build`] will take, from the first lines of an ARPA file.
///
/// # Errors
/// If the file cannot be read or is no ARPA file.
pub fn estimate(arpa: impl AsRef<Path>, options: &Options) -> Result<Estimate> {
    let counts = arpa::counts(&mut Lines::open(arpa.as_ref())?)?;
    let ngrams = counts[1..].iter().fold(0u64, |sum, &count| sum.saturating_add(count));
    let record = 8 * numbers(&counts) as u64;
    let temporary =
        ngrams.saturating_mul(3 * record + if options.prefer == Prefer::Speed { 180 } else { 92 });
    let words = counts[0].saturating_mul(WORD_BYTES);
    let each = match options.prefer {
        Prefer::Size => 3,
        Prefer::Speed => 6,
    };
    Ok(Estimate {
        file_bytes: ngrams.saturating_mul(each).saturating_add(counts[0].saturating_mul(24)),
        temporary_bytes: temporary,
        memory_bytes: words.saturating_add(temporary.min(options.memory as u64)),
        seconds: ngrams.saturating_add(counts[0]) as f64 * SECONDS,
        counts,
    })
}

/// Builds a compact file from an ARPA file, plain or packed as [`super::super::Ngram::open`]
/// takes it. Its n-grams may stand in any order.
///
/// The file appears under its name only when it is complete: after whatever interruption there is
/// the old file `out`, the new one, or none.
///
/// # Errors
/// If the ARPA file cannot be read or is not as it should be, or if a file cannot be written.
pub fn build(arpa: impl AsRef<Path>, out: impl AsRef<Path>, options: &Options) -> Result<Report> {
    let (arpa, out) = (arpa.as_ref(), out.as_ref());
    let counts = arpa::counts(&mut Lines::open(arpa)?)?;
    // Keys are of as many 64-bit numbers as the words need.
    match numbers(&counts) {
        ..=2 => run::<2>(arpa, out, &counts, options),
        3 => run::<3>(arpa, out, &counts, options),
        4..=6 => run::<6>(arpa, out, &counts, options),
        _ => run::<16>(arpa, out, &counts, options),
    }
}

fn run<const W: usize>(arpa: &Path, out: &Path, counts: &[u64], options: &Options) -> Result<Report> {
    let beside = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = options.temporary.clone().unwrap_or_else(|| beside.to_path_buf());
    let space = Space::new(options.memory, folder);
    // Seen before the long work begins: whether there is a place to write to.
    let writer = Writer::create(out, options.prefer, counts.len())?;
    let mut words = Words::new();
    let mut collected = Collected::<W>::new(&space, counts, options.missing_unk_log10);
    let unknowns = arpa::read(&mut Lines::open(arpa)?, &mut words, &mut collected)?;
    collected.rank();
    let ids = inverse(&collected);
    let written = write(collected, &words, &ids, unknowns, options.prefer, writer, &space);
    written.map_err(|fail| match fail {
        Fail::Whole(error) => error,
        Fail::Io(error) => Error::Io { what: format!("building {}", out.display()), source: error },
        Fail::Gram(ranks, what) => {
            let word = |rank: &u32| words.word(ids[*rank as usize]).unwrap_or_default();
            let text = ranks.iter().map(word).collect::<Vec<_>>().join(&b' ');
            let (order, text) = (ranks.len(), arpa::shown(&text));
            Error::model(arpa, match what {
                Gram::Twice => format!("the {order}-gram {text} is listed twice (`<unk>` and `<UNK>` are one word); remove one"),
                Gram::Context => format!("the {order}-gram {text} begins a longer n-gram and is not among the {order}-grams, where every context must be"),
            })
        }
    })
}

fn write<const W: usize>(
    collected: Collected<W>,
    words: &Words,
    ids: &[u32],
    unknowns: u32,
    prefer: Prefer,
    mut writer: Writer,
    space: &Space,
) -> Result<Report, Fail> {
    let mut unigrams = collected.unigrams.clone();
    let order = collected.ngrams.len() + 1;
    let mut tree = Tree::grow(collected, space)?;
    for id in 0..words.len() as u32 {
        writer.write_all(words.word(id).unwrap_or_default())?;
        writer.write_all(&[0])?;
    }
    writer.section()?;
    let mut largest = 0f32;
    let mut by_rank = vec![(0.0, 0.0); unigrams.len()];
    for unigram in &mut unigrams {
        let rank = unigram.rank as usize;
        if tree.ends[rank] {
            unigram.prob = unigram.prob.abs();
        }
        if tree.begins[rank] && unigram.backoff == 0.0 {
            unigram.backoff = 0.0;
        }
        largest = largest.max(unigram.prob.abs()).max(unigram.backoff.abs());
        by_rank[rank] = (unigram.prob, unigram.backoff);
        writer.write_all(&unigram.prob.to_le_bytes())?;
        writer.write_all(&unigram.backoff.to_le_bytes())?;
        match prefer {
            Prefer::Size => writer.write_all(&unigram.rank.to_le_bytes())?,
            Prefer::Speed => {
                for log10 in [-unigram.prob.abs(), unigram.backoff] {
                    writer.write_all(&(linear(log10) as f32).to_le_bytes())?;
                }
            }
        }
    }
    writer.section()?;
    let linear = |&(prob, _): &(f32, f32)| f64::from(linear(-prob.abs()) as f32);
    let mut parents =
        Parents::words(ids.iter().map(|&id| u64::from(id)).zip(by_rank.iter().map(linear)).collect());
    let mut below = Below::words(by_rank);
    let all: u64 = tree.counts.iter().sum();
    for length in 2..=order {
        let (level, next) = level(&mut tree, length, below, prefer == Prefer::Size, space)?;
        largest = largest.max(level.largest);
        match prefer {
            Prefer::Size => encode(level, length == order, space, &mut writer)?,
            Prefer::Speed => parents = pack(level, length == order, all, ids, parents, space, &mut writer)?,
        }
        below = next;
    }
    let extreme = if largest > MODERATE { EXTREME } else { 0 };
    let (file_bytes, lengths) = writer.finish(unknowns.min(UNKNOWNS) | extreme).map_err(Fail::Whole)?;
    let sections =
        lengths.into_iter().enumerate().map(|(at, length)| (layout::name(prefer, at), length)).collect();
    Ok(Report { counts: tree.counts, file_bytes, sections })
}

/// The id of each rank.
fn inverse<const W: usize>(collected: &Collected<W>) -> Vec<u32> {
    let mut ids = vec![0; collected.unigrams.len()];
    for (id, unigram) in (0..).zip(&collected.unigrams) {
        ids[unigram.rank as usize] = id;
    }
    ids
}

/// How many 64-bit numbers the keys of a model take.
fn numbers(counts: &[u64]) -> usize {
    Fields::new(counts[0] + 1).numbers(counts.len())
}

/// Memory for a word: its letters, its place in the table, weights and ranks.
const WORD_BYTES: u64 = 80;
/// Time for an n-gram.
const SECONDS: f64 = 1.2e-6;
