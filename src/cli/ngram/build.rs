//! `secondpass ngram build`: model files that open at once, from ARPA text.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::cli::memory::{Amount, shown};
use crate::cli::messages::Messages;
use crate::cli::{End, progress};
use crate::lm::ngram::build::{BuildOptions, Plan, Target, build, plan};
use crate::lm::ngram::compact;
use crate::{Error, Result};

/// Build a compact file or a KenLM binary from an ARPA file
///
/// `compact` is this program's own: exact, and smaller than any of the others. The others are those
/// of KenLM's `build_binary`, byte for byte. Without OUT, shows how large each type would be. After
/// whatever interruption OUT is the new file, the old one, or not there.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// An ARPA file, plain or packed
    #[arg(value_name = "ARPA")]
    arpa: PathBuf,
    /// The file to build
    #[arg(value_name = "OUT")]
    out: Option<PathBuf>,
    /// compact: memory for n-grams; what does not fit goes to temporary files beside OUT
    #[arg(long, value_name = "AMOUNT", default_value = "1G")]
    memory: Amount,
    /// What kind of file
    #[arg(short, long, value_name = "TYPE", default_value = "probing")]
    r#type: Type,
    /// probing: room in hash tables for each n-gram
    #[arg(long, value_name = "NUM", default_value_t = 1.5)]
    multiplier: f32,
    /// quant, quant-array: bits of a probability, 1 to 25
    #[arg(long, value_name = "NUM", default_value_t = 8)]
    prob_bits: u8,
    /// quant, quant-array: bits of a backoff, 2 to 25
    #[arg(long, value_name = "NUM", default_value_t = 8)]
    backoff_bits: u8,
    /// array, quant-array: most bits of pointers to compress
    #[arg(long, value_name = "NUM", default_value_t = 22)]
    pointer_bits: u8,
    /// log10 p of unknown words if ARPA has no <unk>
    #[arg(long, value_name = "NUM", default_value_t = -100.0, allow_hyphen_values = true)]
    unk: f32,
    /// Leave out the words' spellings
    #[arg(long)]
    no_spellings: bool,
}

/// `--type`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    /// Hash tables: the fastest and the largest
    Probing,
    /// A trie: half as large
    Trie,
    /// A trie with compressed pointers: smaller and slower
    Array,
    /// A trie with rounded values: smaller, not exact
    Quant,
    /// Both: the smallest of KenLM's, not exact
    QuantArray,
    /// This program's own: exact and the smallest
    Compact,
}

/// Builds it, or tells how large it would be.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let Some(out) = &arguments.out else {
        super::print(table(arguments)?.as_bytes())?;
        return Ok(End::Done);
    };
    if crate::cli::files::same(&arguments.arpa, out) {
        return Err(Error::config("OUT is the ARPA file itself; name another"));
    }
    if arguments.r#type == Type::Compact {
        return compact(arguments, out, messages);
    }
    let options = arguments.options(arguments.r#type);
    let Plan { counts, bytes, memory_bytes, .. } = plan(&arguments.arpa, &options)?;
    messages.say(&format!(
        "{}: about {} on disk, {} of memory to build it",
        out.display(),
        size(bytes),
        size(memory_bytes)
    ));
    let bar = progress("reading", counts.iter().sum());
    let built = build(&arguments.arpa, out, &options, &mut |seen| bar.set_position(seen));
    bar.finish_and_clear();
    built.map(|()| End::Done)
}

/// Builds a compact file.
fn compact(arguments: &Args, out: &Path, messages: &Messages) -> Result<End> {
    let options = arguments.compact()?;
    let estimate = compact::estimate(&arguments.arpa, &options)?;
    messages.say(&format!(
        "{}: about {} on disk, at most {} of memory and {} of temporary files to build it, {:.0} s",
        out.display(),
        size(estimate.file_bytes),
        size(estimate.memory_bytes),
        size(estimate.temporary_bytes),
        estimate.seconds.max(1.0)
    ));
    let report = compact::build(&arguments.arpa, out, &options)?;
    let total: u64 = report.counts.iter().sum();
    messages.say(&format!(
        "{}: {total} n-grams in {}, {:.2} bytes for each",
        out.display(),
        shown(report.file_bytes),
        report.file_bytes as f64 / total.max(1) as f64
    ));
    Ok(End::Done)
}

/// Every type's size.
fn table(arguments: &Args) -> Result<String> {
    let mut out = format!("{:<12} {:>10} {:>18}\n", "type", "on disk", "memory to build it");
    for kind in <Type as clap::ValueEnum>::value_variants() {
        let (bytes, memory) = match kind {
            Type::Compact => {
                let estimate = compact::estimate(&arguments.arpa, &arguments.compact()?)?;
                (estimate.file_bytes, estimate.memory_bytes)
            }
            _ => {
                let plan = plan(&arguments.arpa, &arguments.options(*kind))?;
                (plan.bytes, plan.memory_bytes)
            }
        };
        let name =
            clap::ValueEnum::to_possible_value(kind).map_or(String::new(), |value| value.get_name().into());
        let _ = writeln!(out, "{name:<12} {:>10} {:>18}", size(bytes), size(memory));
    }
    Ok(out + "Words' spellings not counted; tries grow by what pruning left out.\n")
}

impl Args {
    fn compact(&self) -> Result<compact::Options> {
        let memory = usize::try_from(self.memory.bytes()?).unwrap_or(usize::MAX);
        Ok(compact::Options { memory, missing_unk_log10: self.unk, ..compact::Options::default() })
    }

    fn options(&self, kind: Type) -> BuildOptions {
        let quantise = matches!(kind, Type::Quant | Type::QuantArray);
        let array = matches!(kind, Type::Array | Type::QuantArray);
        let mut options = BuildOptions::new(match kind {
            Type::Probing => Target::Probing { multiplier: self.multiplier },
            _ => Target::Trie {
                quantise: quantise.then_some((self.prob_bits, self.backoff_bits)),
                array: array.then_some(self.pointer_bits),
            },
        });
        options.missing_unk_log10 = self.unk;
        options.spellings = !self.no_spellings;
        options
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
