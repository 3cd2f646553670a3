//! Finding and loading ONNX Runtime.
//!
//! The library is found at run time, not linked, and the only place that touches the `ort` crate
//! before the library is loaded is this module: any other use of `ort` would then panic.
//!
//! From version 1.29 on, the official builds report to Microsoft and leave a device id in the
//! user's cache as soon as they are loaded; only the environment variable
//! `ORT_DISABLE_TELEMETRY=1`, set before, prevents all of it. A library cannot set it (other
//! threads may be reading the environment); a program should, see [`reports`].

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::{Error, Result};

/// An ONNX Runtime library that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The file, or a bare name that the system's loader knows.
    pub path: PathBuf,
    /// Its version: 1.`minor`.
    pub minor: u32,
    /// Which part of the search found it.
    pub origin: &'static str,
}

/// A place where the library was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file, directory or bare name.
    pub path: PathBuf,
    /// Which part of the search it belongs to.
    pub origin: &'static str,
    /// Why it is not used, or which version it is.
    pub outcome: String,
}

/// A search: every candidate tried, and the one that fits.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// In order, up to the one found.
    pub tried: Vec<Candidate>,
    /// The first that fits.
    pub found: Option<Library>,
}

/// The devices that the loaded library was built for. Built for is not the same as works: only
/// running a model on one tells.
///
/// # Errors
/// If there is no library.
pub fn devices() -> Result<Vec<(&'static str, bool)>> {
    use ort::ep::ExecutionProvider;
    environment()?;
    Ok(vec![("cpu", true), ("cuda", ort::ep::CUDA::is_available().unwrap_or(false))])
}

/// The first usable library, in the order: `explicit`, `ORT_DYLIB_PATH`, beside the executable,
/// the user cache, the virtual or conda environment, the user's Python packages, the system; after
/// [`prefer_cuda`] builds with CUDA before others.
///
/// # Errors
/// If there is none, or the one asked for by path or variable is of no use.
pub fn discover(explicit: Option<&Path>) -> Result<Library> {
    let search = search(explicit);
    if let Some(library) = search.found {
        return Ok(library);
    }
    Err(Error::Runtime(match search.tried.last() {
        Some(asked) if ASKED.contains(&asked.origin) => {
            format!(
                "ONNX Runtime: {} ({}): {}; name another, or none and run `secondpass doctor --install`",
                asked.path.display(),
                asked.origin,
                asked.outcome
            )
        }
        _ => MISSING.to_owned(),
    }))
}

/// As [`discover`], with everything that was tried on the way.
pub fn search(explicit: Option<&Path>) -> Search {
    let mut search = Search::default();
    let variable = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    // Who asks for a library gets that one or an error, never another in silence.
    for (path, origin) in [(explicit.map(Path::to_path_buf), ASKED[0]), (variable, ASKED[1])] {
        let Some(path) = path else { continue };
        let path = std::path::absolute(&path).unwrap_or(path);
        let files = if path.is_dir() { libraries(&path) } else { vec![path.clone()] };
        for file in files {
            if search.probe(file, origin) {
                return search;
            }
        }
        if search.tried.is_empty() {
            search.note(path, origin, format!("no {NAME}* in this directory"));
        }
        return search;
    }
    let mut files: Vec<(PathBuf, &str)> = Vec::new();
    for (directory, origin) in directories() {
        files.extend(libraries(&directory).into_iter().map(|file| (file, origin)));
    }
    // Builds with CUDA are first where that is asked for, else they stand in for others.
    let asked = CUDA.load(Ordering::Relaxed);
    files.sort_by_key(|(file, origin)| match super::cuda::provider(file).is_some() {
        cuda if asked => !cuda,
        cuda => cuda && *origin == CACHE,
    });
    for (file, origin) in files {
        if search.probe(file, origin) {
            return search;
        }
    }
    // `ort` asks for the executable's path when it is given a bare name, and insists.
    if std::env::current_exe().is_ok_and(|path| path.parent().is_some()) {
        for name in SYSTEM_NAMES {
            if search.probe(PathBuf::from(name), "system") {
                break;
            }
        }
    }
    search
}

/// Names the library to use instead of searching; what `--onnxruntime` does. `None` goes back to
/// searching. No effect once the library is loaded.
pub fn configure(path: Option<&Path>) {
    *CONFIGURED.lock().unwrap_or_else(PoisonError::into_inner) = path.map(Path::to_path_buf);
}

/// Looks for a build with CUDA first, from now on; what `--device cuda` and `auto` do. No effect once
/// the library is loaded.
pub fn prefer_cuda() {
    CUDA.store(true, Ordering::Relaxed);
}

/// The process's ONNX Runtime, loaded at the first call.
///
/// # Errors
/// If no usable library is found; a later call searches again.
pub fn environment() -> Result<&'static Environment> {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    static LOADING: Mutex<()> = Mutex::new(());
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let _one = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let configured = CONFIGURED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let library = discover(configured.as_deref())?;
    log::debug!("ONNX Runtime 1.{} from {} ({})", library.minor, library.path.display(), library.origin);
    if CUDA.load(Ordering::Relaxed) {
        for need in super::cuda::needs(&library.path)? {
            log::debug!("{}: {:?}", need.name, need.place);
        }
    }
    if reports(library.minor) {
        log::warn!("this ONNX Runtime reports to Microsoft; set ORT_DISABLE_TELEMETRY=1 before the start");
    }
    let environment = catch_unwind(|| load(&library.path))
        .unwrap_or_else(|_| Err("it does not behave like ONNX Runtime".to_owned()))
        .map_err(|what| Error::Runtime(format!("ONNX Runtime at {}: {what}", library.path.display())))?;
    Ok(ENVIRONMENT.get_or_init(|| environment))
}

/// The directory under which `doctor --install` puts libraries, one folder for each version;
/// `None` without a home.
pub fn cache() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let caches =
        absolute("XDG_CACHE_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    Some(caches.join("secondpass/onnxruntime"))
}

/// Whether ONNX Runtime of that version, loaded now, would report to Microsoft before it can be
/// told not to. A program that does not want that starts itself again with
/// `ORT_DISABLE_TELEMETRY=1`.
pub fn reports(minor: u32) -> bool {
    let off = |value: OsString| {
        let value = value.to_string_lossy().to_lowercase();
        !matches!(value.trim(), "" | "0" | "false" | "no" | "off")
    };
    minor >= FIRST_REPORTING && !std::env::var_os("ORT_DISABLE_TELEMETRY").is_some_and(off)
}

fn load(path: &Path) -> Result<Environment, String> {
    let builder = ort::init_from(path).map_err(|e| e.to_string())?;
    let environment = builder
        .with_name("secondpass")
        .with_telemetry(false)
        .with_logger(Arc::new(forward))
        .build()
        .map_err(|e| e.to_string())?;
    // With a logger of one's own everything down to the finest detail is sent to it.
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

fn forward(level: LogLevel, _category: &str, _id: &str, place: &str, message: &str) {
    // What matters comes back as an error too; the host decides what of the rest it wants to see.
    let level = match level {
        LogLevel::Fatal | LogLevel::Error => log::Level::Warn,
        LogLevel::Warning => log::Level::Info,
        LogLevel::Info => log::Level::Debug,
        LogLevel::Verbose => log::Level::Trace,
    };
    log::log!(target: "onnxruntime", level, "{message} ({place})");
}

impl Search {
    /// Tries one file; true if it is the one.
    fn probe(&mut self, path: PathBuf, origin: &'static str) -> bool {
        if path.is_absolute() && !path.exists() {
            self.note(path, origin, "no such file".to_owned());
            return false;
        }
        let minor = catch_unwind(AssertUnwindSafe(|| ort::util::probe(&path))).unwrap_or(None);
        let outcome = match minor {
            None if path.is_absolute() => "cannot be loaded, or is not ONNX Runtime".to_owned(),
            None => "not found".to_owned(),
            Some(minor) if minor < OLDEST => {
                format!("version 1.{minor} is too old; secondpass needs 1.{OLDEST} or newer")
            }
            Some(minor) => {
                self.found = Some(Library { path: path.clone(), minor, origin });
                format!("version 1.{minor}")
            }
        };
        self.note(path, origin, outcome);
        self.found.is_some()
    }

    fn note(&mut self, path: PathBuf, origin: &'static str, outcome: String) {
        self.tried.push(Candidate { path, origin, outcome });
    }
}

/// Directories to look in, in order.
fn directories() -> Vec<(PathBuf, &'static str)> {
    let mut found = Vec::new();
    let executable = std::env::current_exe().ok().and_then(|path| path.canonicalize().ok());
    if let Some(bin) = executable.as_deref().and_then(Path::parent) {
        found.push((bin.to_path_buf(), "beside the executable"));
        found.push((bin.join("../lib/secondpass"), "beside the executable"));
    }
    let versions = cache().map(|cache| matching(&cache, |_| true)).unwrap_or_default();
    found.extend(versions.into_iter().map(|path| (path, CACHE)));
    for (name, origin) in [("VIRTUAL_ENV", "virtual environment"), ("CONDA_PREFIX", "conda environment")] {
        if let Some(prefix) = std::env::var_os(name).filter(|prefix| !prefix.is_empty()) {
            let lib = Path::new(&prefix).join("lib");
            found.extend(packages(&lib).into_iter().map(|path| (path, origin)));
            found.push((lib, origin));
        }
    }
    if let Some(home) = std::env::home_dir() {
        found.extend(
            packages(&home.join(".local/lib")).into_iter().map(|path| (path, "user's Python packages")),
        );
    }
    found.extend(SYSTEM.iter().map(|path| (PathBuf::from(path), "system")));
    found
}

/// Where pip puts ONNX Runtime under a `lib` directory.
fn packages(lib: &Path) -> Vec<PathBuf> {
    sites(lib).into_iter().map(|site| site.join("onnxruntime/capi")).collect()
}

/// Where pip puts packages under a `lib` directory.
fn sites(lib: &Path) -> Vec<PathBuf> {
    let pythons = matching(lib, |name| name.starts_with("python3"));
    pythons.into_iter().map(|python| python.join("site-packages")).collect()
}

/// Where CUDA's libraries may lie although the loader does not look there: the toolkit's folder, and
/// those of NVIDIA's Python packages.
pub(super) fn cuda_folders(library: &Path) -> Vec<PathBuf> {
    let set = |name: &&str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut found: Vec<PathBuf> = library.parent().map(Path::to_path_buf).into_iter().collect();
    let toolkits =
        ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(set).chain([PathBuf::from("/usr/local/cuda")]);
    found.extend(toolkits.flat_map(|toolkit| ["lib64", "lib"].map(|lib| toolkit.join(lib))));
    let mut libs: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(set).map(|prefix| prefix.join("lib")).collect();
    libs.extend(std::env::home_dir().map(|home| home.join(".local/lib")));
    // The library may itself be in a Python package: .../site-packages/onnxruntime/capi.
    let own = library.ancestors().nth(3).filter(|site| site.ends_with("site-packages"));
    let sites = libs.iter().flat_map(|lib| sites(lib)).chain(own.map(Path::to_path_buf));
    for site in sites {
        found.extend(matching(&site.join("nvidia"), |_| true).into_iter().map(|part| part.join("lib")));
    }
    found.extend(libs);
    found
}

/// Files in `directory` that are named like the library, newest version first.
fn libraries(directory: &Path) -> Vec<PathBuf> {
    matching(directory, |name| {
        // libonnxruntime.so, libonnxruntime.so.1.32.0, libonnxruntime.1.32.0.dylib
        name.strip_prefix(NAME).is_some_and(|rest| rest.starts_with('.')) && name.contains(SUFFIX)
    })
}

/// Entries of `directory` whose name passes, versions in falling order; none if it cannot be read.
fn matching(directory: &Path, keep: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<OsString> = entries.map(|entry| entry.file_name()).collect();
    names.retain(|name| name.to_str().is_some_and(&keep));
    names.sort_by_cached_key(|name| std::cmp::Reverse(version(name)));
    names.into_iter().map(|name| directory.join(name)).collect()
}

/// The numbers in a file name, so that 1.9 comes before 1.32.
fn version(name: &OsString) -> (Vec<u64>, OsString) {
    let text = name.to_string_lossy();
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
    (numbers.collect(), name.clone())
}

static CONFIGURED: Mutex<Option<PathBuf>> = Mutex::new(None);
/// Whether CUDA is asked for.
static CUDA: AtomicBool = AtomicBool::new(false);

/// Older ones lack what is needed, or were never tried.
const OLDEST: u32 = 23;
/// The first version that reports from everywhere but Windows; there it has its own switch.
const FIRST_REPORTING: u32 = 29;
const CACHE: &str = "user cache";
const ASKED: [&str; 2] = ["asked for", "ORT_DYLIB_PATH"];
const MISSING: &str = "ONNX Runtime was not found: run `secondpass doctor --install` \
     (or set ORT_DYLIB_PATH to the library, or `pip install onnxruntime` in the active environment)";

const NAME: &str = if cfg!(windows) { "onnxruntime" } else { "libonnxruntime" };
const SUFFIX: &str = if cfg!(windows) {
    ".dll"
} else if cfg!(target_os = "macos") {
    ".dylib"
} else {
    ".so"
};
const SYSTEM_NAMES: &[&str] = if cfg!(windows) {
    &["onnxruntime.dll"]
} else if cfg!(target_os = "macos") {
    &["libonnxruntime.1.dylib", "libonnxruntime.dylib"]
} else {
    &["libonnxruntime.so.1", "libonnxruntime.so"]
};
const SYSTEM: &[&str] = if cfg!(target_os = "macos") {
    &["/opt/homebrew/lib", "/usr/local/lib"]
} else if cfg!(windows) {
    &[]
} else {
    &[
        "/usr/local/lib",
        "/usr/lib",
        "/usr/lib64",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/opt/onnxruntime/lib",
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_asked_for_is_never_replaced_in_silence() {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("libonnxruntime.so.1.32.0");
        std::fs::write(&text, b"no library").unwrap();
        for (path, what) in [
            (directory.path().join("nowhere.so"), "no such file"),
            (text, "cannot be loaded"),
            (directory.path().to_path_buf(), "cannot be loaded"),
        ] {
            let search = search(Some(&path));
            assert_eq!((search.tried.len(), search.found), (1, None));
            let message = discover(Some(&path)).unwrap_err().to_string();
            assert!(message.contains(what) && message.contains("asked for"), "{message}");
        }
    }

    #[test]
    fn another_library_is_not_taken_for_onnx_runtime() {
        let Some(libm) =
            ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"]
                .map(Path::new)
                .into_iter()
                .find(|path| path.exists())
        else {
            return crate::testing::skipped(
                "another_library_is_not_taken_for_onnx_runtime",
                "no libm.so.6 in the usual places",
            );
        };
        assert!(discover(Some(libm)).unwrap_err().to_string().contains("not ONNX Runtime"));
    }

    #[test]
    fn an_empty_directory_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let message = discover(Some(directory.path())).unwrap_err().to_string();
        assert!(message.contains("in this directory"), "{message}");
    }

    #[test]
    fn newest_first() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["1.9.0", "1.32.0", "1.23.2"] {
            std::fs::write(directory.path().join(format!("{NAME}{SUFFIX}.{name}")), b"").unwrap();
        }
        std::fs::write(directory.path().join(format!("{NAME}_providers_shared{SUFFIX}")), b"").unwrap();
        let names: Vec<_> = libraries(directory.path())
            .iter()
            .map(|path| path.to_string_lossy().rsplit_once("so.").unwrap().1.to_owned())
            .collect();
        assert_eq!(names, ["1.32.0", "1.23.2", "1.9.0"]);
    }

    /// What the next test runs in a process of its own, whose environment has no library.
    #[test]
    #[ignore = "run by without_a_library_the_advice_comes_at_once_and_again"]
    fn child_without_a_library() {
        let start = std::time::Instant::now();
        for _ in 0..2 {
            match environment() {
                Ok(_) => {
                    return crate::testing::skipped(
                        "without_a_library_the_advice_comes_at_once_and_again",
                        "the system has one",
                    );
                }
                Err(error) => assert_eq!(error.to_string(), MISSING),
            }
        }
        assert!(start.elapsed().as_secs_f64() < 1.0);
        // A library that was found later is used: the failure was not kept.
        let directory = tempfile::tempdir().unwrap();
        configure(Some(&directory.path().join("nowhere.so")));
        let message = environment().unwrap_err().to_string();
        assert!(message.contains("nowhere.so"), "{message}");
    }

    #[test]
    fn without_a_library_the_advice_comes_at_once_and_again() {
        let empty = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--ignored", "lm::onnx::runtime::tests::child_without_a_library"]);
        child.env("HOME", empty.path()).env("XDG_CACHE_HOME", empty.path());
        for name in ["ORT_DYLIB_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"] {
            child.env_remove(name);
        }
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
