//! Scores tries: each distinct pair of state and word of an utterance is looked up once, and the
//! pairs of one depth of the trie side by side.

use std::collections::{HashMap, VecDeque};
use std::f64::consts::LN_10;
use std::hash::BuildHasherDefault;
use std::mem;
use std::sync::Arc;
use std::task::Poll;

use super::search::Scored;
use super::{Core, Ngram, State};
use crate::lm::fold::Fold;
use crate::lm::{Carry, Demand, Job, LanguageModel, Limits, Scorer, Scores, Slot, Spec, Work};
use crate::tokens::Vocab;
use crate::trie::ROOT;
use crate::{Error, Result};

/// A sentence starts afresh after `<s>`, so an n-gram model carries nothing from one utterance to
/// the next (`Spec::carries` is false). A trie whose root is not `<s>` is scored without context.
impl LanguageModel for Ngram {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn scorer(&self, limits: &Limits) -> Result<Box<dyn Scorer>> {
        Ok(Box::new(TrieScorer::new(self, Arc::new([]), limits)))
    }
}

/// One worker's scratch: jobs are worked off in order, some thousand nodes a step.
pub(super) struct TrieScorer {
    core: Arc<Core>,
    /// Of a model over pieces: those that start a word, and `</s>`. Else empty.
    starts: Arc<[u32]>,
    nodes_per_step: usize,
    jobs: Vec<Option<Running>>,
    free: Vec<usize>,
    /// Slots with work left; only the first has been begun, and `memo` is about it.
    queue: VecDeque<usize>,
    memo: Memo,
    work: Work,
}

struct Running {
    job: Job,
    /// Nodes by depth, those of one depth in their order; and where each depth ends.
    nodes: Vec<u32>,
    ends: Vec<usize>,
    /// How many of them are scored; 0 before the job is begun.
    done: usize,
    ln: Vec<f32>,
    /// Of a model over pieces: ln p(a word start or `</s>` follows), where it is wanted.
    boundary: Vec<f32>,
    order: Vec<u8>,
    /// Each scored node's state, as an index into the memo's states; of one being scored, which of the
    /// memo's finds is its own.
    state: Vec<u32>,
    taken: bool,
}

/// What was found out about one utterance.
#[derive(Default)]
struct Memo {
    states: Vec<State>,
    ids: HashMap<State, u32, BuildHasherDefault<Fold>>,
    /// Which of `finds`, by state (upper half) and word.
    known: HashMap<u64, u32, BuildHasherDefault<Fold>>,
    finds: Vec<Found>,
    /// By state: ln p(a word start or `</s>` follows).
    masses: HashMap<u32, f32, BuildHasherDefault<Fold>>,
    /// The pairs of state and word to be looked up together, and what comes of them.
    pairs: Vec<(u32, u32)>,
    scored: Vec<Scored>,
}

#[derive(Clone, Copy)]
struct Found {
    ln: f32,
    order: u8,
    state: u32,
}

impl Scorer for TrieScorer {
    fn submit(&mut self, job: Job) -> Result<Slot> {
        self.check(&job)?;
        self.work.raw += job.trie.raw;
        let running = Running {
            job,
            nodes: Vec::new(),
            ends: Vec::new(),
            done: 0,
            ln: Vec::new(),
            boundary: Vec::new(),
            order: Vec::new(),
            state: Vec::new(),
            taken: false,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.jobs[slot] = Some(running);
                slot
            }
            None => {
                self.jobs.push(Some(running));
                self.jobs.len() - 1
            }
        };
        self.queue.push_back(slot);
        Ok(Slot(slot))
    }

    /// Wants no more than there is: batches make lookups no faster.
    fn demand(&self) -> Demand {
        let left = |&slot: &usize| self.jobs[slot].as_ref().map_or(0, |job| job.job.trie.len() - job.done);
        Demand { ready: self.queue.iter().map(left).sum(), wanted: 1 }
    }

    fn step(&mut self) -> Result<()> {
        let mut budget = self.nodes_per_step;
        self.work.steps += u64::from(!self.queue.is_empty());
        while budget > 0 {
            let Some(&slot) = self.queue.front() else { break };
            let Some(running) = self.jobs[slot].as_mut() else {
                self.queue.pop_front();
                continue;
            };
            if running.done == 0 {
                self.memo.begin();
                running.begin();
            }
            let until = running.job.trie.len().min(running.done + budget);
            budget -= until - running.done;
            running.advance(until, &self.core, &self.starts, &mut self.memo, &mut self.work);
            if running.finished() {
                self.queue.pop_front();
            }
        }
        Ok(())
    }

    fn take(&mut self, slot: Slot) -> Poll<Result<Scores>> {
        let Some(running) = self.jobs.get_mut(slot.0).and_then(Option::as_mut) else {
            return Poll::Ready(Err(Error::Internal("scores of a slot that is not in use".into())));
        };
        if running.taken {
            return Poll::Ready(Err(Error::Internal("scores of a slot were taken twice".into())));
        }
        if !running.finished() {
            return Poll::Pending;
        }
        running.taken = true;
        let boundary = match running.job.boundaries {
            // Words are whole tokens: after each of them a word starts or the sentence ends, for sure.
            true if self.starts.is_empty() => vec![0.0; running.ln.len()],
            _ => mem::take(&mut running.boundary),
        };
        Poll::Ready(Ok(Scores::Nodes {
            ln: mem::take(&mut running.ln),
            boundary,
            order: mem::take(&mut running.order),
        }))
    }

    fn cancel(&mut self, slot: Slot) {
        self.queue.retain(|&queued| queued != slot.0);
    }

    fn carry(&mut self, _slot: Slot, _node: u32) -> Result<Option<Carry>> {
        Ok(None)
    }

    fn release(&mut self, slot: Slot) {
        self.cancel(slot);
        if self.jobs.get_mut(slot.0).and_then(Option::take).is_some() {
            self.free.push(slot.0);
        }
    }

    fn work(&self) -> Work {
        self.work
    }
}

impl TrieScorer {
    /// A scorer of `ngram`; `starts` are the tokens that a word boundary is before, if it is a model over pieces.
    pub(super) fn new(ngram: &Ngram, starts: Arc<[u32]>, limits: &Limits) -> Self {
        // A boundary takes a lookup for each of `starts`: steps stay short all the same.
        let share = if starts.is_empty() { 1 } else { NODES_PER_ROW };
        Self {
            core: ngram.core.clone(),
            starts,
            nodes_per_step: (limits.rows * NODES_PER_ROW / share).clamp(MIN_NODES / share, MAX_NODES),
            jobs: Vec::new(),
            free: Vec::new(),
            queue: VecDeque::new(),
            memo: Memo::default(),
            work: Work::default(),
        }
    }

    /// Refuses what could not be scored, so that no trie makes [`Running::advance`] panic.
    fn check(&self, job: &Job) -> Result<()> {
        let trie = &job.trie;
        if job.start.is_some() {
            return Err(Error::config("an n-gram model cannot start from a carried state"));
        }
        if trie.token.is_empty() || trie.parent.len() != trie.len() {
            return Err(Error::Internal("a trie without a root, or without a parent for each node".into()));
        }
        let size = self.core.words.len();
        if let Some(&token) = trie.token[1..].iter().find(|&&token| token as usize >= size) {
            return Err(Error::record(format!(
                "token {token} is not below {size}, the size of the n-gram vocabulary; give the text instead of ids"
            )));
        }
        if trie.parent.iter().zip(0..).skip(1).any(|(&parent, node)| parent >= node) {
            return Err(Error::Internal("a trie node whose parent is not before it".into()));
        }
        Ok(())
    }
}

impl Running {
    fn finished(&self) -> bool {
        self.done == self.job.trie.len()
    }

    /// Puts the nodes in the order of their depths.
    fn begin(&mut self) {
        let trie = &self.job.trie;
        let mut depths = vec![0u32; trie.len()];
        for node in 1..trie.len() {
            depths[node] = depths[trie.parent[node] as usize] + 1;
        }
        let deepest = depths.iter().copied().max().unwrap_or(0) as usize;
        // Where each depth begins; then, as nodes are put there, where it ends.
        self.ends = vec![0; deepest + 2];
        depths.iter().for_each(|&depth| self.ends[depth as usize + 1] += 1);
        for depth in 0..=deepest {
            self.ends[depth + 1] += self.ends[depth];
        }
        self.ends.pop();
        self.nodes = vec![0; trie.len()];
        for (&depth, node) in depths.iter().zip(0..) {
            let place = &mut self.ends[depth as usize];
            self.nodes[*place] = node;
            *place += 1;
        }
        self.ln = vec![0.0; trie.len()];
        self.order = vec![0; trie.len()];
        self.state = vec![0; trie.len()];
        if self.job.boundaries {
            self.boundary = vec![0.0; trie.len()];
        }
    }

    /// Scores nodes up to `until` in the order of [`Running::begin`].
    fn advance(&mut self, until: usize, core: &Core, starts: &[u32], memo: &mut Memo, work: &mut Work) {
        while self.done < until {
            let depth = self.ends.partition_point(|&end| end <= self.done);
            let end = self.ends.get(depth).map_or(until, |&end| end.min(until));
            self.score(end, core, memo, work);
            if self.job.boundaries && !starts.is_empty() {
                for &node in &self.nodes[self.done..end] {
                    let state = self.state[node as usize];
                    self.boundary[node as usize] = memo.mass(core, state, starts, work);
                }
            }
            self.done = end;
        }
    }

    /// Scores nodes of one depth.
    fn score(&mut self, end: usize, core: &Core, memo: &mut Memo, work: &mut Work) {
        let trie = &self.job.trie;
        let nodes = &self.nodes[self.done..end];
        for &node in nodes {
            self.state[node as usize] = if node == ROOT {
                let bos = trie.token[0] == core.words.bos();
                let start = if bos { core.begin() } else { State::default() };
                memo.root(&start)
            } else {
                let parent = self.state[trie.parent[node as usize] as usize];
                memo.ask(parent, trie.token[node as usize])
            };
        }
        memo.look(core, work);
        for &node in nodes {
            let node = node as usize;
            let found = memo.finds[self.state[node] as usize];
            (self.ln[node], self.order[node], self.state[node]) = (found.ln, found.order, found.state);
        }
    }
}

impl Memo {
    /// Forgets the last utterance. After an outsized one the memory goes back, too.
    fn begin(&mut self) {
        if self.known.capacity() > MAX_MEMO {
            *self = Self::default();
        }
        self.states.clear();
        self.ids.clear();
        self.known.clear();
        self.finds.clear();
        self.masses.clear();
    }

    /// The find of a root with a state.
    fn root(&mut self, state: &State) -> u32 {
        let state = self.id(state);
        self.finds.push(Found { ln: 0.0, order: 0, state });
        self.finds.len() as u32 - 1
    }

    /// Which find is that of a word after a state; it is there after the next [`Memo::look`].
    fn ask(&mut self, state: u32, word: u32) -> u32 {
        let fresh = self.finds.len() as u32;
        let find = *self.known.entry(u64::from(state) << 32 | u64::from(word)).or_insert(fresh);
        if find == fresh {
            self.pairs.push((state, word));
            self.finds.push(Found { ln: 0.0, order: 0, state });
        }
        find
    }

    /// Looks up all that was asked for.
    fn look(&mut self, core: &Core, work: &mut Work) {
        let mut pairs = mem::take(&mut self.pairs);
        work.rows += pairs.len() as u64;
        let mut find = self.finds.len() - pairs.len();
        for pairs in pairs.chunks(MOST_PAIRS) {
            self.score(core, pairs);
            let all = mem::take(&mut self.scored);
            for Scored { full, next } in &all[..pairs.len()] {
                let state = self.id(next);
                self.finds[find] = Found { ln: natural(full.log10), order: full.length, state };
                find += 1;
            }
            self.scored = all;
        }
        pairs.clear();
        self.pairs = pairs;
    }

    /// Scores pairs of state and word.
    fn score(&mut self, core: &Core, pairs: &[(u32, u32)]) {
        if self.scored.len() < pairs.len() {
            self.scored.resize(pairs.len(), Scored::empty());
        }
        core.words_after(&self.states, pairs, &mut self.scored[..pairs.len()]);
    }

    /// ln p(one of `words` follows a state).
    fn mass(&mut self, core: &Core, state: u32, words: &[u32], work: &mut Work) -> f32 {
        if let Some(&mass) = self.masses.get(&state) {
            return mass;
        }
        work.rows += words.len() as u64;
        let mut sum = 0.0;
        for words in words.chunks(MOST_PAIRS) {
            let pairs: Vec<(u32, u32)> = words.iter().map(|&word| (state, word)).collect();
            self.score(core, &pairs);
            for scored in &self.scored[..pairs.len()] {
                sum += 10f64.powf(f64::from(scored.full.log10));
            }
        }
        // Rounding must not make a certainty more than that.
        let ln = sum.ln().min(0.0) as f32;
        self.masses.insert(state, ln);
        ln
    }

    fn id(&mut self, state: &State) -> u32 {
        if let Some(&id) = self.ids.get(state) {
            return id;
        }
        let id = self.states.len() as u32;
        self.states.push(state.clone());
        self.ids.insert(state.clone(), id);
        id
    }
}

fn natural(log10: f32) -> f32 {
    (f64::from(log10) * LN_10) as f32
}

/// A row of a network costs about as much as this many lookups and more; a step stays short.
const NODES_PER_ROW: usize = 32;
const MIN_NODES: usize = 256;
const MAX_NODES: usize = 1 << 16;
/// Distinct lookups of an utterance whose memory is kept for the next.
const MAX_MEMO: usize = 1 << 18;
/// Lookups whose results are kept at a time.
const MOST_PAIRS: usize = 4096;
