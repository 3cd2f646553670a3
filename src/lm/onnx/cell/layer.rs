//! One recurrent layer: its weights, packed so that the gates of a unit lie in one panel, and what becomes
//! of a tile of them.

// Lanes, not elements: an index says which.
#![allow(clippy::needless_range_loop)]

use super::super::product::{Epilogue, MOST_ROWS, Matrix, PANEL, PIECE, Panel, Tiles, add, sigmoid, tanh};
use crate::lm::prefetch::prefetch;

/// Which cell, by the equations of the ONNX operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// LSTM with a forget gate, with or without peepholes. The LSTM of 1997 is one whose forget gate its
    /// biases keep open.
    Lstm,
    /// GRU that resets after the product (`linear_before_reset`). The other kind multiplies twice in a row.
    Gru,
    /// Elman's network with tanh.
    Tanh,
    /// The same with a rectifier.
    Relu,
}

/// A layer's weights as ONNX has them.
#[derive(Debug, Clone)]
pub struct Weights {
    pub kind: Kind,
    /// Numbers that it reads.
    pub input: usize,
    /// Units.
    pub size: usize,
    /// `[gates x size, input]`.
    pub w: Vec<f32>,
    /// `[gates x size, size]`.
    pub r: Vec<f32>,
    /// `[2 x gates x size]`, or nothing.
    pub b: Vec<f32>,
    /// Peepholes `[3 x size]`: input, output, forget; or nothing.
    pub p: Vec<f32>,
}

/// A layer that is ready.
pub struct Layer {
    pub kind: Kind,
    pub size: usize,
    /// Times `[input; hidden]`, or `[hidden]` where the input's part comes from a table.
    pub matrix: Matrix,
    /// A panel's biases, one a lane; without those that a table holds.
    pub bias: Vec<Panel>,
    /// Of each panel, those of its units: input, output, forget; empty where there are none.
    pub peepholes: Vec<[[f32; 8]; 3]>,
}

impl Kind {
    /// Gates in the weights.
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Tanh | Self::Relu => 1,
        }
    }

    /// Units in a panel: an LSTM's have four lanes each, and so have a GRU's, whose third gate needs the
    /// products with input and state apart.
    pub fn units(self) -> usize {
        match self {
            Self::Lstm | Self::Gru => 8,
            Self::Tanh | Self::Relu => PANEL,
        }
    }

    /// Numbers of state of a panel's units: hidden, then cells.
    pub fn state(self) -> usize {
        match self {
            Self::Lstm => 16,
            Self::Gru => 8,
            Self::Tanh | Self::Relu => PANEL,
        }
    }

    /// Where a state lies among those of a panel's units: in which panel, and where that part begins. No
    /// state lies across two lines of the cache.
    pub fn place(self, state: u32) -> (usize, usize) {
        let first = state as usize * self.state();
        (first / PANEL, first % PANEL)
    }

    /// Where a state begins: what the units show. A piece of `PIECE` of them lies at `piece * PIECE`.
    pub fn pieces(self) -> usize {
        self.units() / PIECE
    }

    /// The gate of a lane in the weights of the input and in those of the state.
    fn gate(self, lane: usize) -> (Option<usize>, Option<usize>) {
        let group = lane / 8;
        match (self, group) {
            (Self::Lstm, _) => (Some(group), Some(group)),
            (Self::Gru, 0 | 1) => (Some(group), Some(group)),
            (Self::Gru, 2) => (Some(2), None),
            (Self::Gru, _) => (None, Some(2)),
            (Self::Tanh | Self::Relu, _) => (Some(0), Some(0)),
        }
    }
}

impl Weights {
    /// Panels of the packed layer.
    pub fn panels(&self) -> usize {
        self.size.div_ceil(self.kind.units())
    }

    /// The rows of the input's and the state's weights that belong to each output of the packed layer.
    pub fn rows(&self) -> Vec<(Option<usize>, Option<usize>)> {
        let units = self.kind.units();
        let rows = |output: usize| {
            let unit = output / PANEL * units + output % PANEL % units;
            let (w, r) = self.kind.gate(output % PANEL);
            let row = |gate: usize| gate * self.size + unit;
            (w.filter(|_| unit < self.size).map(row), r.filter(|_| unit < self.size).map(row))
        };
        (0..self.panels() * PANEL).map(rows).collect()
    }

    /// Number `column` of a row of the input's weights.
    pub fn of_input(&self, row: Option<usize>, column: usize) -> f32 {
        row.filter(|_| column < self.input).map_or(0.0, |row| self.w[row * self.input + column])
    }

    fn of_state(&self, row: Option<usize>, column: usize) -> f32 {
        row.filter(|_| column < self.size).map_or(0.0, |row| self.r[row * self.size + column])
    }

    /// All biases of an output together.
    pub fn bias(&self, (w, r): (Option<usize>, Option<usize>)) -> f32 {
        let half = self.b.len() / 2;
        let (input, state) = self.b.split_at(half);
        w.and_then(|row| input.get(row)).unwrap_or(&0.0) + r.and_then(|row| state.get(row)).unwrap_or(&0.0)
    }

    /// The layer; `table` says that its input's part and its biases come from elsewhere. `input` is how
    /// wide the packed input is: the units of the layer below, filled up to whole panels.
    pub fn pack(&self, tiles: Tiles, input: usize, table: bool) -> Layer {
        let panels = self.panels();
        let state = panels * self.kind.units();
        let before = if table { 0 } else { input };
        let rows = self.rows();
        let weight = |output: usize, column: usize| match column.checked_sub(before) {
            None => self.of_input(rows[output].0, column),
            Some(column) => self.of_state(rows[output].1, column),
        };
        let bias = |output: usize| if table { 0.0 } else { self.bias(rows[output]) };
        let peephole = |which: usize, unit: usize| {
            if unit < self.size { self.p[which * self.size + unit] } else { 0.0 }
        };
        let peepholes = |panel: usize| {
            std::array::from_fn(|which| std::array::from_fn(|unit| peephole(which, panel * 8 + unit)))
        };
        Layer {
            kind: self.kind,
            size: self.size,
            matrix: Matrix::pack(tiles, before + state, panels, weight).of_columns(before + self.size),
            bias: panel_by_panel(panels, bias),
            peepholes: if self.p.is_empty() { Vec::new() } else { (0..panels).map(peepholes).collect() },
        }
    }
}

/// A number for each output.
pub fn panel_by_panel(panels: usize, value: impl Fn(usize) -> f32) -> Vec<Panel> {
    let panel = |panel| Panel(std::array::from_fn(|lane| value(panel * PANEL + lane)));
    (0..panels).map(panel).collect()
}

/// Makes new states of the products with one panel.
pub struct Update<'a> {
    pub layer: &'a Layer,
    pub panel: usize,
    /// What is added to the products of a row: the panel of this number, of a row of a table or of biases.
    pub added: &'a [&'a [Panel]],
    /// What the products of a row are added to; nothing where they are whole.
    pub begins: &'a [Panel],
    pub from: &'a [u32],
    pub to: &'a [u32],
    /// States of this panel's units, one history after another.
    pub states: &'a mut [Panel],
}

/// Gates and states of a block of rows, eight units a row, four rows side by side. What becomes of them is
/// said for single lanes in loops over many: of short loops compilers do not make vector code reliably.
struct Block {
    /// The gates of each four rows.
    gates: [[Panel; 4]; PARTS],
    old: [Panel; PARTS],
    /// How many of them are in use.
    parts: usize,
}

impl Epilogue for Update<'_> {
    /// A panel's part of a table row, and of a state, lies beside no other that was read lately.
    fn ahead(&self, first: usize, rows: usize) {
        for row in first..first + rows {
            let Panel(added) = &self.added[row][self.panel];
            prefetch(added, 0);
            prefetch(added, 16);
            for state in [self.from[row], self.to[row]] {
                let (panel, at) = self.layer.kind.place(state);
                let Panel(numbers) = &self.states[panel];
                (at..at + self.layer.kind.state()).step_by(16).for_each(|at| prefetch(numbers, at));
            }
        }
    }

    #[inline(always)]
    fn added(&self, row: usize) -> Option<&Panel> {
        Some(&self.added[row][self.panel])
    }

    #[inline(always)]
    fn begin(&self, row: usize) -> &Panel {
        self.begins.get(row).unwrap_or(&Panel::ZERO)
    }

    #[inline(always)]
    fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
        let rows = first..first + tile.len();
        let kind = self.layer.kind;
        match kind {
            Kind::Lstm => {
                let mut block = Block::new(tile);
                for (place, row) in rows.clone().enumerate() {
                    let (panel, at) = kind.place(self.from[row]);
                    eight(&mut block.old[place / 4], place)
                        .copy_from_slice(&self.states[panel].0[at + 8..at + 16]);
                }
                block.lstm::<FUSED>(self.layer.peepholes.get(self.panel));
                for (place, row) in rows.enumerate() {
                    let (panel, at) = kind.place(self.to[row]);
                    let [hidden, cells, ..] = &mut block.gates[place / 4];
                    self.states[panel].0[at..at + 8].copy_from_slice(eight(hidden, place));
                    self.states[panel].0[at + 8..at + 16].copy_from_slice(eight(cells, place));
                }
            }
            Kind::Gru => {
                let mut block = Block::new(tile);
                for (place, row) in rows.clone().enumerate() {
                    let (panel, at) = kind.place(self.from[row]);
                    eight(&mut block.old[place / 4], place)
                        .copy_from_slice(&self.states[panel].0[at..at + 8]);
                }
                block.gru::<FUSED>();
                for (place, row) in rows.enumerate() {
                    let (panel, at) = kind.place(self.to[row]);
                    let hidden = &mut block.gates[place / 4][0];
                    self.states[panel].0[at..at + 8].copy_from_slice(eight(hidden, place));
                }
            }
            Kind::Tanh => {
                for (Panel(products), row) in tile.iter().zip(rows) {
                    self.states[self.to[row] as usize] = Panel(tanh::<PANEL, FUSED>(*products));
                }
            }
            Kind::Relu => {
                for (Panel(products), row) in tile.iter().zip(rows) {
                    // NaN stays.
                    let open = products.map(|product| if product < 0.0 { 0.0 } else { product });
                    self.states[self.to[row] as usize] = Panel(open);
                }
            }
        }
    }
}

impl Block {
    /// The gates in these products.
    #[inline(always)]
    fn new(tile: &[Panel]) -> Self {
        let mut gates = [[Panel::ZERO; 4]; PARTS];
        for (place, products) in tile.iter().enumerate() {
            for (gates, products) in gates[place / 4].iter_mut().zip(products.0.as_chunks::<8>().0) {
                eight(gates, place).copy_from_slice(products);
            }
        }
        Self { gates, old: [Panel::ZERO; PARTS], parts: tile.len().div_ceil(4) }
    }

    /// Gates (input, output, forget, cell) and old cells, to hidden states and cells.
    #[inline(always)]
    fn lstm<const FUSED: bool>(&mut self, peepholes: Option<&[[f32; 8]; 3]>) {
        for ([input, output, forget, new], old) in self.gates.iter_mut().zip(&self.old).take(self.parts) {
            let seen = |gates: &mut Panel, weights: &[f32; 8], cells: &Panel| {
                for lane in 0..PANEL {
                    gates.0[lane] = add::<FUSED>(weights[lane % 8], cells.0[lane], gates.0[lane]);
                }
            };
            if let Some([to_input, _, to_forget]) = peepholes {
                seen(input, to_input, old);
                seen(forget, to_forget, old);
            }
            let mut cells = Panel::ZERO;
            for lane in 0..PANEL {
                let [input] = sigmoid::<1, FUSED>([input.0[lane]]);
                let [forget] = sigmoid::<1, FUSED>([forget.0[lane]]);
                let [new] = tanh::<1, FUSED>([new.0[lane]]);
                cells.0[lane] = add::<FUSED>(forget, old.0[lane], input * new);
            }
            if let Some([_, to_output, _]) = peepholes {
                seen(output, to_output, &cells);
            }
            for lane in 0..PANEL {
                let [output] = sigmoid::<1, FUSED>([output.0[lane]]);
                let [shown] = tanh::<1, FUSED>([cells.0[lane]]);
                input.0[lane] = shown * output;
            }
            *output = cells;
        }
    }

    /// Gates (update, reset, the input's part of the new state, the state's part) and old states, to new
    /// states.
    #[inline(always)]
    fn gru<const FUSED: bool>(&mut self) {
        for ([update, reset, input, state], old) in self.gates.iter_mut().zip(&self.old).take(self.parts) {
            for lane in 0..PANEL {
                let [reset] = sigmoid::<1, FUSED>([reset.0[lane]]);
                let [new] = tanh::<1, FUSED>([add::<FUSED>(reset, state.0[lane], input.0[lane])]);
                let [open] = sigmoid::<1, FUSED>([update.0[lane]]);
                update.0[lane] = add::<FUSED>(open, old.0[lane] - new, new);
            }
        }
    }
}

/// The lanes of a row in a panel of four rows.
#[inline(always)]
fn eight(Panel(lanes): &mut Panel, place: usize) -> &mut [f32] {
    let first = place % 4 * 8;
    &mut lanes[first..first + 8]
}

/// Of four rows each, for a whole block.
const PARTS: usize = MOST_ROWS.div_ceil(4);
