//! What the first layer makes of each token: its input weights times the token's embedding, plus biases.
//! It depends on the token alone, so that each is computed once, when it is first met, for all workers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::head::Head;
use super::super::product::{Epilogue, Matrix, PIECE, Panel, Rows, Team, Tiles};
use super::layer::{Weights, panel_by_panel};

/// A first layer's input weights, and the products known so far.
pub struct Table {
    matrix: Matrix,
    bias: Vec<Panel>,
    embedding: Embedding,
    known: Vec<OnceLock<Box<[Panel]>>>,
    /// How many are kept.
    kept: AtomicUsize,
    workers: AtomicUsize,
    room: Room,
}

/// What a table may take of memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// With one worker.
    pub first: usize,
    /// For each further one: as many workers need more tokens, and share the weights.
    pub further: usize,
}

/// Where the vectors of tokens are.
pub enum Embedding {
    /// Here, `[tokens, width]`.
    Own(Vec<f32>),
    /// They are the rows of the output matrix.
    Tied,
}

/// A step's products that the table has no room for, by token.
pub type Fresh = Vec<(u32, Box<[Panel]>)>;

impl Table {
    /// An empty table of the first layer's products for `tokens` tokens.
    pub fn new(tiles: Tiles, first: &Weights, embedding: Embedding, tokens: usize, room: Room) -> Self {
        let panels = first.panels();
        let rows = first.rows();
        let weight = |output: usize, column| first.of_input(rows[output].0, column);
        Self {
            matrix: Matrix::pack(tiles, first.input.next_multiple_of(PIECE), panels, weight)
                .of_columns(first.input),
            bias: panel_by_panel(panels, |output| first.bias(rows[output])),
            embedding,
            known: std::iter::repeat_with(OnceLock::new).take(tokens).collect(),
            kept: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            room,
        }
    }

    /// Says that one worker more uses it.
    pub fn join(&self) {
        self.workers.fetch_add(1, Ordering::Relaxed);
    }

    /// Says that one worker less does. What is kept already stays.
    pub fn leave(&self) {
        self.workers.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many products may be kept.
    fn most(&self) -> usize {
        let further = self.workers.load(Ordering::Relaxed).saturating_sub(1);
        let bytes = self.room.first.saturating_add(self.room.further.saturating_mul(further));
        bytes / (self.bias.len() * size_of::<Panel>()).max(1)
    }

    /// Bytes of the weights, without what is computed later.
    pub fn bytes(&self) -> usize {
        let own = match &self.embedding {
            Embedding::Own(values) => size_of_val(&**values),
            Embedding::Tied => 0,
        };
        self.matrix.bytes() + own
    }

    /// Computes what is missing for these tokens; gives back what could not be kept.
    pub fn learn(&self, tokens: &[u32], head: &Head, team: &Team, rows: &mut Rows) -> Fresh {
        let missing = tokens.iter().copied().filter(|&token| self.known[token as usize].get().is_none());
        let mut missing: Vec<u32> = missing.collect();
        if missing.is_empty() {
            return Fresh::new();
        }
        missing.sort_unstable();
        missing.dedup();
        let width = self.matrix.width();
        let mut vectors = vec![0.0; missing.len() * width];
        for (&token, vector) in missing.iter().zip(vectors.chunks_exact_mut(width)) {
            self.look_up(token as usize, head, vector);
        }
        let (pieces, _) = vectors.as_chunks();
        rows.pack(&self.matrix, missing.len(), team, |row, piece| &pieces[row * width / PIECE + piece]);
        // Panel by panel.
        let mut products = vec![Panel::ZERO; missing.len() * self.bias.len()];
        team.share(products.chunks_exact_mut(missing.len()).enumerate(), |(panel, out)| {
            self.matrix.run(panel, rows, &mut Keep { bias: &self.bias[panel], out });
        });
        let (mut fresh, most) = (Fresh::new(), self.most());
        for (row, &token) in missing.iter().enumerate() {
            let panels = (0..self.bias.len()).map(|panel| products[panel * missing.len() + row]).collect();
            let room = |kept: usize| (kept < most).then_some(kept + 1);
            if self.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok() {
                // Another worker may have been faster, with the same bits: then there is room for one more.
                if self.known[token as usize].set(panels).is_err() {
                    self.kept.fetch_sub(1, Ordering::Relaxed);
                }
            } else {
                fresh.push((token, panels));
            }
        }
        fresh
    }

    /// The products of a token after [`Table::learn`].
    pub fn row<'a>(&'a self, token: u32, fresh: &'a Fresh) -> &'a [Panel] {
        match self.known[token as usize].get() {
            Some(row) => row,
            None => fresh.binary_search_by_key(&token, |(token, _)| *token).map_or(&[], |at| &fresh[at].1),
        }
    }

    fn look_up(&self, token: usize, head: &Head, vector: &mut [f32]) {
        match &self.embedding {
            Embedding::Own(values) => {
                let width = values.len() / self.known.len();
                vector[..width].copy_from_slice(&values[token * width..(token + 1) * width]);
            }
            Embedding::Tied => {
                let width = head.width();
                for (k, value) in vector[..width].iter_mut().enumerate() {
                    *value = head.weight(token, k);
                }
            }
        }
    }
}

/// Stores products with biases added.
struct Keep<'a> {
    bias: &'a Panel,
    out: &'a mut [Panel],
}

impl Epilogue for Keep<'_> {
    #[inline(always)]
    fn added(&self, _: usize) -> Option<&Panel> {
        Some(self.bias)
    }

    #[inline(always)]
    fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
        self.out[first..first + tile.len()].copy_from_slice(tile);
    }
}
