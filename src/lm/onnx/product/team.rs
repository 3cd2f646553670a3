//! The team of threads of one step (as OpenMP calls it): they wait between steps, and a step is divided among them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

    /// Works on the same items turn after turn, on each once a turn, whoever comes first: `work(turn, item)`.
    /// Before a turn, when all of the last is done, the thread that asks does `prepare(turn)`, which must not
    /// ask the team. Between turns nobody goes to sleep: they are so short that to be woken takes as long.
    pub fn take_turns(
        &self,
        turns: usize,
        items: usize,
        mut prepare: impl FnMut(usize),
        work: impl Fn(usize, usize) + Sync,
    ) {
        let Some(helpers) = self.helpers.as_ref().filter(|_| turns * items > 1) else {
            for turn in 0..turns {
                prepare(turn);
                (0..items).for_each(|item| work(turn, item));
            }
            return;
        };
        let progress = Progress::default();
        let work = |at: usize| work(at / items, at % items);
        helpers.in_place_scope(|scope| {
            for _ in 0..helpers.current_num_threads() {
                scope.spawn(|_| {
                    let _end = End(&progress);
                    let mut pause = Pause::default();
                    while !progress.over.load(Ordering::Acquire) {
                        match progress.work(&work) {
                            0 => pause.wait(),
                            _ => pause = Pause::default(),
                        }
                    }
                });
            }
            let _end = End(&progress);
            for turn in 0..turns {
                prepare(turn);
                let end = (turn + 1) * items;
                progress.open.store(end, Ordering::Release);
                progress.work(&work);
                let mut pause = Pause::default();
                while progress.done.load(Ordering::Acquire) < end {
                    if progress.over.load(Ordering::Acquire) {
                        return; // one panicked, and so will this
                    }
                    pause.wait();
                }
            }
        });
    }
}

/// How far turns are, counted in the items of all of them.
#[derive(Default)]
struct Progress {
    /// Items before this may be taken.
    open: AtomicUsize,
    taken: AtomicUsize,
    done: AtomicUsize,
    /// Nobody works on.
    over: AtomicBool,
}

impl Progress {
    /// Works on what there is, and says how much it was.
    fn work(&self, work: &impl Fn(usize)) -> usize {
        let mut count = 0;
        let next = |taken: usize| (taken < self.open.load(Ordering::Acquire)).then_some(taken + 1);
        while let Ok(at) = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            work(at);
            self.done.fetch_add(1, Ordering::AcqRel);
            count += 1;
        }
        count
    }
}

/// Whoever leaves, by a panic too, leaves nobody waiting.
struct End<'a>(&'a Progress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

/// A wait for what is near; if it is not, others go first.
#[derive(Default)]
struct Pause(usize);

impl Pause {
    fn wait(&mut self) {
        self.0 += 1;
        if self.0 < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// Some tens of microseconds.
const SPINS: usize = 1000;

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn turns_come_one_after_another_and_each_has_all_items() {
        for team in [Team::alone(), Team::new(2).unwrap(), Team::new(4).unwrap()] {
            for (turns, items) in [(0, 5), (1, 1), (1, 7), (40, 3), (5, 0), (300, 20)] {
                // Of each item, how many turns it has had; of all, how many items.
                let had: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                let all = AtomicUsize::new(0);
                let mut prepared = 0;
                team.take_turns(
                    turns,
                    items,
                    |turn| {
                        assert_eq!((turn, all.load(Ordering::Relaxed)), (prepared, turn * items));
                        prepared += 1;
                    },
                    |turn, item| {
                        assert_eq!(had[item].fetch_add(1, Ordering::Relaxed), turn);
                        all.fetch_add(1, Ordering::Relaxed);
                    },
                );
                assert_eq!((prepared, all.into_inner()), (turns, turns * items));
            }
        }
    }

    #[test]
    fn a_panic_ends_the_turns_of_all() {
        let team = Team::new(3).unwrap();
        let spoilt = [(0, 0), (3, 9), (9, 4)];
        for bad in spoilt {
            let turns = || team.take_turns(10, 10, |_| {}, |turn, item| assert!((turn, item) != bad));
            assert!(catch_unwind(AssertUnwindSafe(turns)).is_err());
            let prepare = |turn| assert!(turn != bad.0);
            let turns = || team.take_turns(10, 10, prepare, |_, _| {});
            assert!(catch_unwind(AssertUnwindSafe(turns)).is_err());
        }
        let sum = AtomicUsize::new(0);
        team.take_turns(
            10,
            10,
            |_| {},
            |_, _| {
                sum.fetch_add(1, Ordering::Relaxed);
            },
        );
        assert_eq!(sum.into_inner(), 100);
    }

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
