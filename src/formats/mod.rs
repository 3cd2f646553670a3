//! From lines of the field's formats to utterances and back.
//!
//! A [`Source`] cuts a stream, or a [`Folder`], into [`Chunk`]s: the bytes of one record each.
//! A [`Reader`] makes a [`Record`] of a chunk, an utterance and where its parts lie, and an
//! [`Answer`] says how it is to be written. [`Format`] says of every format what its numbers mean.
//!
//! Costs, other bases and other signs exist only below here: a reader gives natural logarithms,
//! higher is better, and a writer gives back, byte for byte, what it does not have to change.

mod beside;
mod chunk;
mod columns;
mod detect;
mod documents;
mod folder;
mod fresh;
mod kaldi;
mod known;
mod moses;
mod record;
mod shards;
mod slots;
mod source;
mod srilm;
#[cfg(test)]
mod tests;
mod times;

pub mod jsonl;

use std::sync::Arc;

pub use beside::{Entry, Names, References, names, references, symbols};
pub use chunk::{Body, Chunk};
pub use detect::detect;
pub use folder::{Folder, sniff};
pub use fresh::Envelope;
pub use known::{Format, Given};
pub use record::{Answer, Reader, Record};
pub use source::{Kept, Seat, Source, count};

use crate::Name;

/// The names of the features that rescoring computes: in our own output they are not
/// first-pass features, and in other input they clash.
///
/// Those are one for each language model and its `NAME.oov`, `mix` where models are mixed, and `words`.
#[derive(Debug, Clone, Default)]
pub struct OwnNames {
    lms: Arc<[Name]>,
    mix: bool,
}

/// What rescoring adds to a record, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gained<'a> {
    /// Which hypotheses to write, best first: indexes into the utterance's. Fewer than all for
    /// an n-best cut.
    pub order: &'a [usize],
    /// The features to add, in this order; one that a hypothesis does not have is left out. The
    /// hypothesis's total follows as `total`.
    pub features: &'a [Name],
    /// One more member of the record's `secondpass`: JSON text, taken as it is.
    pub explain: Option<&'a str>,
    /// Further members of the record's `secondpass`: JSON text with a comma before each.
    pub members: &'a str,
}

impl OwnNames {
    /// The names for these language models, mixed or not.
    pub fn new<N: Into<Name>>(lms: impl IntoIterator<Item = N>) -> Self {
        Self { lms: lms.into_iter().map(Into::into).collect(), mix: true }
    }

    /// Whether models are mixed: where they are not, the `mix` that an earlier run wrote is a feature of
    /// the lists like any other, as are those of models that are not here.
    #[must_use]
    pub fn mixed(self, mix: bool) -> Self {
        Self { mix, ..self }
    }

    /// Whether rescoring computes a feature of this name. `total`, which is written beside
    /// them, is not a feature: in foreign records it is the first-pass score.
    pub fn contains(&self, name: &[u8]) -> bool {
        name == b"words"
            || (self.mix && name == b"mix")
            || self.lms.iter().any(|lm| name.strip_suffix(b".oov").unwrap_or(name) == lm.as_bytes())
    }
}
