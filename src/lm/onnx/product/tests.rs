//! Products against plain sums in f64.

use super::*;

struct Keep<'a>(&'a mut [[f32; PANEL]]);

impl Epilogue for Keep<'_> {
    fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
        for (out, Panel(products)) in self.0[first..].iter_mut().zip(tile) {
            assert!(out[0].is_nan(), "a row is finished once");
            *out = *products;
        }
    }
}

fn value(at: usize) -> f32 {
    ((at.wrapping_mul(2_654_435_761) >> 7) % 2_001) as f32 / 1e3 - 1.0
}

#[test]
fn as_sums_in_f64_and_alike_for_any_number_of_rows_and_threads() {
    let (width, panels, most) = (40, 3, 40);
    let rows: Vec<[f32; PIECE]> =
        (0..most * width / PIECE).map(|at| std::array::from_fn(|i| value(at * PIECE + i))).collect();
    let flat = rows.as_flattened();
    for tiles in Tiles::all() {
        let matrix = Matrix::pack(tiles, width, panels, |output, column| value(output * 977 + column * 31));
        let run = |count: usize, from: usize, team: &Team| {
            let mut packed = Rows::default();
            packed.pack(&matrix, count, team, |row, piece| &rows[(from + row) * width / PIECE + piece]);
            let mut all = vec![vec![[f32::NAN; PANEL]; count]; panels];
            let parts = all.iter_mut().enumerate();
            team.share(parts, |(panel, out)| matrix.run(panel, &packed, &mut Keep(out)));
            all
        };
        let whole = run(most, 0, &Team::alone());
        for row in 0..most {
            for output in 0..panels * PANEL {
                let of = |column: usize| f64::from(flat[row * width + column]);
                let terms = (0..width).map(|column| of(column) * f64::from(matrix.weight(output, column)));
                let want: f64 = terms.sum();
                let got = whole[output / PANEL][row][output % PANEL];
                assert!((f64::from(got) - want).abs() < 1e-5, "{tiles:?}: {got}, not {want}");
                let alone = matrix.dot(output, flat[row * width..(row + 1) * width].iter().copied());
                assert_eq!(alone.to_bits(), got.to_bits(), "{tiles:?}");
            }
        }
        let teams = [Team::alone(), Team::new(2).unwrap(), Team::new(3).unwrap()];
        for count in 0..=30 {
            for (team, from) in teams.iter().zip([3, 0, 10]) {
                let part = run(count, from, team);
                for (part, whole) in part.iter().zip(&whole) {
                    assert_eq!(part[..], whole[from..from + count], "{tiles:?}, {count} rows");
                }
            }
        }
    }
}

/// Adds products to what others left.
struct GoOn<'a>(&'a mut [Panel]);

impl Epilogue for GoOn<'_> {
    fn begin(&self, row: usize) -> &Panel {
        &self.0[row]
    }

    fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
        self.0[first..first + tile.len()].copy_from_slice(tile);
    }
}

#[test]
fn a_product_made_of_parts_of_the_columns_has_the_bits_of_the_whole() {
    let (width, panels) = (56, 2);
    let pieces: Vec<[f32; PIECE]> =
        (0..40 * width / PIECE).map(|at| std::array::from_fn(|i| value(at * PIECE + i))).collect();
    let team = Team::alone();
    for tiles in Tiles::all() {
        let matrix = Matrix::pack(tiles, width, panels, |output, column| value(output * 977 + column * 31));
        for count in [1, 2, 5, 12, 13, 40] {
            let mut whole = Rows::default();
            whole.pack(&matrix, count, &team, |row, piece| &pieces[row * width / PIECE + piece]);
            for panel in 0..panels {
                let mut want = vec![[f32::NAN; PANEL]; count];
                matrix.run(panel, &whole, &mut Keep(&mut want));
                for cut in [0, 8, 24, 56] {
                    let mut sums = vec![Panel::ZERO; count];
                    for columns in [0..cut, cut..width] {
                        let mut part = Rows::default();
                        let first = columns.start / PIECE;
                        part.pack_columns(&matrix, columns.len(), count, &team, |row, piece| {
                            &pieces[row * width / PIECE + first + piece]
                        });
                        matrix.run_columns(panel, columns, &part, &mut GoOn(&mut sums));
                    }
                    let bits = |numbers: &[f32; PANEL]| numbers.map(f32::to_bits);
                    assert!(
                        want.iter().zip(&sums).all(|(want, sum)| bits(want) == bits(&sum.0)),
                        "{tiles:?} {cut}"
                    );
                }
            }
        }
    }
}

#[test]
fn blocks_are_all_rows_in_order() {
    for tiles in Tiles::all() {
        for count in 0..100 {
            let rows: Vec<usize> = tiles.blocks(count).flatten().collect();
            assert_eq!(rows, (0..count).collect::<Vec<_>>());
            let sizes = || tiles.blocks(count).map(|block| block.len());
            assert!(sizes().max().unwrap_or(0) <= sizes().min().unwrap_or(0) + 1);
        }
    }
}

#[test]
fn a_panic_of_one_thread_is_a_panic_of_all() {
    let team = Team::new(2).unwrap();
    let broken = std::panic::AssertUnwindSafe(|| team.share(0..100, |item| assert!(item != 57)));
    assert!(std::panic::catch_unwind(broken).is_err());
    let sum = std::sync::atomic::AtomicUsize::new(0);
    team.share(0..100, |item| {
        sum.fetch_add(item, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(sum.into_inner(), 4950);
}

#[test]
fn columns_that_only_fill_a_row_up_change_no_bit() {
    let (width, columns) = (24, 18);
    let rows: Vec<[f32; PIECE]> =
        (0..13 * width / PIECE).map(|at| std::array::from_fn(|i| value(at * PIECE + i))).collect();
    for tiles in Tiles::all() {
        let weight =
            |output: usize, column| if column < columns { value(output * 977 + column) } else { 0.0 };
        let run = |matrix: &Matrix| {
            let mut packed = Rows::default();
            packed.pack(matrix, 13, &Team::alone(), |row, piece| &rows[row * width / PIECE + piece]);
            let mut out = [[f32::NAN; PANEL]; 13];
            matrix.run(0, &packed, &mut Keep(&mut out));
            out.as_flattened().iter().map(|product| product.to_bits()).collect::<Vec<_>>()
        };
        let whole = Matrix::pack(tiles, width, 1, weight);
        let all = run(&whole);
        let part = whole.of_columns(columns);
        assert_eq!(run(&part), all, "{tiles:?}");
        let row = rows.as_flattened()[12 * width..].iter().copied();
        assert_eq!(part.dot(5, row).to_bits(), all[12 * PANEL + 5], "{tiles:?}");
    }
}
