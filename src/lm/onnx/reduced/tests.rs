//! Against plain integers and sums in f64.

use super::*;
use crate::lm::{BOUNDARY, Wanted};

/// Numbers between -1 and 1 that look random (xorshift).
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Integers between -127 and 127, of which each `width` hold one of the two.
fn integers(count: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut all: Vec<f32> = numbers(count, seed).iter().map(|value| (value * 127.0).round()).collect();
    all.iter_mut().step_by(width).for_each(|value| *value = 127f32.copysign(*value));
    all
}

/// Collects whole rows.
struct Store {
    columns: usize,
    panel: usize,
    out: Vec<f32>,
}

impl Epilogue for Store {
    fn take<const ROWS: usize>(&mut self, first: usize, tile: [[f32; PANEL]; ROWS]) {
        for (row, tile) in tile.iter().enumerate() {
            for (column, value) in (self.panel * PANEL..self.columns).zip(tile) {
                self.out[(first + row) * self.columns + column] = *value;
            }
        }
    }
}

/// `rows x width` times the transpose of `columns x width`.
fn product(kind: Kind, width: usize, weights: &[f32], values: &[f32]) -> Vec<f32> {
    let columns = weights.len() / width;
    let matrix = Matrix::pack(kind, width, columns, |column, k| weights[column * width + k]);
    let mut rows = Rows::default();
    matrix.load(values, &mut rows);
    let out = vec![f32::NAN; values.len() / width * columns];
    let mut store = Store { columns, panel: 0, out };
    for panel in 0..matrix.panels() {
        store.panel = panel;
        matrix.run(panel, &rows, &mut store);
    }
    store.out
}

const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 31), (4, 32), (24, 33), (37, 101), (650, 64)];
const COUNTS: [usize; 9] = [0, 1, 2, 3, 5, 11, 12, 13, 40];

#[test]
fn sums_of_integers_are_exact_on_every_path() {
    for (width, columns) in SHAPES {
        for rows in COUNTS {
            let same = |value: f32| (vec![value; width * columns], vec![127.0; width * rows]);
            let random = (integers(width * columns, width, 3), integers(width * rows, width, 5));
            // The largest sums, too, which saturate where 16 bits hold two products.
            for (weights, values) in [random, same(127.0), same(-127.0)] {
                for kind in Kind::all(Precision::Int8) {
                    let got = product(kind, width, &weights, &values);
                    for (row, values) in values.chunks(width).enumerate() {
                        for (column, weights) in weights.chunks(width).enumerate() {
                            let sum: i32 = weights.iter().zip(values).map(|(w, v)| *w as i32 * *v as i32).sum();
                            assert_eq!(got[row * columns + column], sum as f32, "{kind:?} {width} {rows}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn products_are_as_near_as_the_rounding_of_both_sides_allows() {
    for (width, columns) in SHAPES {
        let (weights, values) = (numbers(width * columns, 11), numbers(width * 13, 12));
        for precision in [Precision::Int8, Precision::Bf16] {
            for kind in Kind::all(precision) {
                let got = product(kind, width, &weights, &values);
                for (row, values) in values.chunks(width).enumerate() {
                    for (column, weights) in weights.chunks(width).enumerate() {
                        let top = |all: &[f32]| all.iter().fold(0f64, |top, &x| top.max(f64::from(x).abs()));
                        // Half a step of each side.
                        let (of_weights, of_values) = (top(weights) / 254.0, top(values) / 254.0);
                        let (mut want, mut bound) = (0.0, 1e-6);
                        for (w, v) in weights.iter().zip(values) {
                            let (w, v) = (f64::from(*w), f64::from(*v));
                            let (dw, dv) = match precision {
                                Precision::Int8 => (of_weights, of_values),
                                // 8 significant bits.
                                _ => (w.abs() / 256.0, v.abs() / 256.0),
                            };
                            want += w * v;
                            bound += w.abs() * dv + v.abs() * dw + dw * dv;
                        }
                        let got = f64::from(got[row * columns + column]);
                        assert!((got - want).abs() <= bound * 1.000_1, "{kind:?}: {got}, not {want}: {bound}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_product_has_the_same_bits_on_every_path_and_in_any_company() {
    for (width, columns) in SHAPES {
        let (weights, values) = (numbers(width * columns, 7), numbers(width * 30, 8));
        for precision in [Precision::Int8, Precision::Bf16] {
            let kinds = Kind::all(precision);
            let Some(&best) = kinds.first() else { continue };
            let want = bits(&product(best, width, &weights, &values));
            for kind in kinds {
                assert_eq!(bits(&product(kind, width, &weights, &values)), want, "{kind:?}");
                for (first, last) in [(0, 1), (3, 9), (11, 12), (11, 13), (5, 30), (29, 30)] {
                    let part = bits(&product(kind, width, &weights, &values[first * width..last * width]));
                    assert_eq!(part, want[first * columns..last * columns], "{kind:?} {first}..{last}");
                }
            }
        }
    }
}

#[test]
fn rows_and_columns_of_nothing_and_of_what_is_no_number() {
    let weights = [0.0, 0.0, 0.5, -1.0];
    let values = [0.0, 0.0, f32::NAN, 1.0, f32::INFINITY, 0.0, 1e-40, 0.0, f32::MAX, f32::MIN];
    for precision in [Precision::Int8, Precision::Bf16] {
        for kind in Kind::all(precision) {
            let got = product(kind, 2, &weights, &values);
            assert_eq!(got[..2], [0.0, 0.0], "{kind:?}");
            assert!(got[2..4].iter().chain(&got[4..6]).any(|value| !value.is_finite()), "{kind:?} {got:?}");
            assert!(!got[3].is_finite() && !got[5].is_finite(), "{kind:?} {got:?}");
            assert!(got[6..8].iter().all(|value| value.abs() < 1e-37), "{kind:?} {got:?}");
            assert_eq!(got[8], 0.0, "{kind:?}");
        }
    }
}

#[test]
fn bf16_rounds_to_the_nearest_even() {
    let upper = |value: f32| f32::from_bits(u32::from(bf16::round(value)) << 16);
    for value in numbers(10_000, 4).iter().chain(&[0.0, -0.0, 1.0, 1e30, f32::INFINITY]) {
        let near = upper(*value);
        let apart = (f64::from(near) - f64::from(*value)).abs();
        assert!(near == *value || apart <= f64::from(value.abs()) / 256.0, "{value}: {near}");
    }
    assert_eq!(upper(1.0 + 1.0 / 256.0), 1.0);
    assert_eq!(upper(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0);
    assert!(upper(f32::NAN).is_nan());
}

#[test]
fn a_precision_reads_as_it_is_written() {
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
    }
    assert!("int4".parse::<Precision>().unwrap_err().to_string().contains("bf16"));
}

/// An output layer.
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

    fn head(&self, kind: Kind) -> ReducedHead {
        let weight = |token: usize, k: usize| self.weight[token * self.width + k];
        ReducedHead::pack_for(kind, self.width, self.vocabulary, weight, |token| self.bias[token], starts)
    }

    fn ln(&self, hidden: &[f32], token: u32) -> f64 {
        let logits: Vec<f64> = (0..self.vocabulary)
            .map(|token| {
                let weight = &self.weight[token * self.width..][..self.width];
                let product: f64 = weight.iter().zip(hidden).map(|(w, h)| f64::from(*w) * f64::from(*h)).sum();
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

fn kinds() -> Vec<Kind> {
    let mut all = Kind::all(Precision::Int8);
    all.extend(Kind::all(Precision::Bf16));
    all
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
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
fn log_probabilities_are_near_those_in_f64() {
    // The weights' spread is that of a trained layer; the last one has a probability near 1.
    for (width, vocabulary, spread, near) in
        [(1, 1, 1.0, 1e-6), (5, 31, 1.0, 0.02), (64, 3_000, 0.3, 0.01), (512, 2_100, 0.1, 0.005), (7, 64, 40.0, 0.5)]
    {
        let layer = Layer::new(width, vocabulary, spread);
        for kind in kinds() {
            let head = layer.head(kind);
            let mut scratch = Scratch::default();
            for rows in [0, 1, 2, 13, 23] {
                let hidden = numbers(rows * width, 3);
                let (tokens, offsets) = wants(rows, vocabulary);
                let mut out = vec![f32::NAN; tokens.len()];
                head.run(&hidden, Wanted { tokens: &tokens, offsets: &offsets }, &mut out, &mut scratch);
                for row in 0..rows {
                    let hidden = &hidden[row * width..(row + 1) * width];
                    for at in offsets[row] as usize..offsets[row + 1] as usize {
                        let want = layer.ln(hidden, tokens[at]);
                        assert!(out[at] <= 0.0, "{kind:?}: a probability above 1: {}", out[at]);
                        let error = (f64::from(out[at]) - want).abs();
                        assert!(error <= near, "{kind:?} {width} {vocabulary}: {}, not {want}", out[at]);
                    }
                }
            }
        }
    }
}

#[test]
fn a_score_has_the_same_bits_on_every_path_and_in_any_company() {
    let layer = Layer::new(37, 1_101, 1.0);
    let hidden = numbers(30 * 37, 5);
    let (tokens, offsets) = ((0..30).map(|row| row * 3).collect::<Vec<_>>(), (0..=30).collect::<Vec<_>>());
    let run = |head: &ReducedHead, rows: std::ops::Range<usize>| {
        let mut out = vec![0.0; rows.len()];
        let wanted = Wanted { tokens: &tokens[rows.clone()], offsets: &offsets[..=rows.len()] };
        head.run(&hidden[rows.start * 37..rows.end * 37], wanted, &mut out, &mut Scratch::default());
        bits(&out)
    };
    for precision in [Precision::Int8, Precision::Bf16] {
        let kinds = Kind::all(precision);
        let Some(&best) = kinds.first() else { continue };
        let want = run(&layer.head(best), 0..30);
        for kind in kinds {
            let head = layer.head(kind);
            for (first, last) in [(0, 30), (0, 1), (11, 13), (3, 29), (29, 30)] {
                assert_eq!(run(&head, first..last), want[first..last], "{kind:?} {first}..{last}");
            }
        }
    }
}

#[test]
fn large_and_broken_logits() {
    let layer = Layer::new(2, 70, 300.0);
    for kind in kinds() {
        let mut out = [0.0; 3];
        let hidden = [1.0, -0.5, f32::NAN, 0.0, 0.7, f32::INFINITY];
        let wanted = Wanted { tokens: &[69, 0, 1], offsets: &[0, 1, 2, 3] };
        layer.head(kind).run(&hidden, wanted, &mut out, &mut Scratch::default());
        assert!((f64::from(out[0]) - layer.ln(&hidden[..2], 69)).abs() < 3.0, "{kind:?} {out:?}");
        assert!(out[1].is_nan() && out[2].is_nan(), "{kind:?} {out:?}");
    }
}
