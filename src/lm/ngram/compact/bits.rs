//! Integers of a fixed number of bits, one behind the other, low bits first.

use std::io::{self, Write};

/// The 64-bit word at a byte; 0 where the bytes do not reach so far, so that no damage of a file
/// makes a reader leave it.
#[inline]
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(&chunk) => u64::from_le_bytes(chunk),
        None => 0,
    }
}

/// The 32-bit word at a byte; 0 where the bytes do not reach so far.
#[inline]
pub(super) fn half(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(&chunk) => u32::from_le_bytes(chunk),
        None => 0,
    }
}

/// Where packed integers lie in a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Packed {
    start: usize,
    width: u32,
}

impl Packed {
    /// Integers of at most [`MAX_WIDTH`] bits from the byte `start`.
    pub(super) fn new(start: usize, width: u32) -> Self {
        Self { start, width: width.min(MAX_WIDTH) }
    }

    /// Bytes that `count` integers take, with those after them that make reading safe. `None` if
    /// no file can be so large.
    pub(super) fn bytes(count: u64, width: u32) -> Option<u64> {
        count.checked_mul(u64::from(width))?.div_ceil(8).checked_add(8)
    }

    /// The integer number `at`.
    #[inline]
    pub(super) fn at(&self, bytes: &[u8], at: u64) -> u64 {
        let bit = at.wrapping_mul(u64::from(self.width));
        let value = word(bytes, self.start.wrapping_add((bit >> 3) as usize)) >> (bit & 7);
        value & ((1 << self.width) - 1)
    }
}

/// Writes packed integers.
pub(super) struct Packer<W> {
    out: W,
    buffer: u128,
    filled: u32,
    width: u32,
}

impl<W: Write> Packer<W> {
    pub(super) fn new(out: W, width: u32) -> Self {
        Self { out, buffer: 0, filled: 0, width }
    }

    /// Appends an integer below `2^width`.
    pub(super) fn push(&mut self, value: u64) -> io::Result<()> {
        debug_assert!(value >> self.width == 0);
        self.buffer |= u128::from(value) << self.filled;
        self.filled += self.width;
        if self.filled >= 64 {
            self.out.write_all(&(self.buffer as u64).to_le_bytes())?;
            self.buffer >>= 64;
            self.filled -= 64;
        }
        Ok(())
    }

    /// Writes what is left, and the bytes after it; gives back the output.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let rest = self.buffer.to_le_bytes();
        self.out.write_all(&rest[..self.filled.div_ceil(8) as usize])?;
        self.out.write_all(&[0; 8])?;
        Ok(self.out)
    }
}

/// Wider integers might not lie in one 64-bit word from their first byte.
pub(super) const MAX_WIDTH: u32 = 57;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_read_back(width in 0u32..=57, values in prop::collection::vec(any::<u64>(), 0..80)) {
            let mut packer = Packer::new(vec![0xff; 3], width);
            let values: Vec<u64> = values.iter().map(|v| v & ((1 << width) - 1)).collect();
            for &value in &values {
                packer.push(value).unwrap();
            }
            let bytes = packer.finish().unwrap();
            prop_assert_eq!(Some(bytes.len() as u64 - 3), Packed::bytes(values.len() as u64, width));
            let packed = Packed::new(3, width);
            for (at, &value) in values.iter().enumerate() {
                prop_assert_eq!(packed.at(&bytes, at as u64), value);
            }
            packed.at(&bytes, u64::MAX);
        }
    }
}
