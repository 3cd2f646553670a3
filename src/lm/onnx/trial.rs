//! Trials: whether a model that is run in another way still gives the same scores.

use std::sync::Arc;
use std::task::Poll;

use super::Parts;
use super::session::Runner;
use super::signature::Signature;
use crate::Result;
use crate::lm::{BOUNDARY, Job, Limits, Rows, Scores, StepKernel, Wanted};
use crate::trie::{self, Trie};

/// The largest difference of two lists of scores; `None` where one is too large.
pub(super) fn worst(expected: &[f32], got: &[f32], rough: bool) -> Option<f64> {
    let most = if rough { ROUGH } else { NEAR };
    let apart = |(a, b): (&f32, &f32)| if a == b { 0.0 } else { f64::from((a - b).abs()) };
    let pairs = || expected.iter().zip(got);
    // Said so that NaN is not near.
    let near = |(a, b)| apart((a, b)) <= most * (1.0 + f64::from(a.abs()) / 10.0);
    let all = got.len() == expected.len() && pairs().all(near);
    all.then(|| pairs().map(apart).fold(0.0, f64::max))
}

/// Scores of some tokens and of all word starts after a few histories of one to three tokens.
pub(super) fn trial(kernel: &mut dyn StepKernel, signature: &Signature) -> Result<Vec<f32>> {
    const ROWS: u32 = 5;
    const EACH: u32 = 7;
    let size = signature.vocab_size as u32;
    kernel.reserve(ROWS as usize)?;
    (0..ROWS).for_each(|state| kernel.reset(state));
    let states: Vec<u32> = (0..ROWS).collect();
    let offsets: Vec<u32> = (0..=ROWS).map(|row| row * (EACH + 1)).collect();
    let mut all = Vec::new();
    for step in 0..3 {
        let tokens: Vec<u32> = (0..ROWS).map(|row| (step * 31 + row * 7919) % size).collect();
        let wanted = (0..ROWS)
            .flat_map(|row| (0..EACH).map(move |at| (row * 977 + at * 104_729) % size).chain([BOUNDARY]));
        let wanted: Vec<u32> = wanted.collect();
        let mut out = vec![f32::NAN; wanted.len()];
        let rows = Rows { tokens: &tokens, from: &states, to: &states };
        kernel.run(rows, Wanted { tokens: &wanted, offsets: &offsets }, &mut out)?;
        all.append(&mut out);
    }
    Ok(all)
}

impl Parts {
    /// Scores of a trie by the very code that scores for users.
    pub(super) fn scores(self, runner: Runner, trie: &Arc<Trie>) -> Result<Scores> {
        let limits = Limits { rows: 64, step_time: None, alone: false, threads: 1 };
        let mut scorer = self.scorer(runner, &limits);
        let job = Job {
            trie: trie.clone(),
            start: None,
            context: Arc::new([]),
            deadline: None,
            boundaries: false,
            keep: false,
        };
        let slot = scorer.submit(job)?;
        loop {
            if let Poll::Ready(scores) = scorer.take(slot) {
                return scores;
            }
            scorer.step()?;
        }
    }
}

/// The largest difference of a token's score.
///
/// # Errors
/// If one is too large, what it is.
pub(super) fn difference(trie: &Trie, expected: &Scores, got: &Scores) -> Result<f64, String> {
    let totals = |scores: &Scores| match scores {
        Scores::Sentences(totals) => totals.clone(),
        Scores::Nodes { ln, .. } => trie
            .ends
            .iter()
            .map(|&end| trie.path(end).map(|node| f64::from(ln[node as usize])).sum())
            .collect(),
    };
    let (a, b, tokens): (Vec<f64>, Vec<f64>, Vec<usize>) = match (expected, got) {
        (Scores::Nodes { ln: a, .. }, Scores::Nodes { ln: b, .. }) => {
            let wide = |ln: &[f32]| ln.iter().map(|&value| f64::from(value)).collect();
            (wide(a), wide(b), vec![1; a.len()])
        }
        _ => (totals(expected), totals(got), trie.ends.iter().map(|&end| trie.path(end).count()).collect()),
    };
    let mut worst = 0f64;
    for ((a, b), tokens) in a.iter().zip(&b).zip(tokens) {
        let apart = (a - b).abs() / tokens.max(1) as f64;
        // Both may be impossible.
        if a != b && (apart.is_nan() || apart > NEAR * (1.0 + a.abs() / 10.0)) {
            return Err(format!("rewritten it gives {b}, not {a}"));
        }
        worst = if a == b { worst } else { worst.max(apart) };
    }
    Ok(worst)
}

/// Short sentences that share their beginnings.
pub(super) fn sentences(signature: &Signature) -> Trie {
    let size = signature.vocab_size as u32;
    let word = |number: u32| {
        let token = if size < 2 { 0 } else { 1 + number * 7919 % (size - 1) };
        // The end of a sentence inside one would be no fair trial.
        if token == signature.eos { (token + 1) % size } else { token }
    };
    let mut builder = trie::Builder::default();
    builder.start(signature.bos);
    // As long as the model can take.
    let most = signature.tokens.length.map_or(8, |length| length.saturating_sub(1).min(64) as u32);
    for (first, count) in [(0, 0), (1, 1), (1, 3), (1, 8), (3, 5), (2, most)] {
        let count = count.min(most);
        let mut ids: Vec<u32> = (first..first + count).map(word).collect();
        ids.push(signature.eos);
        let words: Vec<u32> = (0..ids.len() as u32).collect();
        builder.push(&ids, &words);
    }
    builder.finish()
}

/// How far a token's score may move when a model is rewritten.
const NEAR: f64 = 1e-5;
/// How far it may move in fewer bits: further, and a model does not bear it.
pub(super) const ROUGH: f64 = 0.2;
