//! The step kernel over an arena on the device.

use std::sync::Arc;

use ort::memory::MemoryInfo;
use ort::session::IoBinding;
use ort::value::Tensor;

use super::super::kernel::known;
use super::super::session::Runner;
use super::super::signature::Signature;
use super::Bound;
use super::arena::{Arena, FIRST, WASTE, ZEROS, text};
use super::graph::{BOUNDS, PAIRS, ROWS, SCORES};
use crate::lm::{BOUNDARY, Carry, Rows, StepKernel, Wanted};
use crate::{Error, Result};

/// Runs a recurrent model step by step, its states on the device.
pub(in crate::lm::onnx) struct BoundKernel {
    lm: Arc<str>,
    bound: Arc<Bound>,
    // What is bound goes before what it is bound to.
    binding: IoBinding,
    arena: Arena,
    runner: Runner,
    host: MemoryInfo<'static>,
    /// Which states are the model's start, wherever the arena says otherwise.
    fresh: Vec<bool>,
    sizes: Sizes,
}

/// A state on its way from one utterance to the next.
struct Saved {
    /// Whose it is.
    signature: Arc<Signature>,
    /// Or why it could not be read.
    values: std::result::Result<Vec<Vec<f32>>, String>,
}

/// The shapes that the last steps had.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub rows: usize,
    pub pairs: usize,
    pub bounds: usize,
}

impl BoundKernel {
    /// A kernel for the model that `runner` has loaded, which is [`Bound::source`].
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(lm: Arc<str>, bound: Arc<Bound>, runner: Runner) -> Result<Self> {
        let arena = Arena::new(&bound.signature.states, bound.plan);
        let arena = arena.map_err(|what| Error::Inference { lm: lm.to_string(), what: advise(what) })?;
        let binding = runner.session.create_binding();
        let binding =
            binding.map_err(|error| Error::Inference { lm: lm.to_string(), what: advise(text(error)) })?;
        let (host, sizes) = (MemoryInfo::default(), Sizes::default());
        Ok(Self { lm, bound, binding, arena, runner, host, fresh: Vec::new(), sizes })
    }

    pub fn into_runner(self) -> Runner {
        self.runner
    }

    /// The shapes of the last run of the session.
    #[cfg(test)]
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn check(&self, rows: Rows<'_>, wanted: Wanted<'_>, out: usize) -> Result<()> {
        let states = rows.from.iter().chain(rows.to).all(|&state| (state as usize) < self.fresh.len());
        let n = rows.tokens.len();
        if !states || rows.from.len() != n || rows.to.len() != n || !wanted.fits(n, out) {
            return Err(Error::Internal(format!("{}: rows that do not fit the states", self.lm)));
        }
        known(rows.tokens, wanted, &self.bound.signature).map_err(|what| self.fail(what))
    }

    fn fail(&self, what: String) -> Error {
        Error::Inference { lm: self.lm.to_string(), what }
    }

    /// The place that a row of this state starts from.
    fn place(&self, state: u32) -> i64 {
        let state = state as usize;
        if self.fresh[state] { ZEROS as i64 } else { (FIRST + state) as i64 }
    }

    /// One run of the session: rows `range`, and what they want.
    fn part(
        &mut self,
        rows: Rows<'_>,
        wanted: Wanted<'_>,
        range: std::ops::Range<usize>,
        out: &mut [f32],
    ) -> std::result::Result<(), String> {
        if let Some(error) = crate::faults::io("onnx::run") {
            return Err(error.to_string());
        }
        let size = bucket(range.len());
        let mut given = Vec::with_capacity(3 * size);
        given.extend(rows.tokens[range.clone()].iter().map(|&token| i64::from(token)));
        given.resize(size, 0);
        given.extend(rows.from[range.clone()].iter().map(|&state| self.place(state)));
        given.resize(2 * size, ZEROS as i64);
        given.extend(rows.to[range.clone()].iter().map(|&state| FIRST as i64 + i64::from(state)));
        given.resize(3 * size, WASTE as i64);
        // Of each wanted token its row; where its score goes is the order in which they stand.
        let (mut pairs, mut bounds): (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
        for (row, at) in range.clone().enumerate() {
            for &token in &wanted.tokens[wanted.offsets[at] as usize..wanted.offsets[at + 1] as usize] {
                match token {
                    BOUNDARY => bounds.extend([row as i64, (size + bounds.len() / 2) as i64]),
                    token => pairs.extend([row as i64, i64::from(token)]),
                }
            }
        }
        let sizes = Sizes { rows: size, pairs: bucket(pairs.len() / 2), bounds: few(bounds.len() / 2) };
        pairs.resize(2 * sizes.pairs, 0);
        while bounds.len() < 2 * sizes.bounds {
            bounds.extend([0, size as i64]);
        }
        self.sizes = sizes;
        self.run_bound(sizes, given, pairs, bounds, |scores| {
            if scores.len() != sizes.pairs + sizes.bounds {
                return Err(format!("gave {} scores, expected {}", scores.len(), sizes.pairs + sizes.bounds));
            }
            let (mut picked, mut masses) = (scores.iter(), scores[sizes.pairs..].iter());
            let asked = wanted.offsets[range.start] as usize..wanted.offsets[range.end] as usize;
            for (&token, out) in wanted.tokens[asked.clone()].iter().zip(&mut out[asked]) {
                let next = if token == BOUNDARY { masses.next() } else { picked.next() };
                *out = next.copied().unwrap_or(f32::NAN);
            }
            Ok(())
        })?;
        for &state in &rows.to[range] {
            self.fresh[state as usize] = false;
        }
        Ok(())
    }

    fn run_bound(
        &mut self,
        sizes: Sizes,
        rows: Vec<i64>,
        pairs: Vec<i64>,
        bounds: Vec<i64>,
        read: impl FnOnce(&[f32]) -> std::result::Result<(), String>,
    ) -> std::result::Result<(), String> {
        let advised = |error| advise(text(error));
        for (name, values, shape) in [
            (ROWS, rows, [3, sizes.rows]),
            (PAIRS, pairs, [sizes.pairs, 2]),
            (BOUNDS, bounds, [sizes.bounds, 2]),
        ] {
            let tensor = Tensor::from_array((shape, values)).map_err(advised)?;
            self.binding.bind_input(name, &tensor).map_err(advised)?;
        }
        // Bound anew each time: ONNX Runtime would write into the last step's, which has another shape.
        self.binding.bind_output_to_device(SCORES, &self.host).map_err(advised)?;
        let outputs = self.runner.session.run_binding(&self.binding).map_err(advised)?;
        let scores = outputs.get(SCORES).ok_or_else(|| format!("gave no {SCORES}"))?;
        read(scores.try_extract_tensor::<f32>().map_err(advised)?.1)
    }
}

impl StepKernel for BoundKernel {
    fn window(&self) -> Option<usize> {
        None
    }

    fn state_bytes(&self) -> usize {
        self.bound.signature.state_bytes()
    }

    fn reserve(&mut self, count: usize) -> Result<()> {
        let places = FIRST + count;
        if places > self.arena.count() {
            // A copy of everything, so not often.
            let larger = places.max(self.arena.count() + self.arena.count() / 2);
            let grown = self.arena.grow(larger).or_else(|_| self.arena.grow(places));
            let bound = grown.and_then(|()| self.arena.bind(&mut self.binding).map_err(text));
            bound.map_err(|what| {
                self.fail(format!(
                    "no memory for {count} states on {}; lower --batch-rows or --cache-mib ({what})",
                    self.bound.plan.device
                ))
            })?;
        }
        self.fresh.resize(count.max(self.fresh.len()), true);
        Ok(())
    }

    fn reset(&mut self, state: u32) {
        self.fresh[state as usize] = true;
    }

    fn load(&mut self, state: u32, carry: &Carry) -> Result<()> {
        let saved = carry.0.downcast_ref::<Saved>();
        let saved = saved.filter(|saved| Arc::ptr_eq(&saved.signature, &self.bound.signature));
        let saved = saved.ok_or_else(|| self.fail("a carried state is another model's".to_owned()))?;
        let values = saved.values.as_ref().map_err(|what| self.fail(what.clone()))?;
        let loaded = self.arena.load(FIRST + state as usize, values);
        loaded.map_err(|what| self.fail(advise(what)))?;
        self.fresh[state as usize] = false;
        Ok(())
    }

    fn save(&self, state: u32) -> Carry {
        let values = self.arena.save(usize::try_from(self.place(state)).unwrap_or(ZEROS));
        Carry(Arc::new(Saved { signature: self.bound.signature.clone(), values: values.map_err(advise) }))
    }

    fn run(&mut self, rows: Rows<'_>, wanted: Wanted<'_>, out: &mut [f32]) -> Result<()> {
        self.check(rows, wanted, out.len())?;
        let all = rows.tokens.len();
        for start in (0..all).step_by(MOST_ROWS) {
            let range = start..(start + MOST_ROWS).min(all);
            self.part(rows, wanted, range, out).map_err(|what| self.fail(what))?;
        }
        Ok(())
    }
}

/// The rows that a step of `rows` is filled up to: few different shapes, so that the provider's choice of
/// kernels and its memory settle.
pub(super) fn bucket(rows: usize) -> usize {
    match rows {
        0..=LEAST => LEAST,
        _ if rows <= STEP => rows.next_power_of_two(),
        _ => rows.next_multiple_of(STEP),
    }
}

/// As [`bucket`] for what is mostly not asked for at all, and costs a pass over the vocabulary.
fn few(rows: usize) -> usize {
    if rows <= 1 { 1 } else { bucket(rows) }
}

/// Where a GPU has no memory left ONNX Runtime says so in many words, and not what helps.
fn advise(what: String) -> String {
    let full = ["Failed to allocate memory", "out of memory", "CUDA_ERROR_OUT_OF_MEMORY", "bad_alloc"];
    if full.iter().any(|words| what.contains(words)) {
        let what: String = what.chars().take(200).collect();
        return format!("the device is out of memory; lower --batch-rows, or use --device cpu ({what})");
    }
    what
}

/// Rows that one run of the session has at most.
pub(super) const MOST_ROWS: usize = 1024;
/// Rows that it has at least.
const LEAST: usize = 8;
/// Above so many rows a power of two would be too much.
const STEP: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_shapes_and_little_padding() {
        let shapes: std::collections::BTreeSet<usize> = (0..=MOST_ROWS).map(bucket).collect();
        assert!(shapes.len() <= 12, "{shapes:?}");
        for rows in 1..=MOST_ROWS {
            assert!(bucket(rows) >= rows && bucket(rows) <= (2 * rows).max(LEAST), "{rows}");
        }
        assert!((512..=MOST_ROWS).all(|rows| bucket(rows) * 100 <= rows * 125));
    }

    #[test]
    fn a_full_device_is_said_with_what_helps() {
        let said = advise("bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 5".into());
        assert!(said.starts_with("the device is out of memory; lower --batch-rows"), "{said}");
        assert_eq!(advise("something else".into()), "something else");
    }
}
