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
/// `compact` is this program's own: exact, and smaller than the others that are. The others are those
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
    /// What kind of file
    #[arg(short, long, value_name = "TYPE", default_value = "probing")]
    r#type: Type,
    /// compact: what the file is to be good at [default: size]
    #[arg(long, value_name = "WHAT")]
    prefer: Option<Prefer>,
    /// compact: memory for n-grams; what does not fit goes to temporary files beside OUT [default: 1G]
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<Amount>,
    /// probing: room in hash tables for each n-gram [default: 1.5]
    #[arg(long, value_name = "NUM")]
    multiplier: Option<f32>,
    /// quant, quant-array: bits of a probability, 1 to 25 [default: 8]
    #[arg(long, value_name = "NUM")]
    prob_bits: Option<u8>,
    /// quant, quant-array: bits of a backoff, 2 to 25 [default: 8]
    #[arg(long, value_name = "NUM")]
    backoff_bits: Option<u8>,
    /// array, quant-array: most bits of pointers to compress [default: 22]
    #[arg(long, value_name = "NUM")]
    pointer_bits: Option<u8>,
    /// log10 p of unknown words if ARPA has no <unk>
    #[arg(long, value_name = "NUM", default_value_t = -100.0, allow_hyphen_values = true)]
    unk: f32,
    /// All but compact: leave out the words' spellings
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
    /// This program's own: exact; the smallest (--prefer size), or about half of a trie at about its
    /// speed (--prefer speed), for interpolated models
    Compact,
}

/// `--prefer`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Prefer {
    /// As few bytes as can be: about 3 an n-gram of an interpolated model, looked up slowly
    #[default]
    Size,
    /// Looked up about as fast as a trie: about 5 bytes an n-gram of an interpolated model
    Speed,
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
    arguments.fit(arguments.r#type)?;
    if arguments.r#type == Type::Compact {
        return compact(arguments, out, messages);
    }
    let options = arguments.options(arguments.r#type);
    let Plan { counts, bytes, memory_bytes, seconds, .. } = plan(&arguments.arpa, &options)?;
    messages.say(&format!(
        "{}: about {} on disk, {} of memory and {:.0} s to build it",
        out.display(),
        size(bytes),
        size(memory_bytes),
        seconds.max(1.0)
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
        "{}: about {} on disk, at most {} of memory, {} of temporary files and about {:.0} s to build it",
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

/// Every type's size; options count for those that have them.
fn table(arguments: &Args) -> Result<String> {
    let mut out = format!("{:<12} {:>10} {:>18} {:>7}\n", "type", "on disk", "memory to build it", "time");
    for kind in <Type as clap::ValueEnum>::value_variants() {
        let (bytes, memory, seconds) = match kind {
            Type::Compact => {
                let estimate = compact::estimate(&arguments.arpa, &arguments.compact()?)?;
                (estimate.file_bytes, estimate.memory_bytes, estimate.seconds)
            }
            _ => {
                let plan = plan(&arguments.arpa, &arguments.options(*kind))?;
                (plan.bytes, plan.memory_bytes, plan.seconds)
            }
        };
        let name =
            clap::ValueEnum::to_possible_value(kind).map_or(String::new(), |value| value.get_name().into());
        let seconds = seconds.max(1.0);
        let _ = writeln!(out, "{name:<12} {:>10} {:>18} {seconds:>5.0} s", size(bytes), size(memory));
    }
    Ok(out + "Words' spellings not counted; tries grow by what pruning left out.\n")
}

impl Args {
    fn compact(&self) -> Result<compact::Options> {
        let mut options = compact::Options::default();
        if let Some(memory) = &self.memory {
            options.memory = usize::try_from(memory.bytes()?).unwrap_or(usize::MAX);
        }
        options.prefer = match self.prefer.unwrap_or_default() {
            Prefer::Size => compact::Prefer::Size,
            Prefer::Speed => compact::Prefer::Speed,
        };
        options.missing_unk_log10 = self.unk;
        Ok(options)
    }

    /// Refuses options that files of a type do not have.
    fn fit(&self, kind: Type) -> Result<()> {
        let (quantised, arrays) =
            (&[Type::Quant, Type::QuantArray][..], &[Type::Array, Type::QuantArray][..]);
        let options = [
            ("--prefer", self.prefer.is_some(), &[Type::Compact][..]),
            ("--memory", self.memory.is_some(), &[Type::Compact]),
            ("--multiplier", self.multiplier.is_some(), &[Type::Probing]),
            ("--prob-bits", self.prob_bits.is_some(), quantised),
            ("--backoff-bits", self.backoff_bits.is_some(), quantised),
            ("--pointer-bits", self.pointer_bits.is_some(), arrays),
        ];
        let named = |kind: &Type| {
            clap::ValueEnum::to_possible_value(kind).map_or_else(String::new, |value| value.get_name().into())
        };
        for (option, given, types) in options {
            if given && !types.contains(&kind) {
                let types: Vec<String> = types.iter().map(named).collect();
                return Err(Error::config(format!(
                    "{option} means nothing for --type {}, only for {}; leave it out, or name that type",
                    named(&kind),
                    types.join(" and ")
                )));
            }
        }
        if self.no_spellings && kind == Type::Compact {
            return Err(Error::config(
                "--no-spellings means nothing for --type compact, which needs them; leave it out",
            ));
        }
        Ok(())
    }

    fn options(&self, kind: Type) -> BuildOptions {
        let quantise = matches!(kind, Type::Quant | Type::QuantArray);
        let array = matches!(kind, Type::Array | Type::QuantArray);
        let mut options = BuildOptions::new(match kind {
            Type::Probing => Target::Probing { multiplier: self.multiplier.unwrap_or(1.5) },
            _ => Target::Trie {
                quantise: quantise.then_some((self.prob_bits.unwrap_or(8), self.backoff_bits.unwrap_or(8))),
                array: array.then_some(self.pointer_bits.unwrap_or(22)),
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
