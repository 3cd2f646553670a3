//! What hypotheses cost: errors, which add up, or BLEU counts, which add up to something that does not.

use super::bleu::Bleu;

/// What is measured of each of many hypotheses.
#[derive(Debug, Clone)]
pub(super) enum Losses {
    /// Word or character errors.
    Errors(Vec<u32>),
    /// Counts for BLEU.
    Bleu(Vec<Bleu>),
}

/// A sum over hypotheses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sum {
    Errors(u64),
    Bleu(Bleu),
}

/// What is measured of the hypotheses of one list.
#[derive(Debug, Clone, Copy)]
pub enum Measured<'a> {
    /// Word or character errors of each.
    Errors(&'a [u32]),
    /// BLEU counts of each.
    Bleu(&'a [Bleu]),
}

/// A BLEU loss is what is missing to a score of 1, in so many parts.
pub const BLEU_PARTS: f64 = 1e9;

impl Losses {
    /// None yet, of the kind of `like`.
    pub fn none_like(like: &Self) -> Self {
        match like {
            Self::Errors(_) => Self::Errors(Vec::new()),
            Self::Bleu(_) => Self::Bleu(Vec::new()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Errors(all) => all.len(),
            Self::Bleu(all) => all.len(),
        }
    }

    /// Appends some of another's. Those of another kind are not appended.
    pub fn extend(&mut self, other: &Self, range: std::ops::Range<usize>) {
        match (self, other) {
            (Self::Errors(all), Self::Errors(other)) => all.extend_from_slice(&other[range]),
            (Self::Bleu(all), Self::Bleu(other)) => all.extend_from_slice(&other[range]),
            _ => {}
        }
    }

    /// Appends a list's. `false` if it is measured by something else.
    pub fn push(&mut self, list: Measured<'_>) -> bool {
        match (self, list) {
            (Self::Errors(all), Measured::Errors(list)) => all.extend_from_slice(list),
            (Self::Bleu(all), Measured::Bleu(list)) => all.extend_from_slice(list),
            _ => return false,
        }
        true
    }

    /// Nothing, of this kind.
    pub fn zero(&self) -> Sum {
        match self {
            Self::Errors(_) => Sum::Errors(0),
            Self::Bleu(_) => Sum::Bleu(Bleu::default()),
        }
    }

    /// One hypothesis'.
    pub fn at(&self, i: usize) -> Sum {
        match self {
            Self::Errors(all) => Sum::Errors(all[i].into()),
            Self::Bleu(all) => Sum::Bleu(all[i]),
        }
    }

    /// All of these together.
    pub fn sum(&self, hypotheses: impl Iterator<Item = usize>) -> Sum {
        match self {
            Self::Errors(all) => Sum::Errors(hypotheses.map(|i| u64::from(all[i])).sum()),
            Self::Bleu(all) => {
                let mut sum = Bleu::default();
                hypotheses.for_each(|i| sum += all[i]);
                Sum::Bleu(sum)
            }
        }
    }
}

impl Measured<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Errors(list) => list.len(),
            Self::Bleu(list) => list.len(),
        }
    }

    /// The best hypothesis' place: the first with the fewest errors, or with the best BLEU of its own,
    /// a count added to each precision but the first (Lin & Och 2004). For BLEU this is a good guess, for no
    /// hypothesis is best whatever the others are.
    pub(super) fn best(&self) -> Option<usize> {
        match self {
            Self::Errors(list) => (0..list.len()).min_by_key(|&i| (list[i], i)),
            Self::Bleu(list) => {
                let score = |counts: &Bleu| {
                    let mut smooth = *counts;
                    for order in 1..super::bleu::ORDERS {
                        smooth.correct[order] += 1;
                        smooth.total[order] += 1;
                    }
                    smooth.score()
                };
                (0..list.len()).max_by(|&a, &b| score(&list[a]).total_cmp(&score(&list[b])).then(b.cmp(&a)))
            }
        }
    }
}

impl Sum {
    pub fn add(&mut self, other: Self) {
        match (self, other) {
            (Self::Errors(sum), Self::Errors(more)) => *sum += more,
            (Self::Bleu(sum), Self::Bleu(more)) => *sum += more,
            _ => {}
        }
    }

    /// One hypothesis of the sum gives way to another.
    pub fn swap(&mut self, losses: &Losses, from: usize, to: usize) {
        match (self, losses) {
            (Self::Errors(sum), Losses::Errors(all)) => {
                *sum = *sum + u64::from(all[to]) - u64::from(all[from])
            }
            (Self::Bleu(sum), Losses::Bleu(all)) => {
                *sum += all[to];
                *sum -= all[from];
            }
            _ => {}
        }
    }

    /// What is to be made small: errors, or what is missing to a BLEU of 1 in [`BLEU_PARTS`].
    pub fn loss(&self) -> u64 {
        match self {
            Self::Errors(errors) => *errors,
            Self::Bleu(counts) => ((1.0 - counts.score() / 100.0) * BLEU_PARTS).round() as u64,
        }
    }
}
