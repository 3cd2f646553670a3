//! The best segmentation under a unigram model of pieces (Kudo 2018), by dynamic programming.

use std::ops::Add;

use super::prefixes::{Prefixes, ROOT};

/// A piece of a text: its id and the byte after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub id: u32,
    pub end: u32,
}

/// Pieces with scores: natural log probabilities. Their precision decides near ties: SentencePiece has
/// `f32`, Hugging Face's library `f64`.
#[derive(Debug)]
pub(super) struct Unigram<F> {
    pub trie: Prefixes,
    /// By id.
    pub scores: Vec<F>,
    pub unk: u32,
    /// The score of a character that is no piece.
    pub unk_score: F,
}

#[derive(Clone, Copy)]
struct Best<F> {
    score: F,
    start: u32,
    id: u32,
}

impl<F: Copy + Default + PartialOrd + Add<Output = F>> Unigram<F> {
    /// Appends the best pieces of `text`; of equals the first found stays.
    pub fn encode(&self, text: &[u8], cuts: &mut Vec<Cut>) {
        let none = Best { score: F::default(), start: u32::MAX, id: 0 };
        let (mut short, mut long) = ([none; 64], Vec::new());
        let best = match text.len() {
            size if size < short.len() => &mut short[..=size],
            size => {
                long.resize(size + 1, none);
                &mut long[..]
            }
        };
        let mut start = 0;
        while start < text.len() {
            let before = best[start].score;
            let one = super::char_len(&text[start..]);
            let (mut node, mut single) = (ROOT, false);
            for (len, &byte) in (1..).zip(&text[start..]) {
                let Some(next) = self.trie.step(node, byte) else { break };
                node = next;
                let Some(id) = self.trie.value(node) else { continue };
                let score = self.scores.get(id as usize).copied().unwrap_or_default();
                let sum = score + before;
                let end = &mut best[start + len];
                if end.start == u32::MAX || sum > end.score {
                    *end = Best { score: sum, start: start as u32, id };
                }
                single |= len == one;
            }
            if !single {
                let end = &mut best[start + one];
                let sum = self.unk_score + before;
                if end.start == u32::MAX || sum > end.score {
                    *end = Best { score: sum, start: start as u32, id: self.unk };
                }
            }
            start += one;
        }
        let first = cuts.len();
        let mut end = text.len();
        while end > 0 {
            let Best { start, id, .. } = best[end];
            cuts.push(Cut { id, end: end as u32 });
            end = start as usize;
        }
        cuts[first..].reverse();
    }
}
