//! n-grams as numbers: words of a fixed number of bits, so that sorting n-grams is sorting
//! integers.
//!
//! An n-gram lies in one of two orders. In *suffix order* its last word is the most significant
//! and its first word the least: n-grams with a common ending lie together, and dropping the
//! first word is a shift. In *context order* the last word is moved to the bottom: n-grams
//! with a common context lie together, contexts in suffix order.

/// An unsigned integer of `L` times 64 bits, most significant limb first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key<const L: usize>([u64; L]);

/// How words are packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    /// Bits of a word.
    pub bits: u32,
}

impl<const L: usize> Key<L> {
    pub const BITS: u32 = 64 * L as u32;
    pub const ZERO: Self = Self([0; L]);

    pub fn right(self, by: u32) -> Self {
        let (limbs, by) = ((by / 64) as usize, by % 64);
        let mut out = [0; L];
        for (at, out) in out.iter_mut().enumerate().skip(limbs) {
            let low = self.0[at - limbs] >> by;
            let high = if by > 0 && at > limbs { self.0[at - limbs - 1] << (64 - by) } else { 0 };
            *out = low | high;
        }
        Self(out)
    }

    pub fn left(self, by: u32) -> Self {
        let (limbs, by) = ((by / 64) as usize, by % 64);
        let mut out = [0; L];
        for (at, out) in out.iter_mut().enumerate().take(L.saturating_sub(limbs)) {
            let high = self.0[at + limbs] << by;
            let low = if by > 0 && at + limbs + 1 < L { self.0[at + limbs + 1] >> (64 - by) } else { 0 };
            *out = high | low;
        }
        Self(out)
    }

    fn or(mut self, other: Self) -> Self {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a |= b;
        }
        self
    }

    fn low(self, bits: u32) -> Self {
        let clear = Self::BITS.saturating_sub(bits);
        self.left(clear).right(clear)
    }

    fn of(word: u32) -> Self {
        let mut out = [0; L];
        out[L - 1] = u64::from(word);
        Self(out)
    }

    fn leading_zeros(self) -> u32 {
        let zeros = self.0.iter().take_while(|limb| **limb == 0).count();
        64 * zeros as u32 + self.0.get(zeros).map_or(0, |limb| limb.leading_zeros())
    }

    /// Appends the lowest `bytes` bytes, the lowest first.
    pub fn write(self, bytes: usize, out: &mut Vec<u8>) {
        let mut left = bytes;
        for limb in self.0.iter().rev() {
            let part = left.min(8);
            out.extend_from_slice(&limb.to_le_bytes()[..part]);
            left -= part;
        }
    }

    /// What [`Key::write`] wrote.
    pub fn read(bytes: &[u8]) -> Self {
        let mut out = [0; L];
        for (limb, part) in out.iter_mut().rev().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..part.len()].copy_from_slice(part);
            *limb = u64::from_le_bytes(whole);
        }
        Self(out)
    }
}

impl Packing {
    /// For ids below `words`.
    pub fn new(words: usize) -> Self {
        Self { bits: (words.max(2) - 1).ilog2() + 1 }
    }

    /// The bytes that an n-gram needs.
    pub fn bytes(self, n: usize) -> usize {
        (n * self.bits as usize).div_ceil(8)
    }

    /// The n-gram (suffix order) after another one: its first word falls out, `word` follows.
    pub fn roll<const L: usize>(self, key: Key<L>, n: usize, word: u32) -> Key<L> {
        key.right(self.bits).or(Key::of(word).left(self.bits * (n as u32 - 1)))
    }

    /// The n-gram (suffix order) without its first `words` words.
    pub fn without_first<const L: usize>(self, key: Key<L>, words: usize) -> Key<L> {
        key.right(self.bits * words as u32)
    }

    /// A word of an n-gram (suffix order), from 0, the first.
    pub fn word<const L: usize>(self, key: Key<L>, at: usize) -> u32 {
        self.last_bits(key.right(self.bits * at as u32))
    }

    /// How many words two different n-grams (suffix order) have in common at their ends.
    pub fn common<const L: usize>(self, a: Key<L>, b: Key<L>, n: usize) -> usize {
        let mut difference = a.0;
        for (x, y) in difference.iter_mut().zip(b.0) {
            *x ^= y;
        }
        let unused = Key::<L>::BITS - self.bits * n as u32;
        (Key(difference).leading_zeros() - unused).min(self.bits * n as u32) as usize / self.bits as usize
    }

    /// From suffix order to context order.
    pub fn to_context<const L: usize>(self, key: Key<L>, n: usize) -> Key<L> {
        let last = self.bits * (n as u32 - 1);
        key.low(last).left(self.bits).or(key.right(last))
    }

    /// From context order to suffix order.
    pub fn to_suffix<const L: usize>(self, key: Key<L>, n: usize) -> Key<L> {
        let last = Key::of(self.last_bits(key));
        key.right(self.bits).or(last.left(self.bits * (n as u32 - 1)))
    }

    /// The context of an n-gram in context order: an n-gram of one word less in suffix order.
    pub fn context<const L: usize>(self, key: Key<L>) -> Key<L> {
        key.right(self.bits)
    }

    fn last_bits<const L: usize>(self, key: Key<L>) -> u32 {
        (key.0[L - 1] & ((1 << self.bits) - 1)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack<const L: usize>(packing: Packing, words: &[u32]) -> Key<L> {
        words.iter().fold(Key::ZERO, |key, &word| packing.roll(key, words.len(), word))
    }

    fn check<const L: usize>(packing: Packing, a: &[u32], b: &[u32]) {
        let n = a.len();
        let (x, y) = (pack::<L>(packing, a), pack::<L>(packing, b));
        let words: Vec<u32> = (0..n).map(|at| packing.word(x, at)).collect();
        assert_eq!(words, a);
        // Suffix order is the order of the words read from the end.
        assert_eq!(x.cmp(&y), a.iter().rev().cmp(b.iter().rev()));
        if a != b {
            let common = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
            assert_eq!(packing.common(x, y, n), common);
        }
        assert_eq!(packing.without_first(x, 1), pack(packing, &a[1..]));
        let (cx, cy) = (packing.to_context(x, n), packing.to_context(y, n));
        assert_eq!(packing.to_suffix(cx, n), x);
        let context = |words: &[u32]| words[..n - 1].iter().rev().copied().collect::<Vec<u32>>();
        assert_eq!(cx.cmp(&cy), (context(a), a[n - 1]).cmp(&(context(b), b[n - 1])));
        assert_eq!(packing.context(cx), pack(packing, &a[..n - 1]));
        let mut bytes = Vec::new();
        x.write(packing.bytes(n), &mut bytes);
        assert_eq!(bytes.len(), packing.bytes(n));
        assert_eq!(Key::read(&bytes), x);
    }

    #[test]
    fn bits_hold_the_largest_id() {
        for (words, bits) in [(1, 1), (3, 2), (4, 2), (5, 3), (1 << 18, 18), ((1 << 18) + 1, 19)] {
            assert_eq!(Packing::new(words).bits, bits, "{words} words");
        }
    }

    proptest! {
        #[test]
        fn orders_are_those_of_the_words(
            bits in 1u32..=32,
            n in 1usize..=8,
            words in prop::collection::vec(any::<u32>(), 16),
            same in 0usize..8,
        ) {
            let packing = Packing { bits };
            let mask = (1u64 << bits) - 1;
            let words: Vec<u32> = words.iter().map(|&word| (u64::from(word) & mask) as u32).collect();
            let a = &words[..n];
            let mut b = words[8..8 + n].to_vec();
            let end = n.saturating_sub(same)..n;
            b[end.clone()].copy_from_slice(&a[end]);
            let size = bits as usize * n;
            if size <= 64 {
                check::<1>(packing, a, &b);
            }
            if size <= 128 {
                check::<2>(packing, a, &b);
            }
            check::<4>(packing, a, &b);
        }
    }
}
