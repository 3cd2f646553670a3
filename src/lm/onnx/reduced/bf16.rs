//! The upper half of f32: products of two, sums in f32.

#![allow(clippy::needless_range_loop)]

/// The nearest number; between two the even one. NaN stays NaN.
#[inline(always)]
pub(super) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let even = (bits >> 16) & 1;
    if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { (bits.wrapping_add(0x7fff + even) >> 16) as u16 }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{block, words};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::{Epilogue, PANEL, Panel, by_rows};
    use super::round;

    /// Two numbers a word; a row's scale is 1.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16,fma")]
    pub fn words(values: &[f32], words: &mut Vec<u32>) -> f32 {
        let word = |low: f32, high: f32| u32::from(round(low)) | u32::from(round(high)) << 16;
        let (pairs, rest) = values.as_chunks::<2>();
        words.clear();
        words.extend(pairs.iter().map(|&[low, high]| word(low, high)));
        words.extend(rest.iter().map(|&low| word(low, 0.0)));
        1.0
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16,fma")]
    pub fn block(panel: &Panel<'_>, words: &[u32], scales: &[f32], first: usize, to: &mut impl Epilogue) {
        use std::arch::x86_64::{
            __m512bh, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
            _mm512_storeu_ps,
        };

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16,fma")]
        fn block<const ROWS: usize>(
            panel: &Panel<'_>,
            words: &[u32],
            _scales: &[f32],
            first: usize,
            to: &mut impl Epilogue,
        ) {
            let mut left = [_mm512_setzero_ps(); ROWS];
            let mut right = left;
            for (lines, words) in panel.lines.as_chunks::<2>().0.iter().zip(words.as_chunks::<ROWS>().0) {
                // SAFETY: a line is 64 bytes; any bits are 32 numbers.
                #[allow(unsafe_code)]
                let [one, two]: [__m512bh; 2] = unsafe {
                    let line = |at: usize| _mm512_loadu_si512(lines[at].0.as_ptr().cast());
                    [std::mem::transmute(line(0)), std::mem::transmute(line(1))]
                };
                for row in 0..ROWS {
                    // SAFETY: as above.
                    #[allow(unsafe_code)]
                    let pair: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi32(words[row] as i32)) };
                    left[row] = _mm512_dpbf16_ps(left[row], pair, one);
                    right[row] = _mm512_dpbf16_ps(right[row], pair, two);
                }
            }
            let mut tile = [[0.0; PANEL]; ROWS];
            for row in 0..ROWS {
                let out = tile[row].as_mut_ptr();
                // SAFETY: 32 numbers: two times 16.
                #[allow(unsafe_code)]
                unsafe {
                    _mm512_storeu_ps(out, left[row]);
                    _mm512_storeu_ps(out.add(16), right[row]);
                }
            }
            to.take(first, tile);
        }
        by_rows!(block, panel, words, scales, first, to, [1 2 3 4 5 6 7 8 9 10 11 12]);
    }
}
