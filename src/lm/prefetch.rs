//! Memory that will be read soon.

/// Asks for the item at `at` and what is around it; never waits, and nothing beyond the end is asked
/// for. Where the processor has no such thing, does nothing.
#[inline(always)]
pub(crate) fn prefetch<T>(items: &[T], at: usize) {
    hint::<T, true>(items, at);
}

#[inline(always)]
#[allow(unsafe_code)]
fn hint<T, const NEAREST: bool>(items: &[T], at: usize) {
    let Some(place) = items.get(at) else { return };
    let place = std::ptr::from_ref(place);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has SSE. The address is inside the slice, and a prefetch changes nothing
    // that a program can see.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        if NEAREST {
            _mm_prefetch::<_MM_HINT_T0>(place.cast())
        } else {
            _mm_prefetch::<_MM_HINT_T1>(place.cast())
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the address is inside the slice, and a prefetch changes nothing that a program can see.
    unsafe {
        use std::arch::asm;
        if NEAREST {
            asm!("prfm pldl1keep, [{}]", in(reg) place, options(nostack, readonly, preserves_flags));
        } else {
            asm!("prfm pldl2keep, [{}]", in(reg) place, options(nostack, readonly, preserves_flags));
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}

/// The same, and the line of the cache behind it: for searches that go on from there.
#[inline(always)]
pub(crate) fn prefetch_on<T>(items: &[T], at: usize) {
    prefetch(items, at);
    prefetch(items, at.wrapping_add(const { LINE / size_of::<T>() }));
}

/// The same, and the lines on both sides: for searches that begin there and go either way.
#[inline(always)]
pub(crate) fn prefetch_around<T>(items: &[T], at: usize) {
    prefetch_on(items, at);
    prefetch(items, at.wrapping_sub(const { LINE / size_of::<T>() }));
}

/// Asks for the item at `at` and the two lines behind it, into the second of the caches: a processor can have
/// more of those reads underway. For many searches at once.
#[inline(always)]
pub(crate) fn prefetch_many<T>(items: &[T], at: usize) {
    hint::<T, false>(items, at);
    hint::<T, false>(items, at.wrapping_add(const { LINE / size_of::<T>() }));
    hint::<T, false>(items, at.wrapping_add(const { 2 * LINE / size_of::<T>() }));
}

/// Bytes of a line of most processors' caches.
const LINE: usize = 64;
