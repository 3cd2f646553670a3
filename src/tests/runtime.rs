//! ONNX Runtime for the tests that need it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use secondpass::lm::onnx;

/// The library to test with: found, else installed once for all test processes; `Err` says why not.
pub fn runtime() -> Result<&'static Path, &'static str> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(find).as_deref().map_err(String::as_str)
}

fn find() -> Result<PathBuf, String> {
    let found =
        || onnx::runtime::discover(None).map(|library| library.path).map_err(|error| error.to_string());
    if let Ok(path) = found() {
        return Ok(path);
    }
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("install.lock"))
        .map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    // Another process may have brought it while this one waited.
    found().or_else(|_| onnx::install::install(&mut |_| ()).map_err(|error| error.to_string()))
}

/// The library's path, or the test is skipped.
#[macro_export]
macro_rules! runtime {
    ($name:expr) => {
        match $crate::runtime::runtime() {
            Ok(path) => path,
            Err(why) => $crate::skip!($name, why),
        }
    };
}
