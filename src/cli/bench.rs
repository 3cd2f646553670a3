//! `secondpass bench`: is it fast enough on this machine?

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use super::End;
use super::formats::FormatArgs;
use super::lists;
use super::memory;
use super::messages::Messages;
use super::models::ModelArgs;
use super::rescore::jobs;
use crate::config::{Config, Kind};
use crate::formats::OwnNames;
use crate::lm::Work;
use crate::nbest::{Hypothesis, Name, Status, Utterance};
use crate::rescorer::{Request, Rescorer, Worker};
use crate::{Error, Result};

/// Latency, throughput and memory on lists of your own
///
/// Latency: one utterance at a time on one worker. Throughput: all of them on all workers.
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
    /// Worker threads of the throughput part (0: one per core)
    #[arg(short, long, value_name = "NUM", default_value_t = 0, value_parser = jobs(), help_heading = "Limits")]
    jobs: usize,
    /// Use only the first NUM lists (0: all)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Input")]
    first: usize,
    /// Cut lists to NUM hypotheses (0: whole)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Input")]
    hypotheses: usize,
    /// Measure latency on the first NUM lists only (0: all)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Input")]
    alone: usize,
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
}

/// Measures.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let config = arguments.models.config()?;
    let opened = Instant::now();
    let rescorer = arguments.models.builder(&config)?.build()?;
    let mut worker = rescorer.worker()?;
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
    // Its session would count in the memory.
    drop(worker);
    let alone = if arguments.alone == 0 { usize::MAX } else { arguments.alone };
    let single = latency(&rescorer, &utterances[..utterances.len().min(alone)], &bar)?;
    bar.finish_and_clear();
    let jobs = arguments.models.workers(arguments.jobs, &config)?;
    let saturated = throughput(&rescorer, &utterances, jobs)?;
    let hypotheses: usize = utterances.iter().map(|utterance| utterance.hypotheses.len()).sum();
    let bound = memory_bound(&config, jobs, &utterances);
    let text = if arguments.json {
        json(&single, &saturated, &utterances, hypotheses, jobs, start_up, bound)
    } else {
        table(&single, &saturated, &utterances, hypotheses, jobs, start_up, bound)
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
    Ok(Part { wall, latencies, work: worker.work() })
}

fn throughput(rescorer: &Rescorer, utterances: &[Utterance], jobs: usize) -> Result<Part> {
    let workers = (0..jobs).map(|_| rescorer.worker()).collect::<Result<Vec<_>>>()?;
    let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    let works = std::thread::scope(|scope| {
        let run = |mut worker: Worker| {
            let (next, finished) = (&next, &finished);
            scope.spawn(move || -> Result<Vec<(Name, Work)>> {
                let (mut flying, mut done) = (0, Vec::new());
                loop {
                    // What fills its steps, and no more than its share of what is left: all end together.
                    let left = utterances.len() - finished.load(Relaxed).min(utterances.len());
                    while flying < left.div_ceil(jobs) && worker.room() {
                        let ticket = next.fetch_add(1, Relaxed);
                        let Some(utterance) = utterances.get(ticket) else { break };
                        let (ticket, utterance) = (ticket as u64, utterance.clone());
                        worker.submit(Request { ticket, utterance, ..Request::default() });
                        flying += 1;
                    }
                    if flying == 0 {
                        break;
                    }
                    worker.step(&mut done)?;
                    flying -= done.len();
                    finished.fetch_add(done.len(), Relaxed);
                    done.clear();
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
    bound: u64,
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
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    match memory::peak() {
        Some(peak) => {
            let (peak, bound) = (mebibytes(peak), mebibytes(bound));
            out + &format!("peak memory {peak:.1} MiB, promised at most {bound:.1} MiB\n")
        }
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
    bound: u64,
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
            "utterances": single.latencies.len(),
        },
        "throughput": {
            "workers": jobs, "seconds": full.wall.as_secs_f64(),
            "utterances_per_s": utterances.len() as f64 / full.wall.as_secs_f64(),
            "hypotheses_per_s": hypotheses as f64 / full.wall.as_secs_f64(),
        },
        "models": models, "peak_memory_bytes": memory::peak(), "memory_bound_bytes": bound,
    });
    format!("{object}\n")
}

/// What the run may take: see [`memory::bound`]. The lists are the window, as all of them are held.
fn memory_bound(config: &Config, jobs: usize, utterances: &[Utterance]) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |facts| facts.len());
    let models = config.lm.iter().map(|lm| {
        // Large models have their weights in a file beside them.
        let mut beside = lm.path.clone().into_os_string();
        beside.push(".data");
        let bytes = size(&lm.path) + size(Path::new(&beside));
        // N-gram models are shared by all workers.
        (bytes, if lm.kind() == Kind::Neural { jobs as u64 } else { 1 })
    });
    let held = |hypothesis: &Hypothesis| {
        size_of::<Hypothesis>() + hypothesis.bytes.capacity() + size_of_val(&hypothesis.features[..])
    };
    let lists = utterances.iter().flat_map(|utterance| &utterance.hypotheses).map(held);
    memory::bound(models, lists.sum::<usize>() as u64)
}
