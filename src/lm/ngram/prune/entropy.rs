//! What the loss of each n-gram would cost, and which ones stay.

use super::Keep;
use super::model::Model;

/// Prunes by relative rise of perplexity; `frequencies` are those of contexts, by order and row.
/// Returns the threshold.
pub(super) fn prune(model: &mut Model, keep: Keep, frequencies: &[Vec<f64>]) -> f64 {
    let orders: Vec<Order> =
        (2..=model.tables.len()).map(|n| Order::of(model, n, &frequencies[n - 2])).collect();
    let words = model.tables[0].codes.len() as u64;
    let size = |threshold: f64| {
        let kept = kept(&orders, threshold).into_iter().flatten().filter(|kept| *kept).count();
        words + kept as u64
    };
    let threshold = match keep {
        Keep::Threshold(threshold) => threshold,
        Keep::Most(most) if size(0.0) <= most => 0.0,
        Keep::Most(most) => {
            // Logarithms of the threshold.
            let (mut low, mut high) = (-80.0, 10.0);
            for _ in 0..50 {
                let middle = (low + high) / 2.0;
                if size(f64::exp(middle)) > most { low = middle } else { high = middle }
            }
            f64::exp(high)
        }
    };
    let mut rows = vec![vec![true; model.tables[0].codes.len()]];
    rows.extend(kept(&orders, threshold));
    model.select(&rows);
    model.renew_backoffs();
    threshold
}

/// What pruning needs to know of one order.
struct Order {
    /// Relative rise of perplexity if an n-gram alone were removed.
    costs: Vec<f64>,
    /// Rows, in the order below, of each n-gram's context and end.
    needs: Vec<[u32; 2]>,
}

impl Order {
    fn of(model: &Model, n: usize, frequencies: &[f64]) -> Self {
        let shorter = &model.tables[n - 2];
        let row = |code| shorter.find(code).map_or(NONE, |row| row as u32);
        let codes = &model.tables[n - 1].codes;
        let needs = codes.iter().map(|&code| [row(model.context(code)), row(model.shorter(code, n))]);
        let needs = if n == 2 { vec![[NONE; 2]; codes.len()] } else { needs.collect() };
        Self { costs: costs(model, n, frequencies), needs }
    }
}

/// The cost of each n-gram of an order: exp(D) - 1, where D is the relative entropy between the
/// model and the one without it (Stolcke 1998, eq. 7 and 8).
pub(super) fn costs(model: &Model, n: usize, frequencies: &[f64]) -> Vec<f64> {
    let lower = model.lower(n);
    let prob = &model.tables[n - 1].prob;
    let mut costs = vec![0.0; prob.len()];
    for (context, rows) in model.contexts(n) {
        let frequency = model.tables[n - 2].find(context).map_or(0.0, |row| frequencies[row]);
        let (left, left_lower) = model.left(n, rows.clone(), &lower);
        let before = left.ln() - left_lower.ln();
        for row in rows {
            let (p, q) = (prob[row], lower[row]);
            let after = (left + p).ln() - (left_lower + q).ln();
            let change = p * (q.ln() + after - p.ln()) + left * (after - before);
            costs[row] = (-frequency * change).exp_m1();
        }
    }
    costs
}

/// Which n-grams stay, by order from 2: the costly ones, and those that a longer one needs as its
/// beginning or its end.
fn kept(orders: &[Order], threshold: f64) -> Vec<Vec<bool>> {
    let mut all: Vec<Vec<bool>> = Vec::with_capacity(orders.len());
    let mut needed: Vec<bool> = Vec::new();
    for (at, order) in orders.iter().enumerate().rev() {
        let mut kept: Vec<bool> = order.costs.iter().map(|&cost| cost >= threshold).collect();
        for (kept, needed) in kept.iter_mut().zip(&needed) {
            *kept |= needed;
        }
        needed = vec![false; if at > 0 { orders[at - 1].costs.len() } else { 0 }];
        for (_, needs) in kept.iter().zip(&order.needs).filter(|(kept, _)| **kept) {
            for &row in needs {
                if let Some(needed) = needed.get_mut(row as usize) {
                    *needed = true;
                }
            }
        }
        all.push(kept);
    }
    all.reverse();
    all
}

const NONE: u32 = u32::MAX;
