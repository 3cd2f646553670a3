//! The search under the tuner: exact line search along directions of weight space.
//!
//! Along a line each hypothesis's total is a straight line, the winner of a list is the upper
//! envelope of them, and the loss of the set (errors, or BLEU) is piecewise constant (Och 2003). One
//! pass over the crossings of all lists therefore finds the least loss there is on the line, however
//! small the interval.

use std::ops::Range;

use super::envelope::upper_envelope;
use super::lists::Lists;
use super::loss::Sum;
use crate::random::Random;

/// What a weight may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) min: f64,
    pub(super) max: f64,
    /// A weight's natural step: what makes its feature vary as much as the first pass does.
    pub(super) unit: f64,
}

/// A place in weight space.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) weights: Vec<f64>,
    pub(super) loss: u64,
    totals: Vec<f64>,
}

/// Lists with bounds on their weights: those with `min < max` and `unit > 0` are free.
pub(super) struct Search<'a> {
    lists: &'a Lists,
    bounds: &'a [Bounds],
    /// For each free feature the hypotheses of each list by its value, rising: the order of the
    /// lines along its axis, which no weight changes.
    orders: Vec<Vec<u32>>,
}

impl<'a> Search<'a> {
    /// A search over `lists`, with bounds for each weight.
    pub(super) fn new(lists: &'a Lists, bounds: &'a [Bounds]) -> Self {
        let mut search = Self { lists, bounds, orders: vec![Vec::new(); bounds.len()] };
        for k in search.free() {
            search.orders[k] = search.order(&lists.columns[k]);
        }
        search
    }

    /// The point of these weights, moved into the bounds.
    pub(super) fn point(&self, mut weights: Vec<f64>) -> Point {
        for (weight, bounds) in weights.iter_mut().zip(self.bounds) {
            *weight = weight.clamp(bounds.min, bounds.max);
        }
        let totals = self.lists.totals(&weights);
        let mut sum = self.lists.losses.sum(self.lists.winners(&totals));
        sum.add(self.lists.rest);
        Point { weights, loss: sum.loss(), totals }
    }

    /// A random start: each feature up to some times as important as the first pass, or less.
    pub(super) fn random(&self, weights: &[f64], random: &mut Random) -> Point {
        let mut weights = weights.to_vec();
        for k in self.free() {
            let Bounds { min, max, unit } = self.bounds[k];
            let sign = if max <= 0.0 || min < 0.0 && random.unit() < 0.25 { -1.0 } else { 1.0 };
            weights[k] = match min.is_finite() && max.is_finite() {
                true => random.range(min, max),
                false => sign * unit * random.range(-3.0, 2.0).exp(),
            };
        }
        self.point(weights)
    }

    /// Searches along one axis after the other until nothing mends.
    pub(super) fn descend(&self, mut at: Point, random: &mut Random) -> Point {
        let mut axes = self.free();
        // Axes along which nothing is better than where we are.
        let mut settled = vec![false; self.bounds.len()];
        loop {
            random.shuffle(&mut axes);
            let mut moved = false;
            for &k in &axes {
                if !settled[k] && self.improve(&mut at, &self.axis(k)) {
                    settled.fill(false);
                    moved = true;
                }
                settled[k] = true;
            }
            if !moved {
                return at;
            }
        }
    }

    /// Searches across the axes too, in random directions, until many in turn mend nothing.
    /// Dearer than [`Search::descend`], so for the best of its results only.
    pub(super) fn cross(&self, mut at: Point, random: &mut Random) -> Point {
        let axes = self.free();
        let mut failed = 0;
        while axes.len() > 1 && failed < 4 * axes.len() {
            let mut direction = vec![0.0; self.bounds.len()];
            axes.iter().for_each(|&k| direction[k] = self.bounds[k].unit * random.range(-1.0, 1.0));
            if self.improve(&mut at, &direction) {
                at = self.descend(at, random);
                failed = 0;
            } else {
                failed += 1;
            }
        }
        at
    }

    /// Moves each weight to the middle of the widest interval in which the loss is at most
    /// `slack` above the least: the centre of a wide valley holds on other data, its deepest
    /// crack need not (Cer 2008). The result has at most the loss `limit`.
    pub(super) fn centre(&self, mut at: Point, slack: u64, limit: u64) -> Point {
        for k in self.free() {
            let direction = self.axis(k);
            if let Some((x, _)) = self.line(&at, &direction, slack) {
                let point = self.moved(&at, &direction, x);
                if point.loss <= limit {
                    at = point;
                }
            }
        }
        at
    }

    /// The middle of the widest interval on the line, relative to `at`, in which the loss is
    /// at most `slack` above the line's minimum; and the loss there. `None` if the line has
    /// no length.
    pub(super) fn line(&self, at: &Point, direction: &[f64], slack: u64) -> Option<(f64, u64)> {
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        for ((&d, &weight), bounds) in direction.iter().zip(&at.weights).zip(self.bounds) {
            if d != 0.0 {
                let (a, b) = ((bounds.min - weight) / d, (bounds.max - weight) / d);
                low = low.max(a.min(b));
                high = high.min(a.max(b));
            }
        }
        let mut steps = Vec::new();
        let sum = match (0..direction.len()).find(|&k| direction[k] == 1.0 && !self.orders[k].is_empty()) {
            Some(k) => self.steps(at, &self.lists.columns[k], &self.orders[k], low..high, &mut steps),
            None => {
                let slopes = self.lists.totals(direction);
                self.steps(at, &slopes, &self.order(&slopes), low..high, &mut steps)
            }
        };
        steps.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        // An endless interval is cut one natural step beyond what is known.
        let unit =
            direction.iter().zip(self.bounds).filter(|(d, _)| **d != 0.0).map(|(d, b)| b.unit / d.abs());
        let unit = unit.fold(f64::INFINITY, f64::min);
        if low.is_infinite() {
            low = steps.first().map_or(0.0, |s| s.0.min(0.0)) - unit;
        }
        if high.is_infinite() {
            high = steps.last().map_or(0.0, |s| s.0.max(0.0)) + unit;
        }
        // Crossings of several lists at one place come out apart by rounding; what lies between
        // them does not exist.
        widest(&self.intervals(low..high, sum, &steps, 1e-9 * unit), slack)
    }

    fn improve(&self, at: &mut Point, direction: &[f64]) -> bool {
        match self.line(at, direction, 0) {
            Some((x, loss)) if loss < at.loss => {
                // Rounding may make the winner at x another than the crossings say.
                let point = self.moved(at, direction, x);
                let better = point.loss < at.loss;
                if better {
                    *at = point;
                }
                better
            }
            _ => false,
        }
    }

    fn moved(&self, at: &Point, direction: &[f64], x: f64) -> Point {
        self.point(at.weights.iter().zip(direction).map(|(w, d)| w + x * d).collect())
    }

    fn free(&self) -> Vec<usize> {
        let free = |k: &usize| self.bounds[*k].min < self.bounds[*k].max && self.bounds[*k].unit > 0.0;
        (0..self.bounds.len()).filter(free).collect()
    }

    fn axis(&self, k: usize) -> Vec<f64> {
        let mut direction = vec![0.0; self.bounds.len()];
        direction[k] = 1.0;
        direction
    }

    /// The hypotheses of each list, by slope.
    fn order(&self, slopes: &[f64]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..slopes.len() as u32).collect();
        for range in self.lists.ranges() {
            order[range].sort_by(|&a, &b| slopes[a as usize].total_cmp(&slopes[b as usize]));
        }
        order
    }

    /// Appends where on the line a list's winner changes, and from which to which; returns the sum
    /// at the low end.
    fn steps(
        &self,
        at: &Point,
        slopes: &[f64],
        order: &[u32],
        within: Range<f64>,
        steps: &mut Vec<(f64, u32, u32)>,
    ) -> Sum {
        let mut envelope = Vec::new();
        let mut sum = self.lists.rest;
        for range in self.lists.ranges() {
            upper_envelope(&at.totals, slopes, &order[range], &mut envelope);
            let first = envelope.partition_point(|line| line.start <= within.start).saturating_sub(1);
            let mut before = envelope[first].at;
            sum.add(self.lists.losses.at(before as usize));
            for line in envelope[first + 1..].iter().take_while(|line| line.start < within.end) {
                // A change of winner without a change of errors is kept: at the very place others
                // may tie, so that no weight must come to lie on it.
                steps.push((line.start, before, line.at));
                before = line.at;
            }
        }
        sum
    }

    /// The intervals between crossings, as (start, end, loss), that are wider than `width`.
    fn intervals(
        &self,
        within: Range<f64>,
        mut sum: Sum,
        steps: &[(f64, u32, u32)],
        width: f64,
    ) -> Vec<(f64, f64, u64)> {
        let mut intervals = Vec::with_capacity(steps.len() + 1);
        let mut start = within.start;
        for &(x, from, to) in steps {
            if x - start > width {
                intervals.push((start, x, sum.loss()));
                start = x;
            }
            sum.swap(&self.lists.losses, from as usize, to as usize);
        }
        if within.end - start > width {
            intervals.push((start, within.end, sum.loss()));
        }
        intervals
    }
}

/// The middle of the widest run of intervals within `slack` of the least loss, and the loss there. Where the middle is itself a crossing, with its ties, the middle of the interval beside it.
fn widest(intervals: &[(f64, f64, u64)], slack: u64) -> Option<(f64, u64)> {
    let limit = intervals.iter().map(|i| i.2).min()? + slack;
    let runs = intervals.chunk_by(|a, b| (a.2 <= limit) == (b.2 <= limit)).filter(|run| run[0].2 <= limit);
    let width = |run: &[(f64, f64, u64)]| run[run.len() - 1].1 - run[0].0;
    let run = runs.reduce(|a, b| if width(b) > width(a) { b } else { a })?;
    let middle = run[0].0 + width(run) / 2.0;
    let &(start, end, loss) = run.iter().find(|i| middle < i.1).or(run.last())?;
    let margin = (end - start) * 1e-3;
    let inside = start + margin < middle && middle < end - margin;
    Some((if inside { middle } else { start + (end - start) / 2.0 }, loss))
}

#[cfg(test)]
mod tests {
    use super::super::bleu::Bleu;
    use super::super::loss::{Losses, Measured};
    use super::*;
    use proptest::prelude::*;

    /// The loss at `x` along the axis 1, by ranking.
    fn brute(search: &Search, x: f64) -> u64 {
        search.point(vec![1.0, x]).loss
    }

    /// Small integers make many ties, parallel lines and common crossings; errors or BLEU.
    fn small() -> impl Strategy<Value = (Lists, f64, f64)> {
        let hypothesis = (-4i32..5, -4i32..5, 0u32..6);
        let list = prop::collection::vec(hypothesis, 1..7);
        (prop::collection::vec(list, 1..6), -6i32..1, 1i32..7, 0u8..3, any::<bool>()).prop_map(
            |(lists, low, high, open, bleu)| {
                let like = if bleu { Losses::Bleu(Vec::new()) } else { Losses::Errors(Vec::new()) };
                let mut out = Lists::empty(2, &like);
                for list in lists {
                    for (a, b, errors) in list {
                        out.columns[0].push(f64::from(a));
                        out.columns[1].push(f64::from(b));
                        let correct = [9, 8, 7, 6].map(|all: u64| all - u64::from(errors));
                        let counts = Bleu { correct, total: [9, 8, 7, 6], length: 9, reference: 10 };
                        out.losses.push(Measured::Errors(&[errors]));
                        out.losses.push(Measured::Bleu(&[counts]));
                    }
                    out.ends.push(out.losses.len());
                }
                match open {
                    0 => (out, f64::NEG_INFINITY, f64::INFINITY),
                    1 => (out, f64::from(low), f64::INFINITY),
                    _ => (out, f64::from(low), f64::from(high) + 0.3),
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_least_loss_on_a_line((lists, low, high) in small(), from in -3i32..4) {
            let fixed = Bounds { min: 1.0, max: 1.0, unit: 1.0 };
            let bounds = [fixed, Bounds { min: low, max: high, unit: 1.0 }];
            let search = Search::new(&lists, &bounds);
            let at = search.point(vec![1.0, f64::from(from)]);
            let (x, loss) = search.line(&at, &[0.0, 1.0], 0).unwrap();
            // Every crossing there can be, the bounds, and a place between each two.
            let mut marks = vec![low.max(-99.0), high.min(99.0)];
            for range in lists.ranges() {
                for i in range.clone() {
                    for j in range.clone() {
                        let x = (lists.columns[0][i] - lists.columns[0][j]) / (lists.columns[1][j] - lists.columns[1][i]);
                        marks.extend((x.is_finite() && x > low && x < high).then_some(x));
                    }
                }
            }
            marks.sort_by(f64::total_cmp);
            // One crossing, computed from several pairs, must not count as an interval.
            marks.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
            let least = marks.windows(2).map(|m| brute(&search, (m[0] + m[1]) / 2.0)).min().unwrap();
            prop_assert_eq!(loss, least);
            prop_assert_eq!(brute(&search, at.weights[1] + x), least);
        }
    }

    /// Four features of small integers.
    fn several() -> impl Strategy<Value = Lists> {
        let list = prop::collection::vec((prop::array::uniform4(-4i32..5), 0u32..6), 1..7);
        prop::collection::vec(list, 1..8).prop_map(|lists| {
            let mut out = Lists::empty(4, &Losses::Errors(Vec::new()));
            for list in lists {
                for (values, errors) in list {
                    out.columns.iter_mut().zip(values).for_each(|(column, v)| column.push(f64::from(v)));
                    out.losses.push(Measured::Errors(&[errors]));
                }
                out.ends.push(out.losses.len());
            }
            out
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        /// Axes that are passed over hold nothing better: ranked at every place between two crossings.
        #[test]
        fn no_axis_leads_down_from_where_the_search_ends(lists in several(), seed in 0u64..1000) {
            let fixed = Bounds { min: 1.0, max: 1.0, unit: 1.0 };
            let free = Bounds { min: f64::NEG_INFINITY, max: f64::INFINITY, unit: 1.0 };
            let bounds = [fixed, free, Bounds { min: 0.0, ..free }, Bounds { min: -1.5, max: 2.25, unit: 1.0 }];
            let search = Search::new(&lists, &bounds);
            let random = &mut Random::new(seed);
            let at = search.descend(search.random(&[1.0, 0.0, 0.0, 0.0], random), random);
            for (k, column) in lists.columns.iter().enumerate().skip(1) {
                let mut marks = vec![bounds[k].min.max(-999.0), bounds[k].max.min(999.0)];
                for range in lists.ranges() {
                    for (i, j) in range.clone().flat_map(|i| range.clone().map(move |j| (i, j))) {
                        let x = at.weights[k] + (at.totals[i] - at.totals[j]) / (column[j] - column[i]);
                        marks.extend((marks[0] < x && x < marks[1]).then_some(x));
                    }
                }
                marks.sort_by(f64::total_cmp);
                marks.dedup_by(|a, b| (*a - *b).abs() < 1e-8);
                for pair in marks.windows(2) {
                    let mut weights = at.weights.clone();
                    weights[k] = (pair[0] + pair[1]) / 2.0;
                    prop_assert!(search.point(weights).loss >= at.loss, "axis {} at {:?}", k, pair);
                }
            }
        }
    }

    #[test]
    fn the_widest_interval_within_the_tolerance() {
        let intervals = [(0.0, 1.0, 5), (1.0, 1.1, 3), (1.1, 4.0, 9), (4.0, 6.0, 4), (6.0, 8.0, 5)];
        assert_eq!(widest(&intervals, 0), Some((1.05, 3)));
        assert_eq!(widest(&intervals, 1), Some((5.0, 4)));
        // 6, the middle of (4, 8), is a crossing.
        assert_eq!(widest(&intervals, 2), Some((7.0, 5)));
        assert_eq!(widest(&[], 2), None);
    }

    #[test]
    fn an_endless_interval_is_cut() {
        // The second hypothesis wins right of 2; right is right.
        let losses = Losses::Errors(vec![1, 0]);
        let columns = vec![vec![0.0, -2.0], vec![0.0, 1.0]];
        let lists = Lists { columns, rest: losses.zero(), losses, ends: vec![2] };
        let free = Bounds { min: f64::NEG_INFINITY, max: f64::INFINITY, unit: 0.5 };
        let bounds = [Bounds { min: 1.0, max: 1.0, unit: 1.0 }, free];
        let search = Search::new(&lists, &bounds);
        let at = search.point(vec![1.0, 0.0]);
        assert_eq!(search.line(&at, &[0.0, 1.0], 0), Some((2.25, 0)));
        assert_eq!(search.descend(at, &mut Random::new(1)).weights, [1.0, 2.25]);
    }
}
