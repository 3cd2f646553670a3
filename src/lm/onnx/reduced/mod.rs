//! Products in fewer bits, for those who ask for them: four or two times the arithmetic of f32 in an
//! instruction, a quarter or half of the weights to read, and an error that `bench` measures.
//!
//! **int8**: weights in 8 bits with one scale a column, rows in 8 bits with one scale a row, sums in 32
//! bits. A row's scale comes from that row alone (for the states of an LSTM, which lie between -1 and 1,
//! at most 1/127), so that a result does not depend on the rows beside it, as it does where activations are
//! quantised by the range of a batch. The sums are the same integers on every processor.
//!
//! **bf16**: the upper half of f32, sums in f32. Only where the processor has an instruction for it.

mod bf16;
mod head;
mod int8;

use std::fmt;
use std::str::FromStr;

pub use head::{ReducedHead, Scratch};

use crate::{Error, Result};

/// Columns in a panel.
pub(super) const PANEL: usize = 32;

/// How many bits a neural model's products are made in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// All of them: exact.
    #[default]
    F32,
    /// Weights and rows rounded to 8 significant bits.
    Bf16,
    /// Weights and rows rounded to 255 steps.
    Int8,
}

/// A matrix in fewer bits, packed for products with a few rows at a time.
pub(super) struct Matrix {
    width: usize,
    columns: usize,
    kind: Kind,
    /// Panel after panel: groups of neighbouring `k`, each the 32 columns' weights.
    lines: Vec<Line>,
    /// What a sum is multiplied with, beside its row's scale.
    scales: Vec<[f32; PANEL]>,
    /// Where a sum begins: it takes away what the rows' zero point adds.
    begins: Vec<[i32; PANEL]>,
}

/// Rows in fewer bits, side by side in blocks.
#[derive(Default)]
pub(super) struct Rows {
    /// For each block, group after group, a word of each row.
    words: Vec<u32>,
    /// One a row; NaN where the row was not finite.
    scales: Vec<f32>,
    /// One row.
    row: Vec<u32>,
}

/// What is done with a product as soon as it is there.
pub(super) trait Epilogue {
    /// Takes the product of rows `first..first + ROWS` with one panel.
    ///
    /// `#[inline(always)]`, for it to be compiled for the processor that the product is made for.
    fn take<const ROWS: usize>(&mut self, first: usize, tile: [[f32; PANEL]; ROWS]);
}

/// The loops for one kind of processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 64 products of 8 bits in an instruction.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    /// 16 products of 16 bits in an instruction. (Those of 8 bits saturate.)
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Whatever the compiler makes of it.
    Portable,
    /// 32 products of bf16 in an instruction.
    #[cfg(target_arch = "x86_64")]
    Bf16,
}

/// 64 bytes of weights.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line([u8; 64]);

/// One panel of a [`Matrix`].
pub(super) struct Panel<'a> {
    lines: &'a [Line],
    scales: &'a [f32; PANEL],
    begins: &'a [i32; PANEL],
}

impl Precision {
    /// Whether this processor is faster in it than in f32; always so for f32.
    pub fn pays(self) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 | Self::Int8 => Kind::best(self).is_some_and(|kind| kind != Kind::Portable),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(Error::Config(format!("precision {text}: expected f32, bf16 or int8"))),
        }
    }
}

impl Kind {
    /// The fastest that this processor can do; none for f32, and for bf16 without an instruction for it.
    pub fn best(precision: Precision) -> Option<Self> {
        Self::all(precision).into_iter().next()
    }

    /// All that this processor can do, the fastest first.
    pub fn all(precision: Precision) -> Vec<Self> {
        let mut all = Vec::new();
        match precision {
            Precision::F32 => {}
            Precision::Int8 => {
                #[cfg(target_arch = "x86_64")]
                {
                    let wide = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq");
                    all.extend((wide && is_x86_feature_detected!("avx512vnni")).then_some(Self::Vnni));
                    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                    all.extend(avx2.then_some(Self::Avx2));
                }
                all.push(Self::Portable);
            }
            Precision::Bf16 => {
                #[cfg(target_arch = "x86_64")]
                {
                    let wide = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq");
                    all.extend((wide && is_x86_feature_detected!("avx512bf16")).then_some(Self::Bf16));
                }
            }
        }
        all
    }

    /// Rows of a full block; the last may have fewer.
    fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni | Self::Bf16 => 12,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 3,
            Self::Portable => 2,
        }
    }

    /// Neighbouring `k` that a word of a row holds.
    fn group(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => 4,
            _ => 2,
        }
    }
}

impl Matrix {
    /// Packs `columns` columns of `width` weights: `weight(column, k)`.
    ///
    /// Sums of 8-bit products stay within 32 bits up to a width of [`WIDEST`].
    pub fn pack(kind: Kind, width: usize, columns: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        debug_assert!(width <= WIDEST, "sums would not fit");
        let group = kind.group();
        let line = group * PANEL * if kind.is_bf16() { 2 } else { 1 } / size_of::<Line>();
        let panels = columns.div_ceil(PANEL);
        let lines = panels * width.div_ceil(group) * line;
        let (scales, begins) = (vec![[0.0; PANEL]; panels], vec![[0; PANEL]; panels]);
        let mut matrix = Self { width, columns, kind, lines: vec![Line([0; 64]); lines], scales, begins };
        let mut column = vec![0.0; width];
        for at in 0..columns {
            column.iter_mut().zip(0..).for_each(|(value, k)| *value = weight(at, k));
            let (panel, lane) = (at / PANEL, at % PANEL);
            let lines = matrix.panel_lines(panel);
            let lines = &mut matrix.lines[lines];
            let element = |k: usize| (k / group * PANEL + lane) * group + k % group;
            if kind.is_bf16() {
                matrix.scales[panel][lane] = 1.0;
                for (k, value) in column.iter().enumerate() {
                    let (at, [low, high]) = (2 * element(k), bf16::round(*value).to_le_bytes());
                    (lines[at / 64].0[at % 64], lines[at / 64].0[at % 64 + 1]) = (low, high);
                }
                continue;
            }
            let (scale, inverse) = int8::scale(&column);
            let mut sum = 0;
            for (k, value) in column.iter().enumerate() {
                let (at, weight) = (element(k), int8::round(*value, inverse));
                lines[at / 64].0[at % 64] = weight as u8;
                sum += i32::from(weight);
            }
            matrix.scales[panel][lane] = scale;
            matrix.begins[panel][lane] = -kind.zero() * sum;
        }
        matrix
    }

    /// Columns of a whole row, those of the last panel's empty lanes left out.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Panels.
    pub fn panels(&self) -> usize {
        self.scales.len()
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.scales[..]) + size_of_val(&self.begins[..])
    }

    /// Rounds rows, `values` being one after another, for [`Matrix::run`].
    pub fn load(&self, values: &[f32], rows: &mut Rows) {
        let group = self.kind.group();
        let groups = self.width.div_ceil(group);
        let count = values.len() / self.width;
        rows.scales.clear();
        rows.words.clear();
        rows.words.resize(groups * count, 0);
        for (block, values) in values.chunks(self.kind.rows() * self.width).enumerate() {
            let side = values.len() / self.width;
            let words = &mut rows.words[block * self.kind.rows() * groups..][..side * groups];
            for (row, values) in values.chunks_exact(self.width).enumerate() {
                rows.scales.push(self.kind.words(values, &mut rows.row));
                for (word, to) in rows.row.iter().zip(words[row..].iter_mut().step_by(side)) {
                    *to = *word;
                }
            }
        }
    }

    /// Makes the product of all rows with one panel.
    pub fn run(&self, panel: usize, rows: &Rows, epilogue: &mut impl Epilogue) {
        let groups = self.width.div_ceil(self.kind.group());
        let lines = &self.lines[self.panel_lines(panel)];
        let panel = Panel { lines, scales: &self.scales[panel], begins: &self.begins[panel] };
        for (block, scales) in rows.scales.chunks(self.kind.rows()).enumerate() {
            let first = block * self.kind.rows();
            let words = &rows.words[first * groups..][..scales.len() * groups];
            self.kind.block(&panel, words, scales, first, epilogue);
        }
    }

    fn panel_lines(&self, panel: usize) -> std::ops::Range<usize> {
        let lines = self.lines.len() / self.scales.len().max(1);
        panel * lines..(panel + 1) * lines
    }
}

impl Kind {
    fn is_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Bf16 => true,
            _ => false,
        }
    }

    /// What is added to a row's integers, where they have no sign.
    fn zero(self) -> i32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => 128,
            _ => 0,
        }
    }

    /// The words of a row, and its scale.
    fn words(self, values: &[f32], words: &mut Vec<u32>) -> f32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `all` lists it after asking the processor.
            #[allow(unsafe_code)]
            Self::Vnni => unsafe { int8::words_vnni(values, words) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Self::Avx2 => unsafe { int8::words_avx2(values, words) },
            Self::Portable => int8::words_portable(values, words),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Self::Bf16 => unsafe { bf16::words(values, words) },
        }
    }

    fn block(self, panel: &Panel<'_>, words: &[u32], scales: &[f32], first: usize, to: &mut impl Epilogue) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `all` lists it after asking the processor.
            #[allow(unsafe_code)]
            Self::Vnni => unsafe { int8::vnni(panel, words, scales, first, to) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Self::Avx2 => unsafe { int8::avx2(panel, words, scales, first, to) },
            Self::Portable => int8::portable(panel, words, scales, first, to),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Self::Bf16 => unsafe { bf16::block(panel, words, scales, first, to) },
        }
    }
}

/// Calls `$block::<ROWS>` for as many rows as there are.
macro_rules! by_rows {
    ($block:ident, $panel:expr, $words:expr, $scales:expr, $first:expr, $to:expr, [$($rows:literal)*]) => {
        match $scales.len() {
            $($rows => $block::<$rows>($panel, $words, $scales, $first, $to),)*
            rows => debug_assert!(false, "a block of {rows} rows"),
        }
    };
}
use by_rows;

/// The widest matrix whose sums of 8-bit products fit 32 bits: 255 times 127 each.
pub(super) const WIDEST: usize = 1 << 16;

#[cfg(test)]
mod tests;
