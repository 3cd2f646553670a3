//! The output layer of a language model: hidden states in, log probabilities of a few tokens out.
//!
//! A history needs one number of the whole vocabulary, the logarithm of its summed exponentials,
//! and the logits of the tokens that follow it in some hypothesis: one or two, of thousands. So the
//! product of hidden states and output matrix is made tile by tile, each tile is reduced while it
//! is in registers, and `[rows x vocabulary]` is never stored. (Running log-sum-exp: Milakov and
//! Gimelshein 2018; tiles and packing: Goto and van de Geijn 2008.)
//!
//! A row's result does not depend on the rows beside it: every row goes through the same additions
//! in the same order, whatever block it falls into.

mod exponential;
pub(in crate::lm::onnx) use exponential::exponential;
mod tile;

use crate::lm::{BOUNDARY, Wanted};

use tile::{PANEL, Panel, Tiles};

/// An output layer's matrix and bias, packed for [`Head::run`]; immutable, shared by all workers.
pub struct Head {
    width: usize,
    vocabulary: usize,
    /// Panel after panel: `width` rows of 32 neighbouring tokens' weights.
    weights: Vec<Panel>,
    /// One row of 32 a panel; minus infinity where there is no token.
    bias: Vec<Panel>,
    /// 1 for tokens that start a word or end the sentence, else 0.
    starts: Vec<Panel>,
    tiles: Tiles,
}

/// One worker's memory for [`Head::run`].
#[derive(Default)]
pub struct Scratch {
    /// The hidden states, block after block, each column's rows side by side.
    packed: Vec<f32>,
    sums: Vec<Sum>,
    wanted: Vec<Want>,
    /// Where each panel's part of `wanted` begins.
    begins: Vec<u32>,
}

/// What a row has gathered so far: sums of exponentials relative to `reference`.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    reference: f32,
    all: f64,
    starts: f64,
}

/// A logit somebody waits for.
#[derive(Clone, Copy, Default)]
struct Want {
    row: u32,
    token: u32,
    /// Its place in the output.
    at: u32,
}

impl Head {
    /// Packs a layer: `weight(token, k)` is the matrix, `starts(token)` whether a word may start
    /// with the token or it is the end of the sentence (for [`BOUNDARY`]).
    pub fn pack(
        width: usize,
        vocabulary: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
        starts: impl Fn(usize) -> bool,
    ) -> Self {
        let panels = vocabulary.div_ceil(PANEL);
        let mut head = Self {
            width,
            vocabulary,
            weights: Vec::with_capacity(panels * width),
            bias: Vec::with_capacity(panels),
            starts: Vec::with_capacity(panels),
            tiles: Tiles::best(),
        };
        for first in (0..panels).map(|panel| panel * PANEL) {
            let there = |lane: usize| first + lane < vocabulary;
            let lanes = |value: &dyn Fn(usize) -> f32, none: f32| {
                Panel(std::array::from_fn(|lane| if there(lane) { value(first + lane) } else { none }))
            };
            head.weights.extend((0..width).map(|k| lanes(&|token| weight(token, k), 0.0)));
            head.bias.push(lanes(&bias, f32::NEG_INFINITY));
            head.starts.push(lanes(&|token| f32::from(u8::from(starts(token))), 0.0));
        }
        head
    }

    /// Whether a layer of so many tokens is run faster here than by ONNX Runtime, on this processor.
    ///
    /// A rule, no measurement: what is run must not depend on chance, because the last bits of the
    /// scores do.
    pub fn pays(vocabulary: usize) -> bool {
        Tiles::best().is_fast() && vocabulary >= FEW
    }

    /// Numbers in a hidden state.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes the packed layer takes.
    pub fn bytes(&self) -> usize {
        (self.weights.len() + self.bias.len() + self.starts.len()) * size_of::<Panel>()
    }

    /// Writes ln p of every wanted token, `hidden` being the rows' states one after another.
    ///
    /// A row whose states are not all finite gives NaN.
    ///
    /// # Panics
    /// If `hidden` is not as long as the rows of `wanted` need, `out` is too short, or a token is
    /// outside the vocabulary.
    pub fn run(&self, hidden: &[f32], wanted: Wanted<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let rows = wanted.offsets.len() - 1;
        assert_eq!(hidden.len(), rows * self.width, "one hidden state a row");
        self.sort(&wanted, scratch);
        self.tiles.pack(hidden, self.width, &mut scratch.packed);
        scratch.sums.clear();
        scratch.sums.resize(rows, Sum::EMPTY);
        for panel in 0..self.bias.len() {
            let layer = tile::Layer {
                weights: &self.weights[panel * self.width..(panel + 1) * self.width],
                bias: &self.bias[panel],
                starts: &self.starts[panel],
            };
            let wants = &scratch.wanted[scratch.begins[panel] as usize..scratch.begins[panel + 1] as usize];
            let mut wants = wants.iter().peekable();
            self.tiles.run(&layer, &scratch.packed, &mut scratch.sums, |first, tile| {
                while let Some(want) = wants.next_if(|want| (want.row as usize) < first + tile.len()) {
                    let row = &tile[want.row as usize - first].0;
                    out[want.at as usize] = row[want.token as usize % PANEL];
                }
            });
        }
        for (row, sum) in scratch.sums.iter().enumerate() {
            let ln = f64::from(sum.reference) + sum.all.ln();
            let range = wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize;
            for (token, out) in wanted.tokens[range.clone()].iter().zip(&mut out[range]) {
                *out = match *token {
                    BOUNDARY => (sum.starts.ln() - sum.all.ln()) as f32,
                    _ => (f64::from(*out) - ln) as f32,
                };
            }
        }
    }

    /// The wanted tokens by panel, and by row within one.
    fn sort(&self, wanted: &Wanted<'_>, scratch: &mut Scratch) {
        let panels = self.bias.len();
        let begins = &mut scratch.begins;
        begins.clear();
        begins.resize(panels + 2, 0);
        let rows = wanted.offsets.windows(2).map(|pair| pair[0]..pair[1]).zip(0u32..);
        let wants = rows.flat_map(|(range, row)| {
            range.map(move |at| Want { row, token: wanted.tokens[at as usize], at })
        });
        let wants = wants.filter(|want| want.token != BOUNDARY);
        // A counting sort: the counts two places on become the places one place on.
        for want in wants.clone() {
            assert!((want.token as usize) < self.vocabulary, "token {} is outside", want.token);
            begins[want.token as usize / PANEL + 2] += 1;
        }
        for panel in 2..begins.len() {
            begins[panel] += begins[panel - 1];
        }
        scratch.wanted.clear();
        scratch.wanted.resize(begins[panels + 1] as usize, Want::default());
        for want in wants {
            let place = &mut begins[want.token as usize / PANEL + 1];
            scratch.wanted[*place as usize] = want;
            *place += 1;
        }
    }
}

/// From so many tokens on. A whole step of an LSTM of 512 took 1 to 13 % longer here than in ONNX Runtime
/// at 500, 1,000 and 2,000 tokens (`benches/kernel.rs`, 32 and 128 rows); at 4,000 a run is 1.05 times as
/// fast, 1.2 times with word starts.
const FEW: usize = 4_000;

impl Sum {
    const EMPTY: Self = Self { reference: f32::NEG_INFINITY, all: 0.0, starts: 0.0 };
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Head");
        out.field("width", &self.width).field("vocabulary", &self.vocabulary).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
