//! KenLM's binary files, all six types, used as they lie in memory.
//!
//! Opening looks at the header, the vocabulary and the unigrams; of everything else at its size
//! alone. Whatever the rest holds, lookups end, stay inside the file and give no NaN: an n-gram
//! whose values are not finite counts as not there. [`Kenlm::verify`] looks at everything.

mod header;
pub(crate) mod layout;
mod lexicon;
mod probing;
pub(crate) mod raw;
mod trie;
mod verify;

use std::sync::Arc;

pub(crate) use self::header::{Header, Kind, is_kenlm};
use self::layout::{Sections, Tables, TrieLayout};
pub(crate) use self::lexicon::Lexicon;
pub(crate) use self::probing::Probing;
pub(crate) use self::trie::Trie;
use super::search::Lookup;
use crate::lm::bytes::Bytes;

/// A file's header and parts.
pub(crate) struct Kenlm {
    pub(crate) header: Header,
    pub(crate) sections: Sections,
    pub(crate) search: Search,
    /// Quantised bits of probabilities and backoffs.
    pub(crate) quantiser: Option<(u8, u8)>,
}

/// How its n-grams are found.
pub(crate) enum Search {
    Probing(Probing),
    Trie(Trie),
}

impl Kenlm {
    /// The whole file.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.search {
            Search::Probing(model) => &model.bytes,
            Search::Trie(model) => &model.bytes,
        }
    }

    /// The most bits of pointers that may be in arrays, if any may.
    pub(crate) fn array_limit(&self) -> Option<u8> {
        match &self.search {
            Search::Probing(_) => None,
            Search::Trie(model) => {
                let (_, array) = model.layout.middles.first()?;
                model.bytes.get(array.as_ref()?.header + 1).copied()
            }
        }
    }

    /// The log10 probability that was put in for `<unk>`, if the model was made without one.
    pub(crate) fn missing_unk(&self, words: &Lexicon) -> Option<f32> {
        match &self.search {
            Search::Probing(model) => {
                let missing = words.len() as u64 > self.header.counts[0];
                missing.then(|| model.view().unigram(0).0.prob)
            }
            // A trie does not say; but nobody estimates the value that is put in by default.
            Search::Trie(model) => Some(model.unigram(0).0.prob).filter(|&prob| prob == MISSING_UNK),
        }
    }
}

/// Opens a file whose bytes begin as KenLM's do.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with its name.
pub(crate) fn open(bytes: Bytes) -> Result<(Kenlm, Lexicon), String> {
    let bytes = Arc::new(bytes);
    let header = Header::read(&bytes)?;
    let words = header.counts[0];
    if !header.kind.is_trie() {
        let layout = Tables::new(&header)?;
        let sections = layout.sections.clone();
        sections.fit(&bytes)?;
        let strings = header.spelled.then_some(sections.end());
        let lexicon = Lexicon::table(&bytes, layout.vocabulary, words, strings)?;
        let search = Probing::new(bytes, layout, lexicon.len(), header.kind == Kind::RestProbing)?;
        return Ok((Kenlm { header, sections, search: Search::Probing(search), quantiser: None }, lexicon));
    }
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let quantiser = |at| (byte(at + 1), byte(at + 2));
    let layout = TrieLayout::new(&header, quantiser, |at| byte(at + 1))?;
    let sections = layout.sections.clone();
    sections.fit(&bytes)?;
    let quantiser = layout.quantiser.map(|quantiser| (quantiser.prob_bits, quantiser.backoff_bits));
    let versions = [
        ("quantiser", layout.quantiser.map(|quantiser| quantiser.start), 2),
        ("pointer array", layout.middles.first().and_then(|(_, array)| Some(array.as_ref()?.header)), 0),
    ];
    for (what, at, expected) in versions {
        let version = at.map_or(expected, byte);
        if version != expected {
            return Err(format!(
                "has version {version} of the {what}, expected {expected}; build it again from the ARPA file"
            ));
        }
    }
    let strings = header.spelled.then_some(sections.end());
    let lexicon = Lexicon::sorted(&bytes, layout.vocabulary, words, strings)?;
    let search = Trie::new(bytes, layout, lexicon.len())?;
    Ok((Kenlm { header, sections, search: Search::Trie(search), quantiser }, lexicon))
}

/// What KenLM's builder gives an unknown word that the ARPA file lacks, log10.
const MISSING_UNK: f32 = -100.0;
