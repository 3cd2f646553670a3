//! One scheduler for all step kernels: each distinct history of all utterances in flight goes
//! through the model once, and the histories that are ready, of whatever depth and utterance,
//! form one batch (cell-level batching, after Gao et al., EuroSys 2018, over the prefix trees
//! of Si et al., Interspeech 2013). Some of those that were run are remembered and need no row when
//! they come again.

mod ahead;
mod flight;
mod histories;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use flight::{Flight, push_window};
use histories::{Histories, NONE, Start, Waiter};

use super::{Carry, Demand, Job, Known, Limits, Rows, Scorer, Scores, Slot, StepKernel, Wanted, Work};
use crate::trie::ROOT;
use crate::{Error, Result};

/// A [`Scorer`] over a [`StepKernel`].
///
/// Utterances join and leave at every step; the oldest are served first. No history is computed twice
/// while somebody needs it, and its state is freed, or kept for those to come ([`Scorer::remember`]),
/// when its last continuation has been. Nothing is shared between jobs if `Limits::alone` is set.
pub struct Scheduler<K> {
    kernel: K,
    lm: String,
    limits: Limits,
    /// Whether the kernel answers again from a state.
    answers: bool,
    flights: Vec<Option<Flight>>,
    /// Flights that are over, for their memory.
    spare: Vec<Flight>,
    /// The job of those.
    nothing: Job,
    /// Slots with work left, oldest first.
    order: Vec<usize>,
    histories: Histories,
    /// Units whose history has been run, and who are not answered yet; those before go first.
    found: Vec<Waiter>,
    /// Continuations of the unit just received.
    born: Vec<u32>,
    jobs: u64,
    /// Seconds a row took lately; 0 before the first step.
    row_seconds: f64,
    work: Work,
    batch: Batch,
}

/// The rows of the step being put together; kept to reuse its memory.
#[derive(Default)]
struct Batch {
    /// The history of each row.
    rows: Vec<u32>,
    tokens: Vec<u32>,
    from: Vec<u32>,
    to: Vec<u32>,
    /// Where the levels begin that are run by one call, and where the last ends.
    levels: Vec<u32>,
    wanted: Vec<u32>,
    offsets: Vec<u32>,
    /// How many wait for each row whose questions are asked.
    asked: Vec<usize>,
    out: Vec<f32>,
    /// Those who wait for the row just run, or are being answered.
    served: Vec<Waiter>,
}

impl Batch {
    /// Forgets all but which histories are the rows.
    fn clear(&mut self) {
        self.tokens.clear();
        self.from.clear();
        self.to.clear();
        self.levels.clear();
        self.levels.push(0);
        self.wanted.clear();
        self.offsets.clear();
        self.offsets.push(0);
        self.asked.clear();
    }
}

impl<K: StepKernel> Scheduler<K> {
    /// A scheduler for the model called `lm` in errors.
    pub fn new(mut kernel: K, lm: &str, limits: &Limits) -> Self {
        let nothing = Wanted { tokens: &[], offsets: &[0] };
        let answers = kernel.again(&[], nothing, &mut []).is_some();
        Self {
            kernel,
            lm: lm.to_owned(),
            limits: limits.clone(),
            answers,
            flights: Vec::new(),
            spare: Vec::new(),
            nothing: Job {
                trie: Arc::default(),
                start: None,
                context: Arc::new([]),
                deadline: None,
                boundaries: false,
                keep: false,
            },
            order: Vec::new(),
            histories: Histories::default(),
            found: Vec::new(),
            born: Vec::new(),
            jobs: 0,
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
            if slack.is_some_and(|slack| seconds(flight.rows(), flight.depth) > HOPELESS * slack) {
                hopeless = hopeless.or(Some(slot));
                continue;
            }
            take_ready(flight, most, &mut self.histories, rows);
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
            take_ready(flight, bound, &mut self.histories, rows);
        }
    }

    fn flight(&mut self, slot: Slot) -> Result<&mut Flight> {
        self.flights
            .get_mut(slot.0)
            .and_then(Option::as_mut)
            .ok_or_else(|| Error::Internal(format!("{}: no job in slot {}", self.lm, slot.0)))
    }

    /// Takes a job; with `held`, no state of its histories is given back before it is released.
    fn enlist(&mut self, job: Job, held: bool) -> Result<Slot> {
        let window = self.kernel.window();
        self.work.raw += job.trie.raw;
        self.jobs += 1;
        let flight = Flight::new(job, window, held, self.spare.pop());
        let slot = self.flights.iter().position(Option::is_none).unwrap_or_else(|| {
            self.flights.push(None);
            self.flights.len() - 1
        });
        if flight.left > 0 {
            self.order.push(slot);
        }
        let carry = flight.job.start.as_ref();
        let start = Start {
            token: flight.job.trie.token[ROOT as usize],
            carry: carry.map_or(0, |carry| Arc::as_ptr(&carry.0).addr()),
            alone: if self.limits.alone { self.jobs } else { 0 },
        };
        let flight = self.flights[slot].insert(flight);
        let mut key = Vec::new();
        // A window's history is its tokens; a state's begins with the start.
        let first = if window.is_some() { flight.left } else { flight.left.min(1) };
        for unit in 0..first as u32 {
            let entry = match window {
                None => self.histories.start(start, flight.job.start.as_ref()),
                Some(length) => {
                    key.clear();
                    push_window(&flight.job.trie, flight.plan.node[unit as usize], length, &mut key);
                    let root = self.histories.start(Start { token: key[0], ..start }, None);
                    key[1..].iter().fold(root, |entry, &token| self.histories.after(entry, token))
                }
            };
            let waiter = Waiter { slot: slot as u32, unit };
            enter(flight, waiter, entry, &mut self.histories, &mut self.found);
        }
        self.answer();
        Ok(Slot(slot))
    }

    /// Lets go of all that a job holds.
    fn leave(&mut self, slot: usize) {
        self.found.retain(|waiter| waiter.slot as usize != slot);
        let Some(flight) = &mut self.flights[slot] else { return };
        for entry in &mut flight.entry {
            let entry = std::mem::replace(entry, NONE);
            if entry != NONE {
                self.histories.desert(entry, slot as u32);
                self.histories.leave(entry);
            }
        }
    }
}

/// A unit comes to its history: found if it has been run, else it waits for it.
fn enter(
    flight: &mut Flight,
    waiter: Waiter,
    entry: u32,
    histories: &mut Histories,
    found: &mut Vec<Waiter>,
) {
    flight.entry[waiter.unit as usize] = entry;
    histories.hold(entry);
    let entry = &mut histories.entries[entry as usize];
    if entry.state != NONE {
        found.push(waiter);
        return;
    }
    entry.waiting.push(waiter);
    flight.wait(waiter.unit);
}

/// Moves a flight's ready units to the rows of a step that may have `most` of them. A history that is a
/// row already takes no other.
fn take_ready(flight: &mut Flight, most: usize, histories: &mut Histories, rows: &mut Vec<u32>) {
    while rows.len() < most {
        let Some(unit) = flight.next_ready() else {
            flight.depth = flight.depth.saturating_sub(1);
            return;
        };
        let number = flight.entry[unit as usize];
        let entry = &mut histories.entries[number as usize];
        if std::mem::replace(&mut entry.queued, true) {
            continue;
        }
        rows.push(number);
    }
}

impl<K: StepKernel> Scorer for Scheduler<K> {
    fn submit(&mut self, job: Job) -> Result<Slot> {
        self.enlist(job, false)
    }

    fn submit_held(&mut self, job: Job) -> Result<Slot> {
        self.enlist(job, true)
    }

    fn demand(&self) -> Demand {
        let ready = self.order.iter().filter_map(|&slot| self.flights[slot].as_ref()).map(Flight::rows).sum();
        Demand { ready, wanted: if self.limits.alone { 1 } else { self.bound() } }
    }

    fn step(&mut self) -> Result<()> {
        self.gather();
        let rows = self.batch.rows.len();
        if !self.answers_later(rows) || rows == 0 {
            // A history gives its state back when all that continue it have their answers: it has its own first.
            self.answer();
        }
        match rows {
            0 => {}
            _ if self.answers_later(rows) => self.run_ahead(),
            _ => {
                if let Err(error) = self.try_run(0..rows) {
                    self.each_alone(&error);
                }
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
        self.found.retain(|waiter| waiter.slot as usize != slot.0);
        if let Ok(flight) = self.flight(slot) {
            flight.fail(&"cancelled");
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
        let state_of = |scheduler: &Self, node: u32| {
            let flight = scheduler.flights[slot.0].as_ref()?;
            let entry = flight.entry_of(node)?;
            Some(scheduler.histories.entries[entry as usize].state).filter(|&state| state != NONE)
        };
        if let Some(state) = state_of(self, node) {
            return Ok(Some(self.kernel.save(state)));
        }
        // A leaf: its parent's state is kept, one more token leads there.
        let Some(from) = (node != ROOT).then(|| state_of(self, trie.parent[node as usize])).flatten() else {
            return Ok(None);
        };
        let to = self.histories.states.take();
        let token = [trie.token[node as usize]];
        let rows = Rows { tokens: &token, from: &[from], to: &[to] };
        let nothing = Wanted { tokens: &[], offsets: &[0, 0] };
        let room = self.kernel.reserve(self.histories.states.count as usize);
        let result = room.and_then(|()| self.kernel.run(rows, nothing, &mut []));
        self.work.steps += 1;
        self.work.rows += 1;
        let carry = result.map(|()| Some(self.kernel.save(to)));
        self.histories.states.give(to);
        carry
    }

    fn release(&mut self, slot: Slot) {
        self.order.retain(|&other| other != slot.0);
        if slot.0 >= self.flights.len() {
            return;
        }
        self.leave(slot.0);
        if let Some(mut flight) = self.flights[slot.0].take()
            && self.spare.len() < SPARE
        {
            // Its trie, tensors and state are the caller's.
            flight.job = self.nothing.clone();
            self.spare.push(flight);
        }
    }

    fn work(&self) -> Work {
        self.work
    }

    fn remember(&mut self, bytes: usize) {
        let state = self.kernel.state_bytes();
        let shared = state > 0 && !self.limits.alone && self.kernel.window().is_none();
        self.histories.keep = if shared { bytes / (state + ENTRY_BYTES) } else { 0 };
    }

    fn known(&self, slot: Slot) -> Option<Known<'_>> {
        let flight = self.flights.get(slot.0)?.as_ref()?;
        let idle = flight.rows() == 0 && self.found.iter().all(|waiter| waiter.slot as usize != slot.0);
        Some(Known { ln: &flight.ln, boundary: &flight.boundary, idle })
    }

    fn focus(&mut self, slot: Slot, wanted: &[bool]) {
        if let Ok(flight) = self.flight(slot) {
            flight.focus(wanted);
        }
    }
}

/// Flights whose memory is kept; more are rarely in flight.
const SPARE: usize = 64;
/// About what a history takes beside its state.
const ENTRY_BYTES: usize = 160;
/// A job that needs this many times the time it has left is given none: estimates are rough.
const HOPELESS: f64 = 2.0;
