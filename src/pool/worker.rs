//! A worker: keeps its stage busy, and makes a new one when it breaks.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::{Control, Finished, Keys, Work};
use super::sync::atomic::Ordering;
use super::sync::channel::{Receiver, RecvTimeoutError, Sender};
use super::sync::recv_unless;
use super::{Outcome, Stage, Ticket, point};
use crate::{Error, Result};

type Make<S> = dyn Fn(usize) -> Result<S> + Send + Sync;

pub(super) struct Worker<S: Stage> {
    index: usize,
    make: Arc<Make<S>>,
    control: Arc<Control>,
    keys: Arc<Keys<S::In>>,
    work: Receiver<Work<S::In>>,
    stop: Receiver<Infallible>,
    results: Sender<Finished<S::Out>>,
    stage: Option<S>,
    /// What the stage has, kept until its output is out.
    flight: BTreeMap<Ticket, Work<S::In>>,
    /// What a broken stage had, to be run alone.
    suspects: VecDeque<Work<S::In>>,
    /// Whether what is in flight is a suspect.
    alone: bool,
    done: Vec<(Ticket, S::Out)>,
}

/// Why [`Worker::serve`] came back.
enum End {
    /// There is nothing more to do, or the pool was stopped.
    Finished,
    /// The stage says it has nothing to do, with inputs in flight.
    Lost,
}

impl<S: Stage> Worker<S> {
    pub(super) fn new(
        index: usize,
        make: Arc<Make<S>>,
        control: Arc<Control>,
        keys: Arc<Keys<S::In>>,
        work: Receiver<Work<S::In>>,
        stop: Receiver<Infallible>,
        results: Sender<Finished<S::Out>>,
    ) -> Self {
        Self {
            index,
            make,
            control,
            keys,
            work,
            stop,
            results,
            stage: None,
            flight: BTreeMap::new(),
            suspects: VecDeque::new(),
            alone: false,
            done: Vec::new(),
        }
    }

    pub(super) fn start(&mut self) -> Result<()> {
        self.stage = Some(self.make_stage()?);
        Ok(())
    }

    pub(super) fn run(mut self) {
        loop {
            // One guard around the whole loop, so that a step pays nothing for it. What a
            // panic leaves half done is only in the stage, which is never used again.
            match catch_unwind(AssertUnwindSafe(|| self.serve())) {
                Ok(End::Finished) => break,
                Ok(End::Lost) => self.recover(Outcome::Failed, LOST.into()),
                Err(payload) => self.recover(Outcome::Panicked, message(payload)),
            }
        }
        discard(self.stage.take());
        for (_, work) in mem::take(&mut self.flight) {
            discard(work);
        }
        self.suspects.drain(..).for_each(discard);
    }

    fn serve(&mut self) -> End {
        while !self.control.stopped() {
            if self.stage.is_none() && !self.replace() {
                break;
            }
            if self.flight.is_empty() {
                let suspect = self.suspects.pop_front();
                self.alone = suspect.is_some();
                let Some(work) = suspect.or_else(|| self.wait()) else {
                    break;
                };
                self.submit(work);
            }
            self.refill();
            let Some(stage) = &mut self.stage else {
                continue;
            };
            point("step");
            let more = stage.step(&mut self.done);
            self.deliver();
            if !more && !self.flight.is_empty() {
                return End::Lost;
            }
        }
        End::Finished
    }

    /// Takes inputs while the stage wants them, but leaves idle workers theirs.
    fn refill(&mut self) {
        while !self.alone && self.stage.as_ref().is_some_and(S::room) {
            if self.work.len() <= self.control.idle.load(Ordering::Relaxed) {
                break;
            }
            point("refill");
            let Ok(work) = self.work.try_recv() else {
                break;
            };
            self.submit(work);
        }
    }

    fn submit(&mut self, work: Work<S::In>) {
        let (ticket, input) = (work.ticket, work.input.clone());
        // Noted first: if the stage panics over it, it is in flight.
        self.flight.insert(ticket, work);
        if let Some(stage) = &mut self.stage {
            stage.submit(ticket, input);
        }
    }

    /// The next input; `None` at the end of input or when the pool was stopped.
    fn wait(&self) -> Option<Work<S::In>> {
        if let Ok(work) = self.work.try_recv() {
            return Some(work);
        }
        self.control.idle.fetch_add(1, Ordering::Relaxed);
        point("idle");
        let work = recv_unless(&self.work, &self.stop);
        self.control.idle.fetch_sub(1, Ordering::Relaxed);
        work
    }

    fn deliver(&mut self) {
        let mut done = mem::take(&mut self.done);
        for (ticket, output) in done.drain(..) {
            match self.flight.remove(&ticket) {
                Some(work) => self.finish(work, Outcome::Done(output)),
                // Not in flight here: the stage made it up, or gave it before.
                None => discard(output),
            }
        }
        self.done = done;
    }

    fn finish(&self, work: Work<S::In>, outcome: Outcome<S::Out>) {
        let Work { ticket, input, bytes, key } = work;
        self.control.finished.fetch_add(1, Ordering::AcqRel);
        // Fails only when the outputs were dropped: then nobody waits for it.
        let _ = self.results.send(Finished { ticket, bytes, outcome });
        point("finished");
        if let Some(key) = key {
            self.keys.next(&key);
        }
        discard(input);
    }

    /// After the stage broke: what it had finished counts, what it had alone gets the outcome
    /// `kind` with `why`, and what it had in company is run again, each alone.
    fn recover(&mut self, kind: fn(String) -> Outcome<S::Out>, why: String) {
        self.deliver();
        discard(self.stage.take());
        point("recover");
        let flight = mem::take(&mut self.flight).into_values();
        if !self.alone {
            self.suspects.extend(flight);
            return;
        }
        for work in flight {
            self.finish(work, kind(why.clone()));
        }
    }

    /// Makes a new stage; `false` if this worker is done for.
    ///
    /// A worker that cannot fails what it had and leaves the rest to the others. The last
    /// one stays: it fails its inputs too, and tries again once in a while.
    fn replace(&mut self) -> bool {
        let Some(mut why) = self.try_replace() else {
            return !self.control.stopped();
        };
        while let Some(work) = self.suspects.pop_front() {
            self.finish(work, Outcome::Failed(why.clone()));
        }
        if self.control.able.fetch_sub(1, Ordering::AcqRel) > 1 {
            return false;
        }
        let mut tried = Instant::now();
        while let Some(work) = self.wait() {
            if tried.elapsed() >= RETRY {
                let Some(again) = self.try_replace() else {
                    self.suspects.push_back(work);
                    self.control.able.fetch_add(1, Ordering::AcqRel);
                    return !self.control.stopped();
                };
                (why, tried) = (again, Instant::now());
            }
            self.finish(work, Outcome::Failed(why.clone()));
        }
        false
    }

    /// Tries a few times to make a stage; comes back with the reason why it failed, `None`
    /// if it did not or the pool was stopped.
    fn try_replace(&mut self) -> Option<String> {
        let mut why = None;
        for pause in PAUSES {
            // The channel carries nothing: it only ends.
            if why.is_some() && self.stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return None;
            }
            match self.make_stage() {
                Ok(stage) => {
                    self.stage = Some(stage);
                    self.control.remade.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                Err(error) => why = Some(format!("no worker could be made after a failure: {error}")),
            }
        }
        why
    }

    fn make_stage(&self) -> Result<S> {
        let (make, index) = (&self.make, self.index);
        catch_unwind(AssertUnwindSafe(|| make(index))).unwrap_or_else(|payload| {
            let message = message(payload);
            Err(Error::Internal(format!("worker {index} panicked at its start: {message}")))
        })
    }
}

/// What a panic said.
fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match payload.downcast_ref::<&str>() {
        Some(text) => Some((*text).to_owned()),
        None => payload.downcast_ref::<String>().cloned(),
    };
    discard(payload);
    text.unwrap_or_else(|| "a panic without a message".into())
}

/// Drops a value of the user's, whose destructor may panic too: nothing is lost with it.
fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // This one's destructor is not to be trusted either.
        mem::forget(payload);
    }
}

/// What is said of an input without an output.
pub(super) const LOST: &str = "the worker lost it: it stopped without an output";

/// Before each attempt to make a stage anew, after the first.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(100)];

/// How often the last worker, without a stage, tries again while inputs come.
const RETRY: Duration = Duration::from_secs(1);
