//! The step kernel of recurrent ONNX models: one token a row, states in an arena.

use std::sync::Arc;

use super::cut::Cut;
use super::head;
use super::scores::Row;
use super::session::{Batch, Outputs, Runner};
use super::signature::{Signature, State};
use super::typical::Shows;
use crate::lm::{BOUNDARY, Carry, Rows, StepKernel, Wanted};
use crate::{Error, Result};

/// Runs a recurrent model step by step; made by `OnnxLm::kernel`.
pub struct OnnxKernel {
    lm: Arc<str>,
    signature: Arc<Signature>,
    runner: Runner,
    /// Where the runner gives hidden states: the layer that makes scores of them.
    cut: Option<Cut>,
    scratch: head::Scratch,
    /// Tokens that start a word, and `</s>`.
    starts: Arc<[u32]>,
    /// Rows that one run of the session may have.
    chunk: usize,
    /// One vector per state tensor; index `i` lies at `i * size`.
    arena: Vec<Vec<f32>>,
    count: usize,
    ids: Vec<i64>,
    targets: Vec<i64>,
    gathered: Vec<Vec<f32>>,
    /// Hidden states that the last step left, each after the other, where a cut model is to show them.
    shown: Vec<f32>,
}

/// What one run of the session takes: a row, and the place among the wanted tokens of the one that a
/// model with targets is asked for.
#[derive(Clone, Copy)]
struct Line {
    row: usize,
    wanted: Option<usize>,
    /// Whether the row's new state is taken from here.
    last: bool,
}

/// A state on its way from one utterance to the next.
struct Saved {
    /// Whose it is.
    signature: Arc<Signature>,
    values: Vec<Vec<f32>>,
}

impl OnnxKernel {
    pub(super) fn new(
        lm: Arc<str>,
        signature: Arc<Signature>,
        runner: Runner,
        cut: Option<Cut>,
        starts: Arc<[u32]>,
    ) -> Self {
        let states = signature.states.len();
        // What one run gives back for a row: its scores or hidden state, and its states.
        let given = cut.as_ref().map_or(signature.vocab_size, |cut| cut.signature.vocab_size);
        let row = given * size_of::<f32>() + signature.state_bytes();
        Self {
            lm,
            runner,
            cut,
            scratch: head::Scratch::default(),
            starts,
            chunk: (MAX_OUTPUT_BYTES / row).max(1),
            arena: vec![Vec::new(); states],
            count: 0,
            ids: Vec::new(),
            targets: Vec::new(),
            gathered: vec![Vec::new(); states],
            shown: Vec::new(),
            signature,
        }
    }

    /// Keeps hidden states from now on, to show them.
    pub(super) fn showing(mut self, states: usize) -> Self {
        self.shown = vec![0.0; states * self.cut.as_ref().map_or(0, |cut| cut.signature.vocab_size)];
        self
    }

    pub(super) fn into_runner(self) -> Runner {
        self.runner
    }

    #[cfg(test)]
    pub(super) fn set_chunk(&mut self, rows: usize) {
        self.chunk = rows;
    }

    fn check(&self, rows: Rows<'_>, wanted: Wanted<'_>, out: usize) -> Result<()> {
        let states = rows.from.iter().chain(rows.to).all(|&state| (state as usize) < self.count);
        let n = rows.tokens.len();
        if !states || rows.from.len() != n || rows.to.len() != n || !wanted.fits(n, out) {
            return Err(Error::Internal(format!("{}: rows that do not fit the states", self.lm)));
        }
        if self.signature.targets.is_some() && wanted.tokens.contains(&BOUNDARY) {
            return Err(self.fail("it scores one token at a time and gives no word boundaries".to_owned()));
        }
        known(rows.tokens, wanted, &self.signature).map_err(|what| self.fail(what))
    }

    fn fail(&self, what: String) -> Error {
        Error::Inference { lm: self.lm.to_string(), what }
    }
}

impl StepKernel for OnnxKernel {
    fn window(&self) -> Option<usize> {
        None
    }

    fn state_bytes(&self) -> usize {
        self.signature.state_bytes()
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
        let lines = lines(&signature, wanted, rows.tokens.len());
        for lines in lines.chunks(self.chunk) {
            self.ids.clear();
            self.ids.extend(lines.iter().map(|line| i64::from(rows.tokens[line.row])));
            self.targets.clear();
            let target = |line: &Line| line.wanted.map_or(0, |at| i64::from(wanted.tokens[at]));
            self.targets.extend(lines.iter().map(target));
            for ((state, arena), to) in signature.states.iter().zip(&self.arena).zip(&mut self.gathered) {
                gather(state, arena, lines.iter().map(|line| rows.from[line.row]), to);
            }
            let (arena, starts) = (&mut self.arena, &self.starts);
            let (cut, scratch, shown) = (&self.cut, &mut self.scratch, &mut self.shown);
            let read = |outputs: Outputs<'_>| {
                for ((state, arena), (_, from)) in signature.states.iter().zip(arena).zip(outputs.states) {
                    scatter(
                        state,
                        from,
                        lines.iter().map(|line| line.last.then(|| rows.to[line.row])),
                        arena,
                    );
                }
                if let Some(cut) = cut {
                    // One line a row, in order: only models with targets have others.
                    let here = lines[0].row..=lines[0].row + lines.len();
                    let wanted = Wanted { offsets: &wanted.offsets[here], ..wanted };
                    cut.head.run(outputs.scores, wanted, out, scratch);
                    let width = cut.signature.vocab_size;
                    for (line, hidden) in lines.iter().zip(outputs.scores.chunks(width)) {
                        let at = rows.to[line.row] as usize * width;
                        shown.get_mut(at..at + width).into_iter().for_each(|to| to.copy_from_slice(hidden));
                    }
                    return;
                }
                for (number, line) in lines.iter().enumerate() {
                    let scores = Row::new(signature.kind, outputs.row(number, 0));
                    if let Some(at) = line.wanted {
                        out[at] = scores.ln(0);
                        continue;
                    }
                    if signature.targets.is_some() {
                        continue;
                    }
                    let range = wanted.offsets[line.row] as usize..wanted.offsets[line.row + 1] as usize;
                    for (&token, out) in wanted.tokens[range.clone()].iter().zip(&mut out[range]) {
                        *out = match token {
                            BOUNDARY => scores.mass(starts),
                            token => scores.ln(token),
                        };
                    }
                }
            };
            let batch = Batch {
                ids: &self.ids,
                targets: &self.targets,
                rows: lines.len(),
                length: 1,
                states: &self.gathered,
                ..Batch::default()
            };
            let given = self.cut.as_ref().map_or(&signature, |cut| &cut.signature);
            self.runner
                .run(given, batch, read)
                .map_err(|what| Error::Inference { lm: self.lm.to_string(), what })?;
        }
        Ok(())
    }
}

impl Shows for OnnxKernel {
    fn shown(&self, state: u32) -> Vec<f32> {
        let width = self.cut.as_ref().map_or(0, |cut| cut.signature.vocab_size);
        self.shown[state as usize * width..][..width].to_vec()
    }
}

/// The runs that rows need: one each, or one for each wanted token where a model asks for targets. Those
/// that give new states come last, because a row may overwrite the state that it starts from.
fn lines(signature: &Signature, wanted: Wanted<'_>, rows: usize) -> Vec<Line> {
    let mut lines = Vec::with_capacity(rows);
    let mut last = Vec::new();
    for row in 0..rows {
        let range = wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize;
        if signature.targets.is_none() || range.is_empty() {
            last.push(Line { row, wanted: None, last: true });
            continue;
        }
        let end = range.end - 1;
        lines.extend((range.start..end).map(|at| Line { row, wanted: Some(at), last: false }));
        last.push(Line { row, wanted: Some(end), last: true });
    }
    lines.append(&mut last);
    lines
}

/// Refuses tokens that a model does not have.
pub(super) fn known(tokens: &[u32], wanted: Wanted<'_>, signature: &Signature) -> Result<(), String> {
    let size = signature.vocab_size;
    let mut all = tokens.iter().chain(wanted.tokens.iter().filter(|&&token| token != BOUNDARY));
    match all.find(|&&token| token as usize >= size) {
        // No model of this kind can do without a first token.
        Some(&u32::MAX) => Err("it cannot score without <s>; drop --no-bos".to_owned()),
        Some(token) => Err(format!("token {token} is outside the vocabulary of {size}")),
        None => Ok(()),
    }
}

fn slot(state: &State, index: u32) -> std::ops::Range<usize> {
    let size = state.size();
    index as usize * size..(index as usize + 1) * size
}

/// Copies the states of `from` into a tensor whose batch dimension is `state.batch`.
fn gather(
    state: &State,
    arena: &[f32],
    from: impl ExactSizeIterator<Item = u32> + Clone,
    tensor: &mut Vec<f32>,
) {
    let (outer, inner) = split(state);
    tensor.clear();
    tensor.reserve(outer * inner * from.len());
    for part in 0..outer {
        for index in from.clone() {
            let at = slot(state, index).start + part * inner;
            tensor.extend_from_slice(&arena[at..at + inner]);
        }
    }
}

/// The inverse of [`gather`]; rows without an index are left out.
fn scatter(state: &State, tensor: &[f32], to: impl Iterator<Item = Option<u32>> + Clone, arena: &mut [f32]) {
    let (outer, inner) = split(state);
    let mut values = tensor.chunks_exact(inner);
    for part in 0..outer {
        for (index, values) in to.clone().zip(&mut values) {
            let Some(index) = index else { continue };
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

/// What one run may give back; larger steps are run in parts.
pub(super) const MAX_OUTPUT_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scatter_undoes_gather_for_every_batch_dimension() {
        for batch in 0..3 {
            let mut dims = vec![2, 3, 4];
            dims[batch] = 1;
            let state = State { input: String::new(), output: String::new(), dims, batch, grows: None };
            let size = state.size();
            let arena: Vec<f32> = (0..5 * size).map(|i| i as f32).collect();
            let mut tensor = Vec::new();
            gather(&state, &arena, [4, 0, 2].into_iter(), &mut tensor);
            // The tensor is row-major over the shape with 3 rows in the batch dimension.
            let (_, inner) = split(&state);
            assert_eq!(tensor[..inner], arena[4 * size..4 * size + inner]);
            assert_eq!(tensor[inner..2 * inner], arena[..inner]);
            let mut back = arena.clone();
            for index in [4, 0, 2] {
                back[slot(&state, index)].fill(-1.0);
            }
            scatter(&state, &tensor, [4, 0, 2].map(Some).into_iter(), &mut back);
            assert_eq!(back, arena);
        }
    }
}
