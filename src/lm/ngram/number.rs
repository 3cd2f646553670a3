//! Decimal numbers as ARPA files write them, correctly rounded to `f32`.

/// The number that `token` spells as a whole: an optional sign, decimal digits with an optional
/// fraction and exponent, or `inf` in lower case. `None` for anything else (`nan`, hexadecimal,
/// `Inf`): KenLM takes none of them.
///
/// Overflow gives an infinity, underflow a zero or a subnormal, as IEEE 754 rounds them.
pub(crate) fn parse(token: &[u8]) -> Option<f32> {
    let (negative, digits) = match token {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let magnitude = match decimal(digits) {
        Some(Decimal { value: Some(value), .. }) => value,
        // Rust's grammar takes all of ours, and its rounding is exact.
        Some(_) => std::str::from_utf8(digits).ok()?.parse().ok()?,
        None if digits == b"inf" => f32::INFINITY,
        None => return None,
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// A well-formed decimal; `value` where the fast path is exact.
struct Decimal {
    value: Option<f32>,
}

fn decimal(text: &[u8]) -> Option<Decimal> {
    let mut mantissa: u64 = 0;
    let mut at = 0;
    let mut digits = 0;
    while let Some(digit) = digit_at(text, at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        digits += 1;
        at += 1;
    }
    let mut fraction = 0;
    if text.get(at) == Some(&b'.') {
        at += 1;
        while let Some(digit) = digit_at(text, at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            fraction += 1;
            at += 1;
        }
        digits += fraction;
    }
    if digits == 0 {
        return None;
    }
    if at == text.len() {
        return Some(Decimal { value: divide(mantissa, digits, fraction) });
    }
    exponent(&text[at..]).then_some(Decimal { value: None })
}

/// `mantissa / 10^fraction`, where rounding twice (to `f64`, then to `f32`) cannot differ from
/// rounding once.
///
/// Up to 15 digits are exact in `f64`, as is 10^k up to k = 22, so the quotient is the true value
/// correctly rounded to `f64`. Rounding is monotonic and every midpoint between two `f32` is an
/// `f64`; so unless the quotient *is* a midpoint it lies on the same side of it as the true value,
/// and the second rounding goes where a single one would have gone. Subnormal results have other
/// midpoints; they, and zero, are left to the slow path or are exact.
fn divide(mantissa: u64, digits: usize, fraction: usize) -> Option<f32> {
    const LOW: u64 = (1 << 29) - 1;
    const MIDPOINT: u64 = 1 << 28;
    if digits > 15 {
        return None;
    }
    if mantissa == 0 {
        return Some(0.0);
    }
    let quotient = mantissa as f64 / POWERS[fraction];
    if quotient.to_bits() & LOW == MIDPOINT || quotient < f64::from(f32::MIN_POSITIVE) {
        return None;
    }
    Some(quotient as f32)
}

/// Whether `text` is an exponent: `e`, an optional sign, digits.
fn exponent(text: &[u8]) -> bool {
    let [b'e' | b'E', rest @ ..] = text else { return false };
    let digits = match rest {
        [b'-' | b'+', digits @ ..] => digits,
        digits => digits,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn digit_at(text: &[u8], at: usize) -> Option<u64> {
    let digit = text.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agrees(text: &str) {
        let expected: f32 = text.parse().unwrap();
        assert_eq!(parse(text.as_bytes()).map(f32::to_bits), Some(expected.to_bits()), "{text}");
    }

    #[test]
    fn syntax_is_policed() {
        for good in [
            "0", "-0", "+1", ".5", "-.5", "5.", "-1e-40", "1E5", "1e+2", "-99", "1e99", "-1e-99", "inf",
            "-inf",
        ] {
            agrees(good);
        }
        let bad = ["", "-", "+", ".", "-.", "e5", "1e", "1e+", "1.2.3", "0x10", "nan", "NaN", "Inf"];
        let worse = ["-Inf", "infinity", "1_0", "--1", "1f", " 1", "1 ", "1,5", "e", "-0.25abc"];
        for bad in bad.into_iter().chain(worse) {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn every_short_decimal_rounds_as_the_standard_library_rounds_it() {
        // All of -9.9999 ..= 0, and a million of the seven to ten digits that estimators write.
        for n in 0..100_000u32 {
            agrees(&format!("-{}.{:04}", n / 10_000, n % 10_000));
        }
        let mut seed = 1u64;
        for _ in 0..1_000_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let digits = 7 + (seed >> 60) % 4;
            let n = (seed >> 20) % 10u64.pow(digits as u32);
            agrees(&format!("-{}.{:0w$}", n % 13, n, w = digits as usize));
        }
    }

    #[test]
    fn midpoints_between_two_floats_are_rounded_once() {
        for bits in (0x3f80_0000u32..0x4180_0000).step_by(9973) {
            let (low, high) = (f32::from_bits(bits), f32::from_bits(bits + 1));
            let middle = (f64::from(low) + f64::from(high)) / 2.0;
            for text in [
                format!("{middle}"),
                format!("{middle:.13}"),
                format!("{middle:.9}"),
                format!("{middle:.40}1"),
                format!("{}", f64::from_bits(middle.to_bits() - 1)),
            ] {
                agrees(&text);
            }
        }
    }

    proptest! {
        #[test]
        fn any_decimal_rounds_as_the_standard_library_rounds_it(
            text in "[-+]?[0-9]{0,12}(\\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?"
        ) {
            let expected = text.parse::<f32>().ok().map(f32::to_bits);
            prop_assert_eq!(parse(text.as_bytes()).map(f32::to_bits), expected, "{}", text);
        }

        #[test]
        fn any_float_is_read_back(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(parse(format!("{value}").as_bytes()).map(f32::to_bits), Some(bits));
            prop_assert_eq!(parse(format!("{value:e}").as_bytes()).map(f32::to_bits), Some(bits));
        }

        #[test]
        fn any_bytes_are_a_number_or_none(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            parse(&bytes);
        }
    }
}
