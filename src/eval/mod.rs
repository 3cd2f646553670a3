//! How good the lists are: errors, oracle, significance and weights.
//!
//! Nothing here reads files or knows formats: it works on texts, counts and feature values.

pub mod oracle;
mod random;
mod search;
pub mod significance;
pub mod tune;
pub mod wer;

pub use oracle::Oracle;
pub use significance::{Bootstrap, Comparison, Estimate, Sample};
pub use tune::{Feature, Problem, Tuned, Tuner, Verdict};
pub use wer::{Counts, Edit, Scorer, Tally};
