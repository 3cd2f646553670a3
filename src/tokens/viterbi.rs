//! The best segmentation under a unigram model of pieces (Kudo 2018), by dynamic programming.

use super::prefixes::{Prefixes, ROOT};

/// A piece of a text: its id and the byte after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub id: u32,
    pub end: u32,
}

/// Pieces with scores: natural log probabilities.
#[derive(Debug)]
pub(super) struct Unigram {
    pub trie: Prefixes,
    /// By id.
    pub scores: Vec<f32>,
    /// Ids that always win, whatever their score; sorted.
    pub favoured: Vec<u32>,
    pub highest: f32,
    pub unk: u32,
    /// The score of a character that is no piece.
    pub unk_score: f32,
}

#[derive(Clone, Copy)]
struct Best {
    score: f32,
    start: u32,
    id: u32,
}

impl Unigram {
    /// Appends the best pieces of `text`. In single precision throughout, and of equals the
    /// first found stays: so SentencePiece decides near ties.
    pub fn encode(&self, text: &[u8], cuts: &mut Vec<Cut>) {
        const NONE: Best = Best { score: 0.0, start: u32::MAX, id: 0 };
        let (mut short, mut long) = ([NONE; 64], Vec::new());
        let best = match text.len() {
            size if size < short.len() => &mut short[..=size],
            size => {
                long.resize(size + 1, NONE);
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
                let score = if self.favoured.binary_search(&id).is_ok() {
                    (f64::from(len as f32 * self.highest) - 0.1) as f32
                } else {
                    self.scores.get(id as usize).copied().unwrap_or_default()
                };
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
