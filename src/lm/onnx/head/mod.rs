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

mod reduce;

use super::product::{Crew, Matrix, PANEL, PIECE, Panel, Rows, Tiles};
use crate::lm::{BOUNDARY, Wanted};

use reduce::{Reduce, Sum};

/// An output layer's matrix and bias, packed for [`Head::run`]; immutable, shared by all workers.
pub struct Head {
    width: usize,
    vocabulary: usize,
    matrix: Matrix,
    /// One row of 32 a panel; minus infinity where there is no token.
    bias: Vec<Panel>,
    /// 1 for tokens that start a word or end the sentence, else 0.
    starts: Vec<Panel>,
}

/// One worker's memory for [`Head::run`].
#[derive(Default)]
pub struct Scratch {
    rows: Rows,
    padded: Vec<f32>,
    /// Segment after segment, each with one for every row.
    sums: Vec<Sum>,
    wanted: Vec<Want>,
    /// Where each panel's part of `wanted` begins.
    begins: Vec<u32>,
    norms: Vec<Norm>,
}

/// Logarithms of sums of exponentials of a row's logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Norm {
    pub all: f64,
    /// Of tokens that start a word or end the sentence; `None` where nobody asked.
    pub starts: Option<f64>,
}

/// A logit somebody waits for.
#[derive(Clone, Copy, Default)]
struct Want {
    row: u32,
    token: u32,
    /// Its place in the output.
    at: u32,
    logit: f32,
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
        Self::pack_for(Tiles::best(), width, vocabulary, weight, bias, starts)
    }

    pub(super) fn pack_for(
        tiles: Tiles,
        width: usize,
        vocabulary: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
        starts: impl Fn(usize) -> bool,
    ) -> Self {
        let panels = vocabulary.div_ceil(PANEL);
        let lanes = |value: &dyn Fn(usize) -> f32, none: f32| {
            let lane = |token| if token < vocabulary { value(token) } else { none };
            let panel = |panel: usize| Panel(std::array::from_fn(|at| lane(panel * PANEL + at)));
            (0..panels).map(panel).collect()
        };
        let there = |token, k| if token < vocabulary && k < width { weight(token, k) } else { 0.0 };
        Self {
            width,
            vocabulary,
            matrix: Matrix::pack(tiles, width.next_multiple_of(PIECE), panels, there),
            bias: lanes(&bias, f32::NEG_INFINITY),
            starts: lanes(&|token| f32::from(u8::from(starts(token))), 0.0),
        }
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
        self.matrix.bytes() + (self.bias.len() + self.starts.len()) * size_of::<Panel>()
    }

    /// Rows for [`Head::run_rows`] are packed for this.
    pub(super) fn matrix(&self) -> &Matrix {
        &self.matrix
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
        let (width, crew) = (self.matrix.width(), Crew::alone());
        let mut padded = std::mem::take(&mut scratch.padded);
        padded.clear();
        padded.resize(rows * width, 0.0);
        for (row, padded) in hidden.chunks_exact(self.width).zip(padded.chunks_exact_mut(width)) {
            padded[..self.width].copy_from_slice(row);
        }
        let mut packed = std::mem::take(&mut scratch.rows);
        let (pieces, _) = padded.as_chunks();
        packed.pack(&self.matrix, rows, &crew, |row, piece| &pieces[row * width / PIECE + piece]);
        self.run_rows(&packed, wanted, out, scratch, &crew);
        (scratch.padded, scratch.rows) = (padded, packed);
    }

    /// As [`Head::run`], of states that are packed already, with the threads of `crew`. Gives the norms of
    /// the rows.
    pub(super) fn run_rows<'s>(
        &self,
        rows: &Rows,
        wanted: Wanted<'_>,
        out: &mut [f32],
        scratch: &'s mut Scratch,
        crew: &Crew,
    ) -> &'s [Norm] {
        let count = rows.count();
        self.sort(&wanted, scratch);
        let asked = wanted.offsets[0] as usize..wanted.offsets[count] as usize;
        let starts = wanted.tokens[asked].contains(&BOUNDARY);
        // Each segment has its own sums, added up in the end: the same sums for any number of threads.
        let each = self.bias.len().div_ceil(SEGMENTS).max(1);
        let segments = self.bias.len().div_ceil(each);
        scratch.sums.clear();
        scratch.sums.resize(segments * count, Sum::EMPTY);
        let (begins, mut left) = (&scratch.begins, &mut scratch.wanted[..]);
        let mut sums = scratch.sums.chunks_exact_mut(count.max(1));
        let parts = (0..segments).map_while(|segment| {
            let panels = segment * each..((segment + 1) * each).min(self.bias.len());
            let wants = (begins[panels.end] - begins[panels.start]) as usize;
            let (wants, rest) = std::mem::take(&mut left).split_at_mut(wants);
            left = rest;
            sums.next().map(|sums| (panels, sums, wants))
        });
        crew.share(parts, |(panels, sums, mut wants)| {
            for panel in panels {
                let here = wants.iter().take_while(|want| want.token as usize / PANEL == panel).count();
                let (wants_here, rest) = wants.split_at_mut(here);
                wants = rest;
                let (bias, of_starts) = (&self.bias[panel], &self.starts[panel]);
                if starts {
                    let starts = Some(of_starts);
                    let mut reduce = Reduce::<true> { bias, starts, sums, wants: wants_here };
                    self.matrix.run(panel, rows, &mut reduce);
                } else {
                    let mut reduce = Reduce::<false> { bias, starts: None, sums, wants: wants_here };
                    self.matrix.run(panel, rows, &mut reduce);
                }
            }
        });
        let sums = &scratch.sums;
        let norm = |row| reduce::norm((0..segments).map(|segment| &sums[segment * count + row]), starts);
        scratch.norms.clear();
        scratch.norms.extend((0..count).map(norm));
        for want in &scratch.wanted {
            let ln = scratch.norms[want.row as usize].all;
            out[want.at as usize] = (f64::from(want.logit) - ln) as f32;
        }
        if starts {
            for (row, norm) in scratch.norms.iter().enumerate() {
                let range = wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize;
                let boundaries = range.filter(|&at| wanted.tokens[at] == BOUNDARY);
                boundaries.for_each(|at| out[at] = norm.boundary());
            }
        }
        &scratch.norms
    }

    /// ln p of a token after a row whose norm is known: the bits that [`Head::run`] gives.
    pub(super) fn ln(&self, token: u32, norm: Norm, row: impl Iterator<Item = f32>) -> f32 {
        let token = token as usize;
        let logit = self.matrix.dot(token, row) + self.bias[token / PANEL].0[token % PANEL];
        (f64::from(logit) - norm.all) as f32
    }

    /// The wanted tokens by panel, and by row within one.
    fn sort(&self, wanted: &Wanted<'_>, scratch: &mut Scratch) {
        let panels = self.bias.len();
        let begins = &mut scratch.begins;
        begins.clear();
        begins.resize(panels + 2, 0);
        let rows = wanted.offsets.windows(2).map(|pair| pair[0]..pair[1]).zip(0u32..);
        let wants = rows.flat_map(|(range, row)| {
            range.map(move |at| Want { row, token: wanted.tokens[at as usize], at, logit: f32::NAN })
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

impl Norm {
    /// ln of the probability that a word starts or the sentence ends; NaN where it is not known.
    pub fn boundary(self) -> f32 {
        self.starts.map_or(f32::NAN, |starts| (starts - self.all) as f32)
    }
}

/// Parts of the vocabulary that threads may take.
const SEGMENTS: usize = 32;

/// From so many tokens on. A whole step of an LSTM of 512 took 1 to 13 % longer here than in ONNX Runtime
/// at 500, 1,000 and 2,000 tokens (`benches/kernel.rs`, 32 and 128 rows); at 4,000 a run is 1.05 times as
/// fast, 1.2 times with word starts.
const FEW: usize = 4_000;

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Head");
        out.field("width", &self.width).field("vocabulary", &self.vocabulary).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
