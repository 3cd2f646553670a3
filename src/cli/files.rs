//! Input and output by name: `-` is standard input or output, `.gz` is compressed.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::folders::FolderSink;
use crate::{Error, Result};

/// Opens an input; compression is recognised by content, not here.
///
/// # Errors
/// If the file cannot be opened.
pub fn input(path: &Path) -> Result<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        // Unbuffered: lines are split from a buffer of our own.
        return Ok(Box::new(io::stdin()));
    }
    let fault = crate::faults::io("files::open").map_or(Ok(()), Err);
    let file = fault.and_then(|()| File::open(path)).map_err(|error| Error::io(path, error))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Error::Config(format!("{}: is a folder; name a file in it", path.display())));
    }
    Ok(Box::new(file))
}

/// Whether an input and an output are one file: writing it would destroy what is read, or never
/// end.
pub fn same(input: &Path, output: &Path) -> bool {
    let regular = |path: &Path, standard: &str| {
        let path = if path == Path::new("-") { Path::new(standard) } else { path };
        std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)
    };
    #[cfg(unix)]
    let one = |a: &std::fs::Metadata, b: &std::fs::Metadata| {
        use std::os::unix::fs::MetadataExt;
        (a.dev(), a.ino()) == (b.dev(), b.ino())
    };
    #[cfg(not(unix))]
    let one = |_: &std::fs::Metadata, _: &std::fs::Metadata| input == output;
    match (regular(input, "/dev/stdin"), regular(output, "/dev/stdout")) {
        (Some(a), Some(b)) => one(&a, &b),
        _ => false,
    }
}

/// Where records go. A file that was there keeps its content until the first record is written.
pub struct Sink {
    to: To,
    /// Where a document lies until it is whole, and what it will replace.
    moved: Option<(PathBuf, PathBuf)>,
    /// The file to empty first.
    old: Option<File>,
}

enum To {
    /// As they are.
    Plain(BufWriter<Box<dyn Write>>),
    /// Compressed.
    Gzip(Box<GzEncoder<BufWriter<Box<dyn Write>>>>),
    /// A folder.
    Folder(FolderSink),
}

impl Sink {
    /// Creates (or, with `append`, continues) an output; a name that ends in `.gz` is compressed.
    ///
    /// # Errors
    /// If the file cannot be opened for writing.
    pub fn open(path: &Path, append: bool) -> Result<Self> {
        let mut old = None;
        if path.is_dir() {
            return Err(Error::Config(format!(
                "{}: is a folder; name a file in it (a folder is written where the lists came from one)",
                path.display()
            )));
        }
        let raw: Box<dyn Write> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let fault = crate::faults::io("files::create").map_or(Ok(()), Err);
            let open = || File::options().create(true).write(true).append(append).truncate(false).open(path);
            let file = fault.and_then(|()| open()).map_err(|error| Error::io(path, error))?;
            // Devices and pipes have nothing to empty.
            let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
            old = Some(&file).filter(|_| regular && !append).and_then(|file| file.try_clone().ok());
            Box::new(file)
        };
        let buffered = BufWriter::with_capacity(1 << 16, raw);
        let to = if path.extension().is_some_and(|extension| extension == "gz") {
            To::Gzip(Box::new(GzEncoder::new(buffered, Compression::default())))
        } else {
            To::Plain(buffered)
        };
        Ok(Self { to, old, moved: None })
    }

    /// As [`Sink::open`], for what is whole or not there: a file that was there keeps its content
    /// until [`Sink::finish`].
    ///
    /// # Errors
    /// If no file can be made beside it.
    pub fn whole(path: &Path) -> Result<Self> {
        let special = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        let Some(name) = path.file_name().filter(|_| path != Path::new("-") && !special) else {
            return Self::open(path, false);
        };
        // The ending tells whether it is compressed.
        let scratch = path.with_file_name(format!(".{}.{}", std::process::id(), name.to_string_lossy()));
        let sink = Self::open(&scratch, false)?;
        Ok(Self { moved: Some((scratch, path.to_owned())), ..sink })
    }

    /// A folder, as [`FolderSink`] writes it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(path: &Path) -> Result<Self> {
        Ok(Self { to: To::Folder(FolderSink::create(path)?), old: None, moved: None })
    }

    /// Writes what is still buffered. Without this call a gzip file is incomplete.
    ///
    /// # Errors
    /// If writing fails: what was written before is then not to be trusted.
    pub fn finish(mut self) -> io::Result<()> {
        self.empty()?;
        match self.to {
            To::Plain(mut sink) => sink.flush()?,
            To::Gzip(sink) => sink.finish()?.flush()?,
            To::Folder(mut sink) => sink.finish()?,
        }
        match self.moved {
            Some((scratch, path)) => std::fs::rename(scratch, path),
            None => Ok(()),
        }
    }

    /// Whether it is whole or not there.
    pub fn is_whole(&self) -> bool {
        self.moved.is_some() || matches!(self.to, To::Folder(_))
    }

    /// Gives up without touching what was there, if nothing was written yet.
    pub fn abandon(self) {
        if let Some((scratch, _)) = &self.moved {
            let _ = std::fs::remove_file(scratch);
        } else if matches!(self.to, To::Folder(_)) {
            // Its scratch folder goes with it.
        } else if self.old.is_none() {
            let _ = self.finish();
        }
    }

    fn empty(&mut self) -> io::Result<()> {
        self.old.take().map_or(Ok(()), |file| file.set_len(0))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.empty()?;
        match &mut self.to {
            To::Plain(sink) => sink.write(bytes),
            To::Gzip(sink) => sink.write(bytes),
            To::Folder(sink) => sink.write(bytes),
        }
    }

    /// For gzip, a flush makes everything so far readable by whoever decompresses.
    fn flush(&mut self) -> io::Result<()> {
        if self.old.is_some() {
            return Ok(());
        }
        match &mut self.to {
            To::Plain(sink) => sink.flush(),
            To::Gzip(sink) => sink.flush(),
            To::Folder(sink) => sink.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_by_two_names_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        std::fs::write(&a, "").unwrap();
        std::fs::write(&b, "").unwrap();
        std::fs::hard_link(&a, &c).unwrap();
        assert!(same(&a, &a) && same(&a, &c) && same(&a, &folder.path().join("./a")));
        assert!(!same(&a, &b) && !same(&a, &folder.path().join("new")));
        assert!(!same("/dev/null".as_ref(), "/dev/null".as_ref()));
    }
}
