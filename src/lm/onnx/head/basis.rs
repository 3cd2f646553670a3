//! The few directions of a hidden state that nearly all logits hang on.
//!
//! An output layer makes `V` logits of `D` numbers, but the states that a trained model reaches lie near a
//! subspace, and of that its matrix reads some directions more than others. What is wanted are the `K`
//! linear features of a state from which the logits are known best, in the mean over typical states and over
//! tokens: with `S` the covariance of states and `C` that of the matrix' rows, the leading eigenvectors of
//! `C S` (reduced-rank regression: Izenman 1975; for output layers without `S`: SVD-softmax, Shim et al.
//! 2017, which needs several times as many). A state is then told from its features by least squares, and
//! what is left over is uncorrelated with them.
//!
//! All is computed with the products of [`super::super::product`]: a second at 200,000 tokens.

use super::super::product::{Epilogue, Matrix, PANEL, PIECE, Panel, Rows, Team, Tiles};
use crate::random::numbers;

/// What a basis is made for.
pub struct Typical<'a> {
    /// Hidden states that the model reaches, one after another.
    pub states: &'a [f32],
    /// The mean probability of each token after such states.
    pub shares: &'a [f32],
    /// How many directions are wanted.
    pub rank: usize,
}

/// Directions, and a matrix told from them.
pub(super) struct Basis {
    /// Rounded up to whole pieces.
    pub rank: usize,
    /// What is made of a state, one row of weights after another: `rank` features, then what moves all logits
    /// alike, then [`PROBES`] sums of what features leave out, whose mean square is its variance over tokens.
    pub features: Vec<f32>,
    /// What each of them begins with.
    pub offsets: Vec<f32>,
    /// `rank` weights of each token.
    pub weights: Vec<f32>,
    /// A token's logit after the mean state.
    pub centres: Vec<f32>,
}

/// Makes a basis for `matrix`, tokens' weights one after another, each `width` numbers (a multiple of
/// [`PIECE`]), as are the states.
pub(super) fn fit(typical: &Typical<'_>, matrix: &[f32], width: usize) -> Basis {
    let rank = typical.rank.next_multiple_of(PIECE);
    let (mean, covariance) = of_states(typical.states, width);
    let Sample { centre, spread, mut probes } = of_tokens(typical.shares, matrix, width);
    // Rows of `features` are directions: subspace iteration for the leading ones of `C S`.
    let mut features = numbers(rank * width, 1);
    for _ in 0..ROUNDS {
        features = times(&times(&features, &covariance, width), &spread, width);
        orthonormalise(&mut features, width);
    }
    let seen = times(&features, &covariance, width);
    let gram = times(&features, &seen, width);
    let mut back = regress(&gram, &seen, rank, width);
    // Both sides of a product as wide as each other: in fewer bits neither is to lose more than the other.
    let read = times(&back, &spread, width);
    for (k, (feature, back)) in features.chunks_mut(width).zip(back.chunks_mut(width)).enumerate() {
        let of_token = inner(back, &read[k * width..(k + 1) * width]).max(0.0);
        let ratio = (of_token / f64::from(gram[k * rank + k]).max(f64::MIN_POSITIVE)).powf(0.25) as f32;
        let ratio = if ratio.is_finite() && ratio > 0.0 { ratio } else { 1.0 };
        feature.iter_mut().for_each(|value| *value *= ratio);
        back.iter_mut().for_each(|value| *value /= ratio);
    }
    // What features leave out of random sums of the tokens' weights.
    let seen = times(&probes, &back, width);
    for (probe, seen) in probes.chunks_mut(width).zip(seen.chunks(rank)) {
        for (feature, seen) in features.chunks(width).zip(seen) {
            probe.iter_mut().zip(feature).for_each(|(probe, feature)| *probe -= seen * feature);
        }
    }
    let mut all = features;
    all.extend_from_slice(&centre);
    all.append(&mut probes);
    let offsets = all.chunks(width).map(|row| -inner(row, &mean) as f32).collect();
    let (weights, centres) = told(matrix, &back, &mean, &centre, width, rank);
    Basis { rank, features: all, offsets, weights, centres }
}

/// Mean and covariance of states. A little of every direction is added: those that the sample never took may
/// be taken one day.
fn of_states(states: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let count = (states.len() / width).max(1);
    let mean = mean(states.chunks(width), width);
    let mut covariance = vec![0.0; width * width];
    for part in states.chunks(AT_ONCE * width) {
        gram(&by_column(part.chunks(width), &mean), part.len() / width, &mut covariance);
    }
    covariance.iter_mut().for_each(|value| *value *= (1.0 - SHRINK) / count as f32);
    let trace: f32 = covariance.iter().step_by(width + 1).sum();
    let more = (trace / width as f32).max(f32::MIN_POSITIVE) * SHRINK;
    covariance.iter_mut().step_by(width + 1).for_each(|value| *value += more);
    (mean, covariance)
}

/// Of some tokens' weights.
struct Sample {
    centre: Vec<f32>,
    /// Their covariance.
    spread: Vec<f32>,
    /// Sums with random signs: as far from zero as the weights are from their centre.
    probes: Vec<f32>,
}

/// Likely tokens come more often, by the root of their share, as their logits count more.
fn of_tokens(shares: &[f32], matrix: &[f32], width: usize) -> Sample {
    let root = |share: &f32| f64::from(share.max(0.0)).sqrt();
    let total: f64 = shares.iter().map(root).sum();
    let count = SAMPLE.min(shares.len().next_multiple_of(PIECE) * 2);
    let (mut sum, mut token) = (shares.first().map_or(0.0, root), 0);
    let tokens: Vec<usize> = (0..count)
        .map(|draw| {
            let place = (draw as f64 + 0.5) / count as f64 * total;
            while sum < place && token + 1 < shares.len() {
                token += 1;
                sum += root(&shares[token]);
            }
            token
        })
        .collect();
    let of = |token: &usize| &matrix[token * width..(token + 1) * width];
    let centre = mean(tokens.iter().map(of), width);
    let signs: Vec<f32> = numbers(PROBES * count, 2).into_iter().map(f32::signum).collect();
    let (mut spread, mut probes) = (vec![0.0; width * width], vec![0.0; PROBES * width]);
    for (number, part) in tokens.chunks(AT_ONCE).enumerate() {
        let columns = by_column(part.iter().map(of), &centre);
        gram(&columns, part.len(), &mut spread);
        let signs = &signs[number * AT_ONCE * PROBES..][..part.len() * PROBES];
        add(&mut probes, &times(signs, &columns, columns.len() / width));
    }
    spread.iter_mut().for_each(|value| *value /= count as f32);
    probes.iter_mut().for_each(|value| *value /= (count as f32).sqrt());
    Sample { centre, spread, probes }
}

/// Adds the sums over rows of their numbers' products; see [`by_column`].
fn gram(columns: &[f32], rows: usize, sums: &mut [f32]) {
    add(sums, &times(columns, columns, rows.next_multiple_of(PIECE)));
}

fn add(sums: &mut [f32], more: &[f32]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Vec<f32> {
    let (mut sums, mut count) = (vec![0f64; width], 0f64);
    for row in rows {
        count += 1.0;
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums.iter().map(|sum| (sum / count.max(1.0)) as f32).collect()
}

/// Rows around their mean, column after column, each filled up with zeros to whole pieces.
fn by_column<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, mean: &[f32]) -> Vec<f32> {
    let length = rows.len().next_multiple_of(PIECE);
    let mut columns = vec![0.0; mean.len() * length];
    for (number, row) in rows.enumerate() {
        for ((value, mean), column) in row.iter().zip(mean).zip(columns.chunks_exact_mut(length)) {
            column[number] = value - mean;
        }
    }
    columns
}

/// Each token's weights of the features, and its product with the mean state.
fn told(
    matrix: &[f32],
    back: &[f32],
    mean: &[f32],
    centre: &[f32],
    width: usize,
    rank: usize,
) -> (Vec<f32>, Vec<f32>) {
    let mut outputs = back.to_vec();
    outputs.extend_from_slice(mean);
    let common: Vec<f32> = back.chunks(width).map(|back| inner(back, centre) as f32).collect();
    let (mut weights, mut centres) = (Vec::with_capacity(matrix.len() / width * rank), Vec::new());
    // In parts: the products need memory beside the matrix.
    for part in matrix.chunks(width * AT_ONCE) {
        for row in times(part, &outputs, width).chunks(rank + 1) {
            weights.extend(row.iter().zip(&common).map(|(value, common)| value - common));
            centres.push(row[rank]);
        }
    }
    (weights, centres)
}

/// Rows times rows, both `width` long (a multiple of [`PIECE`]): one row of products for each of `a`.
fn times(a: &[f32], b: &[f32], width: usize) -> Vec<f32> {
    struct Store<'a> {
        outputs: usize,
        first: usize,
        out: &'a mut [f32],
    }

    impl Epilogue for Store<'_> {
        #[inline(always)]
        fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
            let here = self.first..(self.first + PANEL).min(self.outputs);
            for (row, Panel(values)) in tile.iter().enumerate() {
                let out = &mut self.out[(first + row) * self.outputs..][..self.outputs];
                out[here.clone()].copy_from_slice(&values[..here.len()]);
            }
        }
    }

    let (count, outputs) = (a.len() / width, b.len() / width);
    let panels = outputs.div_ceil(PANEL);
    let weight = |output: usize, k: usize| b.get(output * width + k).copied().unwrap_or(0.0);
    let packed = Matrix::pack(Tiles::best(), width, panels, weight);
    let (mut rows, (pieces, _)) = (Rows::default(), a.as_chunks::<PIECE>());
    rows.pack(&packed, count, &Team::alone(), |row, piece| &pieces[row * width / PIECE + piece]);
    let mut out = vec![0.0; count * outputs];
    for panel in 0..panels {
        packed.run(panel, &rows, &mut Store { outputs, first: panel * PANEL, out: &mut out });
    }
    out
}

/// Makes rows as long as 1 and square to each other (modified Gram-Schmidt); those that others say already
/// become zeros.
fn orthonormalise(rows: &mut [f32], width: usize) {
    let mut done: Vec<Vec<f64>> = Vec::new();
    for row in rows.chunks_mut(width) {
        let mut wide: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
        let before = norm(&wide);
        for other in &done {
            let along: f64 = wide.iter().zip(other).map(|(a, b)| a * b).sum();
            wide.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
        }
        let after = norm(&wide);
        if after > before * 1e-6 {
            wide.iter_mut().for_each(|value| *value /= after);
        } else {
            wide.fill(0.0);
        }
        row.iter_mut().zip(&wide).for_each(|(value, &wide)| *value = wide as f32);
        done.push(wide);
    }
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn inner(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// `gram` inverse times `seen` (Cholesky). A feature that is nothing gets nothing.
fn regress(gram: &[f32], seen: &[f32], rank: usize, width: usize) -> Vec<f32> {
    let top = (0..rank).map(|k| f64::from(gram[k * rank + k])).fold(f64::MIN_POSITIVE, f64::max);
    let mut lower = vec![0f64; rank * rank];
    for row in 0..rank {
        for column in 0..=row {
            let (a, b) = (row * rank, column * rank);
            let known: f64 = (0..column).map(|k| lower[a + k] * lower[b + k]).sum();
            let left = f64::from(gram[a + column]) - known;
            lower[a + column] = if row == column {
                if left > top * 1e-12 { left.sqrt() } else { f64::INFINITY }
            } else {
                left / lower[b + column]
            };
        }
    }
    let mut out: Vec<f64> = seen.iter().map(|&value| f64::from(value)).collect();
    // Forth and back; what is divided by infinity is 0.
    let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
    for row in 0..rank {
        let (done, rest) = out.split_at_mut(row * width);
        for (k, done) in done.chunks(width).enumerate() {
            let factor = finite(lower[row * rank + k]);
            rest.iter_mut().zip(done).for_each(|(value, done)| *value -= factor * done);
        }
        rest[..width].iter_mut().for_each(|value| *value /= lower[row * rank + row]);
    }
    for row in (0..rank).rev() {
        let (rest, done) = out.split_at_mut((row + 1) * width);
        for (k, done) in done.chunks(width).enumerate() {
            let factor = finite(lower[(row + 1 + k) * rank + row]);
            rest[row * width..].iter_mut().zip(done).for_each(|(value, done)| *value -= factor * done);
        }
        rest[row * width..].iter_mut().for_each(|value| *value /= lower[row * rank + row]);
    }
    out.into_iter().map(|value| value as f32).collect()
}

/// Sums of what features leave out: their mean square is its variance within a fifth.
pub(super) const PROBES: usize = 63;
/// Tokens of the sample.
const SAMPLE: usize = 8_192;
/// Rows whose products are added up at once, a multiple of [`PIECE`]: there is to be no second matrix.
const AT_ONCE: usize = 1_024;
/// Of subspace iteration; three were as good on the models measured.
const ROUNDS: usize = 6;
/// The part of the states' variance that is spread over all directions.
const SHRINK: f32 = 0.02;
