//! Data set aside while a model is built: in memory while it is little, else in a temporary file
//! that goes with the process, however that ends.

use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::path::PathBuf;

use tempfile::SpooledTempFile;

/// How much memory may be used, and where files may lie.
#[derive(Debug, Clone)]
pub(super) struct Space {
    memory: usize,
    folder: PathBuf,
}

/// Bytes to be written once and read from their beginning, as often as wanted.
pub(super) struct Spool {
    data: BufWriter<SpooledTempFile>,
}

impl Space {
    pub(super) fn new(memory: usize, folder: PathBuf) -> Self {
        Self { memory, folder }
    }

    /// Bytes for sorting, if `sorters` of them work at a time.
    pub(super) fn sorting(&self, sorters: usize) -> usize {
        self.memory / 2 / sorters.max(1)
    }

    /// A few dozen of them may be in use at a time.
    pub(super) fn spool(&self) -> Spool {
        let data = SpooledTempFile::new_in(self.memory / 64, &self.folder);
        Spool { data: BufWriter::with_capacity(CHUNK, data) }
    }
}

impl Spool {
    /// The data from its beginning.
    pub(super) fn reader(self) -> io::Result<BufReader<SpooledTempFile>> {
        let mut data = self.data.into_inner().map_err(io::IntoInnerError::into_error)?;
        data.rewind()?;
        Ok(BufReader::with_capacity(CHUNK, data))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.data.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.data.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.data.flush()
    }
}

const CHUNK: usize = 1 << 16;
