//! `secondpass ngram info`: what kind of file, how large, what is in it.

use std::fmt::Write;
use std::path::PathBuf;

use crate::cli::End;
use crate::cli::messages::Messages;
use crate::{Error, Result};

/// Show kind, order, counts, sizes and vocabulary of an n-gram file
#[derive(clap::Args, Debug)]
pub struct Args {
    /// An ARPA, KenLM or compact file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
}

/// Shows them.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let path = &arguments.model;
    let model = super::look(path)?;
    let info = model.info();
    let bytes = std::fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    let total: u64 = info.counts.iter().sum();
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<16} {value}");
    };
    row("file", path.display().to_string());
    row("kind", info.kind.clone());
    row("order", info.counts.len().to_string());
    for (count, order) in info.counts.iter().zip(1..) {
        row(&format!("{order}-grams"), count.to_string());
    }
    row("words", format!("{} with <unk>", info.words));
    for (name, value) in &info.properties {
        row(name, value.clone());
    }
    row("bytes", format!("{bytes}, {:.2} for each n-gram", bytes as f64 / total.max(1) as f64));
    for section in &info.sections {
        let range = &section.bytes;
        row(&format!("  {}", section.name), format!("{} at {}", range.len(), range.start));
    }
    for warning in model.warnings() {
        messages.say(&format!("warning: {warning}"));
    }
    super::print(out.as_bytes())?;
    Ok(End::Done)
}
