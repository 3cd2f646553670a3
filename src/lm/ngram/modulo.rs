//! Remainders by one divisor, without dividing: a division takes longer than all else of a lookup that
//! does not wait for memory.

/// A divisor, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Modulo {
    divisor: u64,
    /// 2^64 / divisor, less up to 1.
    reciprocal: u64,
}

impl Modulo {
    /// By this number; 0 counts as 1.
    pub(crate) fn new(divisor: u64) -> Self {
        let divisor = divisor.max(1);
        Self { divisor, reciprocal: u64::MAX / divisor }
    }

    /// The divisor.
    #[inline]
    pub(crate) fn divisor(self) -> u64 {
        self.divisor
    }

    /// `number % divisor`.
    ///
    /// The reciprocal is too small by 1 at most, so the product is by less than 1, and the quotient is
    /// right or one too small.
    #[inline]
    pub(crate) fn of(self, number: u64) -> u64 {
        let quotient = ((u128::from(number) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = number.wrapping_sub(quotient.wrapping_mul(self.divisor));
        if rest >= self.divisor { rest - self.divisor } else { rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn at_the_edges_too() {
        let mut edges: Vec<u64> =
            (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]).collect();
        edges.extend((0..4).map(|less| u64::MAX - less));
        for &divisor in edges.iter().filter(|&&divisor| divisor > 0) {
            let modulo = Modulo::new(divisor);
            let multiples = [divisor - 1, (u64::MAX / divisor).wrapping_mul(divisor)];
            for number in edges.iter().copied().chain(multiples).chain([multiples[1].wrapping_sub(1)]) {
                assert_eq!(modulo.of(number), number % divisor, "{number} % {divisor}");
            }
        }
    }

    proptest! {
        #[test]
        fn is_the_remainder(number in any::<u64>(), divisor in 1u64.., shift in 0u32..64) {
            let divisor = (divisor >> shift).max(1);
            prop_assert_eq!(Modulo::new(divisor).of(number), number % divisor);
        }
    }
}
