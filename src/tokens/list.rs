//! Lists of symbols: which token id stands for what.
//!
//! Kaldi's and OpenFst's `words.txt`, icefall's and sherpa's `tokens.txt`, WeNet's `units.txt`
//! (each `symbol id`), ESPnet's `tokens.txt` (symbols alone) and its configuration with a
//! `token_list`, and SentencePiece's `.vocab` (`symbol TAB score`).

use std::collections::HashMap;
use std::path::Path;

use super::{is_unknown, split};
use crate::{Error, Result};

/// The symbols of a vocabulary, by token id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    symbols: Vec<Option<Box<[u8]>>>,
}

/// Special tokens by their names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Specials {
    /// What a sentence starts from.
    pub bos: Option<u32>,
    /// What ends it.
    pub eos: Option<u32>,
    /// What a model does not know.
    pub unk: Option<u32>,
}

impl List {
    /// Reads a list for a model with `size` tokens.
    ///
    /// # Errors
    /// If the file cannot be read, or for what [`List::parse`] refuses.
    pub fn open(path: &Path, size: usize) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&bytes, size).map_err(|what| Error::model(path, what))
    }

    /// As [`List::open`], from memory.
    ///
    /// # Errors
    /// If a line is no symbol and id, a symbol or an id occurs twice, or an id is not below `size`;
    /// disambiguation symbols (`#0`) above it are left out.
    pub fn parse(bytes: &[u8], size: usize) -> Result<Self, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut symbols = Vec::new();
        let mut seen = HashMap::new();
        for Entry { line, symbol, id } in entries(bytes)? {
            let shown = String::from_utf8_lossy(&symbol).into_owned();
            let Some(at) = usize::try_from(id).ok().filter(|&id| id < size) else {
                if is_disambiguation(&symbol) {
                    continue;
                }
                return Err(format!(
                    "line {line}: {shown:?} has id {id}, but the model has {size} tokens; this is another model's table"
                ));
            };
            if let Some(other) = seen.insert(symbol.clone(), line) {
                return Err(format!("line {line}: {shown:?} is on line {other} already; remove one"));
            }
            if symbols.len() <= at {
                symbols.resize(at + 1, None);
            }
            if symbols[at].replace(symbol).is_some() {
                return Err(format!(
                    "line {line}: id {id} was given to another symbol before; make the table again"
                ));
            }
        }
        if seen.is_empty() {
            return Err("no symbols in it".into());
        }
        Ok(Self { symbols })
    }

    /// The list of these symbols, numbered from 0.
    ///
    /// # Errors
    /// If there are none, or more than `size`.
    pub fn new<'a>(symbols: impl Iterator<Item = &'a [u8]>, size: usize) -> Result<Self, String> {
        let symbols: Vec<_> = symbols.map(|symbol| Some(Box::from(symbol))).collect();
        match symbols.len() {
            0 => Err("no symbols in it".into()),
            count if count > size => Err(format!(
                "has {count} pieces, but the model has {size} tokens; this is another model's file"
            )),
            _ => Ok(Self { symbols }),
        }
    }

    /// The list with these symbols by their ids.
    pub(super) fn of(symbols: Vec<Option<Box<[u8]>>>) -> Self {
        Self { symbols }
    }

    /// By id; `None` where no symbol has it.
    pub fn symbols(&self) -> &[Option<Box<[u8]>>] {
        &self.symbols
    }

    /// Symbols with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u32)> {
        self.symbols.iter().zip(0..).filter_map(|(symbol, id)| Some((symbol.as_deref()?, id)))
    }

    /// The special tokens that the list names. `<sos/eos>` is both; a list that only says how
    /// sentences end starts them with the same.
    pub fn specials(&self) -> Specials {
        let find = |names: &[&str]| {
            names.iter().find_map(|name| self.iter().find(|(s, _)| s.eq_ignore_ascii_case(name.as_bytes())))
        };
        let eos = find(&["</s>", "<eos>", "<sos/eos>", "<|endoftext|>", "<|end_of_text|>"]).map(|(_, id)| id);
        let bos = find(&["<s>", "<sos>", "<bos>", "<sos/eos>", "<|begin_of_text|>", "<|endoftext|>"])
            .map(|(_, id)| id);
        Specials { bos: bos.or(eos), eos, unk: self.iter().find(|(s, _)| is_unknown(s)).map(|(_, id)| id) }
    }

    /// Whether symbols are pieces of words, by SentencePiece's ▁.
    pub fn has_pieces(&self) -> bool {
        self.iter().filter(|(symbol, _)| symbol.starts_with("\u{2581}".as_bytes())).count() > 2
    }

    /// Whether every symbol that is no special one is a single character.
    pub fn has_characters(&self) -> bool {
        let mut plain = self.iter().filter(|(symbol, _)| !is_special(symbol)).peekable();
        let one = |symbol: &[u8]| std::str::from_utf8(symbol).is_ok_and(|text| text.chars().count() == 1);
        plain.peek().is_some() && plain.all(|(symbol, _)| one(symbol))
    }
}

/// A symbol that a text never means, even if it spells it.
pub(super) fn is_control(symbol: &[u8]) -> bool {
    const CONTROL: [&str; 10] =
        ["<s>", "</s>", "<sos>", "<eos>", "<bos>", "<sos/eos>", "<blk>", "<blank>", "<eps>", "<pad>"];
    is_disambiguation(symbol)
        || symbol == b" "
        || CONTROL.iter().any(|c| c.as_bytes().eq_ignore_ascii_case(symbol))
}

/// Whether a symbol is written as those are that no text spells.
fn is_special(symbol: &[u8]) -> bool {
    let bracketed = symbol.len() > 2 && matches!(symbol, [b'<', .., b'>'] | [b'[', .., b']']);
    bracketed || is_control(symbol) && symbol != b" "
}

fn is_disambiguation(symbol: &[u8]) -> bool {
    matches!(symbol, [b'#', digits @ ..] if number(digits).is_some())
}

struct Entry {
    line: usize,
    symbol: Box<[u8]>,
    id: u64,
}

/// The entries of a list in whichever form it is.
fn entries(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    if let Some(listed) = token_list(bytes)? {
        return Ok(listed);
    }
    let lines =
        || (1..).zip(bytes.split(|&byte| byte == b'\n')).filter(|(_, line)| split(line).next().is_some());
    if lines().all(|(_, line)| scored(line).is_some())
        && lines()
            .any(|(_, line)| !line.ends_with(b"0") && number(scored(line).unwrap_or_default().1).is_none())
    {
        let entry = |((line, text), id)| Some(Entry { line, symbol: scored(text)?.0.into(), id });
        return Ok(lines().zip(0..).filter_map(entry).collect());
    }
    // Without ids a lone number is a word; with ids it is the id of the symbol " ".
    let numbered = lines().all(|(_, line)| split(line).last().is_some_and(|last| number(last).is_some()))
        && lines().any(|(_, line)| split(line).count() == 2);
    lines()
        .zip(0..)
        .map(|((line, text), place)| {
            let fields: Vec<_> = split(text).collect();
            let (symbol, id): (&[u8], _) = match (numbered, fields.as_slice()) {
                (false, [symbol]) => (symbol, place),
                (true, [symbol, id]) => (symbol, number(id).unwrap_or(u64::MAX)),
                (true, [id]) => (b" ", number(id).unwrap_or(u64::MAX)),
                _ => {
                    let shown = String::from_utf8_lossy(text).trim().to_owned();
                    return Err(format!(
                        "line {line}: {shown:?} is no symbol and id; each line is one symbol, or one and its id"
                    ));
                }
            };
            Ok(Entry { line, symbol: symbol.into(), id })
        })
        .collect()
}

/// A line of a SentencePiece `.vocab`: symbol and score.
fn scored(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let tab = line.iter().rposition(|&byte| byte == b'\t')?;
    let (symbol, score) = (&line[..tab], &line[tab + 1..]);
    std::str::from_utf8(score).ok()?.parse::<f32>().ok()?;
    (!symbol.is_empty()).then_some((symbol, score))
}

/// The sequence under `token_list:` (ESPnet) or `token:` and `list:` (espnet_onnx) of a YAML file;
/// `None` if the file is none.
fn token_list(bytes: &[u8]) -> Result<Option<Vec<Entry>>, String> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(None) };
    let mut lines = (1..).zip(text.lines());
    let mut inside = false;
    let mut found = false;
    for (_, line) in lines.by_ref() {
        match line.trim() {
            "token:" => inside = true,
            "token_list:" => found = true,
            "list:" if inside => found = true,
            other if inside && !line.starts_with([' ', '-']) && !other.is_empty() => inside = false,
            _ => {}
        }
        if found {
            break;
        }
    }
    if !found {
        return Ok(None);
    }
    let items =
        lines.map(|(line, text)| (line, text.trim_start())).take_while(|(_, text)| text.starts_with("- "));
    let entry = |((line, text), id): ((usize, &str), u64)| {
        let symbol = scalar(text[2..].trim())
            .ok_or_else(|| format!("line {line}: {text:?} is no plain item of a token_list"))?;
        Ok(Entry { line, symbol: symbol.into_bytes().into(), id })
    };
    items.zip(0..).map(entry).collect::<Result<Vec<_>, String>>().map(Some)
}

/// The value of a YAML scalar on one line.
fn scalar(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('\'') {
        return Some(inner.strip_suffix('\'')?.replace("''", "'"));
    }
    if text.starts_with('"') {
        // The escapes of YAML that writers use here are those of JSON, and `\xNN`.
        let json = text.replace("\\x", "\\u00").replace("\\_", "\\u00a0");
        return serde_json::from_str(&json).ok();
    }
    (!text.is_empty()).then(|| text.to_owned())
}

fn number(field: &[u8]) -> Option<u64> {
    let digits =
        std::str::from_utf8(field).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(bytes: &[u8]) -> Vec<String> {
        let list = List::parse(bytes, 100).unwrap();
        list.symbols()
            .iter()
            .map(|s| String::from_utf8_lossy(s.as_deref().unwrap_or(b"-")).into_owned())
            .collect()
    }

    #[test]
    fn the_forms_of_toolkits() {
        let icefall = "<blk> 0\n<sos/eos> 1\n<unk> 2\n\u{2581}A 3\nB 4\n#0 500\n";
        assert_eq!(symbols(icefall.as_bytes()), ["<blk>", "<sos/eos>", "<unk>", "\u{2581}A", "B"]);
        let openfst = b"<eps>\t0\nb\t3\na\t1\n<s>\t5\n</s>\t6\n<unk>\t7\n";
        assert_eq!(symbols(openfst), ["<eps>", "a", "-", "b", "-", "<s>", "</s>", "<unk>"]);
        assert_eq!(
            List::parse(openfst, 100).unwrap().specials(),
            Specials { bos: Some(5), eos: Some(6), unk: Some(7) }
        );
        let espnet = "lm: seq_rnn\ntoken_list:\n- <blank>\n- <unk>\n- \u{2581}THE\n- '''S'\n- '0'\n- \"\\xE9\"\n- <sos/eos>\n\
                      init: null\n";
        assert_eq!(
            symbols(espnet.as_bytes()),
            ["<blank>", "<unk>", "\u{2581}THE", "'S", "0", "\u{e9}", "<sos/eos>"]
        );
        assert_eq!(
            List::parse(espnet.as_bytes(), 7).unwrap().specials(),
            Specials { bos: Some(6), eos: Some(6), unk: Some(1) }
        );
        let espnet_onnx = "token:\n  eos: 2\n  list:\n  - <blank>\n  - <unk>\n  - <sos/eos>\n  sos: 2\n";
        assert_eq!(symbols(espnet_onnx.as_bytes()), ["<blank>", "<unk>", "<sos/eos>"]);
        let vocab = "<unk>\t0\n<s>\t0\n</s>\t0\n\u{2581}a\t-2.5\n\u{2581}b\t-3\n";
        assert_eq!(symbols(vocab.as_bytes()), ["<unk>", "<s>", "</s>", "\u{2581}a", "\u{2581}b"]);
        let bpe = "<unk>\t0\n\u{2581}a\t-0\n\u{2581}b\t-1\n";
        assert_eq!(symbols(bpe.as_bytes()), ["<unk>", "\u{2581}a", "\u{2581}b"]);
        assert_eq!(symbols(b"a 0\n 1\nb 2\n"), ["a", " ", "b"]);
    }

    #[test]
    fn kinds() {
        let characters =
            List::parse("<blank>\n<unk>\n<space>\nA\n\u{4f60}\n<sos/eos>".as_bytes(), 9).unwrap();
        assert!(characters.has_characters() && !characters.has_pieces());
        let words = List::parse(b"<s>\n</s>\n<unk>\na\ncat\n", 9).unwrap();
        assert!(!words.has_characters() && !words.has_pieces());
    }
}
