//! A model cut before its output layer: ONNX Runtime gives hidden states, [`Head`] the scores.

use std::sync::Arc;

use super::bands::{Bands, Numbers};
use super::graph::{Graph, Stored, outline, rewrite};
use super::head::{self, Head, Typical};
use super::product::{Precision, Tiles};
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
        typical: Option<&Typical<'_>>,
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
        let bytes = outline(&source.path).map_err(text)?;
        let stored = |name| Stored::new(&bytes, &source.path, name).map_err(text);
        let matrix = Bands::new(Numbers::Stored(stored(&layer.matrix)?), size, layer.by_token);
        let bias = layer.bias.as_ref().map(|bias| stored(bias)?.all().map_err(text)).transpose()?;
        let Some(width) = matrix.width().filter(|_| bias.as_ref().is_none_or(|bias| bias.len() == size))
        else {
            return Err("its output layer's weights do not fit its vocabulary".into());
        };
        let mut stages = source.edits.clone();
        stages.push(split.edits.into());
        let source = Source { edits: stages, ..source.clone() };
        let runner = Runner::new(&source, plan).map_err(text)?;
        let weight = |token: usize, k: usize| matrix.weight(token, k);
        let is_start: Vec<bool> = flags(size, starts);
        let bias = |token: usize| bias.as_ref().map_or(0.0, |bias| bias[token]);
        let tiles = Tiles::of(precision, width)
            .ok_or_else(|| format!("in {precision} this processor is no faster than in f32"))?;
        let starts = |token: usize| is_start[token];
        let head = match typical {
            Some(typical) => Head::pack_by_rank(tiles, typical, width, size, weight, bias, starts),
            None => Head::pack_for(tiles, width, size, weight, bias, starts),
        };
        matrix.finish().map_err(text)?;
        let signature = Signature { output: layer.hidden.clone(), vocab_size: width, ..signature.clone() };
        Ok((Self { source, signature: Arc::new(signature), head: Arc::new(head) }, runner))
    }

    /// What to tell of a model that is not cut.
    pub fn none(why: String) -> Finding {
        Finding { what: "output layer", value: "run by ONNX Runtime".into(), why }
    }

    /// What to tell of it.
    pub fn finding(precision: Precision, rank: Option<usize>, difference: f64) -> Finding {
        Finding {
            what: "output layer",
            value: format!(
                "split off{} and run here in {precision}, without storing the scores of all tokens",
                head::of_rank(rank)
            ),
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
