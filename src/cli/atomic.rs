//! Models appear when they are complete: written under another name, then renamed.

use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// Lets `write` write a model; a file that was there is replaced when that has succeeded, and
/// stays as it was if not. `-` is standard output.
///
/// # Errors
/// Those of `write`, and if the file cannot be created or renamed.
pub fn write<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    if path == Path::new("-") {
        return write(&mut std::io::stdout());
    }
    let unwritten = |error| Error::io(path, error);
    if std::fs::metadata(path).is_ok_and(|data| !data.is_file()) {
        // A pipe or a device: nothing to put in its place.
        return write(&mut std::fs::File::options().write(true).open(path).map_err(unwritten)?);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let part = builder.prefix(&prefix).suffix(".part").tempfile_in(folder).map_err(unwritten)?;
    let made = write(&mut part.as_file())?;
    part.persist(path).map_err(|error| unwritten(error.error))?;
    Ok(made)
}

/// Refuses a packing that models are not written in.
///
/// # Errors
/// If the name ends in one.
pub fn packable(path: &Path) -> Result<()> {
    let name = path.to_string_lossy();
    match [".bz2", ".xz", ".zst"].iter().find(|packing| name.ends_with(**packing)) {
        Some(packing) => Err(Error::config(format!(
            "{name}: models are written plain or as .gz; write to standard output and pack that as {packing}"
        ))),
        None => Ok(()),
    }
}
