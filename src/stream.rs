//! The filter: lists in, rescored lists out, in order, nothing lost.
//!
//! One thread reads, the pool's workers rescore, the calling thread writes. The library never
//! prints: what people should know goes to the caller as [`Event`]s.

mod answer;
mod check;
mod explain;
mod input;
mod sessions;
mod stage;
#[cfg(test)]
mod tests;
mod writer;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

pub use input::{Lists, Stop};

use crate::consensus::{Calibration, Decision};
use crate::formats::{Answer, Chunk, Format, Given, Kept, Reader, References};
use crate::lines::{Lines, MAX_LINE_BYTES};
use crate::pool::{Pool, PoolOptions, Submitter};
use crate::rescorer::Rescorer;
use crate::{Error, Result};
use check::First;
use input::Read_;
use sessions::{Sessions, Stay};
use stage::{Input, Kind, Plan, RescoreStage};
use writer::Writer;

/// How a stream is to be worked.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Worker threads.
    pub workers: usize,
    /// Write only the best so many hypotheses.
    pub nbest: Option<usize>,
    /// Add weight x value of each feature for the winner and the first pass's.
    pub explain: bool,
    /// How lists are decided.
    pub decision: Decision,
    /// Add confidences of words and utterances, and posteriors of hypotheses.
    pub confidence: bool,
    /// What makes probabilities of totals.
    pub calibration: Calibration,
    /// Add the time from the reading of a record to its answer.
    pub timings: bool,
    /// From the reading of a record to its answer.
    pub deadline: Option<Duration>,
    /// Start each utterance from the state after its session's last winner.
    pub carry_over: bool,
    /// Sessions remembered.
    pub sessions: usize,
    /// Stop at the first record that cannot be rescored.
    pub strict: bool,
    /// Longest line, and longest record, kept.
    pub max_line_bytes: usize,
    /// Largest document kept.
    pub max_document_bytes: usize,
    /// How records are written.
    pub answer: Answer,
    /// What lists do not say themselves.
    pub given: Arc<Given>,
    /// References of records that have none.
    pub references: Arc<References>,
    /// Most records between reading and writing; 0 chooses max(64, 16 x workers).
    pub window_records: usize,
    /// Most bytes between reading and writing.
    pub window_bytes: usize,
    /// How often to report [`Event::Progress`].
    pub every: Option<Duration>,
    /// Records (and blank lines) of input that an earlier run has answered already.
    pub skip: u64,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            nbest: None,
            explain: false,
            decision: Decision::Best,
            confidence: false,
            calibration: Calibration::default(),
            timings: false,
            deadline: None,
            carry_over: false,
            sessions: 10_000,
            strict: false,
            max_line_bytes: MAX_LINE_BYTES,
            max_document_bytes: Kept::default().document_bytes,
            answer: Answer::default(),
            given: Arc::default(),
            references: Arc::default(),
            window_records: 0,
            window_bytes: 64 << 20,
            every: None,
            skip: 0,
        }
    }
}

/// What a stream tells its caller.
#[derive(Debug, Clone)]
pub enum Event {
    /// The formula, as resolved for the first list.
    Formula(String),
    /// The format of the lists, if it is another than JSON Lines, and how the first pass's score is
    /// made of what it has.
    Lists(String),
    /// Something about the set-up that the user should know.
    Warning(String),
    /// A record went on unrescored.
    Passed {
        /// Its line, or its number in a document or folder, from 1: `line 7`.
        place: String,
        /// Why.
        reason: String,
    },
    /// Counts so far.
    Progress(Summary),
}

/// What a stream did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Records written.
    pub records: u64,
    /// Of those, rescored with every model.
    pub rescored: u64,
    /// Rescored without some model.
    pub partial: u64,
    /// Left as they came.
    pub passed: u64,
    /// Hypotheses of all rescored records.
    pub hypotheses: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Longest time from reading to answer since the last report.
    pub slowest: Duration,
    /// Since the start.
    pub elapsed: Duration,
    /// Whether the reader of the output went away.
    pub closed: bool,
}

/// Where a stream comes from and goes to.
pub struct Streams<'a> {
    /// The lists.
    pub input: Lists,
    /// The output of an earlier run that [`StreamOptions::skip`] counts the records of. Where it is JSON
    /// Lines, its ids must be the input's, and its winners carry their states over.
    pub earlier: Option<Box<dyn Read + Send>>,
    /// Where records go. For a folder, each write is what [`Answer::frames`] takes apart.
    pub output: &'a mut dyn Write,
    /// What messages call it.
    pub output_name: String,
}

/// Rescores a stream.
///
/// Returns when the input ends, when `stop` asks, or when the reader of the output goes away
/// ([`Summary::closed`]). Output is flushed whenever nothing is ready to be written.
///
/// # Errors
/// If reading or writing fails, a worker cannot be made, the weights do not fit the first list, or,
/// with [`StreamOptions::strict`], at the first record that cannot be rescored. What was finished
/// before is written.
pub fn rescore(
    rescorer: &Rescorer,
    streams: Streams<'_>,
    options: &StreamOptions,
    stop: &Stop,
    tell: &(dyn Fn(Event) + Sync),
) -> Result<Summary> {
    let Streams { input, earlier, output, output_name } = streams;
    let plan = Arc::new(Plan {
        rescorer: rescorer.clone(),
        own: rescorer.own_names(),
        nbest: options.nbest,
        explain: options.explain,
        decision: options.decision,
        confidence: options.confidence,
        calibration: options.calibration,
        timings: options.timings,
        deadline: options.deadline,
        sessions: options.carry_over.then(|| Sessions::new(options.sessions)),
        max_line_bytes: options.max_line_bytes,
        answer: options.answer,
        given: options.given.clone(),
        references: options.references.clone(),
    });
    for warning in rescorer.warnings() {
        tell(Event::Warning(warning));
    }
    if options.carry_over && !rescorer.carries() {
        tell(Event::Warning("--carry-over changes nothing: no model has a state to carry".into()));
    }
    let mut pool = PoolOptions::new(options.workers.max(1));
    pool.name = "secondpass".into();
    pool.window_bytes = options.window_bytes;
    if options.window_records > 0 {
        pool.window_items = options.window_records;
    }
    let window = pool.window_items;
    let made = plan.clone();
    let Pool { submitter, outputs } = Pool::new(pool, move |_| RescoreStage::new(made.clone()))?;
    let io = |source| Error::Io { what: "threads".into(), source };
    let kept = Kept { record_bytes: options.max_line_bytes, document_bytes: options.max_document_bytes };
    let chunks = input::chunks(input, kept, stop.clone()).map_err(io)?;
    // The writer needs what it waits for, to pass it on if its worker panics. The window bounds it.
    let (sent, inputs) = bounded::<Arc<Input>>(window + 1);
    std::thread::scope(|scope| {
        let feeder = std::thread::Builder::new().name("secondpass-feeder".into());
        let feed = {
            let (plan, stop) = (plan.clone(), stop.clone());
            move || {
                let reader = plan.reader();
                Feeder { plan, reader, submitter, sent, stop, tell, options, ended: false }
                    .feed(earlier, &chunks)
            }
        };
        let feed = feeder.spawn_scoped(scope, feed).map_err(io)?;
        let writer = Writer {
            plan: &plan,
            outputs,
            inputs,
            output,
            name: &output_name,
            options,
            tell,
            summary: Summary::default(),
            envelope: options.answer.format.and_then(Format::envelope),
            written: 0,
        };
        let written = writer.write(stop);
        let fed = feed.join().unwrap_or_else(|_| Err(Error::Internal("the feeder panicked".into())));
        // The cause before its consequence: a failed write also stops the feeder.
        let summary = written?;
        if !summary.closed {
            fed?;
        }
        Ok(summary)
    })
}

/// Lines of an earlier output.
type Earlier = Lines<Box<dyn Read + Send>>;

/// Hands records to the pool.
struct Feeder<'a> {
    plan: Arc<Plan>,
    reader: Reader,
    submitter: Submitter<Arc<Input>>,
    sent: crossbeam::channel::Sender<Arc<Input>>,
    stop: Stop,
    tell: &'a (dyn Fn(Event) + Sync),
    options: &'a StreamOptions,
    /// A signal has ended it.
    ended: bool,
}

impl Feeder<'_> {
    fn feed(mut self, earlier: Option<Box<dyn Read + Send>>, chunks: &Receiver<Result<Read_>>) -> Result<()> {
        // Answers are longer than what they answer.
        let mut earlier = earlier.map(|earlier| Lines::new(earlier, usize::MAX));
        let plan = self.plan.clone();
        let mut first = First::new(&plan, self.options);
        let mut skip = self.options.skip;
        while let Some(read) = self.next(chunks) {
            let (chunk, at) = match read? {
                Read_::Chunk(chunk, at) => (chunk, at),
                Read_::Orphans(orphans) => {
                    orphans.into_iter().for_each(|orphan| (self.tell)(Event::Warning(orphan)));
                    continue;
                }
            };
            let other = !chunk.is_record();
            if !other {
                // Skipped ones too: what was right for an interrupted run is right for its completion.
                first.look(&mut self.reader, &chunk, self.tell)?;
            }
            let session = self.session(&chunk, other);
            if skip > 0 {
                skip -= u64::from(self.plan.answer.answers(&chunk));
                // Blank lines and records that were passed on leave no state.
                let old = self.answered(&mut earlier, &chunk)?.filter(|_| self.plan.sessions.is_some());
                match old.filter(|old| self.reader.read(old).is_ok_and(|record| record.rescored())) {
                    Some(old) => {
                        self.submit(old, at, Kind::Replay, session);
                    }
                    None => self.plan.leave(session.map(|(stay, _)| stay)),
                }
                continue;
            }
            let kind = if other { Kind::Other } else { Kind::Record };
            if !self.submit(chunk, at, kind, session) {
                break;
            }
        }
        first.finish(self.tell);
        if skip > 0 && !self.stop.asked() {
            return Err(Error::Config(format!(
                "the output to complete has {} records, {skip} more than the input: it is another input's",
                self.options.skip
            )));
        }
        Ok(())
    }

    /// What the earlier run answered to this chunk, where that is a line of JSON.
    ///
    /// # Errors
    /// If it is the answer to another.
    fn answered(&mut self, earlier: &mut Option<Earlier>, chunk: &Chunk) -> Result<Option<Chunk>> {
        let answer = &self.plan.answer;
        if answer.format.unwrap_or(chunk.format) != Format::Jsonl || !answer.answers(chunk) {
            return Ok(None);
        }
        let Some(Ok(line)) = earlier.as_mut().and_then(Iterator::next) else { return Ok(None) };
        let mut old = Chunk::line(line.bytes);
        (old.number, old.record) = (chunk.number, chunk.record);
        let mut id = |chunk: &Chunk| self.reader.read(chunk).map(|record| record.utterance.id);
        if let (Ok(asked), Ok(answered)) = (id(chunk), id(&old))
            && asked != answered
        {
            return Err(Error::Config(format!(
                "line {} of the output to complete answers `{}`, where the input has `{}`: it is another input's; \
                 name a new file with --output",
                line.number,
                String::from_utf8_lossy(&answered),
                String::from_utf8_lossy(&asked)
            )));
        }
        Ok(Some(old))
    }

    /// The next chunk; `None` at the end, or when a stop was asked for and all that was read is here.
    fn next(&mut self, chunks: &Receiver<Result<Read_>>) -> Option<Result<Read_>> {
        loop {
            if self.ended {
                return None;
            }
            match chunks.recv_timeout(GLANCE) {
                Ok(read) => return Some(read),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.stop.asked() && self.stop.waiting() => {
                    // Whole or not, what has come of a list is answered.
                    self.ended = true;
                    let chunk = self.stop.unfinished()?;
                    return Some(Ok(Read_::Chunk(chunk, Instant::now())));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// The stay and the name of a record's session, where states are carried.
    fn session(&mut self, chunk: &Chunk, other: bool) -> Option<(Stay, Vec<u8>)> {
        let sessions = self.plan.sessions.as_ref().filter(|_| !other)?;
        let name = self.reader.read(chunk).ok()?.utterance.session?;
        Some((sessions.enter(&name), name))
    }

    /// `false` when nobody waits for outputs any more.
    fn submit(&mut self, chunk: Chunk, read: Instant, kind: Kind, session: Option<(Stay, Vec<u8>)>) -> bool {
        let (stay, key) = session.unzip();
        // What a record costs in flight: its bytes, and what is made of it.
        let bytes = chunk.bytes.len() + 256;
        let input = Arc::new(Input { chunk, stay, read, kind });
        self.submitter.submit(input.clone(), bytes, key).is_ok() && self.sent.send(input).is_ok()
    }
}

/// How often the feeder looks whether it should stop while no line comes.
const GLANCE: Duration = Duration::from_millis(20);
