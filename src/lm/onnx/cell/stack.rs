//! Recurrent layers one above the other with an output layer on top, and one step of them.

use super::super::head::{self, Head, Norm};
use super::super::product::{PANEL, PIECE, Panel, Rows, Team, Tiles};
use super::layer::{Kind, Layer, Update, Weights};
use super::table::{Embedding, Room, Table};
use crate::lm::{self, Wanted};

/// A recurrent language model, packed; immutable but for its table, shared by all workers.
pub struct Stack {
    pub(super) table: Table,
    pub(super) layers: Vec<Layer>,
    pub head: Head,
}

/// The states of many histories. Each panel of each layer has its own memory: all its units' states, one
/// history after another. So threads that share a step by panels write to places of their own, without a
/// copy.
#[derive(Default)]
pub struct Arena {
    /// By layer and panel; where in it see [`Kind::place`].
    pub(super) panels: Vec<Vec<Vec<Panel>>>,
    norms: Vec<Option<Norm>>,
    /// States that were asked for; there may be room for more.
    count: usize,
}

/// All numbers of a state, and what is known of it.
pub struct Saved(Vec<f32>, Option<Norm>);

/// One worker's memory for a step.
#[derive(Default)]
pub struct Scratch {
    pub(super) rows: Rows,
    /// Products that others are added to.
    pub(super) sums: Vec<Panel>,
    head: head::Scratch,
}

impl Stack {
    /// Packs a model. `weights` are its layers' from below, each read when it is its turn; `embedding` has a
    /// vector for each token that may come, `head` weights for each token that may be wanted; `room` bounds
    /// the first layer's table.
    ///
    /// # Errors
    /// Those of `weights`, or that there are none.
    pub fn new(
        tiles: Tiles,
        weights: impl IntoIterator<Item = Result<Weights, String>>,
        embedding: Embedding,
        tokens: usize,
        head: Head,
        room: Room,
    ) -> Result<Self, String> {
        let mut layers: Vec<Layer> = Vec::new();
        let (mut embedding, mut table) = (Some(embedding), None);
        for weights in weights {
            let mut weights = weights?;
            if let Some(embedding) = embedding.take() {
                table = Some(Table::new(tiles.exact(), &weights, embedding, tokens, room));
                // No second copy longer than there must be one.
                weights.w = Vec::new();
            }
            let below = layers.last().map_or(0, |layer: &Layer| layer.bias.len() * layer.kind.units());
            layers.push(weights.pack(tiles, below, layers.is_empty()));
        }
        Ok(Self { table: table.ok_or("it has no layers")?, layers, head })
    }

    /// Whether its products are rounded.
    pub fn is_reduced(&self) -> bool {
        self.layers.iter().any(|layer| layer.matrix.tiles().is_reduced())
    }

    /// Says that one worker more uses the model.
    pub fn join(&self) {
        self.table.join();
    }

    /// Says that one worker less does.
    pub fn leave(&self) {
        self.table.leave();
    }

    /// Layers from below: which cell and how many units.
    pub fn layers(&self) -> impl Iterator<Item = (Kind, usize)> {
        self.layers.iter().map(|layer| (layer.kind, layer.size))
    }

    /// Bytes of the layers' and the output layer's weights, and of the embedding; not of the products that
    /// the table keeps.
    pub fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(|layer| layer.matrix.bytes()).sum();
        layers + self.table.bytes() + self.head.bytes()
    }

    /// Feeds each row's token to its state; see [`lm::StepKernel::run`].
    pub fn step(
        &self,
        rows: lm::Rows<'_>,
        wanted: Wanted<'_>,
        out: &mut [f32],
        arena: &mut Arena,
        scratch: &mut Scratch,
        team: &Team,
    ) {
        let fresh = self.table.learn(rows.tokens, &self.head, team, &mut scratch.rows);
        let of_tokens: Vec<&[Panel]> =
            rows.tokens.iter().map(|&token| self.table.row(token, &fresh)).collect();
        for (number, layer) in self.layers.iter().enumerate() {
            let (below, here) = arena.panels.split_at_mut(number);
            let states = &mut here[0];
            // What comes from the layer below, then the layer's own state before this step.
            let input = below.last().map(|panels| (self.layers[number - 1].kind, panels));
            let first = input.map_or(0, |(kind, panels)| panels.len() * kind.pieces());
            let packed = &mut scratch.rows;
            packed.pack(&layer.matrix, rows.tokens.len(), team, |row, piece| match input {
                Some((kind, panels)) if piece < first => hidden(panels, kind, rows.to[row], piece),
                _ => hidden(states, layer.kind, rows.from[row], piece - first),
            });
            let biases;
            let added = match input {
                None => &of_tokens,
                Some(_) => {
                    biases = vec![&layer.bias[..]; rows.tokens.len()];
                    &biases
                }
            };
            let packed = &*packed;
            team.share(states.iter_mut().enumerate(), |(panel, states)| {
                let mut update =
                    Update { layer, panel, added, begins: &[], from: rows.from, to: rows.to, states };
                layer.matrix.run(panel, packed, &mut update);
            });
        }
        self.score(rows.to, wanted, out, arena, scratch, team);
    }

    /// Scores tokens after histories whose states are there; see [`lm::StepKernel::again`].
    pub fn again(
        &self,
        states: &[u32],
        wanted: Wanted<'_>,
        out: &mut [f32],
        arena: &mut Arena,
        scratch: &mut Scratch,
        team: &Team,
    ) {
        // Rows whose norm is not known, or not in full, are run through the output layer.
        let mut unknown = Subset::default();
        for (row, &state) in states.iter().enumerate() {
            let range = wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize;
            let tokens = &wanted.tokens[range.clone()];
            let norm = arena.norms[state as usize]
                .filter(|norm| norm.starts.is_some() || !tokens.contains(&lm::BOUNDARY))
                .filter(|_| self.head.remembers());
            let Some(norm) = norm else {
                unknown.push(state, tokens, range.start);
                continue;
            };
            for (&token, out) in tokens.iter().zip(&mut out[range]) {
                *out = match token {
                    lm::BOUNDARY => norm.boundary(),
                    token => self.head.ln(token, norm, self.shown(arena, state)),
                };
            }
        }
        if !unknown.states.is_empty() {
            let mut scores = vec![f32::NAN; unknown.tokens.len()];
            let wanted = Wanted { tokens: &unknown.tokens, offsets: &unknown.offsets };
            self.score(&unknown.states, wanted, &mut scores, arena, scratch, team);
            unknown.places.iter().zip(scores).for_each(|(&at, score)| out[at] = score);
        }
    }

    /// Runs the output layer on the states that want something, and notes their norms.
    fn score(
        &self,
        states: &[u32],
        wanted: Wanted<'_>,
        out: &mut [f32],
        arena: &mut Arena,
        scratch: &mut Scratch,
        team: &Team,
    ) {
        arena.forget_norms(states);
        let Some((layer, panels)) = self.layers.last().zip(arena.panels.last()) else { return };
        let some = |row: &usize| wanted.offsets[*row] < wanted.offsets[*row + 1];
        let asked: Vec<usize> = (0..states.len()).filter(some).collect();
        if asked.is_empty() {
            return;
        }
        let mut offsets = vec![wanted.offsets[0]];
        offsets.extend(asked.iter().map(|&row| wanted.offsets[row + 1]));
        scratch.rows.pack(self.head.matrix(), asked.len(), team, |row, piece| {
            hidden(panels, layer.kind, states[asked[row]], piece)
        });
        let wanted = Wanted { tokens: wanted.tokens, offsets: &offsets };
        let norms = self.head.run_rows(&scratch.rows, wanted, out, &mut scratch.head, team);
        for (&row, &norm) in asked.iter().zip(norms) {
            arena.norms[states[row] as usize] = Some(norm);
        }
    }

    /// What the top layer shows of a state, as wide as the output matrix is packed.
    pub(super) fn shown<'a>(&'a self, arena: &'a Arena, state: u32) -> impl Iterator<Item = f32> + 'a {
        let top = self.layers.last().zip(arena.panels.last());
        let pieces = self.head.matrix().width() / PIECE;
        top.into_iter().flat_map(move |(layer, panels)| {
            (0..pieces).flat_map(move |piece| hidden(panels, layer.kind, state, piece).iter().copied())
        })
    }
}

/// Some rows of a step, with what they want and where that goes.
#[derive(Default)]
struct Subset {
    states: Vec<u32>,
    tokens: Vec<u32>,
    offsets: Vec<u32>,
    places: Vec<usize>,
}

impl Subset {
    fn push(&mut self, state: u32, tokens: &[u32], place: usize) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        self.tokens.extend(tokens);
        if self.states.last() == Some(&state) {
            // Utterances that begin alike wait side by side: one row answers them.
            self.offsets.pop();
        } else {
            self.states.push(state);
        }
        self.offsets.push(self.tokens.len() as u32);
        self.places.extend(place..place + tokens.len());
    }
}

impl Arena {
    /// An arena for states of `stack`.
    pub fn new(stack: &Stack) -> Self {
        let panels = stack.layers.iter().map(|layer| vec![Vec::new(); layer.bias.len()]).collect();
        Self { panels, norms: Vec::new(), count: 0 }
    }

    /// How many states there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Makes room for states `0..count`; false if there is no memory.
    #[must_use]
    pub fn reserve(&mut self, stack: &Stack, count: usize) -> bool {
        if count <= self.norms.len() {
            self.count = self.count.max(count);
            return true;
        }
        // Schedulers ask for one more again and again.
        let asked = count;
        let more = count.max(self.norms.len() + self.norms.len() / 2).max(64);
        // Less is better than nothing.
        let Some(count) = [more, asked].into_iter().find(|&count| self.grow(stack, count)) else {
            return false;
        };
        self.norms.resize(count, None);
        self.count = asked;
        true
    }

    /// Makes panels that are shorter hold `count` states. Where memory ends on the way, those before stay
    /// longer.
    pub(super) fn grow(&mut self, stack: &Stack, count: usize) -> bool {
        for (layer, panels) in stack.layers.iter().zip(&mut self.panels) {
            let needed = count.saturating_mul(layer.kind.state()).div_ceil(PANEL);
            for panel in panels.iter_mut().filter(|panel| panel.len() < needed) {
                if panel.try_reserve_exact(needed - panel.len()).is_err() {
                    return false;
                }
                panel.resize(needed, Panel::ZERO);
            }
        }
        true
    }

    /// Sets a state to zeros.
    pub fn reset(&mut self, stack: &Stack, state: u32) {
        self.each(stack, state, |values| values.fill(0.0));
        self.norms[state as usize] = Some(NOTHING);
    }

    /// A copy of a state.
    pub fn save(&self, stack: &Stack, state: u32) -> Saved {
        let mut all = Vec::new();
        for (layer, panels) in stack.layers.iter().zip(&self.panels) {
            let (at, first) = layer.kind.place(state);
            let slot = first..first + layer.kind.state();
            panels.iter().for_each(|panel| all.extend_from_slice(&panel[at].0[slot.clone()]));
        }
        Saved(all, self.norms[state as usize])
    }

    /// The inverse of [`Arena::save`].
    pub fn load(&mut self, stack: &Stack, state: u32, Saved(all, norm): &Saved) {
        let mut rest = &all[..];
        self.each(stack, state, |values| {
            let (first, later) = rest.split_at(values.len());
            values.copy_from_slice(first);
            rest = later;
        });
        self.norms[state as usize] = *norm;
    }

    /// Says that these states are no longer those that the output layer saw.
    pub(super) fn forget_norms(&mut self, states: &[u32]) {
        states.iter().for_each(|&state| self.norms[state as usize] = None);
    }

    fn each(&mut self, stack: &Stack, state: u32, mut see: impl FnMut(&mut [f32])) {
        for (layer, panels) in stack.layers.iter().zip(&mut self.panels) {
            let (at, first) = layer.kind.place(state);
            let slot = first..first + layer.kind.state();
            panels.iter_mut().for_each(|panel| see(&mut panel[at].0[slot.clone()]));
        }
    }
}

/// Eight neighbouring units of what a layer shows.
#[inline]
pub(super) fn hidden<S: AsRef<[Panel]>>(panels: &[S], kind: Kind, state: u32, piece: usize) -> &[f32; PIECE] {
    let pieces = kind.pieces();
    // Most kinds have one piece in a panel, and a division takes long.
    let (panel, part) = if pieces == 1 { (piece, 0) } else { (piece / pieces, piece % pieces) };
    let (at, first) = kind.place(state);
    panels[panel].as_ref()[at].0[first + part * PIECE..].first_chunk().unwrap_or(&[f32::NAN; PIECE])
}

/// A state before its first token has nothing to say.
const NOTHING: Norm = Norm { all: f64::NAN, starts: Some(f64::NAN) };
