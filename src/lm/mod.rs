//! Language models: what all of them promise.
//!
//! A [`LanguageModel`] is immutable and shared. Each worker makes its own [`Scorer`] from it,
//! submits [`Job`]s (one utterance each) and calls [`Scorer::step`] until they are done: one
//! step is one bounded batch over all jobs in flight.

mod bytes;
mod fold;
mod memory;
pub mod ngram;
pub mod onnx;
mod prefetch;
pub mod schedule;

use std::any::Any;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::Result;
use crate::nbest::Tensor;
use crate::tokens::Vocab;
use crate::trie::Trie;

/// What kind of scores a model gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// A log probability for each token.
    Token,
    /// One for the whole sentence; cannot be mixed word by word.
    Sentence,
}

/// What the rest of the program needs to know about a model.
#[derive(Clone)]
pub struct Spec {
    /// The model's vocabulary.
    pub vocab: Arc<dyn Vocab>,
    /// Token or sentence scores.
    pub grain: Grain,
    /// Whether it reads sentences from the end.
    pub backward: bool,
    /// Whether its state can be carried from one utterance to the next.
    pub carries: bool,
    /// Whether a carried state is fed the start token before the next utterance.
    pub carries_bos: bool,
    /// Names of the tensors that must come with an utterance.
    pub context: Vec<String>,
    /// What the user should know before trusting the scores: one line each.
    pub warnings: Vec<String>,
}

/// Bounds on a scorer.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most rows (distinct histories) in one step.
    pub rows: usize,
    /// A step should take no longer than this; the scorer learns how many rows that is.
    pub step_time: Option<Duration>,
    /// Never batch two utterances: equal bytes whatever else is in flight.
    pub alone: bool,
    /// Threads inside one step.
    pub threads: usize,
}

/// One utterance's work for one model.
#[derive(Clone)]
pub struct Job {
    /// The histories and tokens to score.
    pub trie: Arc<Trie>,
    /// The state to start from; the model's own start when `None`.
    pub start: Option<Carry>,
    /// Tensors of conditional scorers.
    pub context: Arc<[Tensor]>,
    /// When the answer is worthless.
    pub deadline: Option<Instant>,
    /// Also report the mass of "a word starts here, or the sentence ends" (see [`Scores`]).
    pub boundaries: bool,
    /// Keep what [`Scorer::carry`] needs until the slot is released.
    pub keep: bool,
}

/// A model's state after an utterance, opaque to everyone but the model that made it.
#[derive(Clone)]
pub struct Carry(pub Arc<dyn Any + Send + Sync>);

/// A finished job's scores, natural logarithms.
#[derive(Debug, Clone)]
pub enum Scores {
    /// Indexed by trie node.
    Nodes {
        /// ln p(token | history); 0 at the root.
        ln: Vec<f32>,
        /// ln of the probability that after this node a word starts or the sentence ends;
        /// empty unless the job asked for it. 0 where it was not computed because nothing
        /// needed it.
        boundary: Vec<f32>,
        /// Length of the n-gram that matched, for models that have one; else empty.
        order: Vec<u8>,
    },
    /// ln p of each sequence, in the order of `Trie::ends`.
    Sentences(Vec<f64>),
}

/// A job's place in its scorer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(pub usize);

/// How much work is ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Rows that the next step could run.
    pub ready: usize,
    /// Rows a full step would hold.
    pub wanted: usize,
}

/// What a scorer has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Steps run.
    pub steps: u64,
    /// Rows of all steps: distinct histories.
    pub rows: u64,
    /// Tokens that scoring each hypothesis alone would have fed.
    pub raw: u64,
    /// Histories answered by the row that another utterance had in the same step.
    pub shared: u64,
    /// Histories answered from what was kept of earlier ones.
    pub hits: u64,
}

impl Work {
    /// The sum of two counts.
    pub fn plus(self, other: Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            rows: self.rows + other.rows,
            raw: self.raw + other.raw,
            shared: self.shared + other.shared,
            hits: self.hits + other.hits,
        }
    }
}

/// A language model: immutable, shared between workers. Users may implement it.
pub trait LanguageModel: Send + Sync {
    /// What it is.
    fn spec(&self) -> &Spec;

    /// A scorer for one worker.
    ///
    /// # Errors
    /// Where the model's runtime refuses, or there is no memory.
    fn scorer(&self, limits: &Limits) -> Result<Box<dyn Scorer>>;
}

/// One worker's scratch for one model: many jobs in flight, no threads, no waiting.
pub trait Scorer: Send {
    /// Takes a job. Its slot stays in use until [`Scorer::release`].
    ///
    /// # Errors
    /// If the job cannot be scored by this model; the others are not touched.
    fn submit(&mut self, job: Job) -> Result<Slot>;

    /// Rows ready now; a worker takes more utterances first while there are too few.
    fn demand(&self) -> Demand;

    /// Runs one bounded batch over all jobs. Does nothing when none is ready.
    ///
    /// # Errors
    /// Only when the scorer as a whole cannot go on; a failure that belongs to some jobs is
    /// reported by their [`Scorer::take`].
    fn step(&mut self) -> Result<()>;

    /// The scores, once, when they are complete; `Pending` until then.
    fn take(&mut self, slot: Slot) -> Poll<Result<Scores>>;

    /// Gives a job up: it takes no part in later steps. The slot must still be released.
    fn cancel(&mut self, slot: Slot);

    /// The state after the sequence that ends at `node` of a finished job; `None` for models
    /// that carry nothing or jobs submitted without `keep`.
    ///
    /// # Errors
    /// If the model fails.
    fn carry(&mut self, slot: Slot, node: u32) -> Result<Option<Carry>>;

    /// Frees a slot.
    fn release(&mut self, slot: Slot);

    /// What was done so far.
    fn work(&self) -> Work;

    /// Bytes that may be spent on histories of earlier jobs, in case they come again (none before it is
    /// called). Scorers that keep nothing need not do anything.
    fn remember(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// As [`Scorer::submit`], and all histories of the job are kept until it is released, so that a later
    /// job that begins alike is spared them. Scorers that keep nothing need not do anything.
    ///
    /// # Errors
    /// As [`Scorer::submit`].
    fn submit_held(&mut self, job: Job) -> Result<Slot> {
        self.submit(job)
    }

    /// What is known so far of an unfinished job; `None` from scorers that tell only when they are done.
    fn known(&self, slot: Slot) -> Option<Known<'_>> {
        let _ = slot;
        None
    }

    /// From now on only the sequences marked are wanted, in the order of `Trie::ends`: histories that lead
    /// to no other are not run before a later call wants them. A job that lacks only unwanted ones stays
    /// pending. Scorers that run everything at once need not do anything.
    fn focus(&mut self, slot: Slot, wanted: &[bool]) {
        let _ = (slot, wanted);
    }
}

/// Scores of an unfinished job, as in [`Scores::Nodes`].
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Natural logarithms by trie node, NaN where not known yet.
    pub ln: &'a [f32],
    /// As [`Scores::Nodes`] has it; a node's is known where its children's scores are.
    pub boundary: &'a [f32],
    /// Whether nothing that is wanted waits for a step: what is not known now will not be.
    pub idle: bool,
}

/// What recurrent and fixed-context networks differ in; one scheduler
/// ([`schedule::Scheduler`]) serves both.
///
/// The kernel owns an arena of states, addressed by index; the scheduler decides which index
/// holds which history and when it is free again.
pub trait StepKernel: Send {
    /// `Some(n)`: the model sees the last `n` tokens only and keeps no state.
    fn window(&self) -> Option<usize>;

    /// Whether states can be carried from one utterance to the next.
    fn carries(&self) -> bool {
        self.window().is_none()
    }

    /// Bytes of one state, for the bound on how many are kept after use; 0 if it cannot say, and then
    /// none are.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Makes room for states `0..count`.
    ///
    /// # Errors
    /// If there is no memory.
    fn reserve(&mut self, count: usize) -> Result<()>;

    /// Sets a state to the model's start (before the start token).
    fn reset(&mut self, state: u32);

    /// Sets a state to a carried one.
    ///
    /// # Errors
    /// If the carried state is another model's.
    fn load(&mut self, state: u32, carry: &Carry) -> Result<()>;

    /// Copies a state out.
    fn save(&self, state: u32) -> Carry;

    /// Feeds each row's token to its state and writes ln p of every wanted token after it, in
    /// the order of `wanted.tokens`.
    ///
    /// # Errors
    /// If the model fails; states written by this call are then unspecified.
    fn run(&mut self, rows: Rows<'_>, wanted: Wanted<'_>, out: &mut [f32]) -> Result<()>;

    /// Feeds each row's token to its state, level after level: rows `levels[l]..levels[l + 1]` may start from
    /// what rows of earlier levels wrote. Nothing is asked; [`StepKernel::again`] answers. No two rows write
    /// the same state, and the states have the bits that [`StepKernel::run`] gives.
    ///
    /// # Errors
    /// As [`StepKernel::run`].
    fn run_levels(&mut self, rows: Rows<'_>, levels: &[u32]) -> Result<()> {
        level_by_level(self, rows, levels)
    }

    /// Writes ln p of further tokens after histories that were run before: no token is fed, and no
    /// state changes. `states` are those that [`StepKernel::run`] wrote, or that were loaded from a
    /// [`Carry`] of such a one; the numbers are the bits that `run` would have given.
    ///
    /// `None`, with nothing written, from kernels that keep too little for this: the row must then be run
    /// again.
    ///
    /// # Errors
    /// If the states or tokens do not exist.
    fn again(&mut self, states: &[u32], wanted: Wanted<'_>, out: &mut [f32]) -> Option<Result<()>> {
        let _ = (states, wanted, out);
        None
    }
}

/// Runs levels as they are defined, each by itself.
pub(crate) fn level_by_level<K: StepKernel + ?Sized>(
    kernel: &mut K,
    rows: Rows<'_>,
    levels: &[u32],
) -> Result<()> {
    for level in each_level(levels) {
        let offsets = vec![0; level.len() + 1];
        kernel.run(rows.slice(level), Wanted { tokens: &[], offsets: &offsets }, &mut [])?;
    }
    Ok(())
}

/// The rows of each level.
pub(crate) fn each_level(levels: &[u32]) -> impl Iterator<Item = std::ops::Range<usize>> {
    levels.windows(2).map(|ends| ends[0] as usize..ends[1] as usize)
}

/// The rows of one step.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The token each row feeds (with a window: `window` tokens a row, oldest first, padded
    /// in front with the start token).
    pub tokens: &'a [u32],
    /// The state each row starts from.
    pub from: &'a [u32],
    /// Where each row's new state goes; may equal `from` of the same row, and of no other.
    pub to: &'a [u32],
}

impl<'a> Rows<'a> {
    /// Some of the rows, of a kernel without a window.
    pub(crate) fn slice(self, rows: std::ops::Range<usize>) -> Self {
        Self { tokens: &self.tokens[rows.clone()], from: &self.from[rows.clone()], to: &self.to[rows] }
    }
}

/// What a step must report: row `r` wants `tokens[offsets[r]..offsets[r + 1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Tokens, row by row; [`BOUNDARY`] stands for the mass of all word starts and `</s>`.
    pub tokens: &'a [u32],
    /// One more than there are rows.
    pub offsets: &'a [u32],
}

impl Wanted<'_> {
    /// Whether it fits a step of `rows` rows that writes to `out` numbers.
    pub fn fits(&self, rows: usize, out: usize) -> bool {
        let last = self.offsets.last().is_some_and(|&last| last as usize <= self.tokens.len().min(out));
        self.offsets.len() == rows + 1 && self.offsets.is_sorted() && last
    }
}

/// The pseudo-token "a word starts here, or the sentence ends".
pub const BOUNDARY: u32 = u32::MAX;
