//! `secondpass doctor`: what is here, what is missing, and the command that mends it.

use std::io::Write;
use std::path::PathBuf;

use super::End;
use super::messages::Messages;
use super::models::shipped;
use crate::lm::onnx::{install, runtime};
use crate::{Error, Result};

/// Check the set-up: ONNX Runtime, devices, shipped models
///
/// Exit code 2 if something needed for neural models is missing.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Fetch ONNX Runtime with pip if it is missing
    #[arg(long)]
    install: bool,
    /// The ONNX Runtime library to check
    #[arg(long, value_name = "FILE", help_heading = "Models")]
    onnxruntime: Option<PathBuf>,
}

/// Checks the set-up.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let explicit = arguments.onnxruntime.as_deref();
    if arguments.install && runtime::discover(explicit).is_err() {
        install::install(&mut |step| messages.say(step))?;
    }
    let search = runtime::search(explicit);
    let mut out = format!("secondpass     {}\n", env!("CARGO_PKG_VERSION"));
    for candidate in &search.tried {
        out += &format!(
            "looked at      {} ({}): {}\n",
            candidate.path.display(),
            candidate.origin,
            candidate.outcome
        );
    }
    let mut missing = None;
    match &search.found {
        Some(library) => {
            out += &format!(
                "ONNX Runtime   {} (1.{}, {})\n",
                library.path.display(),
                library.minor,
                library.origin
            );
            runtime::configure(Some(&library.path));
            match runtime::environment() {
                Ok(_) => {
                    out += "loads          yes\n";
                    for (device, there) in runtime::devices()? {
                        out += &format!(
                            "{device:<14} {}\n",
                            if there { "in this library" } else { "not in this library" }
                        );
                    }
                }
                Err(error) => missing = Some(error.to_string()),
            }
        }
        None => {
            out += "ONNX Runtime   not found\n";
            missing =
                Some("ONNX Runtime was not found; mend it with: secondpass doctor --install".to_owned());
        }
    }
    match shipped("en/rescore.toml") {
        Ok(path) => out += &format!("models         {}\n", path.display()),
        Err(error) => out += &format!("models         {error}\n"),
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Io { what: "output".into(), source })?;
    missing.map_or(Ok(End::Done), |what| Err(Error::Runtime(what)))
}
