//! Several small steps together, layer after layer.
//!
//! One list's histories of a length are few, and a step of few rows takes as long as it takes to read the
//! weights. But all tokens are known beforehand. So what each layer makes of its input is made for the
//! histories of several lengths in one product, and only what their states add length by length, which reads
//! half of a layer's weights, the same half each time. (Appleyard et al. 2016 do so with the steps of a
//! sequence.)

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use super::super::product::{Epilogue, Panel, Rows, Team};
use super::layer::{Layer, Update};
use super::stack::{Arena, Scratch, Stack, hidden};
use crate::lm;
use crate::lm::prefetch::prefetch;

impl Stack {
    /// Feeds each row's token to its state, level after level; see [`lm::StepKernel::run_levels`]. The states
    /// have the bits that [`Stack::step`] gives.
    ///
    /// In f32 only: a row in fewer bits has one scale for input and state.
    pub fn run_levels(
        &self,
        rows: lm::Rows<'_>,
        levels: &[u32],
        arena: &mut Arena,
        scratch: &mut Scratch,
        team: &Team,
    ) {
        let count = rows.tokens.len();
        arena.forget_norms(rows.to);
        let fresh = self.table.learn(rows.tokens, &self.head, team, &mut scratch.rows);
        let of_tokens: Vec<&[Panel]> =
            rows.tokens.iter().map(|&token| self.table.row(token, &fresh)).collect();
        for (number, layer) in self.layers.iter().enumerate() {
            let (below, here) = arena.panels.split_at_mut(number);
            let states = &mut here[0];
            let Scratch { rows: packed, sums, .. } = &mut *scratch;
            let input = below.last().map(|panels| (self.layers[number - 1].kind, panels));
            let first = input.map_or(0, |(kind, panels)| panels.len() * kind.units());
            if let Some((kind, panels)) = input {
                packed.pack_columns(&layer.matrix, first, count, team, |row, piece| {
                    hidden(panels, kind, rows.to[row], piece)
                });
                make_sums(layer, first, packed, sums, team);
            }
            let biases = vec![&layer.bias[..]; count];
            let (added, sums) = (if input.is_none() { &of_tokens } else { &biases }, &sums[..]);
            let panels = states.len();
            // Nobody ever waits for a lock: rows are packed between turns, and in a turn a panel is one thread's.
            let states: Vec<Mutex<&mut Vec<Panel>>> = states.iter_mut().map(Mutex::new).collect();
            let packed = RwLock::new(packed);
            let columns = first..layer.matrix.width();
            let levels: Vec<Range<usize>> = lm::each_level(levels).collect();
            let prepare = |turn: usize| {
                let from = &rows.from[levels[turn].clone()];
                let states: Vec<MutexGuard<'_, _>> = states.iter().map(lock).collect();
                let states: Vec<&[Panel]> = states.iter().map(|states| &states[..]).collect();
                // Most were written lately, and by another processor.
                for states in &states {
                    for &state in from {
                        let (at, first) = layer.kind.place(state);
                        prefetch(&states[at].0, first);
                    }
                }
                let mut packed = packed.write().unwrap_or_else(PoisonError::into_inner);
                packed.pack_columns(
                    &layer.matrix,
                    columns.len(),
                    from.len(),
                    &Team::alone(),
                    |row, piece| hidden(&states, layer.kind, from[row], piece),
                );
            };
            let work = |turn: usize, panel: usize| {
                let level = levels[turn].clone();
                let (from, to) = (&rows.from[level.clone()], &rows.to[level.clone()]);
                let begins = if input.is_some() { &sums[at(panel, count, &level)] } else { &[] };
                let (added, states) = (&added[level], &mut lock(&states[panel])[..]);
                let mut update = Update { layer, panel, added, begins, from, to, states };
                let packed = packed.read().unwrap_or_else(PoisonError::into_inner);
                layer.matrix.run_columns(panel, columns.clone(), &packed, &mut update);
            };
            team.take_turns(levels.len(), panels, prepare, work);
        }
    }
}

/// Products of rows with a layer's first columns, panel by panel.
fn make_sums(layer: &Layer, columns: usize, packed: &Rows, sums: &mut Vec<Panel>, team: &Team) {
    let needed = layer.bias.len() * packed.count();
    if sums.len() < needed {
        sums.resize(needed, Panel::ZERO);
    }
    team.share(
        sums.chunks_exact_mut(packed.count().max(1)).enumerate().take(layer.bias.len()),
        |(panel, sums)| {
            layer.matrix.run_columns(panel, 0..columns, packed, &mut Store(sums));
        },
    );
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a level's rows are among a panel's.
fn at(panel: usize, count: usize, level: &Range<usize>) -> Range<usize> {
    panel * count + level.start..panel * count + level.end
}

/// Keeps products.
struct Store<'a>(&'a mut [Panel]);

impl Epilogue for Store<'_> {
    #[inline(always)]
    fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
        self.0[first..first + tile.len()].copy_from_slice(tile);
    }
}
