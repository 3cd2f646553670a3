//! Fetching ONNX Runtime; used by `doctor --install` and `demo` alone.
//!
//! The official Python wheel holds the library. pip downloads it, so that the user's mirrors and
//! proxies apply; what comes is used only if its SHA-256 is the one known here.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::runtime;
use crate::{Error, Result};

/// The version that is fetched.
pub const VERSION: &str = "1.32.0";

/// Fetches ONNX Runtime for this machine into the user's cache and returns the library's path,
/// where [`runtime::discover`] finds it. `progress` hears what is being done, a line at a time.
/// Does nothing when the right file is already there.
///
/// # Errors
/// If this platform is not known, Python or pip is missing, the download fails, or what came is
/// not what was expected; each with what to do instead.
pub fn install(progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let wheel = wheel()?;
    let cache = runtime::cache().ok_or_else(|| {
        failed("there is no home directory; set XDG_CACHE_HOME to a folder that can be written")
    })?;
    let directory = cache.join(VERSION);
    let target = directory.join(format!("libonnxruntime.so.{VERSION}"));
    if std::fs::read(&target).is_ok_and(|bytes| hex(&bytes) == wheel.sha256) {
        progress(&format!("ONNX Runtime {VERSION} is already there: {}", target.display()));
        return Ok(target);
    }
    std::fs::create_dir_all(&directory).map_err(|e| Error::io(&directory, e))?;
    let scratch = Scratch::new(&directory)?;
    progress(&format!("fetching ONNX Runtime {VERSION} ({}, about 28 MB) with pip", wheel.tag));
    download(wheel.tag, &scratch.0)?;
    progress("checking and unpacking it");
    let library = unpack(&scratch.0, &target)?;
    if hex(&library) != wheel.sha256 {
        return Err(failed(
            "the library that came is not the one expected (SHA-256 differs); check the pip mirror",
        ));
    }
    write(&scratch.0.join("library"), &library)?;
    std::fs::rename(scratch.0.join("library"), &target).map_err(|e| Error::io(&target, e))?;
    progress(&format!("installed {}", target.display()));
    Ok(target)
}

/// One platform's wheel.
struct Wheel {
    os: &'static str,
    arch: &'static str,
    /// pip's name for the platform.
    tag: &'static str,
    /// Of the library inside.
    sha256: &'static str,
}

const WHEELS: [Wheel; 2] = [
    Wheel {
        os: "linux",
        arch: "x86_64",
        tag: "manylinux_2_28_x86_64",
        sha256: "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
    },
    Wheel {
        os: "linux",
        arch: "aarch64",
        tag: "manylinux_2_28_aarch64",
        sha256: "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
    },
];

fn wheel() -> Result<&'static Wheel> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let musl = cfg!(target_env = "musl");
    WHEELS.iter().find(|wheel| wheel.os == os && wheel.arch == arch && !musl).ok_or_else(|| {
        let libc = if musl { " (musl)" } else { "" };
        failed(&format!("no library is known for {os} {arch}{libc}"))
    })
}

fn download(tag: &str, into: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]);
    pip.args([
        "--retries",
        "0",
        "--timeout",
        "30",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        "3.12",
    ]);
    pip.args(["--platform", tag, "--dest"]).arg(into).arg(format!("onnxruntime=={VERSION}"));
    let output = pip.stdin(Stdio::null()).output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => failed("python3 was not found; install Python 3 with pip"),
        _ => failed(&format!("python3 could not be started: {e}")),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(&if said.contains("No module named pip") {
        "python3 has no pip; run `python3 -m ensurepip --user` or `apt install python3-pip`".to_owned()
    } else {
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        let last: String = last.trim().chars().take(300).collect();
        format!("pip could not download it ({last}); check the network and pip's index settings")
    }))
}

/// The library inside the wheel that lies in `directory`.
fn unpack(directory: &Path, target: &Path) -> Result<Vec<u8>> {
    let odd = |e: &dyn std::fmt::Display| failed(&format!("the wheel cannot be read ({e}); try again"));
    let entries = std::fs::read_dir(directory).map_err(|e| Error::io(directory, e))?;
    let wheel = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| failed("pip reported success but left no wheel; check pip's settings"))?;
    let file = std::fs::File::open(&wheel).map_err(|e| Error::io(&wheel, e))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| odd(&e))?;
    let name = format!("onnxruntime/capi/{}", target.file_name().unwrap_or_default().to_string_lossy());
    let member = archive.by_name(&name).map_err(|e| odd(&e))?;
    let mut library = Vec::new();
    member.take(MAX_LIBRARY + 1).read_to_end(&mut library).map_err(|e| odd(&e))?;
    if library.len() as u64 > MAX_LIBRARY {
        return Err(failed("the library in the wheel is larger than any known one; check the pip mirror"));
    }
    Ok(library)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| Error::io(path, e))
}

/// A directory that goes when it is dropped, on the same file system as the target.
struct Scratch(PathBuf);

impl Scratch {
    fn new(beside: &Path) -> Result<Self> {
        let path = beside.join(format!(".install-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| Error::io(&path, e))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(what: &str) -> Error {
    Error::Runtime(format!(
        "cannot install ONNX Runtime: {what}; `pip install onnxruntime` in an active virtual environment works too"
    ))
}

const MAX_LIBRARY: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_as_sha256sum_does() {
        assert_eq!(hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert!(WHEELS.iter().all(|wheel| wheel.sha256.len() == 64));
    }

    #[test]
    fn a_wheel_without_the_library_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let target = Path::new("libonnxruntime.so.1.32.0");
        assert!(unpack(directory.path(), target).unwrap_err().to_string().contains("no wheel"));
        std::fs::write(directory.path().join("a.whl"), b"no zip").unwrap();
        assert!(unpack(directory.path(), target).unwrap_err().to_string().contains("cannot be read"));
    }
}
