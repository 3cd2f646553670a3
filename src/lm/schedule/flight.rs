//! One job of the scheduler: its units of evaluation, their order and their states.

use std::collections::{HashMap, VecDeque};

use super::histories::{Histories, NONE};
use crate::lm::{BOUNDARY, Job};
use crate::trie::{ROOT, Trie};

/// One job under way. Finished ones are kept for their memory.
pub(super) struct Flight {
    pub job: Job,
    pub plan: Plan,
    pub ln: Vec<f32>,
    pub boundary: Vec<f32>,
    /// Each unit's history while the job needs it; `NONE` before and after.
    pub entry: Vec<u32>,
    stage: Vec<Stage>,
    /// Continuations of each unit that still need its state.
    uses: Vec<u32>,
    /// Units that a step could run, and those that could if anybody wanted them.
    pub ready: VecDeque<u32>,
    parked: VecDeque<u32>,
    /// Of the ready ones, those that another job's row has served since.
    stale: usize,
    /// Whether each unit is wanted now; empty if all are.
    wanted: Vec<bool>,
    /// Steps that the longest history still needs.
    pub depth: usize,
    pub left: usize,
    pub failed: Option<String>,
    pub taken: bool,
    recurrent: bool,
}

/// Where a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// Among the ready ones.
    Ready,
    /// Run, and its continuations are on their way; the answers are to come.
    Fed,
    Served,
}

/// The units of evaluation of one trie: distinct histories (or distinct windows) with the
/// nodes that continue them.
#[derive(Default)]
pub(super) struct Plan {
    /// A node whose history the unit is.
    pub node: Vec<u32>,
    /// `children[first[u]..first[u + 1]]` continue unit `u`.
    first: Vec<u32>,
    children: Vec<u32>,
    /// The unit of each node; `NONE` for leaves.
    pub unit: Vec<u32>,
    /// Whether a word ends at the unit's node for some continuation.
    pub boundary: Vec<bool>,
    /// Scratch.
    fill: Vec<u32>,
}

impl Flight {
    /// A job's flight, in the memory of an earlier one.
    pub fn new(job: Job, window: Option<usize>, held: bool, used: Option<Self>) -> Self {
        let recurrent = window.is_none();
        let mut flight = used.unwrap_or_else(|| Self {
            job: job.clone(),
            plan: Plan::default(),
            ln: Vec::new(),
            boundary: Vec::new(),
            entry: Vec::new(),
            stage: Vec::new(),
            uses: Vec::new(),
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            stale: 0,
            wanted: Vec::new(),
            depth: 0,
            left: 0,
            failed: None,
            taken: false,
            recurrent,
        });
        flight.plan.fill(&job.trie, window);
        let (nodes, units) = (job.trie.len(), flight.plan.node.len());
        let uses = &mut flight.uses;
        // What is held is in use until the job is released.
        refill(uses, units, u32::from(held));
        if recurrent {
            for &node in &flight.plan.node[units.min(1)..] {
                uses[flight.plan.unit[job.trie.parent[node as usize] as usize] as usize] += 1;
            }
        }
        if job.keep {
            for &end in &job.trie.ends {
                for node in [end, job.trie.parent[end as usize]] {
                    if let Some(uses) = uses.get_mut(flight.plan.unit[node as usize] as usize) {
                        *uses += 1;
                    }
                }
            }
        }
        refill(&mut flight.ln, nodes, f32::NAN);
        flight.ln[ROOT as usize] = 0.0;
        refill(&mut flight.boundary, if job.boundaries { nodes } else { 0 }, 0.0);
        refill(&mut flight.entry, units, NONE);
        refill(&mut flight.stage, units, Stage::Waiting);
        flight.ready.clear();
        flight.parked.clear();
        flight.wanted.clear();
        flight.stale = 0;
        flight.depth = if recurrent { height(&job.trie) } else { 1 };
        flight.left = units;
        flight.failed = None;
        flight.taken = false;
        flight.recurrent = recurrent;
        flight.job = job;
        flight
    }

    /// Rows that a step could have of this job.
    pub fn rows(&self) -> usize {
        self.ready.len().saturating_sub(self.stale)
    }

    /// A unit's history is known and waits to be run.
    pub fn wait(&mut self, unit: u32) {
        if self.wanted.is_empty() || self.wanted[unit as usize] {
            self.stage[unit as usize] = Stage::Ready;
            self.ready.push_back(unit);
        } else {
            self.stage[unit as usize] = Stage::Waiting;
            self.parked.push_back(unit);
        }
    }

    /// Takes no further part.
    pub fn fail(&mut self, why: &dyn std::fmt::Display) {
        self.failed = Some(why.to_string());
        self.left = 0;
        self.ready.clear();
        self.parked.clear();
        self.stale = 0;
    }

    /// Only histories that lead to one of these ends are run from now on.
    pub fn focus(&mut self, ends: &[bool]) {
        let trie = &self.job.trie;
        refill(&mut self.wanted, self.plan.node.len(), false);
        for (&end, _) in trie.ends.iter().zip(ends).filter(|(_, wanted)| **wanted) {
            // The last node is a leaf, or an inner node of a longer hypothesis; its own score is its parent's to give.
            let mut node = end;
            while node != ROOT {
                node = trie.parent[node as usize];
                let wanted = &mut self.wanted[self.plan.unit[node as usize] as usize];
                // With windows, the unit of another path leads on nowhere else.
                if std::mem::replace(wanted, true) && self.recurrent {
                    break;
                }
            }
        }
        self.parked.append(&mut self.ready);
        let open = |unit: u32| matches!(self.stage[unit as usize], Stage::Waiting | Stage::Ready);
        self.parked.retain(|&unit| open(unit));
        let mut waiting = std::mem::take(&mut self.parked);
        for unit in waiting.drain(..) {
            self.wait(unit);
        }
        // Whose memory is kept.
        waiting.append(&mut self.parked);
        self.parked = waiting;
        self.stale = 0;
    }

    /// Whether somebody chooses what is run.
    pub fn is_focused(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Moves the next ready unit out.
    pub fn next_ready(&mut self) -> Option<u32> {
        while let Some(unit) = self.ready.pop_front() {
            if matches!(self.stage[unit as usize], Stage::Waiting | Stage::Ready) {
                self.stage[unit as usize] = Stage::Waiting;
                return Some(unit);
            }
            self.stale -= 1;
        }
        None
    }

    /// A unit's history has been run, its answers come later: its continuations go to `born`.
    pub fn feed(&mut self, unit: u32, born: &mut Vec<u32>) {
        let stage = std::mem::replace(&mut self.stage[unit as usize], Stage::Fed);
        self.stale += usize::from(stage == Stage::Ready);
        let next = |&child: &u32| self.plan.unit[child as usize];
        born.extend(self.plan.children(unit).iter().map(next).filter(|&next| next != NONE));
    }

    /// Whether a unit waits for answers only.
    pub fn is_fed(&self, unit: u32) -> bool {
        self.stage[unit as usize] == Stage::Fed
    }

    /// Takes the model's answers for one unit, in the order of [`Flight::questions`]; its continuations
    /// go to `born`.
    pub fn receive(
        &mut self,
        unit: u32,
        mut answer: impl FnMut(usize, u32) -> f32,
        histories: &mut Histories,
        born: &mut Vec<u32>,
    ) {
        let (plan, trie) = (&self.plan, &self.job.trie);
        let children = plan.children(unit);
        let leads_on = self.recurrent && self.stage[unit as usize] != Stage::Fed;
        for (at, &child) in children.iter().enumerate() {
            let ln = answer(at, trie.token[child as usize]);
            // NaN stands for what is not known yet; neither is finite.
            self.ln[child as usize] = if ln.is_nan() { f32::NEG_INFINITY } else { ln };
            let next = plan.unit[child as usize];
            if leads_on && next != NONE {
                born.push(next);
            }
        }
        if self.job.boundaries && plan.boundary[unit as usize] {
            let mass = answer(children.len(), BOUNDARY);
            for &child in children {
                self.boundary[trie.parent[child as usize] as usize] = mass;
            }
        }
        let stage = std::mem::replace(&mut self.stage[unit as usize], Stage::Served);
        self.stale += usize::from(stage == Stage::Ready);
        self.left -= 1;
        let node = plan.node[unit as usize];
        if self.recurrent && node != ROOT {
            let parent = plan.unit[trie.parent[node as usize] as usize];
            self.done_with(parent, histories);
        }
        if self.uses[unit as usize] == 0 {
            histories.leave(std::mem::replace(&mut self.entry[unit as usize], NONE));
        }
    }

    fn done_with(&mut self, unit: u32, histories: &mut Histories) {
        self.uses[unit as usize] -= 1;
        if self.uses[unit as usize] == 0 {
            histories.leave(std::mem::replace(&mut self.entry[unit as usize], NONE));
        }
    }

    /// What is asked of the model after a unit's history.
    pub fn questions(&self, unit: u32) -> impl Iterator<Item = u32> + '_ {
        let boundary = self.job.boundaries && self.plan.boundary[unit as usize];
        let children = self.plan.children(unit).iter().map(|&child| self.job.trie.token[child as usize]);
        children.chain(boundary.then_some(BOUNDARY))
    }

    /// The history after a node, if the job still has it.
    pub fn entry_of(&self, node: u32) -> Option<u32> {
        let unit = *self.plan.unit.get(node as usize)?;
        self.entry.get(unit as usize).copied().filter(|&entry| entry != NONE)
    }
}

/// Nodes on the longest path from the root, the last not counted: it is never fed.
fn height(trie: &Trie) -> usize {
    let mut depths = vec![0u32; trie.len()];
    for node in 1..trie.len() {
        depths[node] = depths[trie.parent[node] as usize] + 1;
    }
    depths.into_iter().max().unwrap_or(0) as usize
}

impl Plan {
    /// The units of a trie; with a window, histories whose last tokens are equal are one.
    fn fill(&mut self, trie: &Trie, window: Option<usize>) {
        let nodes = trie.len();
        let Self { node, first, children, unit, boundary, fill } = self;
        refill(unit, nodes, NONE);
        node.clear();
        for at in 1..nodes {
            // Marks the parents; numbers come below, in the order of the nodes.
            unit[trie.parent[at] as usize] = 0;
        }
        let mut windows: HashMap<Vec<u32>, u32> = HashMap::new();
        for (at, unit) in unit.iter_mut().enumerate() {
            if *unit == NONE {
                continue;
            }
            let fresh = node.len() as u32;
            *unit = match window {
                None => fresh,
                Some(length) => {
                    let mut key = Vec::with_capacity(length);
                    push_window(trie, at as u32, length, &mut key);
                    *windows.entry(key).or_insert(fresh)
                }
            };
            if *unit == fresh {
                node.push(at as u32);
            }
        }
        refill(first, node.len() + 1, 0);
        for at in 1..nodes {
            first[unit[trie.parent[at] as usize] as usize + 1] += 1;
        }
        for u in 1..first.len() {
            first[u] += first[u - 1];
        }
        fill.clone_from(first);
        refill(children, nodes.saturating_sub(1), 0);
        refill(boundary, node.len(), false);
        for at in 1..nodes {
            let parent = trie.parent[at];
            let u = unit[parent as usize] as usize;
            children[fill[u] as usize] = at as u32;
            fill[u] += 1;
            boundary[u] |= parent == ROOT || trie.word[at] != trie.word[parent as usize];
        }
    }

    pub fn children(&self, unit: u32) -> &[u32] {
        &self.children[self.first[unit as usize] as usize..self.first[unit as usize + 1] as usize]
    }
}

/// The last `length` tokens up to `node`, oldest first, padded in front with the root's token.
pub(super) fn push_window(trie: &Trie, node: u32, length: usize, tokens: &mut Vec<u32>) {
    let start = tokens.len();
    tokens.extend(trie.path(node).take(length).map(|at| trie.token[at as usize]));
    tokens.resize(start + length, trie.token[ROOT as usize]);
    tokens[start..].reverse();
}

/// The same memory, `count` times `value`.
fn refill<T: Copy>(values: &mut Vec<T>, count: usize, value: T) {
    values.clear();
    values.resize(count, value);
}
