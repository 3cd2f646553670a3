//! Error over two weights as a map of colours, or over one as a curve.

use std::fmt::Write;

use super::Map;
use super::svg::{Frame, Scale, escape, number, percent, ticks};

/// The chart.
pub fn chart(map: &Map, unit: &str) -> String {
    if map.y.1.is_empty() { curve(map, unit) } else { colours(map, unit) }
}

fn colours(map: &Map, unit: &str) -> String {
    let (xs, ys) = (&map.x.1, &map.y.1);
    let low = map.rates.iter().copied().fold(f64::INFINITY, f64::min);
    let high = map.rates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (Some(x_range), Some(y_range)) = (edges(xs), edges(ys)) else { return String::new() };
    if map.rates.len() != xs.len() * ys.len() || low.is_nan() || low > high {
        return String::new();
    }
    let frame = Frame { width: 430.0, height: 380.0, left: 50.0, right: 70.0, top: 34.0, bottom: 46.0 };
    let (x, y) = (frame.x(x_range), frame.y(y_range));
    let shade = Scale { from: (low, low.max(high)), to: (0.0, 1.0) };
    let mut out = String::from("<g shape-rendering=\"crispEdges\">");
    let half = |values: &[f64]| (values[1] - values[0]) / 2.0;
    let (dx, dy) = (half(xs), half(ys));
    for (row, &b) in map.rates.chunks(xs.len()).zip(ys) {
        // Neighbours of one colour are one rectangle: a page of thousands is slow to print.
        let mut start = 0;
        for end in 1..=row.len() {
            if end < row.len() && colour(shade.at(row[end])) == colour(shade.at(row[start])) {
                continue;
            }
            let (left, right) = (x.at(xs[start] - dx), x.at(xs[end - 1] + dx));
            let (top, bottom) = (y.at(b + dy), y.at(b - dy));
            let _ = write!(
                out,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"><title>{}</title></rect>",
                right - left + 0.6,
                bottom - top + 0.6,
                colour(shade.at(row[start])),
                percent(row[start])
            );
            start = end;
        }
    }
    out.push_str("</g>");
    let (at, step) = ticks(x_range.0, x_range.1, 6);
    frame.columns(x, &at, |tick| number(tick, step), &mut out);
    let (at, step) = ticks(y_range.0, y_range.1, 6);
    for tick in at {
        let place = y.at(tick);
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            frame.left - 4.0,
            frame.left,
            frame.left - 8.0,
            place + 4.0,
            number(tick, step)
        );
    }
    frame.axes(&format!("weight of {}", map.x.0), &format!("weight of {}", map.y.0), &mut out);
    legend(frame, low, high, unit, &mut out);
    if let Some((a, b)) = map.chosen {
        let (px, py) = (x.at(a), y.at(b));
        let rate = map.rate.map(|rate| format!(", {}", percent(rate))).unwrap_or_default();
        let _ = write!(
            out,
            "<g class=\"here\"><circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"7\" fill=\"none\" stroke=\"#000\" stroke-width=\"4\"/>\
             <circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"7\" fill=\"none\" stroke=\"#fff\" stroke-width=\"2\"/>\
             <circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"1.8\" fill=\"#fff\" stroke=\"#000\" stroke-width=\".6\"/>\
             <title>weights in force: {} {a:.4}, {} {b:.4}{rate}</title></g>",
            escape(map.x.0.as_bytes()),
            escape(map.y.0.as_bytes())
        );
    }
    frame.svg(&format!("{unit} over the weights of {} and {}", map.x.0, map.y.0), &out)
}

/// The scale of the colours, at the right.
fn legend(frame: Frame, low: f64, high: f64, unit: &str, out: &mut String) {
    let (left, width) = (frame.width - frame.right + 14.0, 12.0);
    let (top, bottom) = (frame.top, frame.height - frame.bottom);
    out.push_str("<g shape-rendering=\"crispEdges\">");
    let steps = 48;
    for step in 0..steps {
        let part = f64::from(step) / f64::from(steps - 1);
        let height = (bottom - top) / f64::from(steps);
        let _ = write!(
            out,
            "<rect x=\"{left:.1}\" y=\"{:.2}\" width=\"{width}\" height=\"{:.2}\" fill=\"{}\"/>",
            bottom - height * f64::from(step + 1),
            height + 0.6,
            colour(part)
        );
    }
    out.push_str("</g>");
    let scale = Scale { from: (100.0 * low, 100.0 * high), to: (bottom, top) };
    let (at, step) = ticks(100.0 * low, 100.0 * high, 5);
    for tick in at {
        let _ = write!(
            out,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left + width + 5.0,
            scale.at(tick) + 4.0,
            number(tick, step)
        );
    }
    let _ = write!(
        out,
        "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{} %</text>",
        left,
        frame.top - 12.0,
        escape(unit.as_bytes())
    );
}

fn curve(map: &Map, unit: &str) -> String {
    let xs = &map.x.1;
    let rates: Vec<f64> = map.rates.iter().map(|rate| 100.0 * rate).collect();
    let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let high = rates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let Some(range) = edges(xs).filter(|_| rates.len() == xs.len() && low <= high) else {
        return String::new();
    };
    let frame = Frame { width: 430.0, height: 380.0, left: 50.0, right: 16.0, top: 34.0, bottom: 46.0 };
    let margin = ((high - low) * 0.08).max(0.05);
    let (x, y) = (frame.x(range), frame.y(((low - margin).max(0.0), high + margin)));
    let mut out = String::new();
    let (at, step) = ticks(y.from.0, y.from.1, 6);
    frame.rows(y, &at, |tick| number(tick, step), &mut out);
    let (at, step) = ticks(range.0, range.1, 6);
    frame.columns(x, &at, |tick| number(tick, step), &mut out);
    frame.axes(&format!("weight of {}", map.x.0), &format!("{unit} in percent"), &mut out);
    let points: Vec<String> =
        xs.iter().zip(&rates).map(|(a, rate)| format!("{:.1},{:.1}", x.at(*a), y.at(*rate))).collect();
    let _ = write!(out, "<polyline class=\"line series0\" points=\"{}\"/>", points.join(" "));
    if let (Some((a, _)), Some(rate)) = (map.chosen, map.rate) {
        let _ = write!(
            out,
            "<circle class=\"mark series0\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"6\"><title>weight in force: {a:.4}, {}</title></circle>",
            x.at(a),
            y.at(100.0 * rate),
            percent(rate)
        );
    }
    frame.svg(&format!("{unit} over the weight of {}", map.x.0), &out)
}

/// From half a step before the first value to half a step after the last.
fn edges(values: &[f64]) -> Option<(f64, f64)> {
    let (first, second, last) = (values.first()?, values.get(1)?, values.last()?);
    let half = (second - first) / 2.0;
    (half > 0.0 && half.is_finite()).then_some((first - half, last + half))
}

/// From little (dark blue) to much (pale yellow): equally telling on light and dark pages, in grey and to
/// those who see few colours.
fn colour(part: f64) -> String {
    const STOPS: [[f64; 3]; 7] = [
        [20.0, 28.0, 84.0],
        [29.0, 68.0, 122.0],
        [33.0, 108.0, 141.0],
        [46.0, 147.0, 140.0],
        [108.0, 183.0, 122.0],
        [186.0, 210.0, 115.0],
        [250.0, 238.0, 165.0],
    ];
    // Low rates, which matter, get most of the colours.
    let place = part.clamp(0.0, 1.0).sqrt() * (STOPS.len() - 1) as f64;
    let at = (place as usize).min(STOPS.len() - 2);
    let within = place - at as f64;
    let [r, g, b] =
        [0, 1, 2].map(|c| (STOPS[at][c] + within * (STOPS[at + 1][c] - STOPS[at][c])).round() as u8);
    format!("#{r:02x}{g:02x}{b:02x}")
}
