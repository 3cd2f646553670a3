//! Alignments of two sequences of words, and what they cost.

use super::wer::Counts;

/// Which alignment counts as the best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Alignment {
    /// The fewest errors: Kaldi's `compute-wer`, jiwer and everybody who writes a dozen lines of it.
    #[default]
    Levenshtein,
    /// NIST's `sclite`: a substitution costs 4, an insertion and a deletion 3 each, so that words that
    /// do not resemble each other are counted one for one only where nothing matches beside them.
    /// It never finds fewer errors. Words are compared as they are, as with its `-s`.
    Sclite,
}

impl Alignment {
    /// Cost of a substitution, and of an insertion or deletion.
    fn costs(self) -> (u64, u64) {
        match self {
            Self::Levenshtein => (1, 1),
            Self::Sclite => (4, 3),
        }
    }

    /// The recursion over one row. A cell holds the cost of a best alignment and how many
    /// insertions it has; deletions follow from the lengths, substitutions from the rest.
    ///
    /// Two bits between the two make the minimum prefer one step to another on a tie, on which the
    /// split into kinds depends. Kaldi takes an insertion before a deletion before a pair; sclite a
    /// pair before an insertion before a deletion.
    pub(super) fn count(self, reference: &[u32], hypothesis: &[u32], row: &mut Vec<u64>) -> Counts {
        match self {
            Self::Levenshtein => recursion::<1, 1, 2, 0, 1>(reference, hypothesis, row),
            Self::Sclite => recursion::<4, 3, 0, 1, 2>(reference, hypothesis, row),
        }
    }

    /// The step that leads to each cell of the matrix (reference x hypothesis). On a tie a pair comes
    /// first, then, as `align-text` has it, a deletion, or, as `sclite` has it, an insertion.
    pub(super) fn trace(self, reference: &[Vec<u8>], hypothesis: &[Vec<u8>]) -> Vec<u8> {
        let (pair_cost, single_cost) = self.costs();
        let width = hypothesis.len() + 1;
        let mut steps = vec![INSERT; (reference.len() + 1) * width];
        steps[0] = MATCH;
        let mut row: Vec<u64> = (0..width as u64).map(|n| n * single_cost).collect();
        for (i, said) in reference.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] += single_cost;
            steps[(i + 1) * width] = DELETE;
            for (j, heard) in hypothesis.iter().enumerate() {
                let pair = diagonal + if said == heard { 0 } else { pair_cost };
                let (deletion, insertion) = (row[j + 1] + single_cost, row[j] + single_cost);
                diagonal = row[j + 1];
                let delete = match self {
                    Self::Levenshtein => deletion <= insertion,
                    Self::Sclite => deletion < insertion,
                };
                let (cost, step) = match () {
                    () if pair <= deletion.min(insertion) => (pair, MATCH),
                    () if delete => (deletion, DELETE),
                    () => (insertion, INSERT),
                };
                row[j + 1] = cost;
                steps[(i + 1) * width + j + 1] = step;
            }
        }
        steps
    }
}

/// `S` and `D` are the costs of a substitution and of the others; the step of the least of `P` (pair),
/// `I` (insertion) and `X` (deletion) is taken on a tie.
fn recursion<const S: u64, const D: u64, const P: u64, const I: u64, const X: u64>(
    reference: &[u32],
    hypothesis: &[u32],
    row: &mut Vec<u64>,
) -> Counts {
    const COST: u64 = 1 << 34;
    const STEP: u64 = 1 << 32;
    const TIE: u64 = 3 * STEP;
    row.clear();
    row.extend((0..=reference.len() as u64).map(|n| n * D * COST));
    for &heard in hypothesis {
        let mut diagonal = row[0];
        row[0] += D * COST + 1;
        let mut left = row[0];
        for (cell, &said) in row[1..].iter_mut().zip(reference) {
            let pair = diagonal + u64::from(said != heard) * S * COST + P * STEP;
            let deletion = left + D * COST + X * STEP;
            let insertion = *cell + D * COST + I * STEP + 1;
            diagonal = *cell;
            left = pair.min(deletion).min(insertion) & !TIE;
            *cell = left;
        }
    }
    let last = row[reference.len()];
    let (cost, insertions) = (last / COST, last % STEP);
    let deletions = reference.len() as u64 + insertions - hypothesis.len() as u64;
    let substitutions = (cost - D * (insertions + deletions)) / S;
    Counts { substitutions, insertions, deletions, reference: reference.len() as u64 }
}

const MATCH: u8 = 0;
pub(super) const DELETE: u8 = 1;
pub(super) const INSERT: u8 = 2;

#[cfg(test)]
mod tests {
    use super::super::wer::{Edit, Scorer};
    use proptest::prelude::*;

    use super::*;

    fn sclite() -> Scorer {
        Scorer::words().alignment(Alignment::Sclite)
    }

    #[test]
    fn a_match_is_worth_two_single_errors() {
        let counts = |reference: &str, hypothesis: &str| {
            let mut scorer = sclite();
            scorer.reference(reference.as_bytes());
            let c = scorer.counts(hypothesis.as_bytes());
            (c.substitutions, c.insertions, c.deletions)
        };
        // Levenshtein: two substitutions; here one word matches for a deletion and an insertion.
        assert_eq!(counts("a b", "b c"), (0, 1, 1));
        // Three pairs cost as much as two of each other kind: pairs come first.
        assert_eq!(counts("a b c", "x y a"), (3, 0, 0));
        assert_eq!(counts("", "a"), (0, 1, 0));
        assert_eq!(counts("a", ""), (0, 0, 1));
    }

    /// The counts that Debian's `sctk sclite -s` prints for 2,400 pairs: random ones of few words,
    /// where ties are many, and some of real recognition.
    #[test]
    fn as_sclite() {
        let mut scorer = sclite();
        let mut lines = 0;
        for line in include_str!("../../fixtures/eval/sclite.tsv").lines().filter(|l| !l.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let number = |n: usize| fields[n].parse::<u64>().unwrap();
            scorer.reference(fields[0].as_bytes());
            let c = scorer.counts(fields[1].as_bytes());
            assert_eq!([c.substitutions, c.deletions, c.insertions], [2, 3, 4].map(number), "{line}");
            lines += 1;
        }
        assert!(lines >= 2000, "{lines} lines");
    }

    proptest! {
        /// The printed alignment has the counts, and they never say fewer errors than there are.
        #[test]
        fn alignments_and_counts_agree(reference in "[a-c ]{0,16}", hypothesis in "[a-d ]{0,16}") {
            let (mut scorer, mut plain) = (sclite(), Scorer::words());
            scorer.reference(reference.as_bytes());
            plain.reference(reference.as_bytes());
            let counts = scorer.counts(hypothesis.as_bytes());
            prop_assert!(counts.errors() >= plain.counts(hypothesis.as_bytes()).errors());
            let mut found = Counts { reference: counts.reference, ..Counts::default() };
            for edit in scorer.align(reference.as_bytes(), hypothesis.as_bytes()) {
                match edit {
                    Edit::Correct(_) => {}
                    Edit::Substitution { .. } => found.substitutions += 1,
                    Edit::Insertion(_) => found.insertions += 1,
                    Edit::Deletion(_) => found.deletions += 1,
                }
            }
            prop_assert_eq!(found, counts);
        }
    }
}
