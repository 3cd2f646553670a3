//! Products of rows with a matrix that stays: what the output layer and the recurrent layers are made of.
//!
//! A [`Matrix`] is packed once, in panels of 32 neighbouring outputs, and shared by all workers. [`Rows`]
//! are packed for each product. A product is made panel by panel, each with all rows, in tiles that stay in
//! registers until an [`Epilogue`] has made of them what is wanted: gates of a cell, a part of a sum.
//! (Tiles and packing: Goto and van de Geijn 2008.) The columns need no blocking of their own: while a panel
//! of 4,096 columns, 512 KiB, is run against all rows, it stays in the second-level cache, and a tile needs
//! 128 bytes of it for 24 vector instructions.
//!
//! A row's result does not depend on the rows beside it, nor on the number of threads.

mod activation;
mod crew;
mod tile;

pub use activation::{add, exponential, sigmoid, tanh};
pub use crew::Crew;
pub use tile::{Epilogue, PANEL, Panel, Tiles};

/// A matrix packed for products; immutable.
pub struct Matrix {
    /// Numbers in a row that it is multiplied with, a multiple of [`PIECE`].
    width: usize,
    tiles: Tiles,
    /// Panel after panel: `width` times the weights of 32 neighbouring outputs.
    weights: Vec<Panel>,
}

/// Rows packed for products with a matrix, blocks of rows one after another, in each block the rows'
/// numbers of a column side by side.
#[derive(Default)]
pub struct Rows {
    count: usize,
    width: usize,
    values: Vec<f32>,
}

/// Rows are read in pieces of so many numbers.
pub const PIECE: usize = 8;

impl Matrix {
    /// Packs a matrix of so many panels for rows of `width` numbers, a multiple of [`PIECE`]:
    /// `weight(output, column)`, 0 where there is nothing.
    pub fn pack(tiles: Tiles, width: usize, panels: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        debug_assert_eq!(width % PIECE, 0);
        let mut weights = Vec::with_capacity(panels * width);
        for first in (0..panels).map(|panel| panel * PANEL) {
            let of = |column| Panel(std::array::from_fn(|lane| weight(first + lane, column)));
            weights.extend((0..width).map(of));
        }
        Self { width, tiles, weights }
    }

    /// Numbers in a row that it is multiplied with.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.weights)
    }

    /// One number of it.
    pub fn weight(&self, output: usize, column: usize) -> f32 {
        self.panel(output / PANEL)[column].0[output % PANEL]
    }

    /// Multiplies all rows with one panel and hands the products to `epilogue`, tile by tile.
    pub fn run(&self, panel: usize, rows: &Rows, epilogue: &mut impl Epilogue) {
        debug_assert_eq!(rows.width, self.width);
        let weights = self.panel(panel);
        for block in self.tiles.blocks(rows.count) {
            let packed = &rows.values[block.start * self.width..block.end * self.width];
            self.tiles.run(weights, packed, block.len(), block.start, epilogue);
        }
    }

    /// The product of one row with one output, the bits that [`Matrix::run`] gives.
    pub fn dot(&self, output: usize, row: impl Iterator<Item = f32>) -> f32 {
        self.tiles.dot(self.panel(output / PANEL), output % PANEL, row)
    }

    fn panel(&self, panel: usize) -> &[Panel] {
        &self.weights[panel * self.width..(panel + 1) * self.width]
    }
}

impl Rows {
    /// Packs `count` rows for `matrix`; `piece(row, n)` gives numbers `n * PIECE..` of a row.
    pub fn pack<'a>(
        &mut self,
        matrix: &Matrix,
        count: usize,
        crew: &Crew,
        piece: impl Fn(usize, usize) -> &'a [f32; PIECE] + Sync,
    ) {
        (self.count, self.width) = (count, matrix.width);
        self.values.resize(count * matrix.width, 0.0);
        let mut left = &mut self.values[..];
        let blocks = matrix.tiles.blocks(count).map(|block| {
            let (values, rest) = std::mem::take(&mut left).split_at_mut(block.len() * matrix.width);
            left = rest;
            (block, values)
        });
        crew.share(blocks, |(block, values)| {
            for (number, values) in values.chunks_exact_mut(PIECE * block.len()).enumerate() {
                for (place, row) in block.clone().enumerate() {
                    for (at, &value) in piece(row, number).iter().enumerate() {
                        values[at * block.len() + place] = value;
                    }
                }
            }
        });
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests;
