//! Which of some straight lines is highest where.

/// A line `total + x * slope` of the envelope.
#[derive(Clone, Copy)]
pub(super) struct Line {
    total: f64,
    slope: f64,
    /// Where it begins to be the highest.
    pub(super) start: f64,
    /// Its hypothesis.
    pub(super) at: u32,
}

/// The lines `total + x * slope` that are highest somewhere, from left to right. `order` holds the
/// hypotheses by rising slope.
pub(super) fn upper_envelope(totals: &[f64], slopes: &[f64], order: &[u32], envelope: &mut Vec<Line>) {
    envelope.clear();
    let mut lines = order.iter().map(|&at| {
        let (total, slope) = (totals[at as usize], slopes[at as usize]);
        Line { total, slope, start: f64::NEG_INFINITY, at }
    });
    // The last line of the envelope is kept apart: nearly every step asks for it.
    let Some(mut top) = lines.next() else { return };
    for mut line in lines {
        loop {
            if top.slope == line.slope {
                // Parallel: the higher stays, of equal ones the first in the list.
                if top.total > line.total || top.total == line.total && top.at < line.at {
                    break;
                }
            } else {
                let cross = (top.total - line.total) / (line.slope - top.slope);
                if cross > top.start {
                    envelope.push(top);
                    line.start = cross;
                    top = line;
                    break;
                }
            }
            match envelope.pop() {
                Some(below) => top = below,
                None => {
                    top = line;
                    break;
                }
            }
        }
    }
    envelope.push(top);
}
