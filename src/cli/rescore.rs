//! `secondpass rescore`: the filter.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use indicatif::{ProgressBar, ProgressStyle};

use super::best::BestArgs;
use super::files::{self, Sink};
use super::formats::{FormatArgs, Opened};
use super::messages::Messages;
use super::models::ModelArgs;
use super::{End, signals};
use crate::config::Config;
use crate::consensus::{Calibration, Decision};
use crate::formats::{self, Answer, Format, Given};
use crate::rescorer::Rescorer;
use crate::stream::{self, Event, Lists, Stop, StreamOptions, Streams, Summary};
use crate::{Error, Result};

/// Rescore n-best lists: lists in, the same lists best first out
///
/// Exit code 0: every record was rescored; 1: some passed through unrescored, marked;
/// 2: failed.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// N-best lists: a file, plain or gzip, or a folder; - for standard input
    #[arg(value_name = "INPUT", default_value = "-")]
    input: PathBuf,
    /// Where to write; a name ending in .gz is compressed (a folder, if the input is one)
    #[arg(short, long, value_name = "FILE", default_value = "-", help_heading = "Output")]
    output: PathBuf,
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    best: BestArgs,
    #[command(flatten)]
    formats: FormatArgs,
    /// Format of the output (as read, if not given); also trn, ref, ctm: the best hypotheses
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    output_format: Option<Format>,
    /// Change the order alone: the scores of the lists stay as they came
    #[arg(long, overrides_with = "no_keep_scores", help_heading = "Output")]
    keep_scores: bool,
    #[arg(long, hide = true)]
    no_keep_scores: bool,
    /// Write only the best NUM hypotheses (0: all)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Output")]
    nbest: usize,
    /// Add weight x value of each feature for the winners
    #[arg(long, overrides_with = "no_explain", help_heading = "Output")]
    explain: bool,
    #[arg(long, hide = true)]
    no_explain: bool,
    /// How a list is decided
    ///
    /// As the configuration says, else the greatest total; `tune` writes `mbr` into it where held-out
    /// lists are decided better so. Posteriors are the softmax of the totals at the temperature that `tune`
    /// finds. `mbr` orders by expected word errors; `rover` leaves the order and adds the words that win
    /// position by position as `text` of `secondpass`.
    #[arg(long, value_name = "HOW", help_heading = "Scoring")]
    consensus: Option<Consensus>,
    /// Add confidences of words and utterance, and posteriors
    #[arg(long, overrides_with = "no_confidence", help_heading = "Output")]
    confidence: bool,
    #[arg(long, hide = true)]
    no_confidence: bool,
    /// Divide totals by NUM before they become posteriors
    #[arg(long, value_name = "NUM", help_heading = "Scoring")]
    temperature: Option<f64>,
    /// Add the time from reading to answer, `took_ms`
    #[arg(long, overrides_with = "no_timings", help_heading = "Output")]
    timings: bool,
    #[arg(long, hide = true)]
    no_timings: bool,
    /// Worker threads (0: one per core)
    #[arg(short, long, value_name = "NUM", default_value_t = 0, value_parser = jobs(), help_heading = "Limits")]
    jobs: usize,
    /// Answer within MS of reading, with what is known (0: never early)
    #[arg(long, value_name = "MS", default_value_t = 0.0, help_heading = "Limits")]
    deadline_ms: f64,
    /// Start each utterance from the state after its session's last winner
    #[arg(long, overrides_with = "no_carry_over", help_heading = "Scoring")]
    carry_over: bool,
    #[arg(long, hide = true)]
    no_carry_over: bool,
    /// Sessions remembered with --carry-over
    #[arg(long, value_name = "NUM", default_value_t = 10_000, help_heading = "Limits")]
    max_sessions: usize,
    /// Stop at the first record that cannot be rescored
    #[arg(long, overrides_with = "no_strict", help_heading = "Input")]
    strict: bool,
    #[arg(long, hide = true)]
    no_strict: bool,
    /// Complete the output of an interrupted run (needs --output)
    #[arg(long, overrides_with = "no_resume", help_heading = "Output")]
    resume: bool,
    #[arg(long, hide = true)]
    no_resume: bool,
    /// Longest line or record that is read
    #[arg(long, value_name = "BYTES", default_value_t = crate::lines::MAX_LINE_BYTES, help_heading = "Limits")]
    max_line_bytes: usize,
    /// Records between reading and writing (0: 16 per worker, at least 64)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Limits")]
    window: usize,
    /// Report counts every so many seconds (0: never)
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, help_heading = "Logging")]
    stats: f64,
    /// No progress bar
    #[arg(long, overrides_with = "progress", help_heading = "Logging")]
    no_progress: bool,
    #[arg(long, hide = true)]
    progress: bool,
}

/// `--consensus`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Consensus {
    /// The greatest total
    Best,
    /// The fewest expected word errors
    Mbr,
    /// The winners position by position
    Rover,
}

/// Runs the filter.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    if files::same(&arguments.input, &arguments.output) {
        return Err(Error::config(
            "the input and the output are the same file; write to another with --output",
        ));
    }
    let stop = Stop::default();
    let caught = signals::listen(stop.clone())?;
    let config = arguments.best.confirmed(arguments.models.config()?)?;
    let workers = arguments.models.workers(arguments.jobs, &config, messages)?;
    let decision = arguments.decision(&config, messages);
    let mut options = arguments.options(workers, decision)?;
    options.calibration = arguments.calibration(&config, decision, messages)?;
    let rescorer = arguments.rescorer(&config, options.deadline, workers)?;
    let kept = arguments.formats.kept(options.max_line_bytes);
    let Opened { mut lists, given, references, format } = arguments.formats.open(&arguments.input, kept)?;
    // What comes out is known without reading, unless the content has to tell.
    let out = arguments.output_format.or(format);
    if let Some(out) = out {
        options.fits(arguments.best.best_only, out)?;
    }
    let done = match arguments.resume {
        true => done_before(&arguments.output, out, &given)?,
        false => 0,
    };
    let options = StreamOptions { skip: done, given, references, ..options };
    let earlier = match done > 0 {
        true => Some(files::input(&arguments.output)?),
        false => None,
    };
    let mut sink = arguments.sink(&lists, format)?;
    let bar = arguments.bar();
    if let (Some(bar), Lists::Stream { input, .. }) = (&bar, &mut lists) {
        let bare = std::mem::replace(input, Box::new(std::io::empty()));
        *input = Box::new(bar.wrap_read(bare));
    }
    let tell = |event: Event| match event {
        Event::Formula(formula) => messages.say(&format!("total = {formula}")),
        Event::Lists(formula) => messages.say(&formula),
        Event::Warning(warning) => messages.say(&format!("warning: {warning}")),
        Event::Passed { place, reason } => {
            messages
                .repeated("records passed through", &format!("{place} passed through unrescored: {reason}"));
        }
        Event::Progress(summary) => messages.say(&line(&summary)),
    };
    if done > 0 {
        messages.say(&format!("resuming after {done} records"));
    }
    let streams = Streams { input: lists, earlier, output: &mut sink, output_name: arguments.output_name() };
    let summary = stream::rescore(&rescorer, streams, &options, &stop, &tell);
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let summary = match summary {
        Ok(summary) => summary,
        Err(error) => {
            sink.abandon();
            return Err(error);
        }
    };
    // A document was read whole and is answered whole; of a folder there is a part.
    if sink.is_whole() && caught.number().is_some() && arguments.input.is_dir() {
        sink.abandon();
        messages.say("ended by a signal: nothing was written, a folder is written whole or not at all");
    } else if let Err(source) = sink.finish()
        && !summary.closed
        && source.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(Error::Io { what: arguments.output_name(), source });
    }
    if summary.closed {
        return Ok(End::Done);
    }
    if arguments.stats > 0.0 {
        messages.say(&line(&summary));
    }
    Ok(match caught.number() {
        Some(number) => End::Signal(number),
        None if summary.passed > 0 => End::Passed,
        None => End::Done,
    })
}

impl Args {
    fn options(&self, workers: usize, decision: Decision) -> Result<StreamOptions> {
        if self.best.best_only && (self.confidence || decision != Decision::Best) {
            // What the file says is not there to be dropped.
            let advice = match decision != Decision::Best && self.consensus.is_none() {
                true => "the configuration's consensus is another: add --consensus best",
                false => "drop one",
            };
            return Err(Error::Config(format!(
                "--best-only leaves hypotheses unscored, and confidences, mbr and rover need every score; {advice}"
            )));
        }
        if self.resume && self.output == Path::new("-") {
            return Err(Error::config("--resume needs --output FILE: the file to complete"));
        }
        if self.resume && self.output.extension().is_some_and(|extension| extension == "gz") {
            return Err(Error::config(
                "--resume cannot complete a compressed file; write it plain, compress it after",
            ));
        }
        if self.resume && self.carry_over && decision == Decision::Mbr {
            return Err(Error::config(
                "--resume goes on from what is written first, which mbr chose, and --carry-over from the greatest total: \
                 drop one, or add --consensus best",
            ));
        }
        Ok(StreamOptions {
            workers,
            nbest: Some(self.nbest).filter(|&nbest| nbest > 0),
            explain: self.explain,
            decision,
            confidence: self.confidence,
            timings: self.timings,
            deadline: seconds("--deadline-ms", self.deadline_ms / 1e3)?,
            carry_over: self.carry_over,
            sessions: self.max_sessions,
            strict: self.strict,
            max_line_bytes: self.max_line_bytes,
            window_records: self.window,
            max_document_bytes: self.formats.max_document_bytes,
            answer: Answer { format: self.output_format, keep_scores: self.keep_scores },
            every: seconds("--stats", self.stats)?,
            ..StreamOptions::default()
        })
    }

    /// The flag's, else the configuration's.
    fn decision(&self, config: &Config, messages: &Messages) -> Decision {
        let asked = self.consensus.map(|consensus| match consensus {
            Consensus::Best => Decision::Best,
            Consensus::Mbr => Decision::Mbr,
            Consensus::Rover => Decision::Rover,
        });
        if asked == Some(Decision::Mbr) && config.consensus == Some(Decision::Best) {
            messages.say("warning: --consensus mbr: `tune` found it no better on held-out lists");
        }
        asked.or(config.consensus).unwrap_or_default()
    }

    /// The configuration's, with the temperature of the flag.
    fn calibration(&self, config: &Config, decision: Decision, messages: &Messages) -> Result<Calibration> {
        let mut calibration = config.confidence.unwrap_or_default();
        if let Some(temperature) = self.temperature {
            if !(temperature.is_finite() && temperature > 0.0) {
                return Err(Error::config("--temperature: expected a number above 0"));
            }
            calibration = Calibration { temperature, ..Calibration::default() };
        }
        let wanted = self.confidence || decision != Decision::Best;
        if wanted && self.temperature.is_none() && config.confidence.is_none() {
            messages.say(
                "warning: uncalibrated: posteriors at temperature 1; `secondpass tune --write` finds the temperature",
            );
        }
        Ok(calibration)
    }

    /// What messages call the output.
    fn output_name(&self) -> String {
        match self.output == Path::new("-") {
            true => "standard output".into(),
            false => self.output.display().to_string(),
        }
    }

    /// Where records go: a folder for lists from one, unless they are made into a stream.
    fn sink(&self, lists: &Lists, format: Option<Format>) -> Result<Sink> {
        let folder = match self.output_format {
            Some(to) if Some(to) != format => to.needs_folder(),
            _ => matches!(lists, Lists::Folder(_)),
        };
        if folder && format.is_none() {
            return Err(Error::config(
                "the output is a folder if the lists are of another format: say which they have with --format",
            ));
        }
        if folder {
            if self.output == Path::new("-") || self.resume {
                return Err(Error::config(
                    "lists in a folder are answered with a folder: name a new one with --output, without --resume, or \
                     ask for one stream with --output-format jsonl",
                ));
            }
            return Sink::folder(&self.output);
        }
        let document = self.output_format.or(format).is_some_and(Format::is_document);
        if document && !self.resume {
            Sink::whole(&self.output)
        } else {
            Sink::open(&self.output, self.resume)
        }
    }

    fn rescorer(&self, config: &Config, deadline: Option<Duration>, workers: usize) -> Result<Rescorer> {
        let best_only = self.best.best_only(config)?;
        let builder = if workers == 1 { self.models.single(config)? } else { self.models.builder(config)? };
        builder.deadline(deadline).best_only(best_only).build()
    }

    /// A progress bar, if people watch and the file's size says how far it is.
    fn bar(&self) -> Option<ProgressBar> {
        let watched = std::io::stderr().is_terminal()
            && (self.output != Path::new("-") || !std::io::stdout().is_terminal());
        if self.no_progress || !watched || self.input == Path::new("-") {
            return None;
        }
        let metadata = std::fs::metadata(&self.input).ok().filter(std::fs::Metadata::is_file)?;
        let bar = ProgressBar::new(metadata.len());
        let style = "{wide_bar} {bytes}/{total_bytes} {eta}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Some(bar)
    }
}

/// Complete records in the output of an interrupted run; a torn last one is cut off.
fn done_before(path: &Path, format: Option<Format>, given: &Given) -> Result<u64> {
    let io = |error| Error::io(path, error);
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(io)?,
    };
    let format = match format {
        Some(format) => format,
        None => {
            let mut head = Vec::new();
            file.by_ref().take(1 << 16).read_to_end(&mut head).map_err(io)?;
            file = File::open(path).map_err(io)?;
            formats::detect(&head, true).unwrap_or_default()
        }
    };
    if !format.is_line() {
        let (records, whole) = formats::count(file, format, given)?;
        File::options().write(true).open(path).and_then(|file| file.set_len(whole)).map_err(io)?;
        return Ok(records);
    }
    // Counted as they lie there: a line reader would pass over a byte order mark.
    let (mut lines, mut whole, mut at) = (0, 0, 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match file.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.map_err(io)?,
        };
        if read == 0 {
            break;
        }
        for newline in memchr::memchr_iter(b'\n', &buffer[..read]) {
            lines += 1;
            whole = at + newline as u64 + 1;
        }
        at += read as u64;
    }
    File::options().write(true).open(path).and_then(|file| file.set_len(whole)).map_err(io)?;
    Ok(lines)
}

/// What `--jobs` takes: threads that the system cannot start would end the process.
pub fn jobs() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(0..=1024)
}

fn seconds(flag: &str, value: f64) -> Result<Option<Duration>> {
    match Duration::try_from_secs_f64(value) {
        Ok(Duration::ZERO) => Ok(None),
        Ok(duration) => Ok(Some(duration)),
        Err(_) => Err(Error::Config(format!("{flag}: expected a number from 0"))),
    }
}

fn line(summary: &Summary) -> String {
    let seconds = summary.elapsed.as_secs_f64().max(1e-9);
    format!(
        "{} records in {seconds:.1} s ({:.0}/s): {} rescored, {} partial, {} passed through; {} hypotheses; slowest {:.1} ms",
        summary.records,
        summary.records as f64 / seconds,
        summary.rescored,
        summary.partial,
        summary.passed,
        summary.hypotheses,
        summary.slowest.as_secs_f64() * 1e3
    )
}
