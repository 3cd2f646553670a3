use super::*;
use proptest::prelude::*;

fn list(hypotheses: &[(&str, f64)]) -> Utterance {
    let mut utterance = Utterance::new("u", hypotheses.iter().copied());
    utterance.hypotheses.iter_mut().zip(hypotheses).for_each(|(h, &(_, total))| h.total = total);
    utterance
}

fn of(hypotheses: &[(&str, f64)], decision: Decision) -> Consensus {
    decide(&list(hypotheses), &Markers::default(), &Calibration::default(), decision)
}

fn text(consensus: &Consensus) -> String {
    let words = consensus.words.iter().map(|word| String::from_utf8_lossy(&word.bytes).into_owned());
    words.collect::<Vec<_>>().join(" ")
}

/// Posteriors 0.4, 0.3, 0.3: the best path is wrong in most words, what the others share wins.
const VOTE: [(&str, f64); 3] = [("x y z", -0.916290732), ("a b c", -1.203972804), ("a b d", -1.203972804)];

#[test]
fn the_three_decisions_differ_where_they_should() {
    assert_eq!(text(&of(&VOTE, Decision::Best)), "x y z");
    let mbr = of(&VOTE, Decision::Mbr);
    assert_eq!((text(&mbr).as_str(), &mbr.order[..]), ("a b c", &[1, 2, 0][..]));
    let rover = of(&VOTE, Decision::Rover);
    assert_eq!(rover.order, [0, 1, 2]);
    // a and b have 0.6; z, c and d have 0.4, 0.3 and 0.3. No hypothesis says so.
    assert_eq!(text(&rover), "a b z");
    assert!((rover.words[0].confidence - 0.6).abs() < 1e-9);
    assert!((rover.words[2].confidence - 0.4).abs() < 1e-9);
    assert!((rover.confidence - 0.6 * 0.6 * 0.4).abs() < 1e-9);
}

#[test]
fn duplicate_texts_are_one() {
    let twice = [("a b", -1.0), ("c d", -1.5), ("<s> c  d </s>", -1.5)];
    let mbr = of(&twice, Decision::Mbr);
    assert_eq!(text(&mbr), "c d");
    let share = 2.0 * (-1.5f64).exp() / (2.0 * (-1.5f64).exp() + (-1.0f64).exp());
    assert!((mbr.confidence - share).abs() < 1e-12);
    assert!((mbr.posteriors.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    // Equal risk: what was ranked first.
    assert_eq!(mbr.order, [1, 2, 0]);
}

#[test]
fn a_temperature_flattens_and_totals_may_be_huge() {
    let p = posteriors([-5272.0, -5282.0].into_iter(), 1.0);
    assert!((p[1] - 1.0 / (1.0 + 10f64.exp())).abs() < 1e-15);
    assert!((posteriors([-5272.0, -5282.0].into_iter(), 10.0)[1] - 1.0 / (1.0 + 1f64.exp())).abs() < 1e-15);
    assert_eq!(posteriors([f64::NAN, 3.0].into_iter(), 1.0), [0.0, 1.0]);
    assert_eq!(posteriors([f64::NAN; 2].into_iter(), 1.0), [0.5, 0.5]);
    assert_eq!(posteriors([f64::INFINITY, 1e308].into_iter(), 1.0), [1.0, 0.0]);
    assert!(posteriors(std::iter::empty(), 1.0).is_empty());
}

#[test]
fn a_calibration_moves_confidence_and_not_the_decision() {
    let calibration = Calibration { word: Logistic { slope: 0.5, offset: -1.0 }, ..Calibration::default() };
    let moved = decide(&list(&VOTE), &Markers::default(), &calibration, Decision::Rover);
    assert_eq!(text(&moved), "a b z");
    let by_hand = 1.0 / (1.0 + (-(0.5 * (0.6f64 / 0.4).ln() - 1.0)).exp());
    assert!((moved.words[0].confidence - by_hand).abs() < 1e-9);
    assert!(Logistic { slope: 1e9, offset: 0.0 }.map(1.0) <= 1.0);
}

#[test]
fn nothing_and_one() {
    assert_eq!(of(&[], Decision::Mbr), Consensus::default());
    let empty = of(&[("", -3.0)], Decision::Rover);
    assert_eq!((empty.words.len(), empty.confidence), (0, 1.0));
    let unscored = Utterance::new("u", [("a", 1.0)]);
    let one = decide(&unscored, &Markers::default(), &Calibration::default(), Decision::Best);
    assert_eq!(one.words[0].confidence, 1.0);
}

/// Time and memory are bounded, whatever a list holds.
#[test]
fn huge_lists_and_texts() {
    let long = "a b ".repeat(500_000);
    for decision in [Decision::Best, Decision::Mbr, Decision::Rover] {
        let consensus = of(&[(&long, -1.0), ("a", -2.0)], decision);
        assert_eq!((consensus.order[0], consensus.words.len()), (0, 1_000_000));
        let mass = 1.0 / (1.0 + (-1f64).exp());
        assert!(
            (consensus.confidence - mass).abs() < 1e-9 && (consensus.words[9].confidence - mass).abs() < 1e-9
        );
    }
    let texts: Vec<String> = (0..3000).map(|n| format!("w{} x y", n % 1500)).collect();
    let many: Vec<(&str, f64)> =
        texts.iter().zip(0..).map(|(t, n)| (t.as_str(), -f64::from(n) / 100.0)).collect();
    let mbr = of(&many, Decision::Mbr);
    assert_eq!((mbr.order.len(), mbr.order[0]), (3000, 0));
    // Without a say: behind, in their order.
    assert_eq!(mbr.order[2999], 2999);
}

proptest! {
    /// MBR by its definition, and what every consensus has to keep.
    #[test]
    fn as_defined(texts in prop::collection::vec(("[abc ]{0,9}", 0i32..5), 1..9)) {
        let mut texts: Vec<(&str, f64)> = texts.iter().map(|(t, s)| (t.as_str(), -f64::from(*s))).collect();
        texts.sort_by(|a, b| b.1.total_cmp(&a.1));
        let p = posteriors(texts.iter().map(|t| t.1), 1.0);
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let distance = |a: &[String], b: &[String]| {
            let mut row: Vec<usize> = (0..=b.len()).collect();
            for (i, x) in a.iter().enumerate() {
                let mut diagonal = i;
                row[0] = i + 1;
                for (j, y) in b.iter().enumerate() {
                    let best = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
                    diagonal = std::mem::replace(&mut row[j + 1], best);
                }
            }
            row[b.len()] as f64
        };
        let risk = |a: &str| -> f64 { texts.iter().zip(&p).map(|(b, p)| p * distance(&words(a), &words(b.0))).sum() };
        let least = texts.iter().map(|t| risk(t.0)).fold(f64::INFINITY, f64::min);
        let mbr = of(&texts, Decision::Mbr);
        prop_assert!((risk(texts[mbr.order[0]].0) - least).abs() < 1e-9);
        prop_assert_eq!(text(&mbr), words(texts[mbr.order[0]].0).join(" "));
        for decision in [Decision::Best, Decision::Mbr, Decision::Rover] {
            let consensus = of(&texts, decision);
            let mut order = consensus.order.clone();
            order.sort_unstable();
            prop_assert_eq!(order, (0..texts.len()).collect::<Vec<_>>());
            prop_assert!(consensus.words.iter().all(|w| (0.0..=1.0).contains(&w.confidence)));
            prop_assert!((0.0..=1.0 + 1e-9).contains(&consensus.confidence));
        }
        prop_assert_eq!(of(&texts, Decision::Best).order[0], 0);
    }
}
