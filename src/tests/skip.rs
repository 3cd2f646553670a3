//! A test that cannot run here says so and is counted; it does not pass in silence.
//!
//! Names go to the file that `SECONDPASS_SKIPS` names, else to `target/tmp/skipped.txt`; CI compares
//! them with `.ci/skips.txt`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// Ends the test as skipped.
#[macro_export]
macro_rules! skip {
    ($name:expr, $reason:expr) => {{
        $crate::skip::record($name, &$reason.to_string());
        return;
    }};
}

/// Notes that the test `name` could not run.
pub fn record(name: &str, reason: &str) {
    // Not `eprintln!`: that is captured, and shown for failures alone.
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
    let mut file =
        OpenOptions::new().create(true).append(true).open(list()).expect("the list of skipped tests");
    file.write_all(format!("{name}\n").as_bytes()).expect("the list of skipped tests");
}

fn list() -> PathBuf {
    let named = std::env::var_os("SECONDPASS_SKIPS").filter(|path| !path.is_empty());
    named.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("skipped.txt"), PathBuf::from)
}
