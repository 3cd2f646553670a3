//! The upper half of f32: products of two, sums in f32.

// Registers, not elements: an index says which.
#![allow(clippy::needless_range_loop)]

/// The nearest number; between two the even one. NaN stays NaN.
#[inline(always)]
pub fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let even = (bits >> 16) & 1;
    if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { (bits.wrapping_add(0x7fff + even) >> 16) as u16 }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{run, words};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::super::tile;
    use super::super::super::{Epilogue, PANEL, Panel};
    use super::super::{Block, by_rows};
    use super::round;

    /// Two numbers a word; a row's scale is 1.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16,fma")]
    pub fn words(row: &[f32], words: &mut [u32], step: usize) -> f32 {
        for ([low, high], word) in row.as_chunks::<2>().0.iter().zip(words.iter_mut().step_by(step)) {
            *word = u32::from(round(*low)) | u32::from(round(*high)) << 16;
        }
        1.0
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16,fma")]
    pub fn run<E: Epilogue>(block: &Block<'_>, epilogue: &mut E) {
        use std::arch::x86_64::{
            __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
            _mm512_storeu_ps,
        };

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16,fma")]
        fn run<const ROWS: usize, E: Epilogue>(block: &Block<'_>, epilogue: &mut E) {
            let mut left = [_mm512_setzero_ps(); ROWS];
            let mut right = left;
            for (lines, words) in block.lines.as_chunks::<2>().0.iter().zip(block.words.as_chunks::<ROWS>().0)
            {
                // SAFETY: a line is 64 bytes; any bits are 32 numbers.
                #[allow(unsafe_code)]
                let [one, two]: [__m512bh; 2] = unsafe {
                    let line = |at: usize| _mm512_loadu_si512(lines[at].0.as_ptr().cast());
                    [
                        std::mem::transmute::<__m512i, __m512bh>(line(0)),
                        std::mem::transmute::<__m512i, __m512bh>(line(1)),
                    ]
                };
                for row in 0..ROWS {
                    // SAFETY: as above.
                    #[allow(unsafe_code)]
                    let pair: __m512bh = unsafe {
                        std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(words[row] as i32))
                    };
                    left[row] = _mm512_dpbf16_ps(left[row], pair, one);
                    right[row] = _mm512_dpbf16_ps(right[row], pair, two);
                }
            }
            let mut tile = [Panel([0.0; PANEL]); ROWS];
            for row in 0..ROWS {
                let out = tile[row].0.as_mut_ptr();
                // SAFETY: 32 numbers: two times 16.
                #[allow(unsafe_code)]
                unsafe {
                    _mm512_storeu_ps(out, left[row]);
                    _mm512_storeu_ps(out.add(16), right[row]);
                }
            }
            tile::finish::<true>(block.first, &mut tile, epilogue);
        }
        by_rows!(run, block, epilogue, [1 2 3 4 5 6 7 8 9 10 11 12]);
    }
}
