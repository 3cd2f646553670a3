//! `secondpass bench`: is it fast enough on this machine?

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::End;
use super::formats::FormatArgs;
use super::lists;
use super::messages::Messages;
use super::models::{BestArgs, ModelArgs};
use super::rescore::jobs;
use crate::eval::Scorer;
use crate::formats::OwnNames;
use crate::lm::Work;
use crate::nbest::{Name, Status, Utterance};
use crate::rescorer::{Rescorer, Worker};
use crate::{Error, Result};

/// Latency, throughput and memory on lists of your own
///
/// Latency: one utterance at a time on one worker that has all cores. Throughput: all of them on all workers.
/// Raw tokens are what scoring each hypothesis alone would feed; distinct histories are what
/// was fed.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// N-best lists: a file, plain or gzip, or a folder; - for standard input
    #[arg(value_name = "LISTS", default_value = "-")]
    lists: PathBuf,
    #[command(flatten)]
    formats: FormatArgs,
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    best: BestArgs,
    /// Worker threads of the throughput part (0: one per core)
    #[arg(short, long, value_name = "NUM", default_value_t = 0, value_parser = jobs(), help_heading = "Limits")]
    jobs: usize,
    /// Use only the first NUM lists (0: all)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Input")]
    first: usize,
    /// Cut lists to NUM hypotheses (0: whole)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Input")]
    hypotheses: usize,
    /// One JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// One part's figures.
struct Part {
    wall: Duration,
    /// Of each utterance, sorted; empty where utterances overlap.
    latencies: Vec<Duration>,
    work: Vec<(Name, Work)>,
    /// First-pass rank of each utterance's winner, where all were answered; else empty.
    winners: Vec<u32>,
}

/// Scoring what the winner needs, beside scoring everything.
struct Beside {
    /// By model: how many times fewer histories.
    saved: Vec<(Name, f64)>,
    /// How many times as fast.
    faster: f64,
    /// Share of equal winners.
    equal: f64,
    /// Word error rates, in percent, of lists with a reference: of what was scored, of everything.
    wer: Option<(f64, f64)>,
}

/// Measures.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let config = arguments.models.config()?;
    let opened = Instant::now();
    let best_only = arguments.best.best_only(&config)?;
    let rescorer = arguments.models.builder(&config)?.best_only(best_only.clone()).build()?;
    let alone = rescorer.with_threads(arguments.models.threads);
    let mut worker = alone.worker()?;
    let start_up = opened.elapsed();
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
    let single = latency(&alone, &utterances, &bar)?;
    bar.finish_and_clear();
    let jobs = arguments.models.workers(arguments.jobs, &config)?;
    let saturated = throughput(&rescorer, &utterances, jobs)?;
    let beside = match best_only {
        Some(_) => {
            let whole = rescorer.with_best_only(None)?;
            Some(compare(&saturated, &throughput(&whole, &utterances, jobs)?, &utterances))
        }
        None => None,
    };
    let hypotheses: usize = utterances.iter().map(|utterance| utterance.hypotheses.len()).sum();
    let text = if arguments.json {
        json(&single, &saturated, &utterances, hypotheses, jobs, start_up, beside.as_ref())
    } else {
        table(&single, &saturated, &utterances, hypotheses, jobs, start_up)
            + &beside.map_or_else(String::new, |beside| beside.to_string())
    };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Io { what: "output".into(), source })?;
    Ok(End::Done)
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
    Ok(Part { wall, latencies, work: worker.work(), winners: Vec::new() })
}

fn throughput(rescorer: &Rescorer, utterances: &[Utterance], jobs: usize) -> Result<Part> {
    let workers = (0..jobs).map(|_| rescorer.worker()).collect::<Result<Vec<_>>>()?;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let begun = Instant::now();
    let outcomes = std::thread::scope(|scope| {
        let run = |mut worker: Worker| {
            let next = &next;
            scope.spawn(move || -> Result<Outcome> {
                let mut winners = Vec::new();
                // Shares small enough to end together, large enough to fill a worker.
                loop {
                    let start = next.fetch_add(SHARE, std::sync::atomic::Ordering::Relaxed);
                    let Some(share) = utterances.get(start..(start + SHARE).min(utterances.len())) else {
                        break;
                    };
                    if share.is_empty() {
                        break;
                    }
                    let mut share = share.to_vec();
                    worker.rescore_batch(&mut share)?;
                    let winner = |utterance: &Utterance| utterance.best().map_or(0, |best| best.rank);
                    winners.push((start, share.iter().map(winner).collect()));
                }
                Ok((worker.work(), winners))
            })
        };
        let threads: Vec<_> = workers.into_iter().map(run).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Outcome>>| {
            thread.join().unwrap_or_else(|_| Err(Error::Internal("a worker panicked".into())))
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    let wall = begun.elapsed();
    let mut work: Vec<(Name, Work)> = outcomes.first().map(|outcome| outcome.0.clone()).unwrap_or_default();
    for (other, _) in outcomes.iter().skip(1) {
        for (sum, (_, more)) in work.iter_mut().zip(other) {
            sum.1 = sum.1.plus(*more);
        }
    }
    let mut winners = vec![0; utterances.len()];
    for (start, ranks) in outcomes.into_iter().flat_map(|outcome| outcome.1) {
        winners[start..start + ranks.len()].copy_from_slice(&ranks);
    }
    Ok(Part { wall, latencies: Vec::new(), work, winners })
}

/// One worker's work, and the winners of each share from its start on.
type Outcome = (Vec<(Name, Work)>, Vec<(usize, Vec<u32>)>);

fn compare(part: &Part, whole: &Part, utterances: &[Utterance]) -> Beside {
    let rows = |work: &Work| work.rows.max(1) as f64;
    let saved = part
        .work
        .iter()
        .zip(&whole.work)
        .map(|((name, part), (_, whole))| (name.clone(), rows(whole) / rows(part)));
    let equal = part.winners.iter().zip(&whole.winners).filter(|(a, b)| a == b).count();
    let mut wer = Scorer::words();
    let (mut words, mut errors, mut all) = (0, 0, 0);
    for (at, utterance) in utterances.iter().enumerate() {
        let Some(reference) = &utterance.reference else { continue };
        words += wer.reference(reference);
        let mut of = |rank: u32| {
            let hypothesis = utterance.hypotheses.iter().find(|hypothesis| hypothesis.rank == rank);
            hypothesis.map_or(0, |hypothesis| wer.counts(&hypothesis.bytes).errors())
        };
        errors += of(part.winners[at]);
        all += of(whole.winners[at]);
    }
    let rate = |errors: u64| 100.0 * errors as f64 / words as f64;
    Beside {
        saved: saved.collect(),
        faster: whole.wall.as_secs_f64() / part.wall.as_secs_f64(),
        equal: equal as f64 / utterances.len() as f64,
        wer: (words > 0).then(|| (rate(errors), rate(all))),
    }
}

impl std::fmt::Display for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let saved: Vec<String> =
            self.saved.iter().map(|(name, times)| format!("{name} {times:.2}")).collect();
        write!(
            f,
            "beside everything scored: {} times fewer histories, {:.2} times as fast, {:.2} % equal winners",
            saved.join(", "),
            self.faster,
            100.0 * self.equal
        )?;
        match self.wer {
            Some((part, all)) => writeln!(f, ", WER {part:.3} % ({:+.3})", part - all),
            None => writeln!(f),
        }
    }
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
            "{name}: {} raw tokens, {} distinct histories ({:.2} times; {} shared, {} remembered); {:.0} raw tokens/s, \
             {:.0} histories/s; {:.1} rows a step ({:.1} one at a time)\n",
            work.raw,
            work.rows,
            work.raw as f64 / work.rows.max(1) as f64,
            work.shared,
            work.hits,
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
    beside: Option<&Beside>,
) -> String {
    let beside = beside.map(|beside| {
        let saved: serde_json::Map<_, _> =
            beside.saved.iter().map(|(name, times)| (name.to_string(), json!(times))).collect();
        json!({
            "histories_saved": saved, "times_as_fast": beside.faster, "equal_winners": beside.equal,
            "wer": beside.wer.map(|wer| wer.0), "wer_of_everything": beside.wer.map(|wer| wer.1),
        })
    });
    let models: serde_json::Map<_, _> = single
        .work
        .iter()
        .zip(&full.work)
        .map(|((name, alone), (_, work))| {
            let rows = |work: &Work| work.rows as f64 / work.steps.max(1) as f64;
            let facts = json!({
                "raw_tokens": work.raw, "histories": work.rows, "shared": work.shared, "remembered": work.hits, "rows_per_step": rows(work),
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
        "models": models, "best_only": beside, "peak_memory_bytes": peak_memory(),
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
