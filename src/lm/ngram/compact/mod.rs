//! The compact n-gram file: every weight with its exact bits, in about three bytes an n-gram.
//!
//! A trie of n-grams from the predicted word back into its context, as KenLM's, but
//! - pointers and words are Elias-Fano sequences (`elias_fano`);
//! - words further back are known by their rank among those that occur before their successor
//!   (context remapping, Pibiri and Venturini, "Efficient data structures for massive n-gram
//!   datasets", SIGIR 2017);
//! - backoffs are codes of distinct values by frequency (`codes`);
//! - probabilities of interpolated models are computed from those of shorter n-grams, and only
//!   what that leaves open is stored (`formula`); other models' are stored as they are.
//!
//! `layout` has the order of the parts. A file is used where it lies: opening one looks at its
//! header and words alone.

mod bits;
mod build;
mod codes;
mod collect;
mod elias_fano;
mod encode;
mod formula;
mod key;
mod layout;
mod level;
mod model;
mod rank;
mod shares;
mod sort;
mod spool;
mod tree;
mod verify;

pub use self::build::{Estimate, Options, Report, build, estimate};
pub(super) use self::layout::MAGIC;
pub(super) use self::model::{Compact, Vocabulary};
pub use self::verify::verify;

/// Why a file cannot be built.
enum Fail {
    Io(std::io::Error),
    /// An n-gram, by its words' ranks in the order they are read, and what is wrong with it.
    Gram(Vec<u32>, Gram),
}

/// What is wrong with an n-gram.
#[derive(Debug, Clone, Copy)]
enum Gram {
    Twice,
    /// It is the context of another, and missing.
    Context,
}

impl Fail {
    fn gram<const W: usize>(fields: &key::Fields, key: &key::Key<W>, order: usize, what: Gram) -> Self {
        Self::Gram((0..order).rev().map(|at| fields.word(key, at)).collect(), what)
    }
}

impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests;
