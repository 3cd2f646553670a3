//! secondpass reranks speech recognition n-best lists with a neural language model exported
//! to ONNX and an n-gram language model.

mod error;

pub mod formats;
pub mod lines;
pub mod lm;
pub mod nbest;
pub mod tokens;
pub mod trie;

pub use error::{Error, Result};
pub use nbest::{Hypothesis, Name, Status, Tensor, Utterance};
