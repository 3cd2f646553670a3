//! Finding n-grams in a compact file.

use std::sync::Arc;

use super::super::search::{Entry, Lookup};
use super::super::vocab::{Words, is_unk};
use super::bits::half;
use super::codes::{Coded, Codes};
use super::elias_fano::EliasFano;
use super::formula::{MAGNITUDE, predict};
use super::layout::{Layout, Prefer, Section, damaged, name};
use crate::lm::bytes::Bytes;

/// The bytes of a file, wherever they are.
pub(crate) type Store = Arc<Bytes>;

/// A model in a compact file, used where it lies.
pub(crate) struct Compact {
    store: Store,
    pub(super) unigrams: Section,
    /// Orders 2 and up.
    pub(super) levels: Vec<Level>,
    /// What an unknown word costs, if the file does not know.
    unknown: Option<f32>,
    /// Bits of the largest magnitude.
    limit: u32,
}

/// The n-grams of one order.
pub(super) struct Level {
    /// Where the n-grams that end with each of the order below begin.
    pub(super) pointers: EliasFano,
    pub(super) ids: EliasFano,
    pub(super) probs: Codes,
    /// Whether symbols of `probs` are shares, not values.
    pub(super) formula: bool,
    /// None in the highest order.
    pub(super) backoffs: Option<Codes>,
}

/// Where a search stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// The n-grams that end with this one.
    begin: u64,
    end: u64,
    prob: f32,
    backoff: f32,
    link: u32,
}

/// What the file says of its words.
pub(crate) struct Vocabulary {
    pub(crate) words: Words,
    /// How often the ARPA file listed the unknown word.
    pub(crate) unknowns: u32,
}

impl Compact {
    /// A model in `store`. `unknown` is the log10 probability of unknown words if the file lists
    /// none. Looks at the header and the words alone, and checks that all sizes are right.
    ///
    /// # Errors
    /// What is wrong with the file, to be put after its name.
    pub(crate) fn open(store: Store, unknown: f32) -> Result<(Self, Vocabulary), String> {
        let bytes: &[u8] = &store;
        let layout = Layout::open(bytes)?;
        let words = words(bytes, layout.sections[0])?;
        let unigrams = layout.sections[1];
        if unigrams.length != words.len() as u64 * UNIGRAM as u64 {
            return Err(damaged(&name(Prefer::Size, 1)));
        }
        let mut parents = words.len() as u64;
        let mut levels = Vec::new();
        for (at, sections) in layout.sections[2..].chunks(4).enumerate() {
            let first = 2 + 4 * at;
            let wrong = |section: usize| move |_| damaged(&name(Prefer::Size, first + section));
            let open = |index: usize| {
                let Section { start, length, .. } = sections[index];
                EliasFano::open(bytes, start, length).map_err(wrong(index))
            };
            let coded = |index: usize| {
                let Section { start, length, .. } = sections[index];
                Codes::open(bytes, start, length).map_err(wrong(index))
            };
            let (pointers, ids, probs) = (open(0)?, open(1)?, coded(2)?);
            let backoffs = sections.get(3).map(|_| coded(3)).transpose()?;
            let count = ids.len();
            let counts = [probs.len(), pointers.last(), backoffs.as_ref().map_or(count, Codes::len)];
            if pointers.len() != parents + 1 || counts.iter().any(|&other| other != count) {
                return Err(damaged(&name(Prefer::Size, first)));
            }
            let formula = probs.kind() == SHARES;
            levels.push(Level { pointers, ids, probs, formula, backoffs });
            parents = count;
        }
        let unknowns = layout.flags & UNKNOWNS;
        let limit = if layout.flags & EXTREME == 0 { MODERATE } else { f32::INFINITY };
        let unknown = (unknowns == 0).then_some(unknown);
        let model = Self { unigrams, levels, unknown, limit: limit.to_bits(), store };
        Ok((model, Vocabulary { words, unknowns }))
    }

    pub(super) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Number of n-grams per order, with `<unk>` and those inserted because longer ones need them.
    pub(crate) fn counts(&self) -> Vec<u64> {
        let words = self.unigrams.length / UNIGRAM as u64;
        std::iter::once(words).chain(self.levels.iter().map(|level| level.ids.len())).collect()
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.store
    }

    /// A word's rank among all by probability, by which n-grams are sorted.
    #[inline]
    pub(super) fn rank(&self, bytes: &[u8], word: u32) -> u32 {
        half(bytes, self.unigrams.start.wrapping_add(word as usize * UNIGRAM + 8))
    }

    /// A weight as it may be: damage gives no NaN, and infinities only where the file has extremes.
    #[inline]
    fn sane(&self, bits: u32) -> f32 {
        f32::from_bits(bits & !MAGNITUDE | (bits & MAGNITUDE).min(self.limit))
    }

    /// The weights of n-gram `at`, whose suffix has the probability `lower` and whose context
    /// the backoff `context`.
    #[inline]
    pub(super) fn prob(&self, bytes: &[u8], level: &Level, at: u64, context: f32, lower: f32) -> f32 {
        let bits = match level.probs.at(bytes, at) {
            Coded::Raw(bits) => bits,
            Coded::Symbol(rank) => {
                let (value, units) = level.probs.symbol(bytes, rank);
                match level.formula {
                    true => predict(f32::from_bits(value), context, lower).wrapping_add(units),
                    false => value,
                }
            }
        };
        self.sane(bits | !MAGNITUDE)
    }

    #[inline]
    pub(super) fn backoff(&self, bytes: &[u8], level: &Level, at: u64) -> f32 {
        let Some(codes) = &level.backoffs else { return -0.0 };
        self.sane(match codes.at(bytes, at) {
            Coded::Raw(bits) => bits,
            Coded::Symbol(rank) => codes.symbol(bytes, rank).0,
        })
    }

    #[inline]
    pub(super) fn children(&self, bytes: &[u8], order: usize, at: u64) -> (u64, u64) {
        let Some(level) = self.levels.get(order - 1) else { return (0, 0) };
        let (begin, end) = level.pointers.pair(bytes, at);
        let end = end.min(level.ids.len());
        (begin.min(end), end)
    }

    /// The n-gram one word further back, in order `length`.
    #[inline]
    fn find(&self, bytes: &[u8], path: &mut Path, length: usize, word: u32) -> Option<u64> {
        if path.begin >= path.end {
            return None;
        }
        if length == 2 {
            path.link = self.rank(bytes, word);
        }
        let at = self.levels[length - 2].ids.find(bytes, path.begin, path.end, u64::from(path.link))?;
        if length == 2 {
            path.link = (at - path.begin) as u32;
        }
        Some(at)
    }
}

/// Words further back than the second are not known by their ids, but by their rank among the
/// words that occur before their successor (context remapping, Pibiri and Venturini 2017). That
/// rank, the link, came out when the successor was scored, and the state remembers it.
impl Lookup for Compact {
    type Path = Path;
    type Ahead = ();

    const LEVELS: bool = true;

    fn order(&self) -> usize {
        self.levels.len() + 1
    }

    fn unigram(&self, word: u32) -> (Entry, Path) {
        let bytes = self.bytes();
        let at = self.unigrams.start + word as usize * UNIGRAM;
        let (prob, backoff) = (self.sane(half(bytes, at)), self.sane(half(bytes, at + 4)));
        let (begin, end) = self.children(bytes, 1, u64::from(half(bytes, at + 8)));
        let shown = self.unknown.filter(|_| word == 0).unwrap_or(prob);
        let shown = -shown.abs();
        let entry = Entry { prob: shown, backoff, rest: shown, independent: prob.is_sign_negative() };
        (entry, Path { begin, end, prob: -prob.abs(), backoff: 0.0, link: 0 })
    }

    fn recall(&self, path: &mut Path, backoff: f32, link: u32) {
        (path.backoff, path.link) = (backoff, link);
    }

    fn middle(&self, path: &mut Path, length: usize, word: u32) -> Option<Entry> {
        let bytes = self.bytes();
        let at = self.find(bytes, path, length, word)?;
        let level = &self.levels[length - 2];
        (path.begin, path.end) = self.children(bytes, length, at);
        path.prob = self.prob(bytes, level, at, path.backoff, path.prob);
        let backoff = self.backoff(bytes, level, at);
        Some(Entry { prob: path.prob, backoff, rest: path.prob, independent: path.begin == path.end })
    }

    fn longest(&self, mut path: Path, word: u32) -> Option<f32> {
        let bytes = self.bytes();
        let length = self.order();
        let at = self.find(bytes, &mut path, length, word)?;
        Some(self.prob(bytes, &self.levels[length - 2], at, path.backoff, path.prob))
    }

    fn link(&self, path: &Path) -> u32 {
        path.link
    }
}

/// The words of a section, each followed by NUL.
pub(super) fn words(bytes: &[u8], section: Section) -> Result<Words, String> {
    let wrong = || damaged(&name(Prefer::Size, 0));
    let text = bytes.get(section.start..section.start + section.length as usize).ok_or_else(wrong)?;
    let mut list = text.strip_suffix(b"\0").ok_or_else(wrong)?.split(|&byte| byte == 0);
    if list.next() != Some(UNKNOWN) {
        return Err(wrong());
    }
    let mut words = Words::new();
    // `<unk>` is there.
    let count = memchr::memchr_iter(0, text).count();
    words.reserve(count - 1, text.len() - count - UNKNOWN.len());
    for word in list {
        if word.is_empty() || is_unk(word) || words.insert(word).is_none() {
            return Err(wrong());
        }
    }
    Ok(words)
}

/// How often the unknown word was listed.
pub(super) const UNKNOWNS: u32 = 3;
/// Some weight is beyond [`MODERATE`].
pub(super) const EXTREME: u32 = 4;
/// Symbols are bits of values ..
pub(super) const VALUES: u64 = 0;
/// .. or shares for [`predict`], and the units in the last place to be added to the result.
pub(super) const SHARES: u64 = 1;
/// No magnitude that a model needs; and sums of a few such weights are finite.
pub(super) const MODERATE: f32 = 1e30;
pub(super) const UNKNOWN: &[u8] = b"<unk>";
/// Probability, whose sign is clear if some n-gram ends with the word; backoff; rank.
pub(super) const UNIGRAM: usize = 12;
