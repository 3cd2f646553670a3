//! How long answers took.

use std::fmt::Write;

use super::svg::{Frame, number, ticks};

const BINS: usize = 36;

/// The chart, with the median and the slow end marked.
pub fn chart(latencies: &[f64]) -> String {
    let mut sorted: Vec<f64> = latencies.iter().copied().filter(|ms| ms.is_finite() && *ms >= 0.0).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(&slowest) = sorted.last() else { return String::new() };
    // Nearest rank.
    let percentile = |percent: usize| {
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or(slowest)
    };
    let end = (percentile(99) * 1.15).clamp(1e-3, slowest.max(1e-3));
    let mut counts = [0u64; BINS];
    for ms in &sorted {
        counts[((ms / end * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1) as f64;
    let frame = Frame { width: 430.0, height: 380.0, left: 50.0, right: 20.0, top: 34.0, bottom: 46.0 };
    let (x, y) = (frame.x((0.0, end)), frame.y((0.0, most * 1.3)));
    let mut out = String::new();
    let (at, step) = ticks(0.0, y.from.1, 5);
    let whole = |tick: &f64| tick.fract() == 0.0;
    let at: Vec<f64> = at.into_iter().filter(whole).collect();
    frame.rows(y, &at, |tick| number(tick, step.max(1.0)), &mut out);
    let (at, step) = ticks(0.0, end, 6);
    frame.columns(x, &at, |tick| number(tick, step), &mut out);
    frame.axes("milliseconds from reading to answer", "utterances", &mut out);
    for (bin, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let edge = |n: usize| x.at(n as f64 * end / BINS as f64);
        let (left, top) = (edge(bin), y.at(count as f64));
        let last = if bin + 1 == BINS && slowest > end { " and more" } else { "" };
        let _ = write!(
            out,
            "<rect class=\"column\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\">\
             <title>{count} from {:.2} ms{last}</title></rect>",
            left + 0.75,
            edge(bin + 1) - left - 1.5,
            frame.height - frame.bottom - top,
            bin as f64 * end / BINS as f64
        );
    }
    let mut places: Vec<f64> = Vec::new();
    for (percent, row) in [(50, 0.0), (95, 1.0), (99, 2.0)] {
        let ms = percentile(percent);
        let place = x.at(ms.min(end));
        places.push(place);
        let left = place > frame.width - frame.right - 96.0;
        let _ = write!(
            out,
            "<line class=\"base\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text class=\"label halo\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{}\">p{percent} {ms:.1} ms</text>",
            frame.top,
            frame.height - frame.bottom,
            if left { place - 5.0 } else { place + 5.0 },
            frame.top + 11.0 + 17.0 * row,
            if left { "end" } else { "start" }
        );
    }
    frame.svg("Histogram of latencies", &out)
}
