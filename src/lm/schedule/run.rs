//! One step: rows through the kernel, answers to those who wait for them, and what that leads to.

use std::time::Instant;

use super::flight::push_window;
use super::histories::{NONE, Waiter};
use super::{Scheduler, enter};
use crate::lm::{Rows, StepKernel, Wanted};
use crate::{Error, Result};

impl<K: StepKernel> Scheduler<K> {
    /// Runs rows `range` of the batch as one call of the kernel.
    fn run(&mut self, range: std::ops::Range<usize>) -> Result<()> {
        let window = self.kernel.window();
        let later = self.answers_later(range.len());
        self.batch.clear();
        for at in range.clone() {
            let batch = &mut self.batch;
            let row = batch.rows[at];
            let begin = batch.wanted.len();
            let asking = &self.histories.entries[row as usize].waiting;
            let asking = if later { &[] } else { &asking[..] };
            batch.asked.push(asking.len());
            for (at, waiter) in asking.iter().enumerate() {
                let Some(flight) = &self.flights[waiter.slot as usize] else { continue };
                match at {
                    0 => batch.wanted.extend(flight.questions(waiter.unit)),
                    _ => {
                        for token in flight.questions(waiter.unit) {
                            if !batch.wanted[begin..].contains(&token) {
                                batch.wanted.push(token);
                            }
                        }
                    }
                }
            }
            batch.offsets.push(batch.wanted.len() as u32);
            let entry = &self.histories.entries[row as usize];
            if let Some(length) = window {
                let first = entry.waiting.first();
                let flight =
                    first.and_then(|first| Some((first, self.flights[first.slot as usize].as_ref()?)));
                let (first, flight) =
                    flight.ok_or_else(|| Error::Internal("a row without its job".into()))?;
                let node = flight.plan.node[first.unit as usize];
                push_window(&flight.job.trie, node, length, &mut batch.tokens);
                continue;
            }
            self.place(row)?;
        }
        let batch = &mut self.batch;
        batch.out.clear();
        batch.out.resize(batch.wanted.len(), f32::NAN);
        let started = Instant::now();
        let result = self.kernel.run(
            Rows { tokens: &batch.tokens, from: &batch.from, to: &batch.to },
            Wanted { tokens: &batch.wanted, offsets: &batch.offsets },
            &mut batch.out,
        );
        self.count(started, range.len(), 1);
        result?;
        self.spread(range, later);
        Ok(())
    }

    /// Adds a history to the rows of the batch, with a state for what comes after it.
    pub(super) fn place(&mut self, number: u32) -> Result<()> {
        let to = self.histories.states.take();
        self.batch.to.push(to);
        let count = self.histories.states.count as usize;
        // A few at once: growing may copy all of them.
        self.kernel.reserve(count.next_multiple_of(STATES_AT_ONCE))?;
        let from = self.begin(number, to)?;
        self.batch.from.push(from);
        self.batch.tokens.push(self.histories.entries[number as usize].token);
        Ok(())
    }

    /// The state that a history's row starts from.
    pub(super) fn begin(&mut self, number: u32, to: u32) -> Result<u32> {
        let entry = &self.histories.entries[number as usize];
        if entry.parent != NONE {
            return Ok(self.histories.entries[entry.parent as usize].state);
        }
        // The start is written where the result goes: a row may overwrite its own.
        match &entry.carry {
            Some(carry) => self.kernel.load(to, carry)?,
            None => self.kernel.reset(to),
        }
        Ok(to)
    }

    /// Counts what was run.
    pub(super) fn count(&mut self, started: Instant, rows: usize, steps: usize) {
        let per_row = started.elapsed().as_secs_f64() / rows as f64;
        self.row_seconds =
            if self.row_seconds == 0.0 { per_row } else { 0.7 * self.row_seconds + 0.3 * per_row };
        self.work.steps += steps as u64;
        self.work.rows += rows as u64;
    }

    /// Whether a step of so many rows only computes states: a small step costs a whole pass over the output
    /// layer's weights, which one pass for the rows of several steps saves. Not where time is measured out:
    /// steps must then all cost alike. Nor where utterances are kept apart: one pass answers several.
    ///
    /// Nor while anybody watches. A focus names ends, and is moved after each step by what the step
    /// answered: a history that has its answers late has by then led on to all that the old focus let
    /// through, which may be every history of the list.
    pub(super) fn answers_later(&self, rows: usize) -> bool {
        let watched =
            self.flights.iter().flatten().any(|flight| flight.is_focused() || flight.job.deadline.is_some());
        self.answers
            && self.kernel.window().is_none()
            && self.limits.step_time.is_none()
            && !self.limits.alone
            && rows < self.small()
            && !watched
    }

    /// From so many rows on a step is at full speed.
    pub(super) fn small(&self) -> usize {
        SMALL.min(self.limits.rows.div_ceil(2))
    }

    /// Answers those who wait for it, once they are enough, a step is full or there is nothing else to do.
    pub(super) fn answer_in_time(&mut self, full: bool) {
        let ready = |slot: &usize| self.flights[*slot].as_ref().is_some_and(|flight| flight.rows() > 0);
        let enough = self.found.len() >= self.limits.rows || full;
        if enough || !self.order.iter().any(ready) {
            self.answer();
        }
    }

    /// Runs the rows of the batch one by one after they failed together, so that only the guilty fail.
    pub(super) fn each_alone(&mut self, error: &Error) {
        let rows = self.batch.rows.len();
        for row in 0..rows {
            let waiting = &self.histories.entries[self.batch.rows[row] as usize].waiting;
            let failed = |waiter: &Waiter| {
                self.flights[waiter.slot as usize].as_ref().is_none_or(|flight| flight.left == 0)
            };
            if rows == 1 || waiting.iter().all(failed) {
                self.fail(row, error);
            } else if let Err(error) = self.try_run(row..row + 1) {
                self.fail(row, &error);
            }
        }
    }

    /// Runs rows of the batch; gives the states back that a failed run had taken.
    pub(super) fn try_run(&mut self, range: std::ops::Range<usize>) -> Result<()> {
        let result = self.run(range);
        if result.is_err() {
            for to in self.batch.to.drain(..) {
                self.histories.states.give(to);
            }
        }
        result
    }

    /// Hands the results of rows `range` to all who wait for them.
    fn spread(&mut self, range: std::ops::Range<usize>, later: bool) {
        for row in range.clone() {
            let number = self.batch.rows[row];
            if later {
                self.lead_on(number, self.batch.to[row - range.start]);
                continue;
            }
            let entry = &mut self.histories.entries[number as usize];
            entry.queued = false;
            std::mem::swap(&mut self.batch.served, &mut entry.waiting);
            if let Some(&to) = self.batch.to.get(row - range.start) {
                match entry.state {
                    NONE => entry.state = to,
                    // It was run again for further answers.
                    _ => self.histories.states.give(to),
                }
            }
            let segment = row - range.start;
            let asked = self.batch.asked[segment];
            let segment = self.batch.offsets[segment] as usize..self.batch.offsets[segment + 1] as usize;
            if !self.answers && !self.limits.alone && !self.batch.to.is_empty() {
                let entry = &mut self.histories.entries[number as usize];
                for at in segment.clone() {
                    entry.learn(self.batch.wanted[at], self.batch.out[at]);
                }
            }
            self.work.shared += asked.saturating_sub(1) as u64;
            for at in 0..self.batch.served.len() {
                let waiter = self.batch.served[at];
                let Some(flight) = &mut self.flights[waiter.slot as usize] else { continue };
                if flight.left == 0 {
                    continue; // it failed
                }
                if at >= asked {
                    // It came by an earlier row of this very step, and its questions were not asked.
                    match self.answers {
                        true => self.found.push(waiter),
                        false => self.histories.entries[number as usize].waiting.push(waiter),
                    }
                    continue;
                }
                let (wanted, out) = (&self.batch.wanted[segment.clone()], &self.batch.out[segment.clone()]);
                let answer = |at: usize, token: u32| {
                    // The first who waited has its answers in its own order.
                    let same = wanted.get(at).is_some_and(|&wanted| wanted == token);
                    let at = if same { Some(at) } else { wanted.iter().position(|&wanted| wanted == token) };
                    at.map_or(f32::NAN, |at| out[at])
                };
                flight.receive(waiter.unit, answer, &mut self.histories, &mut self.born);
                self.born(waiter.slot, false);
            }
            self.batch.served.clear();
        }
        match later {
            true => self.answer_in_time(self.batch.rows.len() >= self.small()),
            false => self.answer(),
        }
    }

    /// The state after a history is `to`. Who waits for the history comes to what continues it, and has its
    /// answers later.
    pub(super) fn lead_on(&mut self, number: u32, to: u32) {
        let entry = &mut self.histories.entries[number as usize];
        entry.queued = false;
        entry.state = to;
        let mut waiting = std::mem::take(&mut entry.waiting);
        self.work.shared += waiting.len().saturating_sub(1) as u64;
        for waiter in waiting.drain(..) {
            let Some(flight) = &mut self.flights[waiter.slot as usize] else { continue };
            if flight.left == 0 {
                continue; // it failed
            }
            self.found.push(waiter);
            flight.feed(waiter.unit, &mut self.born);
            self.born(waiter.slot, true);
        }
        // Whose memory is kept. Nobody waits for what is there.
        self.histories.entries[number as usize].waiting = waiting;
    }

    /// Units of a job whose history before has been run: each is found among the histories, or waits. If
    /// answers come later, those that are found need not wait for them to lead on.
    fn born(&mut self, slot: u32, later: bool) {
        let Some(flight) = &mut self.flights[slot as usize] else { return };
        let mut at = 0;
        while let Some(&unit) = self.born.get(at) {
            at += 1;
            let node = flight.plan.node[unit as usize];
            let trie = &flight.job.trie;
            let parent = flight.plan.unit[trie.parent[node as usize] as usize];
            let entry = self.histories.after(flight.entry[parent as usize], trie.token[node as usize]);
            let known = self.histories.entries[entry as usize].state != NONE;
            enter(flight, Waiter { slot, unit }, entry, &mut self.histories, &mut self.found);
            if later && known {
                self.work.hits += 1;
                flight.feed(unit, &mut self.born);
            }
        }
        self.born.clear();
    }

    /// Answers those whose history has been run before, and those that become known by that, and so on.
    /// What the kernel would have to run again becomes a row.
    pub(super) fn answer(&mut self) {
        // After a failure each is answered alone, so that only the guilty fail.
        let mut suspects = Vec::new();
        loop {
            if self.found.is_empty() {
                self.found.extend(suspects.pop());
            }
            let flights = &self.flights;
            let there = |slot: u32| flights[slot as usize].as_ref().is_some_and(|flight| flight.left > 0);
            self.found.retain(|waiter| there(waiter.slot));
            if self.found.is_empty() {
                if suspects.is_empty() {
                    return;
                }
                continue;
            }
            let batch = &mut self.batch;
            std::mem::swap(&mut batch.served, &mut self.found);
            batch.from.clear();
            batch.wanted.clear();
            batch.offsets.clear();
            batch.offsets.push(0);
            for waiter in &batch.served {
                let Some(flight) = &self.flights[waiter.slot as usize] else { continue };
                let state = self.histories.entries[flight.entry[waiter.unit as usize] as usize].state;
                batch.from.push(state);
                batch.wanted.extend(flight.questions(waiter.unit));
                batch.offsets.push(batch.wanted.len() as u32);
            }
            batch.out.clear();
            batch.out.resize(batch.wanted.len(), f32::NAN);
            let mut failed = None;
            if self.answers {
                let wanted = Wanted { tokens: &batch.wanted, offsets: &batch.offsets };
                failed = self.kernel.again(&batch.from, wanted, &mut batch.out).and_then(Result::err);
            }
            if failed.is_some() && self.batch.served.len() > 1 {
                // The first comes off first: a history has its answers before those that continue it.
                suspects.extend(self.batch.served.drain(..).rev());
                continue;
            }
            for at in 0..self.batch.served.len() {
                let waiter = self.batch.served[at];
                let Some(flight) = &mut self.flights[waiter.slot as usize] else { continue };
                if let Some(error) = &failed {
                    flight.fail(error);
                    continue;
                }
                let first = self.batch.offsets[at] as usize;
                let entry = flight.entry[waiter.unit as usize];
                if !self.answers {
                    let entry = &mut self.histories.entries[entry as usize];
                    let tokens = &self.batch.wanted[first..self.batch.offsets[at + 1] as usize];
                    let mut known = true;
                    for (&token, out) in tokens.iter().zip(&mut self.batch.out[first..]) {
                        match entry.answer(token) {
                            Some(value) => *out = value,
                            None => known = false,
                        }
                    }
                    if !known {
                        entry.waiting.push(waiter);
                        flight.wait(waiter.unit);
                        continue;
                    }
                }
                self.work.hits += u64::from(!flight.is_fed(waiter.unit));
                let out = &self.batch.out;
                flight.receive(waiter.unit, |at, _| out[first + at], &mut self.histories, &mut self.born);
                self.born(waiter.slot, false);
            }
            self.batch.served.clear();
        }
    }

    /// Gives up the jobs that wait for a row.
    fn fail(&mut self, row: usize, error: &Error) {
        let entry = &mut self.histories.entries[self.batch.rows[row] as usize];
        entry.queued = false;
        for waiter in entry.waiting.drain(..) {
            if let Some(flight) = &mut self.flights[waiter.slot as usize] {
                flight.fail(error);
            }
        }
    }
}

/// Rows that make any step a large one.
const SMALL: usize = 64;
/// The arena grows by so many states.
const STATES_AT_ONCE: usize = 64;
