//! A small seeded generator (xoshiro256++): equal seeds give equal results on every machine.

/// The state.
#[derive(Debug, Clone)]
pub(crate) struct Random([u64; 4]);

impl Random {
    /// A generator whose whole sequence depends on `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        // splitmix64 spreads the seed, so that 0 and neighbouring seeds are as good as any.
        let mut z = seed;
        Self(std::array::from_fn(|_| {
            z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let x = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        }))
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// An integer below `n`; 0 for `n` = 0. The bias, `n` / 2^64, is far below what can be seen.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub(crate) fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Puts `items` into random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// So many numbers, uniform in [-1, 1).
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let next = || (random.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0;
    std::iter::repeat_with(next).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // First outputs of xoshiro256++ for the state 1, 2, 3, 4.
        let mut random = Random([1, 2, 3, 4]);
        assert_eq!([random.bits(), random.bits(), random.bits()], [41943041, 58720359, 3588806011781223]);
    }

    #[test]
    fn numbers_below_n_are_even() {
        let mut random = Random::new(0);
        let mut seen = [0; 10];
        (0..100_000).for_each(|_| seen[random.below(10)] += 1);
        assert!(seen.iter().all(|n| (9_500..10_500).contains(n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
