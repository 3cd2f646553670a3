//! Texts as ids, for others than the estimator.

use std::io::Read;

use super::corpus::{Corpus, EOS};
use super::temporary::Folder;
use super::watch::{Observer, Phase, Watch};
use crate::Result;

/// The sentences of a text.
pub(crate) struct Sentences {
    corpus: Corpus,
    folder: Folder,
}

impl Sentences {
    /// Reads a text as the estimator does; `<s>`, `</s>` and `<unk>` in it are left out.
    ///
    /// # Errors
    /// If it cannot be read, or is no text.
    pub fn read(name: &str, text: impl Read + Send + 'static, observer: &mut Observer<'_>) -> Result<Self> {
        let folder = Folder::new(&std::env::temp_dir());
        let mut corpus = Corpus::new(&folder, true);
        corpus.read(name, text, &mut Watch::new(observer, Phase::Reading, 0))?;
        Ok(Self { corpus, folder })
    }

    /// The words by id: `<unk>`, `<s>`, `</s>`, then those of the text.
    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        (0..).map_while(|id| self.corpus.words.word(id))
    }

    /// Calls with the id of each word, and with `None` after each sentence.
    ///
    /// # Errors
    /// If a temporary file cannot be read.
    pub fn each(mut self, mut call: impl FnMut(Option<u32>)) -> Result<()> {
        let mut ids = self.corpus.take_ids(&self.folder).read(READ_CHUNK)?;
        for _ in 0..self.corpus.tokens {
            let id = ids.number()? as u32;
            call(Some(id).filter(|&id| id != EOS));
        }
        Ok(())
    }
}

const READ_CHUNK: usize = 1 << 16;
