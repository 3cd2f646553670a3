//! How far an estimation is, and whether to go on.

use std::ops::ControlFlow;

use crate::{Error, Result};

/// A step of an estimation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Reading texts; counted in bytes of the files as they lie on disk.
    Reading,
    /// Collecting n-grams; counted in words.
    Counting,
    /// Adjusting counts; counted in words.
    Adjusting,
    /// Discounting; counted in n-grams.
    Discounting,
    /// Interpolating and writing; counted in n-grams.
    Writing,
}

/// How far an estimation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The step under way.
    pub phase: Phase,
    /// What is done of it.
    pub done: u64,
    /// All of it; 0 where that is not known.
    pub total: u64,
}

/// Who is told how far it is, and may answer [`ControlFlow::Break`] to end it.
pub type Observer<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// One step, told to an observer now and then.
pub(super) struct Watch<'a> {
    observer: &'a mut Observer<'a>,
    progress: Progress,
    next: u64,
}

impl<'a> Watch<'a> {
    pub fn new(observer: &'a mut Observer<'_>, phase: Phase, total: u64) -> Self {
        // The observer lives longer than this borrow of it.
        let observer: &'a mut Observer<'a> = observer;
        Self { observer, progress: Progress { phase, done: 0, total }, next: 0 }
    }

    /// Adds to what is done.
    ///
    /// # Errors
    /// [`std::io::ErrorKind::Interrupted`] if the observer says to stop.
    pub fn advance(&mut self, by: u64) -> Result<()> {
        self.progress.done += by;
        if self.progress.done < self.next {
            return Ok(());
        }
        self.next = self.progress.done + STRIDE;
        self.show()
    }

    /// Tells the observer.
    ///
    /// # Errors
    /// As [`Watch::advance`].
    pub fn show(&mut self) -> Result<()> {
        match (self.observer)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                Err(Error::Io { what: "estimation".into(), source: std::io::ErrorKind::Interrupted.into() })
            }
        }
    }
}

const STRIDE: u64 = 1 << 16;
