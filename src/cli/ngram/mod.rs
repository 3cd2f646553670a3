//! `secondpass ngram`: what people do with n-gram files; one file per command.

mod build;
mod info;
mod prune;
mod query;
mod train;
mod verify;
mod vocab;

use std::io::Write;
use std::path::Path;

use super::End;
use super::load::Loading;
use super::messages::Messages;
use crate::lm::ngram::Ngram;
use crate::whole::Whole;
use crate::{Error, Result};

/// Make n-gram models, look into them, query and build them
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Query(query::Args),
    Info(info::Args),
    Verify(verify::Args),
    Vocab(vocab::Args),
    Build(build::Args),
    Train(train::Args),
    Prune(prune::Args),
}

/// Runs one of them.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    match &arguments.command {
        Command::Query(arguments) => query::run(arguments),
        Command::Info(arguments) => info::run(arguments, messages),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Vocab(arguments) => vocab::run(arguments, messages),
        Command::Build(arguments) => build::run(arguments, messages),
        Command::Train(arguments) => train::run(arguments, messages),
        Command::Prune(arguments) => prune::run(arguments, messages),
    }
}

/// Opens a model to look into: without a copy of it.
fn look(path: &Path) -> Result<Ngram> {
    Ngram::open(path, &Loading::Mmap.options())
}

/// Lets `write` write a model; a file that was there is replaced when that has succeeded, and
/// stays as it was if not. `-` is standard output, and pipes and devices are written as they are.
fn whole<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    if path == Path::new("-") {
        return write(&mut std::io::stdout());
    }
    // The library knows no name for it.
    let named = |error| match error {
        Error::Io { what, source } if what == "the model" => Error::io(path, source),
        other => other,
    };
    if std::fs::metadata(path).is_ok_and(|data| !data.is_file()) {
        let file = std::fs::File::options().write(true).open(path);
        return write(&mut file.map_err(|error| Error::io(path, error))?).map_err(named);
    }
    let mut file = Whole::create(path)?;
    let made = write(&mut file).map_err(named)?;
    file.finish()?;
    Ok(made)
}

/// Refuses a packing that models are not written in.
fn packable(path: &Path) -> Result<()> {
    let name = path.to_string_lossy();
    match [".bz2", ".xz", ".zst"].iter().find(|packing| name.ends_with(**packing)) {
        Some(packing) => Err(Error::config(format!(
            "{name}: models are written plain or as .gz; write to standard output and pack that as {packing}"
        ))),
        None => Ok(()),
    }
}

/// Writes to standard output.
fn print(text: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(output)
}

fn output(source: std::io::Error) -> Error {
    Error::Io { what: "output".into(), source }
}
