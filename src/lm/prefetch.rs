//! Memory that will be read soon.

/// Asks for the item at `at` and what is around it; never waits, and nothing beyond the end is asked
/// for. Where the processor has no such thing, does nothing.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn prefetch<T>(items: &[T], at: usize) {
    let Some(place) = items.get(at) else { return };
    let place = std::ptr::from_ref(place);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has SSE. The address is inside the slice, and a prefetch changes nothing
    // that a program can see.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the address is inside the slice, and a prefetch changes nothing that a program can see.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) place, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}
