//! Bits with rank and select.
//!
//! Every 64 bytes hold the number of ones before them and 448 bits, so that one line of the
//! processor's cache answers a rank. A select begins at the block that a sample names.

use std::io::{self, Write};

use super::bits::{half, word};

/// Where bits lie in a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bits {
    start: usize,
    samples: usize,
    blocks: u64,
    ones: u64,
}

impl Bits {
    /// `len` bits, `ones` of them set, from the byte `start`.
    pub(super) fn new(start: usize, len: u64, ones: u64) -> Self {
        let blocks = blocks(len);
        let samples = start.wrapping_add((blocks as usize).wrapping_mul(BLOCK_BYTES));
        Self { start, samples, blocks, ones }
    }

    /// Bytes that so many bits take; `None` if no file can be so large.
    pub(super) fn bytes(len: u64, ones: u64) -> Option<u64> {
        let samples = (ones / SAMPLE + 1).checked_mul(4)?.checked_next_multiple_of(8)?;
        blocks(len).checked_mul(BLOCK_BYTES as u64)?.checked_add(samples)
    }

    /// The bit at a position, and the number of ones before it.
    #[inline]
    pub(super) fn rank(&self, bytes: &[u8], at: u64) -> (bool, u64) {
        let (block, bit) = (at / BLOCK, at % BLOCK);
        let base = self.block(block);
        let mut ones = word(bytes, base);
        let full = (bit / 64) as usize;
        for index in 1..=full {
            ones = ones.wrapping_add(u64::from(word(bytes, base.wrapping_add(8 * index)).count_ones()));
        }
        let last = word(bytes, base.wrapping_add(8 * (full + 1)));
        let shift = bit % 64;
        let below = last & ((1 << shift) - 1);
        (last >> shift & 1 == 1, ones.wrapping_add(u64::from(below.count_ones())))
    }

    /// The position of the one number `k`. If there is none, some position.
    #[inline]
    pub(super) fn select(&self, bytes: &[u8], k: u64) -> u64 {
        let sample = |index: u64| {
            u64::from(half(bytes, self.samples.wrapping_add(4 * index as usize))).min(self.blocks - 1)
        };
        let k = k.min(self.ones);
        let from = sample(k / SAMPLE);
        let block = self.last_block(bytes, from, k, |block| self.ones_before(bytes, block));
        self.in_block(bytes, block, k.wrapping_sub(self.ones_before(bytes, block)), 0)
    }

    /// The position of the zero number `k`, which must not lie before the block of position
    /// `from`.
    #[inline]
    pub(super) fn select_zero(&self, bytes: &[u8], from: u64, k: u64) -> u64 {
        let zeros = |block: u64| (block * BLOCK).wrapping_sub(self.ones_before(bytes, block));
        let block = self.last_block(bytes, (from / BLOCK).min(self.blocks - 1), k, zeros);
        self.in_block(bytes, block, k.wrapping_sub(zeros(block)), u64::MAX)
    }

    /// Number of ones without a zero between them from a position on, at most `limit`.
    #[inline]
    pub(super) fn run(&self, bytes: &[u8], at: u64, limit: u64) -> u64 {
        let mut length = 0;
        while length < limit {
            let (block, bit) = ((at + length) / BLOCK, (at + length) % BLOCK);
            if block >= self.blocks {
                break;
            }
            let base = self.block(block).wrapping_add(8 * (bit as usize / 64 + 1));
            let ones = u64::from((!(word(bytes, base) >> (bit % 64))).trailing_zeros());
            let room = 64 - bit % 64;
            length += ones.min(room);
            if ones < room {
                break;
            }
        }
        length.min(limit)
    }

    /// The position of the next one from a position on, if it lies in the same 64-bit word.
    #[inline]
    pub(super) fn next_near(&self, bytes: &[u8], at: u64) -> Option<u64> {
        let (block, bit) = (at / BLOCK, at % BLOCK);
        let rest = word(bytes, self.block(block).wrapping_add(8 * (bit as usize / 64 + 1))) >> (bit % 64);
        (rest != 0).then(|| at + u64::from(rest.trailing_zeros()))
    }

    /// The ones before a block, as it says.
    #[inline]
    fn ones_before(&self, bytes: &[u8], block: u64) -> u64 {
        word(bytes, self.block(block))
    }

    #[inline]
    fn block(&self, block: u64) -> usize {
        self.start.wrapping_add((block as usize).wrapping_mul(BLOCK_BYTES))
    }

    /// The last block from `from` on before which `before` counts no more than `k`: by steps that
    /// double, then by halving, so that damage cannot make it long.
    #[inline]
    fn last_block(&self, bytes: &[u8], from: u64, k: u64, before: impl Fn(u64) -> u64) -> u64 {
        let _ = bytes;
        let (mut low, mut step) = (from, 1);
        let mut high = loop {
            let next = low.saturating_add(step);
            if next >= self.blocks {
                break self.blocks;
            }
            if before(next) > k {
                break next;
            }
            low = next;
            step *= 2;
        };
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if before(middle) > k {
                high = middle;
            } else {
                low = middle;
            }
        }
        low
    }

    /// The position of a block's one number `k`; of its zero, if `flip` is all ones.
    #[inline]
    fn in_block(&self, bytes: &[u8], block: u64, mut k: u64, flip: u64) -> u64 {
        let base = self.block(block);
        for index in 0..WORDS {
            let bits = word(bytes, base.wrapping_add(8 * (index + 1))) ^ flip;
            let ones = u64::from(bits.count_ones());
            if k < ones {
                return block * BLOCK + index as u64 * 64 + select_in_word(bits, k as u32);
            }
            k -= ones;
        }
        block * BLOCK + BLOCK - 1
    }
}

/// Writes bits.
pub(super) struct Bitter<W> {
    out: W,
    words: [u64; WORDS],
    filled: u64,
    blocks: u64,
    before: u64,
    ones: u64,
    samples: Vec<u32>,
}

impl<W: Write> Bitter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, words: [0; WORDS], filled: 0, blocks: 0, before: 0, ones: 0, samples: Vec::new() }
    }

    /// Number of bits so far.
    pub(super) fn len(&self) -> u64 {
        self.blocks * BLOCK + self.filled
    }

    /// Number of ones so far.
    pub(super) fn ones(&self) -> u64 {
        self.ones
    }

    pub(super) fn push(&mut self, bit: bool) -> io::Result<()> {
        if bit {
            if self.ones.is_multiple_of(SAMPLE) {
                self.samples.push(u32::try_from(self.blocks).map_err(|_| too_large())?);
            }
            self.words[self.filled as usize / 64] |= 1 << (self.filled % 64);
            self.ones += 1;
        }
        self.filled += 1;
        if self.filled == BLOCK {
            self.block()?;
        }
        Ok(())
    }

    /// Writes what is left; gives back the output.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.block()?;
        let last = u32::try_from(self.blocks - 1).map_err(|_| too_large())?;
        self.samples.resize((self.ones / SAMPLE + 1) as usize, last);
        for &sample in &self.samples {
            self.out.write_all(&sample.to_le_bytes())?;
        }
        if self.samples.len() % 2 == 1 {
            self.out.write_all(&[0; 4])?;
        }
        Ok(self.out)
    }

    fn block(&mut self) -> io::Result<()> {
        let mut block = [0; BLOCK_BYTES];
        block[..8].copy_from_slice(&self.before.to_le_bytes());
        for (bytes, word) in block[8..].chunks_exact_mut(8).zip(self.words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.out.write_all(&block)?;
        (self.words, self.filled) = ([0; WORDS], 0);
        self.blocks += 1;
        self.before = self.ones;
        Ok(())
    }
}

/// Bits of a block and, at the end, a block that may be empty.
fn blocks(len: u64) -> u64 {
    len / BLOCK + 1
}

/// The position of the one number `k` of a word that has more than `k`.
#[inline]
fn select_in_word(mut bits: u64, mut k: u32) -> u64 {
    let mut at = 0;
    for half in [32, 16, 8] {
        let ones = (bits & ((1 << half) - 1)).count_ones();
        if k >= ones {
            k -= ones;
            bits >>= half;
            at += half;
        }
    }
    for _ in 0..k {
        bits &= bits - 1;
    }
    at + u64::from(bits.trailing_zeros())
}

fn too_large() -> io::Error {
    io::Error::other("the model is too large for this format")
}

const WORDS: usize = 7;
const BLOCK: u64 = WORDS as u64 * 64;
const BLOCK_BYTES: usize = 64;
/// Every so many ones their block is noted.
const SAMPLE: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rank_and_select_agree_with_counting(
            runs in prop::collection::vec((any::<bool>(), 1usize..700), 0..12),
            noise in prop::collection::vec(any::<bool>(), 0..900),
        ) {
            let runs = runs.iter().flat_map(|&(bit, length)| std::iter::repeat_n(bit, length));
            let bits: Vec<bool> = noise.iter().copied().chain(runs).chain(noise.iter().copied()).collect();
            let mut writer = Bitter::new(Vec::new());
            for &bit in &bits {
                writer.push(bit).unwrap();
            }
            let (len, ones) = (writer.len(), writer.ones());
            let bytes = writer.finish().unwrap();
            prop_assert_eq!(Some(bytes.len() as u64), Bits::bytes(len, ones));
            let read = Bits::new(0, len, ones);
            let (mut one, mut zero) = (0, 0);
            for (at, &bit) in bits.iter().enumerate() {
                let at = at as u64;
                prop_assert_eq!(read.rank(&bytes, at), (bit, one));
                let run = bits[at as usize..].iter().take_while(|&&bit| bit).count() as u64;
                prop_assert_eq!(read.run(&bytes, at, 1000), run.min(1000));
                if bit {
                    prop_assert_eq!(read.select(&bytes, one), at);
                    one += 1;
                } else {
                    prop_assert_eq!(read.select_zero(&bytes, 0, zero), at);
                    prop_assert_eq!(read.select_zero(&bytes, at, zero), at);
                    zero += 1;
                }
            }
        }

        #[test]
        fn damaged_bits_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..400), len in any::<u64>(), at in any::<u64>()) {
            let bits = Bits::new(0, len / 2, at / 2);
            bits.rank(&bytes, at);
            bits.select(&bytes, at);
            bits.select_zero(&bytes, at, at);
            bits.next_near(&bytes, at / 2);
            bits.run(&bytes, at / 2, 5000);
        }
    }
}
