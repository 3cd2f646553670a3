//! The command line: one file per command. Parse first, open later.

mod bench;
mod best;
mod demo;
mod doctor;
mod eval;
mod files;
mod folders;
mod formats;
mod inspect;
mod lists;
mod load;
mod memory;
mod messages;
mod models;
mod ngram;
mod rescore;
mod score;
mod signals;
mod tune;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::Result;
use messages::Messages;

/// Reranks speech recognition n-best lists with ONNX LSTM and n-gram language models.
#[derive(Parser, Debug)]
#[command(name = "secondpass", version, about, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print no messages (the exit code still tells)
    #[arg(short, long, global = true, help_heading = "Logging")]
    quiet: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    Rescore(rescore::Args),
    Score(score::Args),
    Tune(tune::Args),
    Eval(eval::Args),
    Bench(bench::Args),
    Inspect(inspect::Args),
    Ngram(ngram::Args),
    Doctor(doctor::Args),
    Demo(demo::Args),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All done.
    Done,
    /// Some records passed through unrescored.
    Passed,
    /// Ended by a signal, everything that was read is written.
    Signal(i32),
}

/// Runs the program with these arguments (the first is the program's name).
///
/// Exit code 0: all done; 1: some records passed through unrescored; 2: failed; 128 + N: ended by
/// signal N after everything that was read was written.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // First: from here on memory that is refused is an ordinary failure.
    let tamed = signals::tame();
    let cli = match Cli::try_parse_from(dashes(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a closed pipe is nobody's fault.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { FAILED } else { 0 });
        }
    };
    env_logger::Builder::from_env(env_logger::Env::new().filter("SECONDPASS_LOG")).init();
    quiet_panics();
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let messages = Messages::new(cli.quiet);
    let end = tamed.and_then(|()| execute(cli.command, &messages));
    messages.finish();
    match end {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Passed) => ExitCode::from(1),
        Ok(End::Signal(number)) => ExitCode::from((128 + number) as u8),
        Err(crate::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            messages.say(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn execute(command: Command, messages: &Messages) -> Result<End> {
    match command {
        Command::Rescore(arguments) => rescore::run(&arguments, messages),
        Command::Score(arguments) => score::run(&arguments, messages),
        Command::Tune(arguments) => tune::run(&arguments, messages),
        Command::Eval(arguments) => eval::run(&arguments, messages),
        Command::Bench(arguments) => bench::run(&arguments, messages),
        Command::Inspect(arguments) => inspect::run(&arguments, messages),
        Command::Ngram(arguments) => ngram::run(&arguments, messages),
        Command::Doctor(arguments) => doctor::run(&arguments, messages),
        Command::Demo(arguments) => demo::run(&arguments, messages),
    }
}

/// A bar on a terminal, nothing elsewhere.
fn progress(what: &'static str, length: u64) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(length).with_message(what);
    let style = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    bar.with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
}

/// `--some_flag` is `--some-flag`: ESPnet's and NeMo's users write the one, Kaldi's the other.
fn dashes(arguments: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut flags = true;
    arguments.into_iter().map(move |argument| {
        let Some(text) = argument.to_str().filter(|text| flags && text.starts_with("--")) else {
            return argument;
        };
        flags = text != "--";
        let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
        OsString::from(format!("{}{value}", name.replace('_', "-")))
    })
}

/// Panics of workers are contained and reported with the record; their own message would only
/// repeat that, with a transcript perhaps.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let worker = std::thread::current().name().is_some_and(|name| name.starts_with("secondpass-"));
        if !worker {
            eprintln!("secondpass: internal error: {info}; please report it");
        }
    }));
}

const FAILED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn underscores_in_flag_names_are_dashes() {
        let given = ["secondpass", "--unk_penalty=a_b", "x_y", "--", "--a_b"].map(OsString::from);
        let got: Vec<_> = dashes(given).collect();
        assert_eq!(got, ["secondpass", "--unk-penalty=a_b", "x_y", "--", "--a_b"].map(OsString::from));
    }
}
