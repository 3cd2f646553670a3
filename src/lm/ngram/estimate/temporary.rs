//! Bytes that wait on disk: written once from the front, then read once from the front.
//!
//! Files have no name (where the system allows it), so nothing is left behind however the
//! program ends. What is small never becomes a file.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, Result};

/// Where temporary files go.
#[derive(Debug, Clone)]
pub(super) struct Folder(Arc<PathBuf>);

/// Bytes being written.
pub(super) struct Writer {
    folder: Folder,
    file: Option<File>,
    buffer: Vec<u8>,
    /// Bytes in the file.
    written: u64,
}

/// Bytes that were written.
pub(super) struct Stored {
    folder: Folder,
    file: Option<File>,
    rest: Vec<u8>,
    bytes: u64,
}

/// Bytes being read.
pub(super) struct Reader {
    folder: Folder,
    file: Option<File>,
    buffer: Vec<u8>,
    at: usize,
}

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(path.to_path_buf()))
    }

    fn file(&self) -> Result<File> {
        let fault = crate::faults::io("estimate::temporary").map_or(Ok(()), Err);
        fault.and_then(|()| tempfile::tempfile_in(&*self.0)).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: std::io::Error) -> Error {
        let what = format!("temporary file in {} (another folder can be given)", self.0.display());
        Error::Io { what, source }
    }
}

impl Writer {
    pub fn new(folder: &Folder) -> Self {
        Self { folder: folder.clone(), file: None, buffer: Vec::new(), written: 0 }
    }

    /// Where to append; [`Writer::relieve`] must be called now and then.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Moves the buffer to disk if it has become long.
    pub fn relieve(&mut self) -> Result<()> {
        if self.buffer.len() < CHUNK {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.folder.file()?),
        };
        file.write_all(&self.buffer).map_err(|error| self.folder.failed(error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    pub fn finish(self) -> Stored {
        let bytes = self.written + self.buffer.len() as u64;
        Stored { folder: self.folder, file: self.file, rest: self.buffer, bytes }
    }
}

impl Stored {
    /// How many there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads from the front, `chunk` bytes at a time.
    pub fn read(mut self, chunk: usize) -> Result<Reader> {
        let mut buffer = std::mem::take(&mut self.rest);
        if let Some(file) = &mut self.file {
            let whole = file.write_all(&buffer).and_then(|()| file.rewind());
            whole.map_err(|error| self.folder.failed(error))?;
            buffer = Vec::with_capacity(chunk.max(MOST_AHEAD));
        }
        Ok(Reader { folder: self.folder, file: self.file, buffer, at: 0 })
    }
}

impl Reader {
    /// The next bytes without taking them: at least `wanted` (at most 64) unless the end comes
    /// before.
    pub fn ahead(&mut self, wanted: usize) -> Result<&[u8]> {
        debug_assert!(wanted <= MOST_AHEAD);
        if self.buffer.len() - self.at < wanted {
            self.fill()?;
        }
        Ok(&self.buffer[self.at..])
    }

    /// Takes bytes that [`Reader::ahead`] showed.
    pub fn take(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Takes a number written by [`put_number`].
    pub fn number(&mut self) -> Result<u64> {
        let (value, bytes) = number(self.ahead(LONGEST_NUMBER)?).ok_or_else(cut)?;
        self.take(bytes);
        Ok(value)
    }

    #[cold]
    fn fill(&mut self) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.buffer.drain(..self.at);
        self.at = 0;
        let room = self.buffer.capacity() - self.buffer.len();
        let read = file.take(room as u64).read_to_end(&mut self.buffer);
        if read.map_err(|error| self.folder.failed(error))? == 0 {
            self.file = None;
        }
        Ok(())
    }
}

/// Appends a number, small ones in few bytes (LEB128).
pub(super) fn put_number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A number at the front, and how many bytes it takes.
pub(super) fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate().take(LONGEST_NUMBER) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

/// Temporary data that is not what was written.
pub(super) fn cut() -> Error {
    Error::Internal("a temporary file is shorter than it was".into())
}

/// The most bytes of a number.
pub(super) const LONGEST_NUMBER: usize = 10;
const MOST_AHEAD: usize = 64;
const CHUNK: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_memory_and_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = Folder::new(folder.path());
        for count in [0u64, 10, 200_000] {
            let mut writer = Writer::new(&temporary);
            let value = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (at % 64);
            for at in 0..count {
                put_number(value(at), writer.buffer());
                writer.relieve().unwrap();
            }
            let stored = writer.finish();
            assert_eq!(stored.file.is_some(), count > 1000, "small things are no files");
            // On disk or not, no name is left in the folder.
            #[cfg(unix)]
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            let mut reader = stored.read(4096).unwrap();
            for at in 0..count {
                assert_eq!(reader.number().unwrap(), value(at));
            }
            assert!(reader.ahead(1).unwrap().is_empty());
            assert!(reader.number().is_err());
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_with_advice() {
        let mut writer = Writer::new(&Folder::new("nowhere/at/all".as_ref()));
        writer.buffer().resize(CHUNK, 0);
        let message = writer.relieve().unwrap_err().to_string();
        assert!(message.contains("nowhere/at/all") && message.contains("another folder"), "{message}");
    }
}
