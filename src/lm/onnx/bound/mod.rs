//! Recurrent models on a device that has its own memory: states stay there.
//!
//! A step's rows are gathered from an arena, run, and scattered back, all in one graph that is made at load
//! by putting `Gather` and `ScatterElements` around the model's own nodes. What crosses between host and
//! device in a step are three short lists of whole numbers (tokens and places of the rows; the tokens whose
//! scores are wanted; the rows whose mass of word starts is wanted) and the wanted scores, never states nor
//! `[rows x vocabulary]`.
//!
//! **Why scatter in place.** The arena is bound as an input and as the output of `ScatterElements`, the same
//! tensor. ONNX Runtime's kernels copy the input to the output first unless they are the same memory, on the
//! processor and on CUDA alike, so that only the rows of the step are written. (`ScatterND` would do too, but
//! its CUDA kernel gives each row one thread; `ScatterElements` gives one to each number. Binding a step's
//! output to a free stretch of the arena would save the copy, but the scheduler frees states one by one, so
//! that stretches would have to be found and moved together, and a view into device memory is `unsafe`.) A
//! place cannot be written before it is read: what is scattered is made from what was gathered, which is
//! checked in the graph.
//!
//! **Shapes.** Rows and wanted tokens are filled up to a few sizes; rows that only fill up start from a place
//! of zeros and write to a place that nobody reads. A state that is reset costs nothing: its row starts from
//! the zeros.
//!
//! **The output layer** runs in the same graph. Up to [`TILE_BYTES`] of logits it runs whole, as exported;
//! larger vocabularies are cut into tiles, each reduced to a log-sum-exp a row before the next is made. The
//! matrix is then on the device twice, as tiles and whole: the logits of the wanted tokens are made from its
//! rows, which is a few launches where looking them up in every tile would be some for each.
//!
//! All of it runs on ONNX Runtime's CPU provider as well, with host memory for the arena, and is tested
//! there ([`OnnxOptions::bound`](super::OnnxOptions)); only the provider differs on a GPU. A model that cannot
//! be changed so, or whose scores would not stay, runs as before, with states through the host.

mod arena;
mod graph;
mod kernel;
mod nodes;

use std::sync::Arc;

pub(super) use kernel::BoundKernel;

use super::graph::Graph;
use super::session::{Plan, Runner, Source};
use super::signature::{Finding, Signature};

/// A model as it is run over an arena.
#[derive(Debug)]
pub(super) struct Bound {
    pub source: Source,
    /// The model's own.
    pub signature: Arc<Signature>,
    /// How its sessions are made, but for their threads.
    pub plan: Plan,
    /// Tiles of the output layer; 1 if it is whole.
    pub tiles: usize,
}

impl Bound {
    /// Changes the model that `source` and `graph` are; `tile` tokens of the output layer are made at once.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub fn new(
        source: &Source,
        graph: &Graph,
        signature: &Arc<Signature>,
        plan: Plan,
        starts: &[u32],
        tile: usize,
    ) -> Result<Self, String> {
        let mut edits = source.edits.clone();
        edits.push(graph::step(graph, signature, starts, tile)?.into());
        let source = Source { edits, ..source.clone() };
        let tiles = signature.vocab_size.div_ceil(tile.max(1));
        Ok(Self { source, signature: signature.clone(), plan, tiles })
    }

    /// Loads it.
    ///
    /// # Errors
    /// As [`Runner::new`].
    pub fn runner(&self, threads: usize) -> crate::Result<Runner> {
        Runner::new(&self.source, Plan { threads: threads.max(1), ..self.plan })
    }

    /// What to tell of it.
    pub fn finding(&self, difference: f64) -> Finding {
        let layer = match self.tiles {
            1 => "only the scores that are wanted are copied back".to_owned(),
            tiles => format!("the output layer runs there in {tiles} tiles"),
        };
        Finding {
            what: "states",
            value: format!("stay in the memory of {}; {layer}", self.plan.device),
            why: format!("scores stay within {difference:.0e} a token"),
        }
    }

    /// What to tell of a model that is run otherwise.
    pub fn none(why: String) -> Finding {
        Finding { what: "states", value: "go through the host's memory at each step".into(), why }
    }
}

/// Logits that one run may make at once.
const TILE_BYTES: usize = 64 << 20;
/// Tokens of the output layer that are made at once.
pub(super) const TILE: usize = TILE_BYTES / (size_of::<f32>() * kernel::MOST_ROWS);
