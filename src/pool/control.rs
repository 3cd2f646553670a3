//! What the two ends and the workers share: the window, the keys in use and the counts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use super::sync::channel::Sender;
use super::sync::{Condvar, Mutex, MutexGuard};
use super::{Outcome, PoolOptions, Statistics, Ticket, point};

/// An input on its way to a worker.
pub(super) struct Work<In> {
    pub(super) ticket: Ticket,
    pub(super) input: Arc<In>,
    pub(super) bytes: usize,
    pub(super) key: Option<Vec<u8>>,
}

/// An output on its way to the consumer.
pub(super) struct Finished<Out> {
    pub(super) ticket: Ticket,
    pub(super) bytes: usize,
    pub(super) outcome: Outcome<Out>,
}

/// The window, the stop flag and the counts.
#[derive(Debug)]
pub(super) struct Control {
    window_items: usize,
    window_bytes: usize,
    window: Mutex<Window>,
    freed: Condvar,
    stopped: AtomicBool,
    pub(super) submitted: AtomicU64,
    pub(super) finished: AtomicU64,
    pub(super) taken: AtomicU64,
    pub(super) remade: AtomicU64,
    /// Workers that can make a stage; the last one never gives up.
    pub(super) able: AtomicUsize,
    /// Workers waiting for an input, which busy ones leave to them.
    pub(super) idle: AtomicUsize,
}

#[derive(Debug, Default)]
struct Window {
    items: usize,
    bytes: usize,
    /// Whether the submitter waits: a wake-up nobody needs would still be a system call.
    waiting: bool,
}

/// How long to wait for the window.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    None,
    Until(Instant),
    Endless,
}

/// What came of asking for a place in the window.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Taken,
    Full,
    Stopped,
}

impl Control {
    pub(super) fn new(options: &PoolOptions) -> Self {
        Self {
            window_items: options.window_items,
            window_bytes: options.window_bytes,
            window: Mutex::default(),
            freed: Condvar::new(),
            stopped: AtomicBool::new(false),
            submitted: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            remade: AtomicU64::new(0),
            able: AtomicUsize::new(options.workers),
            idle: AtomicUsize::new(0),
        }
    }

    pub(super) fn enter(&self, bytes: usize, patience: Patience) -> Place {
        let mut window = lock(&self.window);
        loop {
            if self.stopped() {
                return Place::Stopped;
            }
            let after = window.bytes.saturating_add(bytes);
            if window.items == 0 || (window.items < self.window_items && after <= self.window_bytes) {
                window.items += 1;
                window.bytes = after;
                return Place::Taken;
            }
            let left = match patience {
                Patience::None => Duration::ZERO,
                Patience::Until(deadline) => deadline.saturating_duration_since(Instant::now()),
                Patience::Endless => Duration::MAX,
            };
            if left.is_zero() {
                return Place::Full;
            }
            window.waiting = true;
            window = match patience {
                Patience::Endless => self.freed.wait(window).unwrap_or_else(PoisonError::into_inner),
                _ => {
                    let waited = self.freed.wait_timeout(window, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            window.waiting = false;
        }
    }

    pub(super) fn leave(&self, bytes: usize) {
        let mut window = lock(&self.window);
        window.items = window.items.saturating_sub(1);
        window.bytes = match window.items {
            0 => 0,
            _ => window.bytes.saturating_sub(bytes),
        };
        let waiting = window.waiting;
        drop(window);
        point("leave");
        if waiting {
            self.freed.notify_one();
        }
    }

    /// Ends the work: the submitter stops waiting, the workers leave at their next step.
    pub(super) fn stop(&self) {
        // Under the lock, or a submitter about to wait would miss it.
        let window = lock(&self.window);
        self.stopped.store(true, Ordering::Release);
        drop(window);
        point("stop");
        self.freed.notify_all();
    }

    pub(super) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(super) fn statistics(&self) -> Statistics {
        // In this order, so that no count is seen ahead of the one it follows.
        let taken = self.taken.load(Ordering::Acquire);
        let finished = self.finished.load(Ordering::Acquire);
        let submitted = self.submitted.load(Ordering::Acquire);
        let remade = self.remade.load(Ordering::Relaxed);
        Statistics { submitted, finished, taken, remade }
    }
}

/// The keys in use, each with the inputs that wait for the one before them.
///
/// They hold places of the window, which bounds them. A key in use also holds a sender, so
/// that the workers' channel ends only after the last of its inputs was handed out.
pub(super) struct Keys<In>(Mutex<HashMap<Vec<u8>, Chain<In>>>);

struct Chain<In> {
    waiting: VecDeque<Work<In>>,
    inbox: Sender<Work<In>>,
}

impl<In> Default for Keys<In> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<In> Keys<In> {
    /// Sends `work` to the workers, or has it wait for its key.
    pub(super) fn send(&self, work: Work<In>, inbox: &Sender<Work<In>>) {
        if let Some(key) = &work.key {
            let mut chains = lock(&self.0);
            if let Some(chain) = chains.get_mut(key) {
                chain.waiting.push_back(work);
                return;
            }
            let chain = Chain { waiting: VecDeque::new(), inbox: inbox.clone() };
            chains.insert(key.clone(), chain);
        }
        point("send");
        // Fails only when the outputs were dropped: then nobody waits for it.
        let _ = inbox.send(work);
    }

    /// Sends the next input of `key` to the workers, after one of it was finished.
    pub(super) fn next(&self, key: &[u8]) {
        let mut chains = lock(&self.0);
        let Some(chain) = chains.get_mut(key) else {
            return;
        };
        match chain.waiting.pop_front() {
            Some(work) => {
                let inbox = chain.inbox.clone();
                drop(chains);
                point("next");
                let _ = inbox.send(work);
            }
            None => {
                let chain = chains.remove(key);
                drop(chains);
                drop(chain);
            }
        }
    }
}

/// No code of a user runs under our locks, so a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
