//! The end of the stream: outputs in order, what is said of them, and what is counted.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::Receiver;

use super::stage::{Input, Kind, Output, Plan, Verdict};
use super::{Event, Stop, StreamOptions, Summary};
use crate::formats::{Chunk, Envelope};
use crate::pool::{Outcome, Outputs, RecvError};
use crate::{Error, Result};

/// Writes outputs in order.
pub(super) struct Writer<'a> {
    pub plan: &'a Plan,
    pub outputs: Outputs<Output>,
    pub inputs: Receiver<Arc<Input>>,
    pub output: &'a mut dyn Write,
    pub name: &'a str,
    pub options: &'a StreamOptions,
    pub tell: &'a (dyn Fn(Event) + Sync),
    pub summary: Summary,
    /// What stands around the records of a document that they did not come in.
    pub envelope: Option<Envelope>,
    pub written: u64,
}

impl Writer<'_> {
    /// Writes until the outputs end.
    pub fn write(mut self, stop: &Stop) -> Result<Summary> {
        let started = Instant::now();
        let mut reported = started;
        let result = loop {
            let outcome = match self.outputs.try_recv() {
                Err(RecvError::Empty) => {
                    if let Err(error) = self.flush() {
                        break Err(error);
                    }
                    self.wait(reported)
                }
                other => other,
            };
            if let Some(every) = self.options.every
                && reported.elapsed() >= every
            {
                reported = Instant::now();
                self.summary.elapsed = started.elapsed();
                (self.tell)(Event::Progress(self.summary));
                self.summary.slowest = Duration::ZERO;
            }
            match outcome {
                Ok((_, outcome)) => {
                    if let Err(error) = self.one(outcome) {
                        break Err(error);
                    }
                }
                Err(RecvError::Empty) => {}
                Err(RecvError::Ended) => break self.end(),
            }
        };
        // Nobody reads on: the reading thread must not either.
        stop.ask();
        self.summary.elapsed = started.elapsed();
        match result {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
                self.summary.closed = true;
                Ok(self.summary)
            }
            Err(error) => {
                let _ = self.output.flush();
                Err(error)
            }
            Ok(()) => Ok(self.summary),
        }
    }

    fn wait(&mut self, reported: Instant) -> Result<(crate::pool::Ticket, Outcome<Output>), RecvError> {
        match self.options.every {
            Some(every) => self.outputs.recv_timeout(every.saturating_sub(reported.elapsed())),
            None => self.outputs.recv().ok_or(RecvError::Ended),
        }
    }

    fn one(&mut self, outcome: Outcome<Output>) -> Result<()> {
        let input = self.inputs.recv().map_err(|_| Error::Internal("an output without its input".into()))?;
        self.plan.leave(input.stay);
        // Its answer is in the output already, whatever became of it now.
        if input.kind == Kind::Replay {
            return Ok(());
        }
        let output = match outcome {
            Outcome::Done(output) => output,
            Outcome::Panicked(message) => {
                // A panic's own words may quote the text: they are for neither messages nor records.
                log::debug!("{}: {message}", input.chunk.place());
                self.plan.failed(&input, "internal error, contained: a worker panicked on this record alone")
            }
            Outcome::Failed(message) => self.plan.failed(&input, &message),
        };
        match &output.verdict {
            Verdict::Ok => self.summary.rescored += 1,
            Verdict::Partial => self.summary.partial += 1,
            Verdict::Passed(reason) if self.options.strict => {
                return Err(Error::Record { what: format!("{}: {reason}", input.chunk.place()) });
            }
            Verdict::Passed(reason) => {
                self.summary.passed += 1;
                (self.tell)(Event::Passed { place: input.chunk.place(), reason: reason.clone() });
            }
            Verdict::Blank => {}
        }
        self.summary.records += u64::from(output.verdict != Verdict::Blank);
        self.summary.hypotheses += output.hypotheses as u64;
        self.summary.bytes += output.bytes.len() as u64;
        self.summary.slowest = self.summary.slowest.max(output.took);
        let fault = crate::faults::io("stream::write").map_or(Ok(()), Err);
        if let Some(envelope) = self.envelope_of(&input.chunk).filter(|_| !output.bytes.is_empty()) {
            let before = if self.written == 0 { envelope.before } else { envelope.between };
            self.written += 1;
            self.output.write_all(before.as_bytes()).map_err(|source| self.failed(source))?;
        }
        fault.and_then(|()| self.output.write_all(&output.bytes)).map_err(|source| self.failed(source))
    }

    /// What surrounds a record that came in another format.
    fn envelope_of(&mut self, chunk: &Chunk) -> Option<Envelope> {
        if self.plan.answer.is_native(chunk.format) {
            self.envelope = None;
        }
        self.envelope
    }

    fn end(&mut self) -> Result<()> {
        if let Some(envelope) = self.envelope {
            let before = if self.written == 0 { envelope.before } else { "" };
            for part in [before, envelope.after] {
                self.output.write_all(part.as_bytes()).map_err(|source| self.failed(source))?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        let fault = crate::faults::io("stream::flush").map_or(Ok(()), Err);
        fault.and_then(|()| self.output.flush()).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Io { what: self.name.to_owned(), source }
    }
}
