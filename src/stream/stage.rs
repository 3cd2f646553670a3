//! One worker of the stream: a record in, a record out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sessions::{Sessions, Stay};
use super::{answer, explain};
use crate::consensus::{Calibration, Decision};
use crate::formats::{Answer, Body, Chunk, Gained, Given, OwnNames, Reader, Record, References};
use crate::nbest::Status;
use crate::pool::{Stage, Ticket};
use crate::rescorer::{Carries, Finished, Request, Rescorer, Worker};
use crate::{Error, Result};

/// A record of input.
pub(super) struct Input {
    pub chunk: Chunk,
    /// Its session's stay, where states are carried.
    pub stay: Option<Stay>,
    pub read: Instant,
    pub kind: Kind,
}

/// What is to be done with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rescore it.
    Record,
    /// Blank, around records, or over-long: nothing to rescore.
    Other,
    /// Our own answer of an earlier run: only its session's state is wanted.
    Replay,
}

/// A record of output.
pub(super) struct Output {
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
    pub hypotheses: usize,
    /// From reading to here.
    pub took: Duration,
}

/// What became of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Partial,
    Passed(String),
    Blank,
}

/// What all workers of a stream share.
pub(super) struct Plan {
    pub rescorer: Rescorer,
    pub own: OwnNames,
    pub nbest: Option<usize>,
    pub explain: bool,
    pub decision: Decision,
    /// Whether confidences are written.
    pub confidence: bool,
    pub calibration: Calibration,
    pub timings: bool,
    pub deadline: Option<Duration>,
    pub sessions: Option<Sessions>,
    pub max_line_bytes: usize,
    pub answer: Answer,
    pub given: Arc<Given>,
    pub references: Arc<References>,
}

pub(super) struct RescoreStage {
    plan: Arc<Plan>,
    worker: Worker,
    reader: Reader,
    flights: HashMap<u64, (Arc<Input>, Record)>,
    ready: Vec<(Ticket, Output)>,
    finished: Vec<Finished>,
    carried: Vec<(Stay, Carries)>,
}

impl RescoreStage {
    pub fn new(plan: Arc<Plan>) -> Result<Self> {
        let worker = plan.rescorer.worker()?;
        let reader = plan.reader();
        Ok(Self {
            plan,
            worker,
            reader,
            flights: HashMap::new(),
            ready: Vec::new(),
            finished: Vec::new(),
            carried: Vec::new(),
        })
    }

    fn start(&mut self, ticket: Ticket, input: &Arc<Input>) -> Result<()> {
        let mut record = self.reader.read(&input.chunk)?;
        if let Some(name) = record.clash() {
            return Err(Error::record(format!(
                "the list has a feature `{name}` of its own, which rescoring would replace"
            )));
        }
        let mut utterance = std::mem::take(&mut record.utterance);
        let mut starts = Vec::new();
        let mut keep = false;
        if let (Some(sessions), Some(stay)) = (&self.plan.sessions, input.stay) {
            starts = sessions.start(stay);
            keep = true;
        }
        if input.kind == Kind::Replay {
            // The winner is known: its path alone makes the state.
            let winner = record.winner();
            utterance.hypotheses.retain(|hypothesis| Some(hypothesis.rank) == winner);
        }
        let deadline =
            self.plan.deadline.filter(|_| input.kind == Kind::Record).map(|after| input.read + after);
        let request = Request { ticket: ticket.0, utterance, deadline, starts, keep, ..Request::default() };
        self.worker.submit(request);
        self.flights.insert(ticket.0, (input.clone(), record));
        Ok(())
    }

    fn finish(&mut self, finished: Finished) {
        let Some((input, mut record)) = self.flights.remove(&finished.ticket) else { return };
        record.utterance = finished.utterance;
        if let (Some(stay), false) = (input.stay, finished.carries.is_empty()) {
            self.carried.push((stay, finished.carries));
        }
        let output = self.plan.output(&input, &mut record, finished.confirmed);
        self.ready.push((Ticket(finished.ticket), output));
    }
}

impl Stage for RescoreStage {
    type In = Arc<Input>;
    type Out = Output;

    fn room(&self) -> bool {
        self.worker.room() && self.ready.is_empty()
    }

    fn submit(&mut self, ticket: Ticket, input: Arc<Arc<Input>>) {
        crate::faults::point("stream::submit");
        let input = &*input;
        if input.kind == Kind::Other {
            self.ready.push((ticket, self.plan.other(input)));
        } else if let Err(error) = self.start(ticket, input) {
            self.ready.push((ticket, self.plan.failed(input, &reason(&error))));
        }
    }

    fn step(&mut self, done: &mut Vec<(Ticket, Output)>) -> bool {
        crate::faults::point("stream::step");
        if !self.worker.is_idle() {
            let mut finished = std::mem::take(&mut self.finished);
            if let Err(error) = self.worker.step(&mut finished) {
                self.worker.abandon(&reason(&error), &mut finished);
            }
            for finished in finished.drain(..) {
                self.finish(finished);
            }
            self.finished = finished;
        }
        done.append(&mut self.ready);
        // Last: after a panic above, what was in flight starts again from where it did.
        for (stay, carries) in self.carried.drain(..) {
            if let Some(sessions) = &self.plan.sessions {
                sessions.put(stay, carries);
            }
        }
        !self.worker.is_idle()
    }
}

impl Output {
    fn new(input: &Input, bytes: Vec<u8>, verdict: Verdict) -> Self {
        Self { bytes, verdict, hypotheses: 0, took: input.read.elapsed() }
    }
}

impl Plan {
    pub fn reader(&self) -> Reader {
        Reader::new(self.own.clone(), self.given.clone(), self.references.clone())
    }

    /// What is written for a record that came back from the models.
    fn output(&self, input: &Input, record: &mut Record, confirmed: usize) -> Output {
        let verdict = match &record.utterance.status {
            Status::Passed(reason) => {
                let reason = reason.clone();
                return self.passed_record(input, record, &reason);
            }
            Status::Partial(_) => Verdict::Partial,
            _ => Verdict::Ok,
        };
        let mut bytes = Vec::with_capacity(2 * input.chunk.bytes.len());
        let explain = self.explain.then(|| explain::explain(&record.utterance, &self.rescorer));
        let hypotheses = record.utterance.hypotheses.len();
        let nbest = self.nbest.unwrap_or(usize::MAX);
        let (order, members) = answer::answer(&record.utterance, self, nbest, input.read, confirmed);
        let features = self.rescorer.gained();
        let gained = Gained { order: &order, features, explain: explain.as_deref(), members: &members };
        if let Err(error) = self.answer.write(record, &input.chunk, &gained, &mut bytes) {
            return self.passed(input, &reason(&error));
        }
        Output { hypotheses, ..Output::new(input, bytes, verdict) }
    }

    /// What is written for a record that could be read and not rescored: what was ours in it goes.
    fn passed_record(&self, input: &Input, record: &mut Record, reason: &str) -> Output {
        let mut bytes = Vec::with_capacity(input.chunk.bytes.len() + 128);
        let gained = Gained { features: self.rescorer.gained(), ..Gained::default() };
        if self.answer.write(record, &input.chunk, &gained, &mut bytes).is_err() {
            return self.passed(input, reason);
        }
        Output::new(input, bytes, Verdict::Passed(reason.to_owned()))
    }

    /// One record less of a stay is under way.
    pub fn leave(&self, stay: Option<Stay>) {
        if let (Some(sessions), Some(stay)) = (&self.sessions, stay) {
            sessions.leave(stay);
        }
    }

    /// What is written for an input that no stage could work on.
    pub fn failed(&self, input: &Input, reason: &str) -> Output {
        if input.kind == Kind::Other { self.other(input) } else { self.passed(input, reason) }
    }

    /// What is written for a record that goes on as it came, marked where it can be.
    pub fn passed(&self, input: &Input, reason: &str) -> Output {
        let mut bytes = Vec::with_capacity(input.chunk.bytes.len() + 128);
        self.answer.passed(&input.chunk, reason, &mut bytes);
        Output::new(input, bytes, Verdict::Passed(reason.to_owned()))
    }

    /// What is written for what is no record.
    pub fn other(&self, input: &Input) -> Output {
        let limit = self.max_line_bytes;
        let mut bytes = Vec::new();
        self.answer.other(&input.chunk, limit as u64, &mut bytes);
        let verdict = match &input.chunk.body {
            Body::Over(length) => Verdict::Passed(format!(
                "line of {length} bytes is over the limit of {limit}; see --max-line-bytes"
            )),
            Body::Passed(reason) => Verdict::Passed(format!("{reason}; see --max-line-bytes")),
            Body::Record | Body::Between => Verdict::Blank,
        };
        Output::new(input, bytes, verdict)
    }
}

/// An error as a reason: the line number is said elsewhere.
fn reason(error: &Error) -> String {
    error.to_string()
}
