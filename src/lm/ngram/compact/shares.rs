//! Finding the few shares that an interpolated model's probabilities are made of.

use std::collections::VecDeque;
use std::io;

use super::formula::{MAGNITUDE, share};
use super::level::{Level, Weights};
use super::sort::{Sorted, Sorter};
use super::spool::Space;

/// Shares in rising order.
pub(super) struct Shares {
    /// Bits, and how many n-grams seem to have it.
    shares: Vec<(u32, u32)>,
}

impl Shares {
    /// The shares of an order, as its probabilities show them. Each shows one with an error of a
    /// few units in the last place, so what many n-grams agree on is taken to be one.
    pub(super) fn of(level: &mut Level, space: &Space) -> io::Result<Self> {
        let mut sorter = Sorter::new(space, space.sorting(1));
        let mut none = 0u32;
        let least = least(level.count);
        level.each(|weights| {
            let (share, may) = estimate(&weights, 1.0);
            match share as f32 {
                share if share > 0.0 && share <= 1.0 && may < f64::from(share) => {
                    sorter.push(share.to_bits())
                }
                _ => {
                    none = none.saturating_add(1);
                    Ok(())
                }
            }
        })?;
        let mut shares = vec![(0, none)];
        peaks(&mut sorter.finish()?, least, |share| shares.push(share))?;
        Ok(Self { shares })
    }

    /// The symbol of an n-gram: the number of a share, and what is to be added to the prediction.
    ///
    /// `predict` gives the bits of |log10 p| that a share leads to.
    pub(super) fn symbol(&self, weights: &Weights, predict: impl Fn(f32) -> u32) -> Option<u32> {
        [1.5, 3.5].into_iter().find_map(|units| {
            let (share, may) = estimate(weights, units);
            let (low, high) = ((share - may).max(0.0) as f32, (share + may) as f32);
            // Positive numbers sort as their bits do.
            let from = self.shares.partition_point(|&(bits, _)| f32::from_bits(bits) < low);
            let within = self.shares[from..].iter().take(MOST);
            let within = within.take_while(|&&(bits, _)| f32::from_bits(bits) <= high);
            let (at, _) = (from..).zip(within).max_by_key(|(_, (_, count))| count)?;
            let predicted = predict(f32::from_bits(self.shares[at].0));
            let units = i64::from(weights.prob) - i64::from(predicted) + OFFSET;
            (0..2 * OFFSET).contains(&units).then(|| at as u32 * (2 * OFFSET as u32) + units as u32)
        })
    }

    /// A symbol as it is stored.
    pub(super) fn stored(&self, symbol: u32) -> (u32, u32) {
        let (at, units) = (symbol / (2 * OFFSET as u32), symbol % (2 * OFFSET as u32));
        (self.shares[at as usize].0, units.wrapping_sub(OFFSET as u32))
    }
}

/// Values that occur less often are no symbols. Keeps lists of them below a size.
pub(super) fn least(count: u64) -> u32 {
    u32::try_from(count >> 21).unwrap_or(u32::MAX).max(2)
}

fn estimate(weights: &Weights, units: f64) -> (f64, f64) {
    share(f32::from_bits(weights.prob | !MAGNITUDE), weights.context, weights.lower, units)
}

/// Values that are more frequent than all others within [`REACH`], in rising order.
fn peaks(sorted: &mut Sorted<u32>, least: u32, mut found: impl FnMut((u32, u32))) -> io::Result<()> {
    // Distinct values; those before `at` are decided.
    let mut window: VecDeque<(u32, u32)> = VecDeque::new();
    let mut at = 0;
    loop {
        let next = sorted.next()?;
        match (window.back_mut(), next) {
            (Some((value, count)), Some(next)) if *value == next => {
                *count = count.saturating_add(1);
                continue;
            }
            _ => {}
        }
        while let Some(&(value, count)) = window.get(at) {
            if next.is_some_and(|next| next - value <= REACH) {
                break;
            }
            let near = || window.iter().filter(|(other, _)| other.abs_diff(value) <= REACH);
            let highest = near().all(|&(other, more)| more < count || more == count && other >= value);
            let total = near().fold(0u32, |sum, &(_, count)| sum.saturating_add(count));
            if highest && total >= least {
                found((value, total));
            }
            at += 1;
            while window.front().is_some_and(|&(first, _)| value - first > REACH) {
                window.pop_front();
                at -= 1;
            }
        }
        let Some(next) = next else { return Ok(()) };
        window.push_back((next, 1));
    }
}

/// What is added to predictions lies within this.
const OFFSET: i64 = 8;
/// Units in the last place within which shares are one.
const REACH: u32 = 4;
/// Shares tried for one n-gram.
const MOST: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_near_a_frequent_one_are_that() {
        let space = Space::new(1 << 12, std::env::temp_dir());
        let mut sorter = Sorter::new(&space, 0);
        for (value, count) in [(98, 1), (99, 3), (100, 9), (101, 4), (103, 1), (110, 2), (111, 2), (500, 1)] {
            for _ in 0..count {
                sorter.push(value).unwrap();
            }
        }
        let mut found = Vec::new();
        peaks(&mut sorter.finish().unwrap(), 2, |peak| found.push(peak)).unwrap();
        assert_eq!(found, [(100, 18), (110, 4)]);
    }
}
