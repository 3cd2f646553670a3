//! Byte pair encoding by the scores of pieces, as SentencePiece does it: of all neighbours that
//! make a piece, those of the highest score first, of equals the leftmost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::tokens::prefixes::Prefixes;
use crate::tokens::viterbi::Cut;

#[derive(Debug)]
pub(super) struct Merges {
    /// All pieces a text can have.
    pub pieces: Prefixes,
    /// Pieces that are not made of text: unknown, control and byte pieces.
    pub reserved: Prefixes,
    /// User-defined pieces: found first, and never merged.
    pub user: Prefixes,
    /// By id.
    pub scores: Vec<f32>,
    /// Ids that merge, and then come apart again; sorted.
    pub unused: Vec<u32>,
    pub unk: u32,
    /// Characters only: nothing merges.
    pub characters: bool,
}

/// A run of bytes; empty once it has become part of its neighbour.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    end: u32,
    previous: u32,
    next: u32,
    frozen: bool,
}

/// Two neighbours that make a piece. The derived order would look at the score last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    /// The score as an integer in the same order.
    score: i32,
    left: Reverse<u32>,
    right: u32,
    size: u32,
}

/// How a piece was made: where it starts, where it was joined, where it ends.
type Joint = (u32, u32, u32);

impl Merges {
    /// Appends the pieces of `text`.
    pub fn encode(&self, text: &[u8], cuts: &mut Vec<Cut>) {
        let mut symbols = self.symbols(text);
        let mut joints: Vec<Joint> = Vec::new();
        if !self.characters {
            self.merge(text, &mut symbols, &mut joints);
        }
        let mut at = if symbols.is_empty() { NONE } else { 0 };
        while let Some(&symbol) = symbols.get(at as usize) {
            self.finish(text, symbol.start, symbol.end, &joints, cuts);
            at = symbol.next;
        }
    }

    /// The number of a piece, the unknown one's if it is none.
    pub fn id(&self, piece: &[u8]) -> u32 {
        self.reserved.find(piece).or_else(|| self.pieces.find(piece)).unwrap_or(self.unk)
    }

    fn symbols(&self, text: &[u8]) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut start = 0;
        while start < text.len() {
            let user = self.user.longest(&text[start..]);
            let end = start + user.map_or_else(|| crate::tokens::char_len(&text[start..]), |(len, _)| len);
            let at = symbols.len() as u32;
            let next = if end < text.len() { at + 1 } else { NONE };
            symbols.push(Symbol {
                start: start as u32,
                end: end as u32,
                previous: at.checked_sub(1).unwrap_or(NONE),
                next,
                frozen: user.is_some(),
            });
            start = end;
        }
        symbols
    }

    fn merge(&self, text: &[u8], symbols: &mut [Symbol], joints: &mut Vec<Joint>) {
        let mut agenda = BinaryHeap::with_capacity(symbols.len());
        for right in 1..symbols.len() as u32 {
            self.pair(text, symbols, right - 1, right, &mut agenda, joints);
        }
        while let Some(Pair { left: Reverse(left), right, size, .. }) = agenda.pop() {
            let (a, b) = (symbols[left as usize], symbols[right as usize]);
            // One of them has become part of another since.
            if a.start == a.end || b.start == b.end || (a.end - a.start) + (b.end - b.start) != size {
                continue;
            }
            symbols[left as usize].end = b.end;
            symbols[left as usize].next = b.next;
            if let Some(next) = symbols.get_mut(b.next as usize) {
                next.previous = left;
            }
            symbols[right as usize].end = b.start;
            self.pair(text, symbols, a.previous, left, &mut agenda, joints);
            self.pair(text, symbols, left, b.next, &mut agenda, joints);
        }
    }

    fn pair(
        &self,
        text: &[u8],
        symbols: &[Symbol],
        left: u32,
        right: u32,
        agenda: &mut BinaryHeap<Pair>,
        joints: &mut Vec<Joint>,
    ) {
        let (Some(a), Some(b)) = (symbols.get(left as usize), symbols.get(right as usize)) else { return };
        if a.frozen || b.frozen {
            return;
        }
        let Some(id) = self.pieces.find(&text[a.start as usize..b.end as usize]) else { return };
        let score = self.scores.get(id as usize).copied().unwrap_or_default();
        agenda.push(Pair { score: ordered(score), left: Reverse(left), right, size: b.end - a.start });
        if self.unused.binary_search(&id).is_ok() {
            joints.push((a.start, a.end, b.end));
        }
    }

    /// Appends a piece, or what an unused one was made of.
    fn finish(&self, text: &[u8], start: u32, end: u32, joints: &[Joint], cuts: &mut Vec<Cut>) {
        if joints.is_empty() {
            return cuts.push(Cut { id: self.id(&text[start as usize..end as usize]), end });
        }
        let mut todo = vec![(start, end)];
        while let Some((start, end)) = todo.pop() {
            let piece = &text[start as usize..end as usize];
            let id = self.id(piece);
            // The latest way in which these bytes were joined, anywhere in the text.
            let same = |joint: &&Joint| &text[joint.0 as usize..joint.2 as usize] == piece;
            let joint = self.unused.binary_search(&id).ok().and_then(|_| joints.iter().rev().find(same));
            match joint {
                Some(joint) => {
                    let middle = start + (joint.1 - joint.0);
                    todo.extend([(middle, end), (start, middle)]);
                }
                None => cuts.push(Cut { id, end }),
            }
        }
    }
}

/// A number's place in the order of numbers; the zeros are one.
fn ordered(score: f32) -> i32 {
    let bits = (score + 0.0).to_bits() as i32;
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::ordered;

    #[test]
    fn scores_keep_their_order() {
        let scores = [f32::NEG_INFINITY, -3e8, -2.0, -1.5, -1e-40, 0.0, 1e-40, 1.0, 2.5, f32::INFINITY];
        assert!(scores.windows(2).all(|two| ordered(two[0]) < ordered(two[1])));
        assert_eq!(ordered(-0.0), ordered(0.0));
    }
}
