//! The consumer's end: puts the outputs back in order and gives places of the window back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::{Control, Finished};
use super::sync::atomic::Ordering;
use super::sync::channel::{Receiver, RecvTimeoutError, Sender};
use super::sync::thread::JoinHandle;
use super::worker::LOST;
use super::{Outcome, Statistics, Ticket, point};

/// Where outputs come out of a pool, in the order of their inputs, each as soon as it and
/// all before it are done.
///
/// As an iterator it waits for each output and ends after the last. Dropping it early stops
/// the workers at their next step and waits for them.
pub struct Outputs<Out> {
    control: Arc<Control>,
    results: Receiver<Finished<Out>>,
    /// Outputs that came before their turn; the front is ticket `next`. The window bounds it.
    pub(super) early: VecDeque<Option<Finished<Out>>>,
    next: u64,
    /// Dropping it wakes the workers that wait.
    stopper: Option<Sender<Infallible>>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

/// Why there is no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The next one is not done yet.
    #[error("the next output is not done yet")]
    Empty,
    /// The last one was taken and the submitter was dropped.
    #[error("there are no more outputs")]
    Ended,
}

impl<Out> Outputs<Out> {
    pub(super) fn new(
        control: Arc<Control>,
        results: Receiver<Finished<Out>>,
        stopper: Sender<Infallible>,
    ) -> Self {
        Self {
            control,
            results,
            early: VecDeque::new(),
            next: 0,
            stopper: Some(stopper),
            threads: Vec::new(),
        }
    }

    /// The next output, waiting for it; `None` after the last.
    pub fn recv(&mut self) -> Option<(Ticket, Outcome<Out>)> {
        loop {
            if let Some(output) = self.take() {
                return Some(output);
            }
            match self.results.recv() {
                Ok(finished) => self.place(finished),
                Err(_) => return self.lost(),
            }
        }
    }

    /// The next output if it is done now. A writer that gets [`RecvError::Empty`] flushes.
    ///
    /// # Errors
    /// Says whether to come back.
    pub fn try_recv(&mut self) -> Result<(Ticket, Outcome<Out>), RecvError> {
        self.recv_timeout(Duration::ZERO)
    }

    /// The next output, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// Says whether to come back.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<(Ticket, Outcome<Out>), RecvError> {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            return self.recv().ok_or(RecvError::Ended);
        };
        loop {
            if let Some(output) = self.take() {
                return Ok(output);
            }
            match self.results.recv_deadline(deadline) {
                Ok(finished) => self.place(finished),
                Err(RecvTimeoutError::Timeout) => return Err(RecvError::Empty),
                Err(RecvTimeoutError::Disconnected) => return self.lost().ok_or(RecvError::Ended),
            }
        }
    }

    /// Whether nothing is between the ends: every output was taken.
    pub fn idle(&self) -> bool {
        self.control.submitted.load(Ordering::Acquire) == self.next
    }

    /// Counts since the start.
    pub fn statistics(&self) -> Statistics {
        self.control.statistics()
    }

    fn place(&mut self, finished: Finished<Out>) {
        let at = finished.ticket.0.saturating_sub(self.next) as usize;
        if self.early.len() <= at {
            self.early.resize_with(at + 1, || None);
        }
        self.early[at] = Some(finished);
    }

    fn take(&mut self) -> Option<(Ticket, Outcome<Out>)> {
        let finished = self.early.front_mut()?.take()?;
        self.early.pop_front();
        self.next += 1;
        point("take");
        self.control.taken.fetch_add(1, Ordering::AcqRel);
        self.control.leave(finished.bytes);
        Some((finished.ticket, finished.outcome))
    }

    /// No worker is left. Then every output has come, unless a worker died of a bug of ours:
    /// even so each input gets an outcome.
    fn lost(&mut self) -> Option<(Ticket, Outcome<Out>)> {
        if self.idle() {
            return None;
        }
        let ticket = Ticket(self.next);
        self.place(Finished { ticket, bytes: 0, outcome: Outcome::Failed(LOST.into()) });
        self.take()
    }
}

impl<Out> Iterator for Outputs<Out> {
    type Item = (Ticket, Outcome<Out>);

    fn next(&mut self) -> Option<Self::Item> {
        self.recv()
    }
}

impl<Out> Drop for Outputs<Out> {
    fn drop(&mut self) {
        self.control.stop();
        self.stopper = None;
        for thread in self.threads.drain(..) {
            // A panic was contained and told where it happened.
            let _ = thread.join();
        }
    }
}

impl<Out> fmt::Debug for Outputs<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Outputs");
        out.field("control", &self.control).field("next", &self.next).finish_non_exhaustive()
    }
}
