//! The producer's end.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::{Control, Keys, Patience, Place, Work};
use super::sync::atomic::Ordering;
use super::sync::channel::Sender;
use super::{Statistics, Ticket, point};

/// Where inputs go into a pool. Dropping it is the end of input: the outputs end after the
/// last.
pub struct Submitter<In> {
    control: Arc<Control>,
    keys: Arc<Keys<In>>,
    inbox: Sender<Work<In>>,
}

/// Why an input was not let in; it comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SubmitError<In> {
    /// The window is full.
    Full(In),
    /// The outputs were dropped: nobody waits for this one.
    Stopped(In),
}

impl<In> Submitter<In> {
    pub(super) fn new(control: Arc<Control>, keys: Arc<Keys<In>>, inbox: Sender<Work<In>>) -> Self {
        Self { control, keys, inbox }
    }

    /// Hands in an input that weighs `bytes`, waiting while the window is full.
    ///
    /// Inputs with equal keys run one after another, in order; others beside them.
    ///
    /// # Errors
    /// [`SubmitError::Stopped`] when the outputs were dropped, also while it waits.
    pub fn submit(
        &mut self,
        input: In,
        bytes: usize,
        key: Option<Vec<u8>>,
    ) -> Result<Ticket, SubmitError<In>> {
        self.enter(input, bytes, key, Patience::Endless)
    }

    /// Hands in an input if the window has a place now.
    ///
    /// # Errors
    /// Gives the input back when the window is full or the outputs were dropped.
    pub fn try_submit(
        &mut self,
        input: In,
        bytes: usize,
        key: Option<Vec<u8>>,
    ) -> Result<Ticket, SubmitError<In>> {
        self.enter(input, bytes, key, Patience::None)
    }

    /// Hands in an input, waiting for a place in the window no longer than `timeout`: for
    /// callers that look at a stop signal between two waits.
    ///
    /// # Errors
    /// Gives the input back when the window stayed full or the outputs were dropped.
    pub fn submit_timeout(
        &mut self,
        input: In,
        bytes: usize,
        key: Option<Vec<u8>>,
        timeout: Duration,
    ) -> Result<Ticket, SubmitError<In>> {
        let patience = Instant::now().checked_add(timeout).map_or(Patience::Endless, Patience::Until);
        self.enter(input, bytes, key, patience)
    }

    /// Counts since the start.
    pub fn statistics(&self) -> Statistics {
        self.control.statistics()
    }

    fn enter(
        &mut self,
        input: In,
        bytes: usize,
        key: Option<Vec<u8>>,
        patience: Patience,
    ) -> Result<Ticket, SubmitError<In>> {
        match self.control.enter(bytes, patience) {
            Place::Taken => {}
            Place::Full => return Err(SubmitError::Full(input)),
            Place::Stopped => return Err(SubmitError::Stopped(input)),
        }
        point("entered");
        // Counted before it is sent: no output is ever ahead of this count.
        let ticket = Ticket(self.control.submitted.fetch_add(1, Ordering::AcqRel));
        let work = Work { ticket, input: Arc::new(input), bytes, key };
        self.keys.send(work, &self.inbox);
        Ok(ticket)
    }
}

impl<In> SubmitError<In> {
    /// The input.
    pub fn into_inner(self) -> In {
        match self {
            Self::Full(input) | Self::Stopped(input) => input,
        }
    }
}

impl<In> fmt::Debug for Submitter<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitter").field("control", &self.control).finish_non_exhaustive()
    }
}

impl<In> fmt::Debug for SubmitError<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Stopped(_) => "Stopped(..)",
        })
    }
}

impl<In> fmt::Display for SubmitError<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the pool's window is full; take outputs or wait",
            Self::Stopped(_) => "the pool was stopped; its outputs were dropped",
        })
    }
}

impl<In> std::error::Error for SubmitError<In> {}
