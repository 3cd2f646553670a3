//! Recurrent layers run here instead of in ONNX Runtime, step by step.
//!
//! ONNX Runtime decides what a model means: it loads every file, and whatever is run here must give its
//! scores. But a step of a language model over many histories is almost nothing but matrix products, and
//! four things around them can be had only where the step is written for the purpose:
//!
//! * what the first layer makes of a token depends on the token alone, and is computed once ([`table`]);
//! * gates become states while they lie in registers, and no gate is ever stored ([`layer`]);
//! * states lie where the next step reads them: nothing is gathered before a step and scattered after it,
//!   and one copy of the weights serves all workers ([`stack`]);
//! * steps of few rows are made together, as far as tokens are known beforehand ([`levels`]).
//!
//! A graph is recognised ([`recognise`]) if it is an embedding, LSTM, GRU or RNN nodes with weights that no
//! input changes, and an output layer, with nothing between them that changes a number. All others are run
//! by ONNX Runtime as they are.

pub mod kernel;
mod layer;
mod levels;
mod recognise;
mod stack;
mod table;
#[cfg(test)]
mod tests;
mod weights;

use super::graph::Graph;
use super::head::{self, Head, Typical};
use super::product::{Precision, Tiles};
use super::session::Source;
use super::signature::{Finding, Signature};

pub use kernel::CellKernel;
pub use recognise::{Recognised, recognise};
pub use stack::Stack;

use layer::Kind;
use table::{Embedding, Room};
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
    typical: Option<&Typical<'_>>,
) -> Result<Stack, String> {
    let text = |error: crate::Error| error.to_string();
    let misfit = || "its weights do not fit together".to_owned();
    let reader = Reader::new(source, graph, model).map_err(text)?;
    let tokens = signature.vocab_size;
    let top = model.layers.last().map_or(0, |layer| layer.size);
    let matrix = reader.bands(&model.matrix, tokens, model.by_token).map_err(text)?;
    let bias = model.bias.as_ref().map(|bias| reader.values(bias)).transpose().map_err(text)?;
    if matrix.width() != Some(top) || bias.as_ref().is_some_and(|bias| bias.len() != tokens) {
        return Err(misfit());
    }
    let mut is_start = vec![false; tokens];
    starts.iter().for_each(|&token| is_start[token as usize] = true);
    let bias = |token: usize| bias.as_ref().map_or(0.0, |bias| bias[token]);
    // Rows are at most the states of two layers side by side.
    let widest = model.layers.iter().map(|layer| layer.size).max().unwrap_or(0).next_multiple_of(32) * 2;
    let tiles = Tiles::of(precision, widest)
        .ok_or_else(|| format!("in {precision} this processor is no faster than in f32"))?;
    let weight = |token: usize, k: usize| matrix.weight(token, k);
    let starts = |token: usize| is_start[token];
    let head = match typical {
        Some(typical) => Head::pack_by_rank(tiles, typical, top, tokens, weight, bias, starts),
        None => Head::pack_for(tiles, top, tokens, weight, bias, starts),
    };
    matrix.finish().map_err(text)?;
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
        values.shrink_to_fit();
        (Embedding::Own(values), width)
    };
    let below = std::iter::once(width).chain(model.layers.iter().map(|layer| layer.size));
    let layers = model.layers.iter().zip(below);
    let layers = layers.map(|(names, below)| reader.layer(names, below).map_err(text));
    let twice = tiles.is_reduced() || typical.is_some();
    Stack::new(tiles, layers, embedding, tokens, head, room(graph, twice))
}

/// What the first layer's table may take. A session of ONNX Runtime would hold the weights once and half
/// of them again; here all workers share them, so that there is room beside. Tokens that come early are
/// those that come often: four times the room for each further worker made a file of lists no faster.
fn room(graph: &Graph, twice: bool) -> Room {
    let external = graph.external.iter().filter_map(|part| u64::try_from(part.length?).ok());
    let stored = usize::try_from(graph.bytes + external.sum::<u64>()).unwrap_or(usize::MAX);
    let numbers = usize::try_from(graph.parameters().saturating_mul(4)).unwrap_or(usize::MAX);
    // In fewer bits, or with previews, the output layer is there twice.
    let first = if twice { stored / 4 } else { stored / 2 };
    Room { first, further: stored.max(numbers) / 4 }
}

/// Rows of the embedding, which may have more than there are tokens.
fn graph_rows(graph: &Graph, model: &Recognised, values: usize, tokens: usize) -> usize {
    let stored = graph.initializers.iter().find(|weight| weight.name == model.embedding.name());
    let stored = stored.and_then(|weight| usize::try_from(*weight.dims.first()?).ok());
    stored.filter(|&rows| rows > 0 && values.is_multiple_of(rows)).unwrap_or(tokens)
}

/// What to tell of a model that is run here.
pub fn finding(stack: &Stack, precision: Precision, rank: Option<usize>, difference: f64) -> Finding {
    let name = |kind| match kind {
        Kind::Lstm => "LSTM",
        Kind::Gru => "GRU",
        Kind::Tanh | Kind::Relu => "RNN",
    };
    let layers: Vec<String> = stack.layers().map(|(kind, size)| format!("{} {size}", name(kind))).collect();
    Finding {
        what: "layers",
        value: format!(
            "{} and the output layer{}, run here in {precision} from {} MiB of weights",
            layers.join(", "),
            head::of_rank(rank),
            stack.bytes().div_ceil(1 << 20)
        ),
        why: format!("scores stay within {difference:.0e} a token"),
    }
}
