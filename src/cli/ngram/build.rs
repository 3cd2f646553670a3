//! `secondpass ngram build`: model files that open at once, from ARPA text.

use std::fmt::Write;
use std::path::PathBuf;

use crate::cli::messages::Messages;
use crate::cli::{End, progress};
use crate::lm::ngram::build::{BuildOptions, Plan, Target, build, plan};
use crate::{Error, Result};

/// Build a KenLM binary from an ARPA file
///
/// The files are those of KenLM's `build_binary`, byte for byte. Without OUT, shows how large each
/// type would be. After whatever interruption OUT is the new file, the old one, or not there.
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
    /// Both: the smallest, not exact
    QuantArray,
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

/// Every type's size.
fn table(arguments: &Args) -> Result<String> {
    let mut out = format!("{:<12} {:>10} {:>18}\n", "type", "on disk", "memory to build it");
    for kind in <Type as clap::ValueEnum>::value_variants() {
        let plan = plan(&arguments.arpa, &arguments.options(*kind))?;
        let name =
            clap::ValueEnum::to_possible_value(kind).map_or(String::new(), |value| value.get_name().into());
        let _ = writeln!(out, "{name:<12} {:>10} {:>18}", size(plan.bytes), size(plan.memory_bytes));
    }
    Ok(out + "Words' spellings not counted; tries grow by what pruning left out.\n")
}

impl Args {
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
