//! Error rates of feature sets: a dot for each, with its interval.

use std::fmt::Write;

use super::svg::{Frame, escape, number, percent, ticks, width};
use super::{Bar, Kind, Report};

/// The chart. Rates on a scale that starts where something is to be seen, so dots and not bars.
pub fn chart(report: &Report) -> String {
    let bars = &report.bars;
    let ends = |bar: &Bar| if bar.interval { [bar.rate.low, bar.rate.high] } else { [bar.rate.value; 2] };
    let finite = bars.iter().flat_map(ends).filter(|rate| rate.is_finite());
    let low = finite.clone().fold(f64::INFINITY, f64::min);
    let high = finite.fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return String::new();
    }
    let margin = ((high - low) * 0.08).max(0.002);
    let range = ((100.0 * (low - margin)).max(0.0), 100.0 * (high + margin));
    let row = 44.0;
    let names = bars.iter().map(|bar| width(&bar.name).max(width(&bar.note) * 0.92)).fold(90.0, f64::max);
    let frame = Frame {
        width: 880.0,
        height: 58.0 + row * bars.len() as f64,
        left: (names + 110.0).min(400.0),
        right: 16.0,
        top: 14.0,
        bottom: 44.0,
    };
    let x = frame.x(range);
    let (at, step) = ticks(range.0, range.1, 7);
    let mut out = String::new();
    for &tick in &at {
        let place = x.at(tick);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            frame.top,
            frame.height - frame.bottom
        );
    }
    frame.columns(x, &at, |tick| number(tick, step), &mut out);
    frame.axes(&format!("{} in percent, 95 % intervals", report.unit), "", &mut out);
    if let Some(base) = bars.iter().find(|bar| bar.kind == Kind::Baseline) {
        let place = x.at(100.0 * base.rate.value);
        let _ = write!(
            out,
            "<line class=\"base\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            frame.top,
            frame.height - frame.bottom
        );
    }
    for (bar, number) in bars.iter().zip(0u32..) {
        let y = frame.top + row * (f64::from(number) + 0.5);
        let class = match bar.kind {
            Kind::Baseline => "first",
            Kind::Chosen => "chosen",
            Kind::Bound => "bound",
            Kind::Other => "other",
        };
        let at = |rate: f64| x.at(100.0 * rate);
        let _ = write!(
            out,
            "<g class=\"{class}\"><text class=\"label\" x=\"4\" y=\"{:.1}\">{}</text>\
             <text class=\"tick\" x=\"4\" y=\"{:.1}\">{}</text>",
            if bar.note.is_empty() { y + 4.0 } else { y - 2.0 },
            escape(bar.name.as_bytes()),
            y + 13.0,
            escape(bar.note.as_bytes())
        );
        let mut interval = String::new();
        if bar.interval && bar.rate.low.is_finite() && bar.rate.high.is_finite() {
            let (a, b) = (at(bar.rate.low), at(bar.rate.high));
            let _ = write!(
                out,
                "<line class=\"whisker\" x1=\"{a:.1}\" x2=\"{b:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <line class=\"whisker\" x1=\"{a:.1}\" x2=\"{a:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
                 <line class=\"whisker\" x1=\"{b:.1}\" x2=\"{b:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                y - 5.0,
                y + 5.0,
                y - 5.0,
                y + 5.0
            );
            interval = format!(" ({} to {})", percent(bar.rate.low), percent(bar.rate.high));
        }
        let _ = write!(
            out,
            "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"6\"><title>{}: {}{interval}</title></circle>\
             <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text></g>",
            at(bar.rate.value),
            escape(bar.name.as_bytes()),
            percent(bar.rate.value),
            frame.left - 22.0,
            y + 5.0,
            percent(bar.rate.value)
        );
    }
    frame.svg(&format!("{} of feature sets with intervals", report.unit), &out)
}
