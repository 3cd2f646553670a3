//! Rewriting foreign graphs so that they can be run in steps.

use std::sync::Arc;

use super::super::Parts;
use super::super::graph::{Dtype, rewrite};
use super::super::probe::{self, Facts};
use super::super::session::Runner;
use super::super::signature::{Draft, Finding, Ids, Kind, Layout, Run, State};
use super::super::trial::{difference, sentences};
use super::{Candidate, stage};
use crate::lm::Scores;
use crate::trie::Trie;
use crate::{Error, Result};

/// The same model, changed so that it can be run in steps, if there is a way that keeps its scores.
pub(super) fn improved(mut old: Candidate) -> Candidate {
    if old.signature.run == Run::Steps || !old.signature.context.is_empty() || old.signature.grows() {
        return old;
    }
    let (mut tried, mut why) = (false, String::new());
    for (free, states) in [(true, true), (false, true), (true, false)] {
        let attempt = change(&old, free, states).and_then(|new| new.map(|new| same(&old, new)).transpose());
        match attempt {
            Ok(Some(mut new)) => {
                let what = match (free, states) {
                    (true, true) => "its sizes freed and its states made inputs and outputs",
                    (true, false) => "its fixed sizes freed",
                    _ => "its states made inputs and outputs",
                };
                let mut findings = old.signature.findings;
                findings.push(Finding {
                    what: "rewritten",
                    value: what.to_owned(),
                    why: format!("scores stay within {:.0e} a token", new.1),
                });
                new.0.signature.findings = findings;
                return new.0;
            }
            Ok(None) => {}
            Err(error) => {
                tried = true;
                why = error.to_string();
            }
        }
    }
    if tried {
        log::debug!("{}: run as it is: {why}", old.source.path.display());
        old.signature.found("run as it is", "rewriting it would not keep its scores", "tried");
    }
    old
}

/// Changes a model; `None` where there is nothing of that kind to change.
fn change(old: &Candidate, free: bool, states: bool) -> Result<Option<Candidate>> {
    let tokens = &old.signature.tokens;
    let bound = tokens.length.is_some_and(|length| length > 1) || tokens.batch.is_some();
    let window = matches!(old.signature.run, Run::Window(_));
    if free != bound || window || (states && !old.signature.states.is_empty()) {
        return Ok(None);
    }
    let (mut source, mut graph) = (old.source.clone(), old.graph.clone());
    let mut signature = old.draft.signature.clone();
    signature.tokens = tokens.clone();
    signature.states.clone_from(&old.signature.states);
    signature.layout = old.signature.layout;
    if free {
        let batches: Vec<(&str, usize)> =
            old.signature.states.iter().map(|state| (&*state.input, state.batch)).collect();
        let fills = old.signature.fills.iter().map(|fill| &fill.ids);
        let grids = fills.chain(&old.signature.lengths).chain(&old.signature.targets);
        let grids: Vec<&str> = grids.map(|ids| &*ids.name).collect();
        (source, graph) = stage(&source, rewrite::free_sizes(&graph, &tokens.ids.name, &grids, &batches))?;
        (signature.tokens.length, signature.tokens.batch) = (None, None);
    }
    if states {
        let Some(exposed) = rewrite::expose_states(&graph, &tokens.ids.name, &signature.output) else {
            return Ok(None);
        };
        (source, graph) = stage(&source, exposed.edits)?;
        if exposed.cut {
            signature.tokens.ids = Ids { name: exposed.tokens, dtype: Dtype::INT64 };
        }
        if signature.output != exposed.output {
            signature.output = exposed.output;
            signature.layout = Layout::Each { time_major: false, flat: true };
            signature.kind = Kind::Logits;
        }
        signature.adds_ends = false;
        signature.targets = None;
        let left = |ids: &Ids| graph.input(&ids.name).is_some();
        signature.lengths = signature.lengths.filter(left);
        signature.fills.retain(|fill| left(&fill.ids));
        let state = |(input, output, size): (String, String, usize)| State {
            input,
            output,
            dims: vec![1, 1, size],
            batch: 1,
            grows: None,
        };
        signature.states = exposed.states.into_iter().map(state).collect();
        let known =
            1 + signature.states.len() + signature.fills.len() + usize::from(signature.lengths.is_some());
        if graph.inputs.len() != known {
            return Ok(None);
        }
    }
    let mut draft = Draft { signature, ..old.draft.clone() };
    draft.sidecar.scores = draft.sidecar.scores.filter(|&kind| kind != Kind::NegativeLog);
    let mut runner = Runner::new(&source, old.plan)?;
    let facts = Facts { graph: &graph, dynamic: false };
    let signature =
        probe::settle(&mut runner, &draft, facts).map_err(|what| Error::model(&source.path, what))?;
    // Without states that could be kept, any length is a gain too.
    let gain = signature.run == Run::Steps || (free && !states && signature.run == Run::Sentences);
    if !gain {
        return Err(Error::model(&source.path, "cannot be run in steps"));
    }
    Ok(Some(Candidate { source, graph, draft, signature, runner, plan: old.plan }))
}

/// The changed model with the largest difference of a token's score, if it is small enough. What the old
/// one learnt of the ends of a sentence stays.
fn same(old: &Candidate, mut new: Candidate) -> Result<(Candidate, f64)> {
    (new.signature.bos, new.signature.eos, new.signature.unk) =
        (old.signature.bos, old.signature.eos, old.signature.unk);
    let trie = Arc::new(sentences(&old.signature));
    let expected = scores(old, &trie)?;
    let got = scores(&new, &trie)?;
    let worst = difference(&trie, &expected, &got).map_err(|what| Error::model(&new.source.path, what))?;
    Ok((new, worst))
}

fn scores(model: &Candidate, trie: &Arc<Trie>) -> Result<Scores> {
    let parts = Parts {
        name: "trial".into(),
        signature: Arc::new(model.signature.clone()),
        starts: Arc::new([]),
        cut: None,
        alone: false,
    };
    // The session goes into the scorer: a second one is made for it.
    parts.scores(Runner::new(&model.source, model.plan)?, trie)
}
