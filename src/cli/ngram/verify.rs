//! `secondpass ngram verify`: is every n-gram where lookups find it?

use std::path::PathBuf;

use crate::cli::End;
use crate::{Error, Result};

/// Check every n-gram of a file, not only what opening it needs
#[derive(clap::Args, Debug)]
pub struct Args {
    /// An ARPA, KenLM or compact file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
}

/// Checks it; faults go to standard output, one a line.
pub fn run(arguments: &Args) -> Result<End> {
    let model = super::look(&arguments.model)?;
    let faults = model.verify();
    if faults.is_empty() {
        let total: u64 = model.counts().iter().sum();
        super::print(format!("ok: {total} n-grams, {} words\n", model.words().len()).as_bytes())?;
        return Ok(End::Done);
    }
    super::print((faults.join("\n") + "\n").as_bytes())?;
    Err(Error::model(&arguments.model, "is damaged, as listed; copy or build it again"))
}
