//! Small steps ahead of their answers: a list's tokens are all known, so what follows the rows of a step can
//! be run by the same call of the kernel, which makes more of many rows.

use std::time::Instant;

use super::histories::NONE;
use super::{Scheduler, take_ready};
use crate::lm::{Rows, StepKernel, Wanted};
use crate::{Error, Result};

impl<K: StepKernel> Scheduler<K> {
    /// Runs the rows of the batch, which are few, and those that they lead to, level after level, as long as
    /// these are few too, and all together no more than a step may have.
    pub(super) fn run_ahead(&mut self) {
        self.batch.clear();
        let refused = loop {
            let first = self.batch.tokens.len();
            let level = first..self.batch.rows.len();
            if let Err(error) = level.clone().try_for_each(|row| self.place(self.batch.rows[row])) {
                for to in self.batch.to.drain(first..) {
                    self.histories.states.give(to);
                }
                self.batch.tokens.truncate(first);
                self.batch.from.truncate(first);
                break Some((error, self.batch.rows.split_off(first)));
            }
            self.batch.levels.push(level.end as u32);
            level.for_each(|row| self.lead_on(self.batch.rows[row], self.batch.to[row]));
            if !self.take_level() {
                break None;
            }
        };
        self.run_levels();
        self.answer_in_time(false);
        if let Some((error, rest)) = refused {
            self.batch.rows = rest;
            self.each_alone(&error);
        }
    }

    /// Takes the rows that the last level led to, if they are few; false where there are none, or too many.
    fn take_level(&mut self) -> bool {
        if self.batch.levels.len() > MOST_LEVELS {
            return false;
        }
        let taken = self.batch.rows.len();
        let ready: usize = self
            .order
            .iter()
            .filter_map(|&slot| self.flights[slot].as_ref())
            .map(|flight| flight.rows())
            .sum();
        if ready >= self.small() || taken + ready > self.bound() {
            return false;
        }
        for &slot in &self.order {
            let Some(flight) = &mut self.flights[slot] else { continue };
            take_ready(flight, usize::MAX, &mut self.histories, &mut self.batch.rows);
        }
        self.batch.rows.len() > taken
    }

    /// Runs the levels of the batch. Who waited for them has been led on already.
    fn run_levels(&mut self) {
        let batch = &self.batch;
        if batch.tokens.is_empty() {
            return;
        }
        let started = Instant::now();
        let rows = Rows { tokens: &batch.tokens, from: &batch.from, to: &batch.to };
        let result = self.kernel.run_levels(rows, &batch.levels);
        self.count(started, batch.tokens.len(), batch.levels.len() - 1);
        if let Err(error) = result {
            for row in 0..self.batch.tokens.len() {
                self.run_again(row, &error);
            }
        }
    }

    /// Somebody's row spoilt the levels: each alone, so that only the guilty fail, with those that continue
    /// it.
    fn run_again(&mut self, row: usize, error: &Error) {
        let (number, to) = (self.batch.rows[row], self.batch.to[row]);
        let waits =
            |flight: &super::Flight, unit: u32| flight.left > 0 && flight.entry[unit as usize] == number;
        let live = self.found.iter().any(|waiter| {
            self.flights[waiter.slot as usize].as_ref().is_some_and(|flight| waits(flight, waiter.unit))
        });
        let result = if live && self.batch.tokens.len() > 1 { Some(self.run_one(number, to)) } else { None };
        let failed = match &result {
            Some(Ok(())) => return,
            Some(Err(own)) => own,
            None => error,
        };
        for waiter in &self.found {
            if let Some(flight) = &mut self.flights[waiter.slot as usize]
                && waits(flight, waiter.unit)
            {
                flight.fail(failed);
            }
        }
        self.histories.entries[number as usize].state = NONE;
        self.histories.states.give(to);
    }

    fn run_one(&mut self, number: u32, to: u32) -> Result<()> {
        let from = self.begin(number, to)?;
        let token = [self.histories.entries[number as usize].token];
        let rows = Rows { tokens: &token, from: &[from], to: &[to] };
        let started = Instant::now();
        let result = self.kernel.run(rows, Wanted { tokens: &[], offsets: &[0, 0] }, &mut []);
        self.count(started, 1, 1);
        result
    }
}

/// Whoever comes meanwhile waits for all of them; more of them gain little.
const MOST_LEVELS: usize = 16;
