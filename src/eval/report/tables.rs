//! Tables: what changed most often, and every speaker.

use std::fmt::Write;

use super::svg::{escape, percent};
use super::{Report, Speaker};
use crate::eval::changes::Change;

/// What was corrected and what was broken, side by side.
pub fn changes(report: &Report) -> String {
    if report.corrected.is_empty() && report.broken.is_empty() {
        return String::new();
    }
    format!(
        "<div class=\"pair\">{}{}</div>",
        table("Corrected", "won", &report.corrected),
        table("Broken", "lost", &report.broken)
    )
}

fn table(title: &str, class: &str, changes: &[Change]) -> String {
    let mut out = format!(
        "<div><h3>{title}</h3><table><thead><tr><th class=\"num\">times</th><th>said</th><th>heard {}</th></tr></thead><tbody>",
        if class == "won" { "before" } else { "after" }
    );
    for change in changes {
        let heard = if change.heard.is_empty() { "\u{2205}".to_owned() } else { escape(&change.heard) };
        let _ = write!(
            out,
            "<tr><td class=\"num\">{}</td><td>{}</td><td><span class=\"{class} word\">{heard}</span></td></tr>",
            change.count,
            escape(&change.said)
        );
    }
    if changes.is_empty() {
        out.push_str("<tr><td></td><td colspan=\"2\">nothing</td></tr>");
    }
    out + "</tbody></table></div>"
}

/// Error rates of speakers, with the change as a bar to either side.
pub fn speakers(speakers: &[Speaker]) -> String {
    let change = |speaker: &Speaker| speaker.after - speaker.before;
    let widest = speakers.iter().map(|s| change(s).abs()).filter(|c| c.is_finite()).fold(1e-9, f64::max);
    let mut out = String::from(
        "<table class=\"wide\"><thead><tr><th>speaker</th><th class=\"num\">utterances</th><th class=\"num\">words</th>\
         <th class=\"num\">before</th><th class=\"num\">after</th><th class=\"num\">change</th><th class=\"diff\"></th></tr></thead><tbody>",
    );
    for speaker in speakers {
        let change = change(speaker);
        let (class, sign) = match change {
            c if c < 0.0 => ("won", "\u{2212}"),
            c if c > 0.0 => ("lost", "+"),
            _ => ("even", ""),
        };
        let part = if change.is_finite() { 50.0 * change.abs() / widest } else { 0.0 };
        let left = if change < 0.0 { 50.0 - part } else { 50.0 };
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
             <td class=\"num\">{sign}{:.2}</td><td class=\"diff\"><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"{class}\" x=\"{left:.2}\" y=\"1\" width=\"{part:.2}\" height=\"8\"/>\
             <line class=\"axis\" x1=\"50\" x2=\"50\" y1=\"0\" y2=\"10\" vector-effect=\"non-scaling-stroke\"/></svg></td></tr>",
            if speaker.name.is_empty() { "(unknown)".into() } else { escape(&speaker.name) },
            speaker.utterances,
            speaker.words,
            percent(speaker.before),
            percent(speaker.after),
            100.0 * change.abs(),
        );
    }
    out + "</tbody></table>"
}
