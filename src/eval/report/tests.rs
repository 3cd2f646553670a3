use super::*;
use crate::eval::Scorer;

const HOSTILE: &str = "</script><svg/onload=alert(1)>'\"&\u{0}\u{202e}<!--";

fn estimate(value: f64) -> Estimate {
    Estimate { value, low: value - 0.01, high: value + 0.012 }
}

fn full(text: &str) -> Report {
    let scorer = Scorer::words();
    let sentence = format!("a {text} c");
    let bins = (0..10).map(|n| Bin { count: n, confidence: n as f64 / 10.0, right: 0.5 }).collect();
    let bar = |kind| Bar { name: text.into(), note: text.into(), rate: estimate(0.2), interval: true, kind };
    Report {
        title: text.into(),
        unit: "WER".into(),
        facts: vec![(text.into(), text.into())],
        tiles: vec![Tile { label: text.into(), value: text.into(), note: text.into(), tone: Tone::Good }],
        bars: [Kind::Baseline, Kind::Other, Kind::Chosen, Kind::Bound].map(bar).into(),
        map: Some(Map {
            x: (text.into(), vec![0.0, 0.5, 1.0]),
            y: (text.into(), vec![-1.0, 1.0]),
            rates: vec![0.2, 0.19, 0.18, 0.21, 0.2, 0.19],
            chosen: Some((0.5, 0.0)),
            rate: Some(0.18),
        }),
        oracles: vec![Oracles { name: text.into(), points: vec![(1, 0.2), (2, 0.15), (3, 0.1)] }],
        reliability: vec![Reliability { name: text.into(), bins, nce: None, ece: 0.1 }],
        latencies: vec![1.0, 2.0, 9.0],
        corrected: vec![Change { count: 2, said: text.into(), heard: text.into() }],
        broken: vec![Change { count: 1, said: text.into(), heard: Vec::new() }],
        changes: text.into(),
        examples: vec![Example {
            id: text.into(),
            rank: Some(3),
            before: scorer.align(sentence.as_bytes(), b"a b c"),
            after: scorer.align(sentence.as_bytes(), sentence.as_bytes()),
        }],
        speakers: vec![Speaker { name: text.into(), utterances: 1, words: 3, before: 0.3, after: 0.0 }],
        notes: vec![text.into()],
    }
}

/// What a browser would see as elements.
fn elements(html: &str) -> Vec<&str> {
    let name = |part: &'_ str| part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len());
    html.split('<').skip(1).filter(|part| !part.starts_with('/')).map(|part| &part[..name(part)]).collect()
}

#[test]
fn hostile_text_stays_text() {
    let (hostile, plain) = (full(HOSTILE).html(), full("word").html());
    // The same elements come out, whatever the texts are.
    assert_eq!(elements(&hostile), elements(&plain));
    for bad in ["<script", "onload=alert(1)>", "<!--", "\0", "\u{202e}", "</script>"] {
        assert!(!hostile.contains(bad), "{bad:?} got through");
    }
    assert!(hostile.matches("&lt;/script&gt;&lt;svg/onload=alert(1)&gt;&#39;&quot;&amp;").count() > 15);
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let html = full("word").html();
    for outside in ["http:", "https:", "//", "<script", "<link", "<img", "url(", "@import", "src="] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("@media print"));
    for part in [
        "What each feature set is worth",
        "Error over the main weights",
        "Best of n",
        "Calibration",
        "Latency",
        "Examples",
        "Speakers",
    ] {
        assert!(html.contains(part), "{part}");
    }
}

#[test]
fn nothing_known_leaves_no_empty_frames() {
    let html = Report { title: "t".into(), unit: "WER".into(), ..Report::default() }.html();
    assert_eq!(html.matches("<figure").count() + html.matches("<svg").count(), 0);
    // What cannot be drawn is not: values that are not finite, lists of one, a map of one point.
    let mut report = full("word");
    report
        .bars
        .iter_mut()
        .for_each(|bar| bar.rate = Estimate { value: f64::NAN, low: f64::NAN, high: f64::NAN });
    report.map = Some(Map {
        x: ("x".into(), vec![1.0]),
        y: ("y".into(), vec![1.0]),
        rates: vec![f64::INFINITY],
        chosen: None,
        rate: None,
    });
    report.oracles[0].points.truncate(1);
    report.latencies = vec![f64::NAN];
    report.reliability[0].bins.clear();
    let html = report.html();
    assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
    assert_eq!(html.matches("<figure").count(), 0);
}
