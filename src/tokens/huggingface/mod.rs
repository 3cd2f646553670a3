//! `tokenizer.json`: byte pair encoding as Hugging Face's models have it, byte-level (GPT-2, Llama 3,
//! Qwen) and over characters with ▁ (Llama 2, Mistral).
//!
//! Read by our own code, word by word, with the ids that the library `tokenizers` gives. Files that
//! ask for more (other models, other patterns) are refused by the name of what they ask for.

mod merges;
mod split;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use self::merges::{Merges, merge};
use self::split::Split;
use super::{Known, List, Specials, Vocab, check_specials, fingerprint};
use crate::{Error, Result};

/// A vocabulary from a `tokenizer.json`.
///
/// Special tokens spelled out in a text are text. Bytes that are not UTF-8 become the replacement
/// character, and the word counts as unknown, as does one of more than
/// [`Pieces::LONGEST`](super::Pieces::LONGEST) bytes if there is a token for that.
#[derive(Debug)]
pub struct HuggingFace {
    steps: Vec<Step>,
    split: Split,
    /// The token of each byte, for byte-level vocabularies.
    bytes: Option<Box<[Option<u32>]>>,
    vocab: HashMap<Box<str>, u32>,
    merges: Merges,
    /// The tokens `<0x00>` to `<0xFF>`, for characters that have none.
    fallback: Option<Box<[u32]>>,
    fuse: bool,
    /// Parts that are tokens as they are need no merging.
    whole: bool,
    /// Whether the first word is marked as the others are.
    marked: bool,
    symbols: Vec<Option<Box<[u8]>>>,
    starts: Vec<bool>,
    size: usize,
    bos: u32,
    eos: u32,
    /// The unknown token of the file.
    own_unk: Option<u32>,
    unk: Option<u32>,
    hash: u64,
}

/// A step of normalisation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    Replace(String, String),
    /// Before the first word only.
    Prepend(String),
    /// Likewise, where it is not there.
    Mark(String),
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
        if kind(model) != "BPE" && (!model["merges"].is_array() || !model["type"].is_null()) {
            return Err(other("model", model));
        }
        for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model[name].as_str().is_some_and(|text| !text.is_empty()) {
                return Err(format!("its model has a {name}, which is not read"));
            }
        }
        let mut steps = Vec::new();
        normalisers(&json["normalizer"], &mut steps)?;
        let mut cut = Cut { split: Split::Whole, bytes: false, marked: false };
        cuts(&json["pre_tokenizer"], &mut cut, &mut steps)?;
        cut.marked |= steps.iter().any(|step| matches!(step, Step::Prepend(_) | Step::Mark(_)));
        let vocab = vocabulary(model, size)?;
        let mut symbols: Vec<Option<Box<[u8]>>> = Vec::new();
        let mut set = |id: u32, symbol: &str| {
            let at = id as usize;
            symbols.resize(symbols.len().max(at + 1), None);
            symbols[at] = Some(symbol.as_bytes().into());
        };
        vocab.iter().for_each(|(symbol, &id)| set(id, symbol));
        for (content, id) in added(&json)? {
            // Further ones may be there that the model was not made for.
            if (id as usize) < size {
                set(id, content);
            }
        }
        let list = List::of(symbols.clone());
        let named = list.specials();
        let ends = specials.bos.or(named.bos).zip(specials.eos.or(named.eos));
        let (bos, eos) = ends.ok_or(
            "neither it nor the model names the tokens that start and end a sentence; set bos and eos",
        )?;
        let own_unk = model["unk_token"].as_str().and_then(|unk| vocab.get(unk).copied());
        let unk = specials.unk.or(own_unk);
        check_specials(size, bos, eos, unk)?;
        let fallback = match model["byte_fallback"].as_bool() {
            Some(true) => {
                (0..=255u8).map(|byte| vocab.get(&*format!("<0x{byte:02X}>")).copied()).collect::<Option<_>>()
            }
            _ => None,
        };
        let bytes: Option<Box<[Option<u32>]>> = cut.bytes.then(|| {
            (0..=255u8)
                .map(|byte| vocab.get(char_of(byte).encode_utf8(&mut [0; 4]) as &str).copied())
                .collect()
        });
        let mark = if cut.bytes { '\u{120}' } else { '\u{2581}' };
        let marked = |symbol: &[u8]| symbol.starts_with(mark.encode_utf8(&mut [0; 4]).as_bytes());
        let inner = |symbol: &str| symbol.trim_start_matches(mark).contains(mark);
        if let Some(symbol) = vocab.keys().find(|symbol| !cut.bytes && inner(symbol)) {
            return Err(format!(
                "has pieces of more than one word ({symbol:?}), which cannot be scored word by word"
            ));
        }
        let starts = symbols.iter().map(|symbol| symbol.as_deref().is_some_and(marked)).collect();
        let hash = fingerprint(symbols.iter().map(|symbol| symbol.as_deref().unwrap_or_default()));
        Ok(Self {
            merges: pairs(model, &vocab)?,
            whole: model["ignore_merges"].as_bool() == Some(true),
            fuse: model["fuse_unk"].as_bool() == Some(true),
            marked: cut.marked,
            split: cut.split,
            steps,
            bytes,
            vocab,
            fallback,
            symbols,
            starts,
            size,
            bos,
            eos,
            own_unk,
            unk,
            hash,
        })
    }

    fn spell(&self, word: &[u8], first: bool, ids: &mut Vec<u32>) -> Known {
        if let (true, Some(unk)) = (word.len() > super::Pieces::LONGEST, self.unk) {
            ids.push(unk);
            return Known::No;
        }
        let lossy = String::from_utf8_lossy(word);
        let mut known = if matches!(lossy, std::borrow::Cow::Borrowed(_)) { Known::Yes } else { Known::No };
        let blank = if first && (self.bytes.is_none() || !self.marked) { "" } else { " " };
        let mut text = [blank, &*lossy].concat();
        for step in &self.steps {
            text = step.apply(text, first);
        }
        self.split.parts(&text, |part| {
            if self.part(part, ids) == Known::No {
                known = Known::No;
            }
        });
        known
    }

    /// Appends the tokens of a part.
    fn part(&self, part: &str, ids: &mut Vec<u32>) -> Known {
        let start = ids.len();
        let mut known = Known::Yes;
        if let Some(bytes) = &self.bytes {
            if self.whole
                && let Some(&id) = self.vocab.get(&*part.bytes().map(char_of).collect::<String>())
            {
                ids.push(id);
                return known;
            }
            for byte in part.bytes() {
                match bytes.get(usize::from(byte)).copied().flatten() {
                    Some(id) => ids.push(id),
                    None => known = self.lacking(ids, start),
                }
            }
        } else {
            if self.whole
                && let Some(&id) = self.vocab.get(part)
            {
                ids.push(id);
                return known;
            }
            for c in part.chars() {
                let mut buffer = [0; 4];
                let c = &*c.encode_utf8(&mut buffer);
                match (self.vocab.get(c), &self.fallback) {
                    (Some(&id), _) => ids.push(id),
                    (None, Some(bytes)) => ids.extend(c.bytes().map(|byte| bytes[usize::from(byte)])),
                    (None, None) => known = self.lacking(ids, start),
                }
            }
        }
        merge(&self.merges, ids, start);
        known
    }

    /// Appends the unknown token; without one there is nothing to say.
    fn lacking(&self, ids: &mut Vec<u32>, start: usize) -> Known {
        let fused = self.fuse && ids.len() > start && ids.last().copied() == self.own_unk;
        if !fused {
            ids.extend(self.own_unk);
        }
        Known::No
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
        false
    }

    fn symbol(&self, token: u32) -> Option<Vec<u8>> {
        self.symbols.get(token as usize)?.as_deref().map(<[u8]>::to_vec)
    }

    fn hash(&self) -> u64 {
        self.hash
    }
}

impl Step {
    fn apply(&self, text: String, first: bool) -> String {
        match self {
            Self::Nfc => text.nfc().collect(),
            Self::Nfd => text.nfd().collect(),
            Self::Nfkc => text.nfkc().collect(),
            Self::Nfkd => text.nfkd().collect(),
            Self::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Self::Replace(from, to) => text.replace(from, to),
            Self::Prepend(mark) if first && !text.is_empty() => [mark, &*text].concat(),
            Self::Mark(mark) if first && !text.is_empty() && !text.starts_with(&**mark) => {
                [mark, &*text].concat()
            }
            Self::Prepend(_) | Self::Mark(_) => text,
        }
    }
}

/// How a text is cut, and what marks a word.
struct Cut {
    split: Split,
    bytes: bool,
    marked: bool,
}

fn normalisers(json: &Value, steps: &mut Vec<Step>) -> Result<(), String> {
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    steps.push(match kind(json) {
        "" if json.is_null() => return Ok(()),
        "Sequence" => {
            let inner = json["normalizers"].as_array().ok_or_else(|| other("normalizer", json))?;
            return inner.iter().try_for_each(|json| normalisers(json, steps));
        }
        // Words have no white space at their ends.
        "Strip" => return Ok(()),
        "NFC" => Step::Nfc,
        "NFD" => Step::Nfd,
        "NFKC" => Step::Nfkc,
        "NFKD" => Step::Nfkd,
        "Lowercase" => Step::Lowercase,
        "Prepend" => Step::Prepend(text("prepend")),
        "Replace" => match json["pattern"]["String"].as_str() {
            Some(pattern) if !pattern.is_empty() => Step::Replace(pattern.to_owned(), text("content")),
            _ => return Err(other("normalizer", json)),
        },
        _ => return Err(other("normalizer", json)),
    });
    Ok(())
}

fn cuts(json: &Value, cut: &mut Cut, steps: &mut Vec<Step>) -> Result<(), String> {
    match kind(json) {
        "" if json.is_null() => {}
        "Sequence" => {
            let inner = json["pretokenizers"].as_array().ok_or_else(|| other("pre_tokenizer", json))?;
            inner.iter().try_for_each(|json| cuts(json, cut, steps))?;
        }
        "ByteLevel" => {
            cut.bytes = true;
            cut.marked |= json["add_prefix_space"].as_bool() == Some(true);
            if json["use_regex"].as_bool() != Some(false) {
                if cut.split != Split::Whole {
                    return Err("its pre_tokenizer cuts twice, which is not read".into());
                }
                cut.split = Split::Gpt2;
            }
        }
        "Split" => {
            let pattern = json["pattern"]["Regex"].as_str().unwrap_or_default();
            let known = Split::of(pattern).filter(|_| cut.split == Split::Whole && !cut.bytes);
            let isolated =
                json["behavior"].as_str() == Some("Isolated") && json["invert"].as_bool() != Some(true);
            cut.split = known.filter(|_| isolated).ok_or_else(|| {
                format!("its pre_tokenizer cuts by the pattern {pattern:?}, which is not read")
            })?;
        }
        "Metaspace" => {
            let mark = json["replacement"].as_str().unwrap_or("\u{2581}").to_owned();
            let scheme =
                json["prepend_scheme"].as_str().unwrap_or(match json["add_prefix_space"].as_bool() {
                    Some(false) => "never",
                    _ => "always",
                });
            steps.push(Step::Replace(" ".to_owned(), mark.clone()));
            if scheme != "never" {
                steps.push(Step::Mark(mark));
            }
        }
        _ => return Err(other("pre_tokenizer", json)),
    }
    Ok(())
}

/// Tokens and their ids.
fn vocabulary(model: &Value, size: usize) -> Result<HashMap<Box<str>, u32>, String> {
    let entries =
        model["vocab"].as_object().filter(|vocab| !vocab.is_empty()).ok_or("its model has no vocabulary")?;
    let mut seen = vec![false; size];
    let mut vocab = HashMap::with_capacity(entries.len());
    for (symbol, id) in entries {
        let Some(at) = id.as_u64().and_then(|id| usize::try_from(id).ok()) else {
            return Err(format!("the id of {symbol:?} is no number"));
        };
        match seen.get_mut(at).map(|seen| std::mem::replace(seen, true)) {
            Some(false) => {}
            Some(true) => return Err(format!("two tokens have the id {at}")),
            None => {
                return Err(format!(
                    "{symbol:?} has id {at}, but the model has {size} tokens; this is another model's tokenizer"
                ));
            }
        }
        vocab.insert(symbol.as_str().into(), at as u32);
    }
    Ok(vocab)
}

/// The merges by the ids of what they merge.
fn pairs(model: &Value, vocab: &HashMap<Box<str>, u32>) -> Result<Merges, String> {
    let merges = model["merges"].as_array().ok_or("its model has no merges")?;
    let mut pairs = Merges::with_capacity(merges.len());
    for (rank, merge) in (0..).zip(merges) {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(two) => match two.as_slice() {
                [Value::String(a), Value::String(b)] => Some((a.as_str(), b.as_str())),
                _ => None,
            },
            _ => None,
        };
        let ids =
            pair.and_then(|(a, b)| Some((*vocab.get(a)?, *vocab.get(b)?, *vocab.get(&*[a, b].concat())?)));
        let (a, b, made) = ids.ok_or_else(|| format!("merge {} is not of its tokens", rank + 1))?;
        pairs.insert((a, b), (rank, made));
    }
    Ok(pairs)
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
        "its {part} is {:?}, which is not read: byte pair encoding is, byte-level or with \u{2581}; put the \
         SentencePiece model beside it if there is one",
        kind(json)
    )
}

/// GPT-2's printable character for a byte.
fn char_of(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        0..=b' ' => char::from_u32(0x100 + u32::from(byte)).unwrap_or_default(),
        0x7f..=0xa0 => char::from_u32(0x121 + u32::from(byte - 0x7f)).unwrap_or_default(),
        0xad => '\u{143}',
    }
}

#[cfg(test)]
mod tests;
