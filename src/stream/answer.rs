//! The order of an answer, and what it says about itself.

use std::time::Instant;

use super::stage::Plan;
use crate::consensus::{Consensus, Decision, decide};
use crate::formats::jsonl::{Answer, AnswerWord};
use crate::nbest::Utterance;

/// The hypotheses to write, and further members of the record's `secondpass`.
pub(super) fn answer(
    utterance: &Utterance,
    plan: &Plan,
    nbest: usize,
    read: Instant,
    confirmed: usize,
) -> (Vec<usize>, String) {
    let mut order: Vec<usize> = (0..utterance.hypotheses.len()).collect();
    let mut answer = Answer::default();
    if plan.confidence || plan.decision != Decision::Best {
        let calibration = plan.calibration;
        let consensus = decide(utterance, plan.rescorer.markers(), &calibration, plan.decision);
        if plan.decision == Decision::Rover {
            answer.text = Some(text(&consensus));
        }
        order.clone_from(&consensus.order);
        order.truncate(nbest);
        if plan.confidence {
            answer.confidence = Some(digits(consensus.confidence));
            answer.posteriors = order.iter().map(|&at| digits(consensus.posteriors[at])).collect();
            let word = |word: &crate::consensus::Word| AnswerWord {
                word: String::from_utf8_lossy(&word.bytes).into_owned(),
                confidence: digits(word.confidence),
            };
            answer.words = consensus.words.iter().map(word).collect();
        }
    }
    order.truncate(nbest);
    // The others were not scored to their end: only the winner is certain.
    let scored = utterance.hypotheses.iter().filter(|hypothesis| !hypothesis.total.is_nan()).count();
    if scored < utterance.hypotheses.len() {
        answer.best_only = Some(scored);
    }
    answer.confirmed = Some(confirmed).filter(|&confirmed| confirmed > 0);
    if plan.timings {
        answer.took_ms = Some((read.elapsed().as_secs_f64() * 1e6).round() / 1e3);
    }
    (order, answer.members())
}

fn text(consensus: &Consensus) -> String {
    let words = consensus.words.iter().map(|word| String::from_utf8_lossy(&word.bytes));
    words.collect::<Vec<_>>().join(" ")
}

/// Nobody believes a seventh digit.
fn digits(p: f64) -> f64 {
    (p * 1e6).round() / 1e6
}
