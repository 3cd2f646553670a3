//! The words of a list as a trie: what each word is under every model, and where it lies in theirs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::features::View;
use super::texts::Texts;
use crate::lm::Scores;
use crate::trie::{Builder, ROOT, Trie};

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
    /// The words of a list as the models of `views` spelled them; `None` where a model did not read the
    /// words of the text.
    pub(super) fn new(
        texts: &Texts,
        hypotheses: usize,
        score_eos: bool,
        views: &[Option<&View>],
    ) -> Option<Self> {
        let fits = |view: &View| {
            let alike = |(at, spans): (usize, &Vec<_>)| spans.len() == texts.of(at).len();
            view.words.len() == hypotheses
                && view.trie.ends.len() == hypotheses
                && view.words.iter().enumerate().all(alike)
        };
        if !views.iter().flatten().all(|view| fits(view)) {
            return None;
        }
        let mut builder = Builder::default();
        builder.start(u32::MAX);
        let (mut words, mut zeros) = (Vec::new(), Vec::new());
        for at in 0..hypotheses {
            words.clear();
            words.extend_from_slice(texts.of(at));
            // `</s>` is no word of a text.
            words.extend(score_eos.then_some(texts.distinct() as u32));
            zeros.resize(words.len(), 0);
            builder.push(&words, &zeros);
        }
        let Trie { token, parent, ends, .. } = builder.finish();
        let mut contexts = Contexts::new(texts.distinct() + 1);
        let mut readings: Vec<_> =
            views.iter().map(|view| view.map(|view| Reading::new(view, parent.len()))).collect();
        for (at, &end) in ends.iter().enumerate() {
            // Words that are new come last: nothing follows them yet.
            let fresh = contexts.of.len()..end as usize + 1;
            for node in fresh.clone() {
                contexts.add(parent[node] as usize, token[node]);
            }
            for (view, reading) in views.iter().zip(&mut readings) {
                let (Some(view), Some(reading)) = (view, reading) else { continue };
                reading.read(fresh.clone(), view, at, score_eos);
            }
        }
        Some(Self { parent, contexts: contexts.of, distinct: contexts.distinct, ends, readings })
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

/// Numbers of words in their contexts.
struct Contexts {
    /// By node.
    of: Vec<[u32; ORDERS]>,
    /// By word, without a context; 0 where it has none yet.
    alone: Vec<u32>,
    /// By the number of a context and the word after it.
    longer: HashMap<u64, u32, RandomState>,
    distinct: usize,
}

impl Contexts {
    /// Of the root; 0 is what stands before the first word. For so many different words.
    fn new(words: usize) -> Self {
        // Seeded by chance: texts are others'.
        let longer = HashMap::with_hasher(RandomState::default());
        Self { of: vec![[0; ORDERS]], alone: vec![0; words], longer, distinct: 1 }
    }

    /// Of the next node: a word after another.
    fn add(&mut self, parent: usize, word: u32) {
        let before = self.of[parent];
        let mut contexts = [0; ORDERS];
        for (order, context) in contexts.iter_mut().enumerate() {
            let number = match order.checked_sub(1) {
                None => &mut self.alone[word as usize],
                Some(shorter) => {
                    self.longer.entry(u64::from(before[shorter]) << 32 | u64::from(word)).or_default()
                }
            };
            if *number == 0 {
                *number = self.distinct as u32;
                self.distinct += 1;
            }
            *context = *number;
        }
        self.of.push(contexts);
    }
}

impl Reading {
    /// Of `words` words that are still to be read.
    fn new(view: &View, words: usize) -> Self {
        Self {
            values: vec![f64::NAN; words],
            tokens: vec![0; words],
            knows: vec![true; words],
            races: false,
            trie: view.trie.clone(),
            last: vec![ROOT; words],
            next: vec![ROOT; words],
            unmarked: view.unmarked,
        }
    }

    /// Reads the last words of a hypothesis, numbered so, from its end.
    fn read(&mut self, words: Range<usize>, view: &View, hypothesis: usize, score_eos: bool) {
        let (spans, parent) = (&view.words[hypothesis], &view.trie.parent);
        let (mut last, mut next) = (view.trie.ends[hypothesis], ROOT);
        if !score_eos {
            (last, next) = (parent[last as usize], last);
        }
        let spans = spans.iter().copied().chain(score_eos.then_some((1, true)));
        for (word, (tokens, knows)) in words.rev().zip(spans.rev()) {
            (self.tokens[word], self.knows[word]) = (tokens, knows);
            (self.last[word], self.next[word]) = (last, next);
            for _ in 0..tokens {
                (last, next) = (parent[last as usize], last);
            }
        }
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
