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
mod dots;
mod reduced;
mod team;
mod tile;

use std::ops::Range;

use crate::lm::prefetch::prefetch;

pub use activation::{add, exponential, sigmoid, tanh};
pub use dots::{dot, dots};
pub use reduced::Precision;
pub use team::Team;
pub use tile::{Epilogue, MOST_ROWS, PANEL, Panel};

pub use reduced::Kind;
use tile::Loops;

/// In how many bits products are made, and the loops for one kind of processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiles {
    /// In f32.
    Exact(Loops),
    /// In fewer bits.
    Reduced(Kind),
}

/// A matrix packed for products; immutable.
pub struct Matrix {
    /// Numbers in a row that it is multiplied with, a multiple of [`PIECE`].
    width: usize,
    /// How many of them count; the others only fill a row up.
    columns: usize,
    weights: Weights,
}

enum Weights {
    /// Panel after panel: `width` times the weights of 32 neighbouring outputs.
    Exact(Loops, Vec<Panel>),
    Reduced(reduced::Matrix),
}

/// Rows packed for products with a matrix, blocks of rows one after another, in each block the rows'
/// numbers of a column side by side.
#[derive(Default)]
pub struct Rows {
    count: usize,
    width: usize,
    values: Vec<f32>,
    /// Instead of `values`, for a matrix in fewer bits.
    reduced: reduced::Rows,
}

/// To copy fewer rows takes less time than to wake another thread for it.
const WORTH_SHARING: usize = 48;

/// Pieces are asked for so many before they are read.
const AHEAD: usize = 4;

/// Rows are read in pieces of so many numbers.
pub const PIECE: usize = 8;

impl Matrix {
    /// Packs a matrix of so many panels for rows of `width` numbers, a multiple of [`PIECE`]:
    /// `weight(output, column)`, 0 where there is nothing.
    pub fn pack(tiles: Tiles, width: usize, panels: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        debug_assert_eq!(width % PIECE, 0);
        let weights = match tiles {
            Tiles::Exact(loops) => {
                let mut weights = Vec::with_capacity(panels * width);
                for first in (0..panels).map(|panel| panel * PANEL) {
                    let of = |column| Panel(std::array::from_fn(|lane| weight(first + lane, column)));
                    weights.extend((0..width).map(of));
                }
                Weights::Exact(loops, weights)
            }
            Tiles::Reduced(kind) => Weights::Reduced(reduced::Matrix::pack(kind, width, panels, weight)),
        };
        Self { width, columns: width, weights }
    }

    /// The same, where all weights beyond so many columns are 0: products in f32 leave these out.
    pub fn of_columns(self, columns: usize) -> Self {
        Self { columns: columns.min(self.width), ..self }
    }

    /// Numbers in a row that it is multiplied with.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Which loops it is run with.
    pub fn tiles(&self) -> Tiles {
        match &self.weights {
            Weights::Exact(loops, _) => Tiles::Exact(*loops),
            Weights::Reduced(matrix) => Tiles::Reduced(matrix.kind()),
        }
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        match &self.weights {
            Weights::Exact(_, weights) => size_of_val(&**weights),
            Weights::Reduced(matrix) => matrix.bytes(),
        }
    }

    /// One number of it, as it was packed or rounded.
    pub fn weight(&self, output: usize, column: usize) -> f32 {
        match &self.weights {
            Weights::Exact(_, weights) => self.panel(weights, output / PANEL)[column].0[output % PANEL],
            Weights::Reduced(matrix) => matrix.weight(output, column),
        }
    }

    /// Multiplies all rows with one panel and hands the products to `epilogue`, tile by tile.
    pub fn run(&self, panel: usize, rows: &Rows, epilogue: &mut impl Epilogue) {
        debug_assert_eq!(rows.width, self.width);
        for block in self.tiles().blocks(rows.count) {
            match &self.weights {
                Weights::Exact(loops, weights) => {
                    let packed = &rows.values[block.start * self.width..block.end * self.width];
                    let weights = &self.panel(weights, panel)[..self.columns];
                    loops.run(weights, packed, block.len(), block.start, epilogue);
                }
                Weights::Reduced(matrix) => matrix.run(panel, &rows.reduced, block, epilogue),
            }
        }
    }

    /// As [`Matrix::run`], of rows that have only some columns; only in f32, where a sum may go on with others
    /// ([`Epilogue::begin`]), and then has the bits of the whole.
    pub fn run_columns(
        &self,
        panel: usize,
        columns: Range<usize>,
        rows: &Rows,
        epilogue: &mut impl Epilogue,
    ) {
        let Weights::Exact(loops, weights) = &self.weights else {
            debug_assert!(false, "a row in fewer bits has one scale for all columns");
            return;
        };
        debug_assert_eq!(rows.width, columns.len());
        let weights = &self.panel(weights, panel)[columns.start..columns.end.min(self.columns)];
        for block in self.tiles().blocks(rows.count) {
            let packed = &rows.values[block.start * rows.width..block.end * rows.width];
            loops.run(weights, packed, block.len(), block.start, epilogue);
        }
    }

    /// The product of one row with one output, the bits that [`Matrix::run`] gives.
    pub fn dot(&self, output: usize, row: impl Iterator<Item = f32>) -> f32 {
        match &self.weights {
            Weights::Exact(loops, weights) => {
                let weights = &self.panel(weights, output / PANEL)[..self.columns];
                loops.dot(weights, output % PANEL, row)
            }
            Weights::Reduced(matrix) => matrix.dot(output, row),
        }
    }

    fn panel<'a>(&self, weights: &'a [Panel], panel: usize) -> &'a [Panel] {
        &weights[panel * self.width..(panel + 1) * self.width]
    }
}

impl Tiles {
    /// The fastest that this processor can do, in f32.
    pub fn best() -> Self {
        Self::Exact(Loops::best())
    }

    /// The fastest that this processor can do for rows of `width` numbers; `None` where f32 is as fast.
    pub fn of(precision: Precision, width: usize) -> Option<Self> {
        let fast = |kind: &Kind| *kind != Kind::Portable && width <= reduced::WIDEST - PIECE;
        match precision {
            Precision::F32 => Some(Self::best()),
            _ => Kind::best(precision).filter(fast).map(Self::Reduced),
        }
    }

    /// All that this processor can do.
    #[cfg(test)]
    pub fn all() -> Vec<Self> {
        Loops::all().into_iter().map(Self::Exact).collect()
    }

    /// All that this processor can do in fewer bits.
    #[cfg(test)]
    pub fn all_reduced() -> Vec<Self> {
        let kinds = [Precision::Int8, Precision::Bf16].map(Kind::all);
        kinds.into_iter().flatten().map(Self::Reduced).collect()
    }

    /// The same processor's loops in f32.
    pub fn exact(self) -> Self {
        match self {
            Self::Exact(_) => self,
            Self::Reduced(kind) => Self::Exact(kind.exact()),
        }
    }

    /// Whether products are rounded.
    pub fn is_reduced(self) -> bool {
        matches!(self, Self::Reduced(_))
    }

    /// Whether the loops use what the processor has.
    pub fn is_fast(self) -> bool {
        !matches!(self, Self::Exact(Loops::Portable) | Self::Reduced(Kind::Portable))
    }

    /// The blocks that `count` rows fall into, as equal in size as can be: a last block of one row would
    /// wait for its own additions.
    pub fn blocks(self, count: usize) -> impl Iterator<Item = Range<usize>> + Send {
        let most = match self {
            Self::Exact(loops) => loops.rows(),
            Self::Reduced(kind) => kind.rows(),
        };
        let blocks = count.div_ceil(most);
        (0..blocks).map(move |block| block * count / blocks..(block + 1) * count / blocks)
    }
}

impl Rows {
    /// Packs `count` rows for `matrix`; `piece(row, n)` gives numbers `n * PIECE..` of a row.
    pub fn pack<'a>(
        &mut self,
        matrix: &Matrix,
        count: usize,
        team: &Team,
        piece: impl Fn(usize, usize) -> &'a [f32; PIECE] + Sync,
    ) {
        self.pack_columns(matrix, matrix.width, count, team, piece);
    }

    /// As [`Rows::pack`], rows of `width` numbers for [`Matrix::run_columns`].
    pub fn pack_columns<'a>(
        &mut self,
        matrix: &Matrix,
        width: usize,
        count: usize,
        team: &Team,
        piece: impl Fn(usize, usize) -> &'a [f32; PIECE] + Sync,
    ) {
        (self.count, self.width) = (count, width);
        if let Weights::Reduced(matrix) = &matrix.weights {
            return self.reduced.pack(matrix, count, team, piece);
        }
        let few = Team::alone();
        let team = if count < WORTH_SHARING { &few } else { team };
        self.values.resize(count * width, 0.0);
        let mut left = &mut self.values[..];
        let blocks = matrix.tiles().blocks(count).map(|block| {
            let (values, rest) = std::mem::take(&mut left).split_at_mut(block.len() * width);
            left = rest;
            (block, values)
        });
        let Tiles::Exact(loops) = matrix.tiles() else { return };
        team.share(blocks, |(block, values)| {
            let mut rows = [&[0.0; PIECE]; MOST_ROWS];
            let rows = &mut rows[..block.len()];
            let pieces = width / PIECE;
            for (number, values) in values.chunks_exact_mut(PIECE * block.len()).enumerate() {
                // The pieces of a row need not lie side by side.
                if number + AHEAD < pieces {
                    block.clone().for_each(|row| prefetch(piece(row, number + AHEAD), 0));
                }
                for (place, row) in rows.iter_mut().zip(block.clone()) {
                    *place = piece(row, number);
                }
                loops.pack(rows, values);
            }
        });
    }

    /// A row as it came. Only rows for a matrix in fewer bits keep it.
    pub fn exact(&self, number: usize) -> &[f32] {
        self.reduced.row(number, self.width)
    }

    /// Writes rows as they came, one after another, to `out`. They were packed for `matrix`.
    pub fn unpack(&self, matrix: &Matrix, out: &mut [f32]) {
        if matrix.tiles().is_reduced() {
            let all = (0..self.count).map(|number| self.exact(number));
            return out.chunks_exact_mut(self.width).zip(all).for_each(|(out, row)| out.copy_from_slice(row));
        }
        for block in matrix.tiles().blocks(self.count) {
            let values = &self.values[block.start * self.width..block.end * self.width];
            for (place, row) in block.clone().enumerate() {
                let out = &mut out[row * self.width..(row + 1) * self.width];
                let from = values.iter().skip(place).step_by(block.len());
                out.iter_mut().zip(from).for_each(|(out, &value)| *out = value);
            }
        }
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests;
