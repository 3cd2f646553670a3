//! Search where n-grams are found by keys that depend on their words alone: every order's place is known
//! before the first look, and is worked out once.

use super::search::{Entry, Full, Lookup, NEAR, Search, State, continues};

/// Tables of n-grams by the keys that [`extend`] makes.
pub(crate) trait Keyed {
    /// The longest n-gram's length.
    fn order(&self) -> usize;

    /// A word of the vocabulary alone.
    fn unigram(&self, word: u32) -> Entry;

    /// Asks for the memory of a word alone.
    fn near_unigram(&self, word: u32);

    /// Where the search for an n-gram of `length` words, at least two, begins.
    fn place(&self, length: usize, key: u64) -> usize;

    /// Asks for the memory of such a place.
    fn near_place(&self, length: usize, place: usize);

    /// An n-gram of `length` words, at least two and fewer than the highest order has.
    fn middle(&self, length: usize, key: u64, place: usize) -> Option<Entry>;

    /// The probability of an n-gram of the highest order.
    fn longest(&self, key: u64, place: usize) -> Option<f32>;
}

/// The keys of the n-grams that end with a word after a state, from two words on, and their places.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ahead {
    keys: [u64; NEAR],
    places: [usize; NEAR],
}

impl<K: Keyed> Lookup for K {
    type Path = u64;
    type Ahead = Ahead;

    const LEVELS: bool = false;

    fn order(&self) -> usize {
        Keyed::order(self)
    }

    fn unigram(&self, word: u32) -> (Entry, u64) {
        (Keyed::unigram(self, word), u64::from(word))
    }

    fn middle(&self, path: &mut u64, length: usize, word: u32) -> Option<Entry> {
        *path = extend(*path, word);
        Keyed::middle(self, length, *path, self.place(length, *path))
    }

    fn longest(&self, path: u64, word: u32) -> Option<f32> {
        let key = extend(path, word);
        Keyed::longest(self, key, self.place(Keyed::order(self), key))
    }

    #[inline]
    fn ahead(&self, word: u32, state: &State, ahead: &mut Ahead, mut each: impl FnMut(bool, usize, usize)) {
        self.near_unigram(word);
        let mut key = u64::from(word);
        let known = state.len();
        let places = ahead.keys.iter_mut().zip(&mut ahead.places);
        let most = Keyed::order(self) - 1;
        for ((at, (to, place)), &word) in places.enumerate().zip(&state.words).take(most) {
            key = extend(key, word);
            *to = key;
            *place = self.place(at + 2, key);
            each(at < known, at + 2, *place);
        }
    }

    #[inline]
    fn ask(&self, length: usize, place: usize) {
        self.near_place(length, place);
    }

    /// [`Search`] without what these tables do not need.
    #[inline]
    fn score(&self, state: &State, word: u32, ahead: &Ahead, out: &mut State) -> Full {
        let order = Keyed::order(self);
        if order > NEAR + 1 || state.len() > NEAR {
            return Search::whole(self, state, word, out);
        }
        let Entry { mut prob, backoff, mut rest, mut independent } = Keyed::unigram(self, word);
        let (mut length, mut keep) = (1, 0);
        out.far.clear();
        if order > 1 {
            (out.words[0], out.backoffs[0]) = (word, backoff);
            keep = usize::from(continues(backoff));
        }
        let most = state.len().min(order - 1).min(NEAR);
        while !independent && length <= most {
            let at = length - 1;
            let (key, place, before) = (ahead.keys[at], ahead.places[at], state.words[at]);
            independent = true;
            if at + 2 == order {
                if let Some(longest) = Keyed::longest(self, key, place) {
                    (prob, rest, length) = (longest, longest, order);
                }
                break;
            }
            let Some(entry) = Keyed::middle(self, at + 2, key, place) else { break };
            length = at + 2;
            (prob, rest, independent) = (entry.prob, entry.rest, entry.independent);
            if let (Some(word), Some(backoff)) = (out.words.get_mut(at + 1), out.backoffs.get_mut(at + 1)) {
                (*word, *backoff) = (before, entry.backoff);
            }
            if continues(entry.backoff) {
                keep = length;
            }
        }
        out.length = keep as u8;
        let backoffs = state.backoffs.get(..state.len()).unwrap_or(&[]);
        for backoff in backoffs.get(length - 1..).unwrap_or(&[]) {
            prob += backoff;
        }
        Full { log10: prob.min(f32::MAX), length: length as u8, rest, independent_left: independent }
    }
}

/// The key of an n-gram with one more word on its left; a word's own key is its id. As in KenLM's
/// probing files.
#[inline]
pub(crate) fn extend(key: u64, word: u32) -> u64 {
    let word = u64::from(word.wrapping_add(1));
    key.wrapping_mul(8_978_948_897_894_561_157) ^ word.wrapping_mul(17_894_857_484_156_487_943)
}

/// The key of an n-gram.
pub(crate) fn key(words: &[u32]) -> u64 {
    let Some((&last, context)) = words.split_last() else { return 0 };
    context.iter().rev().fold(u64::from(last), |key, &word| extend(key, word))
}
