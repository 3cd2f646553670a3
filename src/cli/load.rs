//! `--load`: how n-gram binaries come into memory.

use crate::lm::ngram::{Load, Options, Unchanging};

/// Into memory by reading, or by mapping the file.
#[derive(clap::ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Loading {
    /// Read as a whole: the faster lookups
    #[default]
    Read,
    /// Mapped: opens at once, shared by processes; the file must not be changed meanwhile
    Mmap,
}

impl Loading {
    /// Options of n-gram models.
    pub fn options(self) -> Options {
        let mut options = Options::default();
        if self == Self::Mmap {
            options.load = mapped();
        }
        options
    }
}

#[allow(unsafe_code)]
fn mapped() -> Load {
    // SAFETY: who asks for it on the command line is told that the file must not be changed; a
    // program cannot keep others from it. The worst is a wrong score or an end by SIGBUS, with all
    // lines before it written.
    Load::Map(unsafe { Unchanging::promise() })
}
