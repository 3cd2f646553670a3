//! The matched-pairs sentence-segment word error test (MPSSWE; Gillick & Cox 1989), as NIST's
//! `sc_stats -t mapsswe` has it.
//!
//! Errors of neighbouring words depend on each other, those of segments between stretches that both
//! systems have right hardly do. The test asks whether the mean difference of errors per segment could
//! be zero.

use super::wer::Edit;

/// Collects the segments of utterances that two systems recognised.
///
/// ```
/// use secondpass::eval::{MatchedPairs, Scorer};
/// let scorer = Scorer::words();
/// let mut pairs = MatchedPairs::default();
/// for _ in 0..20 {
///     let reference = b"a cat sat on a mat and a dog ran";
///     let before = scorer.align(reference, b"a cat sad on a mat and a dog run");
///     let after = scorer.align(reference, b"a cat sat on a mat and a dog run");
///     pairs.add(&before, &after);
/// }
/// let test = pairs.test();
/// assert_eq!((test.segments, test.mean), (40, 0.5));
/// assert!(test.p < 0.001);
/// ```
#[derive(Debug, Clone, Default)]
pub struct MatchedPairs {
    /// Errors of each system in each segment with errors.
    segments: Vec<(u32, u32)>,
}

/// What the segments say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// Segments in which at least one system errs.
    pub segments: usize,
    /// Mean of the errors before less those after: above 0 is better.
    pub mean: f64,
    /// Standard deviation of that difference, of the sample.
    pub deviation: f64,
    /// The mean over its standard error: standard normal if the systems are equally good. 0 where
    /// there is nothing to divide.
    pub z: f64,
    /// Probability of such a difference, or a greater one either way, between equally good systems.
    pub p: f64,
}

/// Words in a row that both systems must have right between two segments.
const GOOD: u32 = 2;

impl MatchedPairs {
    /// Adds an utterance: the alignments of both systems with the same reference.
    pub fn add(&mut self, before: &[Edit], after: &[Edit]) {
        let [before, after] = [before, after].map(places);
        let mut open = None;
        let mut good = 0;
        for (a, b) in before.iter().zip(&after) {
            if a.inserted + b.inserted > 0 {
                let (errors_a, errors_b) = open.unwrap_or_default();
                open = Some((errors_a + a.inserted, errors_b + b.inserted));
                good = 0;
            }
            match (a.wrong, b.wrong, &mut open) {
                (false, false, None) => {}
                (false, false, Some(_)) => {
                    good += 1;
                    if good == GOOD {
                        self.segments.extend(open.take());
                        good = 0;
                    }
                }
                (x, y, open) => {
                    let (errors_a, errors_b) = open.unwrap_or_default();
                    *open = Some((errors_a + u32::from(x), errors_b + u32::from(y)));
                    good = 0;
                }
            }
        }
        self.segments.extend(open);
    }

    /// The test over everything added.
    pub fn test(&self) -> Test {
        let count = self.segments.len() as f64;
        let differences = self.segments.iter().map(|&(a, b)| f64::from(a) - f64::from(b));
        let mean = if count > 0.0 { differences.clone().sum::<f64>() / count } else { 0.0 };
        let squares: f64 = differences.map(|d| (d - mean) * (d - mean)).sum();
        let deviation = if count > 1.0 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        let z = if deviation > 0.0 { mean / (deviation / count.sqrt()) } else { 0.0 };
        // Always the same difference: it is no accident, however it is spread.
        let certain = deviation == 0.0 && mean != 0.0 && count > 1.0;
        let p = if certain { 0.0 } else { two_tailed(z) };
        Test { segments: self.segments.len(), mean, deviation, z, p }
    }
}

/// Probability that a standard normal variable is at least so far from 0.
pub fn two_tailed(z: f64) -> f64 {
    // erfc(x) for x >= 0: a series near 0, beyond it a continued fraction (Lentz).
    let x = z.abs() / std::f64::consts::SQRT_2;
    if x < 2.5 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-17 * sum.abs() && n < 200.0 {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return (1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI).clamp(0.0, 1.0);
    }
    let mut fraction = 0.0;
    for k in (1..=60).rev() {
        fraction = f64::from(k) / 2.0 / (x + fraction);
    }
    (-x * x).exp() / (x + fraction) * std::f64::consts::FRAC_2_SQRT_PI / 2.0
}

/// A word of the reference in one system: what was inserted before it, and whether it is wrong. The
/// last place is the end, with what was inserted there.
#[derive(Default)]
struct Place {
    inserted: u32,
    wrong: bool,
}

fn places(edits: &[Edit]) -> Vec<Place> {
    let mut places = Vec::with_capacity(edits.len() + 1);
    let mut inserted = 0;
    for edit in edits {
        let wrong = match edit {
            Edit::Insertion(_) => {
                inserted += 1;
                continue;
            }
            Edit::Correct(_) => false,
            Edit::Substitution { .. } | Edit::Deletion(_) => true,
        };
        places.push(Place { inserted: std::mem::take(&mut inserted), wrong });
    }
    places.push(Place { inserted, wrong: false });
    places
}

#[cfg(test)]
mod tests {
    use super::super::align::Alignment;
    use super::super::wer::Scorer;
    use super::*;

    fn segments(utterances: &[[&str; 3]]) -> Vec<(u32, u32)> {
        let scorer = Scorer::words().alignment(Alignment::Sclite);
        let mut pairs = MatchedPairs::default();
        for texts in utterances {
            let [reference, before, after] = texts.map(str::as_bytes);
            pairs.add(&scorer.align(reference, before), &scorer.align(reference, after));
        }
        pairs.segments
    }

    #[test]
    fn segments_end_after_two_good_words() {
        assert_eq!(segments(&[["a b c d", "a b c d", "a b c d"]]), []);
        assert_eq!(segments(&[["a b c d e f", "x b c d e f", "a b c y e f"]]), [(1, 0), (0, 1)]);
        // One good word in between does not part them.
        assert_eq!(segments(&[["a b c d e f", "x b c d e f", "a b y d e f"]]), [(1, 1)]);
        // Insertions open a segment too, and at the end; utterances part segments.
        let both = ["a b c", "a z b c", "a b c z"];
        assert_eq!(segments(&[both, ["a", "", "a"]]), [(1, 0), (0, 1), (1, 0)]);
    }

    /// Debian's `sc_stats -t mapsswe` over the same texts: segments, mean, deviation and Z.
    #[test]
    fn as_sc_stats() {
        let mut pairs = MatchedPairs::default();
        let scorer = Scorer::words().alignment(Alignment::Sclite);
        let mut expected = Vec::new();
        for line in include_str!("../../fixtures/eval/mapsswe.tsv").lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                [reference, before, after] => pairs.add(
                    &scorer.align(reference.as_bytes(), before.as_bytes()),
                    &scorer.align(reference.as_bytes(), after.as_bytes()),
                ),
                ["#result", segments, mean, deviation, z] => {
                    expected = [segments, mean, deviation, z].map(|n| n.parse::<f64>().unwrap()).to_vec();
                }
                _ => panic!("{line}"),
            }
        }
        let test = pairs.test();
        assert_eq!(test.segments as f64, expected[0]);
        for (got, want) in [test.mean, test.deviation, test.z].iter().zip(&expected[1..]) {
            // It prints three digits.
            assert!((got - want).abs() < 5.1e-4, "{got} {want}");
        }
    }

    #[test]
    fn the_tail_of_the_normal_distribution() {
        // Abramowitz & Stegun, table 26.1.
        for (z, p) in [
            (0.0, 1.0),
            (1.0, 0.317310507862914),
            (1.959963984540054, 0.05),
            (3.0, 0.002699796063260),
            (-4.0, 6.334248366623973e-5),
            (6.0, 1.973175289828e-9),
        ] {
            assert!((two_tailed(z) / p - 1.0).abs() < 1e-9, "{z}: {}", two_tailed(z));
        }
    }

    #[test]
    fn nothing_proves_nothing() {
        let none = MatchedPairs::default().test();
        assert_eq!((none.segments, none.z, none.p), (0, 0.0, 1.0));
        let one = MatchedPairs { segments: vec![(1, 0)] }.test();
        assert_eq!((one.z, one.p), (0.0, 1.0));
    }
}
