//! The models of `tokenizer.json`: how a part of a text becomes tokens.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::merges::{Merges, merge};
use super::{kind, other};
use crate::tokens::Known;
use crate::tokens::prefixes::Prefixes;
use crate::tokens::viterbi::{Cut, Unigram};

/// Tokens and their ids.
pub(super) type Vocabulary = HashMap<Box<str>, u32>;

/// A model.
#[derive(Debug)]
pub(super) struct Model {
    vocab: Vocabulary,
    pub unk: Option<u32>,
    method: Method,
}

#[derive(Debug)]
enum Method {
    Bpe(Bpe),
    Unigram {
        search: Unigram<f64>,
        fallback: Option<Box<[u32]>>,
    },
    /// The longest token first, from the left; later ones are written with a prefix.
    WordPiece {
        starts: Prefixes,
        inner: Prefixes,
        prefix: String,
        longest: usize,
    },
    WordLevel,
}

/// Byte pair encoding.
#[derive(Debug)]
struct Bpe {
    /// The token of each byte, for byte-level vocabularies.
    bytes: Option<Box<[Option<u32>]>>,
    merges: Merges,
    fallback: Option<Box<[u32]>>,
    fuse: bool,
    /// Parts that are tokens as they are need no merging.
    whole: bool,
}

impl Model {
    /// Reads a `model` with this vocabulary, of which `special` tokens are never meant by a text; over
    /// `bytes` or characters.
    ///
    /// # Errors
    /// If it is damaged or of another kind.
    pub fn parse(
        json: &Value,
        vocab: Vocabulary,
        special: &HashSet<&str>,
        bytes: bool,
    ) -> Result<Self, String> {
        let mut unk = json["unk_token"].as_str().and_then(|unk| vocab.get(unk).copied());
        // For characters that have no token.
        let fallback = || match json["byte_fallback"].as_bool() {
            Some(true) => {
                (0..=255u8).map(|byte| vocab.get(&*format!("<0x{byte:02X}>")).copied()).collect::<Option<_>>()
            }
            _ => None,
        };
        let plain = || vocab.iter().filter(|(symbol, _)| !special.contains(&***symbol));
        let method = match kind_of(json) {
            "BPE" => {
                for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
                    if json[name].as_str().is_some_and(|text| !text.is_empty()) {
                        return Err(format!("its model has a {name}, which is not read"));
                    }
                }
                Method::Bpe(Bpe {
                    bytes: bytes.then(|| {
                        (0..=255u8)
                            .map(|byte| vocab.get(char_of(byte).encode_utf8(&mut [0; 4]) as &str).copied())
                            .collect()
                    }),
                    merges: pairs(json, &vocab)?,
                    fallback: fallback(),
                    fuse: json["fuse_unk"].as_bool() == Some(true),
                    whole: json["ignore_merges"].as_bool() == Some(true),
                })
            }
            name if bytes => return Err(format!("its model is {name:?} over bytes, which is not read")),
            "Unigram" => {
                unk = json["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok());
                let entries = json["vocab"].as_array().map(Vec::as_slice).unwrap_or_default();
                if unk.is_some_and(|id| id as usize >= entries.len()) {
                    return Err("its unk_id is no token of it".into());
                }
                let score = |entry: &Value| entry[1].as_f64().filter(|score| score.is_finite());
                let scores: Option<Vec<f64>> = entries.iter().map(score).collect();
                let scores = scores.ok_or("a score of its vocabulary is no number")?;
                let lowest = scores.iter().copied().fold(f64::INFINITY, f64::min);
                let pieces = plain().filter(|(_, id)| Some(**id) != unk);
                Method::Unigram {
                    search: Unigram {
                        trie: Prefixes::new(pieces.map(|(symbol, &id)| (symbol.as_bytes(), id))),
                        scores,
                        unk: unk.unwrap_or(u32::MAX),
                        unk_score: lowest - 10.0,
                    },
                    fallback: fallback(),
                }
            }
            "WordPiece" => {
                let prefix = json["continuing_subword_prefix"].as_str().unwrap_or("##").to_owned();
                let inner = plain().filter_map(|(symbol, &id)| {
                    let rest = symbol.strip_prefix(&*prefix).filter(|rest| !rest.is_empty())?;
                    Some((rest.as_bytes(), id))
                });
                let longest = json["max_input_chars_per_word"].as_u64().unwrap_or(100);
                Method::WordPiece {
                    inner: Prefixes::new(inner),
                    starts: Prefixes::new(plain().map(|(symbol, &id)| (symbol.as_bytes(), id))),
                    longest: usize::try_from(longest).unwrap_or(usize::MAX),
                    prefix,
                }
            }
            "WordLevel" => Method::WordLevel,
            _ => return Err(other("model", json)),
        };
        let mut vocab = vocab;
        vocab.retain(|symbol, _| !special.contains(&**symbol));
        Ok(Self { vocab, unk, method })
    }

    /// What tokens that do not start a part begin with; `None` where tokens do not say.
    pub fn inner_prefix(&self) -> Option<&str> {
        match &self.method {
            Method::WordPiece { prefix, .. } => Some(prefix),
            _ => None,
        }
    }

    /// Whether a part is one token.
    pub fn is_word_level(&self) -> bool {
        matches!(self.method, Method::WordLevel)
    }

    /// Whether pieces must mark where words start, for it to be known.
    pub fn needs_marks(&self) -> bool {
        matches!(self.method, Method::Bpe(_) | Method::Unigram { .. })
    }

    /// Appends the tokens of a part.
    pub fn part(&self, part: &str, ids: &mut Vec<u32>) -> Known {
        match &self.method {
            Method::Bpe(bpe) => self.bpe(bpe, part, ids),
            Method::Unigram { search, fallback } => self.unigram(part, ids, search, fallback.as_deref()),
            Method::WordPiece { starts, inner, longest, .. } => {
                let start = ids.len();
                let mut rest = part.as_bytes();
                let mut tokens = starts;
                while let Some((len, id)) = tokens.longest(rest) {
                    ids.push(id);
                    rest = &rest[len..];
                    tokens = inner;
                    if rest.is_empty() {
                        break;
                    }
                }
                if rest.is_empty() && part.chars().take(longest.saturating_add(1)).count() <= *longest {
                    return Known::Yes;
                }
                ids.truncate(start);
                self.lacking(ids)
            }
            Method::WordLevel => match self.vocab.get(part) {
                Some(&id) => {
                    ids.push(id);
                    if Some(id) == self.unk { Known::No } else { Known::Yes }
                }
                None => self.lacking(ids),
            },
        }
    }

    fn bpe(&self, bpe: &Bpe, part: &str, ids: &mut Vec<u32>) -> Known {
        let Bpe { bytes, merges, fallback, fuse, whole } = bpe;
        let start = ids.len();
        let mut known = Known::Yes;
        let unknown = |ids: &mut Vec<u32>| {
            let fused = *fuse && ids.len() > start && ids.last().copied() == self.unk;
            if fused { Known::No } else { self.lacking(ids) }
        };
        if *whole {
            let spelled: Option<String> = bytes.as_ref().map(|_| part.bytes().map(char_of).collect());
            if let Some(&id) = self.vocab.get(spelled.as_deref().unwrap_or(part)) {
                ids.push(id);
                return known;
            }
        }
        if let Some(bytes) = bytes {
            for byte in part.bytes() {
                match bytes.get(usize::from(byte)).copied().flatten() {
                    Some(id) => ids.push(id),
                    None => known = unknown(ids),
                }
            }
        } else {
            for c in part.chars() {
                let mut buffer = [0; 4];
                let c = &*c.encode_utf8(&mut buffer);
                match (self.vocab.get(c), fallback) {
                    (Some(&id), _) => ids.push(id),
                    (None, Some(bytes)) => ids.extend(c.bytes().map(|byte| bytes[usize::from(byte)])),
                    (None, None) => known = unknown(ids),
                }
            }
        }
        merge(merges, ids, start);
        known
    }

    fn unigram(
        &self,
        part: &str,
        ids: &mut Vec<u32>,
        search: &Unigram<f64>,
        fallback: Option<&[u32]>,
    ) -> Known {
        let mut cuts: Vec<Cut> = Vec::with_capacity(16);
        search.encode(part.as_bytes(), &mut cuts);
        let (mut start, mut known) = (0, Known::Yes);
        // Unknown characters side by side are one.
        for run in cuts.chunk_by(|a, b| a.id == search.unk && b.id == search.unk) {
            let end = run.last().map_or(start, |cut| cut.end as usize);
            match (run[0].id == search.unk, fallback) {
                (false, _) => ids.extend(run.iter().map(|cut| cut.id)),
                (true, Some(bytes)) => {
                    ids.extend(part.as_bytes()[start..end].iter().map(|&byte| bytes[usize::from(byte)]));
                }
                (true, None) => known = self.lacking(ids),
            }
            start = end;
        }
        known
    }

    /// Appends the unknown token; without one there is nothing to say.
    fn lacking(&self, ids: &mut Vec<u32>) -> Known {
        ids.extend(self.unk);
        Known::No
    }
}

/// The kind of a model; older files of byte pair encoding do not say it.
fn kind_of(json: &Value) -> &str {
    if json["type"].is_null() && json["merges"].is_array() { "BPE" } else { kind(json) }
}

/// Tokens and their ids.
///
/// # Errors
/// If there are none, ids are no numbers, given twice, or not below `size`.
pub(super) fn vocabulary(model: &Value, size: usize) -> Result<Vocabulary, String> {
    // Unigram models have a list of tokens and scores.
    let listed = model["vocab"].as_array().map(|entries| {
        (0..).zip(entries).map(|(id, entry)| (entry[0].as_str().unwrap_or_default(), Some(id)))
    });
    let mapped = model["vocab"].as_object().map(|entries| {
        entries.iter().map(|(symbol, id)| (&**symbol, id.as_u64().and_then(|id| usize::try_from(id).ok())))
    });
    let entries: Vec<(&str, Option<usize>)> =
        listed.into_iter().flatten().chain(mapped.into_iter().flatten()).collect();
    if entries.is_empty() {
        return Err("its model has no vocabulary".into());
    }
    let mut seen = vec![false; size];
    let mut vocab = Vocabulary::with_capacity(entries.len());
    for (symbol, id) in entries {
        let at = id.ok_or_else(|| format!("the id of {symbol:?} is no number"))?;
        match seen.get_mut(at).map(|seen| std::mem::replace(seen, true)) {
            Some(false) => {}
            Some(true) => return Err(format!("two tokens have the id {at}")),
            None => {
                return Err(format!(
                    "{symbol:?} has id {at}, but the model has {size} tokens; this is another model's tokenizer"
                ));
            }
        }
        vocab.insert(symbol.into(), at as u32);
    }
    Ok(vocab)
}

/// The merges by the ids of what they merge.
fn pairs(model: &Value, vocab: &Vocabulary) -> Result<Merges, String> {
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

/// GPT-2's printable character for a byte.
fn char_of(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        0..=b' ' => char::from_u32(0x100 + u32::from(byte)).unwrap_or_default(),
        0x7f..=0xa0 => char::from_u32(0x121 + u32::from(byte - 0x7f)).unwrap_or_default(),
        0xad => '\u{143}',
    }
}
