//! Numbers at any byte and bit of a file: unaligned, little-endian, and 0 beyond its end.
//!
//! Layouts are checked against the file's size when it is opened, so the end is never met; but no
//! damage that was overlooked there can make these panic.

/// The 64 bits at a byte.
#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(&chunk) => u64::from_le_bytes(chunk),
        None => 0,
    }
}

/// The 32 bits at a byte.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(&chunk) => u32::from_le_bytes(chunk),
        None => 0,
    }
}

/// The `f32` at a byte.
#[inline]
pub(crate) fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(u32_at(bytes, at))
}

/// `width` bits, at most [`WIDEST`], from the bit `bit` after the byte `start`; low bits first.
#[inline]
pub(crate) fn bits_at(bytes: &[u8], start: usize, bit: u64, width: u8) -> u64 {
    let word = u64_at(bytes, start.wrapping_add((bit >> 3) as usize));
    word >> (bit & 7) & ((1 << width) - 1)
}

/// Sets `width` bits, which must be zero before, from the bit `bit` on.
pub(crate) fn put_bits(bytes: &mut [u8], bit: u64, width: u8, value: u64) {
    debug_assert!(width <= WIDEST && value >> width == 0);
    let at = (bit >> 3) as usize;
    if let Some(chunk) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *chunk = (u64::from_le_bytes(*chunk) | value << (bit & 7)).to_le_bytes();
    }
}

/// The position of the highest bit set, from 1: how many bits the numbers up to `value` need.
pub(crate) fn bits_of(value: u64) -> u8 {
    (u64::BITS - value.leading_zeros()) as u8
}

/// A field at any of a byte's eight bits fits into 64 if it is no wider.
pub(crate) const WIDEST: u8 = 57;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn beyond_the_end_there_are_zeros() {
        let bytes = [0xff; 9];
        assert_eq!((u64_at(&bytes, 1), u64_at(&bytes, 2), u64_at(&bytes, usize::MAX)), (u64::MAX, 0, 0));
        assert_eq!((u32_at(&bytes, 5), u32_at(&bytes, 6)), (u32::MAX, 0));
        assert_eq!(
            (bits_at(&bytes, 1, 7, 57), bits_at(&bytes, usize::MAX, u64::MAX, 57)),
            ((1 << 57) - 1, 0)
        );
        assert_eq!([0, 1, 2, 3, 4, u64::MAX].map(bits_of), [0, 1, 2, 2, 3, 64]);
    }

    proptest! {
        #[test]
        fn fields_side_by_side_do_not_touch(fields in prop::collection::vec((1u8..=57, any::<u64>()), 1..50)) {
            let mut bytes = vec![0; 50 * 8 + 8];
            let mut bit = 0;
            for &(width, value) in &fields {
                put_bits(&mut bytes, bit, width, value & ((1 << width) - 1));
                bit += u64::from(width);
            }
            let mut bit = 0;
            for &(width, value) in &fields {
                prop_assert_eq!(bits_at(&bytes, 0, bit, width), value & ((1 << width) - 1));
                bit += u64::from(width);
            }
        }
    }
}
