//! Flags about the format of lists, and opening them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files;
use crate::formats::{self, Folder, Format, Given, Kept, References, Source};
use crate::stream::Lists;
use crate::{Error, Result};

/// What lists do not say themselves.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct FormatArgs {
    /// Format of the lists (seen by their content, if not given)
    ///
    /// jsonl, json, kaldi, srilm, nbest1, nbest2, moses, nemo, wenet, cued, pocketsphinx, espnet,
    /// espnet1, mlm, hypo2trans
    #[arg(long, value_name = "FORMAT", help_heading = "Input")]
    pub format: Option<Format>,
    /// Hypotheses of each utterance (NeMo; 0: blank lines stand between lists)
    #[arg(long, value_name = "NUM", help_heading = "Input")]
    pub beam_size: Option<usize>,
    /// Ids and references of the utterances, in order (NeMo)
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    pub manifest: Option<PathBuf>,
    /// Words by number, `WORD NUMBER` a line (Kaldi's words.txt)
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    pub symbols: Option<PathBuf>,
    /// Folder of tensors that records name by `{"file":"utt1.npy"}` (JSON)
    ///
    /// No file outside it is read, wherever links lead.
    #[arg(long, value_name = "DIR", help_heading = "Input")]
    pub tensor_dir: Option<PathBuf>,
    /// References by id: lines `ID WORDS`, or `WORDS (ID)`
    #[arg(long, visible_alias = "refs", value_name = "FILE", help_heading = "Input")]
    pub references: Option<PathBuf>,
    /// Weight of the acoustic score in the lists' own total (Kaldi: 0.1, others: 1)
    #[arg(
        long,
        visible_alias = "acwt",
        value_name = "NUM",
        allow_hyphen_values = true,
        help_heading = "Input"
    )]
    pub acoustic_scale: Option<f64>,
    /// Weight of the language model's score in the lists' own total (SRILM: 8, others: 1)
    #[arg(long, value_name = "NUM", allow_hyphen_values = true, help_heading = "Input")]
    pub list_lm_scale: Option<f64>,
    /// Added for each word in the lists' own total, in their unit (SRILM, CUED)
    #[arg(long, value_name = "NUM", allow_hyphen_values = true, help_heading = "Input")]
    pub list_word_score: Option<f64>,
    /// Largest JSON document read
    #[arg(long, value_name = "BYTES", default_value_t = Kept::default().document_bytes, help_heading = "Limits")]
    pub max_document_bytes: usize,
}

/// Lists that are open.
pub struct Opened {
    pub lists: Lists,
    pub given: Arc<Given>,
    pub references: Arc<References>,
    /// The format, where it is known before anything was read.
    pub format: Option<Format>,
}

impl FormatArgs {
    /// What is kept of what does not end.
    pub fn kept(&self, record_bytes: usize) -> Kept {
        Kept { record_bytes, document_bytes: self.max_document_bytes }
    }

    pub fn given(&self) -> Result<Given> {
        for (flag, value) in [
            ("--acoustic-scale", self.acoustic_scale),
            ("--list-lm-scale", self.list_lm_scale),
            ("--list-word-score", self.list_word_score),
        ] {
            if value.is_some_and(|value| !value.is_finite()) {
                return Err(Error::Config(format!("{flag}: expected a finite number")));
            }
        }
        Ok(Given {
            acoustic_scale: self.acoustic_scale,
            lm_scale: self.list_lm_scale,
            word_score: self.list_word_score,
            beam_size: self.beam_size,
            tensors: self.tensor_dir.clone(),
            symbols: self.symbols.as_deref().map(formats::symbols).transpose()?,
        })
    }

    /// Opens a file, a folder, or standard input.
    ///
    /// # Errors
    /// If something cannot be read, or is not what the flags say.
    pub fn open(&self, path: &Path, kept: Kept) -> Result<Opened> {
        let mut given = self.given()?;
        let references = self.references.as_deref().map(formats::references).transpose()?.unwrap_or_default();
        let references = Arc::new(references);
        if path.is_dir() {
            let table = path.join("words.txt");
            if given.symbols.is_none() && table.is_file() && numbers(path) {
                given.symbols = Some(formats::symbols(&table)?);
            }
            let (source, format) = Folder::open(path, self.format, &given, kept)?;
            let lists = Lists::Folder(source);
            return Ok(Opened { lists, given: Arc::new(given), references, format: Some(format) });
        }
        let names = formats::names(path, self.manifest.as_deref())?;
        let given = Arc::new(given);
        let input = files::input(path)?;
        let format = match self.format {
            // A pipe shows its start once only.
            None if path.is_file() && path != Path::new("-") => Some(formats::sniff(path)?),
            format => format,
        };
        let lists = Lists::Stream { input, format, given: given.clone(), names };
        Ok(Opened { lists, given, references, format })
    }

    /// Opens lists to be read here.
    ///
    /// # Errors
    /// As [`FormatArgs::open`].
    pub fn source(&self, path: &Path, kept: Kept) -> Result<(Source, Arc<Given>, Arc<References>)> {
        let Opened { lists, given, references, .. } = self.open(path, kept)?;
        let source = match lists {
            Lists::Folder(source) => source,
            Lists::Stream { input, format, given, names } => {
                Source::open(input, format, &given, &names, kept)?
            }
        };
        Ok((source, given, references))
    }
}

/// Whether the words of a folder of Kaldi's are numbers.
fn numbers(folder: &Path) -> bool {
    let names = ["words", "words_text", "text"];
    let Some(path) = names.iter().map(|name| folder.join(name)).find(|path| path.is_file()) else {
        return false;
    };
    let Ok(text) = std::fs::read(path) else { return false };
    let words = text
        .split(|&byte| byte == b'\n')
        .flat_map(|line| line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1));
    words.take(1000).all(|word| word.iter().all(u8::is_ascii_digit))
}
