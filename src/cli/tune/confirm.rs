//! How near the best hypotheses have to be scored again, where products are made in fewer bits.

use super::super::messages::Messages;
use super::features;
use crate::Result;
use crate::nbest::{Name, Utterance};
use crate::rescorer::{ConfirmFit, Rescorer};

/// Computes the features of `utterances` once more by `exact`, and learns the margin from both, under the
/// weights of `weighted`.
///
/// # Errors
/// If a model fails.
pub fn fit(
    weighted: &Rescorer,
    exact: &Rescorer,
    utterances: &[Utterance],
    workers: usize,
    folds: &[usize],
    risk: f64,
) -> Result<Option<ConfirmFit>> {
    let own: Vec<Name> = weighted.gained().to_vec();
    let bare = |utterance: &Utterance| {
        let mut bare = utterance.clone();
        for hypothesis in &mut bare.hypotheses {
            hypothesis.features.retain(|(name, _)| !own.contains(name));
        }
        bare
    };
    let mut again: Vec<Utterance> = utterances.iter().map(bare).collect();
    features::score(&mut again, exact, workers)?;
    let pairs: Vec<(Utterance, Utterance)> = utterances.iter().cloned().zip(again).collect();
    Ok(weighted.fit_confirm(&pairs, folds, risk))
}

/// Says what was found; gives the margin.
pub fn report(fitted: Option<&ConfirmFit>, risk: f64, messages: &Messages) -> Option<f64> {
    let Some(fitted) = fitted else {
        messages.say(
            "confirm      nothing to confirm: the models weigh nothing, or no list can be ranked by them",
        );
        return None;
    };
    let ConfirmFit { margin, share, lists, unconfirmed, wrong, again } = fitted;
    let percent = 100.0 * share;
    match margin {
        Some(margin) => messages.say(&format!(
            "confirm      within {margin} of the best: {again:.2} hypotheses a list scored again in f32; other winners on \
             held-out lists {wrong} of {lists} ({unconfirmed} without), at most {percent:.2} % of lists like these"
        )),
        None => messages.say(&format!(
            "confirm      {lists} lists cannot show that at most {:.2} % of winners differ, only {percent:.2} %: no margin is \
             written; tune on more lists, or accept --confirm-risk {:.4} ({wrong} other winners on held-out lists, \
             {unconfirmed} without)",
            100.0 * risk,
            share
        )),
    }
    *margin
}
