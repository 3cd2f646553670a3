//! An ordered worker pool over bounded channels: outputs come in the order of the inputs,
//! for any number of workers, and every input has exactly one.
//!
//! Each worker owns a [`Stage`], which may have many inputs in flight and does its work in
//! bounded steps. [`Pool::new`] starts the workers and gives the two ends: a [`Submitter`],
//! which waits while the window is full, and [`Outputs`], which gives the window's places
//! back as outputs are taken. They may be used by two threads or by one.
//!
//! ```
//! use secondpass::pool::{Outcome, Pool, PoolOptions, Stage, Ticket};
//! use std::sync::Arc;
//!
//! struct Length(Option<(Ticket, Arc<String>)>);
//!
//! impl Stage for Length {
//!     type In = String;
//!     type Out = usize;
//!     fn room(&self) -> bool {
//!         self.0.is_none()
//!     }
//!     fn submit(&mut self, ticket: Ticket, input: Arc<String>) {
//!         self.0 = Some((ticket, input));
//!     }
//!     fn step(&mut self, done: &mut Vec<(Ticket, usize)>) -> bool {
//!         done.extend(self.0.take().map(|(ticket, input)| (ticket, input.len())));
//!         false
//!     }
//! }
//!
//! let Pool { mut submitter, outputs } = Pool::new(PoolOptions::new(2), |_| Ok(Length(None)))?;
//! for text in ["a", "cat", "sat"] {
//!     submitter.submit(text.to_string(), text.len(), None).unwrap();
//! }
//! drop(submitter); // the end of input
//! let lengths: Vec<_> = outputs.map(|(_, outcome)| outcome).collect();
//! assert_eq!(lengths, [Outcome::Done(1), Outcome::Done(3), Outcome::Done(3)]);
//! # Ok::<(), secondpass::Error>(())
//! ```
//!
//! # Panics of a stage
//!
//! A panic costs one input, not the run. The pool keeps each input until its output is out;
//! when a stage panics, its worker makes a new one and runs what was in flight again, one
//! input at a time. Only an input that panics alone becomes [`Outcome::Panicked`].
//!
//! The panic hook runs before the pool sees a panic, and the default hook prints to standard
//! error. A hook belongs to the whole process, so this library sets none: a program that
//! wants silence installs its own with [`std::panic::set_hook`].

mod control;
mod outputs;
mod submitter;
mod sync;
#[cfg(test)]
#[cfg_attr(feature = "shuttle", allow(dead_code))] // for the tests that shuttle leaves out
mod tests;
mod worker;

use std::sync::Arc;

pub use outputs::{Outputs, RecvError};
pub use submitter::{SubmitError, Submitter};

use crate::{Error, Result};
use control::{Control, Keys};
use sync::{channel, thread};
use worker::Worker;

/// The place of an input in the order of submission, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The work of one worker: many inputs in flight, no threads and no waiting of its own.
///
/// A panic in any method is contained, see [the module](self#panics-of-a-stage); the stage is
/// dropped after it and never used again. The same happens to a stage that loses an input.
pub trait Stage: Send {
    /// What is submitted. Shared, because the pool keeps it until its output is out.
    type In: Send + Sync + 'static;
    /// What comes out, once for each input.
    type Out: Send + 'static;

    /// Whether another input is wanted before the next step. Not asked while nothing is in
    /// flight: an empty stage takes one.
    fn room(&self) -> bool;

    /// Takes an input in flight. No two inputs in flight anywhere have the same key.
    fn submit(&mut self, ticket: Ticket, input: Arc<Self::In>);

    /// Does one bounded piece of work and pushes what it finished, in any order. `false` says
    /// that nothing is left to do: an input then still in flight counts as lost. The pool
    /// calls it only while something is in flight; a stage must finish after some steps, a
    /// `true` for ever waits for ever.
    fn step(&mut self, done: &mut Vec<(Ticket, Self::Out)>) -> bool;
}

/// What became of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The stage's output.
    Done(T),
    /// The stage panicked, with this message, when it had this input alone.
    Panicked(String),
    /// No stage could be made for it, or the stage lost it: the reason.
    Failed(String),
}

/// How many workers, and how much may be between the two ends.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Most inputs submitted and not yet taken as outputs, 1 to 1,048,576.
    pub window_items: usize,
    /// Most bytes (as the submitter weighs them) submitted and not yet taken. An input
    /// heavier than this is let in when the window is empty.
    pub window_bytes: usize,
    /// What the threads are called, before their number.
    pub name: String,
}

/// The two ends of a running pool. They may be dropped in any order; dropping the outputs
/// stops the workers at their next step and waits for them.
#[derive(Debug)]
pub struct Pool<In, Out> {
    /// Where inputs go in.
    pub submitter: Submitter<In>,
    /// Where outputs come out.
    pub outputs: Outputs<Out>,
}

/// Counts since the start. They are read one by one while the pool runs, so they may differ
/// by what happened meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Inputs let in.
    pub submitted: u64,
    /// Inputs whose output was produced.
    pub finished: u64,
    /// Outputs taken by the consumer.
    pub taken: u64,
    /// Stages made anew after a panic or a lost input.
    pub remade: u64,
}

impl<T> Outcome<T> {
    /// The output, or why there is none.
    pub fn into_result(self) -> Result<T, String> {
        match self {
            Self::Done(output) => Ok(output),
            Self::Panicked(message) | Self::Failed(message) => Err(message),
        }
    }
}

impl Statistics {
    /// Inputs waiting or being worked on.
    pub fn in_flight(&self) -> u64 {
        self.submitted.saturating_sub(self.finished)
    }
}

impl PoolOptions {
    /// A window of 16 inputs per worker, at least 64, and of 64 MiB.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            window_items: workers.saturating_mul(16).clamp(64, WINDOW_MAX),
            window_bytes: 64 << 20,
            name: "worker".into(),
        }
    }

    fn check(&self) -> Result<()> {
        if self.workers == 0 {
            return Err(Error::config("a pool needs at least 1 worker"));
        }
        if !(1..=WINDOW_MAX).contains(&self.window_items) {
            let got = self.window_items;
            return Err(Error::config(format!("a window of {got} inputs: choose 1 to {WINDOW_MAX}")));
        }
        Ok(())
    }
}

impl<In: Send + Sync + 'static, Out: Send + 'static> Pool<In, Out> {
    /// Starts the workers; each makes its stage in its own thread, from its number.
    ///
    /// `make` is called again after a panic, so it should not use up what it captured.
    ///
    /// # Errors
    /// Fails if the options make no sense, a thread cannot be started, or `make` fails or
    /// panics for any worker; no thread is left then.
    pub fn new<S, F>(options: PoolOptions, make: F) -> Result<Self>
    where
        S: Stage<In = In, Out = Out> + 'static,
        F: Fn(usize) -> Result<S> + Send + Sync + 'static,
    {
        options.check()?;
        // Each place in these channels belongs to a place in the window, so that nobody ever
        // waits to send: only the submitter waits, for the window.
        let (inbox, work) = channel::bounded(options.window_items);
        let (finished, results) = channel::bounded(options.window_items);
        let (stopper, stop) = channel::bounded(0);
        let (report, started) = channel::bounded(options.workers);
        let control = Arc::new(Control::new(&options));
        let keys = Arc::new(Keys::default());
        let make = Arc::new(make);
        // Dropping it on an error stops and joins the threads that did start.
        let mut outputs = Outputs::new(control.clone(), results, stopper);
        for index in 0..options.workers {
            let mut worker = Worker::new(
                index,
                make.clone(),
                control.clone(),
                keys.clone(),
                work.clone(),
                stop.clone(),
                finished.clone(),
            );
            let report = report.clone();
            let name = format!("{}-{index}", options.name);
            let thread = thread::Builder::new()
                .name(name.clone())
                .spawn(move || {
                    let ready = worker.start();
                    let run = ready.is_ok();
                    let _ = report.send((index, ready));
                    drop(report);
                    if run {
                        worker.run();
                    }
                })
                .map_err(|source| Error::Io { what: format!("starting thread {name}"), source })?;
            outputs.threads.push(thread);
        }
        drop(report);
        let mut reports: Vec<_> = started.iter().collect();
        reports.sort_by_key(|&(index, _)| index);
        for (_, ready) in reports {
            ready?;
        }
        let submitter = Submitter::new(control, keys, inbox);
        Ok(Self { submitter, outputs })
    }
}

#[cfg(test)]
use tests::point;

/// A named place where another thread may come in between; only the tests do something there.
#[cfg(not(test))]
#[inline(always)]
fn point(_: &'static str) {}

/// The channels are allocated at once, so a window cannot be endless.
const WINDOW_MAX: usize = 1 << 20;
