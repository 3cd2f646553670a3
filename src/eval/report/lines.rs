//! Best of n: what a perfect choice among the first n would leave.

use std::fmt::Write;

use super::Oracles;
use super::svg::{Frame, escape, number, percent, ticks};

/// The chart: depths in doublings.
pub fn chart(series: &[Oracles], unit: &str) -> String {
    let points = || series.iter().flat_map(|one| &one.points).filter(|point| point.1.is_finite());
    let deepest = points().map(|point| point.0).max().unwrap_or(0);
    let high = points().map(|point| 100.0 * point.1).fold(f64::NEG_INFINITY, f64::max);
    if deepest < 2 || high < 0.0 {
        return String::new();
    }
    let frame = Frame { width: 430.0, height: 380.0, left: 50.0, right: 20.0, top: 34.0, bottom: 46.0 };
    let x = frame.x((0.0, (deepest as f64).log2()));
    let y = frame.y((0.0, (high * 1.08).max(1e-3)));
    let mut out = String::new();
    let (at, step) = ticks(0.0, y.from.1, 6);
    frame.rows(y, &at, |tick| number(tick, step), &mut out);
    let mut depths: Vec<f64> = (0..32).map(|n| 2f64.powi(n)).take_while(|n| *n < deepest as f64).collect();
    // The longest list is named too, unless its label would run into the one before.
    if depths.last().is_none_or(|last| x.at((deepest as f64).log2()) - x.at(last.log2()) > 26.0) {
        depths.push(deepest as f64);
    } else if let Some(last) = depths.last_mut() {
        *last = deepest as f64;
    }
    let logs: Vec<f64> = depths.iter().map(|depth| depth.log2()).collect();
    frame.columns(x, &logs, |log| format!("{:.0}", log.exp2()), &mut out);
    frame.axes("hypotheses chosen from", &format!("best of n, {unit} in percent"), &mut out);
    for (one, number) in series.iter().zip(0..) {
        let place = |&(depth, rate): &(usize, f64)| (x.at((depth as f64).log2()), y.at(100.0 * rate));
        let line: Vec<String> = one.points.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(out, "<polyline class=\"line series{number}\" points=\"{}\"/>", line.join(" "));
        for point in &one.points {
            let (cx, cy) = place(point);
            let _ = write!(
                out,
                "<circle class=\"mark series{number}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\"><title>{}, best of {}: {}</title></circle>",
                escape(one.name.as_bytes()),
                point.0,
                percent(point.1)
            );
        }
    }
    legend(series.iter().map(|one| one.name.as_str()), frame, &mut out);
    frame.svg(&format!("{unit} of the best of n hypotheses"), &out)
}

/// Names of lines, in the upper right corner.
pub fn legend<'a>(names: impl Iterator<Item = &'a str>, frame: Frame, out: &mut String) {
    let names: Vec<&str> = names.collect();
    let longest = names.iter().map(|name| super::svg::width(name)).fold(0.0, f64::max);
    let left = frame.width - frame.right - longest - 30.0;
    for (number, name) in names.iter().enumerate() {
        let y = frame.top + 12.0 + 19.0 * number as f64;
        let _ = write!(
            out,
            "<line class=\"line series{number}\" x1=\"{left:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <circle class=\"mark series{number}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\"/>\
             <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left + 20.0,
            left + 10.0,
            left + 28.0,
            y + 4.0,
            escape(name.as_bytes())
        );
    }
}
