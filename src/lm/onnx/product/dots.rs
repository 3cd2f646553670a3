//! Products of single rows in f32, of the same bits on every processor: in eight lanes, added up in pairs.

use super::PIECE;

/// The products of one row with others, as long as it (a multiple of [`PIECE`]). Four at a time: each alone
/// would wait for its own additions.
pub fn dots<'a>(rows: impl Iterator<Item = &'a [f32]>, row: &[f32], mut give: impl FnMut(f32)) {
    let mut rows = rows.peekable();
    while let Some(first) = rows.next() {
        let mut four = [first; 4];
        let mut count = 1;
        while count < 4 {
            let Some(next) = rows.next() else { break };
            four[count] = next;
            count += 1;
        }
        together(four, row)[..count].iter().for_each(|&product| give(product));
    }
}

/// The product of two rows. As wide as the shorter one, whose length is a multiple of [`PIECE`].
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    together([a; 4], b)[0]
}

fn together(four: [&[f32]; 4], row: &[f32]) -> [f32; 4] {
    let length = four.iter().fold(row.len(), |length, other| length.min(other.len())) / PIECE * PIECE;
    let (four, row) = (four.map(|other| &other[..length]), &row[..length]);
    let lanes = lanes(four, row);
    lanes.map(|[a, b, c, d, e, f, g, h]| ((a + e) + (c + g)) + ((b + f) + (d + h)))
}

/// The lanes' sums; all rows are equally long.
fn lanes(four: [&[f32]; 4], row: &[f32]) -> [[f32; PIECE]; 4] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor was asked.
        #[allow(unsafe_code)]
        return unsafe { by_instruction(four, row) };
    }
    portable(four, row)
}

fn portable(four: [&[f32]; 4], row: &[f32]) -> [[f32; PIECE]; 4] {
    four.map(|other| {
        let mut sums = [0f32; PIECE];
        for (a, b) in other.as_chunks::<PIECE>().0.iter().zip(row.as_chunks::<PIECE>().0) {
            sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum = a.mul_add(*b, *sum));
        }
        sums
    })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn by_instruction(four: [&[f32]; 4], row: &[f32]) -> [[f32; PIECE]; 4] {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps};

    let mut sums = [_mm256_setzero_ps(); 4];
    let mut at = 0;
    while at < row.len() {
        // SAFETY: all rows are as long as `row`, a multiple of 8.
        #[allow(unsafe_code)]
        unsafe {
            let values = _mm256_loadu_ps(row.as_ptr().add(at));
            sums[0] = _mm256_fmadd_ps(_mm256_loadu_ps(four[0].as_ptr().add(at)), values, sums[0]);
            sums[1] = _mm256_fmadd_ps(_mm256_loadu_ps(four[1].as_ptr().add(at)), values, sums[1]);
            sums[2] = _mm256_fmadd_ps(_mm256_loadu_ps(four[2].as_ptr().add(at)), values, sums[2]);
            sums[3] = _mm256_fmadd_ps(_mm256_loadu_ps(four[3].as_ptr().add(at)), values, sums[3]);
        }
        at += PIECE;
    }
    sums.map(|sum| {
        let mut lanes = [0f32; PIECE];
        // SAFETY: eight numbers.
        #[allow(unsafe_code)]
        unsafe {
            _mm256_storeu_ps(lanes.as_mut_ptr(), sum);
        }
        lanes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bits_with_and_without_instructions_and_near_sums_in_f64() {
        let numbers = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|at| ((at * 7919 + seed * 104_729) % 2_003) as f32 / 1e3 - 1.0).collect()
        };
        for width in [0, 8, 16, 104, 512] {
            let row = numbers(width, 1);
            for count in 0..10 {
                let all: Vec<Vec<f32>> = (0..count).map(|seed| numbers(width, seed + 2)).collect();
                let mut got = Vec::new();
                dots(all.iter().map(|other| &other[..]), &row, |product| got.push(product));
                assert_eq!(got.len(), count);
                for (other, got) in all.iter().zip(got) {
                    let four = [&other[..]; 4];
                    assert_eq!(lanes(four, &row), portable(four, &row));
                    assert_eq!(dot(other, &row).to_bits(), got.to_bits());
                    let sum: f64 = other.iter().zip(&row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    assert!((f64::from(got) - sum).abs() < 1e-4, "{got}, not {sum}");
                }
            }
        }
    }
}
