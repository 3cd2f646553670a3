//! The step kernel of models that are fed whole histories, or keep states that grow with them (key-value
//! caches): one row for each distinct history, rows of equal length in one batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kernel::{MAX_OUTPUT_BYTES, known};
use super::scores::Row;
use super::session::{Batch, Outputs, Runner};
use super::signature::{Signature, State};
use crate::lm::{BOUNDARY, Carry, Rows, StepKernel, Wanted};
use crate::{Error, Result};

/// Runs histories.
pub(super) struct PrefixKernel {
    lm: Arc<str>,
    signature: Arc<Signature>,
    runner: Runner,
    starts: Arc<[u32]>,
    histories: Vec<Arc<History>>,
    /// Whether only the last token is fed, because the states hold the others.
    last_only: bool,
}

/// A history, and the states after it.
#[derive(Default)]
struct History {
    tokens: Vec<i64>,
    /// Each in the shape of a batch of one.
    states: Vec<Vec<f32>>,
}

/// A state on its way from one utterance to the next.
struct Saved {
    signature: Arc<Signature>,
    history: Arc<History>,
}

impl PrefixKernel {
    /// With `last_only`, the states hold everything before the last token.
    pub fn new(
        lm: Arc<str>,
        signature: Arc<Signature>,
        runner: Runner,
        starts: Arc<[u32]>,
        last_only: bool,
    ) -> Self {
        Self { lm, signature, runner, starts, histories: Vec::new(), last_only }
    }

    fn fail(&self, what: String) -> Error {
        Error::Inference { lm: self.lm.to_string(), what }
    }

    fn start(&self) -> Arc<History> {
        // A state that grows is empty; one that does not is zeros.
        let empty = |state: &State| if state.grows.is_some() { Vec::new() } else { vec![0.0; state.size()] };
        let states = self.signature.states.iter().map(empty).collect();
        Arc::new(History { tokens: Vec::new(), states })
    }

    /// Runs rows whose histories are equally long.
    fn group(&mut self, group: &[usize], rows: Rows<'_>, wanted: Wanted<'_>, out: &mut [f32]) -> Result<()> {
        let signature = self.signature.clone();
        let from: Vec<Arc<History>> =
            group.iter().map(|&row| self.histories[rows.from[row] as usize].clone()).collect();
        let past = from[0].tokens.len();
        let length = if self.last_only { 1 } else { past + 1 };
        let mut ids = Vec::with_capacity(group.len() * length);
        for (&row, history) in group.iter().zip(&from) {
            if !self.last_only {
                ids.extend_from_slice(&history.tokens);
            }
            ids.push(i64::from(rows.tokens[row]));
        }
        let states: Vec<Vec<f32>> = (0..signature.states.len())
            .map(|at| stack(&signature.states[at], from.iter().map(|history| &history.states[at][..]), past))
            .collect();
        let starts = &self.starts;
        let read = |outputs: Outputs<'_>| -> Result<Vec<Arc<History>>, String> {
            let mut after = Vec::with_capacity(group.len());
            for (state, (shape, _)) in signature.states.iter().zip(outputs.states) {
                if state.grows.is_some_and(|at| shape[at] != past as i64 + 1) {
                    return Err(format!(
                        "state {} should grow by one with each token, it has the shape {shape:?}",
                        state.output
                    ));
                }
            }
            for (number, (&row, history)) in group.iter().zip(&from).enumerate() {
                let scores = Row::new(signature.kind, outputs.row(number, length - 1));
                let range = wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize;
                for (&token, out) in wanted.tokens[range.clone()].iter().zip(&mut out[range]) {
                    *out = match token {
                        BOUNDARY => scores.mass(starts),
                        token => scores.ln(token),
                    };
                }
                let mut tokens = Vec::with_capacity(past + 1);
                tokens.extend_from_slice(&history.tokens);
                tokens.push(i64::from(rows.tokens[row]));
                let states = signature.states.iter().zip(outputs.states);
                let states =
                    states.map(|(state, (_, values))| row_of(state, values, number, group.len(), past + 1));
                after.push(Arc::new(History { tokens, states: states.collect() }));
            }
            Ok(after)
        };
        // The states hold what came before the last token, however much of the history is fed.
        let batch = Batch { ids: &ids, rows: group.len(), length, past, states: &states, ..Batch::default() };
        let result = self.runner.run(&signature, batch, read);
        let after = result.and_then(|after| after).map_err(|what| self.fail(what))?;
        for (&row, history) in group.iter().zip(after) {
            self.histories[rows.to[row] as usize] = history;
        }
        Ok(())
    }
}

impl StepKernel for PrefixKernel {
    fn window(&self) -> Option<usize> {
        None
    }

    fn carries(&self) -> bool {
        false
    }

    fn reserve(&mut self, count: usize) -> Result<()> {
        let start = self.start();
        self.histories.resize(count.max(self.histories.len()), start);
        Ok(())
    }

    fn reset(&mut self, state: u32) {
        self.histories[state as usize] = self.start();
    }

    fn load(&mut self, state: u32, carry: &Carry) -> Result<()> {
        let saved =
            carry.0.downcast_ref::<Saved>().filter(|saved| Arc::ptr_eq(&saved.signature, &self.signature));
        let saved = saved.ok_or_else(|| self.fail("a carried state is another model's".to_owned()))?;
        self.histories[state as usize] = saved.history.clone();
        Ok(())
    }

    fn save(&self, state: u32) -> Carry {
        let history = self.histories[state as usize].clone();
        Carry(Arc::new(Saved { signature: self.signature.clone(), history }))
    }

    fn run(&mut self, rows: Rows<'_>, wanted: Wanted<'_>, out: &mut [f32]) -> Result<()> {
        let n = rows.tokens.len();
        let states = rows.from.iter().chain(rows.to).all(|&state| (state as usize) < self.histories.len());
        if !states || rows.from.len() != n || rows.to.len() != n || !wanted.fits(n, out.len()) {
            return Err(Error::Internal(format!("{}: rows that do not fit the states", self.lm)));
        }
        known(rows.tokens, wanted, &self.signature).map_err(|what| self.fail(what))?;
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for row in 0..n {
            groups.entry(self.histories[rows.from[row] as usize].tokens.len()).or_default().push(row);
        }
        for (past, group) in groups {
            let positions = if self.last_only { 1 } else { past + 1 };
            let row = positions * self.signature.vocab_size * size_of::<f32>()
                + (past + 1) * self.signature.state_bytes();
            for group in group.chunks((MAX_OUTPUT_BYTES / row.max(1)).max(1)) {
                self.group(group, rows, wanted, out)?;
            }
        }
        Ok(())
    }
}

/// States of one row each as the state of a batch.
fn stack<'a>(state: &State, rows: impl Iterator<Item = &'a [f32]> + Clone, past: usize) -> Vec<f32> {
    let (outer, inner) = split(state, past);
    let mut batch = Vec::new();
    for part in 0..outer {
        for row in rows.clone() {
            batch.extend_from_slice(&row[part * inner..(part + 1) * inner]);
        }
    }
    batch
}

/// One row of the state of a batch.
fn row_of(state: &State, batch: &[f32], row: usize, rows: usize, past: usize) -> Vec<f32> {
    let (outer, inner) = split(state, past);
    let parts = (0..outer).map(|part| (part * rows + row) * inner);
    parts.map(|at| &batch[at..at + inner]).collect::<Vec<_>>().concat()
}

/// Numbers before and after the batch dimension.
fn split(state: &State, past: usize) -> (usize, usize) {
    let size = |at: usize| if Some(at) == state.grows { past } else { state.dims[at] };
    ((0..state.batch).map(size).product(), (state.batch + 1..state.dims.len()).map(size).product())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_of_a_batch_as_they_went_in() {
        for (batch, grows) in [(0, Some(2)), (1, Some(0)), (1, None), (2, Some(1))] {
            let mut dims = vec![2, 3, 4];
            dims[batch] = 1;
            grows.iter().for_each(|&at: &usize| dims[at] = 1);
            let state = State { input: String::new(), output: String::new(), dims, batch, grows };
            let size = state.size() * if grows.is_some() { 5 } else { 1 };
            let rows: Vec<Vec<f32>> =
                (0..3).map(|row| (0..size).map(|i| (row * size + i) as f32).collect()).collect();
            let stacked = stack(&state, rows.iter().map(|row| &row[..]), 5);
            assert_eq!(stacked.len(), 3 * size);
            for (number, row) in rows.iter().enumerate() {
                assert_eq!(row_of(&state, &stacked, number, 3, 5), *row);
            }
        }
    }
}
