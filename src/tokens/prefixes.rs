//! A trie over byte strings: which of them a text begins with.

/// A set of byte strings, each with a number.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// The edges of node `n` are those from `first[n]` to `first[n + 1]`, in the order of their bytes.
    first: Vec<u32>,
    bytes: Vec<u8>,
    to: Vec<u32>,
    /// What ends at each node.
    value: Vec<u32>,
}

/// The node of the empty string.
pub(super) const ROOT: u32 = 0;

impl Prefixes {
    /// The trie of these strings. Of equal strings the last counts; the empty one is left out.
    pub fn new<'a>(strings: impl IntoIterator<Item = (&'a [u8], u32)>) -> Self {
        let mut sorted: Vec<(&[u8], u32)> = strings.into_iter().filter(|(key, _)| !key.is_empty()).collect();
        sorted.sort_by_key(|&(key, _)| key);
        let mut trie = Self { value: vec![NONE], ..Self::default() };
        // Breadth first, so that the edges of a node lie together: the strings below each node.
        let mut below = vec![(0, sorted.len(), 0)];
        let mut node = 0;
        while let Some(&(mut low, high, depth)) = below.get(node) {
            trie.first.push(trie.to.len() as u32);
            while low < high && sorted[low].0.len() == depth {
                trie.value[node] = sorted[low].1;
                low += 1;
            }
            while low < high {
                let byte = sorted[low].0[depth];
                let count = sorted[low..high].partition_point(|(key, _)| key[depth] == byte);
                trie.bytes.push(byte);
                trie.to.push(trie.value.len() as u32);
                trie.value.push(NONE);
                below.push((low, low + count, depth + 1));
                low += count;
            }
            node += 1;
        }
        trie.first.push(trie.to.len() as u32);
        trie
    }

    /// The node that `byte` leads to.
    #[inline]
    pub fn step(&self, node: u32, byte: u8) -> Option<u32> {
        let (start, end) =
            (*self.first.get(node as usize)? as usize, *self.first.get(node as usize + 1)? as usize);
        let bytes = self.bytes.get(start..end)?;
        let at = if bytes.len() <= 8 {
            bytes.iter().position(|&other| other == byte)?
        } else {
            bytes.binary_search(&byte).ok()?
        };
        self.to.get(start + at).copied()
    }

    /// The number of the string that ends at a node.
    #[inline]
    pub fn value(&self, node: u32) -> Option<u32> {
        self.value.get(node as usize).copied().filter(|&value| value != NONE)
    }

    /// The number of a string.
    pub fn find(&self, text: &[u8]) -> Option<u32> {
        let node = text.iter().try_fold(ROOT, |node, &byte| self.step(node, byte))?;
        self.value(node)
    }

    /// Length and number of the longest string that `text` begins with.
    pub fn longest(&self, text: &[u8]) -> Option<(usize, u32)> {
        let (mut node, mut longest) = (ROOT, None);
        for (at, &byte) in text.iter().enumerate() {
            let Some(next) = self.step(node, byte) else { break };
            node = next;
            longest = self.value(node).map(|value| (at + 1, value)).or(longest);
        }
        longest
    }
}

const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn empty() {
        assert_eq!(Prefixes::default().find(b"a"), None);
        assert_eq!(Prefixes::new([(&b""[..], 1)]).longest(b"a"), None);
    }

    proptest! {
        #[test]
        fn as_a_map(keys: Vec<Vec<u8>>, small in prop::collection::vec("[ab]{1,4}", 0..20), text in "[ab]{0,6}") {
            let all: BTreeMap<Vec<u8>, u32> =
                keys.into_iter().chain(small.into_iter().map(Vec::from)).filter(|key| !key.is_empty()).zip(0..).collect();
            let trie = Prefixes::new(all.iter().map(|(key, &value)| (&key[..], value)));
            for (key, &value) in &all {
                prop_assert_eq!(trie.find(key), Some(value));
            }
            let text = text.as_bytes();
            prop_assert_eq!(trie.find(text), all.get(text).copied());
            let longest = (1..=text.len()).rev().find_map(|len| Some((len, *all.get(&text[..len])?)));
            prop_assert_eq!(trie.longest(text), longest);
        }
    }
}
