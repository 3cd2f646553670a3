//! One job of the scheduler: its units of evaluation, their order and their states.

use std::collections::HashMap;

use crate::lm::Job;
use crate::trie::{ROOT, Trie};

/// One job under way.
pub(super) struct Flight {
    pub(super) job: Job,
    pub(super) plan: Plan,
    pub(super) ln: Vec<f32>,
    pub(super) boundary: Vec<f32>,
    /// State after each unit's history; `NONE` where there is none (any more).
    pub(super) state: Vec<u32>,
    /// Continuations of each unit that still need its state.
    uses: Vec<u32>,
    pub(super) ready: Vec<u32>,
    /// Steps that the longest history still needs.
    pub(super) depth: usize,
    pub(super) left: usize,
    pub(super) failed: Option<String>,
    pub(super) taken: bool,
}

/// The units of evaluation of one trie: distinct histories (or distinct windows) with the
/// nodes that continue them.
pub(super) struct Plan {
    /// A node whose history the unit is.
    pub(super) node: Vec<u32>,
    /// `children[first[u]..first[u + 1]]` continue unit `u`.
    first: Vec<u32>,
    children: Vec<u32>,
    /// The unit of each node; `NONE` for leaves.
    pub(super) unit: Vec<u32>,
    /// Whether a word ends at the unit's node for some continuation.
    pub(super) boundary: Vec<bool>,
}

/// Which states of the kernel's arena are free.
#[derive(Default)]
pub(super) struct States {
    pub(super) free: Vec<u32>,
    pub(super) count: u32,
}

impl Flight {
    pub(super) fn new(job: Job, plan: Plan, recurrent: bool) -> Self {
        let (nodes, units) = (job.trie.len(), plan.node.len());
        let mut uses = vec![0; units];
        if recurrent {
            for &node in &plan.node[units.min(1)..] {
                uses[plan.unit[job.trie.parent[node as usize] as usize] as usize] += 1;
            }
        }
        if job.keep {
            for &end in &job.trie.ends {
                for node in [end, job.trie.parent[end as usize]] {
                    if let Some(uses) = uses.get_mut(plan.unit[node as usize] as usize) {
                        *uses += 1;
                    }
                }
            }
        }
        // A recurrent state needs its parent's; windows need nothing but tokens.
        let ready = if recurrent { (0..units.min(1) as u32).collect() } else { (0..units as u32).collect() };
        let depth = if recurrent { height(&job.trie) } else { 1 };
        let mut ln = vec![f32::NAN; nodes];
        ln[ROOT as usize] = 0.0;
        Self {
            boundary: if job.boundaries { vec![0.0; nodes] } else { Vec::new() },
            state: vec![NONE; units],
            ln,
            uses,
            ready,
            depth,
            left: units,
            failed: None,
            taken: false,
            job,
            plan,
        }
    }

    /// Moves ready units to the rows of a step that may have `most` of them.
    pub(super) fn take_ready(&mut self, slot: usize, most: usize, rows: &mut Vec<(usize, u32)>) {
        let take = self.ready.len().min(most.saturating_sub(rows.len()));
        if take == self.ready.len() {
            self.depth = self.depth.saturating_sub(1);
        }
        rows.extend(self.ready.drain(..take).map(|unit| (slot, unit)));
    }

    /// Takes the model's answer for one unit; its continuations become ready.
    pub(super) fn receive(&mut self, unit: u32, out: &[f32], states: &mut States) {
        let plan = &self.plan;
        let recurrent = self.state[unit as usize] != NONE;
        let children = plan.children(unit);
        for (&child, &value) in children.iter().zip(out) {
            self.ln[child as usize] = value;
            let next = plan.unit[child as usize];
            if recurrent && next != NONE {
                self.ready.push(next);
            }
        }
        if let Some(&mass) = out.get(children.len()) {
            for &child in children {
                self.boundary[self.job.trie.parent[child as usize] as usize] = mass;
            }
        }
        self.left -= 1;
        if !recurrent {
            return;
        }
        let node = plan.node[unit as usize];
        if node != ROOT {
            let parent = plan.unit[self.job.trie.parent[node as usize] as usize] as usize;
            self.uses[parent] -= 1;
            if self.uses[parent] == 0 {
                states.give(std::mem::replace(&mut self.state[parent], NONE));
            }
        }
        if self.uses[unit as usize] == 0 {
            states.give(std::mem::replace(&mut self.state[unit as usize], NONE));
        }
    }

    pub(super) fn state_of(&self, node: u32) -> Option<u32> {
        let unit = *self.plan.unit.get(node as usize)?;
        self.state.get(unit as usize).copied().filter(|&state| state != NONE)
    }
}

/// Nodes on the longest path from the root, the last not counted: it is never fed.
fn height(trie: &Trie) -> usize {
    let mut depths = vec![0usize; trie.len()];
    for node in 1..trie.len() {
        depths[node] = depths[trie.parent[node] as usize] + 1;
    }
    depths.into_iter().max().unwrap_or(0)
}

impl Plan {
    pub(super) fn new(trie: &Trie, window: Option<usize>) -> Self {
        let nodes = trie.len();
        let mut inner = vec![false; nodes];
        for node in 1..nodes {
            inner[trie.parent[node] as usize] = true;
        }
        let mut unit = vec![NONE; nodes];
        let mut node = Vec::new();
        let mut windows: HashMap<Vec<u32>, u32> = HashMap::new();
        for at in (0..nodes).filter(|&at| inner[at]) {
            let fresh = node.len() as u32;
            unit[at] = match window {
                None => fresh,
                Some(length) => {
                    let mut key = Vec::with_capacity(length);
                    push_window(trie, at as u32, length, &mut key);
                    *windows.entry(key).or_insert(fresh)
                }
            };
            if unit[at] == fresh {
                node.push(at as u32);
            }
        }
        let mut first = vec![0; node.len() + 1];
        for at in 1..nodes {
            first[unit[trie.parent[at] as usize] as usize + 1] += 1;
        }
        for u in 1..first.len() {
            first[u] += first[u - 1];
        }
        let mut fill = first.clone();
        let mut children = vec![0; nodes.saturating_sub(1)];
        let mut boundary = vec![false; node.len()];
        for at in 1..nodes {
            let parent = trie.parent[at];
            let u = unit[parent as usize] as usize;
            children[fill[u] as usize] = at as u32;
            fill[u] += 1;
            boundary[u] |= parent == ROOT || trie.word[at] != trie.word[parent as usize];
        }
        Self { node, first, children, unit, boundary }
    }

    pub(super) fn children(&self, unit: u32) -> &[u32] {
        &self.children[self.first[unit as usize] as usize..self.first[unit as usize + 1] as usize]
    }
}

impl States {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        })
    }

    pub(super) fn give(&mut self, state: u32) {
        if state != NONE {
            self.free.push(state);
        }
    }
}

/// The last `length` tokens up to `node`, oldest first, padded in front with the root's token.
pub(super) fn push_window(trie: &Trie, node: u32, length: usize, tokens: &mut Vec<u32>) {
    let start = tokens.len();
    tokens.extend(trie.path(node).take(length).map(|at| trie.token[at as usize]));
    tokens.resize(start + length, trie.token[ROOT as usize]);
    tokens[start..].reverse();
}

pub(super) const NONE: u32 = u32::MAX;
