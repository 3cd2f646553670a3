//! What unit tests share: data, the runtime, and a place where skipped tests are counted.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::lm::onnx::{install, runtime};

/// The folder of measurement data, where there is one (`SECONDPASS_DATA`).
pub fn data() -> Option<PathBuf> {
    std::env::var_os("SECONDPASS_DATA").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// As [`data`]; without it the test `name` counts as skipped, and says so.
pub fn data_or_skip(name: &str) -> Option<PathBuf> {
    let data = data();
    if data.is_none() {
        skipped(name, "SECONDPASS_DATA is not set");
    }
    data
}

/// Whether ONNX Runtime is here. It is fetched with pip if it is not; where that fails the test
/// `name` counts as skipped.
pub fn runtime_or_skip(name: &str) -> bool {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    let ready = READY.get_or_init(|| {
        if runtime::discover(None).is_err() {
            install::install(&mut |_| {}).map_err(|error| error.to_string())?;
        }
        runtime::environment().map(|_| ()).map_err(|error| error.to_string())
    });
    if let Err(reason) = ready {
        skipped(name, reason);
    }
    ready.is_ok()
}

/// Says that the test `name` could not run, and counts it in the file that `SECONDPASS_SKIPS`
/// names, which CI compares with what may be skipped.
pub fn skipped(name: &str, reason: &str) {
    // Not `eprintln!`: that is captured, and shown for failures alone.
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
    if let Some(path) = std::env::var_os("SECONDPASS_SKIPS").filter(|path| !path.is_empty()) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()))
            .expect("the list of skipped tests");
    }
}

/// A file or folder under `fixtures/`.
pub fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}
