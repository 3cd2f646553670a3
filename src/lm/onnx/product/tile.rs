//! The inner product of a few rows with 32 neighbouring outputs, finished while it is at hand.
//!
//! One source for all processors: [`Loops::best`] chooses at run time for which of them the same
//! loops were compiled.

// Lanes and registers, not elements: an index says which.
#![allow(clippy::needless_range_loop)]

/// Outputs in a panel.
pub const PANEL: usize = 32;
/// Most rows of a block on any processor.
pub const MOST_ROWS: usize = 12;

/// A number for each output of a panel.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct Panel(pub [f32; PANEL]);

impl Panel {
    pub const ZERO: Self = Self([0.0; PANEL]);
}

/// What becomes of products.
pub trait Epilogue {
    /// Asks for what [`Epilogue::finish`] of rows `first..first + rows` will read, before the products are
    /// made.
    fn ahead(&self, first: usize, rows: usize) {
        let _ = (first, rows);
    }

    /// What the sums of a row begin with: those of columns that come before. Only products in f32 ask.
    fn begin(&self, row: usize) -> &Panel {
        let _ = row;
        &Panel::ZERO
    }

    /// What is added to the products of a row.
    #[inline(always)]
    fn added(&self, row: usize) -> Option<&Panel> {
        let _ = row;
        None
    }

    /// Takes the products of rows `first..first + tile.len()` with one panel, each with its
    /// [`Epilogue::added`]. `FUSED` says that the processor multiplies and adds in one instruction. To be
    /// inlined: it is compiled for each kind of processor.
    fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]);
}

/// The loops for one kind of processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loops {
    /// 12 rows in 24 registers of 16 numbers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 3 rows in 12 registers of 8 numbers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Whatever the compiler makes of it.
    Portable,
}

impl Loops {
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

    /// All that this processor can do.
    #[cfg(test)]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable, Self::best()];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            all.push(Self::Avx2);
        }
        all.dedup();
        all
    }

    /// Most rows of a block.
    pub fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => MOST_ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 3,
            Self::Portable => 2,
        }
    }

    /// Multiplies a block of rows, `packed` column by column, with a panel's `weights` and hands the
    /// products to `epilogue`. `first` is what the first row is called there.
    ///
    /// Every row goes through the same operations in the same order, whatever block it is in.
    #[inline]
    pub fn run(
        self,
        weights: &[Panel],
        packed: &[f32],
        rows: usize,
        first: usize,
        epilogue: &mut impl Epilogue,
    ) {
        epilogue.ahead(first, rows);
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `best` chose this after asking the processor.
            #[allow(unsafe_code)]
            Self::Avx512 => unsafe { avx512(weights, packed, rows, first, epilogue) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Self::Avx2 => unsafe { avx2(weights, packed, rows, first, epilogue) },
            Self::Portable => portable(weights, packed, rows, first, epilogue),
        }
    }

    /// Packs eight numbers of each row of a block, column by column: number `at` of row `place` goes to
    /// `out[at * rows.len() + place]`.
    #[inline]
    pub fn pack(self, rows: &[&[f32; 8]], out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if let (Self::Avx512, Some((first, _)), Some((_, last))) =
            (self, rows.split_first_chunk(), rows.split_last_chunk())
        {
            // All rows are among the first eight or the last eight.
            debug_assert!(rows.len() <= 16);
            // SAFETY: `best` chose this after asking the processor.
            #[allow(unsafe_code)]
            unsafe {
                transpose(first, out, rows.len());
                transpose(last, &mut out[rows.len() - 8..], rows.len());
            }
            return;
        }
        for (place, row) in rows.iter().enumerate() {
            for (at, &value) in row.iter().enumerate() {
                out[at * rows.len() + place] = value;
            }
        }
    }

    /// The product of one row with one column of a panel, the bits that [`Loops::run`] gives.
    pub fn dot(self, weights: &[Panel], lane: usize, row: impl Iterator<Item = f32>) -> f32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `best` chose these after asking the processor.
            #[allow(unsafe_code)]
            Self::Avx512 | Self::Avx2 => unsafe { fused(weights, lane, row) },
            Self::Portable => {
                weights.iter().zip(row).fold(0.0, |sum, (weights, value)| sum + value * weights.0[lane])
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
fn fused(weights: &[Panel], lane: usize, row: impl Iterator<Item = f32>) -> f32 {
    let mut sum = 0.0f32;
    for (weights, value) in weights.iter().zip(row) {
        sum = value.mul_add(weights.0[lane], sum);
    }
    sum
}

/// Writes eight rows as columns that lie `step` numbers apart.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[&[f32; 8]; 8], out: &mut [f32], step: usize) {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps,
        _mm256_unpacklo_ps,
    };

    // SAFETY: a row is eight numbers.
    #[allow(unsafe_code)]
    let [a, b, c, d, e, f, g, h] = rows.map(|row| unsafe { _mm256_loadu_ps(row.as_ptr()) });
    // Pairs of rows, then fours, in both halves; then the halves of all eight.
    let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
    let (ef, gh) = (_mm256_unpacklo_ps(e, f), _mm256_unpacklo_ps(g, h));
    let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
    let (ef_high, gh_high) = (_mm256_unpackhi_ps(e, f), _mm256_unpackhi_ps(g, h));
    let fours = [
        (_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0x44>(ef, gh)),
        (_mm256_shuffle_ps::<0xee>(ab, cd), _mm256_shuffle_ps::<0xee>(ef, gh)),
        (_mm256_shuffle_ps::<0x44>(ab_high, cd_high), _mm256_shuffle_ps::<0x44>(ef_high, gh_high)),
        (_mm256_shuffle_ps::<0xee>(ab_high, cd_high), _mm256_shuffle_ps::<0xee>(ef_high, gh_high)),
    ];
    let (low, high) = (
        fours.map(|(one, two)| _mm256_permute2f128_ps::<0x20>(one, two)),
        fours.map(|(one, two)| _mm256_permute2f128_ps::<0x31>(one, two)),
    );
    for (at, column) in low.into_iter().chain(high).enumerate() {
        let out = &mut out[at * step..][..8];
        // SAFETY: it is eight numbers.
        #[allow(unsafe_code)]
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), column);
        }
    }
}

/// Adds what is to be added to products, and hands them on.
#[inline(always)]
pub fn finish<const FUSED: bool>(first: usize, tile: &mut [Panel], epilogue: &mut impl Epilogue) {
    for (row, Panel(products)) in (first..).zip(&mut *tile) {
        if let Some(Panel(added)) = epilogue.added(row) {
            for lane in 0..PANEL {
                products[lane] += added[lane];
            }
        }
    }
    epilogue.finish::<FUSED>(first, tile);
}

/// Calls `$block::<ROWS, _>` for as many rows as there are.
macro_rules! by_rows {
    ($block:ident, $weights:expr, $packed:expr, $count:expr, $first:expr, $epilogue:expr, [$($rows:literal)*]) => {
        match $count {
            $($rows => $block::<$rows, _>($weights, $packed, $first, $epilogue),)*
            rows => debug_assert!(false, "a block of {rows} rows"),
        }
    };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,fma")]
fn avx512<E: Epilogue>(weights: &[Panel], packed: &[f32], rows: usize, first: usize, epilogue: &mut E) {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,fma")]
    fn block<const ROWS: usize, E: Epilogue>(
        weights: &[Panel],
        packed: &[f32],
        first: usize,
        epilogue: &mut E,
    ) {
        let mut left = [_mm512_setzero_ps(); ROWS];
        let mut right = left;
        for row in 0..ROWS {
            let Panel(begin) = epilogue.begin(first + row);
            // SAFETY: a panel is 32 numbers: two times 16.
            #[allow(unsafe_code)]
            unsafe {
                left[row] = _mm512_loadu_ps(begin.as_ptr());
                right[row] = _mm512_loadu_ps(begin.as_ptr().add(16));
            }
        }
        for (Panel(weights), values) in weights.iter().zip(packed.as_chunks::<ROWS>().0) {
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let (one, two) =
                unsafe { (_mm512_loadu_ps(weights.as_ptr()), _mm512_loadu_ps(weights.as_ptr().add(16))) };
            for row in 0..ROWS {
                let value = _mm512_set1_ps(values[row]);
                left[row] = _mm512_fmadd_ps(value, one, left[row]);
                right[row] = _mm512_fmadd_ps(value, two, right[row]);
            }
        }
        let mut tile = [Panel::ZERO; ROWS];
        for row in 0..ROWS {
            let out = tile[row].0.as_mut_ptr();
            // In the registers: of loops over so few numbers compilers make poor code.
            if let Some(Panel(added)) = epilogue.added(first + row) {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                let (one, two) =
                    unsafe { (_mm512_loadu_ps(added.as_ptr()), _mm512_loadu_ps(added.as_ptr().add(16))) };
                left[row] = _mm512_add_ps(left[row], one);
                right[row] = _mm512_add_ps(right[row], two);
            }
            // SAFETY: as above.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_storeu_ps(out, left[row]);
                _mm512_storeu_ps(out.add(16), right[row]);
            }
        }
        epilogue.finish::<true>(first, &mut tile);
    }
    by_rows!(block, weights, packed, rows, first, epilogue, [1 2 3 4 5 6 7 8 9 10 11 12]);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<E: Epilogue>(weights: &[Panel], packed: &[f32], rows: usize, first: usize, epilogue: &mut E) {
    use std::arch::x86_64::{
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn block<const ROWS: usize, E: Epilogue>(
        weights: &[Panel],
        packed: &[f32],
        first: usize,
        epilogue: &mut E,
    ) {
        let mut parts = [[_mm256_setzero_ps(); 4]; ROWS];
        for row in 0..ROWS {
            let Panel(begin) = epilogue.begin(first + row);
            for part in 0..4 {
                // SAFETY: a panel is 32 numbers: four times 8.
                #[allow(unsafe_code)]
                unsafe {
                    parts[row][part] = _mm256_loadu_ps(begin.as_ptr().add(8 * part));
                }
            }
        }
        for (Panel(weights), values) in weights.iter().zip(packed.as_chunks::<ROWS>().0) {
            for row in 0..ROWS {
                let value = _mm256_set1_ps(values[row]);
                for part in 0..4 {
                    // SAFETY: as above.
                    #[allow(unsafe_code)]
                    let weights = unsafe { _mm256_loadu_ps(weights.as_ptr().add(8 * part)) };
                    parts[row][part] = _mm256_fmadd_ps(value, weights, parts[row][part]);
                }
            }
        }
        let mut tile = [Panel::ZERO; ROWS];
        for row in 0..ROWS {
            for part in 0..4 {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                unsafe {
                    _mm256_storeu_ps(tile[row].0.as_mut_ptr().add(8 * part), parts[row][part]);
                }
            }
        }
        finish::<true>(first, &mut tile, epilogue);
    }
    by_rows!(block, weights, packed, rows, first, epilogue, [1 2 3]);
}

fn portable<E: Epilogue>(weights: &[Panel], packed: &[f32], rows: usize, first: usize, epilogue: &mut E) {
    fn block<const ROWS: usize, E: Epilogue>(
        weights: &[Panel],
        packed: &[f32],
        first: usize,
        epilogue: &mut E,
    ) {
        let mut tile: [Panel; ROWS] = std::array::from_fn(|row| *epilogue.begin(first + row));
        for (Panel(weights), values) in weights.iter().zip(packed.as_chunks::<ROWS>().0) {
            for row in 0..ROWS {
                for lane in 0..PANEL {
                    tile[row].0[lane] += values[row] * weights[lane];
                }
            }
        }
        finish::<false>(first, &mut tile, epilogue);
    }
    by_rows!(block, weights, packed, rows, first, epilogue, [1 2]);
}
