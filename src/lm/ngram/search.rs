//! Backoff search: the probability of a word after a state, bit for bit as KenLM computes it.

use std::hash::{Hash, Hasher};

/// The words a model still needs of a history, nearest first, with their backoffs.
///
/// Two states are equal if their words are: whatever follows them gets equal probabilities.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(super) length: u8,
    pub(super) words: [u32; NEAR],
    pub(super) backoffs: [f32; NEAR],
    links: [u32; NEAR],
    /// Words, backoffs and links beyond the first [`NEAR`], for models of order 9 and above.
    pub(super) far: Vec<(u32, f32, u32)>,
}

/// What a model says about one word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Full {
    /// log10 p(word | state).
    pub log10: f32,
    /// Length of the longest n-gram that matched, the word itself included.
    pub length: u8,
    /// log10 probability of that n-gram, before the backoffs of longer contexts; its rest cost in
    /// models that have them.
    pub rest: f32,
    /// Whether more context on the left could not have changed the probability.
    pub independent_left: bool,
}

/// A word's score, and the state after it.
#[derive(Debug, Clone)]
pub(crate) struct Scored {
    pub(crate) full: Full,
    pub(crate) next: State,
}

/// One n-gram's weights, log10.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) prob: f32,
    pub(crate) backoff: f32,
    /// What the n-gram is worth before more context is known; the probability in most models.
    pub(crate) rest: f32,
    /// No longer n-gram ends with this one.
    pub(crate) independent: bool,
}

impl Entry {
    /// Probability 0, which nothing continues.
    pub(crate) const NONE: Self =
        Self { prob: f32::NEG_INFINITY, backoff: -0.0, rest: f32::NEG_INFINITY, independent: true };
}

/// How a data structure finds n-grams: from the predicted word back into its context.
pub(crate) trait Lookup {
    /// Where a search stands.
    type Path: Copy;

    /// What [`Lookup::ahead`] works out.
    type Ahead: Copy + Default;

    /// Whether each look depends on what the one before it found; else [`Lookup::ahead`] knows all
    /// that they will read.
    const LEVELS: bool;

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

    /// The probability and rest cost, log10, of the n-gram found last, given those that its [`Entry`]
    /// had: for structures that would rather work them out only where a search ends.
    fn settle(&self, _path: &Self::Path, entry: (f32, f32)) -> (f32, f32) {
        entry
    }

    /// Asks for the memory that the search for a word after a state will read first; where there are no
    /// levels, [`Lookup::ahead`] is used instead.
    fn near(&self, _word: u32, _state: &State) {}

    /// Asks for the memory that going back one word, to an n-gram of `length` words, will read.
    fn near_next(&self, _path: &Self::Path, _length: usize, _word: u32) {}

    /// Works out what [`Lookup::score`] of this word after this state needs, and gives each place that it
    /// will read: whether it will at all, the n-gram's length, and the place.
    fn ahead(
        &self,
        _word: u32,
        _state: &State,
        _ahead: &mut Self::Ahead,
        _each: impl FnMut(bool, usize, usize),
    ) {
    }

    /// Asks for the memory of such a place.
    fn ask(&self, _length: usize, _place: usize) {}

    /// Scores a word; where there are no levels, `ahead` is of this word and state.
    fn score(&self, state: &State, word: u32, _ahead: &Self::Ahead, out: &mut State) -> Full
    where
        Self: Sized,
    {
        Search::whole(self, state, word, out)
    }
}

/// A search in the middle.
#[derive(Clone, Copy)]
pub(crate) struct Search<P> {
    path: P,
    prob: f32,
    rest: f32,
    /// Of the n-gram found so far.
    length: usize,
    /// How many words the state after it needs.
    keep: usize,
    independent: bool,
}

impl<P: Copy> Search<P> {
    /// From the beginning to the end.
    #[inline]
    pub(crate) fn whole<L: Lookup<Path = P>>(model: &L, state: &State, word: u32, out: &mut State) -> Full {
        let mut search = Self::begin(model, word, out);
        while search.more(model, state) {
            search.advance(model, state, out);
        }
        search.finish(model, state, out)
    }

    /// Finds a word alone. `out` begins to become the state after it.
    #[inline]
    pub(crate) fn begin<L: Lookup<Path = P>>(model: &L, word: u32, out: &mut State) -> Self {
        let (unigram, path) = model.unigram(word);
        out.far.clear();
        let mut keep = 0;
        if model.order() > 1 {
            out.set(0, word, unigram.backoff, model.link(&path));
            keep = usize::from(continues(unigram.backoff));
        }
        let Entry { prob, rest, independent, .. } = unigram;
        Self { path, prob, rest, length: 1, keep, independent }
    }

    /// Whether more context can be found; if so, asks for the memory that it takes.
    #[inline]
    pub(crate) fn prepare<L: Lookup<Path = P>>(&self, model: &L, state: &State) -> bool {
        let more = self.more(model, state);
        if more {
            model.near_next(&self.path, self.length + 1, state.at(self.length - 1).0);
        }
        more
    }

    #[inline]
    fn more<L: Lookup<Path = P>>(&self, model: &L, state: &State) -> bool {
        !self.independent && self.length <= state.len() && self.length < model.order()
    }

    /// Goes one word further back; only where there is more.
    #[inline]
    pub(crate) fn advance<L: Lookup<Path = P>>(&mut self, model: &L, state: &State, out: &mut State) {
        let (word, backoff, link) = state.at(self.length - 1);
        model.recall(&mut self.path, backoff, link);
        if self.length + 1 == model.order() {
            self.independent = true;
            if let Some(longest) = model.longest(self.path, word) {
                (self.prob, self.rest, self.length) = (longest, longest, self.length + 1);
            }
            return;
        }
        let Some(entry) = model.middle(&mut self.path, self.length + 1, word) else {
            self.independent = true;
            return;
        };
        out.set(self.length, word, entry.backoff, model.link(&self.path));
        self.length += 1;
        (self.prob, self.rest, self.independent) = (entry.prob, entry.rest, entry.independent);
        if continues(entry.backoff) {
            self.keep = self.length;
        }
    }

    /// The score, and `out` as it is to be.
    ///
    /// Sums are `f32` and in this order, because that is what makes the bits equal. The result is
    /// never NaN: entries have finite values, or a probability of 0.
    #[inline]
    pub(crate) fn finish<L: Lookup<Path = P>>(&self, model: &L, state: &State, out: &mut State) -> Full {
        out.length = self.keep as u8;
        let found = (self.prob, self.rest);
        let longest = self.length == model.order();
        let (mut prob, rest) = if longest { found } else { model.settle(&self.path, found) };
        for at in self.length - 1..state.len().max(self.length - 1) {
            prob += state.at(at).1;
        }
        Full {
            // Only backoffs that no estimator gives, those of a damaged file, lead to infinity.
            log10: prob.min(f32::MAX),
            length: self.length as u8,
            rest,
            independent_left: self.independent,
        }
    }
}

/// Scores `word` after `state`; `out` becomes the state after it.
#[inline]
pub(crate) fn full_score<L: Lookup>(model: &L, state: &State, word: u32, out: &mut State) -> Full {
    let mut ahead = L::Ahead::default();
    if !L::LEVELS {
        model.ahead(word, state, &mut ahead, |wanted, length, place| {
            if wanted {
                model.ask(length, place);
            }
        });
    }
    model.score(state, word, &ahead, out)
}

/// Whether some n-gram continues one with this backoff. Zero has two spellings, and -0.0 says
/// that none does: so the bits count, not the value.
#[inline]
pub(crate) fn continues(backoff: f32) -> bool {
    backoff.to_bits() != (-0.0f32).to_bits()
}

impl Scored {
    /// A place for one.
    pub(crate) fn empty() -> Self {
        let full = Full { log10: 0.0, length: 0, rest: 0.0, independent_left: false };
        Self { full, next: State::default() }
    }
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
    pub(crate) fn of(word: u32, backoff: f32, link: u32) -> Self {
        let mut state = Self::default();
        state.set(0, word, backoff, link);
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
pub(crate) const NEAR: usize = 7;
