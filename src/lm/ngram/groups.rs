//! Many sentences at once where every place of memory is known before the first look: see
//! [`keyed`](super::keyed).
//!
//! Two groups of sentences take turns. Each time, the words of one are scored, and then all that their next
//! words will read is asked for in one go: a processor waits for a page's address before it goes on for
//! long, and so finds several of those at once. Meanwhile the other group is scored.

use super::search::{Full, Lookup, NEAR, Scored, State};

/// As `lanes::score`.
pub(super) fn score<L: Lookup>(
    model: &L,
    begin: &State,
    sentences: &[&[u32]],
    mut each: impl FnMut(usize, usize, Full),
) {
    let mut waiting = sentences.iter().enumerate().filter(|(_, words)| !words.is_empty());
    let mut places = Places::new();
    let mut groups = [(); 2].map(|()| {
        let lanes = waiting.by_ref().take(GROUP);
        let group: Vec<_> =
            lanes.map(|(index, words)| Lane::new(model, index, words, begin, &mut places)).collect();
        places.ask(model);
        group
    });
    while groups.iter().any(|group| !group.is_empty()) {
        for group in &mut groups {
            let mut at = 0;
            while let Some(lane) = group.get_mut(at) {
                at += 1;
                let full = lane.score(model);
                each(lane.index, lane.at, full);
                lane.at += 1;
                if lane.at < lane.words.len() {
                    lane.near(model, &mut places);
                } else if let Some((index, words)) = waiting.next() {
                    lane.restart(model, index, words, begin, &mut places);
                } else {
                    at -= 1;
                    group.swap_remove(at);
                }
            }
            places.ask(model);
        }
    }
}

/// As `lanes::words`.
pub(super) fn words<L: Lookup>(model: &L, states: &[State], pairs: &[(u32, u32)], out: &mut [Scored]) {
    let mut places = Places::new();
    let mut near = |group: &[(u32, u32)], aheads: &mut [L::Ahead; GROUP]| {
        for (&(state, word), ahead) in group.iter().zip(aheads) {
            places.near(model, word, &states[state as usize], ahead);
        }
        places.ask(model);
    };
    let mut aheads = [[L::Ahead::default(); GROUP]; 2];
    let [mut current, mut next] = aheads.each_mut();
    let mut later = pairs.chunks(GROUP);
    near(later.next().unwrap_or(&[]), current);
    for (group, out) in pairs.chunks(GROUP).zip(out.chunks_mut(GROUP)) {
        near(later.next().unwrap_or(&[]), next);
        for ((&(state, word), scored), ahead) in group.iter().zip(out).zip(&*current) {
            scored.full = model.score(&states[state as usize], word, ahead, &mut scored.next);
        }
        std::mem::swap(&mut current, &mut next);
    }
}

/// A sentence in the middle of being scored.
struct Lane<'a, A> {
    index: usize,
    words: &'a [u32],
    at: usize,
    /// The state before the current word, and room for the one after it: they take turns and are not copied.
    states: [State; 2],
    /// Whether the second is the one before the current word.
    swapped: bool,
    /// Of the current word.
    ahead: A,
}

impl<'a, A: Copy + Default> Lane<'a, A> {
    fn new<L: Lookup<Ahead = A>>(
        model: &L,
        index: usize,
        words: &'a [u32],
        begin: &State,
        places: &mut Places,
    ) -> Self {
        let states = Default::default();
        let mut lane = Lane { index, words, at: 0, states, swapped: false, ahead: A::default() };
        lane.restart(model, index, words, begin, places);
        lane
    }

    fn restart<L: Lookup<Ahead = A>>(
        &mut self,
        model: &L,
        index: usize,
        words: &'a [u32],
        begin: &State,
        places: &mut Places,
    ) {
        (self.index, self.words, self.at, self.swapped) = (index, words, 0, false);
        self.states[0].clone_from(begin);
        self.near(model, places);
    }

    #[inline]
    fn near<L: Lookup<Ahead = A>>(&mut self, model: &L, places: &mut Places) {
        let [one, two] = &self.states;
        let state = if self.swapped { two } else { one };
        places.near(model, self.words[self.at], state, &mut self.ahead);
    }

    /// The score of the current word.
    #[inline]
    fn score<L: Lookup<Ahead = A>>(&mut self, model: &L) -> Full {
        let [one, two] = &mut self.states;
        let (state, next) = if self.swapped { (two, one) } else { (one, two) };
        self.swapped = !self.swapped;
        model.score(state, self.words[self.at], &self.ahead, next)
    }
}

/// What a group's words will read: n-gram lengths, and places.
struct Places {
    places: [(usize, usize); GROUP * NEAR],
    count: usize,
}

impl Places {
    fn new() -> Self {
        Self { places: [(0, 0); GROUP * NEAR], count: 0 }
    }

    #[inline]
    fn near<L: Lookup>(&mut self, model: &L, word: u32, state: &State, ahead: &mut L::Ahead) {
        let Self { places, count } = self;
        // Without a jump for the condition, which is hard to foresee.
        model.ahead(word, state, ahead, |wanted, length, place| {
            if let Some(to) = places.get_mut(*count) {
                *to = (length, place);
                *count += usize::from(wanted);
            }
        });
    }

    /// Asks for all of them; then there are none.
    #[inline]
    fn ask<L: Lookup>(&mut self, model: &L) {
        let count = std::mem::take(&mut self.count);
        for &(length, place) in self.places.iter().take(count) {
            model.ask(length, place);
        }
    }
}

/// Sentences that are scored in turn: enough that what they ask for is there when their turn comes again.
const GROUP: usize = 16;
