//! secondpass reranks speech recognition n-best lists with a neural language model exported
//! to ONNX and an n-gram language model.

mod error;
mod faults;

#[cfg(feature = "cli")]
pub mod cli;
pub mod combine;
pub mod config;
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

pub use error::{Error, Result};
pub use nbest::{Hypothesis, Name, Status, Tensor, Utterance};
pub use rescorer::{Builder, Rescorer, Worker};
