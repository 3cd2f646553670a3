//! Estimating n-gram models from text: interpolated modified Kneser-Ney smoothing, as lmplz
//! defines it.
//!
//! ```
//! use secondpass::lm::ngram::estimate::{Discounts, Estimator, Options};
//! # fn main() -> secondpass::Result<()> {
//! let text = "the cat sat on the mat\nthe dog sat on the cat\n";
//! // Little text gives no discounts of its own.
//! let mut options = Options::new(2);
//! options.fallback = Some(Discounts([0.5, 1.0, 1.5]));
//! let mut estimator = Estimator::new(options)?;
//! estimator.read("text", text.as_bytes())?;
//! let mut arpa = Vec::new();
//! let summary = estimator.finish(&mut arpa)?;
//! assert_eq!(summary.counts, [9, 10]);
//! assert!(arpa.starts_with(b"\\data\\\nngram 1=9\nngram 2=10\n"));
//! # Ok(())
//! # }
//! ```
//!
//! # The model
//!
//! With the adjusted count a (the count in the text for the highest order and for n-grams that
//! begin with `<s>`, the number of different words before it for all others), the context h, and
//! h' the context without its first word:
//!
//! p(w | h) = (a(h w) - D(a(h w))) / sum over v of a(h v) + b(h) p(w | h')
//!
//! where D are the discounts of the order for counts of 1, 2, and 3 or more, and b(h), the backoff,
//! is what the discounts took off. Words interpolate with the uniform distribution over all of
//! them, `</s>` and `<unk>` among them. An n-gram that is pruned leaves its whole mass to b(h);
//! thresholds compare with how often it occurs, not with its adjusted count.
//! (Chen and Goodman 1998; Heafield, Pouzyrevsky, Clark and Koehn 2013.)
//!
//! # The way
//!
//! 1. Texts become ids; the vocabulary is then known ([`Estimator::read`]).
//! 2. All n-grams of the highest order are sorted and counted.
//! 3. One pass over them gives the adjusted counts of all orders.
//! 4. Sorted by contexts, each order is discounted.
//! 5. Sorted by endings, each order is interpolated with the one below, and written.
//!
//! What does not fit into [`Options::memory`] is sorted on disk, in files without names.

mod adjust;
mod corpus;
mod count;
mod discount;
mod estimator;
mod interpolate;
mod key;
mod merge;
mod normalise;
mod orders;
mod output;
mod room;
mod sentences;
mod sort;
mod temporary;
mod watch;

pub use self::corpus::Vocabulary;
pub use self::discount::Discounts;
pub use self::estimator::{Estimator, Options, Plan, Summary};
pub(crate) use self::sentences::Sentences;
pub use self::watch::{Observer, Phase, Progress};

#[cfg(test)]
mod tests;
