//! ARPA text from a file, decompressed, line by line.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Bzip2,
}

impl Lines {
    /// Opens a file and recognises how it is packed.
    ///
    /// # Errors
    /// If it cannot be read, or is of a kind that is no ARPA file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fault = crate::faults::io("ngram::open").map_or(Ok(()), Err);
        let file = fault.and_then(|()| File::open(path)).map_err(|e| Error::io(path, e))?;
        let size = file.metadata().ok().filter(|data| data.is_file()).map(|data| data.len());
        Self::new(path, file, size)
    }

    /// Lines of any stream; `path` names it in errors.
    pub(crate) fn new(path: &Path, mut source: impl Read + 'static, size: Option<u64>) -> Result<Self> {
        let mut head = Vec::new();
        source.by_ref().take(MAGIC_BYTES).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
        if let Some(what) = foreign(&head) {
            return Err(Error::model(path, what));
        }
        let packing = match &head[..] {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [b'B', b'Z', b'h', ..] => Packing::Bzip2,
            _ => Packing::Plain,
        };
        let whole: Chain<_, _> = Cursor::new(head).chain(source);
        let whole = match packing {
            Packing::Plain => Box::new(whole) as Box<dyn Read>,
            Packing::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(CHUNK, whole)))
            }
            Packing::Bzip2 => {
                Box::new(bzip2::bufread::MultiBzDecoder::new(BufReader::with_capacity(CHUNK, whole)))
            }
        };
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
        let packing = match self.packing {
            Packing::Gzip => "gzip",
            Packing::Bzip2 => "bzip2",
            Packing::Plain => return Error::io(&self.path, error),
        };
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

/// Says what a file is that begins like this, if it is a known kind that is not ARPA text.
pub(crate) fn foreign(head: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 7] = [
        (b"\xfd7zXZ\0", "is compressed with xz; unpack it (xz -d) or pack it with gzip or bzip2"),
        (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it (zstd -d) or pack it with gzip or bzip2"),
        (b"PK\x03\x04", "is a zip archive; unpack the ARPA file inside"),
        (
            b"mmap lm http://kheafield.com/code",
            "is a KenLM binary, which cannot be read yet; give the ARPA file it was built from",
        ),
        (b"blmt", "is an IRSTLM binary; make an ARPA file of it with `compile-lm --text yes`"),
        (b"iARPA", "is an IRSTLM iARPA file; make an ARPA file of it with `compile-lm --text yes`"),
        (b"SRILM_BINARY_NGRAM", "is an SRILM binary; make an ARPA file of it with `ngram -write-lm`"),
    ];
    kinds.iter().find(|(magic, _)| head.starts_with(magic)).map(|&(_, what)| what)
}

const MAGIC_BYTES: u64 = 64;
const CHUNK: usize = 1 << 18;
const LONGEST_LINE: usize = 1 << 20;
