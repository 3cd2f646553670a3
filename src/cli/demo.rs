//! `secondpass demo`: the job, on a list that comes with the program.

use std::io::Write;

use flate2::read::GzDecoder;

use super::End;
use super::messages::Messages;
use super::models::ModelArgs;
use crate::eval::{Edit, Normaliser, Scorer, Tally};
use crate::formats::OwnNames;
use crate::formats::jsonl::Reader;
use crate::lines::{Lines, MAX_LINE_BYTES};
use crate::lm::onnx::{install, runtime};
use crate::nbest::{Status, Utterance};
use crate::{Error, Result};

/// Rescore a list that comes with the program and show what changed
///
/// Installs ONNX Runtime with pip if there is none.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    models: ModelArgs,
    /// Changed utterances to show
    #[arg(long, value_name = "NUM", default_value_t = 6)]
    show: usize,
}

/// Shows the job.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let config = arguments.models.config()?;
    if runtime::discover(arguments.models.onnxruntime.as_deref()).is_err() {
        messages.say("ONNX Runtime was not found; fetching it once with pip");
        install::install(&mut |step| messages.say(step))?;
    }
    let rescorer = arguments.models.builder(&config)?.build()?;
    let mut worker = rescorer.worker()?;
    let mut utterances = list(rescorer.own_names())?;
    let formula = utterances.first().map(|utterance| rescorer.formula(utterance).to_string());
    let hypotheses: usize = utterances.iter().map(|utterance| utterance.hypotheses.len()).sum();
    let started = std::time::Instant::now();
    worker.rescore_batch(&mut utterances)?;
    let seconds = started.elapsed().as_secs_f64();
    let mut out = format!(
        "{} utterances spoken by flite and recognised by pocketsphinx, {hypotheses} hypotheses\n",
        utterances.len()
    );
    out += &format!("total = {}\n\n", formula.unwrap_or_default());
    out += &compare(&utterances, arguments.show)?;
    out += &format!("\nrescored in {seconds:.2} s on one core\n");
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Io { what: "output".into(), source })?;
    Ok(End::Done)
}

fn list(own: OwnNames) -> Result<Vec<Utterance>> {
    let mut reader = Reader::new(own);
    let io = |source| Error::Io { what: "the demo's list".into(), source };
    Lines::new(GzDecoder::new(LISTS), MAX_LINE_BYTES)
        .map(|line| Ok(reader.read(&line.map_err(io)?.bytes)?.utterance))
        .collect()
}

/// Error rates before and after, and some of what changed.
fn compare(utterances: &[Utterance], show: usize) -> Result<String> {
    let mut scorer = Normaliser::default().scorer(Scorer::words());
    let (mut before, mut after, mut oracle) = (Tally::default(), Tally::default(), Tally::default());
    let (mut better, mut worse) = (0, 0);
    let mut examples = Vec::new();
    for utterance in utterances {
        let first = utterance.hypotheses.iter().min_by_key(|hypothesis| hypothesis.rank);
        let (Some(first), Some(best), Some(reference)) = (first, utterance.best(), &utterance.reference)
        else {
            continue;
        };
        if let Status::Passed(reason) = &utterance.status {
            return Err(Error::Record { what: reason.clone() });
        }
        scorer.reference(reference);
        let (old, new) = (scorer.counts(&first.bytes), scorer.counts(&best.bytes));
        before.add(old);
        after.add(new);
        let least =
            utterance.hypotheses.iter().map(|h| scorer.counts(&h.bytes)).min_by_key(|counts| counts.errors());
        oracle.add(least.unwrap_or(old));
        better += u32::from(new.errors() < old.errors());
        worse += u32::from(new.errors() > old.errors());
        if new.errors() != old.errors() {
            let text = |bytes: &[u8]| -> String {
                let shown = scorer.align(reference, bytes).into_iter().map(|edit| match edit {
                    Edit::Correct(word) => String::from_utf8_lossy(&word).into_owned(),
                    Edit::Substitution { hypothesis: word, .. } | Edit::Insertion(word) => {
                        format!("[{}]", String::from_utf8_lossy(&word))
                    }
                    Edit::Deletion(_) => "[]".into(),
                });
                shown.collect::<Vec<_>>().join(" ")
            };
            examples.push((
                new.errors() as i64 - old.errors() as i64,
                format!(
                    "  said    {}\n  before  {}\n  after   {}\n",
                    String::from_utf8_lossy(reference),
                    text(&first.bytes),
                    text(&best.bytes)
                ),
            ));
        }
    }
    // The largest changes for the better, and the worst for the worse: both are the truth.
    examples.sort_by_key(|example| example.0);
    let gains = show - show / 3;
    let losses = examples.iter().rev().take(show / 3).filter(|example| example.0 > 0);
    let shown: Vec<&str> =
        examples.iter().take(gains).filter(|example| example.0 < 0).chain(losses).map(|e| &*e.1).collect();
    Ok(format!(
        "{}\nbefore {before}\nafter  {after}\noracle {oracle}\n{better} utterances better, {worse} worse",
        shown.join("\n")
    )
    .lines()
    .filter(|line| !line.starts_with("%SER") && !line.starts_with("Scored"))
    .collect::<Vec<_>>()
    .join("\n")
        + "\n")
}

/// Made by `fixtures/speech/make.py` from sentences written for this project.
const LISTS: &[u8] = include_bytes!("../../fixtures/speech/nbest.jsonl.gz");
