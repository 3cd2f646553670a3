//! Fetching ONNX Runtime; used by `doctor --install` and `demo` alone.
//!
//! The official Python wheels hold the libraries. pip downloads it, so that the user's mirrors and
//! proxies apply; what comes is used only if its SHA-256 is the one known here.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::runtime;
use crate::{Error, Result};

/// The version that is fetched.
pub const VERSION: &str = "1.32.0";
/// The version of the build with CUDA, which PyPI has later.
pub const CUDA_VERSION: &str = "1.31.1";

/// Fetches ONNX Runtime for this machine into the user's cache and returns the library's path,
/// where [`runtime::discover`] finds it. `progress` hears what is being done, a line at a time.
/// Does nothing when the right file is already there.
///
/// # Errors
/// If this platform is not known, Python or pip is missing, the download fails, or what came is
/// not what was expected; each with what to do instead.
pub fn install(progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    fetch(&WHEELS, progress)
}

/// As [`install`], the build with CUDA. It needs CUDA and cuDNN, which are not fetched:
/// [`cuda::needs`](super::cuda::needs) says which of their libraries are here.
///
/// # Errors
/// As [`install`].
pub fn install_cuda(progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    fetch(&CUDA_WHEELS, progress)
}

fn fetch(wheels: &[Wheel], progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let wheel = wheel(wheels)?;
    let cache = runtime::cache().ok_or_else(|| {
        failed(wheel.name, "there is no home directory; set XDG_CACHE_HOME to a folder that can be written")
    })?;
    let directory = cache.join(wheel.folder);
    let target = |member: &Member| directory.join(member.name);
    let [main, ..] = wheel.members else { return Err(failed(wheel.name, "nothing is known of it")) };
    let here = |member: &Member| sha256_of(&target(member)).is_ok_and(|hash| hash == member.sha256);
    if wheel.members.iter().all(here) {
        progress(&format!("{} {} is already there: {}", wheel.name, wheel.version, target(main).display()));
        return Ok(target(main));
    }
    std::fs::create_dir_all(&directory).map_err(|e| Error::io(&directory, e))?;
    let scratch = Scratch::new(&directory)?;
    progress(&format!(
        "fetching {} {} ({}, about {} MB) with pip",
        wheel.name, wheel.version, wheel.tag, wheel.megabytes
    ));
    download(wheel, &scratch.0)?;
    progress("checking and unpacking it");
    for member in wheel.members {
        if unpack(&scratch.0, wheel, member)? != member.sha256 {
            return Err(failed(
                wheel.name,
                "the library that came is not the one expected (SHA-256 differs); check the pip mirror",
            ));
        }
    }
    // The library that is searched for comes last, when all that it loads is there.
    for member in wheel.members.iter().rev() {
        let target = target(member);
        std::fs::rename(scratch.0.join(member.name), &target).map_err(|e| Error::io(&target, e))?;
    }
    progress(&format!("installed {}", target(main).display()));
    Ok(target(main))
}

/// One platform's wheel.
struct Wheel {
    name: &'static str,
    version: &'static str,
    os: &'static str,
    arch: &'static str,
    /// pip's name for the platform.
    tag: &'static str,
    megabytes: u32,
    /// The folder in the cache.
    folder: &'static str,
    /// What is taken from it, the library itself first.
    members: &'static [Member],
}

/// A file in `onnxruntime/capi` of a wheel.
struct Member {
    name: &'static str,
    sha256: &'static str,
}

const WHEELS: [Wheel; 2] = [
    Wheel {
        name: "onnxruntime",
        version: VERSION,
        os: "linux",
        arch: "x86_64",
        tag: "manylinux_2_28_x86_64",
        megabytes: 28,
        folder: VERSION,
        members: &[Member {
            name: "libonnxruntime.so.1.32.0",
            sha256: "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
        }],
    },
    Wheel {
        name: "onnxruntime",
        version: VERSION,
        os: "linux",
        arch: "aarch64",
        tag: "manylinux_2_28_aarch64",
        megabytes: 28,
        folder: VERSION,
        members: &[Member {
            name: "libonnxruntime.so.1.32.0",
            sha256: "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
        }],
    },
];

/// The library finds the providers beside it. That of TensorRT, which is in the wheel too, is not used.
const CUDA_WHEELS: [Wheel; 1] = [Wheel {
    name: "onnxruntime-gpu",
    version: CUDA_VERSION,
    os: "linux",
    arch: "x86_64",
    tag: "manylinux_2_28_x86_64",
    megabytes: 256,
    folder: "1.31.1-cuda",
    members: &[
        Member {
            name: "libonnxruntime.so.1.31.1",
            sha256: "5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303",
        },
        Member {
            name: "libonnxruntime_providers_shared.so",
            sha256: "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
        },
        Member {
            name: "libonnxruntime_providers_cuda.so",
            sha256: "8387867e857499e045caff5d13ac6a5de29571c801562fa2dde0e45f1f31de52",
        },
    ],
}];

fn wheel(wheels: &[Wheel]) -> Result<&Wheel> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let musl = cfg!(target_env = "musl");
    wheels.iter().find(|wheel| wheel.os == os && wheel.arch == arch && !musl).ok_or_else(|| {
        let libc = if musl { " (musl)" } else { "" };
        let name = wheels.first().map_or("onnxruntime", |wheel| wheel.name);
        failed(name, &format!("no library is known for {os} {arch}{libc}"))
    })
}

fn download(wheel: &Wheel, into: &Path) -> Result<()> {
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
    pip.args(["--platform", wheel.tag, "--dest"]).arg(into);
    pip.arg(format!("{}=={}", wheel.name, wheel.version));
    // What the program sets for itself alone.
    pip.env_remove("MALLOC_MMAP_THRESHOLD_").env_remove("SECONDPASS_RESTARTED");
    let failed = |what: &str| failed(wheel.name, what);
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

/// Writes a library of the wheel that lies in `directory` beside it; returns its SHA-256.
fn unpack(directory: &Path, wheel: &Wheel, member: &Member) -> Result<String> {
    let failed = |what: &str| failed(wheel.name, what);
    let odd = |e: &dyn std::fmt::Display| failed(&format!("the wheel cannot be read ({e}); try again"));
    let entries = std::fs::read_dir(directory).map_err(|e| Error::io(directory, e))?;
    let path = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| failed("pip reported success but left no wheel; check pip's settings"))?;
    let file = std::fs::File::open(&path).map_err(|e| Error::io(&path, e))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| odd(&e))?;
    let member_file = archive.by_name(&format!("onnxruntime/capi/{}", member.name)).map_err(|e| odd(&e))?;
    let target = directory.join(member.name);
    let mut out = std::fs::File::create(&target).map_err(|e| Error::io(&target, e))?;
    let mut hash = Sha256::new();
    let mut reader = member_file.take(MAX_LIBRARY + 1);
    let (mut buffer, mut size) = (vec![0; 1 << 20], 0);
    loop {
        let read = reader.read(&mut buffer).map_err(|e| odd(&e))?;
        if read == 0 {
            break;
        }
        size += read as u64;
        hash.update(&buffer[..read]);
        out.write_all(&buffer[..read]).map_err(|e| Error::io(&target, e))?;
    }
    if size > MAX_LIBRARY {
        return Err(failed("a library in the wheel is larger than any known one; check the pip mirror"));
    }
    out.sync_all().map_err(|e| Error::io(&target, e))?;
    Ok(hex(hash))
}

fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hash)),
            read => hash.update(&buffer[..read]),
        }
    }
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

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(name: &str, what: &str) -> Error {
    Error::Runtime(format!(
        "cannot install ONNX Runtime: {what}; `pip install {name}` in an active virtual environment works too"
    ))
}

const MAX_LIBRARY: u64 = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_as_sha256sum_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        for (content, hash) in [
            (&b""[..], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(sha256_of(&path).unwrap(), hash);
        }
        assert!(sha256_of(&directory.path().join("nowhere")).is_err());
    }

    #[test]
    fn what_is_known_of_wheels() {
        for wheel in WHEELS.iter().chain(&CUDA_WHEELS) {
            assert!(wheel.members.iter().all(|member| member.sha256.len() == 64));
            assert!(wheel.members[0].name.ends_with(wheel.version), "{}", wheel.version);
            assert!(wheel.folder.starts_with(wheel.version), "the search goes by the folder's version");
        }
    }

    #[test]
    fn a_wheel_without_the_library_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let unpack = || unpack(directory.path(), &WHEELS[0], &WHEELS[0].members[0]);
        assert!(unpack().unwrap_err().to_string().contains("no wheel"));
        std::fs::write(directory.path().join("a.whl"), b"no zip").unwrap();
        assert!(unpack().unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn a_member_is_unpacked_and_hashed() {
        let directory = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(directory.path().join("a.whl")).unwrap();
        let mut archive = zip::ZipWriter::new(file);
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file("onnxruntime/capi/libx.so", options).unwrap();
        archive.write_all(b"abc").unwrap();
        archive.finish().unwrap();
        let member = Member { name: "libx.so", sha256: "" };
        let hash = unpack(directory.path(), &CUDA_WHEELS[0], &member).unwrap();
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(std::fs::read(directory.path().join("libx.so")).unwrap(), b"abc");
    }
}
