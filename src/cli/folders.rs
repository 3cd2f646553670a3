//! Output that is whole or not there: a folder of files, or a document.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::formats::Answer;
use crate::{Error, Result};

/// Writes the files of a folder beside it, and moves them in at the end.
pub struct FolderSink {
    to: PathBuf,
    scratch: PathBuf,
    open: HashMap<String, Box<dyn Write>>,
    /// Every file there is, in the order of their first pieces.
    names: Vec<String>,
}

impl FolderSink {
    /// A folder to be.
    ///
    /// # Errors
    /// If a scratch folder cannot be made beside it.
    pub fn create(to: &Path) -> Result<Self> {
        let name = to.file_name().ok_or_else(|| Error::config("--output: expected the name of a folder"))?;
        let scratch = to.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        std::fs::create_dir_all(&scratch).map_err(|error| Error::io(&scratch, error))?;
        Ok(Self { to: to.to_owned(), scratch, open: HashMap::new(), names: Vec::new() })
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if !self.open.contains_key(name) {
            if self.open.len() >= MOST_OPEN {
                self.close()?;
            }
            let path = self.scratch.join(name);
            if !self.names.iter().rev().take(MOST_OPEN).any(|known| known == name) && !path.exists() {
                self.names.push(name.to_owned());
                path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            }
            let file = BufWriter::new(File::options().create(true).append(true).open(&path)?);
            // gzip of several members is gzip.
            let sink: Box<dyn Write> = match name.ends_with(".gz") {
                true => Box::new(GzEncoder::new(file, Compression::default())),
                false => Box::new(file),
            };
            self.open.insert(name.to_owned(), sink);
        }
        self.open.get_mut(name).map_or(Ok(()), |file| file.write_all(bytes))
    }

    /// An encoder that is dropped ends its member, but keeps to itself whether it could.
    fn close(&mut self) -> io::Result<()> {
        self.open.values_mut().try_for_each(Write::flush)?;
        self.open.clear();
        Ok(())
    }

    /// Moves the files to their place.
    ///
    /// # Errors
    /// If writing or moving fails.
    pub fn finish(&mut self) -> io::Result<()> {
        self.close()?;
        for name in &self.names {
            let path = self.to.join(name);
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::rename(self.scratch.join(name), path)?;
        }
        std::fs::create_dir_all(&self.to)
    }
}

impl Drop for FolderSink {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

impl Write for FolderSink {
    /// Takes whole records.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (name, piece) in Answer::frames(bytes) {
            self.append(name, piece)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Files that are open at a time.
const MOST_OPEN: usize = 256;
