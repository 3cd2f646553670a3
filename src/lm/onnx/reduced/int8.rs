//! Rows and weights as integers of 8 bits, and their products' exact sums.

// Lanes and registers, not elements: an index says which.
#![allow(clippy::needless_range_loop)]

use super::{Epilogue, PANEL, Panel, by_rows};

/// What an integer stands for, and its inverse, so that the largest value becomes 127; NaN where a
/// value is not finite.
#[inline(always)]
pub(super) fn scale(values: &[f32]) -> (f32, f32) {
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
pub(super) fn round(value: f32, inverse: f32) -> i8 {
    // Adding it leaves the integer in the low bits, whatever the processor can do.
    const ROUND: f32 = 12_582_912.0;
    (value * inverse + ROUND).to_bits() as i8
}

#[inline(always)]
fn words_of<const GROUP: usize>(
    values: &[f32],
    words: &mut Vec<u32>,
    word: impl Fn([f32; GROUP], f32) -> u32,
) -> f32 {
    let (scale, inverse) = scale(values);
    let (groups, rest) = values.as_chunks::<GROUP>();
    words.clear();
    words.extend(groups.iter().map(|&group| word(group, inverse)));
    if !rest.is_empty() {
        let mut group = [0.0; GROUP];
        group[..rest.len()].copy_from_slice(rest);
        words.push(word(group, inverse));
    }
    scale
}

/// Four integers a word, 128 above their value.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni,fma")]
pub(super) fn words_vnni(values: &[f32], words: &mut Vec<u32>) -> f32 {
    words_of::<4>(values, words, |group, inverse| {
        u32::from_le_bytes(group.map(|value| round(value, inverse) as u8 ^ 0x80))
    })
}

#[inline(always)]
fn pair(group: [f32; 2], inverse: f32) -> u32 {
    let [low, high] = group.map(|value| u32::from(i16::from(round(value, inverse)) as u16));
    low | high << 16
}

/// Two integers a word.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn words_avx2(values: &[f32], words: &mut Vec<u32>) -> f32 {
    words_of::<2>(values, words, pair)
}

/// Two integers a word.
pub(super) fn words_portable(values: &[f32], words: &mut Vec<u32>) -> f32 {
    words_of::<2>(values, words, pair)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni,fma")]
pub(super) fn vnni(
    panel: &Panel<'_>,
    words: &[u32],
    scales: &[f32],
    first: usize,
    to: &mut impl Epilogue,
) {
    use std::arch::x86_64::{
        __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_storeu_ps,
    };

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni,fma")]
    fn block<const ROWS: usize>(
        panel: &Panel<'_>,
        words: &[u32],
        scales: &[f32],
        first: usize,
        to: &mut impl Epilogue,
    ) {
        // SAFETY: a panel has 32 of each: two times 16.
        #[allow(unsafe_code)]
        let (begins, factors) = unsafe {
            let (begins, factors) = (panel.begins.as_ptr(), panel.scales.as_ptr());
            (
                [_mm512_loadu_si512(begins.cast()), _mm512_loadu_si512(begins.add(16).cast())],
                [_mm512_loadu_ps(factors), _mm512_loadu_ps(factors.add(16))],
            )
        };
        let mut left = [begins[0]; ROWS];
        let mut right = [begins[1]; ROWS];
        for (lines, words) in panel.lines.as_chunks::<2>().0.iter().zip(words.as_chunks::<ROWS>().0) {
            // SAFETY: a line is 64 bytes.
            #[allow(unsafe_code)]
            let [one, two]: [__m512i; 2] =
                unsafe { [_mm512_loadu_si512(lines[0].0.as_ptr().cast()), _mm512_loadu_si512(lines[1].0.as_ptr().cast())] };
            for row in 0..ROWS {
                let word = _mm512_set1_epi32(words[row] as i32);
                left[row] = _mm512_dpbusd_epi32(left[row], word, one);
                right[row] = _mm512_dpbusd_epi32(right[row], word, two);
            }
        }
        let mut tile = [[0.0; PANEL]; ROWS];
        for row in 0..ROWS {
            let scale = _mm512_set1_ps(scales[row]);
            let of = |sum, factor| _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale), factor);
            let (one, two) = (of(left[row], factors[0]), of(right[row], factors[1]));
            let out = tile[row].as_mut_ptr();
            // SAFETY: 32 numbers, as above.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_storeu_ps(out, one);
                _mm512_storeu_ps(out.add(16), two);
            }
        }
        to.take(first, tile);
    }
    by_rows!(block, panel, words, scales, first, to, [1 2 3 4 5 6 7 8 9 10 11 12]);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn avx2(panel: &Panel<'_>, words: &[u32], scales: &[f32], first: usize, to: &mut impl Epilogue) {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_madd_epi16, _mm256_set1_epi32,
        _mm256_setzero_si256, _mm256_storeu_si256,
    };

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn block<const ROWS: usize>(
        panel: &Panel<'_>,
        words: &[u32],
        scales: &[f32],
        first: usize,
        to: &mut impl Epilogue,
    ) {
        let mut parts = [[_mm256_setzero_si256(); 4]; ROWS];
        for (line, words) in panel.lines.iter().zip(words.as_chunks::<ROWS>().0) {
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
        to.take(first, floats(&sums, panel, scales));
    }
    by_rows!(block, panel, words, scales, first, to, [1 2 3]);
}

pub(super) fn portable(
    panel: &Panel<'_>,
    words: &[u32],
    scales: &[f32],
    first: usize,
    to: &mut impl Epilogue,
) {
    fn block<const ROWS: usize>(
        panel: &Panel<'_>,
        words: &[u32],
        scales: &[f32],
        first: usize,
        to: &mut impl Epilogue,
    ) {
        let mut sums = [[0; PANEL]; ROWS];
        for (line, words) in panel.lines.iter().zip(words.as_chunks::<ROWS>().0) {
            for row in 0..ROWS {
                let (low, high) = (i32::from(words[row] as i16), words[row] as i32 >> 16);
                for (sum, [one, two]) in sums[row].iter_mut().zip(line.0.as_chunks::<2>().0) {
                    *sum += low * i32::from(*one as i8) + high * i32::from(*two as i8);
                }
            }
        }
        to.take(first, floats(&sums, panel, scales));
    }
    by_rows!(block, panel, words, scales, first, to, [1 2]);
}

/// What sums of integers stand for.
#[inline(always)]
fn floats<const ROWS: usize>(
    sums: &[[i32; PANEL]; ROWS],
    panel: &Panel<'_>,
    scales: &[f32],
) -> [[f32; PANEL]; ROWS] {
    let mut tile = [[0.0; PANEL]; ROWS];
    for row in 0..ROWS {
        for lane in 0..PANEL {
            tile[row][lane] = sums[row][lane] as f32 * scales[row] * panel.scales[lane];
        }
    }
    tile
}

/// Smaller values than this are as good as 0, and have no inverse.
const SMALLEST: f32 = 1e-30;
