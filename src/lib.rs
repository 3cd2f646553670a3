//! secondpass reranks speech recognition n-best lists with a neural language model exported
//! to ONNX and an n-gram language model.
//!
//! ```no_run
//! use secondpass::{Rescorer, Utterance};
//! # fn main() -> secondpass::Result<()> {
//! let rescorer = Rescorer::builder()
//!     .neural("models/en/lstm/model.onnx", 0.6)?
//!     .ngram("models/en/4gram.compact", 0.4)?
//!     .build()?;
//! let mut worker = rescorer.worker()?;
//! let mut utterance = Utterance::new("utt1", [("a cat sad", -3.1), ("a cat sat", -3.3)]);
//! worker.rescore(&mut utterance)?;
//! println!("{}", utterance.best().map_or("".into(), |best| best.text()));
//! # Ok(())
//! # }
//! ```
//!
//! Every score is a natural logarithm, higher is better. Texts and ids are bytes. The library
//! never prints, never exits and uses no network; what can fail returns an [`Error`].
//!
//! # Three nouns
//!
//! - A model ([`lm::LanguageModel`]) comes from a file, is immutable, and shared by all threads.
//! - A [`Rescorer`] is models with weights and policies: immutable too, cheap to clone.
//! - A [`Worker`] is one thread's scratch: model states, caches and the utterances in flight.
//!   Each thread makes its own; nothing is locked.
//!
//! [`Worker::rescore`] takes one utterance, [`Worker::rescore_batch`] many, and their histories
//! then share the steps of the neural model. [`Worker::submit`] and [`Worker::step`] are for
//! those who mix that with other work. [`stream::rescore`] is the whole filter.
//!
//! # Architecture
//!
//! The way of a record through the filter:
//!
//! 1. [`lines`] splits the input, plain or gzip, into lines of bounded length, and [`formats`]
//!    puts together the lines of one record.
//! 2. [`pool`] carries them to worker threads and their outputs back in order. A window bounds
//!    what is between reader and writer; a panic costs the record that caused it. It knows
//!    nothing of speech.
//! 3. [`formats`] reads a record as an [`Utterance`] and remembers where things lie in it.
//! 4. For each model, [`tokens`] maps and spells the words, and the hypotheses become a
//!    [`trie`]: every history they share is there once.
//! 5. [`lm`] scores the tries. Neural models run in steps: each step is one batch of histories
//!    from all utterances in flight, and ONNX Runtime sees every distinct history once. The
//!    n-gram looks up whole tries.
//! 6. [`rescorer`] sums up scores as features, [`combine`] weighs them and ranks.
//! 7. [`formats`] puts the record's own bytes together in the new order, with what was gained.
//! 8. [`stream`] writes them out, and flushes when nothing more is ready.
//!
//! Modules import from those before them in this list, never from those after or beside them:
//! `error`; `random` (a seeded generator); [`nbest`], [`lines`], `faults` (named faults, for tests),
//! `whole` (files that are there as a whole or not at all); [`formats`]; [`tokens`],
//! [`trie`]; [`lm`]; [`combine`]; [`consensus`] (posteriors, confidence, votes); [`rescorer`]; [`config`] (models and weights in TOML);
//! [`pool`] (imports `error` only); [`stream`]; [`eval`] (error rates, tuning); `cli`.
//! Costs, base-10 logarithms and other signs exist only inside [`formats`] and the readers of
//! model files.
//!
//! # Features
//!
//! - `cli` (default): the command line program and the crates that only it needs.
//! - `failpoints`: named faults for tests; never for a release.
//!
//! ONNX Runtime is found when the first neural model is opened ([`lm::onnx::runtime`]), not
//! linked. Programs that use only n-grams need none.

mod error;
mod faults;
mod random;

#[cfg(feature = "cli")]
pub mod cli;
pub mod combine;
pub mod config;
pub mod consensus;
pub mod eval;
pub mod formats;
pub mod lines;
pub mod lm;
pub mod nbest;
pub mod pool;
pub mod rescorer;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod trie;
mod whole;

pub use error::{Error, Result};
pub use nbest::{Hypothesis, Name, Status, Tensor, Utterance};
pub use rescorer::{Builder, Rescorer, Worker};

// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
