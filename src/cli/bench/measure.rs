//! The clock: one list at a time, and all of them on all workers.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::lm::Work;
use crate::nbest::{Name, Status, Utterance};
use crate::rescorer::{Request, Rescorer, Worker};
use crate::{Error, Result};

/// One part's figures.
pub(super) struct Part {
    pub wall: Duration,
    /// Of each utterance, sorted; empty where utterances overlap.
    latencies: Vec<Duration>,
    pub work: Vec<(Name, Work)>,
    /// Hypotheses scored again by exact models, and lists that had such.
    pub confirmed: [usize; 2],
}

impl Part {
    /// In milliseconds; nearest rank: the smallest latency that so many percent do not exceed.
    pub fn percentile(&self, percent: usize) -> f64 {
        let at = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }

    /// How many lists were measured alone.
    pub fn alone(&self) -> usize {
        self.latencies.len()
    }
}

/// Rescores a list.
///
/// # Errors
/// If it cannot be rescored: a list that passes through takes no time and would flatter every figure.
pub(super) fn one(worker: &mut Worker, utterance: &Utterance) -> Result<()> {
    let mut utterance = utterance.clone();
    worker.rescore_batch(std::slice::from_mut(&mut utterance))?;
    rescored(&utterance)
}

fn rescored(utterance: &Utterance) -> Result<()> {
    match &utterance.status {
        Status::Passed(reason) => Err(Error::Record { what: format!("a list cannot be rescored: {reason}") }),
        _ => Ok(()),
    }
}

/// One list at a time.
pub(super) fn latency(
    rescorer: &Rescorer,
    utterances: &[Utterance],
    bar: &indicatif::ProgressBar,
) -> Result<Part> {
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
    Ok(Part { wall, latencies, work: worker.work(), confirmed: [0; 2] })
}

/// All lists on `jobs` workers; those rescored go to `kept`, in their order, if somebody wants them.
///
/// # Errors
/// As [`one`].
pub(super) fn throughput(
    rescorer: &Rescorer,
    utterances: &[Utterance],
    jobs: usize,
    kept: Option<&mut Vec<Utterance>>,
) -> Result<Part> {
    let workers = (0..jobs).map(|_| rescorer.worker()).collect::<Result<Vec<_>>>()?;
    let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let keeps = kept.is_some();
    let begun = Instant::now();
    let outcomes = std::thread::scope(|scope| {
        let run = |mut worker: Worker| {
            let (next, finished) = (&next, &finished);
            scope.spawn(move || -> Result<_> {
                let (mut flying, mut done, mut mine) = (0, Vec::new(), Vec::new());
                let mut confirmed = [0; 2];
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
                    for done in &done {
                        rescored(&done.utterance)?;
                        confirmed[0] += done.confirmed;
                        confirmed[1] += usize::from(done.confirmed > 0);
                    }
                    let rescored = done.drain(..).map(|done| (done.ticket, done.utterance));
                    mine.extend(rescored.filter(|_| keeps));
                }
                Ok((worker.work(), mine, confirmed))
            })
        };
        let threads: Vec<_> = workers.into_iter().map(run).collect();
        let panicked = |_| Err(Error::Internal("a worker panicked".into()));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect::<Result<Vec<_>>>()
    })?;
    let wall = begun.elapsed();
    let mut work: Vec<(Name, Work)> = Vec::new();
    let mut rescored = Vec::new();
    let mut confirmed = [0; 2];
    for (of, mine, again) in outcomes {
        rescored.extend(mine);
        confirmed = [confirmed[0] + again[0], confirmed[1] + again[1]];
        if work.is_empty() {
            work = of;
            continue;
        }
        for (sum, (_, more)) in work.iter_mut().zip(of) {
            sum.1 = sum.1.plus(more);
        }
    }
    if let Some(kept) = kept {
        rescored.sort_by_key(|(ticket, _)| *ticket);
        kept.extend(rescored.into_iter().map(|(_, utterance)| utterance));
    }
    Ok(Part { wall, latencies: Vec::new(), work, confirmed })
}
