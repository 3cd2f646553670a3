//! The step kernel of models whose layers are run here.

use std::sync::Arc;

use super::super::kernel::known;
use super::super::product::Team;
use super::super::signature::Signature;
use super::super::typical::Shows;
use super::stack::{Arena, Saved, Scratch, Stack};
use crate::lm::{self, Carry, Rows, StepKernel, Wanted};
use crate::{Error, Result};

/// Runs a [`Stack`] step by step.
pub struct CellKernel {
    lm: Arc<str>,
    signature: Arc<Signature>,
    stack: Arc<Stack>,
    arena: Arena,
    scratch: Scratch,
    team: Team,
}

/// A state on its way from one utterance to the next, and whose it is.
struct Held(Arc<Stack>, Saved);

impl CellKernel {
    /// A kernel that divides a step among so many threads.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn new(lm: Arc<str>, signature: Arc<Signature>, stack: Arc<Stack>, threads: usize) -> Result<Self> {
        let (arena, team) = (Arena::new(&stack), Team::new(threads)?);
        stack.join();
        Ok(Self { lm, signature, stack, arena, scratch: Scratch::default(), team })
    }

    /// The model, if this is its only kernel.
    pub fn into_stack(self) -> Option<Stack> {
        let stack = self.stack.clone();
        drop(self);
        Arc::into_inner(stack)
    }

    fn check(&self, states: &[&[u32]], tokens: &[u32], wanted: Wanted<'_>, out: usize) -> Result<()> {
        let count = self.arena.count();
        let rows = states[0].len();
        let there = states
            .iter()
            .all(|states| states.len() == rows && states.iter().all(|&state| (state as usize) < count));
        if !there || !wanted.fits(rows, out) {
            return Err(Error::Internal(format!("{}: rows that do not fit the states", self.lm)));
        }
        known(tokens, wanted, &self.signature).map_err(|what| self.fail(what))
    }

    fn fail(&self, what: String) -> Error {
        Error::Inference { lm: self.lm.to_string(), what }
    }
}

impl Drop for CellKernel {
    fn drop(&mut self) {
        self.stack.leave();
    }
}

impl StepKernel for CellKernel {
    fn window(&self) -> Option<usize> {
        None
    }

    fn state_bytes(&self) -> usize {
        self.signature.state_bytes()
    }

    fn reserve(&mut self, count: usize) -> Result<()> {
        if self.arena.reserve(&self.stack, count) {
            return Ok(());
        }
        Err(self.fail(format!("no memory for {count} states; lower --jobs or the batch size")))
    }

    fn reset(&mut self, state: u32) {
        self.arena.reset(&self.stack, state);
    }

    fn load(&mut self, state: u32, carry: &Carry) -> Result<()> {
        let held = carry.0.downcast_ref::<Held>().filter(|held| Arc::ptr_eq(&held.0, &self.stack));
        let held = held.ok_or_else(|| self.fail("a carried state is another model's".to_owned()))?;
        self.arena.load(&self.stack, state, &held.1);
        Ok(())
    }

    fn save(&self, state: u32) -> Carry {
        Carry(Arc::new(Held(self.stack.clone(), self.arena.save(&self.stack, state))))
    }

    fn run(&mut self, rows: Rows<'_>, wanted: Wanted<'_>, out: &mut [f32]) -> Result<()> {
        let n = rows.tokens.len();
        if rows.from.len() != n {
            return Err(Error::Internal(format!("{}: rows that do not fit the states", self.lm)));
        }
        self.check(&[rows.from, rows.to], rows.tokens, wanted, out.len())?;
        if let Some(error) = crate::faults::io("onnx::run") {
            return Err(self.fail(error.to_string()));
        }
        for first in (0..n).step_by(MOST_ROWS) {
            let part = first..(first + MOST_ROWS).min(n);
            let wanted = Wanted { offsets: &wanted.offsets[first..=part.end], ..wanted };
            let rows = rows.slice(part);
            self.stack.step(rows, wanted, out, &mut self.arena, &mut self.scratch, &self.team);
        }
        Ok(())
    }

    fn run_levels(&mut self, rows: Rows<'_>, levels: &[u32]) -> Result<()> {
        if self.stack.is_reduced() {
            return lm::level_by_level(self, rows, levels);
        }
        let nothing = vec![0; rows.tokens.len() + 1];
        self.check(&[rows.from, rows.to], rows.tokens, Wanted { tokens: &[], offsets: &nothing }, 0)?;
        if rows.from.len() != rows.tokens.len() || !fit(levels, rows.tokens.len()) {
            return Err(Error::Internal(format!("{}: levels that do not fit the rows", self.lm)));
        }
        if let Some(error) = crate::faults::io("onnx::run") {
            return Err(self.fail(error.to_string()));
        }
        let mut levels = levels;
        while let [first, _, ..] = *levels {
            let most =
                levels.iter().take_while(|&&end| (end - first) as usize <= MOST_ROWS_OF_LEVELS).count();
            // A level of more is one by itself.
            let (part, _) = levels.split_at(most.max(2));
            let ends: Vec<u32> = part.iter().map(|end| end - first).collect();
            let rows = rows.slice(first as usize..part[part.len() - 1] as usize);
            self.stack.run_levels(rows, &ends, &mut self.arena, &mut self.scratch, &self.team);
            levels = &levels[part.len() - 1..];
        }
        Ok(())
    }

    fn again(&mut self, states: &[u32], wanted: Wanted<'_>, out: &mut [f32]) -> Option<Result<()>> {
        let checked = self.check(&[states], &[], wanted, out.len());
        Some(checked.map(|()| {
            self.stack.again(states, wanted, out, &mut self.arena, &mut self.scratch, &self.team);
        }))
    }
}

/// Whether levels are all of so many rows, in order.
fn fit(levels: &[u32], rows: usize) -> bool {
    let ends = (levels.first(), levels.last());
    levels.is_sorted() && ends == (Some(&0), Some(&(rows as u32)))
}

impl Shows for CellKernel {
    fn shown(&self, state: u32) -> Vec<f32> {
        self.stack.shown(&self.arena, state).take(self.stack.head.width()).collect()
    }
}

/// Larger steps are run in parts: more rows make a product no faster, and take memory.
const MOST_ROWS: usize = 512;
/// Levels that have more rows together are run in parts: their sums are to stay in the cache.
const MOST_ROWS_OF_LEVELS: usize = 128;
