//! Where ESPnet2 keeps its lists: in one folder, or in a folder for each job of a run in parallel.

use std::path::{Path, PathBuf};

/// The folders with a `1best_recog` that make up `path`: itself, else its `output.1`, `output.2`, ...,
/// else those of its `logdir`; by their numbers. Empty if there are none.
pub(super) fn shards(path: &Path) -> Vec<PathBuf> {
    if path.join(BEST).is_dir() {
        return vec![path.to_owned()];
    }
    let of = |folder: &Path| {
        let entries = folder.read_dir().into_iter().flatten().flatten();
        let mut found: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| {
                let name = entry.file_name();
                let suffix = name.to_str()?.strip_prefix("output.")?;
                // As ESPnet writes them: `output.01` beside `output.1` is something else.
                let number = suffix.parse::<u64>().ok().filter(|number| number.to_string() == suffix)?;
                Some((number, entry.path())).filter(|(_, path)| path.join(BEST).is_dir())
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, path)| path).collect::<Vec<_>>()
    };
    let own = of(path);
    if own.is_empty() { of(&path.join("logdir")) } else { own }
}

const BEST: &str = "1best_recog";

#[cfg(test)]
mod tests {
    #[test]
    fn jobs_come_by_number_and_copies_of_them_are_no_jobs() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["output.10", "output.2", "output.+2", "output.02", "output.x", "output."] {
            std::fs::create_dir_all(folder.path().join(name).join(super::BEST)).unwrap();
        }
        let want = ["output.2", "output.10"].map(|name| folder.path().join(name));
        assert_eq!(super::shards(folder.path()), want);
    }
}
