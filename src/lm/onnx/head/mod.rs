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
//!
//! In fewer bits only the sum over the vocabulary is approximate, in which the errors of thousands of logits
//! average out. The logits that are wanted, one or two a history, are made again in f32, and take their
//! rough twins' places in the sum, so that no probability is above 1.
//!
//! Of large vocabularies the sum may be made from previews of the logits instead (`preview`).

mod basis;
mod preview;
mod reduce;

use super::product::{Matrix, PANEL, PIECE, Panel, Precision, Rows, Team, Tiles, dot};
use crate::lm::{BOUNDARY, Wanted};

pub use basis::Typical;
use preview::{Packed, Preview};
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
    /// Where the matrix is in fewer bits or previews: the weights as they were, token after token, as wide as
    /// rows are.
    exact: Option<Vec<f32>>,
    /// Where matrix and bias make previews of logits only.
    preview: Option<Preview>,
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
    preview: preview::Memory,
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

    /// As [`Head::pack`], in fewer bits; `None` where f32 is as fast on this processor.
    pub fn pack_in(
        precision: Precision,
        width: usize,
        vocabulary: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
        starts: impl Fn(usize) -> bool,
    ) -> Option<Self> {
        let tiles = Tiles::of(precision, width)?;
        Some(Self::pack_for(tiles, width, vocabulary, weight, bias, starts))
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
        let padded = width.next_multiple_of(PIECE);
        let all = || (0..vocabulary).flat_map(|token| (0..padded).map(move |k| (token, k)));
        let exact = tiles.is_reduced().then(|| all().map(|(token, k)| there(token, k)).collect());
        Self {
            width,
            vocabulary,
            exact,
            preview: None,
            matrix: Matrix::pack(tiles, padded, panels, there).of_columns(width),
            bias: lanes(&bias, f32::NEG_INFINITY),
            starts: lanes(&|token| f32::from(u8::from(starts(token))), 0.0),
        }
    }

    /// As [`Head::pack`], to preview logits from the few directions that count after `typical` states; their
    /// width is that of the layer. Products of states are in f32, those of previews as `tiles` are.
    pub(super) fn pack_by_rank(
        tiles: Tiles,
        typical: &Typical<'_>,
        width: usize,
        vocabulary: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
        starts: impl Fn(usize) -> bool,
    ) -> Self {
        let padded = width.next_multiple_of(PIECE);
        let mut exact = vec![0.0; vocabulary * padded];
        for (token, row) in exact.chunks_exact_mut(padded).enumerate() {
            row[..width].iter_mut().enumerate().for_each(|(k, value)| *value = weight(token, k));
        }
        let mut states = vec![0.0; typical.states.len() / width * padded];
        for (from, to) in typical.states.chunks_exact(width).zip(states.chunks_exact_mut(padded)) {
            to[..width].copy_from_slice(from);
        }
        let typical = Typical { states: &states, ..*typical };
        let biases = (0..vocabulary).map(bias).collect();
        let Packed { preview, matrix, bias } = Preview::pack(tiles, &typical, &exact, padded, biases);
        let lanes = |value: &dyn Fn(usize) -> f32, none: f32| {
            let lane = |token| if token < vocabulary { value(token) } else { none };
            let panel = |panel: usize| Panel(std::array::from_fn(|at| lane(panel * PANEL + at)));
            (0..vocabulary.div_ceil(PANEL)).map(panel).collect()
        };
        Self {
            width,
            vocabulary,
            matrix,
            bias: lanes(&|token| bias[token], f32::NEG_INFINITY),
            starts: lanes(&|token| f32::from(u8::from(starts(token))), 0.0),
            exact: Some(exact),
            preview: Some(preview),
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
        let exact = self.exact.as_ref().map_or(0, |exact| size_of_val(&**exact));
        let preview = self.preview.as_ref().map_or(0, Preview::bytes);
        self.matrix.bytes() + preview + (self.bias.len() + self.starts.len()) * size_of::<Panel>() + exact
    }

    /// Rows for [`Head::run_rows`] are packed for this.
    pub(super) fn matrix(&self) -> &Matrix {
        self.preview.as_ref().map_or(&self.matrix, |preview| &preview.features)
    }

    /// Whether [`Head::ln`] can be asked: a preview is made of all tokens or of none.
    pub(super) fn remembers(&self) -> bool {
        self.preview.is_none()
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
        let (width, team) = (self.matrix().width(), Team::alone());
        let mut padded = std::mem::take(&mut scratch.padded);
        padded.clear();
        padded.resize(rows * width, 0.0);
        for (row, padded) in hidden.chunks_exact(self.width).zip(padded.chunks_exact_mut(width)) {
            padded[..self.width].copy_from_slice(row);
        }
        let mut packed = std::mem::take(&mut scratch.rows);
        let (pieces, _) = padded.as_chunks();
        packed.pack(self.matrix(), rows, &team, |row, piece| &pieces[row * width / PIECE + piece]);
        self.run_rows(&packed, wanted, out, scratch, &team);
        (scratch.padded, scratch.rows) = (padded, packed);
    }

    /// As [`Head::run`], of states that are packed already, with the threads of `team`. Gives the norms of
    /// the rows.
    pub(super) fn run_rows<'s>(
        &self,
        rows: &Rows,
        wanted: Wanted<'_>,
        out: &mut [f32],
        scratch: &'s mut Scratch,
        team: &Team,
    ) -> &'s [Norm] {
        let count = rows.count();
        self.sort(&wanted, scratch);
        if let Some(preview) = &self.preview {
            preview.run(self, rows, wanted, out, scratch, team);
            return &scratch.norms;
        }
        let asked = wanted.offsets[0] as usize..wanted.offsets[count] as usize;
        let starts = wanted.tokens[asked].contains(&BOUNDARY);
        // Each segment has its own sums, added up in the end: the same sums for any number of threads.
        let (segments, each) = segments(self.bias.len());
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
        team.share(parts, |(panels, sums, mut wants)| {
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
            let norm = scratch.norms[want.row as usize];
            let exact = |weights: &[f32]| dot(weights, rows.exact(want.row as usize));
            out[want.at as usize] = self.probability(want.token as usize, want.logit, norm, exact);
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
        let (token, row) = (token as usize, Vec::from_iter(row));
        let logit = self.matrix.dot(token, row.iter().copied()) + self.bias(token);
        self.probability(token, logit, norm, |weights| dot(weights, &row))
    }

    /// A number of the matrix, as it was packed.
    pub(super) fn weight(&self, token: usize, k: usize) -> f32 {
        match &self.exact {
            Some(exact) => exact[token * self.matrix().width() + k],
            None => self.matrix.weight(token, k),
        }
    }

    /// ln p of a token by its logit; where that is rough, `exact` gives its weights' product with the row.
    fn probability(&self, token: usize, logit: f32, norm: Norm, exact: impl Fn(&[f32]) -> f32) -> f32 {
        let logit = f64::from(logit) - norm.all;
        let Some(weights) = &self.exact else { return logit as f32 };
        let width = self.matrix.width();
        let product = exact(&weights[token * width..(token + 1) * width]);
        let exact = f64::from(product + self.bias(token)) - norm.all;
        let others = 1.0 - logit.exp();
        // Rounding may leave less than nothing of them. NaN stays.
        let others = if others < 0.0 { 0.0 } else { others };
        let ln = exact - (others + exact.exp()).ln();
        (if ln > 0.0 { 0.0 } else { ln }) as f32
    }

    fn bias(&self, token: usize) -> f32 {
        self.bias[token / PANEL].0[token % PANEL]
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

/// How many parts so many panels fall into, and the panels of each.
fn segments(panels: usize) -> (usize, usize) {
    let each = panels.div_ceil(SEGMENTS).max(1);
    (panels.div_ceil(each), each)
}

/// How to speak of an output layer by its rank.
pub(super) fn of_rank(rank: Option<usize>) -> String {
    rank.map_or_else(String::new, |rank| format!(" (previewed from {rank} dimensions)"))
}

/// Fewer tokens are not previewed: those that count would be most of them.
pub(super) const LEAST: usize = 2_000;

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
