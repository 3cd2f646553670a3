//! The bytes of a model file: read into memory, or mapped.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::Deref;

use memmap2::Mmap;

use super::memory::{LARGE, large};

/// How a file that can be used as it lies on disk comes into memory.
#[derive(Debug, Clone, Copy, Default)]
pub enum Load {
    /// Read as a whole: faster lookups (huge pages, where the system has them), and nothing that
    /// happens to the file afterwards matters.
    #[default]
    Read,
    /// Mapped: opens at once, and processes that use the same file share its memory.
    Map(Unchanging),
}

/// A promise that nobody changes or shortens a mapped file while it is in use.
#[derive(Debug, Clone, Copy)]
pub struct Unchanging(());

/// A file's bytes, immutable.
pub(crate) struct Bytes(Source);

enum Source {
    Small(Vec<u8>),
    /// Anonymous memory or a file's.
    Mapped(Mmap),
}

impl Unchanging {
    /// Promises it.
    ///
    /// # Safety
    /// Until the model is dropped, no process may write to the file, or every read of its bytes is
    /// undefined behaviour, nor shorten it, or the process is ended by SIGBUS. Replacing the file by
    /// another of the same name (rename) is harmless.
    #[allow(unsafe_code)]
    pub const unsafe fn promise() -> Self {
        Self(())
    }
}

impl Bytes {
    /// The bytes of an open regular file of this size.
    ///
    /// # Errors
    /// If it cannot be read, has become shorter, or there is too little memory.
    pub(crate) fn open(file: File, size: u64, load: Load) -> io::Result<Self> {
        match load {
            Load::Read => Self::read(file, size),
            Load::Map(promise) => Self::map(&file, promise),
        }
    }

    /// All that a stream gives, in ordinary memory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn stream(mut reader: impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        bytes.shrink_to_fit();
        Ok(bytes.into())
    }

    fn read(mut file: File, size: u64) -> io::Result<Self> {
        let length = usize::try_from(size).map_err(|_| ErrorKind::OutOfMemory)?;
        if length < LARGE {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(length).map_err(|_| ErrorKind::OutOfMemory)?;
            file.take(size).read_to_end(&mut bytes)?;
            return Ok(bytes.into());
        }
        let mut memory = large(length)?;
        file.read_exact(&mut memory)?;
        Ok(Self(Source::Mapped(memory.make_read_only()?)))
    }

    #[allow(unsafe_code)]
    fn map(file: &File, _promise: Unchanging) -> io::Result<Self> {
        // SAFETY: the map is private and read-only. That the bytes under it do not change is what
        // whoever made the `Unchanging` has promised. Every read from the slice is checked against
        // the length that the map has, which the system took from the file just now.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Self(Source::Mapped(map)))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Source::Small(bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Small(bytes) => bytes,
            Source::Mapped(map) => map,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    #[allow(unsafe_code)]
    fn every_way_gives_the_same_bytes() {
        for size in [0, 1, 4096, LARGE - 1, LARGE, LARGE + 4097] {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&content).unwrap();
            let open = |load| Bytes::open(file.reopen().unwrap(), size as u64, load).unwrap();
            assert!(*open(Load::Read) == *content);
            // SAFETY: the file is this test's own.
            assert!(*open(Load::Map(unsafe { Unchanging::promise() })) == *content);
            assert!(*Bytes::stream(&content[..]).unwrap() == *content);
        }
    }

    #[test]
    fn a_file_that_shrinks_meanwhile_is_read_short_or_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abc").unwrap();
        assert_eq!(&*Bytes::open(file.reopen().unwrap(), 10, Load::Read).unwrap(), b"abc");
        assert!(Bytes::open(file.reopen().unwrap(), LARGE as u64, Load::Read).is_err());
    }
}
