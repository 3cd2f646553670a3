//! `secondpass eval`: what the lists are worth, before and after.

mod cases;
mod page;
mod study;
mod summary;

use std::io::Write;
use std::path::PathBuf;

use super::End;
use super::formats::FormatArgs;
use super::lists::Scoring;
use super::messages::Messages;
use crate::whole::Whole;
use crate::{Error, Result};
use cases::Source;
use summary::Summary;

/// Word or character error rate before and after, and the oracle's
///
/// Reads lists with references. In our own output the order is "after" and `rank` is "before".
/// Lines are in Kaldi's layout. Exit code 1: some records could not be read.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Lists with references: a file, plain or gzip, or a folder; - for standard input
    #[arg(value_name = "LISTS", default_value = "-")]
    lists: PathBuf,
    /// Compare with another system's output over the same ids, not with the first pass
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    against: Option<PathBuf>,
    #[command(flatten)]
    formats: FormatArgs,
    #[command(flatten)]
    scoring: Scoring,
    /// What to do with records without a hypothesis: all (errors), present (left out)
    #[arg(long, value_name = "MODE", default_value = "all", value_parser = ["all", "present"], help_heading = "Scoring")]
    mode: String,
    /// Bootstrap resamples for the 95 % intervals (0: none)
    #[arg(long, value_name = "NUM", default_value_t = 1000, help_heading = "Scoring")]
    resamples: usize,
    /// Add a table of speakers (sessions)
    #[arg(long, help_heading = "Output")]
    per_speaker: bool,
    /// Add the NUM most frequent corrections, and breakages
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Output")]
    changes: usize,
    /// One JSON object instead
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Write a page with charts and examples, one self-contained file
    #[arg(long, value_name = "FILE.html", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Heading of the page
    #[arg(long, value_name = "TEXT", requires = "report", help_heading = "Output")]
    title: Option<String>,
}

/// Evaluates lists.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let source = Source {
        path: &arguments.lists,
        formats: &arguments.formats,
        scoring: &arguments.scoring,
        present: arguments.mode == "present",
        keep: arguments.report.is_some(),
        against: arguments.against.as_deref(),
    };
    let all = cases::read(&source, messages)?;
    if all.without > 0 {
        messages.say(&format!("{} records without a reference were left out", all.without));
    }
    // `rescore --nbest` may have cut the first pass's best: what is left of a list says nothing of it.
    if all.cut > 0 && arguments.against.is_none() {
        messages.say(&format!(
            "in {} records the first pass's best was cut off: it is not compared with; rescore without --nbest for that",
            all.cut
        ));
    }
    if all.alone + all.orphans > 0 {
        messages.say(&format!(
            "{} utterances are only in the lists, {} only in the system compared with: left out",
            all.alone, all.orphans
        ));
    }
    let summary = Summary::new(&all, arguments)?;
    if summary.long > 0 {
        messages.say(&format!(
            "{} utterances are too long to be aligned: they are not in the matched pairs and the changes",
            summary.long
        ));
    }
    if let Some(path) = &arguments.report {
        let report = page::report(&all, &summary, arguments, messages)?;
        Whole::save(path, report.html().as_bytes())?;
        messages.say(&format!("wrote {}", path.display()));
    }
    let out = if arguments.json { format!("{}\n", summary.json()) } else { summary.text() };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Io { what: "output".into(), source })?;
    Ok(if all.unread > 0 { End::Passed } else { End::Done })
}
