//! `tokenizer.json`: the vocabularies of Hugging Face's models. Byte pair encoding, byte-level (GPT-2,
//! Llama 3, Qwen) and over characters with ▁ (Llama 2, Mistral, Gemma); Unigram, as SentencePiece models
//! are exported (T5, XLM-R, ALBERT); WordPiece (BERT) and whole words.
//!
//! Read by our own code, word by word, with the ids that the library `tokenizers` gives. Files that
//! ask for more (other models, other patterns) are refused by the name of what they ask for.

mod cuts;
mod merges;
mod model;
mod normalise;
mod split;

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use self::cuts::{Cut, Cuts};
use self::model::{Model, vocabulary};
use self::normalise::Step;
use super::{Known, List, Specials, Vocab, check_specials, fingerprint};
use crate::{Error, Result};

/// A vocabulary from a `tokenizer.json`.
///
/// Special tokens spelled out in a text are text. Bytes that are not UTF-8 become the replacement
/// character, and the word counts as unknown, as does one of more than
/// [`Pieces::LONGEST`](super::Pieces::LONGEST) bytes if there is a token for that.
///
/// WordPiece tokens without `##` count as the beginnings of words, though `'` may be one inside: the
/// tokens of "do n't" and "don't" are the same.
#[derive(Debug)]
pub struct HuggingFace {
    steps: Vec<Step>,
    cuts: Cuts,
    model: Model,
    /// Whether the first word is marked as the others are.
    marked: bool,
    /// Whether every word is one token.
    words: bool,
    symbols: Vec<Option<Box<[u8]>>>,
    starts: Vec<bool>,
    size: usize,
    bos: u32,
    eos: u32,
    unk: Option<u32>,
    hash: u64,
}

impl HuggingFace {
    /// Reads a file for a language model with `size` outputs. Special tokens that the model does not
    /// name are those of the file, by their usual names.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, asks for what is not there, or has ids from `size` on.
    pub fn open(path: &Path, size: usize, specials: Specials) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&bytes, size, specials).map_err(|what| Error::model(path, what))
    }

    /// As [`HuggingFace::open`], from memory.
    ///
    /// # Errors
    /// As [`HuggingFace::open`].
    pub fn parse(bytes: &[u8], size: usize, specials: Specials) -> Result<Self, String> {
        let json: Value =
            serde_json::from_slice(bytes).map_err(|e| format!("no usable tokenizer.json ({e})"))?;
        let model = &json["model"];
        let mut steps = Vec::new();
        normalise::steps(&json["normalizer"], &mut steps)?;
        let no_blanks =
            matches!(steps.last(), Some(Step::Replace(from, to)) if from == " " && !to.contains(' '));
        let mut cuts = Cuts { no_blanks, ..Cuts::default() };
        cuts.read(&json["pre_tokenizer"])?;
        let added = added(&json)?;
        let special: HashSet<&str> = added.iter().map(|(content, _)| *content).collect();
        let vocab = vocabulary(model, size)?;
        let mut symbols: Vec<Option<Box<[u8]>>> = Vec::new();
        let mut set = |id: u32, symbol: &str| {
            let at = id as usize;
            symbols.resize(symbols.len().max(at + 1), None);
            symbols[at] = Some(symbol.as_bytes().into());
        };
        vocab.iter().for_each(|(symbol, &id)| set(id, symbol));
        for &(content, id) in &added {
            // Further ones may be there that the model was not made for.
            if (id as usize) < size {
                set(id, content);
            }
        }
        let model = Model::parse(model, vocab, &special, cuts.bytes)?;
        let list = List::of(symbols.clone());
        let (bos, eos) = ends(&list, specials).ok_or(
            "neither it nor the model names the tokens that start and end a sentence; set bos and eos",
        )?;
        let unk = specials.unk.or(model.unk);
        check_specials(size, bos, eos, unk)?;
        let mark = if cuts.bytes { "\u{120}" } else { cuts.mark().map_or("\u{2581}", |(mark, _)| mark) };
        let cut_at_spaces =
            cuts.cuts.iter().any(|cut| matches!(cut, Cut::WhitespaceSplit | Cut::Whitespace | Cut::Bert));
        if model.needs_marks() && cut_at_spaces && cuts.mark().is_none() {
            return Err(
                "its pre_tokenizer removes white space, so that its pieces do not mark where words start; \
                        WordPiece and WordLevel models are read so"
                    .into(),
            );
        }
        let is_special = |symbol: &[u8]| std::str::from_utf8(symbol).is_ok_and(|text| special.contains(text));
        let inner = |symbol: &[u8]| {
            let text = String::from_utf8_lossy(symbol);
            text.trim_start_matches(mark).contains(mark).then(|| text.into_owned())
        };
        let plain = || symbols.iter().flatten().filter(|symbol| !is_special(symbol));
        if let (true, false, Some(symbol)) =
            (model.needs_marks(), cuts.bytes, plain().find_map(|symbol| inner(symbol)))
        {
            return Err(format!(
                "has pieces of more than one word ({symbol:?}), which cannot be scored word by word"
            ));
        }
        let words = model.is_word_level()
            && cuts.cuts == [Cut::WhitespaceSplit]
            && !steps.iter().any(Step::makes_spaces);
        let starts_word = |symbol: &[u8]| match model.inner_prefix() {
            Some(prefix) => !symbol.starts_with(prefix.as_bytes()) && !is_special(symbol),
            None if model.is_word_level() => words || !is_special(symbol),
            None => symbol.starts_with(mark.as_bytes()),
        };
        let mut starts: Vec<bool> =
            symbols.iter().map(|symbol| symbol.as_deref().is_some_and(starts_word)).collect();
        // Without marks it stands for a whole word; without a piece for the mark alone it takes that in.
        let takes_mark = !model.needs_marks() || !plain().any(|symbol| **symbol == *mark.as_bytes());
        if let (true, Some(start)) = (takes_mark, model.unk.and_then(|unk| starts.get_mut(unk as usize))) {
            *start = true;
        }
        let hash = fingerprint(symbols.iter().map(|symbol| symbol.as_deref().unwrap_or_default()));
        let prepends = steps.iter().any(|step| matches!(step, Step::Prepend(_)));
        let marked = prepends
            || match model.needs_marks() {
                true => cuts.marked || cuts.mark().is_some_and(|(_, first)| first),
                false => true,
            };
        Ok(Self { steps, cuts, model, marked, words, symbols, starts, size, bos, eos, unk, hash })
    }

    fn spell(&self, word: &[u8], first: bool, ids: &mut Vec<u32>) -> Known {
        if let (true, Some(unk)) = (word.len() > super::Pieces::LONGEST, self.unk) {
            ids.push(unk);
            return Known::No;
        }
        let lossy = String::from_utf8_lossy(word);
        let mut known = if matches!(lossy, std::borrow::Cow::Borrowed(_)) { Known::Yes } else { Known::No };
        let blank = if first && (!self.cuts.bytes || !self.marked) { "" } else { " " };
        let mut text = [blank, &*lossy].concat();
        for step in &self.steps {
            text = step.apply(text, first);
        }
        // Of a word of which nothing is left, nor is its blank: it joins the next word's.
        if text.trim().is_empty() && self.steps.iter().any(Step::joins_spaces) {
            return known;
        }
        self.cuts.parts(&text, first, &mut |part| {
            if self.model.part(part, ids) == Known::No {
                known = Known::No;
            }
        });
        known
    }
}

impl Vocab for HuggingFace {
    fn size(&self) -> usize {
        self.size
    }

    fn bos(&self) -> u32 {
        self.bos
    }

    fn eos(&self) -> u32 {
        self.eos
    }

    fn unk(&self) -> Option<u32> {
        self.unk
    }

    fn encode(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        self.spell(word, false, ids)
    }

    fn encode_first(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        self.spell(word, true, ids)
    }

    fn first_differs(&self) -> bool {
        !self.marked
    }

    fn starts_word(&self, token: u32) -> bool {
        self.starts.get(token as usize).copied().unwrap_or(false)
    }

    fn words(&self) -> bool {
        self.words
    }

    fn symbol(&self, token: u32) -> Option<Vec<u8>> {
        self.symbols.get(token as usize)?.as_deref().map(<[u8]>::to_vec)
    }

    fn hash(&self) -> u64 {
        self.hash
    }
}

/// Where sentences start and end: as the model says, else by the usual names.
fn ends(list: &List, specials: Specials) -> Option<(u32, u32)> {
    let named = list.specials();
    let find = |name: &str| list.iter().find(|(symbol, _)| *symbol == name.as_bytes()).map(|(_, id)| id);
    let other = |names: [&str; 2]| names.into_iter().find_map(find);
    let eos = specials.eos.or(named.eos).or_else(|| other(["[EOS]", "[SEP]"]));
    let bos = specials.bos.or(named.bos).or_else(|| other(["[BOS]", "[CLS]"]));
    bos.zip(eos)
}

/// Tokens beside the vocabulary.
fn added(json: &Value) -> Result<Vec<(&str, u32)>, String> {
    let mut all = Vec::new();
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let (Some(content), Some(id)) = (token["content"].as_str(), id) else {
            return Err("one of its added_tokens has no content or id".into());
        };
        let special = token["special"].as_bool() == Some(true);
        let bracketed = matches!(content.as_bytes(), [b'<', .., b'>'] | [b'[', .., b']']);
        // Plain words among them are found in a text before anything else is.
        if !special && !bracketed && !content.trim_matches([' ', '\u{2581}', '\n', '\t', '\r']).is_empty() {
            return Err(format!(
                "its added_tokens have {content:?}, which is no special token: that is not read"
            ));
        }
        all.push((content, id));
    }
    Ok(all)
}

fn kind(json: &Value) -> &str {
    json["type"].as_str().unwrap_or_default()
}

fn other(part: &str, json: &Value) -> String {
    format!(
        "its {part} is {:?}, which is not read; put the SentencePiece model beside it if there is one",
        kind(json)
    )
}

#[cfg(test)]
mod tests;
