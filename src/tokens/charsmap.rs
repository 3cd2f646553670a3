//! SentencePiece's table of replacements (`precompiled_charsmap`): a double array as Darts-clone writes
//! it, and the texts that it leads to.

/// A table of replacements.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    /// Each ended by a zero byte.
    replacements: Vec<u8>,
}

impl Charsmap {
    /// Reads a table; one that replaces nothing if there is none.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let damaged = || "its normalisation table is damaged".to_owned();
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let size = u32::from_le_bytes(*size) as usize;
        let (units, replacements) = rest.split_at_checked(size).ok_or_else(damaged)?;
        if units.is_empty() || !size.is_multiple_of(4) || replacements.last() != Some(&0) {
            return Err(damaged());
        }
        let units =
            units.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]));
        Ok(Self { units: units.collect(), replacements: replacements.to_vec() })
    }

    /// The longest rule that `text` begins with: how long it is, and what it becomes.
    pub fn longest(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        let (len, at) = self.rules(text).last()?;
        Some((len, self.replacement(at)?))
    }

    /// What the shortest rule that `text` begins with makes of it.
    pub fn shortest(&self, text: &[u8]) -> Option<&[u8]> {
        let (_, at) = self.rules(text).next()?;
        self.replacement(at)
    }

    fn replacement(&self, at: usize) -> Option<&[u8]> {
        let tail = self.replacements.get(at..)?;
        Some(&tail[..memchr::memchr(0, tail)?])
    }

    /// The rules that `text` begins with, shortest first: length, and place of the replacement.
    fn rules<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, usize)> + 'a {
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut at = self.units.first().map(|&unit| offset(unit));
        let steps = text.iter().enumerate().map_while(move |(len, &byte)| {
            let node = at? ^ usize::from(byte);
            let unit = *self.units.get(node)?;
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                return None;
            }
            let next = node ^ offset(unit);
            at = Some(next);
            let leaf = (unit >> 8 & 1 == 1).then(|| self.units.get(next)).flatten();
            Some(leaf.map(|&leaf| (len + 1, (leaf & 0x7fff_ffff) as usize)))
        });
        steps.flatten()
    }
}
