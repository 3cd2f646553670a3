//! Products in fewer bits, for those who ask for them: two or four times as many in an instruction as in
//! f32, half or a quarter of the weights to read, and an error that `bench` measures.
//!
//! **int8**: weights in 8 bits with one scale an output, rows in 8 bits with one scale a row, sums in 32
//! bits. A row's scale comes from that row alone (for the states of an LSTM, which lie between -1 and 1,
//! at most 1/127), so that a result does not depend on the rows beside it, as it does where activations are
//! quantised by the range of a batch. The sums are the same integers on every processor.
//!
//! **bf16**: the upper half of f32, sums in f32. Only where the processor has an instruction for it.

mod bf16;
mod int8;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::tile::Loops;
use super::{Epilogue, PANEL, PIECE, Panel, Team};
use crate::{Error, Result};

/// In how many bits the products of a neural model are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// All of them.
    #[default]
    F32,
    /// Weights and states rounded to 8 significant bits.
    Bf16,
    /// Weights and states rounded to 255 steps.
    Int8,
    /// On a GPU: rounded to 11 significant bits on the way into a product (TensorFloat-32).
    Tf32,
}

/// The loops for one precision on one kind of processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 64 products of 8 bits in an instruction.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    /// 16 products of 16 bits in an instruction. (Those of 8 bits saturate.)
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Integers, whatever the compiler makes of them.
    Portable,
    /// 32 products of bf16 in an instruction.
    #[cfg(target_arch = "x86_64")]
    Bf16,
}

/// A matrix in fewer bits.
pub struct Matrix {
    kind: Kind,
    width: usize,
    /// Panel after panel: groups of neighbouring columns, each the 32 outputs' weights.
    lines: Vec<Line>,
    /// What an output's sum is multiplied with, beside its row's scale.
    scales: Vec<Panel>,
    /// Where a sum begins: it takes away what the zero point of rows adds.
    begins: Vec<[i32; PANEL]>,
}

/// Rows in fewer bits.
#[derive(Default)]
pub struct Rows {
    /// In each block, the rows' words of a group side by side.
    words: Vec<u32>,
    /// One a row; NaN where the row was not finite.
    scales: Vec<f32>,
    /// As they came, one after another.
    exact: Vec<f32>,
}

/// 64 bytes of weights.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; 64]);

/// A block of rows and a panel, to be multiplied.
struct Block<'a> {
    lines: &'a [Line],
    scales: &'a Panel,
    begins: &'a [i32; PANEL],
    words: &'a [u32],
    row_scales: &'a [f32],
    /// What its first row is called.
    first: usize,
}

impl Kind {
    /// The fastest that this processor can do; none for f32, and for bf16 without an instruction for it.
    pub fn best(precision: Precision) -> Option<Self> {
        Self::all(precision).into_iter().next()
    }

    /// All that this processor can do, the fastest first.
    pub fn all(precision: Precision) -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let wide = Loops::best() == Loops::Avx512 && is_x86_feature_detected!("avx512bw");
            let vnni = wide && is_x86_feature_detected!("avx512vnni");
            let bf16 = wide && is_x86_feature_detected!("avx512bf16");
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            all.extend((precision == Precision::Int8 && vnni).then_some(Self::Vnni));
            all.extend((precision == Precision::Int8 && avx2).then_some(Self::Avx2));
            all.extend((precision == Precision::Bf16 && bf16).then_some(Self::Bf16));
        }
        all.extend((precision == Precision::Int8).then_some(Self::Portable));
        all
    }

    /// The same processor's loops in f32.
    pub fn exact(self) -> Loops {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni | Self::Bf16 => Loops::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Loops::Avx2,
            Self::Portable => Loops::Portable,
        }
    }

    /// Most rows of a block.
    pub fn rows(self) -> usize {
        self.exact().rows()
    }

    /// Neighbouring numbers of a row that a word holds.
    fn group(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => 4,
            _ => 2,
        }
    }

    /// Bytes of a weight.
    fn size(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Bf16 => 2,
            _ => 1,
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

    /// Writes the words of a row to every `step`th place and gives back its scale.
    fn words(self, row: &[f32], words: &mut [u32], step: usize) -> f32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `all` lists it after asking the processor.
            #[allow(unsafe_code)]
            Self::Vnni => unsafe { int8::words_vnni(row, words, step) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Self::Avx2 => unsafe { int8::words_avx2(row, words, step) },
            Self::Portable => int8::words_portable(row, words, step),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Self::Bf16 => unsafe { bf16::words(row, words, step) },
        }
    }

    fn run(self, block: &Block<'_>, epilogue: &mut impl Epilogue) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `all` lists it after asking the processor.
            #[allow(unsafe_code)]
            Self::Vnni => unsafe { int8::vnni(block, epilogue) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Self::Avx2 => unsafe { int8::avx2(block, epilogue) },
            Self::Portable => int8::portable(block, epilogue),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Self::Bf16 => unsafe { bf16::run(block, epilogue) },
        }
    }
}

impl Matrix {
    /// Packs a matrix; see [`super::Matrix::pack`]. Sums of 8-bit products fit 32 bits up to a width of
    /// [`WIDEST`].
    pub fn pack(kind: Kind, width: usize, panels: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        debug_assert!(width <= WIDEST && width.is_multiple_of(PIECE));
        let lines = panels * width * PANEL * kind.size() / size_of::<Line>();
        let (scales, begins) = (vec![Panel::ZERO; panels], vec![[0; PANEL]; panels]);
        let mut matrix = Self { kind, width, lines: vec![Line([0; 64]); lines], scales, begins };
        let mut all = vec![0.0; width];
        for output in 0..panels * PANEL {
            all.iter_mut().zip(0..).for_each(|(value, column)| *value = weight(output, column));
            let (mut sum, (scale, inverse)) = (0, int8::scale(&all));
            for (column, &value) in all.iter().enumerate() {
                let (line, byte) = matrix.place(output, column);
                let bytes = &mut matrix.lines[line].0[byte..];
                if kind.size() == 2 {
                    bytes[..2].copy_from_slice(&bf16::round(value).to_le_bytes());
                } else {
                    let integer = int8::round(value, inverse);
                    bytes[0] = integer as u8;
                    sum += i32::from(integer);
                }
            }
            let (panel, lane) = (output / PANEL, output % PANEL);
            matrix.scales[panel].0[lane] = if kind.size() == 2 { 1.0 } else { scale };
            matrix.begins[panel][lane] = -kind.zero() * sum;
        }
        matrix
    }

    /// Its loops.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.scales[..]) + size_of_val(&self.begins[..])
    }

    /// One number of it, rounded.
    pub fn weight(&self, output: usize, column: usize) -> f32 {
        let (line, byte) = self.place(output, column);
        let bytes = &self.lines[line].0[byte..];
        match self.kind.size() {
            2 => f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16),
            _ => f32::from(bytes[0] as i8) * self.scales[output / PANEL].0[output % PANEL],
        }
    }

    /// Multiplies a block of rows with one panel; see [`super::Matrix::run`].
    pub fn run(&self, panel: usize, rows: &Rows, block: Range<usize>, epilogue: &mut impl Epilogue) {
        let (groups, lines) = (self.width / self.kind.group(), self.lines.len() / self.scales.len());
        let block = Block {
            lines: &self.lines[panel * lines..(panel + 1) * lines],
            scales: &self.scales[panel],
            begins: &self.begins[panel],
            words: &rows.words[block.start * groups..block.end * groups],
            first: block.start,
            row_scales: &rows.scales[block],
        };
        self.kind.run(&block, epilogue);
    }

    /// The product of one row with one output; see [`super::Matrix::dot`].
    pub fn dot(&self, output: usize, row: impl Iterator<Item = f32>) -> f32 {
        struct Take(Panel);

        impl Epilogue for Take {
            #[inline(always)]
            fn finish<const FUSED: bool>(&mut self, _: usize, tile: &mut [Panel]) {
                self.0 = tile[0];
            }
        }

        // The whole panel costs no more than picking one output's weights from it.
        let (row, mut rows, mut take) = (Vec::from_iter(row), Rows::default(), Take(Panel::ZERO));
        let (pieces, _) = row.as_chunks();
        rows.pack(self, 1, &Team::alone(), |_, piece| &pieces[piece]);
        self.run(output / PANEL, &rows, 0..1, &mut take);
        take.0.0[output % PANEL]
    }

    /// Where a weight lies: a line, and a byte of it.
    fn place(&self, output: usize, column: usize) -> (usize, usize) {
        let (group, lines) = (self.kind.group(), self.lines.len() / self.scales.len());
        let element = (column / group * PANEL + output % PANEL) * group + column % group;
        let byte = element * self.kind.size();
        (output / PANEL * lines + byte / size_of::<Line>(), byte % size_of::<Line>())
    }
}

impl Rows {
    /// Rounds and packs rows; see [`super::Rows::pack`].
    pub fn pack<'a>(
        &mut self,
        matrix: &Matrix,
        count: usize,
        team: &Team,
        piece: impl Fn(usize, usize) -> &'a [f32; PIECE] + Sync,
    ) {
        let (width, groups) = (matrix.width, matrix.width / matrix.kind.group());
        self.words.resize(count * groups, 0);
        self.scales.resize(count, 0.0);
        self.exact.resize(count * width, 0.0);
        let (mut words, mut scales, mut exact) =
            (&mut self.words[..], &mut self.scales[..], &mut self.exact[..]);
        let blocks = super::Tiles::Reduced(matrix.kind).blocks(count).map(|block| {
            let part = (
                words.split_off_mut(..block.len() * groups).unwrap_or_default(),
                scales.split_off_mut(..block.len()).unwrap_or_default(),
                exact.split_off_mut(..block.len() * width).unwrap_or_default(),
            );
            (block, part)
        });
        team.share(blocks, |(block, (words, scales, exact))| {
            let step = block.len();
            for (((place, number), scale), row) in block.enumerate().zip(scales).zip(exact.chunks_mut(width))
            {
                for (at, to) in row.as_chunks_mut::<PIECE>().0.iter_mut().enumerate() {
                    *to = *piece(number, at);
                }
                *scale = matrix.kind.words(row, &mut words[place..], step);
            }
        });
    }

    /// A row as it came; `width` is that of its matrix.
    pub fn row(&self, number: usize, width: usize) -> &[f32] {
        &self.exact[number * width..(number + 1) * width]
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Tf32 => "tf32",
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
            "tf32" => Ok(Self::Tf32),
            _ => Err(Error::Config(format!("precision {text}: expected f32, bf16, int8 or, on a GPU, tf32"))),
        }
    }
}

/// Calls `$block::<ROWS, _>` for as many rows as there are.
macro_rules! by_rows {
    ($run:ident, $block:expr, $epilogue:expr, [$($rows:literal)*]) => {
        match $block.row_scales.len() {
            $($rows => $run::<$rows, _>($block, $epilogue),)*
            rows => debug_assert!(false, "a block of {rows} rows"),
        }
    };
}
use by_rows;

/// The widest rows whose sums of 8-bit products fit 32 bits: 255 times 127 each.
pub const WIDEST: usize = 1 << 16;

#[cfg(test)]
mod tests;
