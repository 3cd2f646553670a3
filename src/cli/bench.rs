//! `secondpass bench`: is it fast enough on this machine?

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::End;
use super::accuracy::Accuracy;
use super::formats::FormatArgs;
use super::lists;
use super::messages::Messages;
use super::models::ModelArgs;
use super::rescore::jobs;
use crate::config::Config;
use crate::formats::OwnNames;
use crate::lm::Work;
use crate::nbest::{Name, Status, Utterance};
use crate::rescorer::{Rescorer, Worker};
use crate::{Error, Result};

/// Latency, throughput and memory on lists of your own
///
/// Latency: one utterance at a time on one worker. Throughput: all of them on all workers.
/// Raw tokens are what scoring each hypothesis alone would feed; distinct histories are what
/// was fed. With --precision, also how far scores and winners are from those in f32.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// N-best lists: a file, plain or gzip, or a folder; - for standard input
    #[arg(value_name = "LISTS", default_value = "-")]
    lists: PathBuf,
    #[command(flatten)]
    formats: FormatArgs,
    #[command(flatten)]
    models: ModelArgs,
    /// Worker threads of the throughput part (0: one per core)
    #[arg(short, long, value_name = "NUM", default_value_t = 0, value_parser = jobs(), help_heading = "Limits")]
    jobs: usize,
    /// Use only the first NUM lists (0: all)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Input")]
    first: usize,
    /// Cut lists to NUM hypotheses (0: whole)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Input")]
    hypotheses: usize,
    /// One JSON object; with --precision another, of the differences from f32
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// One part's figures.
struct Part {
    wall: Duration,
    /// Of each utterance, sorted; empty where utterances overlap.
    latencies: Vec<Duration>,
    work: Vec<(Name, Work)>,
}

/// Measures.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let config = arguments.models.config()?;
    let opened = Instant::now();
    let rescorer = arguments.models.builder(&config)?.build()?;
    let mut worker = rescorer.worker()?;
    let start_up = opened.elapsed();
    for warning in rescorer.warnings() {
        messages.say(&format!("warning: {warning}"));
    }
    let mut utterances = Vec::new();
    let own = OwnNames::new(rescorer.names().cloned());
    lists::each(&arguments.lists, &arguments.formats, own, messages, &mut |listed| {
        let mut utterance = listed.record.utterance;
        if arguments.hypotheses > 0 {
            utterance.hypotheses.truncate(arguments.hypotheses);
        }
        if arguments.first == 0 || utterances.len() < arguments.first {
            utterances.push(utterance);
        }
        Ok(())
    })?;
    if utterances.is_empty() {
        return Err(Error::config("there is no list to measure on"));
    }
    let bar = super::progress("one at a time", utterances.len() as u64);
    // The first lists warm caches and the processor's clock; they count in no figure.
    for utterance in utterances.iter().take(5) {
        one(&mut worker, utterance)?;
    }
    let single = latency(&rescorer, &utterances, &bar)?;
    bar.finish_and_clear();
    let jobs = arguments.models.workers(arguments.jobs, &config)?;
    let saturated = throughput(&rescorer, &utterances, jobs)?;
    let hypotheses: usize = utterances.iter().map(|utterance| utterance.hypotheses.len()).sum();
    let mut text = if arguments.json {
        json(&single, &saturated, &utterances, hypotheses, jobs, start_up)
    } else {
        table(&single, &saturated, &utterances, hypotheses, jobs, start_up)
    };
    if let Some(accuracy) = accuracy(&arguments.models, config, &rescorer, &utterances)? {
        text += &(if arguments.json { accuracy.json().to_string() + "\n" } else { accuracy.table() });
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Io { what: "output".into(), source })?;
    Ok(End::Done)
}

/// Compares with f32, where something else was asked for.
fn accuracy(
    models: &ModelArgs,
    mut config: Config,
    rounded: &Rescorer,
    utterances: &[Utterance],
) -> Result<Option<Accuracy>> {
    if config.lm.iter_mut().all(|lm| lm.precision.take().is_none_or(|precision| precision == "f32")) {
        return Ok(None);
    }
    config.lm.iter_mut().for_each(|lm| lm.precision = None);
    let exact = models.builder(&config)?.build()?;
    Accuracy::measure(&exact, rounded, utterances).map(Some)
}

fn one(worker: &mut Worker, utterance: &Utterance) -> Result<()> {
    let mut utterance = utterance.clone();
    worker.rescore_batch(std::slice::from_mut(&mut utterance))?;
    match utterance.status {
        // A list that passes through takes no time and would flatter every figure.
        Status::Passed(reason) => Err(Error::Record { what: format!("a list cannot be rescored: {reason}") }),
        _ => Ok(()),
    }
}

fn latency(rescorer: &Rescorer, utterances: &[Utterance], bar: &indicatif::ProgressBar) -> Result<Part> {
    let mut worker = rescorer.worker()?;
    let begun = Instant::now();
    let mut latencies = Vec::with_capacity(utterances.len());
    for utterance in utterances {
        let started = Instant::now();
        one(&mut worker, utterance)?;
        latencies.push(started.elapsed());
        bar.inc(1);
    }
    let wall = begun.elapsed();
    latencies.sort();
    Ok(Part { wall, latencies, work: worker.work() })
}

fn throughput(rescorer: &Rescorer, utterances: &[Utterance], jobs: usize) -> Result<Part> {
    let workers = (0..jobs).map(|_| rescorer.worker()).collect::<Result<Vec<_>>>()?;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let begun = Instant::now();
    let works = std::thread::scope(|scope| {
        let run = |mut worker: Worker| {
            let next = &next;
            scope.spawn(move || -> Result<Vec<(Name, Work)>> {
                // Shares small enough to end together, large enough to fill a worker.
                loop {
                    let start = next.fetch_add(SHARE, std::sync::atomic::Ordering::Relaxed);
                    let Some(share) = utterances.get(start..(start + SHARE).min(utterances.len())) else {
                        break;
                    };
                    if share.is_empty() {
                        break;
                    }
                    worker.rescore_batch(&mut share.to_vec())?;
                }
                Ok(worker.work())
            })
        };
        let threads: Vec<_> = workers.into_iter().map(run).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Vec<(Name, Work)>>>| {
            thread.join().unwrap_or_else(|_| Err(Error::Internal("a worker panicked".into())))
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    let wall = begun.elapsed();
    let mut work: Vec<(Name, Work)> = works.first().cloned().unwrap_or_default();
    for other in works.iter().skip(1) {
        for (sum, (_, more)) in work.iter_mut().zip(other) {
            sum.1 = sum.1.plus(*more);
        }
    }
    Ok(Part { wall, latencies: Vec::new(), work })
}

impl Part {
    fn percentile(&self, percent: usize) -> f64 {
        // Nearest rank: the smallest latency that so many percent do not exceed.
        let at = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

fn table(
    single: &Part,
    full: &Part,
    utterances: &[Utterance],
    hypotheses: usize,
    jobs: usize,
    up: Duration,
) -> String {
    let seconds = full.wall.as_secs_f64();
    let mut out = format!(
        "{} utterances, {hypotheses} hypotheses; start-up {:.0} ms\n",
        utterances.len(),
        up.as_secs_f64() * 1e3
    );
    out += &format!(
        "one at a time, 1 worker: p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, largest {:.2} ms\n",
        single.percentile(50),
        single.percentile(95),
        single.percentile(99),
        single.percentile(100)
    );
    out += &format!(
        "all, {jobs} worker{}: {seconds:.2} s, {:.1} utterances/s, {:.0} hypotheses/s\n",
        if jobs == 1 { "" } else { "s" },
        utterances.len() as f64 / seconds,
        hypotheses as f64 / seconds
    );
    for ((name, alone), (_, work)) in single.work.iter().zip(&full.work) {
        out += &format!(
            "{name}: {} raw tokens, {} distinct histories ({:.2} times); {:.0} raw tokens/s, {:.0} histories/s; \
             {:.1} rows a step ({:.1} one at a time)\n",
            work.raw,
            work.rows,
            work.raw as f64 / work.rows.max(1) as f64,
            work.raw as f64 / seconds,
            work.rows as f64 / seconds,
            work.rows as f64 / work.steps.max(1) as f64,
            alone.rows as f64 / alone.steps.max(1) as f64
        );
    }
    match peak_memory() {
        Some(bytes) => out + &format!("peak memory {:.1} MiB\n", bytes as f64 / f64::from(1 << 20)),
        None => out,
    }
}

fn json(
    single: &Part,
    full: &Part,
    utterances: &[Utterance],
    hypotheses: usize,
    jobs: usize,
    up: Duration,
) -> String {
    let models: serde_json::Map<_, _> = single
        .work
        .iter()
        .zip(&full.work)
        .map(|((name, alone), (_, work))| {
            let rows = |work: &Work| work.rows as f64 / work.steps.max(1) as f64;
            let facts = json!({
                "raw_tokens": work.raw, "histories": work.rows, "rows_per_step": rows(work),
                "rows_per_step_alone": rows(alone), "raw_tokens_per_s": work.raw as f64 / full.wall.as_secs_f64(),
                "histories_per_s": work.rows as f64 / full.wall.as_secs_f64(),
            });
            (name.to_string(), facts)
        })
        .collect();
    let object = json!({
        "utterances": utterances.len(), "hypotheses": hypotheses, "start_up_ms": up.as_secs_f64() * 1e3,
        "latency_ms": {
            "p50": single.percentile(50), "p95": single.percentile(95), "p99": single.percentile(99),
            "max": single.percentile(100), "total": single.wall.as_secs_f64() * 1e3,
        },
        "throughput": {
            "workers": jobs, "seconds": full.wall.as_secs_f64(),
            "utterances_per_s": utterances.len() as f64 / full.wall.as_secs_f64(),
            "hypotheses_per_s": hypotheses as f64 / full.wall.as_secs_f64(),
        },
        "models": models, "peak_memory_bytes": peak_memory(),
    });
    format!("{object}\n")
}

/// The largest resident size so far, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Utterances a worker takes at once.
const SHARE: usize = 32;
