//! The compact n-gram file: every weight with its exact bits, made for size or for speed ([`Prefer`]).
//!
//! The one for size takes about three bytes an n-gram. It is a trie of n-grams from the predicted word
//! back into its context, as KenLM's, but
//! - pointers and words are Elias-Fano sequences (`elias_fano`);
//! - words further back are known by their rank among those that occur before their successor
//!   (context remapping, Pibiri and Venturini, "Efficient data structures for massive n-gram
//!   datasets", SIGIR 2017);
//! - backoffs are codes of distinct values by frequency (`codes`);
//! - probabilities of interpolated models are computed from those of shorter n-grams, and only
//!   what that leaves open is stored (`formula`); other models' are stored as they are.
//!
//! The one for speed takes about five. Its n-grams are in tables (`table`), found by one look at a line of
//! the processor's cache or two, with codes for backoffs and for the same parts of probabilities.
//!
//! `layout` has the order of the parts. A file is used where it lies: opening one looks at its
//! header and words alone.

mod bits;
mod build;
mod codes;
mod collect;
mod column;
mod elias_fano;
mod encode;
mod formula;
mod key;
mod layout;
mod level;
mod model;
mod pack;
mod place;
mod rank;
mod shares;
mod sort;
mod spool;
mod table;
mod tables;
mod tree;
mod verify;

pub use self::build::{Estimate, Options, Report, build, estimate};
pub(super) use self::layout::MAGIC;
pub use self::layout::Prefer;
use self::layout::{Layout, name};
pub(super) use self::model::{Compact, Store, Vocabulary};
pub(super) use self::tables::Tables;
pub use self::verify::verify;

/// A model in a file of either kind.
pub(super) enum Opened {
    Size(Compact),
    Speed(Tables),
}

/// Opens a file. `unknown` is the log10 probability of unknown words if the file lists none. Looks at
/// the header and the words alone, and checks that all sizes are right.
///
/// # Errors
/// What is wrong with the file, to be put after its name.
pub(super) fn open(store: Store, unknown: f32) -> Result<(Opened, Vocabulary), String> {
    Ok(match Layout::open(&store)?.prefer {
        Prefer::Size => {
            let (model, vocabulary) = Compact::open(store, unknown)?;
            (Opened::Size(model), vocabulary)
        }
        Prefer::Speed => {
            let (model, vocabulary) = Tables::open(store, unknown)?;
            (Opened::Speed(model), vocabulary)
        }
    })
}

/// Makes the checksums of a damaged file fit what it holds, as far as it holds anything, so that
/// fuzzing comes to what is behind them.
#[cfg(fuzzing)]
pub fn reseal(bytes: &mut [u8]) {
    layout::reseal(bytes);
}

/// The parts of a file: name, first byte and length.
pub(super) fn sections(bytes: &[u8]) -> Vec<(String, usize, u64)> {
    let Ok(layout) = Layout::open(bytes) else { return Vec::new() };
    let named = |(at, part): (usize, &layout::Section)| (name(layout.prefer, at), part.start, part.length);
    layout.sections.iter().enumerate().map(named).collect()
}

/// Why a file cannot be built.
enum Fail {
    /// The file itself cannot be written.
    Whole(crate::Error),
    /// A temporary file.
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
