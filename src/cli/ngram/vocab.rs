//! `secondpass ngram vocab`: ids to words and words to ids.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::End;
use crate::cli::messages::Messages;
use crate::{Error, Result};

/// List a model's words and their ids, or look some up
///
/// Each line is an id, a tab and a word. A word that the model does not know has the id 0.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// An ARPA, KenLM or compact file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Only this word (repeatable)
    #[arg(long, value_name = "WORD")]
    word: Vec<OsString>,
    /// Only the word of this id (repeatable)
    #[arg(long, value_name = "NUM")]
    id: Vec<u32>,
}

/// Lists them.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let path = &arguments.model;
    let model = super::look(path)?;
    let words = model.words();
    let mut out = Vec::new();
    let mut row = |id: u32, word: &[u8]| {
        out.extend_from_slice(id.to_string().as_bytes());
        out.push(b'\t');
        out.extend_from_slice(word);
        out.push(b'\n');
    };
    for word in &arguments.word {
        let id = words.id(word.as_encoded_bytes());
        row(id, word.as_encoded_bytes());
        if id == 0 {
            messages.say(&format!("`{}` is unknown to the model", word.display()));
        }
    }
    let all = arguments.word.is_empty() && arguments.id.is_empty();
    if all || !arguments.id.is_empty() {
        words.spelled().map_err(|what| Error::model(path, what))?;
    }
    let every = if all { 0..words.len() as u32 } else { 0..0 };
    for id in every.chain(arguments.id.iter().copied()) {
        let word = words
            .word(id)
            .ok_or_else(|| Error::Config(format!("there is no word {id}: ids are below {}", words.len())))?;
        row(id, word);
    }
    super::print(&out)?;
    Ok(End::Done)
}
