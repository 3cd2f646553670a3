//! Bits with rank and select.
//!
//! Every 64 bytes hold the number of ones before them, three sums of ones between, and 448 bits, so
//! that one line of the processor's cache answers a rank (as the structures of Vigna 2008). A select begins at the block that a sample names.

use std::io::{self, Write};

use super::bits::half;

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
        let block = self.block(bytes, at / BLOCK);
        let (index, shift) = ((at % BLOCK / 64) as usize, at % 64);
        let mut ones = block.before() + block.pairs(index / 2);
        if index % 2 == 1 {
            ones += u64::from(block.word(index - 1).count_ones());
        }
        let word = block.word(index);
        let below = word & ((1 << shift) - 1);
        (word >> shift & 1 == 1, ones + u64::from(below.count_ones()))
    }

    /// The position of the one number `k`. If there is none, some position.
    #[inline]
    pub(super) fn select(&self, bytes: &[u8], k: u64) -> u64 {
        let k = k.min(self.ones);
        let sample = half(bytes, self.samples.wrapping_add(4 * (k / SAMPLE) as usize));
        let mut at = u64::from(sample).min(self.blocks - 1);
        let mut block = self.block(bytes, at);
        // Most often it is there, and no other line of the cache need be looked at.
        if k.wrapping_sub(block.before()) >= block.ones() {
            at = self.last_block(at, k, |at| self.block(bytes, at).before());
            block = self.block(bytes, at);
        }
        let k = k.wrapping_sub(block.before());
        let pair = (1..PAIRS).filter(|&pair| k >= block.pairs(pair)).count();
        at * BLOCK + block.select(pair, k.wrapping_sub(block.pairs(pair)), 0)
    }

    /// The position of the zero number `k`, which must not lie before the block of position
    /// `from`.
    #[inline]
    pub(super) fn select_zero(&self, bytes: &[u8], from: u64, k: u64) -> u64 {
        let zeros = |at: u64| (at * BLOCK).wrapping_sub(self.block(bytes, at).before());
        let mut at = (from / BLOCK).min(self.blocks - 1);
        let mut block = self.block(bytes, at);
        if k.wrapping_sub(zeros(at)) >= BLOCK - block.ones().min(BLOCK) {
            at = self.last_block(at, k, zeros);
            block = self.block(bytes, at);
        }
        let k = k.wrapping_sub(zeros(at));
        let pairs = |pair: usize| (pair as u64 * 128).wrapping_sub(block.pairs(pair));
        let pair = (1..PAIRS).filter(|&pair| k >= pairs(pair)).count();
        at * BLOCK + block.select(pair, k.wrapping_sub(pairs(pair)), u64::MAX)
    }

    /// Number of ones without a zero between them from a position on, at most `limit`.
    #[inline]
    pub(super) fn run(&self, bytes: &[u8], at: u64, limit: u64) -> u64 {
        let mut length = 0;
        while length < limit {
            let at = at + length;
            if at / BLOCK >= self.blocks {
                break;
            }
            let word = self.block(bytes, at / BLOCK).word((at % BLOCK / 64) as usize);
            let room = 64 - at % 64;
            let ones = u64::from((!(word >> (at % 64))).trailing_zeros()).min(room);
            length += ones;
            if ones < room {
                break;
            }
        }
        length.min(limit)
    }

    /// The position of the next one from a position on, if it lies in the same 64-bit word.
    #[inline]
    pub(super) fn next_near(&self, bytes: &[u8], at: u64) -> Option<u64> {
        let rest = self.block(bytes, at / BLOCK).word((at % BLOCK / 64) as usize) >> (at % 64);
        (rest != 0).then(|| at + u64::from(rest.trailing_zeros()))
    }

    #[inline]
    fn block<'a>(&self, bytes: &'a [u8], at: u64) -> Block<'a> {
        let at = self.start.wrapping_add((at as usize).wrapping_mul(BLOCK_BYTES));
        Block(bytes.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or(&NOTHING))
    }

    /// The last block from `from` on before which `before` counts no more than `k`: by steps that
    /// double, then by halving, so that damage cannot make it long.
    #[inline]
    fn last_block(&self, from: u64, k: u64, before: impl Fn(u64) -> u64) -> u64 {
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
}

impl Block<'_> {
    /// The ones before the block.
    #[inline]
    fn before(self) -> u64 {
        self.part(0) & ((1 << BEFORE) - 1)
    }

    /// The ones in the block before the words of pair number `pair`.
    #[inline]
    fn pairs(self, pair: usize) -> u64 {
        if pair == 0 { 0 } else { self.part(0) >> ((BEFORE + 9 * (pair as u32 - 1)) & 63) & 511 }
    }

    /// The ones in the block.
    #[inline]
    fn ones(self) -> u64 {
        self.pairs(PAIRS - 1) + u64::from(self.word(WORDS - 1).count_ones())
    }

    #[inline]
    fn word(self, index: usize) -> u64 {
        self.part(index + 1)
    }

    /// The place in the block of the one number `k` from a pair of words on; of the zero, if
    /// `flip` is all ones.
    #[inline]
    fn select(self, pair: usize, mut k: u64, flip: u64) -> u64 {
        let mut index = 2 * pair;
        let mut bits = self.word(index) ^ flip;
        let ones = u64::from(bits.count_ones());
        if k >= ones && index + 1 < WORDS {
            k -= ones;
            index += 1;
            bits = self.word(index) ^ flip;
        }
        index as u64 * 64 + select_in_word(bits, k)
    }

    #[inline]
    fn part(self, at: usize) -> u64 {
        let (parts, _) = self.0.as_chunks();
        u64::from_le_bytes(parts[at & 7])
    }
}

/// Sixty-four bytes: the numbers that [`Block::before`] and [`Block::pairs`] give, and the bits.
#[derive(Clone, Copy)]
struct Block<'a>(&'a [u8; BLOCK_BYTES]);

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
        if self.before >> BEFORE != 0 {
            return Err(too_large());
        }
        let (mut head, mut ones) = (self.before, 0);
        for (pair, words) in (0..).zip(self.words.chunks(2)) {
            if pair > 0 {
                head |= ones << (BEFORE + 9 * (pair - 1));
            }
            ones += words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        }
        block[..8].copy_from_slice(&head.to_le_bytes());
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

/// The position of the one number `k` of a word that has more than `k`; else some position.
#[inline]
fn select_in_word(mut bits: u64, k: u64) -> u64 {
    // Ones of each byte, then of all bytes up to it.
    let pairs = bits - (bits >> 1 & 0x5555_5555_5555_5555);
    let nibbles = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let sums = ((nibbles + (nibbles >> 4)) & LOW_NIBBLES).wrapping_mul(LOW_BITS);
    // Bytes up to which there are no more than k ones, counted in parallel.
    let k = k & 63;
    let full = ((((k * LOW_BITS) | HIGH_BITS) - sums) & HIGH_BITS) >> 7;
    let byte = (full.wrapping_mul(LOW_BITS) >> 56 & 7) * 8;
    let before = (sums << 8) >> byte & 0xff;
    bits >>= byte;
    for _ in before..k {
        bits &= bits.wrapping_sub(1);
    }
    byte + u64::from(bits.trailing_zeros() & 63)
}

fn too_large() -> io::Error {
    io::Error::other("the model is too large for this format")
}

const WORDS: usize = 7;
const BLOCK: u64 = WORDS as u64 * 64;
const BLOCK_BYTES: usize = 64;
/// What lies beyond the file.
const NOTHING: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
/// Pairs of words, the last of which is half a pair.
const PAIRS: usize = WORDS.div_ceil(2);
/// Bits of a block's number of ones before it; 9 bits for each pair but the first follow.
const BEFORE: u32 = 37;
const LOW_NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
/// Every so many ones their block is noted.
const SAMPLE: u64 = 128;

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
