//! The head against plain sums in f64.

mod previews;

use super::*;
use crate::random::numbers;

struct Layer {
    width: usize,
    vocabulary: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

fn starts(token: usize) -> bool {
    token % 3 != 1
}

impl Layer {
    fn new(width: usize, vocabulary: usize, spread: f32) -> Self {
        let scaled = |count, seed| numbers(count, seed).iter().map(|x| x * spread).collect();
        Self { width, vocabulary, weight: scaled(width * vocabulary, 7), bias: scaled(vocabulary, 8) }
    }

    fn head(&self, tiles: Tiles) -> Head {
        let weight = |token: usize, k: usize| self.weight[token * self.width + k];
        Head::pack_for(tiles, self.width, self.vocabulary, weight, |token| self.bias[token], starts)
    }

    fn ln(&self, hidden: &[f32], token: u32) -> f64 {
        let logits: Vec<f64> = (0..self.vocabulary)
            .map(|token| {
                let weight = &self.weight[token * self.width..][..self.width];
                let product: f64 =
                    weight.iter().zip(hidden).map(|(w, h)| f64::from(*w) * f64::from(*h)).sum();
                product + f64::from(self.bias[token])
            })
            .collect();
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum = |tokens: &dyn Fn(usize) -> bool| {
            let terms = logits.iter().enumerate().filter(|(token, _)| tokens(*token));
            terms.map(|(_, logit)| (logit - top).exp()).sum::<f64>().ln() + top
        };
        match token {
            BOUNDARY => sum(&starts) - sum(&|_| true),
            token => logits[token as usize] - sum(&|_| true),
        }
    }
}

/// Between none and three wanted tokens a row, the mass of starts now and then.
fn wants(rows: usize, vocabulary: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut tokens, mut offsets) = (Vec::new(), vec![0]);
    for row in 0..rows {
        tokens.extend((0..row % 4).map(|at| ((row * 7919 + at * 104_729) % vocabulary) as u32));
        if row % 5 == 0 {
            tokens.push(BOUNDARY);
        }
        offsets.push(tokens.len() as u32);
    }
    (tokens, offsets)
}

#[test]
fn as_sums_in_f64_for_any_number_of_rows() {
    for (width, vocabulary, spread) in
        [(1, 1, 1.0), (5, 31, 1.0), (24, 33, 6.0), (40, 200, 0.3), (7, 64, 40.0)]
    {
        let layer = Layer::new(width, vocabulary, spread);
        for tiles in Tiles::all() {
            let head = layer.head(tiles);
            let mut scratch = Scratch::default();
            for rows in [0, 1, 2, 3, 4, 5, 11, 12, 13, 23, 25, 40] {
                let hidden = numbers(rows * width, 3);
                let (tokens, offsets) = wants(rows, vocabulary);
                let mut out = vec![f32::NAN; tokens.len()];
                let wanted = Wanted { tokens: &tokens, offsets: &offsets };
                head.run(&hidden, wanted, &mut out, &mut scratch);
                for row in 0..rows {
                    let hidden = &hidden[row * width..(row + 1) * width];
                    for at in offsets[row] as usize..offsets[row + 1] as usize {
                        let want = layer.ln(hidden, tokens[at]);
                        let error = (f64::from(out[at]) - want).abs();
                        assert!(error < 2e-6 * (1.0 + want.abs()), "{tiles:?} {rows}: {} {want}", out[at]);
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company() {
    let layer = Layer::new(37, 101, 1.0);
    let hidden = numbers(30 * 37, 5);
    let (tokens, offsets) = ((0..30).map(|row| row * 3).collect::<Vec<_>>(), (0..=30).collect::<Vec<_>>());
    for tiles in Tiles::all().into_iter().chain(Tiles::all_reduced()) {
        let head = layer.head(tiles);
        let run = |rows: std::ops::Range<usize>| {
            let mut out = vec![0.0; rows.len()];
            let wanted = Wanted { tokens: &tokens[rows.clone()], offsets: &offsets[..=rows.len()] };
            head.run(&hidden[rows.start * 37..rows.end * 37], wanted, &mut out, &mut Scratch::default());
            out.iter().map(|ln| ln.to_bits()).collect::<Vec<_>>()
        };
        let together = run(0..30);
        for first in 0..30 {
            for last in first + 1..=30 {
                assert_eq!(run(first..last), together[first..last], "{tiles:?} {first}..{last}");
            }
        }
    }
}

#[test]
fn large_and_broken_logits() {
    let layer = Layer::new(2, 70, 300.0);
    for tiles in Tiles::all().into_iter().chain(Tiles::all_reduced()) {
        let head = layer.head(tiles);
        let near = if tiles.is_reduced() { 3.0 } else { 1e-3 };
        let mut out = [0.0; 3];
        let hidden = [1.0, -0.5, f32::NAN, 0.0, 0.7, f32::INFINITY];
        let wanted = Wanted { tokens: &[69, 0, 1], offsets: &[0, 1, 2, 3] };
        head.run(&hidden, wanted, &mut out, &mut Scratch::default());
        assert!((f64::from(out[0]) - layer.ln(&hidden[..2], 69)).abs() < near, "{out:?}");
        assert!(out[1].is_nan() && !(out[2].is_finite() && out[2] > 0.0), "{out:?}");
    }
}

#[test]
fn masked_tokens_add_nothing_wherever_they_are() {
    let width = 9;
    // Whole panels at the beginning, in the middle and at the end, all but one token, and some of each.
    let masks: [fn(usize) -> bool; 5] = [
        |token| token < 100,
        |token| (96..512).contains(&token),
        |token| token >= 600,
        |token| token != 699,
        |token| token % 2 == 0,
    ];
    for masked in masks {
        let mut layer = Layer::new(width, 700, 1.0);
        (0..700).filter(|&token| masked(token)).for_each(|token| layer.bias[token] = f32::NEG_INFINITY);
        let hidden = numbers(width * 6, 3);
        let tokens: Vec<u32> = (0..6).flat_map(|_| [0, 1, 130, 699, BOUNDARY]).collect();
        let offsets: Vec<u32> = (0..=6).map(|row| row * 5).collect();
        for tiles in Tiles::all().into_iter().chain(Tiles::all_reduced()) {
            let near = if tiles.is_reduced() { 0.1 } else { 1e-5 };
            let mut out = vec![f32::NAN; tokens.len()];
            let wanted = Wanted { tokens: &tokens, offsets: &offsets };
            layer.head(tiles).run(&hidden, wanted, &mut out, &mut Scratch::default());
            for (at, (&token, &got)) in tokens.iter().zip(&out).enumerate() {
                let want = layer.ln(&hidden[at / 5 * width..][..width], token);
                let same = f64::from(got) == want || (f64::from(got) - want).abs() < near;
                assert!(same, "{tiles:?} {token}: {got}, not {want}");
            }
        }
    }
}

#[test]
fn in_fewer_bits_log_probabilities_are_near_those_in_f64() {
    // The spreads are those of trained layers; the last one is sure of one token.
    for (width, vocabulary, spread, near) in [
        (1, 1, 1.0, 1e-6),
        (5, 31, 1.0, 0.02),
        (64, 700, 0.3, 0.01),
        (256, 300, 0.1, 0.01),
        (7, 64, 40.0, 0.5),
    ] {
        let layer = Layer::new(width, vocabulary, spread);
        for tiles in Tiles::all_reduced() {
            let (head, mut scratch) = (layer.head(tiles), Scratch::default());
            for rows in [0, 1, 7] {
                let hidden = numbers(rows * width, 3);
                let (tokens, offsets) = wants(rows, vocabulary);
                let mut out = vec![f32::NAN; tokens.len()];
                head.run(&hidden, Wanted { tokens: &tokens, offsets: &offsets }, &mut out, &mut scratch);
                for row in 0..rows {
                    let hidden = &hidden[row * width..(row + 1) * width];
                    for at in offsets[row] as usize..offsets[row + 1] as usize {
                        let want = layer.ln(hidden, tokens[at]);
                        assert!(out[at] <= 0.0, "{tiles:?}: a probability above 1: {}", out[at]);
                        let error = (f64::from(out[at]) - want).abs();
                        assert!(error <= near, "{tiles:?} {width} {vocabulary}: {}, not {want}", out[at]);
                    }
                }
            }
        }
    }
}

#[test]
fn in_8_bits_a_score_has_the_same_bits_on_every_processor() {
    let layer = Layer::new(37, 1_101, 1.0);
    let hidden = numbers(30 * 37, 5);
    let (tokens, offsets) = wants(30, 1_101);
    let run = |tiles| {
        let mut out = vec![f32::NAN; tokens.len()];
        let wanted = Wanted { tokens: &tokens, offsets: &offsets };
        layer.head(tiles).run(&hidden, wanted, &mut out, &mut Scratch::default());
        out.iter().map(|ln| ln.to_bits()).collect::<Vec<_>>()
    };
    let int8 = crate::lm::onnx::product::Kind::all(Precision::Int8).into_iter().map(Tiles::Reduced);
    let all: Vec<_> = int8.map(run).collect();
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
}
