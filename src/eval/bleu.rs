//! BLEU (Papineni et al. 2002) as sacrebleu computes it over a corpus: its `13a` tokens, orders 1
//! to 4, exponential smoothing (`nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp`).
//!
//! ```
//! use secondpass::eval::bleu::{Bleu, tokens};
//! let reference = tokens("The cat sat, on the mat.");
//! let mut corpus = Bleu::of(&reference, &tokens("The cat sat on the mat."));
//! corpus += Bleu::of(&reference, &reference);
//! assert_eq!(format!("{:.2}", corpus.score()), "78.80");
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::{AddAssign, SubAssign};

/// Orders counted.
pub const ORDERS: usize = 4;

/// Counts of one hypothesis, or of any number of them: they add up, scores do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bleu {
    /// n-grams of the hypothesis that the reference has too, by order.
    pub correct: [u64; ORDERS],
    /// n-grams of the hypothesis, by order.
    pub total: [u64; ORDERS],
    /// Tokens of the hypothesis.
    pub length: u64,
    /// Tokens of the reference.
    pub reference: u64,
}

impl Bleu {
    /// The counts of one hypothesis. Each n-gram counts as often as the reference has it, at most.
    pub fn of(reference: &[String], hypothesis: &[String]) -> Self {
        let mut counts =
            Self { length: hypothesis.len() as u64, reference: reference.len() as u64, ..Self::default() };
        for order in 1..=ORDERS.min(hypothesis.len()) {
            let mut left: HashMap<&[String], u64> = HashMap::new();
            for gram in reference.windows(order) {
                *left.entry(gram).or_default() += 1;
            }
            for gram in hypothesis.windows(order) {
                if let Some(left) = left.get_mut(gram).filter(|left| **left > 0) {
                    *left -= 1;
                    counts.correct[order - 1] += 1;
                }
            }
            counts.total[order - 1] = (hypothesis.len() + 1 - order) as u64;
        }
        counts
    }

    /// From 0 to 100.
    pub fn score(&self) -> f64 {
        if self.correct.iter().all(|&correct| correct == 0) || self.total.contains(&0) {
            return 0.0;
        }
        let mut smooth = 1.0;
        let mut sum = 0.0;
        for (&correct, &total) in self.correct.iter().zip(&self.total) {
            let precision = if correct == 0 {
                smooth *= 2.0;
                1.0 / (smooth * total as f64)
            } else {
                correct as f64 / total as f64
            };
            sum += precision.ln();
        }
        let short = self.length < self.reference;
        let penalty = if short { 1.0 - self.reference as f64 / self.length as f64 } else { 0.0 };
        100.0 * (penalty + sum / ORDERS as f64).exp()
    }
}

impl AddAssign for Bleu {
    fn add_assign(&mut self, other: Self) {
        for order in 0..ORDERS {
            self.correct[order] += other.correct[order];
            self.total[order] += other.total[order];
        }
        self.length += other.length;
        self.reference += other.reference;
    }
}

impl SubAssign for Bleu {
    /// Takes away what was added before.
    fn sub_assign(&mut self, other: Self) {
        for order in 0..ORDERS {
            self.correct[order] -= other.correct[order];
            self.total[order] -= other.total[order];
        }
        self.length -= other.length;
        self.reference -= other.reference;
    }
}

/// The tokens of a text as `13a` (mteval-v13a) splits it: punctuation on its own, but for points and
/// commas between digits, apostrophes, and hyphens that follow no digit.
pub fn tokens(text: &str) -> Vec<String> {
    let mut line = Cow::Borrowed(text.trim_end());
    for (from, to) in [
        ("<skipped>", ""),
        ("-\n", ""),
        ("\n", " "),
        ("&quot;", "\""),
        ("&amp;", "&"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ] {
        if line.contains(from) {
            line = Cow::Owned(line.replace(from, to));
        }
    }
    let mut spaced = String::with_capacity(line.len() + 16);
    spaced.push(' ');
    for c in line.chars() {
        if is_punctuation(c) {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced.push(' ');
    let digit = |c: char| c.is_ascii_digit();
    let mark = |c: char| matches!(c, '.' | ',');
    let spaced = pairs(&spaced, |a, b| !digit(a) && mark(b), |a, b, out| out.extend([a, ' ', b, ' ']));
    let spaced = pairs(&spaced, |a, b| mark(a) && !digit(b), |a, b, out| out.extend([' ', a, ' ', b]));
    let spaced = pairs(&spaced, |a, b| digit(a) && b == '-', |a, b, out| out.extend([a, ' ', b, ' ']));
    spaced.split(is_space).filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

/// Rewrites the pairs of neighbours that fit, from the left, none of them overlapping.
fn pairs(text: &str, fits: impl Fn(char, char) -> bool, write: impl Fn(char, char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(a) = chars.next() {
        match chars.next_if(|&b| fits(a, b)) {
            Some(b) => write(a, b, &mut out),
            None => out.push(a),
        }
    }
    out
}

/// ASCII punctuation and the space, without `'`, `,`, `-` and `.`.
fn is_punctuation(c: char) -> bool {
    matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/')
}

/// White space as Python's `split` sees it: Unicode's, and the four information separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens and scores are sacrebleu's.
    #[test]
    fn as_sacrebleu() {
        let (mut corpus, mut lines, mut expected) = (Bleu::default(), 0, None);
        for line in include_str!("../../fixtures/eval/bleu.tsv").lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            if let ["#corpus", score] = fields[..] {
                expected = score.parse::<f64>().ok();
                continue;
            }
            let [reference, hypothesis, tokenised, score] = fields[..] else { continue };
            let [reference, hypothesis] =
                [reference, hypothesis].map(|text| tokens(&text.replace("\\n", "\n")));
            assert_eq!(hypothesis.join(" "), tokenised, "{line}");
            let counts = Bleu::of(&reference, &hypothesis);
            assert!(
                (counts.score() - score.parse::<f64>().unwrap()).abs() < 1e-9,
                "{line}: {}",
                counts.score()
            );
            corpus += counts;
            lines += 1;
        }
        assert!(lines >= 200, "{lines} lines");
        assert!((corpus.score() - expected.unwrap()).abs() < 1e-9, "{}", corpus.score());
    }

    #[test]
    fn counts_come_and_go() {
        let [a, b] = ["a b c d e", "a b c x e"].map(tokens);
        let mut sum = Bleu::of(&a, &b);
        let before = sum;
        sum += Bleu::of(&a, &a);
        assert_ne!(sum, before);
        sum -= Bleu::of(&a, &a);
        assert_eq!(sum, before);
        assert_eq!(Bleu::default().score(), 0.0);
        assert_eq!(Bleu::of(&a, &[]).score(), 0.0);
    }
}
