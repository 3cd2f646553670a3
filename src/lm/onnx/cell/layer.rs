//! One recurrent layer: its weights, packed so that the gates of a unit lie in one panel, and what becomes
//! of a tile of them.

// Lanes, not elements: an index says which.
#![allow(clippy::needless_range_loop)]

use super::super::product::{Epilogue, Matrix, PANEL, PIECE, Panel, Tiles, add, sigmoid, tanh};
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
            matrix: Matrix::pack(tiles, before + state, panels, weight),
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
    pub states: &'a mut [f32],
}

impl Epilogue for Update<'_> {
    /// A panel's part of a table row, and of a state, lies beside no other that was read lately.
    fn ahead(&self, first: usize, rows: usize) {
        let size = self.layer.kind.state();
        for row in first..first + rows {
            let Panel(added) = &self.added[row][self.panel];
            prefetch(added, 0);
            prefetch(added, 16);
            for state in [self.from[row], self.to[row]] {
                (0..size).step_by(16).for_each(|part| prefetch(self.states, state as usize * size + part));
            }
        }
    }

    #[inline(always)]
    fn begin(&self, row: usize) -> &Panel {
        self.begins.get(row).unwrap_or(&Panel::ZERO)
    }

    #[inline(always)]
    fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
        for (row, Panel(products)) in (first..).zip(tile) {
            let added = &self.added[row][self.panel].0;
            for lane in 0..PANEL {
                products[lane] += added[lane];
            }
            let size = self.layer.kind.state();
            let from = self.from[row] as usize * size;
            let to = self.to[row] as usize * size;
            match self.layer.kind {
                Kind::Lstm => {
                    let peepholes = self.layer.peepholes.get(self.panel);
                    let mut cell = [0.0; 8];
                    cell.copy_from_slice(&self.states[from + 8..from + 16]);
                    let (hidden, cell) = lstm::<FUSED>(products, &cell, peepholes);
                    self.states[to..to + 8].copy_from_slice(&hidden);
                    self.states[to + 8..to + 16].copy_from_slice(&cell);
                }
                Kind::Gru => {
                    let mut old = [0.0; 8];
                    old.copy_from_slice(&self.states[from..from + 8]);
                    self.states[to..to + 8].copy_from_slice(&gru::<FUSED>(products, &old));
                }
                Kind::Tanh => {
                    self.states[to..to + PANEL].copy_from_slice(&tanh::<PANEL, FUSED>(*products));
                }
                Kind::Relu => {
                    for (state, &product) in self.states[to..to + PANEL].iter_mut().zip(&*products) {
                        // NaN stays.
                        *state = if product < 0.0 { 0.0 } else { product };
                    }
                }
            }
        }
    }
}

/// Eight units' gates (input, output, forget, cell) and cells, to their hidden states and cells.
#[inline(always)]
fn lstm<const FUSED: bool>(
    gates: &mut [f32; PANEL],
    old: &[f32; 8],
    peepholes: Option<&[[f32; 8]; 3]>,
) -> ([f32; 8], [f32; 8]) {
    if let Some([input, _, forget]) = peepholes {
        for unit in 0..8 {
            gates[unit] = add::<FUSED>(input[unit], old[unit], gates[unit]);
            gates[16 + unit] = add::<FUSED>(forget[unit], old[unit], gates[16 + unit]);
        }
    }
    let mut open = sigmoid::<PANEL, FUSED>(*gates);
    let new = tanh::<8, FUSED>(std::array::from_fn(|unit| gates[24 + unit]));
    let mut cell = [0.0; 8];
    for unit in 0..8 {
        cell[unit] = add::<FUSED>(open[16 + unit], old[unit], open[unit] * new[unit]);
    }
    if let Some([_, output, _]) = peepholes {
        let seen = std::array::from_fn(|unit| add::<FUSED>(output[unit], cell[unit], gates[8 + unit]));
        open[8..16].copy_from_slice(&sigmoid::<8, FUSED>(seen));
    }
    let mut hidden = tanh::<8, FUSED>(cell);
    for unit in 0..8 {
        hidden[unit] *= open[8 + unit];
    }
    (hidden, cell)
}

/// Eight units' gates (update, reset, the input's part of the new state, the state's part) and states, to
/// their new states.
#[inline(always)]
fn gru<const FUSED: bool>(gates: &[f32; PANEL], old: &[f32; 8]) -> [f32; 8] {
    let open = sigmoid::<16, FUSED>(std::array::from_fn(|lane| gates[lane]));
    let reset = std::array::from_fn(|unit| add::<FUSED>(open[8 + unit], gates[24 + unit], gates[16 + unit]));
    let mut new = tanh::<8, FUSED>(reset);
    for unit in 0..8 {
        new[unit] = add::<FUSED>(open[unit], old[unit] - new[unit], new[unit]);
    }
    new
}
