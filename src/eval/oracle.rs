//! Oracle errors: what a perfect second pass could make of the lists.

use super::wer::Counts;

/// Sums, over utterances, the errors of the best hypothesis among the first 1, 2, 4, 8 .. N.
///
/// Among hypotheses with the fewest errors the first counts. A list shorter than a depth
/// contributes all it has.
///
/// ```
/// use secondpass::eval::{Oracle, Scorer};
/// let mut scorer = Scorer::words();
/// scorer.reference(b"a cat sat");
/// let mut oracle = Oracle::default();
/// oracle.add(&["a cat sad", "a cad sat", "a cat sat"].map(|text| scorer.counts(text.as_bytes())));
/// let errors: Vec<_> = oracle.depths().map(|(n, counts)| (n, counts.errors())).collect();
/// assert_eq!(errors, [(1, 1), (2, 1), (3, 0)]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    /// Sums for the depths 1, 2, 4 .. below `longest`.
    powers: Vec<Counts>,
    all: Counts,
    longest: usize,
}

impl Oracle {
    /// Adds one utterance: the counts of its hypotheses in first-pass order. For a list without
    /// hypotheses give [`Counts::missing`] alone; an empty slice adds nothing.
    pub fn add(&mut self, list: &[Counts]) {
        self.longest = self.longest.max(list.len());
        while 1 << self.powers.len() < self.longest {
            // Every earlier list is shorter than this depth.
            self.powers.push(self.all);
        }
        let mut depths = self.powers.iter_mut().enumerate();
        let mut depth = depths.next();
        let mut best: Option<Counts> = None;
        for (n, &counts) in list.iter().enumerate() {
            if best.is_none_or(|b| counts.errors() < b.errors()) {
                best = Some(counts);
            }
            if let (Some((power, sum)), Some(best)) = (&mut depth, best)
                && n + 1 == 1 << *power
            {
                **sum += best;
                depth = depths.next();
            }
        }
        let best = best.unwrap_or_default();
        depth.into_iter().chain(depths).for_each(|(_, sum)| *sum += best);
        self.all += best;
    }

    /// The depths 1, 2, 4 .. and last the length of the longest list, with their counts.
    pub fn depths(&self) -> impl Iterator<Item = (usize, Counts)> + '_ {
        let powers = self.powers.iter().enumerate().map(|(power, &counts)| (1 << power, counts));
        powers.chain((self.longest > 0).then_some((self.longest, self.all)))
    }

    /// The counts over whole lists.
    pub fn all(&self) -> Counts {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_brute_force(lists in prop::collection::vec(prop::collection::vec(0u64..5, 1..20), 0..8)) {
            let counts = |list: &Vec<u64>| -> Vec<Counts> {
                // The insertions tell which of two equally wrong hypotheses was taken.
                let one = |(n, &errors): (usize, &u64)| Counts {
                    insertions: n as u64 % (errors + 1), substitutions: errors - n as u64 % (errors + 1),
                    ..Counts::missing(0)
                };
                list.iter().enumerate().map(one).collect()
            };
            let mut oracle = Oracle::default();
            lists.iter().for_each(|list| oracle.add(&counts(list)));
            let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
            let mut depths: Vec<usize> = (0..8).map(|p| 1 << p).filter(|&n| n < longest).collect();
            depths.extend((longest > 0).then_some(longest));
            let expected: Vec<(usize, Counts)> = depths.into_iter().map(|depth| {
                let best = |list: &Vec<u64>| *counts(list).iter().take(depth).min_by_key(|c| c.errors()).unwrap();
                (depth, lists.iter().map(best).sum())
            }).collect();
            prop_assert_eq!(oracle.depths().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let mut oracle = Oracle::default();
        assert_eq!(oracle.depths().count(), 0);
        oracle.add(&[]);
        oracle.add(&[Counts::missing(3)]);
        assert_eq!(oracle.depths().collect::<Vec<_>>(), [(1, Counts::missing(3))]);
    }
}
