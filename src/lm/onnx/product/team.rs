//! The team of threads of one step (as OpenMP calls it): they wait between steps, and a step is divided among them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result};

/// The thread that asks, and some that help it.
///
/// rayon-core and nothing of its own: lending borrowed data to threads that live on takes `unsafe`.
pub struct Team {
    helpers: Option<rayon_core::ThreadPool>,
}

impl Team {
    /// So many threads, the asking one among them.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn new(threads: usize) -> Result<Self> {
        if threads < 2 {
            return Ok(Self::alone());
        }
        let builder = rayon_core::ThreadPoolBuilder::new().num_threads(threads - 1);
        let helpers = builder.thread_name(|number| format!("step-{number}")).build();
        let helpers =
            helpers.map_err(|error| Error::Runtime(format!("{threads} threads: {error}; lower --jobs")))?;
        Ok(Self { helpers: Some(helpers) })
    }

    /// Nobody but the thread that asks.
    pub fn alone() -> Self {
        Self { helpers: None }
    }

    /// Works on all items, on each once, whoever comes first.
    pub fn share<T: Send>(&self, items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        let single = items.size_hint().1.is_some_and(|most| most < 2);
        let Some(helpers) = self.helpers.as_ref().filter(|_| !single) else { return items.for_each(work) };
        let items = Mutex::new(items);
        let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        let all = || {
            while let Some(item) = next() {
                work(item);
            }
        };
        let busy = AtomicUsize::new(helpers.current_num_threads());
        helpers.in_place_scope(|scope| {
            for _ in 0..helpers.current_num_threads() {
                scope.spawn(|_| {
                    all();
                    busy.fetch_sub(1, Ordering::Release);
                });
            }
            all();
            // The others are about to end too: going to sleep and being woken takes longer than their last item.
            for _ in 0..SPINS {
                if busy.load(Ordering::Acquire) == 0 {
                    break;
                }
                std::hint::spin_loop();
            }
        });
    }
}

/// Some tens of microseconds.
const SPINS: usize = 1000;

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Nobody waits for ever for a thread that panicked, and the team works on.
    #[test]
    fn a_panic_comes_back_to_who_asked() {
        let team = Team::new(3).unwrap();
        for bad in [0, 50, 99] {
            let share = || team.share(0..100, |item| assert!(item != bad, "item {item}"));
            assert!(catch_unwind(AssertUnwindSafe(share)).is_err());
            let sum = AtomicUsize::new(0);
            team.share(0..100, |item| {
                sum.fetch_add(item, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }
}
