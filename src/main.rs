//! The command line program; everything is in the library's `cli`.

fn main() -> std::process::ExitCode {
    set_variables();
    secondpass::cli::run(std::env::args_os())
}

/// Sets what libraries read before or while they are loaded: the program starts itself again with it, once.
fn set_variables() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // Loaders may drop variables: what was tried is not tried again.
        if std::env::var_os(RESTARTED).is_some() {
            return;
        }
        let missing = VARIABLES.iter().copied().filter(|(name, _)| std::env::var_os(name).is_none());
        let missing: Vec<_> = missing.collect();
        let Ok(program) = std::env::current_exe() else { return };
        // Where the loader was started with the program as its argument, it is what would start again.
        let loader = program.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"ld-"));
        if missing.is_empty() || loader {
            return;
        }
        let mut arguments = std::env::args_os();
        let mut again = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        // Comes back only if it failed; then the run goes on as it is. The library warns of an ONNX Runtime
        // that reports.
        let _ = again.args(arguments).envs(missing).env(RESTARTED, "1").exec();
    }
}

/// Says that the program has started itself again.
#[cfg(unix)]
const RESTARTED: &str = "SECONDPASS_RESTARTED";

#[cfg(unix)]
const VARIABLES: &[(&str, &str)] = &[
    // ONNX Runtime 1.29 and later write a device id and usage data unless this is set before they are loaded.
    ("ORT_DISABLE_TELEMETRY", "1"),
    // glibc's allocator would raise this, up to 32 MiB, by itself and keep what it takes below. Opening a
    // model may make copies of its weights for a moment, which would stay in the process. From this size on,
    // blocks go back to the system when they are freed.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    ("MALLOC_MMAP_THRESHOLD_", "1048576"),
];
