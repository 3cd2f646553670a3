//! The prefix trie: one language model's view of the hypotheses of one utterance.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::fast::RandomState;

/// The root: the history before the first token (`<s>`, or the carried state and `<s>`).
pub const ROOT: u32 = 0;

/// Hypotheses as a trie of token ids: each distinct history is one node.
///
/// Node 0 is the root and scores nothing; a parent's number is below its children's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trie {
    /// The token that leads to each node; for the root, the model's start token.
    pub token: Vec<u32>,
    /// Each node's parent; the root's own number for the root.
    pub parent: Vec<u32>,
    /// Which word of the path a node's token belongs to, from 0; `</s>` counts as one.
    pub word: Vec<u32>,
    /// The last node of each sequence, in the order they were given.
    pub ends: Vec<u32>,
    /// Tokens of all sequences together: what scoring each alone would have cost.
    pub raw: u64,
}

/// Builds a [`Trie`] sequence by sequence, keeping its scratch between utterances.
#[derive(Debug, Default)]
pub struct Builder {
    /// First child and next sibling of each node: most have few children, for which a map would be slower.
    first: Vec<u32>,
    next: Vec<u32>,
    /// Children of nodes that have [`FEW`] already, by parent, token and word. Seeded by chance: texts are
    /// others'.
    further: HashMap<(u32, u32, u32), u32, RandomState>,
    trie: Trie,
}

impl Trie {
    /// Number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.token.len()
    }

    /// Whether there is nothing to score.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// The nodes from below the root to `node`, last first.
    pub fn path(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = node;
        std::iter::from_fn(move || {
            let node = at;
            at = self.parent[node as usize];
            (node != ROOT).then_some(node)
        })
    }
}

impl Builder {
    /// Starts a trie whose histories all begin with `start`.
    pub fn start(&mut self, start: u32) {
        self.first.clear();
        self.next.clear();
        self.further.clear();
        self.first.push(NONE);
        self.next.push(NONE);
        self.trie = Trie { token: vec![start], parent: vec![ROOT], word: vec![0], ends: Vec::new(), raw: 0 };
    }

    /// Adds one sequence of tokens with the word each belongs to; returns its last node.
    ///
    /// # Panics
    /// If `tokens` and `words` differ in length or [`Builder::start`] was not called.
    pub fn push(&mut self, tokens: &[u32], words: &[u32]) -> u32 {
        assert_eq!(tokens.len(), words.len(), "a word for each token");
        let mut node = ROOT;
        for (&token, &word) in tokens.iter().zip(words) {
            node = self.child(node, token, word);
        }
        self.trie.ends.push(node);
        self.trie.raw += tokens.len() as u64;
        node
    }

    /// The finished trie.
    pub fn finish(&mut self) -> Trie {
        std::mem::take(&mut self.trie)
    }

    fn child(&mut self, parent: u32, token: u32, word: u32) -> u32 {
        let mut at = self.first[parent as usize];
        let (mut last, mut children) = (NONE, 0);
        while at != NONE {
            if self.trie.token[at as usize] == token && self.trie.word[at as usize] == word {
                return at;
            }
            last = at;
            at = self.next[at as usize];
            children += 1;
        }
        let node = self.trie.token.len() as u32;
        if children == FEW {
            match self.further.entry((parent, token, word)) {
                Entry::Occupied(known) => return *known.get(),
                Entry::Vacant(place) => {
                    place.insert(node);
                }
            }
        }
        self.trie.token.push(token);
        self.trie.parent.push(parent);
        self.trie.word.push(word);
        self.first.push(NONE);
        self.next.push(NONE);
        match last {
            _ if children == FEW => {}
            NONE => self.first[parent as usize] = node,
            last => self.next[last as usize] = node,
        }
        node
    }
}

const NONE: u32 = u32::MAX;
/// Children that are looked through one by one.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(sequences: &[Vec<u32>]) -> Trie {
        let mut builder = Builder::default();
        builder.start(7);
        for tokens in sequences {
            let words: Vec<u32> = (0..tokens.len() as u32).collect();
            builder.push(tokens, &words);
        }
        builder.finish()
    }

    #[test]
    fn equal_prefixes_are_one_node() {
        let trie = build(&[vec![1, 2, 3], vec![1, 2, 4], vec![1, 2, 3], vec![]]);
        assert_eq!(trie.token, [7, 1, 2, 3, 4]);
        assert_eq!(trie.parent, [0, 0, 1, 2, 2]);
        assert_eq!(trie.ends, [3, 4, 3, 0]);
        assert_eq!(trie.raw, 9);
    }

    #[test]
    fn nodes_may_have_many_children() {
        let many = 5 * FEW as u32;
        let sequences: Vec<Vec<u32>> = (0..2 * many).map(|at| vec![at % many, 3, at / 2]).collect();
        let trie = build(&sequences);
        // Below the root each token is there once; of the sequences, two begin alike, and none are equal.
        assert_eq!(trie.len() as u32, 1 + many + many + 2 * many);
        for (tokens, &end) in sequences.iter().zip(&trie.ends) {
            let mut back: Vec<u32> = trie.path(end).map(|node| trie.token[node as usize]).collect();
            back.reverse();
            assert_eq!(tokens, &back);
        }
        // What was built before leaves nothing behind.
        let mut builder = Builder::default();
        for _ in 0..2 {
            builder.start(7);
            for tokens in &sequences {
                builder.push(tokens, &[0, 1, 2]);
            }
            assert_eq!(builder.finish(), trie);
        }
    }

    proptest! {
        #[test]
        fn each_sequence_is_read_back_and_no_history_occurs_twice(
            sequences in prop::collection::vec(prop::collection::vec(0u32..4, 0..8), 0..20)
        ) {
            let trie = build(&sequences);
            let mut histories = std::collections::HashSet::new();
            for node in 0..trie.len() as u32 {
                prop_assert!(node == 0 || trie.parent[node as usize] < node);
                let mut history: Vec<u32> = trie.path(node).map(|n| trie.token[n as usize]).collect();
                history.reverse();
                prop_assert!(histories.insert(history));
            }
            let prefixes: std::collections::HashSet<&[u32]> =
                sequences.iter().flat_map(|s| (0..=s.len()).map(|n| &s[..n])).collect();
            prop_assert_eq!(trie.len(), prefixes.len().max(1));
            for (tokens, &end) in sequences.iter().zip(&trie.ends) {
                let mut back: Vec<u32> = trie.path(end).map(|n| trie.token[n as usize]).collect();
                back.reverse();
                prop_assert_eq!(tokens, &back);
            }
        }
    }
}
