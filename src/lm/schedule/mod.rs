//! One scheduler for all step kernels: each distinct history of each utterance in flight goes
//! through the model once, and the histories that are ready, of whatever depth and utterance,
//! form one batch (cell-level batching, after Gao et al., EuroSys 2018, over the prefix trees
//! of Si et al., Interspeech 2013).

mod flight;
#[cfg(test)]
mod tests;

use std::task::Poll;
use std::time::Instant;

use flight::{Flight, NONE, Plan, States, push_window};

use super::{BOUNDARY, Carry, Demand, Job, Limits, Rows, Scorer, Scores, Slot, StepKernel, Wanted, Work};
use crate::trie::ROOT;
use crate::{Error, Result};

/// A [`Scorer`] over a [`StepKernel`].
///
/// Utterances join and leave at every step; the oldest are served first. No history of an
/// utterance is computed twice, and a state is freed when its last continuation has been.
pub struct Scheduler<K> {
    kernel: K,
    lm: String,
    limits: Limits,
    flights: Vec<Option<Flight>>,
    /// Slots with work left, oldest first.
    order: Vec<usize>,
    states: States,
    /// Seconds a row took lately; 0 before the first step.
    row_seconds: f64,
    work: Work,
    batch: Batch,
}

/// The rows of the step being put together; kept to reuse its memory.
#[derive(Default)]
struct Batch {
    /// (slot, unit) of each row; rows of one slot are neighbours.
    rows: Vec<(usize, u32)>,
    tokens: Vec<u32>,
    from: Vec<u32>,
    to: Vec<u32>,
    wanted: Vec<u32>,
    offsets: Vec<u32>,
    out: Vec<f32>,
}

impl<K: StepKernel> Scheduler<K> {
    /// A scheduler for the model called `lm` in errors.
    pub fn new(kernel: K, lm: &str, limits: &Limits) -> Self {
        Self {
            kernel,
            lm: lm.to_owned(),
            limits: limits.clone(),
            flights: Vec::new(),
            order: Vec::new(),
            states: States::default(),
            row_seconds: 0.0,
            work: Work::default(),
            batch: Batch::default(),
        }
    }

    /// How many rows the next step may have: the limit, or what `step_time` allows at the speed
    /// seen so far.
    fn bound(&self) -> usize {
        let rows = self.limits.rows.max(1);
        match self.limits.step_time {
            Some(time) if !self.limits.alone && self.row_seconds > 0.0 => {
                ((time.as_secs_f64() / self.row_seconds) as usize).clamp(1, rows)
            }
            _ => rows,
        }
    }

    /// Takes ready units off the flights, oldest flight first. Younger ones fill the step up, unless
    /// a full step would make the oldest miss its deadline; one that cannot make its own even alone
    /// takes no time from the others.
    fn gather(&mut self) {
        let bound = self.bound();
        let now = Instant::now();
        let seconds = |rows: usize, steps: usize| rows as f64 * self.row_seconds * steps as f64;
        let rows = &mut self.batch.rows;
        rows.clear();
        let mut most = bound;
        let mut hopeless = None;
        for &slot in &self.order {
            let Some(flight) = &mut self.flights[slot] else { continue };
            let slack =
                flight.job.deadline.map(|deadline| deadline.saturating_duration_since(now).as_secs_f64());
            if slack.is_some_and(|slack| seconds(flight.ready.len(), flight.depth) > HOPELESS * slack) {
                hopeless = hopeless.or(Some(slot));
                continue;
            }
            flight.take_ready(slot, most, rows);
            if let Some(slack) = slack {
                // As many rows as leave every flight taken so far its time.
                let steps = flight.depth.max(1);
                let fitting = (slack / (self.row_seconds * steps as f64)).min(bound as f64) as usize;
                most = most.min(fitting.max(rows.len()));
            }
            if rows.len() >= most || (self.limits.alone && !rows.is_empty()) {
                break;
            }
        }
        // Better a try than none: nobody else wants the time.
        if let (true, Some(slot)) = (rows.is_empty(), hopeless)
            && let Some(flight) = &mut self.flights[slot]
        {
            flight.take_ready(slot, bound, rows);
        }
    }

    /// Runs rows `range` of the batch as one call of the kernel.
    fn run(&mut self, range: std::ops::Range<usize>) -> Result<()> {
        let window = self.kernel.window();
        let batch = &mut self.batch;
        batch.tokens.clear();
        batch.from.clear();
        batch.to.clear();
        batch.wanted.clear();
        batch.offsets.clear();
        batch.offsets.push(0);
        for &(slot, unit) in &batch.rows[range.clone()] {
            let Some(flight) = &mut self.flights[slot] else {
                return Err(Error::Internal("a row without its job".into()));
            };
            let (trie, plan) = (&flight.job.trie, &flight.plan);
            let node = plan.node[unit as usize];
            match window {
                Some(length) => push_window(trie, node, length, &mut batch.tokens),
                None => {
                    batch.tokens.push(trie.token[node as usize]);
                    // Set already when the row is run again after its batch failed.
                    let to = match flight.state[unit as usize] {
                        NONE => self.states.take(),
                        state => state,
                    };
                    flight.state[unit as usize] = to;
                    self.kernel.reserve(self.states.count as usize)?;
                    let from = if node == ROOT {
                        // The start is written where the result goes: a row may overwrite its own.
                        match &flight.job.start {
                            Some(carry) => self.kernel.load(to, carry)?,
                            None => self.kernel.reset(to),
                        }
                        to
                    } else {
                        flight.state[plan.unit[trie.parent[node as usize] as usize] as usize]
                    };
                    batch.from.push(from);
                    batch.to.push(to);
                }
            }
            let children = plan.children(unit);
            batch.wanted.extend(children.iter().map(|&child| trie.token[child as usize]));
            if flight.job.boundaries && plan.boundary[unit as usize] {
                batch.wanted.push(BOUNDARY);
            }
            batch.offsets.push(batch.wanted.len() as u32);
        }
        batch.out.clear();
        batch.out.resize(batch.wanted.len(), f32::NAN);
        let started = Instant::now();
        let result = self.kernel.run(
            Rows { tokens: &batch.tokens, from: &batch.from, to: &batch.to },
            Wanted { tokens: &batch.wanted, offsets: &batch.offsets },
            &mut batch.out,
        );
        let per_row = started.elapsed().as_secs_f64() / range.len() as f64;
        self.row_seconds =
            if self.row_seconds == 0.0 { per_row } else { 0.7 * self.row_seconds + 0.3 * per_row };
        self.work.steps += 1;
        self.work.rows += range.len() as u64;
        result?;
        self.spread(range);
        Ok(())
    }

    /// Hands the results of rows `range` to their jobs.
    fn spread(&mut self, range: std::ops::Range<usize>) {
        let batch = &self.batch;
        for (row, &(slot, unit)) in batch.rows[range].iter().enumerate() {
            let Some(flight) = &mut self.flights[slot] else { continue };
            let out = &batch.out[batch.offsets[row] as usize..batch.offsets[row + 1] as usize];
            flight.receive(unit, out, &mut self.states);
        }
    }

    /// Gives up the jobs whose rows are in `range`.
    fn fail(&mut self, range: std::ops::Range<usize>, error: &Error) {
        let slots: Vec<usize> = self.batch.rows[range].iter().map(|&(slot, _)| slot).collect();
        for slot in slots {
            if let Some(flight) = &mut self.flights[slot] {
                flight.failed = Some(error.to_string());
                flight.left = 0;
                flight.ready.clear();
            }
        }
    }

    fn flight(&mut self, slot: Slot) -> Result<&mut Flight> {
        self.flights
            .get_mut(slot.0)
            .and_then(Option::as_mut)
            .ok_or_else(|| Error::Internal(format!("{}: no job in slot {}", self.lm, slot.0)))
    }
}

impl<K: StepKernel> Scorer for Scheduler<K> {
    fn submit(&mut self, job: Job) -> Result<Slot> {
        let plan = Plan::new(&job.trie, self.kernel.window());
        let recurrent = self.kernel.window().is_none();
        let flight = Flight::new(job, plan, recurrent);
        self.work.raw += flight.job.trie.raw;
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
        let ready =
            self.order.iter().filter_map(|&slot| self.flights[slot].as_ref()).map(|f| f.ready.len()).sum();
        Demand { ready, wanted: if self.limits.alone { 1 } else { self.bound() } }
    }

    fn step(&mut self) -> Result<()> {
        self.gather();
        let rows = self.batch.rows.len();
        if rows == 0 {
            return Ok(());
        }
        if let Err(error) = self.run(0..rows) {
            // Somebody's rows spoilt the batch: each job alone, so that only the guilty fail.
            let mut start = 0;
            while start < rows {
                let slot = self.batch.rows[start].0;
                let end = start + self.batch.rows[start..].iter().take_while(|row| row.0 == slot).count();
                if start == 0 && end == rows {
                    self.fail(0..rows, &error);
                } else if let Err(error) = self.run(start..end) {
                    self.fail(start..end, &error);
                }
                start = end;
            }
        }
        let flights = &self.flights;
        self.order.retain(|&slot| flights[slot].as_ref().is_some_and(|flight| flight.left > 0));
        Ok(())
    }

    fn take(&mut self, slot: Slot) -> Poll<Result<Scores>> {
        let lm = self.lm.clone();
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
        Poll::Ready(Ok(Scores::Nodes {
            ln: std::mem::take(&mut flight.ln),
            boundary: std::mem::take(&mut flight.boundary),
            order: Vec::new(),
        }))
    }

    fn cancel(&mut self, slot: Slot) {
        self.order.retain(|&other| other != slot.0);
        if let Ok(flight) = self.flight(slot) {
            flight.failed = Some("cancelled".into());
            flight.left = 0;
            flight.ready.clear();
        }
    }

    fn carry(&mut self, slot: Slot, node: u32) -> Result<Option<Carry>> {
        if !self.kernel.carries() {
            return Ok(None);
        }
        let flight = self.flight(slot)?;
        if !flight.job.keep {
            return Ok(None);
        }
        let trie = flight.job.trie.clone();
        if let Some(state) = flight.state_of(node) {
            return Ok(Some(self.kernel.save(state)));
        }
        // A leaf: its parent's state is kept, one more token leads there.
        let Some(from) = (node != ROOT).then(|| flight.state_of(trie.parent[node as usize])).flatten() else {
            return Ok(None);
        };
        let to = self.states.take();
        let token = [trie.token[node as usize]];
        let rows = Rows { tokens: &token, from: &[from], to: &[to] };
        let nothing = Wanted { tokens: &[], offsets: &[0, 0] };
        let room = self.kernel.reserve(self.states.count as usize);
        let result = room.and_then(|()| self.kernel.run(rows, nothing, &mut []));
        self.work.steps += 1;
        self.work.rows += 1;
        let carry = result.map(|()| Some(self.kernel.save(to)));
        self.states.give(to);
        carry
    }

    fn release(&mut self, slot: Slot) {
        self.order.retain(|&other| other != slot.0);
        if let Some(flight) = self.flights.get_mut(slot.0).and_then(Option::take) {
            for state in flight.state {
                self.states.give(state);
            }
        }
    }

    fn work(&self) -> Work {
        self.work
    }
}

/// A job that needs this many times the time it has left is given none: estimates are rough.
const HOPELESS: f64 = 2.0;
