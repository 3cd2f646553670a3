//! A file that is there as a whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Written under another name beside the one it is for; removed again unless it is finished.
pub(crate) struct Output {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Output {
    /// Begins a file with what says that it is not finished.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub(crate) fn create(path: &Path, incomplete: &[u8]) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(name);
        let fault = crate::faults::io("build::create").map_or(Ok(()), Err);
        let open = || OpenOptions::new().write(true).create(true).truncate(true).open(&temporary);
        let file = fault.and_then(|()| open()).map_err(|error| Error::io(&temporary, error))?;
        let mut output =
            Self { path: path.to_path_buf(), temporary, file: Some(BufWriter::with_capacity(1 << 20, file)) };
        output.write(incomplete)?;
        Ok(output)
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// If the disk is full, or fails.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let fault = crate::faults::io("build::write").map_or(Ok(()), Err);
        let written = fault.and_then(|()| self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes)));
        written.map_err(|error| Error::io(&self.path, error))
    }

    /// Puts the header in its place and the file in its own, safely on disk.
    ///
    /// # Errors
    /// If the disk is full, or fails.
    pub(crate) fn finish(mut self, header: &[u8]) -> Result<()> {
        let fault = crate::faults::io("build::finish").map_or(Ok(()), Err);
        fault.and_then(|()| self.place(header)).map_err(|error| Error::io(&self.path, error))
    }

    fn place(&mut self, header: &[u8]) -> io::Result<()> {
        let Some(file) = self.file.as_mut() else { return Ok(()) };
        // Everything else is on disk before the header says that it is.
        file.flush()?;
        file.get_ref().sync_data()?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(header)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        self.file = None;
        // The new name, too; some systems cannot open folders.
        if let Some(folder) =
            self.path.parent().map(|folder| if folder == Path::new("") { Path::new(".") } else { folder })
            && let Ok(folder) = File::open(folder)
        {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
