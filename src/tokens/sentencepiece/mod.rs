//! SentencePiece models (`bpe.model`), unigram, BPE, characters and words: the vocabularies of
//! subword models.
//!
//! Encoding is our own and gives what SentencePiece gives, id for id. Where a list of symbols lies
//! beside the model (`tokens.txt`, `units.txt`, ESPnet's `token_list`) the ids are the list's.

mod front;
mod merges;
mod proto;
mod rules;

use std::path::Path;

use prost::Message;

use self::front::Front;
use self::merges::Merges;
use self::proto::{Kind, Proto};
use self::rules::Rules;
use super::prefixes::Prefixes;
use super::viterbi::{Cut, Unigram};
use super::{Known, List, Vocab, char_len, check_specials, fingerprint, is_unknown};
use crate::{Error, Result};

/// A vocabulary of subword pieces, from a SentencePiece model file; token ids are piece ids, or
/// those of a list.
///
/// Words are encoded one by one, as SentencePiece encodes them in the middle of a sentence.
/// What a text cannot mean becomes the unknown token: control and bracketed user-defined pieces
/// spelled out in it, bytes that are not UTF-8, and words of more than [`Pieces::LONGEST`] bytes.
#[derive(Debug)]
pub struct Pieces {
    rules: Rules,
    method: Method,
    front: Front,
    /// The token of each piece; the unknown one's for pieces that the list does not have.
    ids: Vec<u32>,
    /// The list, to look up what no piece spells.
    others: Option<Prefixes>,
    /// The piece that is unknown.
    unknown: u32,
    /// The tokens of single bytes, for models that spell the unknown with them.
    bytes: Option<Vec<u32>>,
    forbidden: Vec<bool>,
    symbols: Vec<Option<Box<[u8]>>>,
    starts: Vec<bool>,
    size: usize,
    bos: u32,
    eos: u32,
    unk: u32,
    /// The token of a white space alone, which an unknown word starts with.
    space: Option<u32>,
    hash: u64,
}

/// How pieces are found in a text.
#[derive(Debug)]
enum Method {
    Unigram(Unigram<f32>),
    /// Pairs of pieces, or characters only.
    Merges(Box<Merges>),
    /// Each word is a piece or unknown.
    Words(Prefixes),
}

impl Pieces {
    /// Words of more bytes are unknown, that a hostile line cost no time.
    pub const LONGEST: usize = 2048;

    /// Reads a model file for a language model with `size` outputs and the given special tokens.
    ///
    /// # Errors
    /// If the file cannot be read, or for what [`Pieces::parse`] refuses.
    pub fn open(path: &Path, size: usize, bos: u32, eos: u32, unk: Option<u32>) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::parse(path, &bytes, size, bos, eos, unk)
    }

    /// As [`Pieces::open`], from memory; `path` is for messages.
    ///
    /// # Errors
    /// If it is no SentencePiece model, has more pieces than the language model has outputs, has
    /// another unknown token, or marks words in another way than by a ▁ in front of them.
    pub fn parse(
        path: impl AsRef<Path>,
        bytes: &[u8],
        size: usize,
        bos: u32,
        eos: u32,
        unk: Option<u32>,
    ) -> Result<Self> {
        Self::build(bytes, None, size, bos, eos, unk).map_err(|what| Error::model(path.as_ref(), what))
    }

    /// As [`Pieces::parse`], with token ids from a list: pieces are looked up in it by their
    /// spelling, those it does not have are unknown. So ESPnet and WeNet do it; icefall's lists
    /// have the ids of the model anyway.
    ///
    /// Han characters that are in the list and not in the model are cut out of words first and are
    /// tokens of their own (WeNet's mixed units).
    ///
    /// # Errors
    /// As [`Pieces::parse`], and if the list has few of the pieces, or no unknown token.
    pub fn with_list(
        path: impl AsRef<Path>,
        bytes: &[u8],
        list: &List,
        size: usize,
        bos: u32,
        eos: u32,
        unk: Option<u32>,
    ) -> Result<Self> {
        Self::build(bytes, Some(list), size, bos, eos, unk).map_err(|what| Error::model(path.as_ref(), what))
    }

    /// The pieces of a model file as a list.
    pub(super) fn symbols_of(path: &Path, bytes: &[u8], size: usize) -> Result<List> {
        let fail = |what: String| Error::model(path, what);
        let proto = Proto::decode(bytes).map_err(|e| fail(format!("no usable SentencePiece model ({e})")))?;
        List::new(proto.pieces.iter().map(proto::Piece::text), size).map_err(fail)
    }

    fn build(
        bytes: &[u8],
        list: Option<&List>,
        size: usize,
        bos: u32,
        eos: u32,
        unk: Option<u32>,
    ) -> Result<Self, String> {
        let damaged =
            |what: String| format!("no usable SentencePiece model ({what}); copy it again from the training");
        let proto = Proto::decode(bytes).map_err(|e| damaged(e.to_string()))?;
        let kinds = kinds(&proto).map_err(damaged)?;
        let of = |wanted: Kind| (0..).zip(&kinds).filter(move |(_, kind)| **kind == wanted).map(|(id, _)| id);
        let mut unknowns = of(Kind::Unknown);
        let (Some(unknown), None) = (unknowns.next(), unknowns.next()) else {
            return Err(damaged("it has no unknown piece, or several".into()));
        };
        proto.refuse()?;
        check_specials(size, bos, eos, unk)?;
        refuse_inner_spaces(&proto)?;
        let trainer = proto.trainer.as_ref();
        let normalizer = proto.normalizer.as_ref();
        let pick = |wanted: &[Kind]| {
            let chosen =
                proto.pieces.iter().zip(&kinds).zip(0..).filter(|((_, kind), _)| wanted.contains(kind));
            Prefixes::new(chosen.map(|((piece, _), id)| (piece.text(), id)))
        };
        let rules = Rules::new(
            normalizer.and_then(|n| n.precompiled_charsmap.as_deref()).unwrap_or_default(),
            pick(&[Kind::UserDefined]),
            normalizer.and_then(|n| n.remove_extra_whitespaces).unwrap_or(true),
        )
        .map_err(damaged)?;
        let scores: Vec<f32> = proto.pieces.iter().map(|piece| piece.score.unwrap_or(0.0)).collect();
        let written = [Kind::Normal, Kind::UserDefined, Kind::Unused];
        let method = match trainer.and_then(|t| t.model_type).unwrap_or(1) {
            1 => {
                let normal = || of(Kind::Normal).map(|id: u32| scores[id as usize]);
                let lowest = normal().fold(f32::MAX, f32::min);
                // Its own start value: the smallest positive number.
                let highest = normal().fold(f32::MIN_POSITIVE, f32::max);
                // User-defined pieces win always, longer ones before shorter ones.
                let mut scores = scores;
                for id in of(Kind::UserDefined) {
                    let len = proto.pieces[id as usize].text().len();
                    scores[id as usize] = (f64::from(len as f32 * highest) - 0.1) as f32;
                }
                Method::Unigram(Unigram {
                    trie: pick(&[Kind::Normal, Kind::UserDefined]),
                    unk: unknown,
                    unk_score: lowest - 10.0,
                    scores,
                })
            }
            kind @ (2 | 4) => Method::Merges(Box::new(Merges {
                pieces: pick(&written),
                reserved: pick(&[Kind::Unknown, Kind::Control, Kind::Byte]),
                user: pick(&[Kind::UserDefined]),
                unused: of(Kind::Unused).collect(),
                unk: unknown,
                characters: kind == 4,
                scores,
            })),
            3 => Method::Words(pick(&written)),
            other => return Err(damaged(format!("its type is {other}"))),
        };
        let texts = || proto.pieces.iter().map(proto::Piece::text);
        let symbols: Vec<Option<Box<[u8]>>> = match list {
            Some(list) => list.symbols().to_vec(),
            None => texts().map(|text| Some(text.into())).collect(),
        };
        if symbols.len() > size {
            return Err(format!(
                "has {} pieces, but the model has {size} tokens; this is another model's file",
                symbols.len()
            ));
        }
        let others = list.map(|list| Prefixes::new(list.iter()));
        let (ids, unk) = match &others {
            Some(others) => {
                let unk = unk.or_else(|| {
                    symbols.iter().position(|s| s.as_deref().is_some_and(is_unknown)).map(|at| at as u32)
                });
                let unk = unk.ok_or("its list of symbols has no <unk>; add it, or name another list")?;
                let found: Vec<Option<u32>> = texts().map(|text| others.find(text)).collect();
                let missing = of(Kind::Normal).filter(|&id| found[id as usize].is_none()).count();
                if 10 * missing > found.len() {
                    return Err(format!(
                        "{missing} of its {} pieces are not in the list of symbols; they belong to different models",
                        found.len()
                    ));
                }
                let mut ids: Vec<u32> = found.into_iter().map(|id| id.unwrap_or(unk)).collect();
                ids[unknown as usize] = unk;
                (ids, unk)
            }
            None => match unk {
                Some(unk) if unk != unknown => {
                    return Err(format!(
                        "its unknown piece has id {unknown}, the model's has {unk}; put the list of token ids \
                         (tokens.txt, units.txt) beside it"
                    ));
                }
                _ => ((0..kinds.len() as u32).collect(), unknown),
            },
        };
        let space =
            texts().position(|text| text == SPACE.as_bytes()).map(|at| ids[at]).filter(|&id| id != unk);
        let front =
            Front::new(texts().zip(&kinds).filter(|(_, kind)| **kind == Kind::Normal).map(|(t, _)| t), list);
        let mut starts: Vec<bool> = symbols
            .iter()
            .map(|symbol| symbol.as_deref().is_some_and(|symbol| front.starts_word(symbol)))
            .collect();
        // Without a piece for white space the unknown token takes it in.
        if let Some(start) = starts.get_mut(unk as usize) {
            *start |= space.is_none();
        }
        let forbidden = proto
            .pieces
            .iter()
            .zip(&kinds)
            .zip(&ids)
            .map(|((piece, &kind), &id)| {
                id == bos
                    || id == eos
                    || kind == Kind::Control
                    || kind == Kind::UserDefined && is_bracketed(piece.text())
            })
            .collect();
        let bytes = match trainer.and_then(|t| t.byte_fallback) {
            Some(true) => Some(byte_tokens(&proto, &kinds, &ids).map_err(damaged)?),
            _ => None,
        };
        let hash = fingerprint(symbols.iter().map(|symbol| symbol.as_deref().unwrap_or_default()));
        Ok(Self {
            rules,
            method,
            front,
            ids,
            others,
            unknown,
            bytes,
            forbidden,
            symbols,
            starts,
            size,
            bos,
            eos,
            unk,
            space,
            hash,
        })
    }

    /// An unknown word as SentencePiece spells a word of unknown characters.
    fn unknown(&self, ids: &mut Vec<u32>) -> Known {
        ids.extend(self.space);
        ids.push(self.unk);
        Known::No
    }

    /// Appends the tokens of what is one word to SentencePiece; `None` if a text cannot mean it.
    fn part(&self, text: &str, ids: &mut Vec<u32>) -> Option<Known> {
        let mut normal = Vec::with_capacity(3 * text.len() + SPACE.len());
        self.rules.apply(text, &mut normal);
        let mut cuts = Vec::with_capacity(16);
        match &self.method {
            Method::Unigram(unigram) => unigram.encode(&normal, &mut cuts),
            Method::Merges(merges) => merges.encode(&normal, &mut cuts),
            Method::Words(words) => whole_words(words, &normal, self.unknown, &mut cuts),
        }
        let (mut start, mut known) = (0, Known::Yes);
        // Where the run of unknown characters began that the last token stands for.
        let mut run = None;
        for Cut { id, end } in cuts {
            let piece = &normal[start..end as usize];
            if *self.forbidden.get(id as usize)? {
                return None;
            }
            if id != self.unknown {
                run = None;
                let token = self.ids[id as usize];
                if token == self.unk {
                    known = Known::No;
                }
                ids.push(token);
            } else if let Some(bytes) = &self.bytes {
                ids.extend(piece.iter().map(|&byte| bytes[usize::from(byte)]));
            } else {
                if run.is_some() {
                    ids.pop();
                }
                let begin = *run.get_or_insert(start);
                let listed =
                    self.others.as_ref().and_then(|others| others.find(&normal[begin..end as usize]));
                ids.push(listed.filter(|&id| id != self.bos && id != self.eos).unwrap_or(self.unk));
                known = Known::No;
            }
            start = end as usize;
        }
        Some(known)
    }
}

impl Vocab for Pieces {
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
        Some(self.unk)
    }

    fn encode(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        let Some(text) =
            std::str::from_utf8(word).ok().filter(|text| text.len() <= Self::LONGEST && !is_unknown(word))
        else {
            return self.unknown(ids);
        };
        let before = ids.len();
        let mut known = Known::Yes;
        let complete = self.front.parts(text, |part| match part {
            front::Part::Text(text) => {
                let part = self.part(text, ids)?;
                if part == Known::No {
                    known = Known::No;
                }
                Some(())
            }
            front::Part::Listed(token) => {
                ids.push(token.unwrap_or(self.unk));
                if token.is_none() {
                    known = Known::No;
                }
                Some(())
            }
        });
        if complete.is_none() {
            ids.truncate(before);
            return self.unknown(ids);
        }
        known
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

/// What each piece is for, if the file makes sense.
fn kinds(proto: &Proto) -> Result<Vec<Kind>, String> {
    let mut seen = std::collections::HashSet::with_capacity(proto.pieces.len());
    if proto.pieces.is_empty() {
        return Err("it has no pieces".into());
    }
    let kind = |piece: &proto::Piece| {
        if piece.text().is_empty() || std::str::from_utf8(piece.text()).is_err() {
            return Err("a piece is empty or no UTF-8".to_owned());
        }
        if !seen.insert(piece.text().to_vec()) {
            return Err(format!("the piece {:?} is there twice", String::from_utf8_lossy(piece.text())));
        }
        if !piece.score.unwrap_or(0.0).is_finite() {
            return Err(format!("the score of {:?} is no number", String::from_utf8_lossy(piece.text())));
        }
        piece.role().ok_or_else(|| "a piece is of no known kind".to_owned())
    };
    proto.pieces.iter().map(kind).collect()
}

/// The tokens of `<0x00>` to `<0xFF>`.
fn byte_tokens(proto: &Proto, kinds: &[Kind], ids: &[u32]) -> Result<Vec<u32>, String> {
    let mut tokens = vec![None; 256];
    for ((piece, _), &id) in
        proto.pieces.iter().zip(kinds).zip(ids).filter(|((_, kind), _)| **kind == Kind::Byte)
    {
        let digits = piece.text().strip_prefix(b"<0x").and_then(|text| text.strip_suffix(b">"));
        let byte = digits.and_then(|text| u8::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok());
        tokens[usize::from(byte.ok_or("a byte piece is not spelt as <0xNN>")?)] = Some(id);
    }
    tokens.into_iter().collect::<Option<_>>().ok_or_else(|| "pieces of some bytes are missing".to_owned())
}

/// With pieces of several words the encoding of a sentence is not that of its words.
fn refuse_inner_spaces(proto: &Proto) -> Result<(), String> {
    let text = |piece: &proto::Piece| String::from_utf8_lossy(piece.text()).into_owned();
    let inner = |piece: &String| piece.trim_start_matches(SPACE).contains(SPACE);
    match proto.pieces.iter().map(text).find(inner) {
        Some(piece) => {
            Err(format!("has pieces of more than one word ({piece:?}); train it with split_by_whitespace"))
        }
        None => Ok(()),
    }
}

/// A user-defined piece such as `<sos/eos>`, which SentencePiece would find in a text.
fn is_bracketed(piece: &[u8]) -> bool {
    let text = piece.strip_prefix(SPACE.as_bytes()).unwrap_or(piece);
    text.len() > 2 && matches!(text, [b'<', .., b'>'] | [b'[', .., b']'])
}

/// The words of a text, each from its ▁ to the next.
fn whole_words(words: &Prefixes, text: &[u8], unknown: u32, cuts: &mut Vec<Cut>) {
    let space = SPACE.as_bytes();
    let mut start = 0;
    while start < text.len() {
        let from = (start + space.len()).min(text.len());
        let next = text[from..].windows(space.len()).position(|window| window == space);
        let end = next.map_or(text.len(), |at| from + at);
        cuts.push(Cut { id: words.find(&text[start..end]).unwrap_or(unknown), end: end as u32 });
        start = end;
    }
}

/// SentencePiece's white space.
pub(super) const SPACE: &str = "\u{2581}";

#[cfg(test)]
mod tests;
