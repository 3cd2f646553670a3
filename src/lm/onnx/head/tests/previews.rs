//! Previews against plain sums in f64.

use super::super::basis::{self, PROBES};
use super::*;

const RANK: usize = 16;

/// Layers with states like those that they are made for: of random numbers, and of a few directions with a
/// little beside them, as those of trained models are.
fn layers() -> Vec<(&'static str, Layer, Vec<f32>)> {
    let (width, vocabulary) = (61, 701);
    let random = |spread| Layer::new(width, vocabulary, spread);
    let of_few = |count: usize, seed, beside: f32, size: f32| {
        let (few, weights) = (numbers(8 * width, 21), numbers(count * 8, seed));
        let mut all: Vec<f32> = numbers(count * width, seed + 1).iter().map(|x| x * beside).collect();
        for (row, weights) in all.chunks_mut(width).zip(weights.chunks(8)) {
            for (weight, few) in weights.iter().zip(few.chunks(width)) {
                row.iter_mut().zip(few).for_each(|(value, few)| *value += size * weight * few);
            }
        }
        all
    };
    let mut structured = random(1.0);
    structured.weight = of_few(vocabulary, 31, 0.3, 0.8);
    vec![
        ("random and small", random(0.1), numbers(width * 200, 3)),
        ("random", random(0.4), numbers(width * 200, 3)),
        ("of few directions", structured, of_few(200, 41, 0.05, 0.3)),
    ]
}

impl Layer {
    fn logits(&self, hidden: &[f32]) -> Vec<f64> {
        let product = |weight: &[f32]| -> f64 {
            weight.iter().zip(hidden).map(|(w, h)| f64::from(*w) * f64::from(*h)).sum()
        };
        let biases = self.bias.iter().map(|&bias| f64::from(bias));
        self.weight.chunks(self.width).zip(biases).map(|(weight, bias)| product(weight) + bias).collect()
    }

    /// Mean probabilities after states.
    fn shares(&self, states: &[f32]) -> Vec<f32> {
        let mut shares = vec![0.0; self.vocabulary];
        for state in states.chunks(self.width).take(20) {
            let logits = self.logits(state);
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let all = shares.iter_mut().zip(logits);
            all.for_each(|(share, logit)| *share += (logit.exp() / sum / 20.0) as f32);
        }
        shares
    }

    fn previewed(&self, tiles: Tiles, states: &[f32]) -> Head {
        let (weight, width) = (|token: usize, k: usize| self.weight[token * self.width + k], self.width);
        let typical = Typical { states, shares: &self.shares(states), rank: RANK };
        Head::pack_by_rank(tiles, &typical, width, self.vocabulary, weight, |token| self.bias[token], starts)
    }
}

fn all_tiles() -> impl Iterator<Item = Tiles> {
    Tiles::all().into_iter().chain(Tiles::all_reduced())
}

/// ln of a sum of exponentials.
fn ln_sum(logits: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    logits.map(|logit| (logit - top).exp()).sum::<f64>().ln() + top
}

#[test]
fn log_probabilities_are_near_those_in_f64() {
    for (name, layer, states) in layers() {
        // Most of what is random cannot be told from a few features, which the correction knows.
        let near = match name {
            "random and small" => 0.05,
            "random" => 0.25,
            _ => 0.01,
        };
        for tiles in all_tiles() {
            let head = layer.previewed(tiles, &states);
            // And fewer bits have an error of their own.
            let near = if tiles.is_reduced() { near + 0.01 } else { near };
            for rows in [0, 1, 13, 30] {
                let hidden = &states[7 * 61..(7 + rows) * 61];
                let (tokens, offsets) = wants(rows, layer.vocabulary);
                let mut out = vec![f32::NAN; tokens.len()];
                let wanted = Wanted { tokens: &tokens, offsets: &offsets };
                head.run(hidden, wanted, &mut out, &mut Scratch::default());
                for (row, hidden) in hidden.chunks(61).enumerate() {
                    for at in offsets[row] as usize..offsets[row + 1] as usize {
                        let want = layer.ln(hidden, tokens[at]);
                        let error = (f64::from(out[at]) - want).abs();
                        assert!(error < near, "{name} {tiles:?} {rows}: {}, not {want}", out[at]);
                        assert!(out[at] <= 0.0, "{name} {tiles:?}: a probability above 1: {}", out[at]);
                    }
                }
            }
        }
    }
}

/// What the module says of its error: it is at most that of the worst preview, and of the tokens that are
/// not exact only.
#[test]
fn sums_are_within_the_bound() {
    for (name, layer, states) in layers() {
        let padded = layer.width.next_multiple_of(PIECE);
        let widen = |rows: &[f32]| -> Vec<f32> {
            let rows = rows.chunks(layer.width);
            rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat(0.0)).take(padded)).collect()
        };
        let shares = layer.shares(&states);
        let typical = Typical { states: &widen(&states), shares: &shares, rank: RANK };
        let made = basis::fit(&typical, &widen(&layer.weight), padded);
        let head = layer.previewed(Tiles::best(), &states);
        for hidden in states.chunks(layer.width).take(50) {
            let wide = widen(hidden);
            let features: Vec<f64> = made
                .features
                .chunks(padded)
                .zip(&made.offsets)
                .map(|(row, offset)| {
                    let products = row.iter().zip(&wide).map(|(a, b)| f64::from(*a) * f64::from(*b));
                    products.sum::<f64>() + f64::from(*offset)
                })
                .collect();
            let shift = features[RANK];
            let previews: Vec<f64> = (0..layer.vocabulary)
                .map(|token| {
                    let weights = &made.weights[token * RANK..(token + 1) * RANK];
                    let product: f64 = weights.iter().zip(&features).map(|(w, f)| f64::from(*w) * f).sum();
                    product + shift + f64::from(layer.bias[token] + made.centres[token])
                })
                .collect();
            let logits = layer.logits(hidden);
            let all = ln_sum(previews.iter().copied());
            let left = |token: &usize| previews[*token] - all <= (1.0f64 / 1024.0).ln() + 1e-4;
            let others: Vec<usize> = (0..layer.vocabulary).filter(left).collect();
            let worst =
                others.iter().map(|&token| (logits[token] - previews[token]).abs()).fold(0.0, f64::max);
            // The correction is half a variance, and that has an error of its own.
            let variance = features[RANK + 1..].iter().map(|x| x * x).sum::<f64>() / PROBES as f64;
            let want = ln_sum(logits.iter().copied());
            let share = (ln_sum(others.iter().map(|&token| logits[token])) - want).exp();
            let bound = (1.0 + share * ((worst + variance / 2.0).exp() - 1.0)).ln() + 1e-4;
            let mut out = [0.0];
            let wanted = Wanted { tokens: &[5], offsets: &[0, 1] };
            let mut scratch = Scratch::default();
            head.run(hidden, wanted, &mut out, &mut scratch);
            let error = (scratch.norms[0].all - want).abs();
            assert!(error <= bound, "{name}: {error} above {bound}");
            // The correction is worth something where there is something to correct.
            if name == "random" {
                assert!(error < (variance / 2.0).max(0.02), "{error} after {variance}");
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company_and_with_any_number_of_threads() {
    let (_, layer, states) = layers().swap_remove(2);
    let (tokens, offsets) = wants(30, layer.vocabulary);
    let team = Team::new(3).unwrap();
    for tiles in all_tiles() {
        let head = layer.previewed(tiles, &states);
        let run = |rows: std::ops::Range<usize>| {
            let mut out = vec![0.0; tokens.len()];
            let offsets = &offsets[rows.start..=rows.end];
            let hidden = &states[rows.start * 61..rows.end * 61];
            head.run(hidden, Wanted { tokens: &tokens, offsets }, &mut out, &mut Scratch::default());
            let range = offsets[0] as usize..offsets[rows.len()] as usize;
            out[range].iter().map(|ln| ln.to_bits()).collect::<Vec<_>>()
        };
        let together = run(0..30);
        for (first, last) in [(0, 1), (0, 2), (3, 4), (5, 18), (11, 12), (11, 30), (29, 30)] {
            let range = offsets[first] as usize..offsets[last] as usize;
            assert_eq!(run(first..last), together[range], "{tiles:?} {first}..{last}");
        }
        let mut rows = Rows::default();
        let padded: Vec<[f32; 8]> = (0..30 * 8)
            .map(|piece| {
                std::array::from_fn(|at| {
                    let k = piece % 8 * 8 + at;
                    if k < 61 { states[piece / 8 * 61 + k] } else { 0.0 }
                })
            })
            .collect();
        rows.pack(head.matrix(), 30, &team, |row, piece| &padded[row * 8 + piece]);
        let mut out = vec![0.0; tokens.len()];
        let wanted = Wanted { tokens: &tokens, offsets: &offsets };
        head.run_rows(&rows, wanted, &mut out, &mut Scratch::default(), &team);
        assert_eq!(out.iter().map(|ln| ln.to_bits()).collect::<Vec<_>>(), together, "{tiles:?}");
    }
}

#[test]
fn masked_tokens_are_never_likely() {
    let masks: [fn(usize) -> bool; 3] =
        [|token| token < 600, |token| token != 599, |token| token.is_multiple_of(2)];
    for masked in masks {
        let (_, mut layer, states) = layers().swap_remove(2);
        (0..701).filter(|&token| masked(token)).for_each(|token| layer.bias[token] = f32::NEG_INFINITY);
        let tokens = [0, 1, 130, 599, 700, BOUNDARY];
        for tiles in all_tiles() {
            let mut out = [f32::NAN; 6];
            let wanted = Wanted { tokens: &tokens, offsets: &[0, 6] };
            layer.previewed(tiles, &states).run(&states[..61], wanted, &mut out, &mut Scratch::default());
            for (&token, &got) in tokens.iter().zip(&out) {
                let want = layer.ln(&states[..61], token);
                let same = f64::from(got) == want || (f64::from(got) - want).abs() < 0.02;
                assert!(same, "{tiles:?} {token}: {got}, not {want}");
            }
        }
    }
}

/// A token that no feature tells of, which somebody waits for: no probability is above 1. And states that are
/// no numbers, or are nothing like those that the previews were made for.
#[test]
fn what_previews_do_not_see() {
    let (_, mut layer, states) = layers().swap_remove(2);
    let hidden = &states[..61];
    let length: f32 = hidden.iter().map(|x| x * x).sum();
    let head = layer.previewed(Tiles::best(), &states);
    // Away from the sample: a state that no typical one resembles.
    let mut odd = numbers(61, 77).iter().map(|x| x * 3.0).collect::<Vec<f32>>();
    odd.extend([f32::NAN; 61]);
    odd.extend([f32::INFINITY; 61]);
    let mut out = [0.0; 3];
    let wanted = Wanted { tokens: &[9, 9, 9], offsets: &[0, 1, 2, 3] };
    head.run(&odd, wanted, &mut out, &mut Scratch::default());
    assert!(out[0] <= 0.0 && out[0].is_finite() && out[1].is_nan() && !out[2].is_finite(), "{out:?}");
    // A spike in the direction of one state.
    layer.weight[9 * 61..10 * 61].iter_mut().zip(hidden).for_each(|(w, h)| *w = h * 30.0 / length);
    let head = layer.previewed(Tiles::best(), &states);
    let mut out = [0.0];
    head.run(hidden, Wanted { tokens: &[9], offsets: &[0, 1] }, &mut out, &mut Scratch::default());
    assert!(out[0] <= 0.0 && (f64::from(out[0]) - layer.ln(hidden, 9)).abs() < 0.01, "{out:?}");
}
