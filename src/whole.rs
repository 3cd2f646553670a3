//! A file that is there as a whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::{Error, Result};

/// Written under another name beside the one it is for, and renamed when it is finished: after
/// whatever interruption there is the old file, the new one, or none. Unless it is finished it is
/// removed again; only a program that is killed leaves it behind, as `.NAME.RANDOM.part`.
pub(crate) struct Whole {
    path: PathBuf,
    part: BufWriter<File>,
    name: TempPath,
}

impl Whole {
    /// Begins a file.
    ///
    /// # Errors
    /// If the folder cannot be written to, or the name is that of something else than a file: a
    /// device or a folder would otherwise be replaced.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        if std::fs::metadata(path).is_ok_and(|data| !data.is_file()) {
            return Err(Error::config(format!("{}: is no regular file; name another", path.display())));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let fault = crate::faults::io("whole::create").map_or(Ok(()), Err);
        let part = fault.and_then(|()| builder.tempfile_in(folder(path)));
        let (part, name) = part.map_err(|error| Error::io(path, error))?.into_parts();
        Ok(Self { path: path.to_path_buf(), part: BufWriter::with_capacity(1 << 20, part), name })
    }

    /// Writes a file whose content is at hand.
    ///
    /// # Errors
    /// As [`Whole::create`], [`Whole::put`] and [`Whole::finish`].
    pub(crate) fn save(path: &Path, content: &[u8]) -> Result<()> {
        let mut file = Self::create(path)?;
        file.put(content)?;
        file.finish()
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// If the disk is full, or fails.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|error| Error::io(&self.path, error))
    }

    /// Gives the file its name, safely on disk.
    ///
    /// # Errors
    /// If the disk is full, or fails.
    pub(crate) fn finish(self) -> Result<()> {
        self.finish_with(&[])
    }

    /// Finishes a file that begins with a note that it is incomplete: `header` takes the place of
    /// that when all the rest has reached the disk.
    ///
    /// # Errors
    /// If the disk is full, or fails.
    pub(crate) fn finish_with(self, header: &[u8]) -> Result<()> {
        let path = self.path.clone();
        self.place(header).map_err(|error| Error::io(&path, error))
    }

    fn place(mut self, header: &[u8]) -> io::Result<()> {
        crate::faults::io("whole::finish").map_or(Ok(()), Err)?;
        self.part.flush()?;
        if !header.is_empty() {
            self.part.get_ref().sync_data()?;
            self.part.seek(SeekFrom::Start(0))?;
            self.part.write_all(header)?;
        }
        self.part.flush()?;
        self.part.get_ref().sync_all()?;
        self.name.persist(&self.path).map_err(|error| error.error)?;
        // The new name, too; some systems cannot open folders.
        if let Ok(folder) = File::open(folder(&self.path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        crate::faults::io("whole::write").map_or(Ok(()), Err)?;
        self.part.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.part.flush()
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_there_when_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = Whole::create(&path).unwrap();
        file.put(b"??ody").unwrap();
        assert!(!path.exists());
        file.finish_with(b"B").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"B?ody");
        Whole::save(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn what_is_not_finished_leaves_the_old_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let mut file = Whole::create(&path).unwrap();
        file.put(&[0; 3 << 20]).unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), Path::new("/dev/null")] {
            let error = Whole::create(path).err().unwrap().to_string();
            assert!(error.ends_with("is no regular file; name another"), "{error}");
        }
        assert!(Whole::create(&folder.path().join("nowhere/file")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_it_as_any_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [ours, any] = ["ours", "any"].map(|name| folder.path().join(name));
        Whole::save(&ours, b"").unwrap();
        std::fs::write(&any, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&any));
    }
}
