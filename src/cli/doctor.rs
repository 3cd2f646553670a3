//! `secondpass doctor`: what is here, what is missing, and the command that mends it.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::End;
use super::messages::Messages;
use super::models::shipped;
use crate::lm::onnx::cuda::{self, Place};
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
    /// Check, and with --install fetch, the build that runs on NVIDIA GPUs
    ///
    /// With it the exit code is 2 unless models can run on a GPU. CUDA and cuDNN are not fetched.
    #[arg(long)]
    cuda: bool,
    /// The ONNX Runtime library to check
    #[arg(long, value_name = "FILE", help_heading = "Models")]
    onnxruntime: Option<PathBuf>,
}

/// Checks the set-up.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let explicit = arguments.onnxruntime.as_deref();
    if arguments.cuda {
        runtime::prefer_cuda();
    }
    if arguments.install {
        let mut say = |step: &str| messages.say(step);
        match runtime::discover(explicit) {
            Ok(library) if !arguments.cuda || cuda::provider(&library.path).is_some() => {}
            _ if arguments.cuda => drop(install::install_cuda(&mut say)?),
            _ => drop(install::install(&mut say)?),
        }
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
                    gpu(&library.path, arguments.cuda, &mut out, &mut missing)?;
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

/// What a library with CUDA needs, and whether it works; `asked`: whether it has to.
fn gpu(library: &Path, asked: bool, out: &mut String, missing: &mut Option<String>) -> Result<()> {
    let needs = cuda::needs(library)?;
    for need in &needs {
        let place = match &need.place {
            Place::System => "found by the system's loader".to_owned(),
            Place::Folder(path) => format!("found: {}", path.display()),
            Place::Missing => "not found, or cannot be loaded".to_owned(),
        };
        *out += &format!("needs          {} ({}): {place}\n", need.name, need.part);
    }
    if needs.is_empty() {
        if asked {
            let what = "this ONNX Runtime runs on the processor only; mend it with: secondpass doctor --install --cuda";
            *missing = Some(what.to_owned());
        }
        return Ok(());
    }
    let works = cuda::usable(0);
    *out += &match &works {
        Ok(()) => "cuda works     yes, a model was loaded onto device 0\n".to_owned(),
        Err(error) => format!("cuda works     no: {error}\n"),
    };
    if works.is_ok() {
        return Ok(());
    }
    let lacks =
        |name: &str| needs.iter().any(|need| need.place == Place::Missing && need.name.starts_with(name));
    let others = needs.iter().any(|need| need.place == Place::Missing && !need.name.starts_with(DRIVER));
    let mut advice = Vec::new();
    if lacks(DRIVER) {
        advice.push("install the NVIDIA driver (this machine has none, or no GPU)".to_owned());
    }
    if others {
        advice.push(format!(
            "put the libraries where the loader finds them, or into the active virtual environment with: pip install \
             \"onnxruntime-gpu[cuda,cudnn]=={}\"",
            install::CUDA_VERSION
        ));
    }
    let advice = if advice.is_empty() { "see the reason above".to_owned() } else { advice.join("; ") };
    *out += &format!("advice         {advice}\n");
    if asked {
        *missing = Some("no model can run on a GPU here; what is missing stands above".to_owned());
    }
    Ok(())
}

const DRIVER: &str = "libcuda.so";
