//! The command line program; everything is in the library's `cli`.

fn main() -> std::process::ExitCode {
    quiet_runtime();
    secondpass::cli::run(std::env::args_os())
}

/// ONNX Runtime 1.29 and later write a device id and usage data unless this variable is set
/// before they are loaded, and a process cannot safely set its own variables: it starts itself
/// again with it set.
fn quiet_runtime() {
    #[cfg(unix)]
    if std::env::var_os(VARIABLE).is_none() {
        use std::os::unix::process::CommandExt;
        if let Ok(program) = std::env::current_exe() {
            let mut arguments = std::env::args_os();
            let mut again = std::process::Command::new(program);
            if let Some(name) = arguments.next() {
                again.arg0(name);
            }
            // Comes back only if it failed; then the run goes on as it is, and the library warns.
            let _ = again.args(arguments).env(VARIABLE, "1").exec();
        }
    }
}

#[cfg(unix)]
const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
