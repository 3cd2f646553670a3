//! The scheduler against a plain loop: a kernel whose answers depend on the whole history.

mod deferred;

use std::sync::Arc;
use std::task::Poll;

use proptest::prelude::*;

use super::Scheduler;
use crate::lm::{
    BOUNDARY, Carry, Job, Limits, Rows, Scorer, Scores, StepKernel, Wanted, Work, level_by_level,
};
use crate::trie::{Builder, Trie};
use crate::{Error, Result};

const BOS: u32 = 99;
/// Fails where it is fed.
const POISON: u32 = 13;
/// Fails where it is asked for.
const UNKNOWN: u32 = 15;

/// A model whose state is a hash of every token fed since the start.
struct Hash {
    states: Vec<u64>,
    rows: u64,
    largest: usize,
    window: Option<usize>,
    /// Whether it answers again from a state.
    answers: bool,
    /// Calls that were asked for answers: passes over an output layer.
    passes: usize,
    /// Calls that ran rows.
    calls: usize,
    /// Rows that levels may have together.
    most: usize,
}

fn feed(state: u64, token: u32) -> u64 {
    (state ^ u64::from(token).wrapping_add(0x9E37_79B9)).wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(17)
}

fn answer(state: u64, token: u32) -> f32 {
    -((feed(state, token) >> 40) as f32) / 1e6
}

impl StepKernel for Hash {
    fn window(&self) -> Option<usize> {
        self.window
    }
    fn state_bytes(&self) -> usize {
        8
    }
    fn reserve(&mut self, count: usize) -> Result<()> {
        self.states.resize(self.states.len().max(count), 0);
        Ok(())
    }
    fn reset(&mut self, state: u32) {
        self.states[state as usize] = 1;
    }
    fn load(&mut self, state: u32, carry: &Carry) -> Result<()> {
        let carried = carry.0.downcast_ref::<u64>().ok_or(Error::Internal("carry".into()))?;
        self.states[state as usize] = *carried;
        Ok(())
    }
    fn save(&self, state: u32) -> Carry {
        Carry(Arc::new(self.states[state as usize]))
    }
    fn run(&mut self, rows: Rows<'_>, wanted: Wanted<'_>, out: &mut [f32]) -> Result<()> {
        let count = wanted.offsets.len() - 1;
        self.calls += 1;
        self.rows += count as u64;
        self.largest = self.largest.max(count);
        self.passes += usize::from(!wanted.tokens.is_empty());
        if rows.tokens.contains(&POISON) || wanted.tokens.contains(&UNKNOWN) {
            return Err(Error::Internal("poison".into()));
        }
        let states: Vec<u64> = (0..count)
            .map(|row| match self.window {
                Some(n) => {
                    rows.tokens[row * n..(row + 1) * n].iter().fold(1, |state, &token| feed(state, token))
                }
                None => feed(self.states[rows.from[row] as usize], rows.tokens[row]),
            })
            .collect();
        for (row, &state) in states.iter().enumerate() {
            if self.window.is_none() {
                self.states[rows.to[row] as usize] = state;
            }
            let range = wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize;
            for (out, &token) in out[range.clone()].iter_mut().zip(&wanted.tokens[range]) {
                *out = answer(state, token);
            }
        }
        Ok(())
    }
    fn run_levels(&mut self, rows: Rows<'_>, levels: &[u32]) -> Result<()> {
        let calls = self.calls;
        assert!(rows.tokens.len() <= self.most, "{levels:?}");
        let result = level_by_level(self, rows, levels);
        self.calls = calls + 1;
        result
    }
    fn again(&mut self, states: &[u32], wanted: Wanted<'_>, out: &mut [f32]) -> Option<Result<()>> {
        if !self.answers {
            return None;
        }
        self.passes += usize::from(!wanted.tokens.is_empty());
        if wanted.tokens.contains(&UNKNOWN) {
            return Some(Err(Error::Internal("poison".into())));
        }
        for (row, &state) in states.iter().enumerate() {
            let range = wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize;
            for (out, &token) in out[range.clone()].iter_mut().zip(&wanted.tokens[range]) {
                *out = answer(self.states[state as usize], token);
            }
        }
        Some(Ok(()))
    }
}

fn scheduler(rows: usize, alone: bool, window: Option<usize>) -> Scheduler<Hash> {
    with_answers(rows, alone, window, false)
}

fn with_answers(rows: usize, alone: bool, window: Option<usize>, answers: bool) -> Scheduler<Hash> {
    let kernel =
        Hash { states: Vec::new(), rows: 0, largest: 0, window, answers, passes: 0, calls: 0, most: rows };
    Scheduler::new(kernel, "hash", &Limits { rows, step_time: None, alone, threads: 1 })
}

/// Scores of one job after another, and nothing in flight between.
fn one_by_one(scheduler: &mut Scheduler<Hash>, tries: &[Arc<Trie>]) -> Vec<Vec<f32>> {
    let each = |trie: &Arc<Trie>| {
        let slot = scheduler.submit(job(trie)).unwrap();
        let scores = finish(scheduler, slot);
        scheduler.release(slot);
        scores
    };
    tries.iter().map(each).collect()
}

fn finish(scheduler: &mut Scheduler<Hash>, slot: super::Slot) -> Vec<f32> {
    for _ in 0..1000 {
        if let Some(scores) = take(scheduler, slot) {
            return scores.unwrap().0;
        }
        scheduler.step().unwrap();
    }
    panic!("the job does not come to an end")
}

/// Distinct histories of all lists together: what must be run when nothing is forgotten.
fn distinct(lists: &[Vec<Vec<u32>>]) -> u64 {
    let histories: std::collections::HashSet<&[u32]> =
        lists.iter().flatten().flat_map(|sequence| (0..sequence.len()).map(|n| &sequence[..n])).collect();
    histories.len() as u64
}

/// Every state is free, or kept for later.
fn all_given_back(scheduler: &Scheduler<Hash>) -> bool {
    let histories = &scheduler.histories;
    histories.states.free.len() + histories.idle() == histories.states.count as usize
        && histories.idle() <= histories.keep
        && (histories.keep > 0 || histories.len() == 0)
}

fn trie(sequences: &[Vec<u32>]) -> Arc<Trie> {
    let mut builder = Builder::default();
    builder.start(BOS);
    for tokens in sequences {
        let words: Vec<u32> = (0..tokens.len() as u32).map(|at| at / 2).collect();
        builder.push(tokens, &words);
    }
    Arc::new(builder.finish())
}

fn job(trie: &Arc<Trie>) -> Job {
    Job {
        trie: trie.clone(),
        start: None,
        context: Arc::new([]),
        deadline: None,
        boundaries: false,
        keep: false,
    }
}

/// What a plain loop over the path of each node gives.
fn plain(trie: &Trie, start: u64, window: Option<usize>) -> Vec<f32> {
    let mut ln = vec![0.0; trie.len()];
    for node in 1..trie.len() as u32 {
        let mut history: Vec<u32> =
            trie.path(trie.parent[node as usize]).map(|n| trie.token[n as usize]).collect();
        history.push(BOS);
        if let Some(n) = window {
            history.resize(n, BOS);
        }
        let state = history.iter().rev().fold(start, |state, &token| feed(state, token));
        ln[node as usize] = answer(state, trie.token[node as usize]);
    }
    ln
}

fn take(scheduler: &mut Scheduler<Hash>, slot: super::Slot) -> Option<Result<(Vec<f32>, Vec<f32>)>> {
    match scheduler.take(slot) {
        Poll::Pending => None,
        Poll::Ready(Ok(Scores::Nodes { ln, boundary, .. })) => Some(Ok((ln, boundary))),
        Poll::Ready(Ok(Scores::Sentences(_))) => panic!("a step kernel gives node scores"),
        Poll::Ready(Err(error)) => Some(Err(error)),
    }
}

proptest! {
    /// Utterances join and leave at random; every score equals the plain loop's, and no
    /// history is computed twice.
    #[test]
    fn random_interleavings_give_the_plain_loops_scores(
        lists in prop::collection::vec(prop::collection::vec(prop::collection::vec(0u32..5, 0..7), 0..6), 1..12),
        moves in prop::collection::vec(0u8..4, 0..60),
        rows in 1usize..9,
        alone in any::<bool>(),
        window in prop::option::of(1usize..4),
        answers in any::<bool>(),
        kept in prop_oneof![Just(0usize), 1..20usize, Just(1 << 20)],
    ) {
        let tries: Vec<_> = lists.iter().map(|list| trie(list)).collect();
        let mut scheduler = with_answers(rows, alone, window, answers);
        scheduler.remember(kept * (8 + super::ENTRY_BYTES));
        let mut waiting: Vec<usize> = (0..tries.len()).rev().collect();
        let mut flying = Vec::new();
        let mut cancelled = false;
        let mut done = 0;
        let mut moves = moves.into_iter();
        while done < tries.len() {
            match (moves.next().unwrap_or(3), waiting.is_empty()) {
                (0 | 1, false) => {
                    let at = waiting.pop().unwrap();
                    flying.push((scheduler.submit(job(&tries[at])).unwrap(), at));
                }
                (2, _) if flying.len() > 1 => {
                    let (slot, _) = flying.swap_remove(0);
                    scheduler.cancel(slot);
                    scheduler.release(slot);
                    cancelled = true;
                    done += 1;
                }
                _ => {
                    if flying.is_empty() {
                        let at = waiting.pop().unwrap();
                        flying.push((scheduler.submit(job(&tries[at])).unwrap(), at));
                    }
                    scheduler.step().unwrap();
                }
            }
            let mut index = 0;
            while index < flying.len() {
                let (slot, at) = flying[index];
                match take(&mut scheduler, slot) {
                    None => index += 1,
                    Some(scores) => {
                        prop_assert_eq!(scores.unwrap().0, plain(&tries[at], 1, window));
                        scheduler.release(slot);
                        flying.swap_remove(index);
                        done += 1;
                    }
                }
            }
        }
        prop_assert!(scheduler.kernel.largest <= rows);
        let histories: u64 = tries.iter().map(|trie| {
            let inner: std::collections::HashSet<u32> = trie.parent.iter().skip(1).copied().collect();
            inner.len() as u64
        }).sum();
        prop_assert!(scheduler.kernel.rows <= histories);
        if alone && !cancelled && window.is_none() {
            prop_assert_eq!(scheduler.kernel.rows, histories);
        }
        if answers && !alone && kept == 1 << 20 && window.is_none() {
            let once = distinct(&lists);
            prop_assert!(scheduler.kernel.rows <= once, "nothing is run twice while it is remembered");
            prop_assert!(cancelled || scheduler.kernel.rows == once);
            let Work { rows, shared, hits, .. } = scheduler.work();
            prop_assert!(cancelled || rows + shared + hits == histories);
        }
        prop_assert!(all_given_back(&scheduler));
    }
}

#[test]
fn a_job_that_fails_takes_no_other_with_it() {
    let (good, bad) = (trie(&[vec![1, 2, 3]]), trie(&[vec![1, POISON, 3]]));
    let mut scheduler = scheduler(8, false, None);
    let slots = [&good, &bad, &good].map(|trie| scheduler.submit(job(trie)).unwrap());
    for _ in 0..10 {
        scheduler.step().unwrap();
    }
    assert_eq!(take(&mut scheduler, slots[0]).unwrap().unwrap().0, plain(&good, 1, None));
    assert!(take(&mut scheduler, slots[1]).unwrap().unwrap_err().to_string().contains("poison"));
    assert_eq!(take(&mut scheduler, slots[2]).unwrap().unwrap().0, plain(&good, 1, None));
    slots.into_iter().for_each(|slot| scheduler.release(slot));
    assert!(all_given_back(&scheduler));
}

#[test]
fn equal_histories_of_utterances_in_flight_are_one_row() {
    let tries = [trie(&[vec![1, 2, 3], vec![1, 4]]), trie(&[vec![1, 2, 5]]), trie(&[vec![6]])];
    for (window, alone, rows) in [(None, false, 3), (None, true, 7), (Some(2), false, 3), (Some(2), true, 7)]
    {
        let mut scheduler = scheduler(64, alone, window);
        let slots = tries.each_ref().map(|trie| scheduler.submit(job(trie)).unwrap());
        for (trie, slot) in tries.iter().zip(slots) {
            assert_eq!(finish(&mut scheduler, slot), plain(trie, 1, window));
        }
        // "", "1" and "1 2", once each or once for each utterance that has them.
        assert_eq!((scheduler.kernel.rows, scheduler.work().shared), (rows, 7 - rows), "{window:?} {alone}");
    }
}

#[test]
fn carried_states_are_shared_only_where_they_are_the_same() {
    let trie = trie(&[vec![1, 2]]);
    let carries = [3u64, 3, 4].map(|state| Carry(Arc::new(state)));
    let starts = [&carries[0], &carries[0], &carries[1], &carries[2]];
    let mut scheduler = scheduler(64, false, None);
    let slots = starts.map(|carry| {
        let job = Job { start: Some(carry.clone()), ..job(&trie) };
        scheduler.submit(job).unwrap()
    });
    for (slot, start) in slots.into_iter().zip([3, 3, 3, 4]) {
        assert_eq!(finish(&mut scheduler, slot), plain(&trie, start, None));
    }
    assert_eq!(scheduler.kernel.rows, 6, "two histories for each of three carried states");
}

#[test]
fn what_follows_a_carried_state_is_not_remembered_nor_a_released_job() {
    let trie = trie(&[vec![1, 2], vec![1, 3]]);
    let carry = Carry(Arc::new(3u64));
    for answers in [false, true] {
        let mut scheduler = with_answers(64, false, None, answers);
        scheduler.remember(100 * (8 + super::ENTRY_BYTES));
        let alone = (Arc::strong_count(&trie), Arc::strong_count(&carry.0));
        let slot = scheduler.submit(Job { start: Some(carry.clone()), ..job(&trie) }).unwrap();
        assert_eq!(finish(&mut scheduler, slot), plain(&trie, 3, None));
        scheduler.release(slot);
        assert_eq!((scheduler.histories.idle(), scheduler.histories.len()), (0, 0));
        assert_eq!((Arc::strong_count(&trie), Arc::strong_count(&carry.0)), alone);
        // What begins with the model's own start is.
        let slot = scheduler.submit(job(&trie)).unwrap();
        assert_eq!(finish(&mut scheduler, slot), plain(&trie, 1, None));
        scheduler.release(slot);
        assert!(scheduler.histories.idle() > 0);
    }
}

#[test]
fn frequent_openings_outlive_what_came_once() {
    // Each list begins alike, and goes on as no other does.
    let lists: Vec<_> =
        (0..30u32).map(|at| trie(&[vec![1, 2, 100 + at, 200 + at, 300 + at, 400 + at]])).collect();
    for answers in [false, true] {
        let mut scheduler = with_answers(64, false, None, answers);
        scheduler.remember(8 * (8 + super::ENTRY_BYTES));
        for (trie, scores) in lists.iter().zip(one_by_one(&mut scheduler, &lists)) {
            assert_eq!(scores, plain(trie, 1, None));
        }
        assert!(scheduler.histories.idle() <= 8);
        // 6 histories a list; "", "1" and "1 2" are there from the second list on, but a kernel that does not
        // answer again must run "1 2" for each new word after it.
        let hits = if answers { 3 * 29 } else { 2 * 29 };
        assert_eq!((scheduler.work().hits, scheduler.kernel.rows), (hits, 6 * 30 - hits), "{answers}");
    }
}

#[test]
fn a_longer_list_of_what_is_held_costs_only_its_new_words() {
    let (first, second) =
        (trie(&[vec![1, 2, 0], vec![1, 3, 0]]), trie(&[vec![1, 2, 4, 0], vec![1, 3, 4, 0]]));
    let mut scheduler = with_answers(64, false, None, true);
    let held = scheduler.submit_held(job(&first)).unwrap();
    assert_eq!(finish(&mut scheduler, held), plain(&first, 1, None));
    assert_eq!(scheduler.kernel.rows, 4);
    let next = scheduler.submit_held(job(&second)).unwrap();
    scheduler.release(held);
    assert_eq!(finish(&mut scheduler, next), plain(&second, 1, None));
    assert_eq!(scheduler.kernel.rows, 4 + 2, "after `1 2 4` and after `1 3 4`");
    scheduler.release(next);
    assert!(all_given_back(&scheduler));
}

#[test]
fn unwanted_ends_are_left_until_they_are_wanted() {
    let trie = trie(&[vec![1, 2, 3, 4], vec![1, 2, 5, 6], vec![7, 8]]);
    for answers in [false, true] {
        let mut scheduler = with_answers(64, false, None, answers);
        let slot = scheduler.submit(job(&trie)).unwrap();
        scheduler.focus(slot, &[false, true, false]);
        (0..9).for_each(|_| scheduler.step().unwrap());
        assert!(take(&mut scheduler, slot).is_none());
        let known = scheduler.known(slot).unwrap().ln.to_vec();
        let all = plain(&trie, 1, None);
        for (node, (&known, &all)) in known.iter().zip(&all).enumerate() {
            // Nodes 4 and 8 end the others, and their parents were not run.
            let left = node == 4 || node == 8;
            assert!(if left { known.is_nan() } else { known == all }, "node {node}: {known} {all}");
        }
        assert_eq!((scheduler.kernel.rows, scheduler.demand().ready), (4, 0));
        scheduler.focus(slot, &[true, true, true]);
        assert_eq!(scheduler.demand().ready, 2);
        assert_eq!(finish(&mut scheduler, slot), all);
        assert_eq!(scheduler.kernel.rows, 6);
        scheduler.release(slot);
        assert!(all_given_back(&scheduler));
    }
}

#[test]
fn a_carried_state_is_the_state_after_the_winner() {
    let trie = trie(&[vec![1, 2, 3], vec![1, 4]]);
    let mut scheduler = scheduler(8, false, None);
    let slot = scheduler.submit(Job { keep: true, ..job(&trie) }).unwrap();
    while take(&mut scheduler, slot).is_none() {
        scheduler.step().unwrap();
    }
    let carry = scheduler.carry(slot, trie.ends[1]).unwrap().unwrap();
    scheduler.release(slot);
    let after = [BOS, 1, 4].iter().fold(1, |state, &token| feed(state, token));
    assert_eq!(carry.0.downcast_ref::<u64>(), Some(&after));
    let next = scheduler.submit(Job { start: Some(carry), ..job(&trie) }).unwrap();
    let scores = loop {
        if let Some(scores) = take(&mut scheduler, next) {
            break scores.unwrap().0;
        }
        scheduler.step().unwrap();
    };
    assert_eq!(scores, plain(&trie, after, None));
}

#[test]
fn boundaries_are_asked_for_where_words_end() {
    let trie = trie(&[vec![1, 2, 3]]); // words 0, 0, 1
    let mut scheduler = scheduler(8, false, None);
    let slot = scheduler.submit(Job { boundaries: true, ..job(&trie) }).unwrap();
    let boundary = loop {
        if let Some(scores) = take(&mut scheduler, slot) {
            break scores.unwrap().1;
        }
        scheduler.step().unwrap();
    };
    let after = |tokens: &[u32]| answer(tokens.iter().fold(1, |state, &token| feed(state, token)), BOUNDARY);
    assert_eq!(boundary, [after(&[BOS]), 0.0, after(&[BOS, 1, 2]), 0.0]);
}
