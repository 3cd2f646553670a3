//! Models that are run over whole sentences: those without states that could be kept, those that give one
//! score for a sentence, and those that also read tensors of the utterance.
//!
//! Sequences of similar length, of whatever utterance, make a batch. Each distinct sequence is run once,
//! and one that only begins another is not run at all.

mod flight;

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use flight::{Flight, Place};

use super::kernel::MAX_OUTPUT_BYTES;
use super::session::{Batch, Runner};
use super::signature::{Layout, Signature, With};
use crate::lm::{Carry, Demand, Job, Limits, Scorer, Scores, Slot, Work};
use crate::{Error, Result};

/// Scores whole sentences.
pub(super) struct SentenceScorer {
    lm: Arc<str>,
    signature: Arc<Signature>,
    runner: Runner,
    starts: Arc<[u32]>,
    limits: Limits,
    /// Batches of one length only: what fills rows up would change the scores.
    exact: bool,
    flights: Vec<Option<Flight>>,
    /// Slots with work left, oldest first.
    order: Vec<usize>,
    /// Seconds a position took lately; 0 before the first step.
    position_seconds: f64,
    work: Work,
}

impl SentenceScorer {
    /// With `exact`, what fills rows up would change the scores.
    pub fn new(
        lm: Arc<str>,
        signature: Arc<Signature>,
        runner: Runner,
        starts: Arc<[u32]>,
        limits: Limits,
        exact: bool,
    ) -> Self {
        let filled =
            signature.lengths.is_some() || signature.fills.iter().any(|fill| fill.with == With::Mask);
        // The end that a graph adds stands behind the last column.
        let ends = signature.adds_ends || signature.layout == Layout::Sentence;
        let exact = exact || (ends && !filled);
        Self {
            lm,
            signature,
            runner,
            starts,
            limits,
            exact,
            flights: Vec::new(),
            order: Vec::new(),
            position_seconds: 0.0,
            work: Work::default(),
        }
    }

    /// Positions that the next step may have.
    fn bound(&self) -> usize {
        let most = self.limits.rows.max(1) * POSITIONS_A_ROW;
        match self.limits.step_time {
            Some(time) if !self.limits.alone && self.position_seconds > 0.0 => {
                ((time.as_secs_f64() / self.position_seconds) as usize).clamp(1, most)
            }
            _ => most,
        }
    }

    /// Takes sequences for one batch: the longest of the oldest job, and what is nearly as long.
    fn gather(&mut self) -> Vec<(usize, usize)> {
        let bound = self.bound();
        let alone = self.limits.alone || !self.signature.context.is_empty();
        let mut rows = Vec::new();
        let (mut longest, mut most) = (0, 1);
        for &slot in &self.order {
            let Some(flight) = &mut self.flights[slot] else { continue };
            if rows.is_empty() {
                let Some(&path) = flight.pending.last() else { continue };
                longest = flight.paths[path].length;
                let bytes = longest.max(1) * self.signature.vocab_size * size_of::<f32>();
                most =
                    (MAX_OUTPUT_BYTES / bytes).min(bound / longest.max(1)).clamp(1, self.limits.rows.max(1));
                most = self.signature.tokens.batch.map_or(most, |batch| most.min(batch));
            }
            let least =
                if self.exact { longest } else { (longest - longest / 4).min(longest.saturating_sub(2)) };
            let paths = &flight.paths;
            let fits = |path: &usize| (least..=longest).contains(&paths[*path].length);
            let mut at = flight.pending.len();
            while at > 0 && rows.len() < most {
                at -= 1;
                if fits(&flight.pending[at]) {
                    rows.push((slot, flight.pending.remove(at)));
                }
            }
            if rows.len() >= most || (alone && !rows.is_empty()) {
                break;
            }
        }
        rows
    }

    /// Runs rows as one batch, or, where the model has but one length, as several one after the other.
    fn run(&mut self, rows: &[(usize, usize)]) -> Result<(), String> {
        let signature = self.signature.clone();
        let (mut sequences, mut targets) = (Vec::new(), Vec::new());
        let mut context: Arc<[crate::nbest::Tensor]> = Arc::new([]);
        for &(slot, path) in rows {
            let flight = self.flights[slot].as_ref().ok_or("a row without its job")?;
            let (mut ids, mut wanted) = (Vec::new(), Vec::new());
            flight.push(path, &signature, &mut ids, &mut wanted);
            sequences.push(ids);
            targets.push(wanted);
            context = flight.job.context.clone();
        }
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let length = signature.tokens.length.unwrap_or(longest);
        if longest > length && (signature.states.is_empty() || signature.grows()) {
            return Err(format!(
                "a sentence of {longest} tokens is too long for a model that was exported for {length}; export it \
                 with a free length"
            ));
        }
        let count = signature.tokens.batch.unwrap_or(rows.len());
        let zeros = |state: &super::signature::State| {
            if state.grows.is_some() { Vec::new() } else { vec![0.0; count * state.size()] }
        };
        let mut states: Vec<Vec<f32>> = signature.states.iter().map(zeros).collect();
        let pad = i64::from(signature.pad.unwrap_or(0));
        for from in (0..longest.max(1)).step_by(length.max(1)) {
            let part = |rows: &[Vec<i64>], fill: i64| -> Vec<i64> {
                let row = |at: usize| {
                    // A model of one batch size gets the last row again and again.
                    let row = &rows[at.min(rows.len() - 1)];
                    let part = row.get(from..).unwrap_or_default();
                    let part = &part[..part.len().min(length)];
                    part.iter().copied().chain(std::iter::repeat_n(fill, length - part.len()))
                };
                (0..count).flat_map(row).collect()
            };
            let ids = part(&sequences, pad);
            let wanted = if signature.targets.is_some() { part(&targets, pad) } else { Vec::new() };
            let lengths: Vec<i64> = (0..count)
                .map(|at| &sequences[at.min(rows.len() - 1)])
                .map(|row| row.len().saturating_sub(from).min(length) as i64)
                .collect();
            let batch = Batch {
                ids: &ids,
                rows: count,
                length,
                lengths: &lengths,
                targets: &wanted,
                past: 0,
                states: &states,
                context: &context,
            };
            let (flights, starts) = (&mut self.flights, &self.starts);
            let next = self.runner.run(&signature, batch, |outputs| {
                for (row, &(slot, path)) in rows.iter().enumerate() {
                    if let Some(flight) = &mut flights[slot] {
                        let place = Place { row, from, count: length.max(1) };
                        flight.receive(path, &signature, &outputs, place, starts);
                    }
                }
                outputs.states.iter().map(|(_, values)| values.to_vec()).collect::<Vec<_>>()
            })?;
            if from + length < longest {
                states = next;
            }
        }
        Ok(())
    }

    fn time(&mut self, rows: &[(usize, usize)]) -> Result<(), String> {
        let positions: usize = rows
            .iter()
            .filter_map(|&(slot, path)| self.flights[slot].as_ref().map(|flight| flight.paths[path].length))
            .sum();
        let started = Instant::now();
        let result = self.run(rows);
        let each = started.elapsed().as_secs_f64() / positions.max(1) as f64;
        self.position_seconds =
            if self.position_seconds == 0.0 { each } else { 0.7 * self.position_seconds + 0.3 * each };
        self.work.steps += 1;
        self.work.rows += positions as u64;
        if result.is_ok() {
            for &(slot, _) in rows {
                if let Some(flight) = &mut self.flights[slot] {
                    flight.left = flight.left.saturating_sub(1);
                }
            }
        }
        result
    }

    fn flight(&mut self, slot: Slot) -> Result<&mut Flight> {
        let missing = || Error::Internal(format!("{}: no job in slot {}", self.lm, slot.0));
        self.flights.get_mut(slot.0).and_then(Option::as_mut).ok_or_else(missing)
    }
}

impl Scorer for SentenceScorer {
    fn submit(&mut self, job: Job) -> Result<Slot> {
        let fail = |what: String| Error::Inference { lm: self.lm.to_string(), what };
        for needed in &self.signature.context {
            if !job.context.iter().any(|tensor| tensor.name == needed.ids.name) {
                return Err(fail(format!(
                    "the record brings no tensor `{}`, which this model scores with",
                    needed.ids.name
                )));
            }
        }
        let raw = job.trie.raw;
        let flight = Flight::new(job, &self.signature).map_err(fail)?;
        self.work.raw += raw;
        let slot = self.flights.iter().position(Option::is_none).unwrap_or_else(|| {
            self.flights.push(None);
            self.flights.len() - 1
        });
        if flight.left > 0 {
            self.order.push(slot);
        }
        self.flights[slot] = Some(flight);
        Ok(Slot(slot))
    }

    fn demand(&self) -> Demand {
        let flights = self.order.iter().filter_map(|&slot| self.flights[slot].as_ref());
        let positions =
            flights.flat_map(|flight| flight.pending.iter().map(|&path| flight.paths[path].length));
        let alone = self.limits.alone || !self.signature.context.is_empty();
        Demand { ready: positions.sum(), wanted: if alone { 1 } else { self.bound() } }
    }

    fn step(&mut self) -> Result<()> {
        let rows = self.gather();
        if rows.is_empty() {
            return Ok(());
        }
        if let Err(what) = self.time(&rows) {
            // Somebody's rows spoilt the batch: each job alone, so that only the guilty fail.
            let jobs: Vec<_> = rows.chunk_by(|a, b| a.0 == b.0).collect();
            for job in &jobs {
                let result = if jobs.len() == 1 { Err(what.clone()) } else { self.time(job) };
                if let (Err(what), Some(flight)) = (result, &mut self.flights[job[0].0]) {
                    flight.fail(&what);
                }
            }
        }
        let flights = &self.flights;
        self.order.retain(|&slot| flights[slot].as_ref().is_some_and(|flight| flight.left > 0));
        Ok(())
    }

    fn take(&mut self, slot: Slot) -> Poll<Result<Scores>> {
        let lm = self.lm.to_string();
        let flight = match self.flight(slot) {
            Ok(flight) => flight,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Some(what) = flight.failed.take() {
            flight.taken = true;
            return Poll::Ready(Err(Error::Inference { lm, what }));
        }
        if flight.left > 0 {
            return Poll::Pending;
        }
        if std::mem::replace(&mut flight.taken, true) {
            return Poll::Ready(Err(Error::Internal(format!("{lm}: the scores were taken before"))));
        }
        Poll::Ready(Ok(flight.scores()))
    }

    fn cancel(&mut self, slot: Slot) {
        self.order.retain(|&other| other != slot.0);
        if let Ok(flight) = self.flight(slot) {
            flight.fail("cancelled");
        }
    }

    fn carry(&mut self, _slot: Slot, _node: u32) -> Result<Option<Carry>> {
        Ok(None)
    }

    fn release(&mut self, slot: Slot) {
        self.order.retain(|&other| other != slot.0);
        if let Some(flight) = self.flights.get_mut(slot.0) {
            *flight = None;
        }
    }

    fn work(&self) -> Work {
        self.work
    }
}

/// A sentence in a step counts as many rows as it has positions; one step may have this many for each row
/// that the limits allow, because positions of one sentence are cheaper together than rows are.
const POSITIONS_A_ROW: usize = 16;
