//! The words of a list as a trie: what each word is under every model, and where it lies in theirs.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::features::View;
use crate::Utterance;
use crate::lm::Scores;
use crate::tokens::Markers;
use crate::trie::{ROOT, Trie};

/// Longest context, in words with the word itself, by which words are said to be alike.
pub const ORDERS: usize = 4;

/// The words of a list, each distinct beginning once. Node 0 is the root and no word; a parent's number
/// is below its children's.
#[derive(Debug, Clone, Default)]
pub struct WordTrie {
    /// Each word's predecessor.
    pub(super) parent: Vec<u32>,
    /// Numbers of the word with 0, 1, .. words before it: words of equal numbers are alike.
    pub(super) contexts: Vec<[u32; ORDERS]>,
    /// How many such numbers there are.
    pub(super) distinct: usize,
    /// The last word of each hypothesis; `</s>` where it is scored.
    pub(super) ends: Vec<u32>,
    /// By model; `None` for those that do not score words from left to right.
    pub(super) readings: Vec<Option<Reading>>,
}

/// How one model reads the words.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// Natural log probability of each word; NaN where it is not known.
    pub values: Vec<f64>,
    /// Tokens of each word.
    pub tokens: Vec<u32>,
    /// Whether the model knows all of it.
    pub knows: Vec<bool>,
    /// Whether it comes word by word, and need not come to its end.
    pub races: bool,
    trie: Arc<Trie>,
    /// The node of each word's last token; of what is before it, if it has none.
    last: Vec<u32>,
    /// A node after that: its score is known as soon as the word's boundary is. `ROOT` for `</s>`.
    next: Vec<u32>,
    /// Whether the first word needs no mark that a word starts.
    unmarked: bool,
}

impl WordTrie {
    /// The words of `utterance` as the models of `views` spelled them; `None` where a model did not read
    /// the words of the text.
    pub(super) fn new(
        utterance: &Utterance,
        markers: &Markers,
        score_eos: bool,
        views: &[Option<&View>],
    ) -> Option<Self> {
        let reading =
            |view: &&View| Reading { trie: view.trie.clone(), unmarked: view.unmarked, ..Reading::default() };
        let mut trie = Self {
            readings: views.iter().map(|view| view.as_ref().map(reading)).collect(),
            ..Self::default()
        };
        // 0 is what stands before the first word.
        trie.distinct = 1;
        trie.add(0, [0; ORDERS]);
        for reading in trie.readings.iter_mut().flatten() {
            reading.add(0, true, ROOT, ROOT);
        }
        // Seeded by chance: texts are others'.
        let state = RandomState::default();
        let mut words: HashMap<&[u8], u32, _> = HashMap::with_hasher(state.clone());
        // Numbers by two others.
        let mut nodes: HashMap<u64, u32, _> = HashMap::with_hasher(state.clone());
        let mut longer: HashMap<u64, u32, _> = HashMap::with_hasher(state);
        let pair = |first: u32, second: u32| u64::from(first) << 32 | u64::from(second);
        let mut paths: Vec<Vec<u32>> = vec![Vec::new(); views.len()];
        for (at, hypothesis) in utterance.hypotheses.iter().enumerate() {
            let texts = markers.words(&hypothesis.bytes);
            for (view, path) in views.iter().zip(&mut paths) {
                let Some(view) = view else { continue };
                if view.words.get(at)?.len() != texts.len() {
                    return None;
                }
                path.clear();
                path.extend(view.trie.path(*view.trie.ends.get(at)?));
                path.reverse();
            }
            let mut offsets = vec![0usize; views.len()];
            let mut parent = 0u32;
            for place in 0..texts.len() + usize::from(score_eos) {
                let fresh = words.len() as u32;
                // `</s>` is no word of a text.
                let word = texts.get(place).map_or(u32::MAX, |text| *words.entry(text).or_insert(fresh));
                let spans = |view: &View| view.words[at].get(place).copied().unwrap_or((1, true));
                for (offset, view) in offsets.iter_mut().zip(views) {
                    *offset += view.map_or(0, |view| spans(view).0 as usize);
                }
                let fresh = trie.parent.len() as u32;
                let node = *nodes.entry(pair(parent, word)).or_insert(fresh);
                if node == fresh {
                    let before = trie.contexts[parent as usize];
                    let mut contexts = [0; ORDERS];
                    for (order, context) in contexts.iter_mut().enumerate() {
                        let shorter = if order == 0 { u32::MAX } else { before[order - 1] };
                        // A context is the word after a shorter one; the two maps never share a number.
                        let number = trie.distinct as u32;
                        *context = *longer.entry(pair(shorter, word)).or_insert(number);
                        trie.distinct = trie.distinct.max(*context as usize + 1);
                    }
                    trie.add(parent, contexts);
                    for (((view, reading), path), &offset) in
                        views.iter().zip(&mut trie.readings).zip(&paths).zip(&offsets)
                    {
                        let (Some(view), Some(reading)) = (view, reading) else { continue };
                        let (tokens, knows) = spans(view);
                        let last = offset.checked_sub(1).map_or(ROOT, |at| path[at]);
                        reading.add(tokens, knows, last, path.get(offset).copied().unwrap_or(ROOT));
                    }
                }
                parent = node;
            }
            trie.ends.push(parent);
        }
        Some(trie)
    }

    /// Whether the model at `lm` could be left unfinished where only the winner is wanted.
    pub(super) fn races(&self, lm: usize) -> bool {
        self.readings[lm].as_ref().is_some_and(|reading| reading.races)
    }

    /// Beginnings that some word follows.
    pub(super) fn histories(&self) -> usize {
        let followed: std::collections::HashSet<u32> = self.parent.iter().skip(1).copied().collect();
        followed.len()
    }

    pub(super) fn len(&self) -> usize {
        self.parent.len()
    }

    fn add(&mut self, parent: u32, contexts: [u32; ORDERS]) {
        self.parent.push(parent);
        self.contexts.push(contexts);
    }

    /// Sets every word's value under a model that is done.
    pub(super) fn fill(&mut self, lm: usize, scores: &Scores) {
        let (Some(reading), Scores::Nodes { ln, boundary, .. }) = (&mut self.readings[lm], scores) else {
            return;
        };
        for node in 1..self.parent.len() {
            let before = self.parent[node] as usize;
            reading.values[node] = reading.value(node, before, ln, boundary).unwrap_or(f64::NAN);
        }
    }
}

impl Reading {
    fn add(&mut self, tokens: u32, knows: bool, last: u32, next: u32) {
        self.tokens.push(tokens);
        self.knows.push(knows);
        self.last.push(last);
        self.next.push(next);
        self.values.push(f64::NAN);
    }

    /// The word's natural log probability, as far as it is known. With boundaries, P(a word starts or the
    /// sentence ends) after it over the same before it makes the product of its tokens a word's.
    pub fn value(&self, node: usize, before: usize, ln: &[f32], boundary: &[f32]) -> Option<f64> {
        let known = |node: u32| ln.get(node as usize).map(|&ln| f64::from(ln)).filter(|ln| !ln.is_nan());
        let mut product = 0.0;
        let mut at = self.last[node];
        for _ in 0..self.tokens[node] {
            product += known(at)?;
            at = self.trie.parent[at as usize];
        }
        let end = self.next[node] == ROOT;
        if !boundary.is_empty() {
            let mass = |node: u32| match node == ROOT && self.unmarked {
                true => 0.0,
                false => f64::from(boundary[node as usize]),
            };
            if !end {
                known(self.next[node])?;
                product += mass(self.last[node]);
            }
            product -= mass(self.last[before]);
        }
        // What a model fails at is known, and wins nothing.
        Some(if product.is_nan() { f64::NEG_INFINITY } else { product })
    }
}
