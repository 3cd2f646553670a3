//! A model cut before its output layer: ONNX Runtime gives hidden states, [`Head`] the scores.

use std::sync::Arc;

use super::graph::{Graph, rewrite, values};
use super::head::Head;
use super::product::Precision;
use super::session::{Plan, Runner, Source};
use super::signature::{Finding, Kind, Layout, Run, Signature};

/// What is run of a model that was cut, and what was cut off.
#[derive(Clone)]
pub(super) struct Cut {
    pub source: Source,
    /// As the whole model's, but for the output: hidden states, as many numbers as there are scores.
    pub signature: Arc<Signature>,
    pub head: Arc<Head>,
}

impl Cut {
    /// Cuts the model that `source` is.
    ///
    /// # Errors
    /// Why that cannot be done: it then runs whole, as ONNX Runtime has loaded it already.
    pub fn new(
        source: &Source,
        graph: &Graph,
        signature: &Signature,
        plan: Plan,
        starts: &[u32],
        precision: Precision,
    ) -> Result<(Self, Runner), String> {
        let each = matches!(signature.layout, Layout::Each { .. });
        if signature.run != Run::Steps || signature.targets.is_some() || !each {
            return Err("it does not run in steps that score all tokens".into());
        }
        if plan.half {
            return Err("it computes in 16 bits".into());
        }
        if !matches!(signature.kind, Kind::LogProbs | Kind::Logits) {
            return Err("it gives neither logits nor natural logs of probabilities".into());
        }
        let split = rewrite::split(graph, &signature.output)
            .ok_or("its scores do not come from one matrix product and a bias")?;
        let layer = &split.projection;
        let size = signature.vocab_size;
        let matrix = values(&source.path, &layer.matrix).map_err(text)?;
        let bias = layer.bias.as_ref().map(|bias| values(&source.path, bias)).transpose().map_err(text)?;
        let width = matrix.len() / size.max(1);
        if width * size != matrix.len() || width == 0 || bias.as_ref().is_some_and(|bias| bias.len() != size)
        {
            return Err("its output layer's weights do not fit its vocabulary".into());
        }
        let mut stages = source.edits.clone();
        stages.push(split.edits.into());
        let source = Source { edits: stages, ..source.clone() };
        let runner = Runner::new(&source, plan).map_err(text)?;
        let weight = |token: usize, k: usize| match layer.by_token {
            true => matrix[token * width + k],
            false => matrix[k * size + token],
        };
        let is_start: Vec<bool> = flags(size, starts);
        let bias = |token: usize| bias.as_ref().map_or(0.0, |bias| bias[token]);
        let head = Head::pack_in(precision, width, size, weight, bias, |token| is_start[token])
            .ok_or_else(|| format!("in {precision} this processor is no faster than in f32"))?;
        let signature = Signature { output: layer.hidden.clone(), vocab_size: width, ..signature.clone() };
        Ok((Self { source, signature: Arc::new(signature), head: Arc::new(head) }, runner))
    }

    /// What to tell of a model that is not cut.
    pub fn none(why: String) -> Finding {
        Finding { what: "output layer", value: "run by ONNX Runtime".into(), why }
    }

    /// What to tell of it.
    pub fn finding(precision: Precision, difference: f64) -> Finding {
        Finding {
            what: "output layer",
            value: format!("split off and run here in {precision}, without storing the scores of all tokens"),
            why: format!("scores stay within {difference:.0e} a token"),
        }
    }
}

fn text(error: crate::Error) -> String {
    error.to_string()
}

fn flags(size: usize, set: &[u32]) -> Vec<bool> {
    let mut flags = vec![false; size];
    for &token in set {
        if let Some(flag) = flags.get_mut(token as usize) {
            *flag = true;
        }
    }
    flags
}
