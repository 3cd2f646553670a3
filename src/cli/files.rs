//! Input and output by name: `-` is standard input or output, `.gz` is compressed.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::folders::FolderSink;
use crate::whole::Whole;
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
    /// The file to empty first.
    old: Option<File>,
}

enum To {
    /// As they are.
    Plain(Raw),
    /// Compressed.
    Gzip(Box<GzEncoder<Raw>>),
    /// A folder.
    Folder(FolderSink),
}

/// Where bytes go.
enum Raw {
    Stream(BufWriter<Box<dyn Write>>),
    /// A file that gets its name when it is finished.
    Whole(Box<Whole>),
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
        let raw = Raw::Stream(BufWriter::with_capacity(1 << 16, raw));
        Ok(Self { to: To::new(path, raw), old })
    }

    /// As [`Sink::open`], for what is whole or not there: a file that was there keeps its content
    /// until [`Sink::finish`].
    ///
    /// # Errors
    /// If no file can be made beside it.
    pub fn whole(path: &Path) -> Result<Self> {
        // What devices and pipes are given cannot be taken back.
        if path == Path::new("-") || std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Self::open(path, false);
        }
        let raw = Raw::Whole(Box::new(Whole::create(path)?));
        Ok(Self { to: To::new(path, raw), old: None })
    }

    /// A folder, as [`FolderSink`] writes it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(path: &Path) -> Result<Self> {
        Ok(Self { to: To::Folder(FolderSink::create(path)?), old: None })
    }

    /// Writes what is still buffered. Without this call a gzip file is incomplete.
    ///
    /// # Errors
    /// If writing fails: what was written before is then not to be trusted.
    pub fn finish(mut self) -> io::Result<()> {
        self.empty()?;
        match self.to {
            To::Plain(sink) => sink.finish(),
            To::Gzip(sink) => sink.finish()?.finish(),
            To::Folder(mut sink) => sink.finish(),
        }
    }

    /// Whether it is whole or not there.
    pub fn is_whole(&self) -> bool {
        match &self.to {
            To::Plain(raw) => raw.is_whole(),
            To::Gzip(sink) => sink.get_ref().is_whole(),
            To::Folder(_) => true,
        }
    }

    /// Gives up without touching what was there, if nothing was written yet.
    pub fn abandon(self) {
        // What is whole or not there goes, and its scratch file or folder with it.
        if !self.is_whole() && self.old.is_none() {
            let _ = self.finish();
        }
    }

    fn empty(&mut self) -> io::Result<()> {
        self.old.take().map_or(Ok(()), |file| file.set_len(0))
    }
}

impl To {
    /// Compressed, if the name says so.
    fn new(path: &Path, raw: Raw) -> Self {
        if path.extension().is_some_and(|extension| extension == "gz") {
            Self::Gzip(Box::new(GzEncoder::new(raw, Compression::default())))
        } else {
            Self::Plain(raw)
        }
    }
}

impl Raw {
    fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Stream(mut stream) => stream.flush(),
            Self::Whole(file) => file.close(),
        }
    }
}

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(bytes),
            Self::Whole(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.flush(),
            Self::Whole(file) => file.flush(),
        }
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

    #[cfg(unix)]
    #[test]
    fn a_document_replaces_what_a_link_leads_to_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        for name in ["file", "file.gz"] {
            let [file, link] = [name, &format!("link-{name}")].map(|name| folder.path().join(name));
            std::fs::write(&file, "old").unwrap();
            std::os::unix::fs::symlink(name, &link).unwrap();
            let before = names();
            let mut sink = Sink::whole(&link).unwrap();
            sink.write_all(&[b'x'; 3 << 20]).unwrap();
            sink.flush().unwrap();
            assert!(sink.is_whole() && names() == before + 1);
            sink.abandon();
            assert_eq!((names(), std::fs::read(&file).unwrap()), (before, b"old".to_vec()));
            let mut sink = Sink::whole(&link).unwrap();
            sink.write_all(b"new").unwrap();
            sink.finish().unwrap();
            assert!(link.is_symlink() && names() == before);
            let bytes = std::fs::read(&file).unwrap();
            let mut text = String::new();
            match name.ends_with(".gz") {
                true => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap(),
                false => (&bytes[..]).read_to_string(&mut text).unwrap(),
            };
            assert_eq!(text, "new");
        }
        // Devices are written as they are.
        assert!(!Sink::whole("/dev/null".as_ref()).unwrap().is_whole());
    }
}
