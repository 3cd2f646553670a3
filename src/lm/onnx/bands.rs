//! A weight matrix with a row or a column for each token, read from its file in bands of neighbouring
//! tokens: packing it takes no memory for a second copy.

use std::cell::{Cell, RefCell};

use super::graph::Stored;
use crate::{Error, Result};

/// A matrix of `tokens` times [`Bands::width`] numbers.
pub struct Bands<'a> {
    numbers: Numbers<'a>,
    tokens: usize,
    width: usize,
    by_token: bool,
    /// The first token of those at hand, and how many there are at once.
    first: Cell<usize>,
    each: usize,
    /// Their numbers, in the order of the matrix.
    band: RefCell<Vec<f32>>,
    failed: RefCell<Option<Error>>,
}

/// Where a matrix is.
pub enum Numbers<'a> {
    /// In a file.
    Stored(Stored),
    /// In memory.
    Made(&'a [f32]),
}

impl Numbers<'_> {
    fn count(&self) -> usize {
        match self {
            Self::Stored(stored) => stored.count(),
            Self::Made(values) => values.len(),
        }
    }
}

impl<'a> Bands<'a> {
    /// A matrix that has a row for each token if it is `by_token`, else a column.
    pub fn new(numbers: Numbers<'a>, tokens: usize, by_token: bool) -> Self {
        let width = numbers.count() / tokens.max(1);
        let each = (AT_ONCE / width.max(1)).next_multiple_of(TOGETHER).min(tokens);
        let (first, band, failed) = (Cell::new(usize::MAX), RefCell::default(), RefCell::default());
        Self { numbers, tokens, width, by_token, first, each, band, failed }
    }

    /// Numbers for each token; `None` if the matrix has another number of tokens.
    pub fn width(&self) -> Option<usize> {
        Some(self.width).filter(|&width| width > 0 && width * self.tokens == self.numbers.count())
    }

    /// Number `k` of a token. Cheap for tokens near the last one asked for.
    pub fn weight(&self, token: usize, k: usize) -> f32 {
        let stored = match &self.numbers {
            Numbers::Made(values) => return values[self.place(token, k, self.tokens)],
            Numbers::Stored(stored) => stored,
        };
        let first = token / self.each * self.each;
        if self.first.get() != first {
            self.first.set(first);
            if let Err(error) = self.load(stored, first) {
                self.failed.borrow_mut().get_or_insert(error);
            }
        }
        self.band.borrow()[self.place(token - first, k, self.each)]
    }

    /// Whether all was read.
    ///
    /// # Errors
    /// What went wrong; then numbers asked for since were of no use.
    pub fn finish(self) -> Result<()> {
        self.failed.into_inner().map_or(Ok(()), Err)
    }

    fn place(&self, token: usize, k: usize, tokens: usize) -> usize {
        if self.by_token { token * self.width + k } else { k * tokens + token }
    }

    fn load(&self, stored: &Stored, first: usize) -> Result<()> {
        let count = self.each.min(self.tokens - first);
        let mut band = self.band.borrow_mut();
        band.resize(self.each * self.width, f32::NAN);
        if self.by_token {
            return stored.read(first * self.width, &mut band[..count * self.width]);
        }
        let mut rows = band.chunks_exact_mut(self.each).enumerate();
        rows.try_for_each(|(k, row)| stored.read(k * self.tokens + first, &mut row[..count]))
    }
}

/// Numbers at hand at once.
const AT_ONCE: usize = 1 << 20;
/// Tokens that are asked for in turn, number by number.
const TOGETHER: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::graph::outline;
    use super::super::proto;
    use super::*;
    use prost::Message;

    /// A matrix larger than a band, both ways round, in a model's own file and in one beside it.
    #[test]
    fn every_number_is_read_wherever_it_lies() {
        const WIDTH: usize = 300;
        const TOKENS: usize = 7001;
        let numbers: Vec<f32> = (0..WIDTH * TOKENS).map(|at| at as f32).collect();
        let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        for (inside, by_token) in [(true, true), (true, false), (false, true), (false, false)] {
            let dims = if by_token { [TOKENS, WIDTH] } else { [WIDTH, TOKENS] };
            let mut tensor = proto::TensorProto {
                name: "w".into(),
                dims: dims.map(|dim| dim as i64).to_vec(),
                data_type: 1,
                ..Default::default()
            };
            if !inside {
                std::fs::write(folder.path().join("m.data"), [&[0; 8][..], &raw[..]].concat()).unwrap();
                let pair =
                    |key: &str, value: &str| proto::Pair { key: key.to_owned(), value: value.to_owned() };
                tensor.external_data = vec![pair("location", "m.data"), pair("offset", "8")];
                tensor.data_location = 1;
            }
            let mut tensor = tensor.encode_to_vec();
            if inside {
                prost::encoding::encode_key(9, prost::encoding::WireType::LengthDelimited, &mut tensor);
                prost::encoding::encode_varint(raw.len() as u64, &mut tensor);
                tensor.extend(&raw);
            }
            let wrapped = |tag, body: &[u8]| {
                let mut bytes = Vec::new();
                prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut bytes);
                prost::encoding::encode_varint(body.len() as u64, &mut bytes);
                [bytes, body.to_vec()].concat()
            };
            std::fs::write(&path, wrapped(7, &wrapped(5, &tensor))).unwrap();
            let stored = Stored::new(&outline(&path).unwrap(), &path, "w").unwrap();
            let bands = Bands::new(Numbers::Stored(stored), TOKENS, by_token);
            assert_eq!(bands.width(), Some(WIDTH));
            for token in (0..TOKENS).rev() {
                for k in [0, 1, WIDTH / 2, WIDTH - 1] {
                    let at = if by_token { token * WIDTH + k } else { k * TOKENS + token };
                    assert_eq!(bands.weight(token, k), numbers[at], "{inside} {by_token} {token} {k}");
                }
            }
            bands.finish().unwrap();
        }
    }
}
