//! The step kernel of recurrent ONNX models: one token a row, states in an arena.

use std::sync::Arc;

use super::session::{Outputs, Runner};
use super::signature::{Signature, State};
use crate::lm::{BOUNDARY, Carry, Rows, StepKernel, Wanted};
use crate::{Error, Result};

/// Runs a recurrent model step by step; made by `OnnxLm::kernel`.
pub struct OnnxKernel {
    lm: Arc<str>,
    signature: Arc<Signature>,
    runner: Runner,
    /// Tokens that start a word, and `</s>`.
    starts: Arc<[u32]>,
    /// Rows that one run of the session may have.
    chunk: usize,
    /// One vector per state tensor; index `i` lies at `i * size`.
    arena: Vec<Vec<f32>>,
    count: usize,
    ids: Vec<i64>,
    gathered: Vec<Vec<f32>>,
}

/// A state on its way from one utterance to the next.
struct Saved {
    /// Whose it is.
    signature: Arc<Signature>,
    values: Vec<Vec<f32>>,
}

impl OnnxKernel {
    pub(super) fn new(lm: Arc<str>, signature: Arc<Signature>, runner: Runner, starts: Arc<[u32]>) -> Self {
        let states = signature.states.len();
        // What one run gives back for a row: its scores and its states.
        let row = signature.vocab_size * size_of::<f32>() + signature.state_bytes();
        Self {
            lm,
            runner,
            starts,
            chunk: (MAX_OUTPUT_BYTES / row).max(1),
            arena: vec![Vec::new(); states],
            count: 0,
            ids: Vec::new(),
            gathered: vec![Vec::new(); states],
            signature,
        }
    }

    #[cfg(test)]
    pub(super) fn set_chunk(&mut self, rows: usize) {
        self.chunk = rows;
    }

    fn check(&self, rows: Rows<'_>, wanted: Wanted<'_>, out: usize) -> Result<()> {
        let size = self.signature.vocab_size;
        let n = rows.tokens.len();
        let states = rows.from.iter().chain(rows.to).all(|&state| (state as usize) < self.count);
        let offsets = &wanted.offsets;
        let fits = rows.from.len() == n
            && rows.to.len() == n
            && offsets.len() == n + 1
            && offsets.is_sorted()
            && offsets.last().is_some_and(|&last| last as usize <= wanted.tokens.len().min(out));
        if !states || !fits {
            return Err(Error::Internal(format!("{}: rows that do not fit the states", self.lm)));
        }
        let bad = rows.tokens.iter().chain(wanted.tokens.iter().filter(|&&token| token != BOUNDARY));
        match bad.copied().find(|&token| token as usize >= size) {
            Some(token) => Err(self.fail(format!("token {token} is outside the vocabulary of {size}"))),
            None => Ok(()),
        }
    }

    fn fail(&self, what: String) -> Error {
        Error::Inference { lm: self.lm.to_string(), what }
    }
}

impl StepKernel for OnnxKernel {
    fn window(&self) -> Option<usize> {
        None
    }

    fn reserve(&mut self, count: usize) -> Result<()> {
        for (state, values) in self.signature.states.iter().zip(&mut self.arena) {
            let numbers = count.saturating_mul(state.size());
            let more = numbers.saturating_sub(values.len());
            values.try_reserve_exact(more).map_err(|_| Error::Inference {
                lm: self.lm.to_string(),
                what: format!("no memory for {count} states; lower --jobs or the batch size"),
            })?;
            values.resize(numbers.max(values.len()), 0.0);
        }
        self.count = self.count.max(count);
        Ok(())
    }

    fn reset(&mut self, state: u32) {
        for (shape, values) in self.signature.states.iter().zip(&mut self.arena) {
            values[slot(shape, state)].fill(0.0);
        }
    }

    fn load(&mut self, state: u32, carry: &Carry) -> Result<()> {
        let saved =
            carry.0.downcast_ref::<Saved>().filter(|saved| Arc::ptr_eq(&saved.signature, &self.signature));
        let saved = saved.ok_or_else(|| self.fail("a carried state is another model's".to_owned()))?;
        for ((shape, values), from) in self.signature.states.iter().zip(&mut self.arena).zip(&saved.values) {
            values[slot(shape, state)].copy_from_slice(from);
        }
        Ok(())
    }

    fn save(&self, state: u32) -> Carry {
        let states = self.signature.states.iter().zip(&self.arena);
        let values = states.map(|(shape, values)| values[slot(shape, state)].to_vec()).collect();
        Carry(Arc::new(Saved { signature: self.signature.clone(), values }))
    }

    fn run(&mut self, rows: Rows<'_>, wanted: Wanted<'_>, out: &mut [f32]) -> Result<()> {
        self.check(rows, wanted, out.len())?;
        let signature = self.signature.clone();
        for first in (0..rows.tokens.len()).step_by(self.chunk) {
            let n = self.chunk.min(rows.tokens.len() - first);
            let chunk = first..first + n;
            self.ids.clear();
            self.ids.extend(rows.tokens[chunk.clone()].iter().map(|&token| i64::from(token)));
            for ((state, arena), to) in signature.states.iter().zip(&self.arena).zip(&mut self.gathered) {
                gather(state, arena, &rows.from[chunk.clone()], to);
            }
            let (arena, starts) = (&mut self.arena, &self.starts);
            let read = |outputs: Outputs<'_>| {
                for ((state, arena), from) in signature.states.iter().zip(arena).zip(outputs.states) {
                    scatter(state, from, &rows.to[chunk.clone()], arena);
                }
                let scores = outputs.log_probs.chunks_exact(signature.vocab_size);
                for (row, scores) in chunk.clone().zip(scores) {
                    let range = wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize;
                    for (&token, out) in wanted.tokens[range.clone()].iter().zip(&mut out[range]) {
                        *out = match token {
                            BOUNDARY => mass(scores, starts),
                            token => scores[token as usize],
                        };
                    }
                }
            };
            self.runner
                .run(&self.ids, n, 1, &self.gathered, read)
                .map_err(|what| Error::Inference { lm: self.lm.to_string(), what })?;
        }
        Ok(())
    }
}

fn slot(state: &State, index: u32) -> std::ops::Range<usize> {
    let size = state.size();
    index as usize * size..(index as usize + 1) * size
}

/// Copies the states of `from` into a tensor whose batch dimension is `state.batch`.
fn gather(state: &State, arena: &[f32], from: &[u32], tensor: &mut Vec<f32>) {
    let (outer, inner) = split(state);
    tensor.clear();
    tensor.reserve(outer * inner * from.len());
    for part in 0..outer {
        for &index in from {
            let at = slot(state, index).start + part * inner;
            tensor.extend_from_slice(&arena[at..at + inner]);
        }
    }
}

/// The inverse of [`gather`].
fn scatter(state: &State, tensor: &[f32], to: &[u32], arena: &mut [f32]) {
    let (outer, inner) = split(state);
    let mut values = tensor.chunks_exact(inner);
    for part in 0..outer {
        for (&index, values) in to.iter().zip(&mut values) {
            let at = slot(state, index).start + part * inner;
            arena[at..at + inner].copy_from_slice(values);
        }
    }
}

/// Numbers before and after the batch dimension.
fn split(state: &State) -> (usize, usize) {
    let (outer, inner) = state.dims.split_at(state.batch);
    (outer.iter().product(), inner.iter().product())
}

/// ln of the summed probability of `tokens`.
fn mass(scores: &[f32], tokens: &[u32]) -> f32 {
    tokens.iter().map(|&token| f64::from(scores[token as usize]).exp()).sum::<f64>().ln() as f32
}

/// What one run may give back; larger steps are run in parts.
const MAX_OUTPUT_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scatter_undoes_gather_for_every_batch_dimension() {
        for batch in 0..3 {
            let mut dims = vec![2, 3, 4];
            dims[batch] = 1;
            let state = State { input: String::new(), output: String::new(), dims, batch };
            let size = state.size();
            let arena: Vec<f32> = (0..5 * size).map(|i| i as f32).collect();
            let mut tensor = Vec::new();
            gather(&state, &arena, &[4, 0, 2], &mut tensor);
            // The tensor is row-major over the shape with 3 rows in the batch dimension.
            let (_, inner) = split(&state);
            assert_eq!(tensor[..inner], arena[4 * size..4 * size + inner]);
            assert_eq!(tensor[inner..2 * inner], arena[..inner]);
            let mut back = arena.clone();
            for index in [4, 0, 2] {
                back[slot(&state, index)].fill(-1.0);
            }
            scatter(&state, &tensor, &[4, 0, 2], &mut back);
            assert_eq!(back, arena);
        }
    }

    #[test]
    fn mass_is_a_log_of_a_sum_and_never_panics() {
        let scores = [0.25f32.ln(), 0.5f32.ln(), 0.25f32.ln()];
        assert!((mass(&scores, &[0, 2]) - 0.5f32.ln()).abs() < 1e-7);
        assert_eq!(mass(&[f32::NEG_INFINITY], &[0]), f32::NEG_INFINITY);
        assert!(mass(&[f32::NAN, 0.0], &[0, 1]).is_nan());
        assert_eq!(mass(&scores, &[]), f32::NEG_INFINITY);
    }
}
