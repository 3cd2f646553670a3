//! Finding n-grams in a compact file made for speed.

use super::super::search::{Entry, Lookup, State};
use super::bits::half;
use super::codes::Coded;
use super::column::Column;
use super::formula::{Log10, MAGNITUDE, linear};
use super::layout::{Layout, Section, damaged, name};
use super::model::{self, EXTREME, MODERATE, SHARES, Store, UNKNOWNS, Vocabulary};
use super::table::Table;
use crate::lm::prefetch::prefetch;

/// A model in a compact file whose n-grams are in [`Table`]s, used where it lies.
pub(crate) struct Tables {
    store: Store,
    pub(super) unigrams: Section,
    /// Orders 2 and up.
    pub(super) levels: Vec<Level>,
    words: u64,
    /// What an unknown word costs, if the file does not know.
    unknown: Option<f32>,
    /// Bits of the largest magnitude.
    limit: u32,
    log10: Log10,
}

/// The n-grams of one order.
pub(super) struct Level {
    pub(super) table: Table,
    pub(super) probs: Column,
    /// Whether symbols of `probs` are shares, not values.
    pub(super) formula: bool,
    /// None in the highest order.
    pub(super) backoffs: Option<Column>,
    /// Whether the order above needs backoffs as numbers.
    numbers: bool,
}

/// Where a search stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// The place of the n-gram found.
    at: u64,
    prob: Prob,
    /// The backoff of the context of the n-gram to be found, and that of the one found, not as
    /// logarithms.
    context: f32,
    own: f32,
}

/// The probability of the n-gram found. Of interpolated models it is a sum of products, whose
/// logarithm only the last one of a search is worth.
#[derive(Debug, Clone, Copy)]
enum Prob {
    /// log10 p.
    Exact(f32),
    /// p, and by how many units in the last place |log10 p| is more.
    Sum(f64, u32),
    /// Of a word alone, which is known both ways: p.
    Word(f32),
}

impl Tables {
    /// As [`model::Compact::open`], for files made for speed.
    pub(crate) fn open(store: Store, unknown: f32) -> Result<(Self, Vocabulary), String> {
        let bytes: &[u8] = &store;
        let layout = Layout::open(bytes)?;
        let words = model::words(bytes, layout.sections[0])?;
        let unigrams = layout.sections[1];
        let count = words.len() as u64;
        if unigrams.length != count * UNIGRAM as u64 {
            return Err(damaged(&name(layout.prefer, 1)));
        }
        let order = layout.order();
        let mut places = count;
        let mut levels = Vec::new();
        for (at, sections) in layout.sections[2..].chunks(3).enumerate() {
            let wrong = |section: usize| move |_| damaged(&name(layout.prefer, 2 + 3 * at + section));
            let Section { start, length, .. } = sections[0];
            let highest = at + 2 == order;
            let table = Table::open(bytes, start, length, (count, places), highest).map_err(wrong(0))?;
            places = table.places();
            let column = |index: usize| {
                let Section { start, length, .. } = sections[index];
                Column::open(bytes, start, length, places).map_err(wrong(index))
            };
            let probs = column(1)?;
            let backoffs = (!highest).then(|| column(2)).transpose()?;
            levels.push(Level { table, probs, formula: probs.kind() == SHARES, backoffs, numbers: false });
        }
        for at in 1..levels.len() {
            levels[at - 1].numbers = levels[at].formula;
        }
        let unknowns = layout.flags & UNKNOWNS;
        let limit = if layout.flags & EXTREME == 0 { MODERATE } else { f32::INFINITY };
        let unknown = (unknowns == 0).then_some(unknown);
        let (limit, log10) = (limit.to_bits(), Log10::new());
        let model = Self { unigrams, levels, words: count, unknown, limit, log10, store };
        Ok((model, Vocabulary { words, unknowns }))
    }

    pub(super) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Number of n-grams per order, with `<unk>` and those inserted because longer ones need them.
    pub(crate) fn counts(&self) -> Vec<u64> {
        std::iter::once(self.words).chain(self.levels.iter().map(|level| level.table.len())).collect()
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.store
    }

    /// A weight as it may be: damage gives no NaN, and infinities only where the file has extremes.
    #[inline]
    fn sane(&self, bits: u32) -> f32 {
        f32::from_bits(bits & !MAGNITUDE | (bits & MAGNITUDE).min(self.limit))
    }

    /// The probability of an n-gram with this code, whose suffix is where the path stands.
    #[inline(always)]
    fn prob(&self, bytes: &[u8], level: &Level, path: &Path, at: u64, code: u64) -> Prob {
        match level.probs.at(bytes, at, code) {
            Coded::Raw(bits) => Prob::Exact(self.sane(bits | !MAGNITUDE)),
            Coded::Symbol(rank) => {
                let (value, units) = level.probs.symbol(bytes, rank);
                if !level.formula {
                    return Prob::Exact(self.sane(value | !MAGNITUDE));
                }
                let lower = match path.prob {
                    Prob::Sum(lower, _) => lower,
                    Prob::Word(lower) => f64::from(lower),
                    Prob::Exact(log10) => linear(log10),
                };
                Prob::Sum(sum(f32::from_bits(value), path.context, lower), units)
            }
        }
    }

    /// log10 p.
    #[inline]
    fn log10(&self, prob: Prob, word: f32) -> f32 {
        match prob {
            Prob::Exact(log10) => log10,
            Prob::Sum(p, units) => self.sane(self.log10.magnitude(p).wrapping_add(units) | !MAGNITUDE),
            Prob::Word(_) => word,
        }
    }
}

/// The probability that a share and what backing off gives make together.
#[inline]
pub(super) fn sum(share: f32, backoff: f32, lower: f64) -> f64 {
    f64::from(share) + f64::from(backoff) * lower
}

/// What is found of a word's context goes with the state as the link: its backoff as a number.
impl Lookup for Tables {
    type Path = Path;
    type Ahead = ();

    const LEVELS: bool = true;

    fn order(&self) -> usize {
        self.levels.len() + 1
    }

    #[inline]
    fn unigram(&self, word: u32) -> (Entry, Path) {
        let bytes = self.bytes();
        let at = self.unigrams.start + word as usize * UNIGRAM;
        let part = |index: usize| half(bytes, at + 4 * index);
        let (prob, backoff) = (self.sane(part(0)), self.sane(part(1)));
        let shown = self.unknown.filter(|_| word == 0).unwrap_or(prob);
        let shown = -shown.abs();
        let entry = Entry { prob: shown, backoff, rest: shown, independent: prob.is_sign_negative() };
        let prob = Prob::Word(f32::from_bits(part(2)));
        (entry, Path { at: u64::from(word), prob, context: 0.0, own: f32::from_bits(part(3)) })
    }

    #[inline]
    fn recall(&self, path: &mut Path, _backoff: f32, link: u32) {
        path.context = f32::from_bits(link);
    }

    #[inline]
    fn middle(&self, path: &mut Path, length: usize, word: u32) -> Option<Entry> {
        let bytes = self.bytes();
        let level = &self.levels[length - 2];
        let found = level.table.find(bytes, path.at, word)?;
        path.prob = self.prob(bytes, level, path, found.at, found.prob);
        path.at = found.at;
        let mut backoff = -0.0;
        if let Some(column) = &level.backoffs {
            let (bits, number) = match column.at(bytes, found.at, found.backoff) {
                Coded::Symbol(rank) => {
                    let (bits, number) = column.symbol(bytes, rank);
                    (bits, f32::from_bits(number))
                }
                Coded::Raw(bits) if level.numbers => (bits, linear(f32::from_bits(bits)) as f32),
                Coded::Raw(bits) => (bits, 0.0),
            };
            (backoff, path.own) = (self.sane(bits), number);
        }
        Some(Entry { prob: 0.0, backoff, rest: 0.0, independent: !found.extends })
    }

    #[inline]
    fn longest(&self, path: Path, word: u32) -> Option<f32> {
        let bytes = self.bytes();
        let level = self.levels.last()?;
        let found = level.table.find(bytes, path.at, word)?;
        Some(self.log10(self.prob(bytes, level, &path, found.at, found.prob), 0.0))
    }

    #[inline]
    fn settle(&self, path: &Path, entry: (f32, f32)) -> (f32, f32) {
        match path.prob {
            Prob::Word(_) => entry,
            prob => {
                let log10 = self.log10(prob, 0.0);
                (log10, log10)
            }
        }
    }

    #[inline]
    fn link(&self, path: &Path) -> u32 {
        path.own.to_bits()
    }

    #[inline]
    fn near(&self, word: u32, state: &State) {
        let bytes = self.bytes();
        prefetch(bytes, self.unigrams.start + word as usize * UNIGRAM);
        if let (Some(level), Some(before)) = (self.levels.first(), state.words().next()) {
            prefetch(bytes, level.table.place(u64::from(word), before));
        }
    }

    #[inline]
    fn near_next(&self, path: &Path, length: usize, word: u32) {
        if length > 2 {
            prefetch(self.bytes(), self.levels[length - 2].table.place(path.at, word));
        }
    }
}

/// Probability, whose sign is clear if some n-gram ends with the word; backoff; both as numbers.
pub(super) const UNIGRAM: usize = 16;
