//! The command line program; everything is in the library's `cli`.

fn main() -> std::process::ExitCode {
    secondpass::cli::run(std::env::args_os())
}
