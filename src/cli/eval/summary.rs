//! The figures of an evaluation, as text and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Args;
use super::cases::{Case, Cases};
use crate::Result;
use crate::eval::confidence::{Outcomes, right};
use crate::eval::matched_pairs::Test;
use crate::eval::significance::group;
use crate::eval::{Bootstrap, Changes, Comparison, Counts, Estimate, MatchedPairs, Sample, Tally};

/// Everything that is said of lists.
pub struct Summary {
    pub unit: &'static str,
    /// What `before` is.
    pub baseline: String,
    /// Whether there is something to compare with.
    pub compared: bool,
    /// Whether the lists were rescored, or are those of another system.
    pub changed: bool,
    pub tallies: [Tally; 2],
    /// Depths with the counts of the best, in first-pass order.
    pub oracle: Vec<(usize, Counts)>,
    pub comparison: Option<Comparison>,
    /// What was resampled.
    pub groups: &'static str,
    pub resamples: usize,
    pub test: Test,
    pub changes: Changes,
    pub speakers: BTreeMap<Vec<u8>, [Tally; 2]>,
    pub words: Outcomes,
    pub utterances: Outcomes,
    /// Milliseconds, rising.
    pub latencies: Vec<f64>,
    /// Utterances too long to be aligned word by word: they count everywhere but in what changed.
    pub long: u64,
    most: usize,
    per_speaker: bool,
}

impl Summary {
    /// Sums up.
    pub fn new(all: &Cases, arguments: &Args) -> Result<Self> {
        let scorer = arguments.scoring.scorer()?;
        let words = arguments.scoring.words()?;
        let against = arguments.against.is_some();
        let mut summary = Self {
            unit: arguments.scoring.unit(),
            baseline: match &arguments.against {
                Some(path) => {
                    path.file_name().map_or("other".into(), |name| name.to_string_lossy().into_owned())
                }
                None => "first pass".into(),
            },
            compared: all.cut == 0 || against,
            changed: all.rescored || against,
            tallies: [Tally { absent: all.absent, ..Tally::default() }; 2],
            oracle: all.oracles[0].depths().collect(),
            comparison: None,
            groups: if all.cases.iter().any(|case| case.speaker.is_some()) {
                "speakers"
            } else {
                "utterances"
            },
            resamples: arguments.resamples,
            test: MatchedPairs::default().test(),
            changes: Changes::default(),
            speakers: BTreeMap::new(),
            words: Outcomes::default(),
            utterances: Outcomes::default(),
            latencies: all.cases.iter().filter_map(|case| case.answer.took_ms).collect(),
            long: 0,
            most: arguments.changes,
            per_speaker: arguments.per_speaker,
        };
        let mut pairs = MatchedPairs::default();
        for case in &all.cases {
            for (at, &counts) in case.counts.iter().enumerate() {
                summary.tallies[at].add(counts);
                let speaker = case.speaker.clone().unwrap_or_default();
                summary.speakers.entry(speaker).or_default()[at].add(counts);
            }
            if case.counts.iter().any(|counts| cells(counts) > MOST_CELLS) {
                summary.long += 1;
            } else if summary.compared && summary.changed {
                let align = |text: &[u8]| scorer.align(&case.reference, text);
                let (before, after) = (align(&case.before), align(&case.after));
                pairs.add(&before, &after);
                summary.changes.add(&before, &after);
            }
            summary.confidences(case, &words);
        }
        summary.test = pairs.test();
        summary.latencies.sort_by(f64::total_cmp);
        if arguments.resamples > 0 {
            let bootstrap = Bootstrap { resamples: arguments.resamples, ..Bootstrap::default() };
            summary.comparison =
                Some(bootstrap.compare(&samples(all, all.cases.iter().map(|case| case.counts[1].errors()))));
        }
        Ok(summary)
    }

    fn confidences(&mut self, case: &Case, scorer: &crate::eval::Scorer) {
        let Some(confidence) = case.answer.confidence else { return };
        let words = case.words();
        let Some(right) = right(scorer, &case.reference, &words) else { return };
        self.utterances.push(confidence, right.whole);
        for (word, right) in words.iter().zip(right.words) {
            self.words.push(word.confidence, right);
        }
    }

    /// Nearest rank: the smallest latency that so many percent do not exceed.
    pub fn latency(&self, percent: usize) -> Option<f64> {
        let at = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(at).copied()
    }

    /// For people, in Kaldi's layout where Kaldi has one.
    pub fn text(&self) -> String {
        let unit = self.unit;
        let show = |tally: &Tally| tally.to_string().replace("%WER", &format!("%{unit}"));
        let mut out = String::new();
        if self.compared {
            out += &format!("{}\n{}\n", self.baseline, show(&self.tallies[0]));
        }
        if self.changed {
            out += &format!("second pass\n{}\n", show(&self.tallies[1]));
        }
        out += "oracle\n";
        for (depth, counts) in &self.oracle {
            out += &format!(
                "%{unit} {:.2} [ {} / {} ] best of {depth}\n",
                100.0 * counts.rate(),
                counts.errors(),
                counts.reference
            );
        }
        if let Some(comparison) = &self.comparison {
            out += &self.intervals(comparison);
        }
        if self.compared && self.changed {
            out += &self.differences();
        }
        if !self.words.is_empty() {
            out += "confidence\n";
            for (what, outcomes) in [("words", &self.words), ("utterances", &self.utterances)] {
                let nce = outcomes.nce().map_or("undefined".into(), |nce| format!("{nce:.3}"));
                out += &format!(
                    "{} {what}, {:.1} % right: NCE {nce}, ECE {:.3}\n",
                    outcomes.len(),
                    100.0 * outcomes.right(),
                    outcomes.ece()
                );
            }
        }
        if let (Some(p50), Some(p95), Some(p99)) = (self.latency(50), self.latency(95), self.latency(99)) {
            out += &format!("latency\np50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms\n");
        }
        if self.per_speaker {
            out += &self.speaker_table();
        }
        out
    }

    fn intervals(&self, comparison: &Comparison) -> String {
        let percent =
            |e: Estimate| format!("{:.2} ({:.2} to {:.2})", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high);
        let mut out = format!(
            "95 % intervals, {} {} resampled {} times\n",
            comparison.samples, self.groups, self.resamples
        );
        if self.compared {
            out += &format!("{} {}\n", self.baseline, percent(comparison.before));
        }
        if self.changed {
            out += &format!("second pass {}\n", percent(comparison.after));
        }
        if self.compared && self.changed {
            out += &format!(
                "difference {}; better in {:.1} % of the resamples\n",
                percent(comparison.delta),
                100.0 * comparison.improvement
            );
        }
        out
    }

    fn differences(&self) -> String {
        let Test { segments, mean, z, p, .. } = self.test;
        let significant = if p < 0.05 { "significant at 5 %" } else { "not significant at 5 %" };
        let mut out = format!(
            "matched pairs (MPSSWE): {segments} segments, {mean:.3} errors fewer each, Z {z:.3}, p {}, {significant}\n",
            p_value(p)
        );
        let c = &self.changes;
        out += &format!(
            "changes\n{} utterances better, {} worse, {} others with as many errors\n\
             {} words corrected, {} broken; {} insertions gone, {} new\n",
            c.better, c.worse, c.other, c.corrected, c.broken, c.removed, c.added
        );
        for (which, label) in [(true, "corrected"), (false, "broken")] {
            for change in c.most(which, self.most) {
                let heard = if change.heard.is_empty() { b"-" } else { &change.heard[..] };
                let [said, heard] = [&change.said[..], heard].map(String::from_utf8_lossy);
                out += &format!("{label} {:>5} x  said `{said}`, heard `{heard}`\n", change.count);
            }
        }
        out
    }

    fn speaker_table(&self) -> String {
        let mut out = format!(
            "{:<20} {:>10} {:>8} {:>9} {:>9} {:>8}\n",
            "speaker", "utterances", "words", "before", "after", "change"
        );
        for (speaker, [before, after]) in &self.speakers {
            let [a, b] = [before, after].map(|tally| 100.0 * tally.counts.rate());
            let name = if speaker.is_empty() { "(unknown)".into() } else { String::from_utf8_lossy(speaker) };
            out += &format!(
                "{name:<20} {:>10} {:>8} {a:>9.2} {b:>9.2} {:>+8.2}\n",
                before.sentences,
                before.counts.reference,
                b - a
            );
        }
        out
    }

    /// For programs: the same figures, rates as parts of 1.
    pub fn json(&self) -> Value {
        let counts = |c: &Counts| {
            json!({
                "errors": c.errors(), "reference": c.reference, "substitutions": c.substitutions,
                "insertions": c.insertions, "deletions": c.deletions, "rate": c.rate(),
            })
        };
        let tally = |t: &Tally| {
            let mut value = counts(&t.counts);
            value["utterances"] = json!(t.sentences);
            value["wrong_utterances"] = json!(t.wrong);
            value["absent"] = json!(t.absent);
            value
        };
        let estimate = |e: Estimate| json!({"value": e.value, "low": e.low, "high": e.high});
        let mut object = json!({"unit": self.unit});
        if self.compared {
            object["before"] = tally(&self.tallies[0]);
            object["baseline"] = json!(self.baseline);
        }
        if self.changed {
            object["after"] = tally(&self.tallies[1]);
        }
        let depth = |(depth, c): &(usize, Counts)| {
            let mut value = counts(c);
            value["depth"] = json!(depth);
            value
        };
        object["oracle"] = self.oracle.iter().map(depth).collect();
        if let Some(c) = &self.comparison {
            object["intervals"] = json!({
                "before": estimate(c.before), "after": estimate(c.after), "difference": estimate(c.delta),
                "improvement": c.improvement, "groups": c.samples, "by": self.groups,
            });
        }
        if self.compared && self.changed {
            let (t, c) = (&self.test, &self.changes);
            object["matched_pairs"] = json!({
                "segments": t.segments, "mean": t.mean, "deviation": t.deviation, "z": t.z, "p": t.p,
            });
            object["changes"] = json!({
                "better": c.better, "worse": c.worse, "other": c.other, "corrected": c.corrected,
                "broken": c.broken, "insertions_removed": c.removed, "insertions_added": c.added,
            });
        }
        if !self.words.is_empty() {
            let outcomes = |o: &Outcomes| {
                let bins: Vec<Value> = o
                    .bins(10)
                    .iter()
                    .map(|b| json!({"count": b.count, "confidence": b.confidence, "right": b.right}))
                    .collect();
                json!({"count": o.len(), "right": o.right(), "nce": o.nce(), "ece": o.ece(), "reliability": bins})
            };
            object["confidence"] =
                json!({"words": outcomes(&self.words), "utterances": outcomes(&self.utterances)});
        }
        if let (Some(p50), Some(p95), Some(p99)) = (self.latency(50), self.latency(95), self.latency(99)) {
            object["latency_ms"] = json!({"p50": p50, "p95": p95, "p99": p99});
        }
        if self.per_speaker {
            let rows = self.speakers.iter().map(|(speaker, [before, after])| {
                let name = String::from_utf8_lossy(speaker);
                json!({"speaker": name, "before": tally(before), "after": tally(after)})
            });
            object["speakers"] = rows.collect();
        }
        object
    }
}

/// Errors before, and those given for after, of each speaker, or of each utterance where speakers are
/// not known.
pub fn samples(all: &Cases, after: impl IntoIterator<Item = u64>) -> Vec<Sample> {
    let sample = |case: &Case, after: u64| Sample {
        before: case.counts[0].errors(),
        after,
        reference: case.counts[0].reference,
    };
    let keyed = all.cases.iter().zip(after).enumerate();
    group(keyed.map(|(at, (case, after))| (case.speaker.clone().ok_or(at), sample(case, after))))
}

/// What an alignment takes: words said times words heard.
fn cells(counts: &Counts) -> u64 {
    let heard = counts.reference + counts.insertions - counts.deletions;
    (counts.reference + 1).saturating_mul(heard + 1)
}

/// A byte each: sixteen thousand words on both sides.
const MOST_CELLS: u64 = 1 << 28;

/// A probability as it is usually written.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}
