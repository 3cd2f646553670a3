//! e^x and what is made of it, for many lanes at once, in a form that compilers turn into vector code.
//!
//! `FUSED` says that the processor multiplies and adds in one instruction.

/// e^x of each lane for x <= 87; 0 below -87. Within 2 units in the last place.
///
/// Range reduction to half of ln 2 in two steps (Cody and Waite 1980), then the polynomial of
/// Cephes' `expf`.
#[inline(always)]
pub fn exponential<const LANES: usize, const FUSED: bool>(x: [f32; LANES]) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for (out, x) in out.iter_mut().zip(x) {
        *out = one::<FUSED>(x);
    }
    out
}

/// 1 / (1 + e^-x) of each lane. Within 4 units in the last place for x >= -87; below, at most 2e-38.
#[inline(always)]
pub fn sigmoid<const LANES: usize, const FUSED: bool>(x: [f32; LANES]) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for (out, x) in out.iter_mut().zip(x) {
        let x = if x < -87.0 { -87.0 } else { x };
        *out = 1.0 / (1.0 + one::<FUSED>(-x));
    }
    out
}

/// The hyperbolic tangent of each lane. Within 4 units in the last place.
///
/// Near 0 the polynomial of Cephes' `tanhf`, elsewhere from e^2x.
#[inline(always)]
pub fn tanh<const LANES: usize, const FUSED: bool>(x: [f32; LANES]) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for (out, x) in out.iter_mut().zip(x) {
        let size = x.abs();
        // From 9.02 on it is 1 in f32. Said so that NaN stays.
        let bounded = if size > 10.0 { 10.0 } else { size };
        let far = 1.0 - 2.0 / (one::<FUSED>(2.0 * bounded) + 1.0);
        let square = x * x;
        let mut p = -5.704_988_7e-3;
        for coefficient in [2.063_909e-2, -5.373_971_5e-2, 0.133_314_42, -0.333_332_8] {
            p = add::<FUSED>(p, square, coefficient);
        }
        let near = add::<FUSED>(p * square, size, size);
        *out = if size < 0.625 { near } else { far }.copysign(x);
    }
    out
}

#[inline(always)]
fn one<const FUSED: bool>(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding it leaves an integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let low = x < -87.0;
    let x = if low { -87.0 } else { x };
    let rounded = add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let exponent = rounded - ROUND;
    let r = add::<FUSED>(exponent, -LN_2_LOW, add::<FUSED>(exponent, -LN_2_HIGH, x));
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = add::<FUSED>(p, r, coefficient);
    }
    let p = add::<FUSED>(p, r * r, r + 1.0);
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if low { 0.0 } else { p * scale }
}

/// `a * b + c`.
#[inline(always)]
pub fn add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    // Without the instruction `mul_add` would be a call, many times slower.
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `step`, from `from` to `to`.
    fn scan(from: f32, to: f32, step: f32, mut see: impl FnMut(f32)) {
        let mut x = from;
        while x < to {
            see(x);
            x += step;
        }
    }

    /// How many units in the last place of `want` a number is away.
    fn units(got: f32, want: f64) -> f64 {
        let near = want as f32;
        let unit = f64::from(f32::from_bits(near.abs().to_bits() + 1)) - f64::from(near.abs());
        (f64::from(got) - want).abs() / unit
    }

    #[test]
    fn as_the_standard_library() {
        scan(-100.0, 87.0, 0.000_731, |x| {
            let want = f64::from(x).exp();
            for got in [exponential::<1, true>([x])[0], exponential::<1, false>([x])[0]] {
                if x < -87.0 {
                    assert_eq!(got, 0.0, "{x}");
                } else {
                    assert!((f64::from(got) / want - 1.0).abs() < 2.4e-7, "e^{x}: {got}, not {want}");
                }
            }
        });
        assert_eq!(exponential::<1, true>([0.0])[0], 1.0);
        assert_eq!(exponential::<1, true>([f32::NEG_INFINITY])[0], 0.0);
        assert!(exponential::<1, true>([f32::NAN])[0].is_nan());
    }

    #[test]
    fn gates_within_a_few_units() {
        let mut worst = [0.0f64; 2];
        let mut see = |x: f32| {
            let wide = f64::from(x);
            let gate = 1.0 / (1.0 + (-wide).exp());
            for got in [sigmoid::<1, true>([x])[0], sigmoid::<1, false>([x])[0]] {
                if x >= -87.0 {
                    worst[0] = worst[0].max(units(got, gate));
                } else {
                    assert!((0.0..=2e-38).contains(&got), "{x}: {got}");
                }
            }
            for got in [tanh::<1, true>([x])[0], tanh::<1, false>([x])[0]] {
                worst[1] = worst[1].max(units(got, wide.tanh()));
            }
        };
        scan(-100.0, 100.0, 0.000_731, &mut see);
        scan(-1.0, 1.0, 0.000_003_1, &mut see);
        assert!(worst.iter().all(|&units| units <= 4.0), "{worst:?}");
        for infinite in [f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(tanh::<1, true>([infinite])[0], infinite.signum());
            assert!((sigmoid::<1, true>([infinite])[0] - (infinite.signum() + 1.0) / 2.0).abs() < 2e-38);
        }
        assert!(sigmoid::<1, true>([f32::NAN])[0].is_nan() && tanh::<1, true>([f32::NAN])[0].is_nan());
    }
}
