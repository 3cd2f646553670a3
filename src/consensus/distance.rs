//! Word distances of one text to many, all words of a step at once.

/// A text prepared for comparison: for each word the positions at which it stands, as bits.
pub(super) struct Pattern {
    /// Where each word's bits lie; words that do not occur share the first place, which has none.
    places: Vec<u32>,
    masks: Vec<u64>,
    /// 64-bit blocks for each word.
    blocks: usize,
    length: usize,
}

impl Pattern {
    /// Prepares a text of word numbers below `words`.
    pub fn new(text: &[u32], words: usize) -> Self {
        let blocks = text.len().div_ceil(64).max(1);
        let mut places = vec![0; words];
        let mut masks = vec![0; blocks];
        for (at, &word) in text.iter().enumerate() {
            let place = &mut places[word as usize];
            if *place == 0 {
                *place = (masks.len() / blocks) as u32;
                masks.resize(masks.len() + blocks, 0);
            }
            masks[*place as usize * blocks + at / 64] |= 1 << (at % 64);
        }
        Self { places, masks, blocks, length: text.len() }
    }

    /// Levenshtein distance to `other` (Myers 1999 in Hyyrö's form, blocks for long texts).
    pub fn distance(&self, other: &[u32]) -> u32 {
        if self.length == 0 {
            return other.len() as u32;
        }
        let mut columns = vec![(u64::MAX, 0u64); self.blocks];
        let last = self.blocks - 1;
        let top = 1u64 << ((self.length - 1) % 64);
        let mut distance = self.length as i64;
        for &word in other {
            // What moves from one block into the next: the row above the first rises by one.
            let (mut up, mut down) = (1u64, 0u64);
            let start = self.places[word as usize] as usize * self.blocks;
            for (at, (plus, minus)) in columns.iter_mut().enumerate() {
                let equal = self.masks[start + at];
                let vertical = equal | *minus;
                let equal = equal | down;
                let diagonal = (((equal & *plus).wrapping_add(*plus)) ^ *plus) | equal;
                let mut rise = *minus | !(diagonal | *plus);
                let mut fall = *plus & diagonal;
                if at == last {
                    distance += i64::from(rise & top != 0) - i64::from(fall & top != 0);
                }
                let carried = (rise >> 63, fall >> 63);
                rise = rise << 1 | up;
                fall = fall << 1 | down;
                *plus = fall | !(vertical | rise);
                *minus = rise & vertical;
                (up, down) = carried;
            }
        }
        distance as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(a: &[u32], b: &[u32]) -> u32 {
        let mut row: Vec<u32> = (0..=b.len() as u32).collect();
        for (i, x) in a.iter().enumerate() {
            let mut diagonal = i as u32;
            row[0] = i as u32 + 1;
            for (j, y) in b.iter().enumerate() {
                let best = (diagonal + u32::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
                diagonal = std::mem::replace(&mut row[j + 1], best);
            }
        }
        row[b.len()]
    }

    proptest! {
        #[test]
        fn as_the_recursion(
            a in prop::collection::vec(0u32..4, 0..12), b in prop::collection::vec(0u32..4, 0..12),
        ) {
            prop_assert_eq!(Pattern::new(&a, 4).distance(&b), plain(&a, &b));
        }

        #[test]
        fn longer_than_a_block(
            a in prop::collection::vec(0u32..3, 60..200), b in prop::collection::vec(0u32..3, 50..200),
        ) {
            prop_assert_eq!(Pattern::new(&a, 3).distance(&b), plain(&a, &b));
        }
    }
}
