//! Many sentences at once: while one waits for memory, the others go on.
//!
//! A lookup is a chain of reads that mostly miss the caches, each dependent on the one before. So
//! some sentences are scored side by side, one look each in turn; what the next look will read is
//! asked for before the others take theirs.

use super::groups;
use super::search::{Full, Lookup, Scored, Search, State};

/// Scores the words of each sentence after `begin`; `each` gets the sentence's index, the word's,
/// and the score. Equal to scoring them one by one, in any order but that inside a sentence.
pub(crate) fn score<L: Lookup>(
    model: &L,
    begin: &State,
    sentences: &[&[u32]],
    mut each: impl FnMut(usize, usize, Full),
) {
    if !L::LEVELS {
        return groups::score(model, begin, sentences, each);
    }
    let mut waiting = sentences.iter().enumerate().filter(|(_, words)| !words.is_empty());
    let mut lanes: Vec<Lane<'_, L::Path>> = Vec::with_capacity(LANES);
    for (index, words) in waiting.by_ref().take(LANES) {
        lanes.push(Lane::new(model, index, words, begin));
    }
    while !lanes.is_empty() {
        let mut at = 0;
        while let Some(lane) = lanes.get_mut(at) {
            at += 1;
            let Some(full) = lane.step(model) else { continue };
            each(lane.index, lane.at, full);
            lane.at += 1;
            if lane.at < lane.words.len() {
                model.near(lane.words[lane.at], lane.state());
            } else if let Some((index, words)) = waiting.next() {
                lane.restart(model, index, words, begin);
            } else {
                at -= 1;
                lanes.swap_remove(at);
            }
        }
    }
}

/// Scores words, each after one of `states`, given by its number; `out` has a place for each, and what
/// is there is replaced. Equal to scoring them one by one.
pub(crate) fn words<L: Lookup>(model: &L, states: &[State], pairs: &[(u32, u32)], out: &mut [Scored]) {
    if !L::LEVELS {
        return groups::words(model, states, pairs, out);
    }
    let near = |at: usize| {
        let Some(&(state, word)) = pairs.get(at) else { return };
        model.near(word, &states[state as usize]);
    };
    (0..LANES).for_each(near);
    let mut waiting = LANES..pairs.len();
    let mut lanes: Vec<(usize, Option<Search<L::Path>>)> =
        (0..pairs.len().min(LANES)).map(|at| (at, None)).collect();
    while !lanes.is_empty() {
        let mut lane = 0;
        while let Some((at, search)) = lanes.get_mut(lane) {
            let (state, word) = pairs[*at];
            let (state, scored) = (&states[state as usize], &mut out[*at]);
            let search = match search {
                None => search.insert(Search::begin(model, word, &mut scored.next)),
                Some(search) => {
                    search.advance(model, state, &mut scored.next);
                    search
                }
            };
            if search.prepare(model, state) {
                lane += 1;
                continue;
            }
            scored.full = search.finish(model, state, &mut scored.next);
            match waiting.next() {
                Some(next) => {
                    near(next);
                    lanes[lane] = (next, None);
                    lane += 1;
                }
                None => drop(lanes.swap_remove(lane)),
            }
        }
    }
}

/// A sentence in the middle of being scored.
struct Lane<'a, P> {
    index: usize,
    words: &'a [u32],
    at: usize,
    /// The state before the current word, and room for the one after it: they take turns and are not copied.
    states: [State; 2],
    /// Whether the second is the one before the current word.
    swapped: bool,
    search: Option<Search<P>>,
}

impl<'a, P: Copy> Lane<'a, P> {
    fn new<L: Lookup<Path = P>>(model: &L, index: usize, words: &'a [u32], begin: &State) -> Self {
        let mut lane = Lane { index, words, at: 0, states: Default::default(), swapped: false, search: None };
        lane.restart(model, index, words, begin);
        lane
    }

    fn restart<L: Lookup<Path = P>>(&mut self, model: &L, index: usize, words: &'a [u32], begin: &State) {
        (self.index, self.words, self.at, self.swapped) = (index, words, 0, false);
        self.states[0].clone_from(begin);
        if let Some(&word) = words.first() {
            model.near(word, begin);
        }
    }

    #[inline]
    fn state(&self) -> &State {
        let [one, two] = &self.states;
        if self.swapped { two } else { one }
    }

    /// One look; the score of the current word if it was the last that it needed.
    #[inline]
    fn step<L: Lookup<Path = P>>(&mut self, model: &L) -> Option<Full> {
        let [one, two] = &mut self.states;
        let (state, next) = if self.swapped { (two, one) } else { (one, two) };
        let word = self.words[self.at];
        let search = match &mut self.search {
            None => self.search.insert(Search::begin(model, word, next)),
            Some(search) => {
                search.advance(model, state, next);
                search
            }
        };
        if search.prepare(model, state) {
            return None;
        }
        let full = search.finish(model, state, next);
        self.search = None;
        self.swapped = !self.swapped;
        Some(full)
    }
}

/// As many as a processor can have reads underway, about.
const LANES: usize = 8;
