//! A file that is there as a whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::{Error, Result};

/// Written under another name beside the one it is for, and renamed when it is finished: after
/// whatever interruption there is the old file, the new one, or none. Unless it is finished it is
/// removed again; only a program that is killed leaves it behind, as `.NAME.RANDOM.part` (of long names
/// the beginning).
pub(crate) struct Whole {
    path: PathBuf,
    part: BufWriter<File>,
    name: TempPath,
}

impl Whole {
    /// Begins a file. What a link leads to is replaced, not the link.
    ///
    /// # Errors
    /// If the folder cannot be written to, or the name cannot be a file's, or is that of something else
    /// than a file: a device or a folder would otherwise be replaced.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let names_folder = path.as_os_str().as_encoded_bytes().last().is_none_or(|&last| is_separator(last));
        if names_folder || std::fs::metadata(path).is_ok_and(|data| !data.is_file()) {
            return Err(Error::config(format!("{}: is no regular file; name another", path.display())));
        }
        let path = &followed(path).map_err(|error| Error::io(path, error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A name may be as long as the system allows, and this one is longer.
        let prefix = format!(".{}.", name.chars().take(40).collect::<String>());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Those of the file that is replaced, or what the process gives to new ones.
            let kept = std::fs::metadata(path).map(|data| data.permissions());
            builder.permissions(kept.unwrap_or_else(|_| std::fs::Permissions::from_mode(0o666)));
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

    /// As [`Whole::finish`], for those who name the file in errors themselves.
    ///
    /// # Errors
    /// If the disk is full, or fails.
    #[cfg(feature = "cli")]
    pub(crate) fn close(self) -> io::Result<()> {
        self.place(&[])
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

/// The path that a link leads to in the end, whether there is something or not; any other as it is.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = folder(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("links lead in a circle; name another file"))
}

fn is_separator(byte: u8) -> bool {
    std::path::is_separator(char::from(byte))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

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

    /// What was for one user's eyes stays so.
    #[cfg(unix)]
    #[test]
    fn a_file_that_is_replaced_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        Whole::save(&path, b"old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Whole::save(&path, b"new").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
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

    /// Seen at once, and not when the long work is done.
    #[test]
    fn a_folders_name_is_no_files() {
        let folder = tempfile::tempdir().unwrap();
        for path in [Path::new(""), &folder.path().join("new/")] {
            let error = Whole::create(path).err().unwrap().to_string();
            assert!(error.ends_with("is no regular file; name another"), "{error}");
        }
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn the_longest_names_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["n".repeat(255), "é".repeat(127)] {
            Whole::save(&folder.path().join(&name), b"new").unwrap();
            assert_eq!(std::fs::read(folder.path().join(&name)).unwrap(), b"new");
        }
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn what_a_link_leads_to_is_replaced_and_not_the_link() {
        use std::os::unix::fs::symlink;
        let [folder, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [link, second, circle] = ["link", "second", "circle"].map(|name| folder.path().join(name));
        let file = other.path().join("file");
        symlink(&file, &second).unwrap();
        symlink("second", &link).unwrap();
        for content in [b"new", b"NEW"] {
            Whole::save(&link, content).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), content);
            assert!(link.is_symlink() && second.is_symlink());
        }
        assert_eq!(names(other.path()), ["file"]);
        symlink("circle", &circle).unwrap();
        assert!(Whole::create(&circle).is_err());
        assert_eq!(names(folder.path()).len(), 3);
    }

    #[cfg(unix)]
    #[test]
    fn two_who_write_one_name_are_not_in_each_others_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let [mut first, mut second] = [(); 2].map(|()| Whole::create(&path).unwrap());
        first.put(b"first").unwrap();
        second.put(b"second").unwrap();
        first.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        second.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["file"]);
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
