//! Named faults, for the tests that every fallible call may fail (promise F1). Without the
//! feature `failpoints` all of this is nothing.

use std::io;

/// The error that a test wants at `name`.
#[inline]
#[cfg_attr(not(feature = "failpoints"), allow(unused_variables))]
pub(crate) fn io(name: &'static str) -> Option<io::Error> {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |_| Some(io::Error::other(format!("{name} failed on purpose"))));
    None
}

/// Panics where a test wants it.
#[inline]
#[cfg_attr(not(feature = "failpoints"), allow(unused_variables))]
pub(crate) fn point(name: &'static str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name);
}
