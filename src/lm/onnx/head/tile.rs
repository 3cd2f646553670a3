//! The inner product of a few rows with 32 tokens, reduced as soon as it is there.
//!
//! One source for all processors: [`Tiles::best`] chooses at run time for which of them the same
//! loops were compiled.

// Lanes and registers, not elements: an index says which.
#![allow(clippy::needless_range_loop)]

use super::Sum;
use super::exponential::exponential;

/// Tokens in a panel.
pub(super) const PANEL: usize = 32;

/// A number for each token of a panel.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Panel(pub [f32; PANEL]);

/// The part of the layer that one panel is.
pub(super) struct Layer<'a> {
    pub weights: &'a [Panel],
    pub bias: &'a Panel,
    /// 1 for tokens that start a word or end the sentence, else 0.
    pub starts: &'a Panel,
}

/// The loops for one kind of processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tiles {
    /// 12 rows in 24 registers of 16 numbers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 3 rows in 12 registers of 8 numbers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Whatever the compiler makes of it.
    Portable,
}

impl Tiles {
    /// The fastest that this processor can do.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Whether the loops use what the processor has.
    pub fn is_fast(self) -> bool {
        self != Self::Portable
    }

    /// Rows of a full block; the last may have fewer.
    fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 12,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 3,
            Self::Portable => 2,
        }
    }

    /// Lays rows of `width` numbers side by side in blocks; the last block may have fewer.
    pub fn pack(self, hidden: &[f32], width: usize, packed: &mut Vec<f32>) {
        packed.clear();
        packed.reserve(hidden.len());
        for block in hidden.chunks(self.rows() * width) {
            for k in 0..width {
                packed.extend(block.chunks_exact(width).map(|row| row[k]));
            }
        }
    }

    /// Adds a panel to every row's sums and shows the logits of each block to `see`, with the
    /// number of its first row.
    pub fn run(
        self,
        layer: &Layer<'_>,
        packed: &[f32],
        sums: &mut [Sum],
        mut see: impl FnMut(usize, &[Panel]),
    ) {
        let width = layer.weights.len();
        for (block, sums) in sums.chunks_mut(self.rows()).enumerate() {
            let first = block * self.rows();
            let rows = sums.len();
            let packed = &packed[first * width..(first + rows) * width];
            match self {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `best` chose this after asking the processor.
                #[allow(unsafe_code)]
                Self::Avx512 => unsafe { avx512(layer, packed, sums, |tile| see(first, tile)) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                #[allow(unsafe_code)]
                Self::Avx2 => unsafe { avx2(layer, packed, sums, |tile| see(first, tile)) },
                Self::Portable => portable(layer, packed, sums, |tile| see(first, tile)),
            }
        }
    }
}

/// Calls `$block::<ROWS>` for as many rows as there are.
macro_rules! by_rows {
    ($block:ident, $layer:expr, $packed:expr, $sums:expr, $see:expr, [$($rows:literal)*]) => {
        match $sums.len() {
            $($rows => $block::<$rows>($layer, $packed, $sums, $see),)*
            rows => debug_assert!(false, "a block of {rows} rows"),
        }
    };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,fma")]
fn avx512(layer: &Layer<'_>, packed: &[f32], sums: &mut [Sum], see: impl FnOnce(&[Panel])) {
    use std::arch::x86_64::{
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,fma")]
    fn block<const ROWS: usize>(
        layer: &Layer<'_>,
        packed: &[f32],
        sums: &mut [Sum],
        see: impl FnOnce(&[Panel]),
    ) {
        let mut left = [_mm512_setzero_ps(); ROWS];
        let mut right = left;
        for (Panel(weights), values) in layer.weights.iter().zip(packed.as_chunks::<ROWS>().0) {
            // SAFETY: a panel is 32 numbers: two times 16.
            #[allow(unsafe_code)]
            let (one, two) =
                unsafe { (_mm512_loadu_ps(weights.as_ptr()), _mm512_loadu_ps(weights.as_ptr().add(16))) };
            for row in 0..ROWS {
                let value = _mm512_set1_ps(values[row]);
                left[row] = _mm512_fmadd_ps(value, one, left[row]);
                right[row] = _mm512_fmadd_ps(value, two, right[row]);
            }
        }
        let mut tile = [Panel([0.0; PANEL]); ROWS];
        for row in 0..ROWS {
            let out = tile[row].0.as_mut_ptr();
            // SAFETY: as above.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_storeu_ps(out, left[row]);
                _mm512_storeu_ps(out.add(16), right[row]);
            }
        }
        reduce::<ROWS, true>(layer, tile, sums, see);
    }
    by_rows!(block, layer, packed, sums, see, [1 2 3 4 5 6 7 8 9 10 11 12]);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(layer: &Layer<'_>, packed: &[f32], sums: &mut [Sum], see: impl FnOnce(&[Panel])) {
    use std::arch::x86_64::{
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn block<const ROWS: usize>(
        layer: &Layer<'_>,
        packed: &[f32],
        sums: &mut [Sum],
        see: impl FnOnce(&[Panel]),
    ) {
        let mut parts = [[_mm256_setzero_ps(); 4]; ROWS];
        for (Panel(weights), values) in layer.weights.iter().zip(packed.as_chunks::<ROWS>().0) {
            for row in 0..ROWS {
                let value = _mm256_set1_ps(values[row]);
                for part in 0..4 {
                    // SAFETY: a panel is 32 numbers: four times 8.
                    #[allow(unsafe_code)]
                    let weights = unsafe { _mm256_loadu_ps(weights.as_ptr().add(8 * part)) };
                    parts[row][part] = _mm256_fmadd_ps(value, weights, parts[row][part]);
                }
            }
        }
        let mut tile = [Panel([0.0; PANEL]); ROWS];
        for row in 0..ROWS {
            for part in 0..4 {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                unsafe {
                    _mm256_storeu_ps(tile[row].0.as_mut_ptr().add(8 * part), parts[row][part]);
                }
            }
        }
        reduce::<ROWS, true>(layer, tile, sums, see);
    }
    by_rows!(block, layer, packed, sums, see, [1 2 3]);
}

fn portable(layer: &Layer<'_>, packed: &[f32], sums: &mut [Sum], see: impl FnOnce(&[Panel])) {
    fn block<const ROWS: usize>(
        layer: &Layer<'_>,
        packed: &[f32],
        sums: &mut [Sum],
        see: impl FnOnce(&[Panel]),
    ) {
        let mut tile = [Panel([0.0; PANEL]); ROWS];
        for (Panel(weights), values) in layer.weights.iter().zip(packed.as_chunks::<ROWS>().0) {
            for row in 0..ROWS {
                for lane in 0..PANEL {
                    tile[row].0[lane] += values[row] * weights[lane];
                }
            }
        }
        reduce::<ROWS, false>(layer, tile, sums, see);
    }
    by_rows!(block, layer, packed, sums, see, [1 2]);
}

/// The products of a block become logits, and part of their rows' sums.
#[inline(always)]
fn reduce<const ROWS: usize, const FUSED: bool>(
    layer: &Layer<'_>,
    mut tile: [Panel; ROWS],
    sums: &mut [Sum],
    see: impl FnOnce(&[Panel]),
) {
    for (Panel(logits), sum) in tile.iter_mut().zip(sums) {
        for lane in 0..PANEL {
            logits[lane] += layer.bias.0[lane];
        }
        sum.add::<FUSED>(logits, &layer.starts.0);
    }
    see(&tile);
}

impl Sum {
    #[inline(always)]
    fn add<const FUSED: bool>(&mut self, logits: &[f32; PANEL], starts: &[f32; PANEL]) {
        let top = fold(*logits, |a, b| if a > b { a } else { b });
        // Not at every new maximum: sums of e^16 are as good as sums of 1.
        if top > self.reference + MARGIN || self.reference == f32::NEG_INFINITY {
            let scale = (f64::from(self.reference) - f64::from(top)).exp();
            *self = Self { reference: top, all: self.all * scale, starts: self.starts * scale };
        }
        let mut terms = [0.0; PANEL];
        for lane in 0..PANEL {
            terms[lane] = logits[lane] - self.reference;
        }
        let terms = exponential::<PANEL, FUSED>(terms);
        let mut of_starts = [0.0; PANEL];
        for lane in 0..PANEL {
            of_starts[lane] = terms[lane] * starts[lane];
        }
        self.all += f64::from(fold(terms, |a, b| a + b));
        self.starts += f64::from(fold(of_starts, |a, b| a + b));
    }
}

/// One of all lanes, half by half.
#[inline(always)]
fn fold(mut lanes: [f32; PANEL], both: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = PANEL / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = both(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// How far a logit may be above the reference.
const MARGIN: f32 = 16.0;
