//! The locks, threads and channels the pool is made of: the standard library's and crossbeam's,
//! or, in the tests with the feature `shuttle`, stand-ins whose scheduler is the test's.

#[cfg(not(all(test, feature = "shuttle")))]
mod real {
    pub(in crate::pool) use std::sync::{Condvar, Mutex, MutexGuard, atomic};
    pub(in crate::pool) use std::thread;

    pub(in crate::pool) use crossbeam::channel;
    use crossbeam::channel::Receiver;
    use crossbeam::select;

    /// The next message; `None` when `messages` or `stop` has ended.
    pub(in crate::pool) fn recv_unless<T>(
        messages: &Receiver<T>,
        stop: &Receiver<std::convert::Infallible>,
    ) -> Option<T> {
        select! {
            recv(messages) -> message => message.ok(),
            recv(stop) -> _ => None,
        }
    }
}

#[cfg(not(all(test, feature = "shuttle")))]
pub(super) use real::*;

#[cfg(all(test, feature = "shuttle"))]
pub(super) use super::tests::modelled::*;
