//! Recurrent layers run here instead of in ONNX Runtime, step by step.
//!
//! ONNX Runtime decides what a model means: it loads every file, and whatever is run here must give its
//! scores. But a step of a language model over many histories is almost nothing but matrix products, and
//! three things around them can be had only where the step is written for the purpose:
//!
//! * what the first layer makes of a token depends on the token alone, and is computed once ([`table`]);
//! * gates become states while they lie in registers, and no gate is ever stored ([`layer`]);
//! * states lie where the next step reads them: nothing is gathered before a step and scattered after it,
//!   and one copy of the weights serves all workers ([`stack`]).
//!
//! A graph is recognised ([`recognise`]) if it is an embedding, LSTM, GRU or RNN nodes with weights that no
//! input changes, and an output layer, with nothing between them that changes a number. All others are run
//! by ONNX Runtime as they are.

pub mod kernel;
mod layer;
mod recognise;
mod stack;
mod table;
#[cfg(test)]
mod tests;
mod weights;

use super::graph::Graph;
use super::head::Head;
use super::product::{Precision, Tiles};
use super::session::Source;
use super::signature::{Finding, Signature};

pub use kernel::CellKernel;
pub use recognise::{Recognised, recognise};
pub use stack::Stack;

use layer::{Kind, Weights};
use table::Embedding;
use weights::Reader;

/// Whether layers are run faster here than by ONNX Runtime, on this processor.
pub fn pays() -> bool {
    Tiles::best().is_fast()
}

/// Packs a recognised model; the reason, where that cannot be done.
pub fn pack(
    source: &Source,
    graph: &Graph,
    model: &Recognised,
    signature: &Signature,
    starts: &[u32],
    precision: Precision,
) -> Result<Stack, String> {
    let text = |error: crate::Error| error.to_string();
    let misfit = || "its weights do not fit together".to_owned();
    let reader = Reader::new(source, graph, model).map_err(text)?;
    let tokens = signature.vocab_size;
    let top = model.layers.last().map_or(0, |layer| layer.size);
    let matrix = reader.values(&model.matrix).map_err(text)?;
    let bias = model.bias.as_ref().map(|bias| reader.values(bias)).transpose().map_err(text)?;
    if matrix.len() != tokens * top || bias.as_ref().is_some_and(|bias| bias.len() != tokens) {
        return Err(misfit());
    }
    let weight = |token: usize, k: usize| match model.by_token {
        true => matrix[token * top + k],
        false => matrix[k * tokens + token],
    };
    let mut is_start = vec![false; tokens];
    starts.iter().for_each(|&token| is_start[token as usize] = true);
    let bias = |token: usize| bias.as_ref().map_or(0.0, |bias| bias[token]);
    // Rows are at most the states of two layers side by side.
    let widest = model.layers.iter().map(|layer| layer.size).max().unwrap_or(0).next_multiple_of(32) * 2;
    let tiles = Tiles::of(precision, widest)
        .ok_or_else(|| format!("in {precision} this processor is no faster than in f32"))?;
    let head = Head::pack_for(tiles, top, tokens, weight, bias, |token| is_start[token]);
    drop(matrix);
    let tied = model.by_token && model.embedding == model.matrix;
    let (embedding, width) = if tied {
        (Embedding::Tied, top)
    } else {
        let mut values = reader.values(&model.embedding).map_err(text)?;
        let rows = graph_rows(graph, model, values.len(), tokens);
        let width = values.len() / rows.max(1);
        if rows < tokens || width * rows != values.len() || width == 0 {
            return Err(misfit());
        }
        values.truncate(tokens * width);
        (Embedding::Own(values), width)
    };
    let mut layers: Vec<Weights> = Vec::with_capacity(model.layers.len());
    for names in &model.layers {
        let below = layers.last().map_or(width, |layer| layer.size);
        layers.push(reader.layer(names, below).map_err(text)?);
    }
    let file =
        graph.bytes + graph.external.iter().filter_map(|part| u64::try_from(part.length?).ok()).sum::<u64>();
    let bytes = usize::try_from(file).unwrap_or(usize::MAX).saturating_mul(3) / 2 + SPARE;
    Ok(Stack::new(tiles, &layers, embedding, tokens, head, bytes))
}

/// Rows of the embedding, which may have more than there are tokens.
fn graph_rows(graph: &Graph, model: &Recognised, values: usize, tokens: usize) -> usize {
    let stored = graph.initializers.iter().find(|weight| weight.name == model.embedding.name());
    let stored = stored.and_then(|weight| usize::try_from(*weight.dims.first()?).ok());
    stored.filter(|&rows| rows > 0 && values.is_multiple_of(rows)).unwrap_or(tokens)
}

/// What to tell of a model that is run here.
pub fn finding(stack: &Stack, precision: Precision, difference: f64) -> Finding {
    let name = |kind| match kind {
        Kind::Lstm => "LSTM",
        Kind::Gru => "GRU",
        Kind::Tanh | Kind::Relu => "RNN",
    };
    let layers: Vec<String> = stack.layers().map(|(kind, size)| format!("{} {size}", name(kind))).collect();
    Finding {
        what: "layers",
        value: format!(
            "{} and the output layer, run here in {precision} from {} MiB of weights",
            layers.join(", "),
            stack.bytes().div_ceil(1 << 20)
        ),
        why: format!("scores stay within {difference:.0e} a token"),
    }
}

/// What the table of the first layer may take of memory beside one and a half times the model's size.
const SPARE: usize = 16 << 20;
