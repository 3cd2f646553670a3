//! The output layer in fewer bits: only the normaliser is approximate.
//!
//! The sum of exponentials of the whole vocabulary comes from a reduced product: the errors of thousands
//! of logits average out in it. The logits that are asked for, one or two a history, are made again in f32,
//! and take their rough twins' places in the sum, so that no probability is above 1.

use super::{Epilogue, Kind, Matrix, PANEL, Rows};
use crate::lm::onnx::head::exponential;
use crate::lm::{BOUNDARY, Wanted};

/// An output layer in fewer bits; immutable, shared by all workers.
pub struct ReducedHead {
    matrix: Matrix,
    /// Minus infinity where there is no token.
    bias: Vec<[f32; PANEL]>,
    /// 1 for tokens that start a word or end the sentence, else 0.
    starts: Vec<[f32; PANEL]>,
    /// The weights as they were, token after token.
    exact: Vec<f32>,
}

/// One worker's memory for [`ReducedHead::run`].
#[derive(Default)]
pub struct Scratch {
    rows: Rows,
    sums: Vec<Sum>,
    wanted: Vec<Want>,
    /// The wanted tokens' rough logits.
    rough: Vec<f32>,
}

/// What a row has gathered so far: sums of exponentials relative to `reference`.
#[derive(Clone, Copy)]
struct Sum {
    reference: f32,
    all: f64,
    starts: f64,
    /// Since the last flush, lane by lane.
    lanes: [f32; PANEL],
    start_lanes: [f32; PANEL],
}

/// A logit somebody waits for; in the order of panels, and of rows within one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Want {
    panel: u32,
    row: u32,
    lane: u32,
    /// Its place in the output.
    at: u32,
}

impl ReducedHead {
    /// Packs a layer: `weight(token, k)` is the matrix, `starts(token)` whether a word may start with the
    /// token or it is the end of the sentence (for [`BOUNDARY`]). `None` where this processor gains nothing
    /// by that precision, or the layer is too wide for it.
    pub fn pack(
        precision: super::Precision,
        width: usize,
        vocabulary: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
        starts: impl Fn(usize) -> bool,
    ) -> Option<Self> {
        let kind = Kind::best(precision).filter(|_| precision.pays() && width <= super::WIDEST)?;
        Some(Self::pack_for(kind, width, vocabulary, weight, bias, starts))
    }

    pub(super) fn pack_for(
        kind: Kind,
        width: usize,
        vocabulary: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
        starts: impl Fn(usize) -> bool,
    ) -> Self {
        let lanes = |value: &dyn Fn(usize) -> f32, none: f32| {
            let panel = |first: usize| {
                std::array::from_fn(|lane| if first + lane < vocabulary { value(first + lane) } else { none })
            };
            (0..vocabulary).step_by(PANEL).map(panel).collect()
        };
        Self {
            matrix: Matrix::pack(kind, width, vocabulary, &weight),
            bias: lanes(&bias, f32::NEG_INFINITY),
            starts: lanes(&|token| f32::from(u8::from(starts(token))), 0.0),
            exact: (0..vocabulary).flat_map(|token| (0..width).map(move |k| (token, k))).map(|(token, k)| weight(token, k)).collect(),
        }
    }

    /// Numbers in a hidden state.
    pub fn width(&self) -> usize {
        self.matrix.width()
    }

    /// Bytes the packed layer takes.
    pub fn bytes(&self) -> usize {
        let panels = size_of_val(&self.bias[..]) + size_of_val(&self.starts[..]);
        self.matrix.bytes() + panels + size_of_val(&self.exact[..])
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
        let width = self.matrix.width();
        assert_eq!(hidden.len(), rows * width, "one hidden state a row");
        self.sort(&wanted, &mut scratch.wanted);
        scratch.rough.clear();
        scratch.rough.resize(out.len(), 0.0);
        scratch.sums.clear();
        scratch.sums.resize(rows, Sum::EMPTY);
        self.matrix.load(hidden, &mut scratch.rows);
        let mut wants = &scratch.wanted[..];
        let boundary = wanted.tokens.contains(&BOUNDARY);
        for panel in 0..self.matrix.panels() {
            let (these, rest) = wants.split_at(wants.partition_point(|want| want.panel as usize <= panel));
            wants = rest;
            let (bias, starts) = (&self.bias[panel], &self.starts[panel]);
            let (sums, rough) = (&mut scratch.sums[..], &mut scratch.rough[..]);
            if boundary {
                let mut gather = Gather::<true> { bias, starts, sums, wants: these, rough };
                self.matrix.run(panel, &scratch.rows, &mut gather);
            } else {
                let mut gather = Gather::<false> { bias, starts, sums, wants: these, rough };
                self.matrix.run(panel, &scratch.rows, &mut gather);
            }
            if panel % FLUSH == FLUSH - 1 {
                scratch.sums.iter_mut().for_each(Sum::flush);
            }
        }
        for (row, sum) in scratch.sums.iter_mut().enumerate() {
            sum.flush();
            let hidden = &hidden[row * width..][..width];
            for at in wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize {
                out[at] = match wanted.tokens[at] {
                    BOUNDARY => (sum.starts.ln() - sum.all.ln()) as f32,
                    token => self.ln(token as usize, hidden, scratch.rough[at], sum) as f32,
                };
            }
        }
    }

    /// ln p of a token by its exact logit.
    fn ln(&self, token: usize, hidden: &[f32], rough: f32, sum: &Sum) -> f64 {
        let width = self.matrix.width();
        let bias = self.bias[token / PANEL][token % PANEL];
        let product = dot(&self.exact[token * width..][..width], hidden);
        let logit = f64::from(product + bias) - f64::from(sum.reference);
        let rough = f64::from(rough) - f64::from(sum.reference);
        let others = sum.all - rough.exp();
        // Rounding may leave less than nothing of the others; NaN stays.
        let others = if others < 0.0 { 0.0 } else { others };
        logit - (others + logit.exp()).ln()
    }

    fn sort(&self, wanted: &Wanted<'_>, sorted: &mut Vec<Want>) {
        sorted.clear();
        for (row, range) in wanted.offsets.windows(2).enumerate() {
            for at in range[0]..range[1] {
                let token = wanted.tokens[at as usize];
                if token == BOUNDARY {
                    continue;
                }
                assert!((token as usize) < self.matrix.columns(), "token {token} is outside");
                let (panel, lane) = (token / PANEL as u32, token % PANEL as u32);
                sorted.push(Want { panel, row: row as u32, lane, at });
            }
        }
        sorted.sort_unstable();
    }
}

/// Adds a panel to the rows' sums.
struct Gather<'a, const STARTS: bool> {
    bias: &'a [f32; PANEL],
    starts: &'a [f32; PANEL],
    sums: &'a mut [Sum],
    wants: &'a [Want],
    rough: &'a mut [f32],
}

impl<const STARTS: bool> Epilogue for Gather<'_, STARTS> {
    #[inline(always)]
    fn take<const ROWS: usize>(&mut self, first: usize, mut tile: [[f32; PANEL]; ROWS]) {
        for (logits, sum) in tile.iter_mut().zip(&mut self.sums[first..first + ROWS]) {
            for lane in 0..PANEL {
                logits[lane] += self.bias[lane];
            }
            sum.add::<STARTS>(logits, self.starts);
        }
        while let Some((want, rest)) = self.wants.split_first()
            && (want.row as usize) < first + ROWS
        {
            self.rough[want.at as usize] = tile[want.row as usize - first][want.lane as usize];
            self.wants = rest;
        }
    }
}

impl Sum {
    const EMPTY: Self = Self {
        reference: f32::NEG_INFINITY,
        all: 0.0,
        starts: 0.0,
        lanes: [0.0; PANEL],
        start_lanes: [0.0; PANEL],
    };

    #[inline(always)]
    fn add<const STARTS: bool>(&mut self, logits: &[f32; PANEL], starts: &[f32; PANEL]) {
        let limit = self.reference + MARGIN;
        let mut over = false;
        for logit in logits {
            over |= *logit > limit;
        }
        if over {
            self.rise(logits);
        }
        let mut terms = [0.0; PANEL];
        for lane in 0..PANEL {
            terms[lane] = logits[lane] - self.reference;
        }
        // Fused on every processor, so that a score does not depend on which it is.
        let terms = exponential::<PANEL, true>(terms);
        for lane in 0..PANEL {
            self.lanes[lane] += terms[lane];
        }
        if STARTS {
            for lane in 0..PANEL {
                self.start_lanes[lane] += terms[lane] * starts[lane];
            }
        }
    }

    /// Not at every new maximum: sums of e^16 are as good as sums of 1.
    #[cold]
    fn rise(&mut self, logits: &[f32; PANEL]) {
        self.flush();
        let top = logits.iter().fold(f32::NEG_INFINITY, |a, &b| if a > b { a } else { b });
        let scale = (f64::from(self.reference) - f64::from(top)).exp();
        *self = Self { reference: top, all: self.all * scale, starts: self.starts * scale, ..*self };
    }

    /// Few enough numbers are added in f32.
    fn flush(&mut self) {
        let sum = |lanes: &[f32; PANEL]| lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        self.all += sum(&self.lanes);
        self.starts += sum(&self.start_lanes);
        (self.lanes, self.start_lanes) = ([0.0; PANEL], [0.0; PANEL]);
    }
}

/// A sum of products whose order does not depend on the processor.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[inline(always)]
    fn of(a: &[f32], b: &[f32]) -> f32 {
        const LANES: usize = 32;
        let mut lanes = [0.0; LANES];
        for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
            for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *lane = a.mul_add(*b, *lane);
            }
        }
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        lanes[0]
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn fused(a: &[f32], b: &[f32]) -> f32 {
        of(a, b)
    }

    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor was asked.
        #[allow(unsafe_code)]
        return unsafe { fused(a, b) };
    }
    of(a, b)
}

/// How far a logit may be above the reference.
const MARGIN: f32 = 16.0;

/// Panels after which sums in f32 are added to those in f64.
const FLUSH: usize = 32;
