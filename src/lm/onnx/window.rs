//! The step kernel of models that see a fixed number of tokens: feed-forward networks, and recurrent ones
//! that were exported for windows filled up in front.

use std::sync::Arc;

use super::kernel::{MAX_OUTPUT_BYTES, known};
use super::scores::Row;
use super::session::{Batch, Outputs, Runner};
use super::signature::Signature;
use crate::lm::{BOUNDARY, Carry, Rows, StepKernel, Wanted};
use crate::{Error, Result};

/// Runs windows of tokens.
pub(super) struct WindowKernel {
    lm: Arc<str>,
    signature: Arc<Signature>,
    runner: Runner,
    starts: Arc<[u32]>,
    length: usize,
    /// Rows that one run of the session may have.
    chunk: usize,
    ids: Vec<i64>,
}

impl WindowKernel {
    pub fn new(
        lm: Arc<str>,
        signature: Arc<Signature>,
        runner: Runner,
        starts: Arc<[u32]>,
        length: usize,
    ) -> Self {
        let row = signature.vocab_size * size_of::<f32>();
        let chunk = signature.tokens.batch.unwrap_or((MAX_OUTPUT_BYTES / row).max(1));
        Self { lm, signature, runner, starts, length, chunk, ids: Vec::new() }
    }

    fn fail(&self, what: String) -> Error {
        Error::Inference { lm: self.lm.to_string(), what }
    }

    /// One window: where it reaches back before the sentence, all start tokens but the last are
    /// replaced by what the model was trained to see there.
    fn push(&mut self, window: &[u32]) {
        let bos = self.signature.bos;
        let before = window.iter().take_while(|&&token| token == bos).count().saturating_sub(1);
        let pad = self.signature.pad.unwrap_or(bos);
        self.ids.extend(std::iter::repeat_n(i64::from(pad), before));
        self.ids.extend(window[before..].iter().map(|&token| i64::from(token)));
    }
}

impl StepKernel for WindowKernel {
    fn window(&self) -> Option<usize> {
        Some(self.length)
    }

    fn reserve(&mut self, _count: usize) -> Result<()> {
        Ok(())
    }

    fn reset(&mut self, _state: u32) {}

    fn load(&mut self, _state: u32, _carry: &Carry) -> Result<()> {
        Err(self.fail("it keeps no state that could be carried".to_owned()))
    }

    fn save(&self, _state: u32) -> Carry {
        Carry(Arc::new(()))
    }

    fn run(&mut self, rows: Rows<'_>, wanted: Wanted<'_>, out: &mut [f32]) -> Result<()> {
        let length = self.length;
        let n = rows.tokens.len() / length.max(1);
        if rows.tokens.len() != n * length || !wanted.fits(n, out.len()) {
            return Err(Error::Internal(format!("{}: windows that do not fit", self.lm)));
        }
        known(rows.tokens, wanted, &self.signature).map_err(|what| self.fail(what))?;
        let signature = self.signature.clone();
        let windows: Vec<&[u32]> = rows.tokens.chunks_exact(length).collect();
        for (chunk, windows) in windows.chunks(self.chunk).enumerate() {
            let first = chunk * self.chunk;
            self.ids.clear();
            windows.iter().for_each(|window| self.push(window));
            // A model of one batch size gets the last row again and again.
            let rows = signature.tokens.batch.unwrap_or(windows.len());
            (windows.len()..rows).for_each(|_| self.push(windows[windows.len() - 1]));
            let starts = &self.starts;
            let read = |outputs: Outputs<'_>| {
                for number in 0..windows.len() {
                    let row = first + number;
                    let range = wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize;
                    let scores = Row::new(signature.kind, outputs.row(number, length - 1));
                    for (&token, out) in wanted.tokens[range.clone()].iter().zip(&mut out[range]) {
                        *out = match token {
                            BOUNDARY => scores.mass(starts),
                            token => scores.ln(token),
                        };
                    }
                }
            };
            let batch = Batch { ids: &self.ids, rows, length, ..Batch::default() };
            let result = self.runner.run(&signature, batch, read);
            result.map_err(|what| Error::Inference { lm: self.lm.to_string(), what })?;
        }
        Ok(())
    }
}
