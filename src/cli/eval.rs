//! `secondpass eval`: what the lists are worth, before and after.

use std::io::Write;
use std::path::PathBuf;

use super::End;
use super::formats::FormatArgs;
use super::lists::{self, Scoring};
use super::messages::Messages;
use crate::eval::significance::group;
use crate::eval::{Bootstrap, Counts, Oracle, Sample, Tally};
use crate::formats::OwnNames;
use crate::{Error, Result};

/// Word or character error rate before and after, and the oracle's
///
/// Reads lists with references. In our own output the order is "after" and `rank` is "before".
/// Lines are in Kaldi's layout.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Lists with references: a file, plain or gzip, or a folder; - for standard input
    #[arg(value_name = "LISTS", default_value = "-")]
    lists: PathBuf,
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
}

/// Evaluates lists.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let mut scorer = arguments.scoring.scorer()?;
    let (mut before, mut after) = (Tally::default(), Tally::default());
    let mut oracle = Oracle::default();
    let mut samples: Vec<(Vec<u8>, Sample)> = Vec::new();
    let mut sessions = false;
    let (mut without, mut cut, mut rescored) = (0, 0, false);
    let left_out = lists::each(
        &arguments.lists,
        &arguments.formats,
        OwnNames::default(),
        messages,
        &mut |number, record| {
            let chosen = record.winner();
            rescored |= record.rescored();
            let utterance = record.utterance;
            let Some(reference) = &utterance.reference else {
                without += 1;
                return Ok(());
            };
            let length = scorer.reference(reference);
            // Lists come in first-pass order; in our own output the one written first was chosen.
            let mut counts: Vec<Counts> =
                utterance.hypotheses.iter().map(|h| scorer.counts(&h.bytes)).collect();
            if counts.is_empty() {
                before.absent += 1;
                after.absent += 1;
                if arguments.mode == "present" {
                    return Ok(());
                }
                // Counts like a list of the empty text alone, in the intervals too.
                counts.push(Counts::missing(length));
            }
            let chosen = utterance.hypotheses.iter().position(|h| Some(h.rank) == chosen).unwrap_or(0);
            cut += u64::from(utterance.hypotheses.first().is_some_and(|first| first.rank != 1));
            before.add(counts[0]);
            after.add(counts[chosen]);
            oracle.add(&counts);
            sessions |= utterance.session.is_some();
            let key = utterance.session.unwrap_or_else(|| number.to_string().into_bytes());
            samples.push((
                key,
                Sample { before: counts[0].errors(), after: counts[chosen].errors(), reference: length },
            ));
            Ok(())
        },
    )?;
    if before.sentences == 0 {
        return Err(Error::config(
            "no record has a reference (`ref`; see --references): there is nothing to compare with",
        ));
    }
    if without > 0 {
        messages.say(&format!("{without} records without a reference were left out"));
    }
    let unit = if arguments.scoring.cer { "CER" } else { "WER" };
    let show = |tally: &Tally| tally.to_string().replace("%WER", &format!("%{unit}"));
    // `rescore --nbest` may have cut the first pass's best: what is left of a list says nothing of it.
    let whole = cut == 0;
    if !whole {
        messages.say(&format!(
            "in {cut} records the first pass's best was cut off: it is not compared with; rescore without --nbest for that"
        ));
    }
    let mut out = String::new();
    if whole {
        out += &format!("first pass\n{}\n", show(&before));
    }
    if rescored {
        out += &format!("second pass\n{}\n", show(&after));
    }
    out += "oracle\n";
    for (depth, counts) in oracle.depths() {
        out += &format!(
            "%{unit} {:.2} [ {} / {} ] best of {depth}\n",
            100.0 * counts.rate(),
            counts.errors(),
            counts.reference
        );
    }
    if arguments.resamples > 0 {
        let groups = group(samples);
        let bootstrap = Bootstrap { resamples: arguments.resamples, ..Bootstrap::default() };
        let comparison = bootstrap.compare(&groups);
        let by = if sessions { "sessions" } else { "utterances" };
        let percent = |estimate: crate::eval::Estimate| {
            format!(
                "{:.2} ({:.2} to {:.2})",
                100.0 * estimate.value,
                100.0 * estimate.low,
                100.0 * estimate.high
            )
        };
        out += &format!("95 % intervals, {} {by} resampled {} times\n", groups.len(), arguments.resamples);
        if whole {
            out += &format!("first pass {}\n", percent(comparison.before));
        }
        if rescored {
            out += &format!("second pass {}\n", percent(comparison.after));
        }
        if rescored && whole {
            let better = 100.0 * comparison.improvement;
            out += &format!(
                "difference {}; better in {better:.1} % of the resamples\n",
                percent(comparison.delta)
            );
        }
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Io { what: "output".into(), source })?;
    Ok(if left_out > 0 { End::Passed } else { End::Done })
}
