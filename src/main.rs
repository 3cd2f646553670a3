//! The command line program; everything is in the library's `cli`.

fn main() -> std::process::ExitCode {
    set_variables();
    secondpass::cli::run(std::env::args_os())
}

/// Sets what must be set before a process starts: it starts itself again with it.
fn set_variables() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let missing = VARIABLES.into_iter().filter(|(name, _)| std::env::var_os(name).is_none());
        let missing: Vec<_> = missing.collect();
        if let (false, Ok(program)) = (missing.is_empty(), std::env::current_exe()) {
            let mut arguments = std::env::args_os();
            let mut again = std::process::Command::new(program);
            if let Some(name) = arguments.next() {
                again.arg0(name);
            }
            // Comes back only if it failed; then the run goes on as it is, and the library warns.
            let _ = again.args(arguments).envs(missing).exec();
        }
    }
}

#[cfg(unix)]
const VARIABLES: [(&str, &str); 2] = [
    // ONNX Runtime 1.29 and later write a device id and usage data unless this is set before they are loaded.
    ("ORT_DISABLE_TELEMETRY", "1"),
    // glibc's allocator would raise this to 32 MiB by itself and keep what it takes below. Opening a model
    // makes several copies of its weights for a moment, which would stay in the process: 90 MiB of 210 with
    // the shipped LSTM. Above this, blocks go back to the system when they are freed; a step's are smaller.
    ("MALLOC_MMAP_THRESHOLD_", "4194304"),
];
