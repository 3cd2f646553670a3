//! Symbol tables (`words.txt`, `tokens.txt`): the vocabularies of word-level models.

use std::collections::HashMap;
use std::path::Path;

use super::list::is_control;
use super::{Known, List, Vocab, fingerprint, is_unknown};
use crate::{Error, Result};

/// A vocabulary of whole words, from a symbol table.
///
/// Each line is `symbol id`, in any order and with gaps, or the symbol alone, numbered from 0.
/// UTF-8 or not.
#[derive(Debug)]
pub struct Symbols {
    /// Words that may stand in a text; no control symbols.
    ids: HashMap<Box<[u8]>, u32>,
    symbols: Vec<Option<Box<[u8]>>>,
    bos: u32,
    eos: u32,
    unk: u32,
    hash: u64,
}

impl Symbols {
    /// Reads a symbol table of a model with `size` outputs and the given special tokens. An
    /// unknown token that is not given is looked for under its usual spellings.
    ///
    /// # Errors
    /// If the file cannot be read, or for what [`Symbols::parse`] refuses.
    pub fn open(path: &Path, size: usize, bos: u32, eos: u32, unk: Option<u32>) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::parse(path, &bytes, size, bos, eos, unk)
    }

    /// As [`Symbols::open`], from memory; `path` is for messages.
    ///
    /// # Errors
    /// If a line is no symbol and id, a symbol or an id occurs twice, an id is not below `size`
    /// (disambiguation symbols, `#0`, are skipped), there is no unknown token, or the symbols
    /// are pieces of words.
    pub fn parse(
        path: impl AsRef<Path>,
        bytes: &[u8],
        size: usize,
        bos: u32,
        eos: u32,
        unk: Option<u32>,
    ) -> Result<Self> {
        let fail = |what: String| Error::model(path.as_ref(), what);
        let mut symbols = List::parse(bytes, size).map_err(fail)?.symbols().to_vec();
        symbols.resize(size, None);
        refuse_pieces(&symbols).map_err(fail)?;
        super::check_specials(size, bos, eos, unk).map_err(fail)?;
        let unk = match unk {
            Some(unk) => unk,
            None => symbols.iter().position(|symbol| symbol.as_deref().is_some_and(is_unknown)).ok_or_else(
                || fail("has no <unk>; name the token of unknown words in the model's metadata".into()),
            )? as u32,
        };
        let words = |(id, symbol): (usize, &Option<Box<[u8]>>)| Some((symbol.clone()?, id as u32));
        let control =
            |word: &[u8], id| id == bos || id == eos || id == unk || is_unknown(word) || is_control(word);
        let ids =
            symbols.iter().enumerate().filter_map(words).filter(|(word, id)| !control(word, *id)).collect();
        let hash = fingerprint(symbols.iter().map(|symbol| symbol.as_deref().unwrap_or_default()));
        Ok(Self { ids, symbols, bos, eos, unk, hash })
    }
}

impl Vocab for Symbols {
    fn size(&self) -> usize {
        self.symbols.len()
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
        match self.ids.get(word) {
            Some(&id) => {
                ids.push(id);
                Known::Yes
            }
            None => {
                ids.push(self.unk);
                Known::No
            }
        }
    }

    fn starts_word(&self, _token: u32) -> bool {
        true
    }

    fn words(&self) -> bool {
        true
    }

    fn symbol(&self, token: u32) -> Option<Vec<u8>> {
        self.symbols.get(token as usize)?.as_deref().map(<[u8]>::to_vec)
    }

    fn hash(&self) -> u64 {
        self.hash
    }
}

/// Tables of subword pieces do not say how a word is cut.
fn refuse_pieces(symbols: &[Option<Box<[u8]>>]) -> Result<(), String> {
    let count = |test: fn(&[u8]) -> bool| symbols.iter().flatten().filter(|symbol| test(symbol)).count();
    if count(|symbol| symbol.starts_with("\u{2581}".as_bytes())) > 2 {
        return Err("has pieces of words (\u{2581}), and how words are cut is in bpe.model: \
                    put it beside the model, and set secondpass.tokenizer = \"sentencepiece\""
            .into());
    }
    if 5 * count(|symbol| symbol.ends_with(b"@@") && symbol.len() > 2) > symbols.len() {
        return Err("has pieces of words in subword-nmt's spelling (@@), which cannot be read yet".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Symbols> {
        Symbols::parse("words.txt", bytes, 8, 0, 1, Some(2))
    }

    fn encode(vocab: &Symbols, word: &[u8]) -> (Vec<u32>, Known) {
        let mut ids = Vec::new();
        let known = vocab.encode(word, &mut ids);
        (ids, known)
    }

    #[test]
    fn with_ids_in_any_order() {
        let vocab =
            parse(b"<eps> 3\r\ncat\t5\r\n\r\n<s> 0\n</s> 1\n<UNK> 2\nZ\xfcrich 7\n#0 8\n#12 99").unwrap();
        assert_eq!(encode(&vocab, b"cat"), (vec![5], Known::Yes));
        assert_eq!(encode(&vocab, b"Z\xfcrich"), (vec![7], Known::Yes));
        for word in ["dog", "</s>", "<s>", "<eps>", "<unk>", "<UNK>", "#0", "Cat"] {
            assert_eq!(encode(&vocab, word.as_bytes()), (vec![2], Known::No), "{word}");
        }
        assert_eq!(
            (vocab.size(), vocab.symbol(5), vocab.symbol(4), vocab.symbol(99)),
            (8, Some(b"cat".to_vec()), None, None)
        );
        assert!(vocab.words() && vocab.starts_word(5));
    }

    #[test]
    fn without_ids() {
        let vocab = parse(b"<s>\n</s>\n<unk>\n1\n2\n").unwrap();
        assert_eq!(encode(&vocab, b"1"), (vec![3], Known::Yes));
        let given = parse(b"2 4\n1 3\n<s> 0\n</s> 1\n<unk> 2\n").unwrap();
        assert_eq!(given.hash(), vocab.hash());
        assert_ne!(parse(b"<s>\n</s>\n<unk>\n2\n1\n").unwrap().hash(), vocab.hash());
        let found = Symbols::parse("words.txt", b"a\nb\n<unk>\n", 3, 0, 1, None).unwrap();
        assert_eq!(found.unk(), Some(2));
    }

    #[test]
    fn refusals() {
        for (bytes, expected) in [
            (&b"a 0\nb 1\na 2\n"[..], "line 3: \"a\" is on line 1"),
            (b"a 0\nb 1\nc 1\n", "line 3: id 1"),
            (b"a 0\nb 8\n", "line 2: \"b\" has id 8"),
            (b"a 0\nb c 1\n", "line 2: \"b c 1\""),
            (b"a 0\nb\n", "line 1"),
            (b"\n", "no symbols"),
            ("\u{2581}a 0\n\u{2581}b 1\n\u{2581}c 2".as_bytes(), "bpe.model"),
            (b"a@@ 0\nb@@ 1\nc 2", "subword-nmt"),
        ] {
            let error = parse(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = Symbols::parse("words.txt", b"a\nb\n", 2, 0, 1, None).unwrap_err().to_string();
        assert!(error.contains("<unk>"), "{error}");
        let error = Symbols::parse("words.txt", b"a\nb\n", 2, 0, 2, Some(1)).unwrap_err().to_string();
        assert!(error.contains("eos"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>, word: Vec<u8>) {
            if let Ok(vocab) = parse(&bytes) {
                let (ids, _) = encode(&vocab, &word);
                prop_assert!(ids.len() == 1 && ids[0] < 8);
            }
        }
    }
}
