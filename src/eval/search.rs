//! The search under the tuner: exact line search along directions of weight space.
//!
//! Along a line each hypothesis's total is a straight line, the winner of a list is the upper
//! envelope of them, and the errors of the set are piecewise constant (Och 2003). One pass over
//! the crossings of all lists therefore finds the least errors there are on the line, however
//! small the interval.

use super::random::Random;

/// Feature values and errors of lists, column by column: lists lie one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Lists {
    /// One column for each feature.
    pub(super) columns: Vec<Vec<f64>>,
    /// Errors of each hypothesis.
    pub(super) errors: Vec<u32>,
    /// Where each list ends.
    pub(super) ends: Vec<usize>,
}

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
    pub(super) errors: u64,
    totals: Vec<f64>,
}

/// Lists with bounds on their weights: those with `min < max` and `unit > 0` are free.
pub(super) struct Search<'a> {
    pub(super) lists: &'a Lists,
    pub(super) bounds: &'a [Bounds],
}

impl Lists {
    /// The ranges of the lists' hypotheses.
    pub(super) fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }

    /// Weighted sums, added up in the order of the features.
    pub(super) fn totals(&self, weights: &[f64]) -> Vec<f64> {
        let mut totals = vec![0.0; self.errors.len()];
        for (column, &weight) in self.columns.iter().zip(weights).filter(|(_, w)| **w != 0.0) {
            totals.iter_mut().zip(column).for_each(|(total, value)| *total += weight * value);
        }
        totals
    }

    /// The winner of each list: the best total, on a tie the first.
    pub(super) fn winners<'a>(&'a self, totals: &'a [f64]) -> impl Iterator<Item = usize> + 'a {
        self.ranges().map(|range| {
            let mut best = range.start;
            range.for_each(|i| best = if totals[i] > totals[best] { i } else { best });
            best
        })
    }

    /// Mean over lists of the standard deviation of `values` within a list; lists of one
    /// hypothesis do not count.
    pub(super) fn spread(&self, values: &[f64]) -> f64 {
        let (mut sum, mut count) = (0.0, 0);
        for range in self.ranges().filter(|range| range.len() > 1) {
            let (n, values) = (range.len() as f64, &values[range]);
            let mean = values.iter().sum::<f64>() / n;
            sum += (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt();
            count += 1;
        }
        if count == 0 { 0.0 } else { sum / f64::from(count) }
    }
}

impl<'a> Search<'a> {
    /// The point of these weights, moved into the bounds.
    pub(super) fn point(&self, mut weights: Vec<f64>) -> Point {
        for (weight, bounds) in weights.iter_mut().zip(self.bounds) {
            *weight = weight.clamp(bounds.min, bounds.max);
        }
        let totals = self.lists.totals(&weights);
        let errors = self.lists.winners(&totals).map(|i| u64::from(self.lists.errors[i])).sum();
        Point { weights, errors, totals }
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

    /// Searches line after line, first along the axes, then across, until nothing mends.
    pub(super) fn descend(&self, mut at: Point, random: &mut Random) -> Point {
        let mut axes = self.free();
        loop {
            random.shuffle(&mut axes);
            let mut moved = false;
            for &k in &axes {
                moved |= self.improve(&mut at, &self.axis(k));
            }
            if !moved && axes.len() > 1 {
                moved = (0..2 * axes.len()).any(|_| {
                    let mut direction = vec![0.0; self.bounds.len()];
                    axes.iter().for_each(|&k| direction[k] = self.bounds[k].unit * random.range(-1.0, 1.0));
                    self.improve(&mut at, &direction)
                });
            }
            if !moved {
                return at;
            }
        }
    }

    /// Moves each weight to the middle of the widest interval in which the errors are at most
    /// `slack` above the least: the centre of a wide valley holds on other data, its deepest
    /// crack need not (Cer 2008). The result has at most `limit` errors.
    pub(super) fn centre(&self, mut at: Point, slack: u64, limit: u64) -> Point {
        for k in self.free() {
            let direction = self.axis(k);
            if let Some((x, _)) = self.line(&at, &direction, slack) {
                let point = self.moved(&at, &direction, x);
                if point.errors <= limit {
                    at = point;
                }
            }
        }
        at
    }

    /// The middle of the widest interval on the line, relative to `at`, in which the errors are
    /// at most `slack` above the line's minimum; and the errors there. `None` if the line has
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
        let slopes = self.slopes(direction);
        let mut steps = Vec::new();
        let mut errors = 0;
        for range in self.lists.ranges() {
            let (totals, slopes) = (&at.totals[range.clone()], &slopes[range.clone()]);
            errors += envelope(totals, slopes, &self.lists.errors[range], low..high, &mut steps);
        }
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
        widest(&intervals(low..high, errors, &steps, 1e-9 * unit), slack)
    }

    fn improve(&self, at: &mut Point, direction: &[f64]) -> bool {
        match self.line(at, direction, 0) {
            Some((x, errors)) if errors < at.errors => {
                // Rounding may make the winner at x another than the crossings say.
                let point = self.moved(at, direction, x);
                let better = point.errors < at.errors;
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

    fn slopes(&self, direction: &[f64]) -> std::borrow::Cow<'a, [f64]> {
        let mut nonzero = (0..direction.len()).filter(|&k| direction[k] != 0.0);
        match (nonzero.next(), nonzero.next()) {
            (Some(k), None) if direction[k] == 1.0 => (&self.lists.columns[k][..]).into(),
            _ => self.lists.totals(direction).into(),
        }
    }
}

/// Walks the upper envelope of the lines `total + x * slope` from left to right. Appends where
/// the winner's errors change and by how much; returns the errors at the left end.
fn envelope(
    totals: &[f64],
    slopes: &[f64],
    errors: &[u32],
    within: std::ops::Range<f64>,
    steps: &mut Vec<(f64, i64)>,
) -> u64 {
    let mut best = 0;
    for i in 1..totals.len() {
        // At the left end, just right of it: a steeper line wins a tie.
        let ahead = match within.start == f64::NEG_INFINITY {
            true => slopes[best].total_cmp(&slopes[i]).then(totals[i].total_cmp(&totals[best])),
            false => (totals[i] + within.start * slopes[i])
                .total_cmp(&(totals[best] + within.start * slopes[best]))
                .then(slopes[i].total_cmp(&slopes[best])),
        };
        if ahead.is_gt() {
            best = i;
        }
    }
    let first = u64::from(errors[best]);
    let mut at = within.start;
    loop {
        let (total, slope) = (totals[best], slopes[best]);
        let mut cross = within.end;
        for (&t, &s) in totals.iter().zip(slopes) {
            let x = if s > slope { (total - t) / (s - slope) } else { f64::INFINITY };
            cross = if x < cross { x } else { cross };
        }
        if cross >= within.end {
            return first;
        }
        // Of the lines that cross here the steepest wins, then the highest, then the first.
        let mut next = best;
        for i in 0..totals.len() {
            let crosses = slopes[i] > slope && (total - totals[i]) / (slopes[i] - slope) == cross;
            let (a, b) = ((slopes[i], totals[i]), (slopes[next], totals[next]));
            if crosses && (next == best || a > b) {
                next = i;
            }
        }
        at = cross.max(at);
        if errors[next] != errors[best] {
            steps.push((at, i64::from(errors[next]) - i64::from(errors[best])));
        }
        best = next;
    }
}

/// The intervals of equal errors, as (start, end, errors), that are wider than `width`.
fn intervals(
    within: std::ops::Range<f64>,
    errors: u64,
    steps: &[(f64, i64)],
    width: f64,
) -> Vec<(f64, f64, u64)> {
    let mut intervals: Vec<(f64, f64, u64)> = Vec::with_capacity(steps.len() + 1);
    let (mut start, mut errors) = (within.start, errors as i64);
    for &(x, change) in steps.iter().chain(&[(within.end, 0)]) {
        if x - start > width {
            match intervals.last_mut() {
                Some(last) if last.2 == errors as u64 => last.1 = x,
                _ => intervals.push((start, x, errors as u64)),
            }
            start = x;
        }
        errors += change;
    }
    intervals
}

/// The middle of the widest run of intervals within `slack` of the least errors, and the errors
/// there.
fn widest(intervals: &[(f64, f64, u64)], slack: u64) -> Option<(f64, u64)> {
    let limit = intervals.iter().map(|i| i.2).min()? + slack;
    let run = intervals.chunk_by(|a, b| (a.2 <= limit) == (b.2 <= limit)).filter(|run| run[0].2 <= limit);
    let ends = run.map(|run| (run[0].0, run[run.len() - 1].1));
    let (low, high) = ends.reduce(|a, b| if b.1 - b.0 > a.1 - a.0 { b } else { a })?;
    let middle = low + (high - low) / 2.0;
    let errors = intervals.iter().find(|i| middle < i.1).or(intervals.last())?.2;
    Some((middle, errors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Errors at `x` along the axis 1, by ranking.
    fn brute(search: &Search, x: f64) -> u64 {
        search.point(vec![1.0, x]).errors
    }

    /// Small integers make many ties, parallel lines and common crossings.
    fn small() -> impl Strategy<Value = (Lists, f64, f64)> {
        let hypothesis = (-4i32..5, -4i32..5, 0u32..6);
        let list = prop::collection::vec(hypothesis, 1..7);
        (prop::collection::vec(list, 1..6), -6i32..1, 1i32..7, 0u8..3).prop_map(|(lists, low, high, open)| {
            let mut out = Lists { columns: vec![Vec::new(); 2], ..Lists::default() };
            for list in lists {
                for (a, b, errors) in list {
                    out.columns[0].push(f64::from(a));
                    out.columns[1].push(f64::from(b));
                    out.errors.push(errors);
                }
                out.ends.push(out.errors.len());
            }
            match open {
                0 => (out, f64::NEG_INFINITY, f64::INFINITY),
                1 => (out, f64::from(low), f64::INFINITY),
                _ => (out, f64::from(low), f64::from(high) + 0.3),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_least_errors_on_a_line((lists, low, high) in small(), from in -3i32..4) {
            let fixed = Bounds { min: 1.0, max: 1.0, unit: 1.0 };
            let bounds = [fixed, Bounds { min: low, max: high, unit: 1.0 }];
            let search = Search { lists: &lists, bounds: &bounds };
            let at = search.point(vec![1.0, f64::from(from)]);
            let (x, errors) = search.line(&at, &[0.0, 1.0], 0).unwrap();
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
            marks.dedup();
            let least = marks.windows(2).map(|m| brute(&search, (m[0] + m[1]) / 2.0)).min().unwrap();
            prop_assert_eq!(errors, least);
            prop_assert_eq!(brute(&search, at.weights[1] + x), least);
        }
    }

    #[test]
    fn the_widest_interval_within_the_tolerance() {
        let intervals = [(0.0, 1.0, 5), (1.0, 1.1, 3), (1.1, 4.0, 9), (4.0, 6.0, 4), (6.0, 8.0, 5)];
        assert_eq!(widest(&intervals, 0), Some((1.05, 3)));
        assert_eq!(widest(&intervals, 1), Some((5.0, 4)));
        assert_eq!(widest(&intervals, 2), Some((6.0, 5)));
        assert_eq!(widest(&[], 2), None);
    }

    #[test]
    fn an_endless_interval_is_cut() {
        // The second hypothesis wins right of 2; right is right.
        let lists =
            Lists { columns: vec![vec![0.0, -2.0], vec![0.0, 1.0]], errors: vec![1, 0], ends: vec![2] };
        let free = Bounds { min: f64::NEG_INFINITY, max: f64::INFINITY, unit: 0.5 };
        let bounds = [Bounds { min: 1.0, max: 1.0, unit: 1.0 }, free];
        let search = Search { lists: &lists, bounds: &bounds };
        let at = search.point(vec![1.0, 0.0]);
        assert_eq!(search.line(&at, &[0.0, 1.0], 0), Some((2.25, 0)));
        assert_eq!(search.descend(at, &mut Random::new(1)).weights, [1.0, 2.25]);
    }
}
