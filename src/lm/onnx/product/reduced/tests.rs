//! Against plain integers and sums in f64.

use super::*;
use crate::random::numbers;

/// Integers between -127 and 127, of which each `width` hold one of the two.
fn integers(count: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut all: Vec<f32> = numbers(count, seed).iter().map(|value| (value * 127.0).round()).collect();
    all.iter_mut().step_by(width).for_each(|value| *value = 127f32.copysign(*value));
    all
}

/// Collects whole rows.
struct Store {
    outputs: usize,
    panel: usize,
    out: Vec<f32>,
}

impl Epilogue for Store {
    fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
        assert!(FUSED);
        for (row, tile) in tile.iter().enumerate() {
            for (output, value) in (self.panel * PANEL..self.outputs).zip(tile.0) {
                self.out[(first + row) * self.outputs + output] = value;
            }
        }
    }
}

/// `rows x width` times the transpose of `outputs x width`.
fn product(kind: Kind, width: usize, weights: &[f32], values: &[f32]) -> Vec<f32> {
    let (outputs, count) = (weights.len() / width, values.len() / width);
    let weight = |output, k| if output < outputs && k < width { weights[output * width + k] } else { 0.0 };
    let packed = width.next_multiple_of(PIECE);
    let matrix = Matrix::pack(kind, packed, outputs.div_ceil(PANEL), weight);
    let mut padded = vec![0.0; count * packed];
    for (row, padded) in values.chunks(width).zip(padded.chunks_mut(packed)) {
        padded[..width].copy_from_slice(row);
    }
    let mut rows = Rows::default();
    let (pieces, _) = padded.as_chunks();
    rows.pack(&matrix, count, &Team::alone(), |row, piece| &pieces[row * packed / PIECE + piece]);
    let mut store = Store { outputs, panel: 0, out: vec![f32::NAN; count * outputs] };
    for panel in 0..outputs.div_ceil(PANEL) {
        store.panel = panel;
        for block in super::super::Tiles::Reduced(kind).blocks(count) {
            matrix.run(panel, &rows, block, &mut store);
        }
    }
    for output in [0, outputs - 1] {
        for (row, padded) in padded.chunks(packed).enumerate() {
            let dot = matrix.dot(output, padded.iter().copied());
            assert_eq!(dot.to_bits(), store.out[row * outputs + output].to_bits(), "{kind:?}");
        }
    }
    store.out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 31), (4, 32), (24, 33), (37, 101), (650, 3)];
const COUNTS: [usize; 6] = [0, 1, 3, 5, 12, 13];

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
                            let sum: i32 =
                                weights.iter().zip(values).map(|(w, v)| *w as i32 * *v as i32).sum();
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
                        assert!(
                            (got - want).abs() <= bound * 1.000_1,
                            "{kind:?}: {got}, not {want}: {bound}"
                        );
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
    let values = [0.0, 0.0, f32::NAN, 1.0, f32::INFINITY, 0.0, 1e-40, 0.0, 1e30, -1e30];
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
