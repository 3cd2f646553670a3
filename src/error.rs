//! The one error type of the library: what happened, and what to do about it.

use std::path::{Path, PathBuf};

/// The result of everything in this library that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller can do about it.
///
/// A message is one line: the fact, then the advice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing failed. `what` names the file or stream.
    #[error("{what}: {source}")]
    Io {
        /// The file or stream, as a user would name it.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A model file cannot be used: damaged, of another kind, or not as declared.
    #[error("{}: {what}", .path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it (with line or byte where known) and what to do.
        what: String,
    },
    /// One input record cannot be rescored; the others can.
    #[error("{what}")]
    Record {
        /// What is wrong with the record.
        what: String,
    },
    /// A configured limit was passed.
    #[error("{what}: {got} is over the limit of {limit}")]
    Limit {
        /// What was measured.
        what: String,
        /// The limit in force.
        limit: u64,
        /// The value found.
        got: u64,
    },
    /// ONNX Runtime is missing or cannot be used.
    #[error("{0}")]
    Runtime(String),
    /// A model failed while it ran.
    #[error("{lm}: {what}")]
    Inference {
        /// The language model's name.
        lm: String,
        /// The runtime's reason.
        what: String,
    },
    /// Options, weights or a configuration that make no sense together.
    #[error("{0}")]
    Config(String),
    /// A bug of ours, contained.
    #[error("internal error: {0}; please report it")]
    Internal(String),
}

impl Error {
    /// An [`Error::Io`] about the file `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { what: path.as_ref().display().to_string(), source }
    }

    /// An [`Error::ModelFile`] about `path`.
    pub fn model(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::ModelFile { path: path.into(), what: what.into() }
    }

    /// An [`Error::Record`].
    pub fn record(what: impl Into<String>) -> Self {
        Self::Record { what: what.into() }
    }

    /// An [`Error::Config`].
    pub fn config(what: impl Into<String>) -> Self {
        Self::Config(what.into())
    }
}
