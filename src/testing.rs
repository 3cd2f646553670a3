//! What tests share.

use std::path::PathBuf;

/// The folder of measurement data, where there is one (`SECONDPASS_DATA`).
pub fn data() -> Option<PathBuf> {
    std::env::var_os("SECONDPASS_DATA").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// As [`data`]; without it the test `name` counts as skipped, and says so.
pub fn data_or_skip(name: &str) -> Option<PathBuf> {
    let data = data();
    if data.is_none() {
        eprintln!("skipped: {name} (SECONDPASS_DATA is not set)");
    }
    data
}

/// A file or folder under `fixtures/`.
pub fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}
