//! Input and output by name: `-` is standard input or output, `.gz` is compressed.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

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
        return Err(Error::Io {
            what: path.display().to_string(),
            source: io::ErrorKind::IsADirectory.into(),
        });
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
    /// The file to empty first.
    old: Option<File>,
}

enum To {
    /// As they are.
    Plain(BufWriter<Box<dyn Write>>),
    /// Compressed.
    Gzip(Box<GzEncoder<BufWriter<Box<dyn Write>>>>),
}

impl Sink {
    /// Creates (or, with `append`, continues) an output; a name that ends in `.gz` is compressed.
    ///
    /// # Errors
    /// If the file cannot be opened for writing.
    pub fn open(path: &Path, append: bool) -> Result<Self> {
        let mut old = None;
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
        Ok(Self { to, old })
    }

    /// Writes what is still buffered. Without this call a gzip file is incomplete.
    ///
    /// # Errors
    /// If writing fails: what was written before is then not to be trusted.
    pub fn finish(mut self) -> io::Result<()> {
        self.empty()?;
        match self.to {
            To::Plain(mut sink) => sink.flush(),
            To::Gzip(sink) => sink.finish()?.flush(),
        }
    }

    /// Gives up without touching what was there, if nothing was written yet.
    pub fn abandon(self) {
        if self.old.is_none() {
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
