//! Shares of a linear mixture by expectation maximisation: what SRILM's `compute-best-mix` does.

/// Shares that make a text most likely, from the natural log probability that each member gives
/// each word; a row for each word. They sum to 1. The likelihood has one maximum, so that no start
/// and no seed matters.
///
/// A row with a value that is not finite says nothing about the shares (a word that not all members
/// know is scored by the others alone) and is left out; without any row the shares are equal.
///
/// ```
/// use secondpass::eval::mixture::shares;
/// // One member is always twice as good as the other: it gets everything.
/// let rows = vec![vec![-1.0, -1.0 - 2f64.ln()]; 10];
/// assert!(shares(&rows)[0] > 0.999);
/// ```
pub fn shares(rows: &[Vec<f64>]) -> Vec<f64> {
    let members = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut shares = vec![1.0 / members.max(1) as f64; members];
    let whole = |row: &&Vec<f64>| row.len() == members && row.iter().all(|ln| ln.is_finite());
    // Relative to the likeliest, so that no probability is too small for a number.
    let rows: Vec<Vec<f64>> = rows
        .iter()
        .filter(whole)
        .map(|row| {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter().map(|ln| (ln - top).exp()).collect()
        })
        .collect();
    if rows.is_empty() {
        return shares;
    }
    for _ in 0..MOST_ROUNDS {
        let mut next = vec![0.0; members];
        for row in &rows {
            let sum: f64 = row.iter().zip(&shares).map(|(p, share)| p * share).sum();
            for ((next, p), share) in next.iter_mut().zip(row).zip(&shares) {
                *next += p * share / sum / rows.len() as f64;
            }
        }
        let moved = next.iter().zip(&shares).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        shares = next;
        if moved < CLOSE {
            break;
        }
    }
    shares
}

/// Far more than any text needs.
const MOST_ROUNDS: usize = 10_000;

/// A share is known when a round moves it by less.
const CLOSE: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;

    /// The maximum by brute force.
    #[test]
    fn the_likeliest_shares() {
        let mut state = 1u64;
        let mut number = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / f64::from(1u32 << 31)
        };
        let rows: Vec<Vec<f64>> = (0..400).map(|_| vec![-8.0 * number(), -900.0 - 6.0 * number()]).collect();
        let near: Vec<Vec<f64>> = rows.iter().map(|r| vec![r[0], r[1] + 899.0]).collect();
        let likelihood = |share: f64| -> f64 {
            near.iter().map(|r| (share * r[0].exp() + (1.0 - share) * r[1].exp()).ln()).sum()
        };
        let best =
            (1..10_000).map(|n| f64::from(n) / 1e4).max_by(|&a, &b| likelihood(a).total_cmp(&likelihood(b)));
        let found = shares(&near);
        assert!((found[0] - best.unwrap()).abs() < 2e-4, "{found:?} {best:?}");
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        // Probabilities that no number holds.
        assert!(shares(&rows)[0] > 0.999_999);
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let rows = [vec![-1.0, f64::NAN], vec![f64::NEG_INFINITY, -1.0], vec![-2.0, -2.0]];
        assert_eq!(shares(&rows), [0.5, 0.5]);
        assert_eq!(shares(&rows[..2]), [0.5, 0.5]);
        assert!(shares(&[]).is_empty());
    }
}
