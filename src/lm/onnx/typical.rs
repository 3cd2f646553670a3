//! States that a model reaches by itself: sequences drawn from it, a few hundred tokens in all.
//!
//! What a basis of previews is made for ([`Typical`](super::head::Typical)). Every draw is the same in each
//! run. Only few rows of a step are asked for all tokens, and lend their distribution to their neighbours:
//! that is what would take time.

use super::signature::Signature;
use crate::Result;
use crate::lm::{Rows, StepKernel, Wanted};
use crate::random::Random;

/// A kernel that shows what its output layer is fed with.
pub(super) trait Shows: StepKernel {
    /// The hidden state that the last step left of a history.
    fn shown(&self, state: u32) -> Vec<f32>;
}

/// Hidden states one after another, and the mean probability of each token.
pub(super) struct Drawn {
    pub states: Vec<f32>,
    pub shares: Vec<f32>,
}

/// Draws sequences.
///
/// # Errors
/// If the model fails.
pub(super) fn draw(kernel: &mut impl Shows, signature: &Signature) -> Result<Drawn> {
    let size = signature.vocab_size;
    let states: Vec<u32> = (0..SEQUENCES).collect();
    kernel.reserve(states.len())?;
    let mut tokens = vec![signature.bos; states.len()];
    states.iter().for_each(|&state| kernel.reset(state));
    let all: Vec<u32> = (0..size as u32).collect();
    let lenders = (SEQUENCES / TOGETHER) as usize;
    let wanted: Vec<u32> = all.iter().copied().cycle().take(size * lenders).collect();
    // Every `TOGETHER`th row wants all tokens, the others nothing.
    let ended = |row: u32| row.div_ceil(TOGETHER) * size as u32;
    let offsets: Vec<u32> = (0..=SEQUENCES).map(ended).collect();
    let mut out = vec![f32::NAN; wanted.len()];
    let mut drawn = Drawn { states: Vec::new(), shares: vec![0.0; size] };
    let mut random = Random::new(1);
    // Of a large vocabulary, a distribution lasts for some steps.
    let lasts = 1 + size / 50_000;
    let times = STEPS.div_ceil(lasts);
    let nothing = vec![0; offsets.len()];
    for step in 0..STEPS {
        let rows = Rows { tokens: &tokens, from: &states, to: &states };
        let fresh = step % lasts == 0;
        let offsets = if fresh { &offsets } else { &nothing };
        kernel.run(rows, Wanted { tokens: &wanted, offsets }, &mut out)?;
        states.iter().for_each(|&state| drawn.states.extend(kernel.shown(state)));
        for (logs, tokens) in out.chunks(size).zip(tokens.chunks_mut(TOGETHER as usize)) {
            let mut sum = 0.0;
            let sums: Vec<f64> = logs
                .iter()
                .zip(&mut drawn.shares)
                .map(|(ln, share)| {
                    let p = ln.exp();
                    *share += if fresh { p / (lenders * times) as f32 } else { 0.0 };
                    sum += f64::from(p);
                    sum
                })
                .collect();
            for token in tokens {
                let place = random.unit() * sum;
                *token = sums.partition_point(|&sum| sum <= place).min(size - 1) as u32;
            }
        }
        // After a sentence comes another one.
        for (&state, token) in states.iter().zip(&mut tokens).filter(|(_, token)| **token == signature.eos) {
            kernel.reset(state);
            *token = signature.bos;
        }
    }
    Ok(drawn)
}

/// How many are drawn at once.
pub(super) const SEQUENCES: u32 = 64;
/// Rows that share a distribution.
const TOGETHER: u32 = 16;
/// Tokens of a sequence.
const STEPS: usize = 24;
