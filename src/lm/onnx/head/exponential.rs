//! e^x for many lanes at once, in a form that compilers turn into vector code.

/// e^x of each lane for x <= 64; 0 below -87. Within 2 units in the last place.
///
/// Range reduction to half of ln 2 in two steps (Cody and Waite 1980), then the polynomial of
/// Cephes' `expf`. `FUSED` says that the processor multiplies and adds in one instruction.
#[inline(always)]
pub(in crate::lm::onnx) fn exponential<const LANES: usize, const FUSED: bool>(x: [f32; LANES]) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for (out, x) in out.iter_mut().zip(x) {
        *out = one::<FUSED>(x);
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
fn add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    // Without the instruction `mul_add` would be a call, many times slower.
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_standard_library() {
        let mut x = -100.0f32;
        while x < 64.0 {
            let want = f64::from(x).exp();
            for got in [exponential::<1, true>([x])[0], exponential::<1, false>([x])[0]] {
                if x < -87.0 {
                    assert_eq!(got, 0.0, "{x}");
                } else {
                    assert!((f64::from(got) / want - 1.0).abs() < 2.4e-7, "e^{x}: {got}, not {want}");
                }
            }
            x += 0.000_731;
        }
        assert_eq!(exponential::<1, true>([0.0])[0], 1.0);
        assert_eq!(exponential::<1, true>([f32::NEG_INFINITY])[0], 0.0);
        assert!(exponential::<1, true>([f32::NAN])[0].is_nan());
    }
}
