//! `--explain`: what made the winner win.

use crate::nbest::{Hypothesis, Status, Utterance};
use crate::rescorer::Rescorer;

/// A JSON object with weight x value of each feature, for the winner and the first pass's winner.
pub(super) fn explain(utterance: &Utterance, rescorer: &Rescorer) -> String {
    let left_out = match &utterance.status {
        Status::Partial(left_out) => &left_out[..],
        _ => &[],
    };
    let formula = rescorer.combination().formula(utterance, left_out);
    let terms = |hypothesis: &Hypothesis| {
        let mut object = serde_json::Map::new();
        object.insert("rank".into(), hypothesis.rank.into());
        for (name, weight) in &formula.terms {
            let value = match hypothesis.feature(name) {
                None if &**name == crate::combine::RANK => Some(-f64::from(hypothesis.rank).ln()),
                value => value,
            };
            // What is not finite becomes null.
            object.insert(name.to_string(), value.map(|value| value * weight).into());
        }
        object.insert("total".into(), hypothesis.total.into());
        serde_json::Value::Object(object)
    };
    // An earlier run's --nbest may have cut it off.
    let first = utterance.hypotheses.iter().find(|hypothesis| hypothesis.rank == 1);
    let pair = [("winner", utterance.best()), ("first_pass", first)];
    let object: serde_json::Map<_, _> = pair
        .into_iter()
        .filter_map(|(name, hypothesis)| Some((name.to_owned(), terms(hypothesis?))))
        .collect();
    serde_json::Value::Object(object).to_string()
}
