//! Backoff search: the probability of a word after a state, bit for bit as KenLM computes it.

use std::hash::{Hash, Hasher};

/// The words a model still needs of a history, nearest first, with their backoffs.
///
/// Two states are equal if their words are: whatever follows them gets equal probabilities.
#[derive(Debug, Clone, Default)]
pub struct State {
    length: u8,
    words: [u32; NEAR],
    backoffs: [f32; NEAR],
    links: [u32; NEAR],
    /// Words, backoffs and links beyond the first [`NEAR`], for models of order 9 and above.
    far: Vec<(u32, f32, u32)>,
}

/// What a model says about one word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Full {
    /// log10 p(word | state).
    pub log10: f32,
    /// Length of the longest n-gram that matched, the word itself included.
    pub length: u8,
    /// log10 probability of that n-gram, before the backoffs of longer contexts.
    pub rest: f32,
    /// Whether more context on the left could not have changed the probability.
    pub independent_left: bool,
}

/// One n-gram's weights, log10.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) prob: f32,
    pub(crate) backoff: f32,
    /// No longer n-gram ends with this one.
    pub(crate) independent: bool,
}

/// How a data structure finds n-grams: from the predicted word back into its context.
pub(crate) trait Lookup {
    /// Where a search stands.
    type Path: Copy;

    /// The longest n-gram's length.
    fn order(&self) -> usize;

    /// A word of the vocabulary alone; the search begins here.
    fn unigram(&self, word: u32) -> (Entry, Self::Path);

    /// Told before each step back: the backoff of the context up to the next word, and the
    /// [`Lookup::link`] from when the word before it was scored. Most structures need neither.
    fn recall(&self, _path: &mut Self::Path, _backoff: f32, _link: u32) {}

    /// What the state should keep of the step just made, to be recalled when the same two words
    /// are met one word further back.
    fn link(&self, _path: &Self::Path) -> u32 {
        0
    }

    /// One word further back, to an n-gram of `length` words below the highest order.
    fn middle(&self, path: &mut Self::Path, length: usize, word: u32) -> Option<Entry>;

    /// One word further back, to an n-gram of the highest order: its probability.
    fn longest(&self, path: Self::Path, word: u32) -> Option<f32>;
}

/// Scores `word` after `state`; `out` becomes the state after it.
///
/// Sums are `f32` and in this order, because that is what makes the bits equal.
pub(crate) fn full_score<L: Lookup>(model: &L, state: &State, word: u32, out: &mut State) -> Full {
    let order = model.order();
    let context = state.len().min(order - 1);
    let (unigram, mut path) = model.unigram(word);
    let mut prob = unigram.prob;
    let mut length = 1;
    let mut independent = unigram.independent;
    let mut keep = 0;
    out.far.clear();
    if order > 1 {
        out.set(0, word, unigram.backoff, 0);
        keep = usize::from(continues(unigram.backoff));
    }
    for at in 0..context {
        if independent {
            break;
        }
        let (word, backoff, link) = state.at(at);
        model.recall(&mut path, backoff, link);
        if at + 2 == order {
            independent = true;
            if let Some(longest) = model.longest(path, word) {
                prob = longest;
                length = order;
            }
            break;
        }
        let Some(entry) = model.middle(&mut path, at + 2, word) else {
            independent = true;
            break;
        };
        prob = entry.prob;
        length = at + 2;
        independent = entry.independent;
        out.set(at + 1, word, entry.backoff, model.link(&path));
        if continues(entry.backoff) {
            keep = length;
        }
    }
    out.length = keep as u8;
    let rest = prob;
    for at in length - 1..context.max(length - 1) {
        prob += state.at(at).1;
    }
    Full { log10: prob, length: length as u8, rest, independent_left: independent }
}

/// Whether some n-gram continues one with this backoff. Zero has two spellings, and -0.0 says
/// that none does: so the bits count, not the value.
pub(crate) fn continues(backoff: f32) -> bool {
    backoff.to_bits() != (-0.0f32).to_bits()
}

impl State {
    /// Number of words.
    pub fn len(&self) -> usize {
        usize::from(self.length)
    }

    /// Whether nothing of the history matters any more.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The ids of the words, nearest first.
    pub fn words(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        (0..self.len()).map(|at| self.at(at).0)
    }

    /// The state of a sentence's beginning: one word, whatever its backoff.
    pub(crate) fn of(word: u32, backoff: f32) -> Self {
        let mut state = Self::default();
        state.set(0, word, backoff, 0);
        state.length = 1;
        state
    }

    fn at(&self, at: usize) -> (u32, f32, u32) {
        if at < NEAR { (self.words[at], self.backoffs[at], self.links[at]) } else { self.far[at - NEAR] }
    }

    /// Places are filled from the front.
    fn set(&mut self, at: usize, word: u32, backoff: f32, link: u32) {
        if at < NEAR {
            self.words[at] = word;
            self.backoffs[at] = backoff;
            self.links[at] = link;
        } else {
            self.far.push((word, backoff, link));
        }
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.words().eq(other.words())
    }
}

impl Eq for State {}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for word in self.words() {
            hasher.write_u32(word);
        }
        hasher.write_u8(self.length);
    }
}

/// Words kept without allocating: enough for models of order 8.
const NEAR: usize = 7;
