//! Where things lie in a compact file, and writing and checking that.
//!
//! | bytes | what |
//! |---|---|
//! | 0..32 | label; another one while the file is being written |
//! | 32..36 | 0x01020304, little-endian as every number |
//! | 36..40 | version |
//! | 40..48 | size of the file |
//! | 48..52 | order |
//! | 52..56 | flags |
//! | 56..60 | CRC-32 of the table of sections |
//! | 60..64 | CRC-32 of the 60 bytes before |
//! | 64.. | table of sections: for each its length in bytes (8), CRC-32 (4), reserved (4) |
//!
//! Sections follow, each from the next multiple of 64; zeros between them are part of the CRC.
//! Their order is: words, unigrams; for each order from 2 up, in version 1 (for size): pointers, ids,
//! probabilities and, below the highest, backoffs; in version 2 (for speed): lines, probabilities and,
//! below the highest, backoffs. CRC-32 (as in zip files) finds every change of a single bit.

use std::io::{self, Write};
use std::path::Path;

use super::super::arpa::MAX_ORDER;
use super::bits::{half, word};
use crate::whole::Whole;

/// What a file begins with; enough to know one by.
pub(in super::super) const MAGIC: &[u8] = b"secondpass n-gram ";

/// A file's header, checked against its size.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) prefer: Prefer,
    pub(super) flags: u32,
    /// In the order of the file.
    pub(super) sections: Vec<Section>,
}

/// What a file is made for; its version says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefer {
    /// A trie of as few bytes as can be.
    #[default]
    Size,
    /// Tables that a look reads one line of the processor's cache of.
    Speed,
}

/// A part of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    pub(super) start: usize,
    /// Bytes without the zeros after them.
    pub(super) length: u64,
    end: usize,
    crc: u32,
}

/// Writes a file; it is not there under its name before it is complete.
pub(super) struct Writer {
    file: Whole,
    prefer: Prefer,
    order: usize,
    at: u64,
    crc: crc32fast::Hasher,
    table: Vec<u8>,
    lengths: Vec<u64>,
}

impl Layout {
    /// The header at the beginning of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn open(bytes: &[u8]) -> Result<Self, String> {
        if bytes.starts_with(INCOMPLETE.trim_ascii_end()) {
            return Err("was not written to its end: the build was interrupted; build it again".into());
        }
        if bytes.len() < TABLE || half(bytes, 32) != BYTE_ORDER {
            return Err(damaged("header"));
        }
        let prefer = match half(bytes, 36) {
            1 => Prefer::Size,
            2 => Prefer::Speed,
            version => {
                return Err(format!(
                    "has version {version} of the compact format, and only versions 1 and 2 are known here; build it anew from its ARPA file, or use a newer program"
                ));
            }
        };
        if &bytes[..32] != LABEL || crc(&bytes[..60]) != half(bytes, 60) {
            return Err(damaged("header"));
        }
        if word(bytes, 40) != bytes.len() as u64 {
            return Err(format!(
                "has {} bytes and should have {}; copy or build it again",
                bytes.len(),
                word(bytes, 40)
            ));
        }
        let (order, flags) = (half(bytes, 48) as usize, half(bytes, 52));
        if !(1..=MAX_ORDER).contains(&order) {
            return Err(damaged("header"));
        }
        let end = TABLE + ENTRY * prefer.sections(order);
        let table = bytes.get(TABLE..end).ok_or_else(|| damaged("table of sections"))?;
        if crc(table) != half(bytes, 56) {
            return Err(damaged("table of sections"));
        }
        let mut at = end.next_multiple_of(ALIGNMENT);
        let mut sections = Vec::new();
        for entry in table.chunks_exact(ENTRY) {
            let length = word(entry, 0);
            let end = (at as u64).checked_add(length).and_then(|end| end.checked_next_multiple_of(64));
            let end =
                end.filter(|&end| end <= bytes.len() as u64).ok_or_else(|| damaged("table of sections"))?;
            sections.push(Section { start: at, length, end: end as usize, crc: half(entry, 8) });
            at = end as usize;
        }
        if at != bytes.len() {
            return Err(damaged("table of sections"));
        }
        Ok(Self { prefer, flags, sections })
    }

    /// The longest n-grams' length.
    pub(super) fn order(&self) -> usize {
        (self.sections.len() - 1) / self.prefer.each() + 1
    }

    /// Compares all checksums, those of [`Layout::open`] aside.
    ///
    /// # Errors
    /// Which section is damaged.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let table = TABLE + ENTRY * self.sections.len();
        let gap = &bytes[table..self.sections.first().map_or(table, |section| section.start)];
        if gap.iter().any(|&byte| byte != 0) {
            return Err(damaged("table of sections"));
        }
        for (at, section) in self.sections.iter().enumerate() {
            if crc(&bytes[section.start..section.end]) != section.crc {
                return Err(damaged(&name(self.prefer, at)));
            }
        }
        Ok(())
    }
}

impl Writer {
    /// Begins a file beside `path`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(super) fn create(path: &Path, prefer: Prefer, order: usize) -> crate::Result<Self> {
        let mut file = Whole::create(path)?;
        let head = (TABLE + ENTRY * prefer.sections(order)).next_multiple_of(ALIGNMENT);
        file.put(INCOMPLETE)?;
        file.put(&vec![0; head - INCOMPLETE.len()])?;
        Ok(Self {
            file,
            prefer,
            order,
            at: head as u64,
            crc: crc32fast::Hasher::new(),
            table: Vec::new(),
            lengths: Vec::new(),
        })
    }

    /// Ends a section; what was written since the last one is in it.
    pub(super) fn section(&mut self) -> io::Result<()> {
        let begun = (TABLE + ENTRY * self.prefer.sections(self.order)).next_multiple_of(ALIGNMENT) as u64;
        let start = self.lengths.iter().fold(begun, |at, length| at + length.next_multiple_of(64));
        let length = self.at - start;
        let padding = self.at.next_multiple_of(64) - self.at;
        self.write_all(&[0; 64][..padding as usize])?;
        let crc = std::mem::take(&mut self.crc).finalize();
        self.table.extend(length.to_le_bytes());
        self.table.extend(crc.to_le_bytes());
        self.table.extend([0; 4]);
        self.lengths.push(length);
        Ok(())
    }

    /// Completes the file and gives it its name; returns its size and the sizes of its sections.
    pub(super) fn finish(self, flags: u32) -> crate::Result<(u64, Vec<u64>)> {
        debug_assert_eq!(self.lengths.len(), self.prefer.sections(self.order));
        let mut head = LABEL.to_vec();
        head.extend(BYTE_ORDER.to_le_bytes());
        head.extend(self.prefer.version().to_le_bytes());
        head.extend(self.at.to_le_bytes());
        head.extend((self.order as u32).to_le_bytes());
        head.extend(flags.to_le_bytes());
        head.extend(crc(&self.table).to_le_bytes());
        head.extend(crc(&head).to_le_bytes());
        head.extend(&self.table);
        self.file.finish_with(&head)?;
        Ok((self.at, self.lengths))
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.crc.update(&bytes[..written]);
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Prefer {
    fn version(self) -> u32 {
        match self {
            Self::Size => 1,
            Self::Speed => 2,
        }
    }

    /// Sections of an order from 2, the highest aside, which has one less.
    pub(super) fn each(self) -> usize {
        match self {
            Self::Size => 4,
            Self::Speed => 3,
        }
    }

    fn sections(self, order: usize) -> usize {
        if order == 1 { 2 } else { 2 + self.each() * (order - 1) - 1 }
    }
}

/// What a section holds, for messages and reports.
pub(super) fn name(prefer: Prefer, section: usize) -> String {
    let kinds: &[&str] = match prefer {
        Prefer::Size => &["pointers", "ids", "probabilities", "backoffs"],
        Prefer::Speed => &["lines", "probabilities", "backoffs"],
    };
    match section {
        0 => "words".into(),
        1 => "unigrams".into(),
        _ => format!("{}-gram {}", (section - 2) / kinds.len() + 2, kinds[(section - 2) % kinds.len()]),
    }
}

pub(super) fn damaged(what: &str) -> String {
    format!("is damaged: its {what} cannot be right; copy or build it again")
}

fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

const LABEL: &[u8; 32] = b"secondpass n-gram model\n\0\0\0\0\0\0\0\0";
const INCOMPLETE: &[u8; 32] = b"secondpass n-gram incomplete\n\0\0\0";
const BYTE_ORDER: u32 = 0x0102_0304;
const TABLE: usize = 64;
const ENTRY: usize = 16;
const ALIGNMENT: usize = 64;

/// Makes the checksums of a damaged file fit what it holds, as far as it holds anything.
#[cfg(any(test, fuzzing))]
pub(super) fn reseal(bytes: &mut [u8]) {
    if bytes.len() < TABLE {
        return;
    }
    let prefer = if half(bytes, 36) == 1 { Prefer::Size } else { Prefer::Speed };
    let end = TABLE + ENTRY * prefer.sections((half(bytes, 48) as usize).clamp(1, MAX_ORDER));
    if let Some(table) = bytes.get(TABLE..end) {
        let table = crc(table);
        bytes[56..60].copy_from_slice(&table.to_le_bytes());
    }
    let head = crc(&bytes[..60]);
    bytes[60..64].copy_from_slice(&head.to_le_bytes());
    let Ok(layout) = Layout::open(bytes) else { return };
    for (at, section) in layout.sections.iter().enumerate() {
        let crc = crc(&bytes[section.start..section.end]);
        bytes[TABLE + ENTRY * at + 8..][..4].copy_from_slice(&crc.to_le_bytes());
    }
    let table = crc(&bytes[TABLE..end]);
    bytes[56..60].copy_from_slice(&table.to_le_bytes());
    let head = crc(&bytes[..60]);
    bytes[60..64].copy_from_slice(&head.to_le_bytes());
}
