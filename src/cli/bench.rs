//! `secondpass bench`: is it fast enough on this machine?

mod accuracy;
mod beside;
mod measure;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use beside::Beside;
use measure::{Part, latency, one, throughput};

use super::End;
use super::best::BestArgs;
use super::formats::FormatArgs;
use super::lists;
use super::memory;
use super::messages::Messages;
use super::models::ModelArgs;
use super::rescore::jobs;
use crate::config::{Config, Kind};
use crate::lm::onnx::graph::Graph;
use crate::nbest::{Hypothesis, Utterance};
use crate::{Error, Result};

/// Latency, throughput and memory on lists of your own
///
/// Latency: one utterance at a time on one worker that has all cores. Throughput: all of them on all workers.
/// Raw tokens are what scoring each hypothesis alone would feed; distinct histories are what
/// was fed. With --precision, --output-rank or --best-only, also what that saves and what it changes: all lists are
/// scored once more, to the end and in f32. With --confirm, how many hypotheses were scored again.
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
    /// Measure latency on the first NUM lists only (0: all)
    #[arg(long, value_name = "NUM", default_value_t = 0, help_heading = "Input")]
    alone: usize,
    /// One JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// What was measured.
struct Figures {
    utterances: usize,
    hypotheses: usize,
    start_up: Duration,
    single: Part,
    full: Part,
    jobs: usize,
    peak: Option<u64>,
    bound: u64,
    beside: Option<Beside>,
}

/// Measures.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let config = arguments.best.confirmed(arguments.models.config()?)?;
    let opened = Instant::now();
    let best_only = arguments.best.best_only(&config)?;
    let rescorer = arguments.models.builder(&config)?.best_only(best_only.clone()).build()?;
    let alone = rescorer.with_threads(arguments.models.threads);
    let mut worker = alone.worker()?;
    let start_up = opened.elapsed();
    for warning in rescorer.warnings() {
        messages.say(&format!("warning: {warning}"));
    }
    let mut utterances = Vec::new();
    let own = rescorer.own_names();
    lists::each(&arguments.lists, &arguments.formats, Some(own), messages, &mut |listed| {
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
    let first = if arguments.alone == 0 { usize::MAX } else { arguments.alone };
    let single = latency(&alone, &utterances[..utterances.len().min(first)], &bar)?;
    bar.finish_and_clear();
    let jobs = arguments.models.workers(arguments.jobs, &config, messages)?;
    let exact = config.in_f32();
    let fast = best_only.is_some() || exact.is_some();
    let mut rescored = Vec::new();
    let full = throughput(&rescorer, &utterances, jobs, fast.then_some(&mut rescored))?;
    let peak = memory::peak();
    let beside = if fast {
        let exact = match &exact {
            Some(exact) => arguments.models.builder(exact)?.build()?,
            None => rescorer.with_best_only(None)?,
        };
        Some(Beside::measure(&exact, &full, &rescored, &utterances, jobs)?)
    } else {
        None
    };
    let figures = Figures {
        utterances: utterances.len(),
        hypotheses: utterances.iter().map(|utterance| utterance.hypotheses.len()).sum(),
        start_up,
        single,
        full,
        jobs,
        peak,
        bound: memory_bound(&config, jobs, &utterances),
        beside,
    };
    let text = if arguments.json { figures.json() } else { figures.table() };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Io { what: "output".into(), source })?;
    Ok(End::Done)
}

impl Figures {
    fn table(&self) -> String {
        let seconds = self.full.wall.as_secs_f64();
        let mut out = format!(
            "{} utterances, {} hypotheses; start-up {:.0} ms\n",
            self.utterances,
            self.hypotheses,
            self.start_up.as_secs_f64() * 1e3
        );
        let alone = &self.single;
        out += &format!(
            "one at a time, 1 worker: p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, largest {:.2} ms\n",
            alone.percentile(50),
            alone.percentile(95),
            alone.percentile(99),
            alone.percentile(100)
        );
        out += &format!(
            "all, {} worker{}: {seconds:.2} s, {:.1} utterances/s, {:.0} hypotheses/s\n",
            self.jobs,
            if self.jobs == 1 { "" } else { "s" },
            self.utterances as f64 / seconds,
            self.hypotheses as f64 / seconds
        );
        for ((name, alone), (_, work)) in alone.work.iter().zip(&self.full.work) {
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
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        if let Some(peak) = self.peak {
            let (peak, bound) = (mebibytes(peak), mebibytes(self.bound));
            out += &format!("peak memory {peak:.1} MiB, promised at most {bound:.1} MiB\n");
        }
        out + &self.beside.as_ref().map_or_else(String::new, Beside::to_string)
    }

    fn json(&self) -> String {
        let seconds = self.full.wall.as_secs_f64();
        let models: serde_json::Map<_, _> = self
            .single
            .work
            .iter()
            .zip(&self.full.work)
            .map(|((name, alone), (_, work))| {
                let facts = json!({
                    "raw_tokens": work.raw, "histories": work.rows, "shared": work.shared, "remembered": work.hits,
                    "rows_per_step": work.rows as f64 / work.steps.max(1) as f64,
                    "rows_per_step_alone": alone.rows as f64 / alone.steps.max(1) as f64,
                    "raw_tokens_per_s": work.raw as f64 / seconds,
                    "histories_per_s": work.rows as f64 / seconds,
                });
                (name.to_string(), facts)
            })
            .collect();
        let alone = &self.single;
        let object = json!({
            "utterances": self.utterances, "hypotheses": self.hypotheses,
            "start_up_ms": self.start_up.as_secs_f64() * 1e3,
            "latency_ms": {
                "p50": alone.percentile(50), "p95": alone.percentile(95), "p99": alone.percentile(99),
                "max": alone.percentile(100), "total": alone.wall.as_secs_f64() * 1e3,
                "utterances": alone.alone(),
            },
            "throughput": {
                "workers": self.jobs, "seconds": seconds,
                "utterances_per_s": self.utterances as f64 / seconds,
                "hypotheses_per_s": self.hypotheses as f64 / seconds,
            },
            "models": models, "peak_memory_bytes": self.peak, "memory_bound_bytes": self.bound,
            "fast": self.beside.as_ref().map(Beside::json),
        });
        format!("{object}\n")
    }
}

/// What the run may take: see [`memory::bound`]. The lists are the window, as all of them are held.
fn memory_bound(config: &Config, jobs: usize, utterances: &[Utterance]) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |facts| facts.len());
    let models = config.lm.iter().map(|lm| {
        // Large models have their weights in a file beside them.
        let mut beside = lm.path.clone().into_os_string();
        beside.push(".data");
        let bytes = size(&lm.path) + size(Path::new(&beside));
        // Those stored in fewer bits run in float32.
        let numbers = match lm.kind() {
            Kind::Neural => Graph::read(&lm.path).map_or(0, |graph| graph.parameters() * 4),
            _ => 0,
        };
        let bytes = bytes.max(numbers);
        // N-gram models are shared by all workers.
        let sessions = if lm.kind() == Kind::Neural { jobs as u64 } else { 1 };
        // What confirms winners is another model.
        let exact = config.confirm.is_some() && lm.is_inexact();
        std::iter::repeat_n((bytes, sessions), 1 + usize::from(exact))
    });
    let models = models.flatten();
    let held = |hypothesis: &Hypothesis| {
        size_of::<Hypothesis>() + hypothesis.bytes.capacity() + size_of_val(&hypothesis.features[..])
    };
    let lists = utterances.iter().flat_map(|utterance| &utterance.hypotheses).map(held);
    memory::bound(models, lists.sum::<usize>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LmConfig;

    #[test]
    fn what_confirms_winners_is_counted_as_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.onnx");
        std::fs::write(&path, vec![0; 10_000]).unwrap();
        let bound = |confirm, precision: Option<&str>, output_rank| {
            let precision = precision.map(str::to_owned);
            let lm = LmConfig { path: path.clone(), precision, output_rank, ..LmConfig::default() };
            memory_bound(&Config { lm: vec![lm], confirm, ..Config::default() }, 2, &[])
        };
        let once = bound(None, Some("int8"), None);
        let twice = once + (once - (64 << 20));
        assert_eq!((bound(Some(1.0), None, None), bound(Some(1.0), Some("f32"), None)), (once, once));
        assert_eq!((bound(Some(1.0), Some("int8"), None), bound(Some(1.0), None, Some(64))), (twice, twice));
    }
}
