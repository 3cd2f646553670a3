//! The reliability diagram: of the words said to be right with so much confidence, how many are.

use std::fmt::Write;

use super::Reliability;
use super::lines::legend;
use super::svg::{Frame, escape, number};

/// The chart: the diagonal is a program that keeps its word. The area of a dot is how many words it
/// stands for.
pub fn chart(all: &[Reliability]) -> String {
    let most = |one: &Reliability| one.bins.iter().map(|bin| bin.count).max().unwrap_or(0);
    if all.iter().all(|one| most(one) == 0) {
        return String::new();
    }
    let frame = Frame { width: 430.0, height: 380.0, left: 50.0, right: 20.0, top: 34.0, bottom: 46.0 };
    let (x, y) = (frame.x((0.0, 1.0)), frame.y((0.0, 1.0)));
    let at = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
    let mut out = String::new();
    frame.rows(y, &at, |tick| number(tick, 0.2), &mut out);
    frame.columns(x, &at, |tick| number(tick, 0.2), &mut out);
    frame.axes("confidence", "part that is right", &mut out);
    let _ = write!(
        out,
        "<line class=\"base\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        x.at(0.0),
        y.at(0.0),
        x.at(1.0),
        y.at(1.0)
    );
    for (one, series) in all.iter().zip(0..) {
        let bins: Vec<_> = one.bins.iter().filter(|bin| bin.count > 0).collect();
        let line: Vec<String> =
            bins.iter().map(|bin| format!("{:.1},{:.1}", x.at(bin.confidence), y.at(bin.right))).collect();
        let _ = write!(out, "<polyline class=\"line series{series}\" points=\"{}\"/>", line.join(" "));
        for bin in bins {
            let radius = 3.0 + 9.0 * (bin.count as f64 / most(one).max(1) as f64).sqrt();
            let _ = write!(
                out,
                "<circle class=\"mark faint series{series}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\">\
                 <title>{}: {} with confidence {:.2}, {:.2} of them right</title></circle>",
                x.at(bin.confidence),
                y.at(bin.right),
                escape(one.name.as_bytes()),
                bin.count,
                bin.confidence,
                bin.right
            );
        }
    }
    // In the lower right corner: whoever has a curve there has greater worries than a legend.
    let corner = Frame { top: frame.height - frame.bottom - 24.0 - 19.0 * all.len() as f64, ..frame };
    legend(all.iter().map(|one| one.name.as_str()), corner, &mut out);
    frame.svg("Confidence against the part that is right", &out)
}
