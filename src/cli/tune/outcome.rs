//! What tuning found, for people and for the file.

use std::collections::BTreeMap;

use super::super::messages::Messages;
use crate::combine::{Combination, SCORE};
use crate::config::Config;
use crate::consensus::{Calibration, Decision};
use crate::eval::confidence;
use crate::eval::{Comparison, Estimate, Measure, Scorer, Tuned, Verdict};
use crate::nbest::{Name, Utterance};
use crate::tokens::Markers;

/// Says what was found.
pub fn report(tuned: &Tuned, names: &[String], unit: &str, messages: &Messages) {
    let Comparison { before, after, delta, improvement, .. } = tuned.comparison;
    let of = |loss: u64| points(tuned, tuned.rate(loss));
    let sign = if tuned.measure == Measure::Bleu { "" } else { " %" };
    let line = |label: &str, value: f64, interval: [f64; 2]| {
        let [low, high] = interval;
        messages.say(&format!("{label} {unit} {value:.2}{sign} ({low:.2} to {high:.2})"));
    };
    line("first pass ", of(tuned.first_pass), interval(tuned, before));
    line("held out   ", of(tuned.held_out), interval(tuned, after));
    let (value, [low, high]) = difference(tuned, delta);
    messages.say(&format!(
        "difference  {value:.2} ({low:.2} to {high:.2}); better in {:.1} % of the resamples",
        100.0 * improvement
    ));
    messages.say(&format!(
        "tuned on    {unit} {:.2}{sign}, the oracle {:.2}{sign}",
        of(tuned.train),
        of(tuned.oracle)
    ));
    if tuned.left > 0 {
        messages.say(&format!(
            "{} of {} lists lack a feature and stayed as they were",
            tuned.left, tuned.utterances
        ));
    }
    for (at, (name, weight)) in names.iter().zip(&tuned.weights).enumerate() {
        let folds = tuned.folds.iter().map(|weights| weights[at]);
        let (low, high) =
            folds.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), w| (low.min(w), high.max(w)));
        // How much it differs between folds tells how well it is determined.
        let range = if low < high { format!(" ({low} to {high} in the folds)") } else { String::new() };
        messages.say(&format!("weight      {name} = {weight}{range}"));
    }
}

/// Puts the weights into the configuration; the first pass's, where those found are not to be used:
/// with nothing for the models its order stands.
pub fn set(config: &mut Config, tuned: &Tuned, names: &[String], models: &[Name], found: bool) {
    for lm in &mut config.lm {
        lm.weight = None;
    }
    config.weights = weights(names, &tuned.weights, models, found);
    config.spread = names.iter().cloned().zip(tuned.spreads.iter().copied()).collect();
}

/// The weights by name; the first pass's, where those found are not to be used. Of `names`, the first pass's
/// come first, then the models'.
pub fn weights(names: &[String], weights: &[f64], models: &[Name], found: bool) -> BTreeMap<String, f64> {
    if !found {
        return models.iter().map(|name| (name.to_string(), 0.0)).collect();
    }
    let mut out: BTreeMap<_, _> = names.iter().cloned().zip(weights.iter().copied()).collect();
    // Alone of the first pass and with weight 1 this is what counts anyhow; unsaid, the file also serves
    // lists without it, with a warning, since the spread says what it was tuned on. (Every list has ranks, so
    // that these are always said: where there is a score they would not count.)
    let alone = names.get(1).is_some_and(|next| models.iter().any(|model| **model == **next));
    if names[0] == SCORE && alone {
        out.remove(&names[0]);
    }
    out
}

/// Says what MBR is worth and chooses the decision: the greatest total, unless MBR is significantly better.
pub fn decide(config: &mut Config, mbr: &Comparison, unit: &str, messages: &Messages) {
    let Comparison { before, after, delta, .. } = mbr;
    let [before, after, value, low, high] =
        [before.value, after.value, delta.value, delta.low, delta.high].map(|rate| 100.0 * rate);
    let (decision, says) = match () {
        () if mbr.is_better() => (Decision::Mbr, "better: rescore will use it"),
        () if low > 0.0 => (Decision::Best, "worse: the greatest total decides"),
        () => (Decision::Best, "no significant gain: the greatest total decides"),
    };
    messages.say(&format!(
        "MBR         {unit} {after:.2} % held out, by the greatest total {before:.2} %: {value:+.2} ({low:.2} to {high:.2}); {says}"
    ));
    config.consensus = Some(decision);
    let round = |value: f64| toml::Value::Float((value * 1e2).round() / 1e2);
    config.tuned.insert("mbr_difference".into(), round(value));
    config.tuned.insert("mbr_difference_interval".into(), toml::Value::Array(vec![round(low), round(high)]));
    config.tuned.insert("mbr_significant".into(), toml::Value::Boolean(mbr.is_better()));
}

/// What was measured, for people who read the file later.
pub fn facts(tuned: &Tuned, unit: &str, used: bool) -> BTreeMap<String, toml::Value> {
    let round = |value: f64| toml::Value::Float((value * 1e2).round() / 1e2);
    let of = |loss: u64| round(points(tuned, tuned.rate(loss)));
    let pair = |pair: [f64; 2]| toml::Value::Array(pair.map(round).to_vec());
    let Comparison { before, after, delta, .. } = tuned.comparison;
    let (value, ends) = difference(tuned, delta);
    let unit = unit.to_lowercase();
    [
        ("lists".to_owned(), toml::Value::Integer(tuned.utterances as i64)),
        (format!("first_pass_{unit}"), of(tuned.first_pass)),
        (format!("first_pass_{unit}_interval"), pair(interval(tuned, before))),
        (format!("held_out_{unit}"), of(tuned.held_out)),
        (format!("held_out_{unit}_interval"), pair(interval(tuned, after))),
        ("difference".to_owned(), round(value)),
        ("difference_interval".to_owned(), pair(ends)),
        (format!("oracle_{unit}"), of(tuned.oracle)),
        ("significant".to_owned(), toml::Value::Boolean(tuned.verdict == Verdict::Use)),
        ("used".to_owned(), toml::Value::Boolean(used)),
    ]
    .into()
}

/// Ranks the lists by the weights and learns what makes their totals probabilities. Lists that
/// cannot be ranked say nothing, and go.
pub fn calibrate(
    utterances: &mut Vec<Utterance>,
    combination: &Combination,
    markers: &Markers,
    scorer: &mut Scorer,
) -> Calibration {
    utterances.retain_mut(|utterance| {
        let formula = combination.formula(utterance, &[]);
        combination.rank(utterance, &formula).is_ok()
    });
    confidence::calibrate(utterances, markers, scorer)
}

/// Says the temperature.
pub fn confidence(config: &Config, messages: &Messages) {
    if let Some(calibration) = config.confidence {
        messages.say(&format!("temperature {:.4} for posteriors and confidences", calibration.temperature));
    }
}

/// A rate in percent; BLEU in its own points, more being better.
fn points(tuned: &Tuned, rate: f64) -> f64 {
    match tuned.measure {
        Measure::Errors => 100.0 * rate,
        Measure::Bleu => 100.0 - 100.0 * rate,
    }
}

fn interval(tuned: &Tuned, estimate: Estimate) -> [f64; 2] {
    let mut ends = [estimate.low, estimate.high].map(|rate| points(tuned, rate));
    ends.sort_by(f64::total_cmp);
    ends
}

/// After less before, in points.
fn difference(tuned: &Tuned, delta: Estimate) -> (f64, [f64; 2]) {
    match tuned.measure {
        Measure::Errors => (100.0 * delta.value, [100.0 * delta.low, 100.0 * delta.high]),
        Measure::Bleu => (-100.0 * delta.value, [-100.0 * delta.high, -100.0 * delta.low]),
    }
}
