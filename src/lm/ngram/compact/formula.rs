//! Probabilities of interpolated models from their parts.
//!
//! A model that interpolates (Kneser and Ney 1995; Chen and Goodman 1998) has
//! p(w | h) = a + b(h) p(w | h'), where h' is h without its farthest word, b(h) the backoff of h
//! and a the discounted share of the count, which takes few values. So log10 p(w | h) need not be
//! stored: a does, as a symbol, and by how many units in the last place the result differs.
//!
//! Everything here is made of additions, multiplications and divisions, whose results IEEE 754
//! fixes, so every machine gets the same bits.

/// log10 (share + 10^(backoff + lower)), without its sign: the bits of an estimate of |log10 p|.
#[inline]
pub(super) fn predict(share: f32, backoff: f32, lower: f32) -> u32 {
    let sum = f64::from(share) + exp10(f64::from(backoff) + f64::from(lower));
    (log10(sum) as f32).to_bits() & MAGNITUDE
}

/// The share that makes [`predict`] give log10 p, and by how much it may be off if the result may
/// be off by `units` in the last place.
pub(super) fn share(log10_p: f32, backoff: f32, lower: f32, units: f64) -> (f64, f64) {
    let p = exp10(f64::from(log10_p));
    let unit = f64::from(f32::from_bits(log10_p.to_bits().wrapping_add(1)) - log10_p).abs();
    (p - exp10(f64::from(backoff) + f64::from(lower)), p * std::f64::consts::LN_10 * unit * units)
}

/// 10^x as a number, of a log10 probability or backoff.
pub(super) fn linear(log10: f32) -> f64 {
    exp10(f64::from(log10)).min(LARGEST)
}

/// log10 by a table: as exact as an `f32` needs, and fast.
#[derive(Debug, Clone)]
pub(super) struct Log10 {
    /// Of a mantissa's first bits, the middle of those numbers: its inverse and its log10.
    table: Box<[(f64, f64); PARTS]>,
}

impl Log10 {
    pub(super) fn new() -> Self {
        let middle = |at: usize| 1.0 + (at as f64 + 0.5) / PARTS as f64;
        Self { table: Box::new(std::array::from_fn(|at| (1.0 / middle(at), log10(middle(at))))) }
    }

    /// The bits of |log10 p|. Something for numbers that are not positive and normal.
    #[inline]
    pub(super) fn magnitude(&self, p: f64) -> u32 {
        let bits = p.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i64 - 1023;
        let mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
        let (inverse, log) = self.table[(bits >> 45) as usize % PARTS];
        let r = mantissa * inverse - 1.0;
        let square = r * r;
        let high = (1.0 / 3.0 - 0.25 * r) + square * (0.2 - r * (1.0 / 6.0));
        let ln = (r - 0.5 * square) + square * r * high;
        let sum = exponent as f64 * std::f64::consts::LOG10_2 + (log + ln * std::f64::consts::LOG10_E);
        (sum as f32).to_bits() & MAGNITUDE
    }
}

/// 10^x for x from -300 to 300, to about 15 digits; bounds beyond.
#[inline]
fn exp10(x: f64) -> f64 {
    let bits = x.clamp(-300.0, 300.0) * std::f64::consts::LOG2_10;
    // The floor: that of the standard library is a call where processors may lack the instruction.
    let half_up = bits + 0.5;
    let cut = half_up as i32;
    let whole = cut - i32::from(f64::from(cut) > half_up);
    let z = (bits - f64::from(whole)) * std::f64::consts::LN_2;
    let sum = INVERSE_FACTORIALS.iter().fold(0.0, |sum, factor| sum * z + factor);
    sum * f64::from_bits(((whole + 1023) as u64) << 52)
}

/// log10 x for positive normal numbers, to about 13 digits; something for others.
#[inline]
fn log10(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52 & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let sum = INVERSE_ODDS.iter().fold(0.0, |sum, factor| sum * square + factor);
    exponent as f64 * std::f64::consts::LOG10_2 + 2.0 * z * sum * std::f64::consts::LOG10_E
}

/// All bits of an `f32` but its sign.
pub(super) const MAGNITUDE: u32 = 0x7fff_ffff;

/// Beyond this nothing is a probability or a backoff; products of some stay finite.
const LARGEST: f64 = 1e30;
/// Entries of a table of logarithms.
const PARTS: usize = 128;

/// 1/k!, k falling.
const INVERSE_FACTORIALS: [f64; 13] = [
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// 1/(2k+1), k falling.
const INVERSE_ODDS: [f64; 9] =
    [1.0 / 17.0, 1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 0.2, 1.0 / 3.0, 1.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_and_logarithms_are_near_those_of_the_system() {
        for at in -4000..400 {
            let x = f64::from(at) / 13.7;
            let (ours, theirs) = (exp10(x), 10f64.powf(x));
            assert!((ours / theirs - 1.0).abs() < 1e-12, "10^{x}: {ours} and {theirs}");
            assert!((log10(theirs) - x).abs() < 1e-11, "log10 {theirs}: {} and {x}", log10(theirs));
        }
    }

    /// These bits must never change: files depend on them.
    #[test]
    fn predictions_have_the_same_bits_everywhere() {
        let of = |a, b, c| predict(a, b, c);
        let found = [of(0.5, -0.25, -1.5), of(0.0, -0.1, -7.0), of(0.001, 0.0, -3.0), of(1e-9, -30.0, -40.0)];
        assert_eq!(found, PREDICTED, "{found:#x?}");
    }

    #[test]
    fn the_table_gives_what_the_series_gives() {
        let table = Log10::new();
        let mut p = 1e-30f64;
        let mut units = [0; 2];
        while p < 1.0 {
            let series = (log10(p) as f32).to_bits() & MAGNITUDE;
            let off = table.magnitude(p).abs_diff(series) as usize;
            units[off] += 1;
            p *= 1.000_7;
        }
        // Where a result lies between two numbers, either may be taken.
        assert!(units[1] * 1_000_000 < units[0], "{units:?}");
        assert_eq!([0.5, 0.001, 0.999_999, 3e-9].map(|p| table.magnitude(p)), TABLED);
    }

    /// -log10 of those, rounded to the nearest `f32`: as another program computes them.
    const TABLED: [u32; 4] = [0x3e9a_209b, 0x4040_0000, 0x34e9_2902, 0x4108_5db6];

    /// log10(0.5 + 10^-1.75), 7.1, log10(0.002), 9: as another program computes them.
    const PREDICTED: [u32; 4] = [0x3e92_5b3e, 0x40e3_3333, 0x402c_bbed, 0x4110_0000];
}
