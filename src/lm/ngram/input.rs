//! ARPA text from a file, decompressed, line by line.

use std::fs::File;
use std::io::{self, BufReader, Cursor, ErrorKind, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::zstd::Frames;
use crate::lm::bytes::{Bytes, Load};
use crate::{Error, Result};

/// Lines of a possibly compressed file; one line is looked at at a time.
pub(crate) struct Lines {
    source: Box<dyn Read>,
    path: PathBuf,
    packing: Packing,
    /// Bytes of the file as it lies on disk, where known.
    size: Option<u64>,
    buffer: Vec<u8>,
    filled: usize,
    line: Range<usize>,
    next: usize,
    number: u64,
    ended: bool,
}

/// A file or stream whose first bytes were looked at.
pub(crate) struct Opened {
    /// The first bytes; `source` goes on behind them.
    pub(crate) head: Vec<u8>,
    source: Box<dyn Read>,
    /// The regular file it is, and its size.
    file: Option<File>,
    size: Option<u64>,
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Opened {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        let fault = crate::faults::io("ngram::open").map_or(Ok(()), Err);
        let file = fault.and_then(|()| File::open(path)).map_err(|error| Error::io(path, error))?;
        let size = file.metadata().ok().filter(|data| data.is_file()).map(|data| data.len());
        let same = size.and_then(|_| file.try_clone().ok());
        Ok(Self { file: same, size, ..Self::stream(path, file)? })
    }

    /// Begins to read a stream; `path` names it in errors.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn stream(path: &Path, mut source: impl Read + 'static) -> Result<Self> {
        let mut head = Vec::new();
        source.by_ref().take(MAGIC_BYTES).read_to_end(&mut head).map_err(|error| Error::io(path, error))?;
        Ok(Self { head, source: Box::new(source), file: None, size: None })
    }

    /// All of it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn bytes(self, load: Load) -> io::Result<Bytes> {
        match (self.file, self.size) {
            (Some(mut file), Some(size)) => {
                file.rewind()?;
                Bytes::open(file, size, load)
            }
            _ => Bytes::stream(Cursor::new(self.head).chain(self.source)),
        }
    }
}

impl Lines {
    /// Lines of a file, however it is packed.
    ///
    /// # Errors
    /// If it cannot be read or is of a kind that is no ARPA file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::new(path, Opened::file(path)?)
    }

    /// Lines of what a file or stream holds, however it is packed.
    ///
    /// # Errors
    /// If it is of a kind that is no ARPA file.
    pub(crate) fn new(path: &Path, Opened { head, source, size, .. }: Opened) -> Result<Self> {
        if let Some(what) = foreign(&head) {
            return Err(Error::model(path, what));
        }
        let (packing, whole) = unpack(head, source);
        Ok(Self {
            source: whole,
            path: path.to_path_buf(),
            packing,
            size,
            buffer: vec![0; CHUNK],
            filled: 0,
            line: 0..0,
            next: 0,
            number: 0,
            ended: false,
        })
    }

    /// Moves to the next line; `false` at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read or unpacked, or the line is longer than a mebibyte.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        let mut seen = self.next;
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.buffer[seen..self.filled]) {
                self.set(seen + length, seen + length + 1);
                return Ok(true);
            }
            seen = self.filled - self.next;
            if self.ended {
                if seen > 0 {
                    self.set(self.filled, self.filled);
                }
                return Ok(seen > 0);
            }
            self.fill()?;
        }
    }

    /// Moves to the next line if all of it is in memory already; what [`Lines::bytes`] gives stays
    /// where it is.
    pub(crate) fn step(&mut self) -> bool {
        let end = memchr::memchr(b'\n', &self.buffer[self.next..self.filled]);
        end.inspect(|length| self.set(self.next + length, self.next + length + 1)).is_some()
    }

    /// Bytes of the lines that lie in memory, until [`Lines::advance`].
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// The current line, with up to eight bytes of whatever is behind it in memory.
    pub(crate) fn padded(&self) -> &[u8] {
        &self.buffer[self.line.start..self.buffer.len().min(self.line.end + 8)]
    }

    /// Where the current line begins, for [`Lines::bytes`].
    pub(crate) fn start(&self) -> usize {
        self.line.start
    }

    /// The current line, without its end (`\n` or `\r\n`).
    pub(crate) fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// Bytes of the file as it lies on disk, where known.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// The current line's number, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// An error about the current line.
    pub(crate) fn fail(&self, what: impl std::fmt::Display) -> Error {
        self.fail_at(self.number, what)
    }

    /// An error about another line.
    pub(crate) fn fail_at(&self, line: u64, what: impl std::fmt::Display) -> Error {
        Error::model(&self.path, format!("line {line}: {what}"))
    }

    /// An error about the file as a whole.
    pub(crate) fn fail_whole(&self, what: impl Into<String>) -> Error {
        Error::model(&self.path, what)
    }

    fn set(&mut self, end: usize, next: usize) {
        let line = &self.buffer[self.next..end];
        let end = end - usize::from(line.last() == Some(&b'\r'));
        self.line = self.next..end;
        self.next = next;
        self.number += 1;
    }

    /// Moves what is left to the front and reads more behind it.
    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.next..self.filled, 0);
        self.filled -= self.next;
        self.next = 0;
        self.line = 0..0;
        if self.filled == self.buffer.len() {
            if self.filled >= LONGEST_LINE {
                self.number += 1;
                return Err(self.fail("longer than 1 MiB, so this is no ARPA file; check the path"));
            }
            self.buffer.resize(self.filled * 2, 0);
        }
        match self.source.read(&mut self.buffer[self.filled..]) {
            Ok(0) => self.ended = true,
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(self.unreadable(error)),
        }
        Ok(())
    }

    fn unreadable(&self, error: io::Error) -> Error {
        let Some(packing) = self.packing.name() else { return Error::io(&self.path, error) };
        // A disk that fails has a number from the system; a decoder that fails has none.
        if error.raw_os_error().is_some() {
            return Error::io(&self.path, error);
        }
        let line = self.number + 1;
        self.fail_whole(format!(
            "the {packing} data is damaged or cut short near line {line} ({error}); copy or download the file again"
        ))
    }
}

/// What a file or stream holds, however it is packed: its first bytes, and what follows.
pub(crate) fn unpack<'a>(head: Vec<u8>, source: impl Read + 'a) -> (Packing, Box<dyn Read + 'a>) {
    let packing = match &head[..] {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [b'B', b'Z', b'h', ..] => Packing::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
        _ => Packing::Plain,
    };
    let whole = BufReader::with_capacity(CHUNK, Cursor::new(head).chain(source));
    let whole: Box<dyn Read + 'a> = match packing {
        Packing::Plain => Box::new(whole),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(whole, true, MOST_DICTIONARY_KIB)),
        Packing::Zstd => Box::new(Frames::new(whole)),
    };
    (packing, whole)
}

impl Packing {
    /// What it is called; nothing if the file is not packed.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Gzip => Some("gzip"),
            Self::Bzip2 => Some("bzip2"),
            Self::Xz => Some("xz"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Says what a file is that begins like this, if it is a known kind that is not ARPA text.
pub(crate) fn foreign(head: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 5] = [
        (b"PK\x03\x04", "is a zip archive; unpack the ARPA file inside"),
        (
            b"mmap lm http://kheafield.com/code",
            "is a KenLM binary, but packed, or where ARPA text is needed; unpack it, or give the ARPA file it was built from",
        ),
        (b"blmt", "is an IRSTLM binary; make an ARPA file of it with `compile-lm --text yes`"),
        (b"iARPA", "is an IRSTLM iARPA file; make an ARPA file of it with `compile-lm --text yes`"),
        (b"SRILM_BINARY_NGRAM", "is an SRILM binary; make an ARPA file of it with `ngram -write-lm`"),
    ];
    kinds.iter().find(|(magic, _)| head.starts_with(magic)).map(|&(_, what)| what)
}

const MAGIC_BYTES: u64 = 64;
/// More than any preset of xz needs; what asks for more is damaged or means no good.
const MOST_DICTIONARY_KIB: u32 = 66 << 10;
const CHUNK: usize = 1 << 18;
const LONGEST_LINE: usize = 1 << 20;
