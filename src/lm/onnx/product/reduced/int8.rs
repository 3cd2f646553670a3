//! Rows and weights as integers of 8 bits, and their products' exact sums.

// Lanes and registers, not elements: an index says which.
#![allow(clippy::needless_range_loop)]

use super::super::tile;
use super::super::{Epilogue, PANEL, Panel};
use super::{Block, by_rows};

/// What an integer stands for, and its inverse, so that the largest value becomes 127; NaN where a
/// value is not finite.
#[inline(always)]
pub fn scale(values: &[f32]) -> (f32, f32) {
    // Without their signs, floats are in the order of their bits; NaN and infinity come last.
    let top = values.iter().fold(0, |top, value| top.max(value.to_bits() & 0x7fff_ffff));
    let top = f32::from_bits(top);
    match top {
        _ if !top.is_finite() => (f32::NAN, 0.0),
        _ if top < SMALLEST => (0.0, 0.0),
        _ => (top / 127.0, 127.0 / top),
    }
}

/// The integer nearest to a value; between two the even one.
#[inline(always)]
pub fn round(value: f32, inverse: f32) -> i8 {
    // Adding it leaves the integer in the low bits, whatever the processor can do.
    const ROUND: f32 = 12_582_912.0;
    (value * inverse + ROUND).to_bits() as i8
}

/// Four integers a word, 128 above their value.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni,fma")]
pub fn words_vnni(row: &[f32], words: &mut [u32], step: usize) -> f32 {
    let (scale, inverse) = scale(row);
    for (group, word) in row.as_chunks::<4>().0.iter().zip(words.iter_mut().step_by(step)) {
        *word = u32::from_le_bytes(group.map(|value| round(value, inverse) as u8 ^ 0x80));
    }
    scale
}

/// Two integers a word.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub fn words_avx2(row: &[f32], words: &mut [u32], step: usize) -> f32 {
    words_portable(row, words, step)
}

/// Two integers a word.
#[inline(always)]
pub fn words_portable(row: &[f32], words: &mut [u32], step: usize) -> f32 {
    let (scale, inverse) = scale(row);
    for (pair, word) in row.as_chunks::<2>().0.iter().zip(words.iter_mut().step_by(step)) {
        let [low, high] = pair.map(|value| u32::from(i16::from(round(value, inverse)) as u16));
        *word = low | high << 16;
    }
    scale
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni,fma")]
pub fn vnni<E: Epilogue>(block: &Block<'_>, epilogue: &mut E) {
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_storeu_si512,
    };

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni,fma")]
    fn run<const ROWS: usize, E: Epilogue>(block: &Block<'_>, epilogue: &mut E) {
        // SAFETY: a panel is 32 numbers: two times 16.
        #[allow(unsafe_code)]
        let [one, two]: [__m512i; 2] = unsafe {
            let begins = block.begins.as_ptr();
            [_mm512_loadu_si512(begins.cast()), _mm512_loadu_si512(begins.add(16).cast())]
        };
        let (mut left, mut right) = ([one; ROWS], [two; ROWS]);
        for (lines, words) in block.lines.as_chunks::<2>().0.iter().zip(block.words.as_chunks::<ROWS>().0) {
            // SAFETY: a line is 64 bytes.
            #[allow(unsafe_code)]
            let [one, two] =
                unsafe { [0, 1].map(|line: usize| _mm512_loadu_si512(lines[line].0.as_ptr().cast())) };
            for row in 0..ROWS {
                let word = _mm512_set1_epi32(words[row] as i32);
                left[row] = _mm512_dpbusd_epi32(left[row], word, one);
                right[row] = _mm512_dpbusd_epi32(right[row], word, two);
            }
        }
        let mut sums = [[0; PANEL]; ROWS];
        for row in 0..ROWS {
            let out: *mut i32 = sums[row].as_mut_ptr();
            // SAFETY: as above.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_storeu_si512(out.cast(), left[row]);
                _mm512_storeu_si512(out.add(16).cast(), right[row]);
            }
        }
        finish(&sums, block, epilogue);
    }
    by_rows!(run, block, epilogue, [1 2 3 4 5 6 7 8 9 10 11 12]);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub fn avx2<E: Epilogue>(block: &Block<'_>, epilogue: &mut E) {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_madd_epi16, _mm256_set1_epi32,
        _mm256_setzero_si256, _mm256_storeu_si256,
    };

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn run<const ROWS: usize, E: Epilogue>(block: &Block<'_>, epilogue: &mut E) {
        let mut parts = [[_mm256_setzero_si256(); 4]; ROWS];
        for (line, words) in block.lines.iter().zip(block.words.as_chunks::<ROWS>().0) {
            let words: [_; ROWS] = words.map(|word| _mm256_set1_epi32(word as i32));
            for part in 0..4 {
                // SAFETY: a line is 64 bytes: four times 16.
                #[allow(unsafe_code)]
                let weights = unsafe { _mm_loadu_si128(line.0.as_ptr().add(16 * part).cast()) };
                let weights = _mm256_cvtepi8_epi16(weights);
                for row in 0..ROWS {
                    let products = _mm256_madd_epi16(words[row], weights);
                    parts[row][part] = _mm256_add_epi32(parts[row][part], products);
                }
            }
        }
        let mut sums = [[0; PANEL]; ROWS];
        for row in 0..ROWS {
            for part in 0..4 {
                // SAFETY: 32 numbers: four times 8.
                #[allow(unsafe_code)]
                unsafe {
                    _mm256_storeu_si256(sums[row].as_mut_ptr().add(8 * part).cast(), parts[row][part]);
                }
            }
        }
        finish(&sums, block, epilogue);
    }
    by_rows!(run, block, epilogue, [1 2 3]);
}

pub fn portable<E: Epilogue>(block: &Block<'_>, epilogue: &mut E) {
    fn run<const ROWS: usize, E: Epilogue>(block: &Block<'_>, epilogue: &mut E) {
        let mut sums = [[0; PANEL]; ROWS];
        for (line, words) in block.lines.iter().zip(block.words.as_chunks::<ROWS>().0) {
            for row in 0..ROWS {
                let (low, high) = (i32::from(words[row] as i16), words[row] as i32 >> 16);
                for (sum, [one, two]) in sums[row].iter_mut().zip(line.0.as_chunks::<2>().0) {
                    *sum += low * i32::from(*one as i8) + high * i32::from(*two as i8);
                }
            }
        }
        finish(&sums, block, epilogue);
    }
    by_rows!(run, block, epilogue, [1 2]);
}

/// Hands on what sums of integers stand for.
#[inline(always)]
fn finish<const ROWS: usize>(sums: &[[i32; PANEL]; ROWS], block: &Block<'_>, epilogue: &mut impl Epilogue) {
    let mut tile = [Panel::ZERO; ROWS];
    for row in 0..ROWS {
        for lane in 0..PANEL {
            tile[row].0[lane] = sums[row][lane] as f32 * block.row_scales[row] * block.scales.0[lane];
        }
    }
    // Fused on every processor, however slow: a score does not depend on which it is.
    tile::finish::<true>(block.first, &mut tile, epilogue);
}

/// Smaller values than this are as good as 0, and have no inverse.
const SMALLEST: f32 = 1e-30;
