//! The histories that a scheduler knows: those in flight, whoever needs them, and those kept from
//! before because they may come again.
//!
//! A history is one entry, found by the entry it continues and its last token, so two utterances
//! that begin alike have the same entries. An entry with a holder keeps its state. One without goes
//! to the end of a queue, and the front of the queue makes room: a history that came once is
//! forgotten before one that came again (the segmented LRU of Karedla et al., Computer 1994), so that
//! a long list does not wash the frequent openings out.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::lm::Carry;
use crate::lm::fold::Fold;

/// A continuation of some job that waits for a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub slot: u32,
    pub unit: u32,
}

/// Where histories begin: with the token and what comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Start {
    pub token: u32,
    /// Address of the carried state; 0 without one.
    pub carry: usize,
    /// Number of the only job that may use it; 0 for all.
    pub alone: u64,
}

/// One history.
pub(super) struct Entry {
    pub parent: u32,
    pub token: u32,
    /// The state after it; `NONE` if it was not computed, or is forgotten.
    pub state: u32,
    /// Whether it is a row of the step that is being put together.
    pub queued: bool,
    pub waiting: Vec<Waiter>,
    /// Answers, sorted by token, of kernels that do not answer again.
    pub known: Vec<(u32, f32)>,
    pub carry: Option<Carry>,
    start: Option<Start>,
    /// Whether it begins with a carried state: what comes after the utterance begins with another.
    carried: bool,
    /// Units in flight that need it.
    holders: u32,
    children: u32,
    /// Neighbours in its queue.
    older: u32,
    newer: u32,
    queue: Queue,
    again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    None,
    Once,
    Again,
}

/// Ends of a queue, and how many are in it.
#[derive(Clone, Copy)]
struct Ends {
    oldest: u32,
    newest: u32,
    count: usize,
}

/// All of them, and which states of the kernel's arena are free.
pub(super) struct Histories {
    pub entries: Vec<Entry>,
    free: Vec<u32>,
    starts: HashMap<Start, u32, BuildHasherDefault<Fold>>,
    /// By parent (upper half) and token.
    next: HashMap<u64, u32, BuildHasherDefault<Fold>>,
    queues: [Ends; 2],
    /// Most states kept without a holder.
    pub keep: usize,
    pub states: States,
}

/// Which states of the kernel's arena are free.
#[derive(Default)]
pub(super) struct States {
    pub free: Vec<u32>,
    pub count: u32,
}

impl Default for Histories {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            starts: HashMap::default(),
            next: HashMap::default(),
            queues: [Ends { oldest: NONE, newest: NONE, count: 0 }; 2],
            keep: 0,
            states: States::default(),
        }
    }
}

impl Histories {
    /// The history that is only the start token.
    pub fn start(&mut self, start: Start, carry: Option<&Carry>) -> u32 {
        if let Some(&entry) = self.starts.get(&start) {
            return entry;
        }
        let entry = self.add(NONE, start.token);
        self.entries[entry as usize].start = Some(start);
        self.entries[entry as usize].carry = carry.cloned();
        self.entries[entry as usize].carried = carry.is_some();
        self.starts.insert(start, entry);
        entry
    }

    /// The history `parent` with one token more.
    pub fn after(&mut self, parent: u32, token: u32) -> u32 {
        let key = key(parent, token);
        if let Some(&entry) = self.next.get(&key) {
            return entry;
        }
        let entry = self.add(parent, token);
        self.entries[parent as usize].children += 1;
        self.entries[entry as usize].carried = self.entries[parent as usize].carried;
        self.next.insert(key, entry);
        entry
    }

    /// Keeps an entry and its state until [`Histories::leave`].
    pub fn hold(&mut self, entry: u32) {
        self.unqueue(entry);
        let entry = &mut self.entries[entry as usize];
        entry.again |= entry.state != NONE || entry.holders > 0;
        entry.holders += 1;
    }

    /// Lets go of an entry; without a holder it is kept only while there is room, and never after a carried state.
    pub fn leave(&mut self, entry: u32) {
        let it = &mut self.entries[entry as usize];
        it.holders -= 1;
        if it.holders > 0 {
            return;
        }
        if it.state == NONE || self.keep == 0 || it.carried {
            self.forget(entry);
            return;
        }
        self.queue(entry);
        while self.queues[0].count + self.queues[1].count > self.keep {
            // Those that came again have three quarters of the room before they must go too.
            let once = self.queues[0].count > self.keep / 4 || self.queues[1].count == 0;
            let oldest = self.queues[usize::from(!once)].oldest;
            self.unqueue(oldest);
            self.forget(oldest);
        }
    }

    /// Takes a waiter off an entry that it waits for.
    pub fn desert(&mut self, entry: u32, slot: u32) {
        self.entries[entry as usize].waiting.retain(|waiter| waiter.slot != slot);
    }

    /// States that nobody holds.
    #[cfg(test)]
    pub fn idle(&self) -> usize {
        self.queues[0].count + self.queues[1].count
    }

    /// Entries that are in use, or remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn add(&mut self, parent: u32, token: u32) -> u32 {
        if let Some(at) = self.free.pop() {
            let entry = &mut self.entries[at as usize];
            (entry.parent, entry.token, entry.carried) = (parent, token, false);
            return at;
        }
        self.entries.push(Entry {
            parent,
            token,
            state: NONE,
            queued: false,
            waiting: Vec::new(),
            known: Vec::new(),
            carry: None,
            start: None,
            carried: false,
            holders: 0,
            children: 0,
            older: NONE,
            newer: NONE,
            queue: Queue::None,
            again: false,
        });
        self.entries.len() as u32 - 1
    }

    /// Gives an entry's state back; it goes altogether if nothing continues it.
    fn forget(&mut self, entry: u32) {
        let it = &mut self.entries[entry as usize];
        self.states.give(std::mem::replace(&mut it.state, NONE));
        it.known.clear();
        it.again = false;
        let mut at = entry;
        loop {
            let it = &mut self.entries[at as usize];
            if it.holders > 0 || it.children > 0 || it.state != NONE {
                return;
            }
            it.waiting.clear();
            it.carry = None;
            let (parent, token, start) = (it.parent, it.token, it.start.take());
            self.free.push(at);
            if let Some(start) = start {
                self.starts.remove(&start);
            }
            if parent == NONE {
                return;
            }
            self.next.remove(&key(parent, token));
            self.entries[parent as usize].children -= 1;
            at = parent;
        }
    }

    fn queue(&mut self, entry: u32) {
        let again = self.entries[entry as usize].again;
        let ends = &mut self.queues[usize::from(again)];
        let newest = std::mem::replace(&mut ends.newest, entry);
        ends.count += 1;
        match newest {
            NONE => ends.oldest = entry,
            newest => self.entries[newest as usize].newer = entry,
        }
        let it = &mut self.entries[entry as usize];
        (it.older, it.newer) = (newest, NONE);
        it.queue = if again { Queue::Again } else { Queue::Once };
    }

    fn unqueue(&mut self, entry: u32) {
        let it = &mut self.entries[entry as usize];
        let ends = match std::mem::replace(&mut it.queue, Queue::None) {
            Queue::None => return,
            Queue::Once => 0,
            Queue::Again => 1,
        };
        let (older, newer) = (it.older, it.newer);
        let ends = &mut self.queues[ends];
        ends.count -= 1;
        match older {
            NONE => ends.oldest = newer,
            older => self.entries[older as usize].newer = newer,
        }
        match newer {
            NONE => ends.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
    }
}

impl Entry {
    /// The answer for a token, if it was given before.
    pub fn answer(&self, token: u32) -> Option<f32> {
        let at = self.known.binary_search_by_key(&token, |&(token, _)| token).ok()?;
        Some(self.known[at].1)
    }

    /// Remembers an answer.
    pub fn learn(&mut self, token: u32, value: f32) {
        if let Err(at) = self.known.binary_search_by_key(&token, |&(token, _)| token) {
            self.known.insert(at, (token, value));
        }
    }
}

impl States {
    pub fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        })
    }

    pub fn give(&mut self, state: u32) {
        if state != NONE {
            self.free.push(state);
        }
    }
}

fn key(parent: u32, token: u32) -> u64 {
    u64::from(parent) << 32 | u64::from(token)
}

pub(super) const NONE: u32 = u32::MAX;
