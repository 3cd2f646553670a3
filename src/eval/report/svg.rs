//! What all charts share: escaping, numbers, scales and axes.

use std::fmt::Write;

/// Text for HTML and SVG: nothing in it can end an element or an attribute, and what no browser may
/// show (control characters, what is not UTF-8) is replaced.
pub fn escape(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' | '\r' => out.push(' '),
            // Also those that turn the direction of what follows.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}

/// A rate in percent.
pub fn percent(rate: f64) -> String {
    if rate.is_finite() { format!("{:.2} %", 100.0 * rate) } else { "\u{2013}".into() }
}

/// A number in as few digits as its step needs, with a real minus sign.
pub fn number(value: f64, step: f64) -> String {
    let digits = (-step.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    // A step of 2.5 or 0.25 needs one digit more.
    let digits = digits + usize::from((step * 10f64.powi(digits as i32)).fract().abs() > 1e-9);
    let text = format!("{:.digits$}", value + 0.0);
    let text = if text.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.')) {
        text.trim_start_matches('-').to_owned()
    } else {
        text
    };
    text.replace('-', "\u{2212}")
}

/// Round values from `low` to `high`, about `count` of them, and their step.
pub fn ticks(low: f64, high: f64, count: usize) -> (Vec<f64>, f64) {
    let span = high - low;
    if !(span.is_finite() && span > 0.0) {
        return (vec![low], 1.0);
    }
    let rough = span / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    ((first..=last).map(|n| n as f64 * step).collect(), step)
}

/// A straight scale from values to places.
#[derive(Clone, Copy)]
pub struct Scale {
    pub from: (f64, f64),
    pub to: (f64, f64),
}

impl Scale {
    pub fn at(&self, value: f64) -> f64 {
        let (low, high) = self.from;
        let part = if high > low { (value - low) / (high - low) } else { 0.5 };
        self.to.0 + part * (self.to.1 - self.to.0)
    }
}

/// The drawing area of a chart of this size.
#[derive(Clone, Copy)]
pub struct Frame {
    pub width: f64,
    pub height: f64,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Frame {
    pub fn x(&self, from: (f64, f64)) -> Scale {
        Scale { from, to: (self.left, self.width - self.right) }
    }

    /// Upwards.
    pub fn y(&self, from: (f64, f64)) -> Scale {
        Scale { from, to: (self.height - self.bottom, self.top) }
    }

    /// An `svg` element with a title for those who cannot see it.
    pub fn svg(&self, title: &str, body: &str) -> String {
        let Self { width, height, .. } = self;
        format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{}\">{body}</svg>",
            escape(title.as_bytes())
        )
    }

    /// Lines across the chart at these places, with their labels on the left.
    pub fn rows(&self, scale: Scale, ticks: &[f64], label: impl Fn(f64) -> String, out: &mut String) {
        for &tick in ticks {
            let y = scale.at(tick);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                self.left,
                self.width - self.right,
                self.left - 8.0,
                y + 4.0,
                label(tick)
            );
        }
    }

    /// Labels under the chart.
    pub fn columns(&self, scale: Scale, ticks: &[f64], label: impl Fn(f64) -> String, out: &mut String) {
        for &tick in ticks {
            let (x, y) = (scale.at(tick), self.height - self.bottom);
            let _ = write!(
                out,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                y + 4.0,
                y + 17.0,
                label(tick)
            );
        }
    }

    /// The line under the chart and the names of both axes.
    pub fn axes(&self, x: &str, y: &str, out: &mut String) {
        let base = self.height - self.bottom;
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{base:.1}\" y2=\"{base:.1}\"/>\
             <text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            self.left,
            self.width - self.right,
            (self.left + self.width - self.right) / 2.0,
            self.height - 4.0,
            escape(x.as_bytes())
        );
        if !y.is_empty() {
            let _ = write!(
                out,
                "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                4.0,
                self.top - 12.0,
                escape(y.as_bytes())
            );
        }
    }
}

/// The width of a text in these charts' type, roughly: labels must not run into each other.
pub fn width(text: &str) -> f64 {
    text.chars().map(|c| if c.is_ascii() { 6.6 } else { 10.0 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hostile_survives() {
        let text = b"</script><img src=x onerror=alert(1)> \" ' & \x00\x1b \xff \xe2\x80\xae";
        let escaped = escape(text);
        assert!(!escaped.contains(['<', '>', '"', '\'', '\0', '\u{1b}', '\u{202e}']), "{escaped}");
        assert!(escaped.starts_with("&lt;/script&gt;&lt;img") && escaped.contains("&amp; "));
    }

    #[test]
    fn ticks_are_round_and_labels_short() {
        let (at, step) = ticks(0.0, 27.3, 5);
        assert_eq!((at, step), (vec![0.0, 10.0, 20.0], 10.0));
        let (at, step) = ticks(-0.31, 0.52, 6);
        let labels: Vec<String> = at.iter().map(|&value| number(value, step)).collect();
        assert_eq!(labels, ["\u{2212}0.2", "0.0", "0.2", "0.4"]);
        assert_eq!(number(-1e-12, 0.25), "0.00");
        assert_eq!(number(2.5, 2.5), "2.5");
        assert_eq!(ticks(1.0, 1.0, 5).0, [1.0]);
        assert_eq!(ticks(f64::NAN, 1.0, 5).0.len(), 1);
    }
}
