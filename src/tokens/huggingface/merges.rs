//! Byte pair encoding by a list of merges, as the library `tokenizers` does it: the merge that comes
//! first in the list first, of equals the leftmost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Pairs of tokens: place in the list, and what they become.
pub(super) type Merges = HashMap<(u32, u32), (u32, u32)>;

#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    previous: u32,
    next: u32,
    gone: bool,
}

/// Merges `ids` in place.
pub(super) fn merge(merges: &Merges, ids: &mut Vec<u32>, start: usize) {
    let count = ids.len() - start;
    if count < 2 {
        return;
    }
    let symbol = |(at, &id): (usize, &u32)| Symbol {
        id,
        previous: (at as u32).checked_sub(1).unwrap_or(NONE),
        next: if at + 1 < count { at as u32 + 1 } else { NONE },
        gone: false,
    };
    let mut symbols: Vec<Symbol> = ids[start..].iter().enumerate().map(symbol).collect();
    // Rank, place, and what comes of it: the smallest first.
    let mut agenda = BinaryHeap::with_capacity(count);
    let look = |symbols: &[Symbol], left: u32, agenda: &mut BinaryHeap<Reverse<(u32, u32, u32)>>| {
        let Some(a) = symbols.get(left as usize) else { return };
        let Some(b) = symbols.get(a.next as usize) else { return };
        if let Some(&(rank, made)) = merges.get(&(a.id, b.id)) {
            agenda.push(Reverse((rank, left, made)));
        }
    };
    for left in 0..count as u32 - 1 {
        look(&symbols, left, &mut agenda);
    }
    while let Some(Reverse((_, left, made))) = agenda.pop() {
        let a = symbols[left as usize];
        let Some(&b) = symbols.get(a.next as usize).filter(|_| !a.gone) else { continue };
        // One of the two has become another since.
        if merges.get(&(a.id, b.id)).is_none_or(|&(_, other)| other != made) {
            continue;
        }
        symbols[a.next as usize].gone = true;
        symbols[left as usize] = Symbol { id: made, next: b.next, ..a };
        if let Some(next) = symbols.get_mut(b.next as usize) {
            next.previous = left;
        }
        look(&symbols, a.previous, &mut agenda);
        look(&symbols, left, &mut agenda);
    }
    ids.truncate(start);
    ids.extend(symbols.iter().filter(|symbol| !symbol.gone).map(|symbol| symbol.id));
}

const NONE: u32 = u32::MAX;
