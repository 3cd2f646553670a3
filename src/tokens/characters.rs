//! Characters as tokens: Mandarin models, and character models of ESPnet and WeNet.

use super::list::is_control;
use super::prefixes::Prefixes;
use super::{Known, List, Vocab, fingerprint, is_unknown};

/// A vocabulary of characters, with a symbol for white space between words or without.
#[derive(Debug)]
pub struct Characters {
    ids: Prefixes,
    symbols: Vec<Option<Box<[u8]>>>,
    /// What stands between words.
    space: Option<u32>,
    size: usize,
    bos: u32,
    eos: u32,
    unk: u32,
    hash: u64,
}

impl Characters {
    /// The characters of a list. White space is the first of `<space>` (ESPnet), `▁` (WeNet), a
    /// blank and `|` that the list has; without one, words are not told apart.
    ///
    /// # Errors
    /// If the list has no unknown token.
    pub fn new(list: &List, size: usize, bos: u32, eos: u32, unk: Option<u32>) -> Result<Self, String> {
        super::check_specials(size, bos, eos, unk)?;
        let unk = unk.or(list.specials().unk).ok_or("has no <unk>; name the token of unknown characters")?;
        let find = |name: &str| list.iter().find(|(symbol, _)| *symbol == name.as_bytes()).map(|(_, id)| id);
        let space = SPACES.iter().find_map(|name| find(name));
        let plain = |&(symbol, id): &(&[u8], u32)| {
            ![bos, eos, unk].contains(&id) && Some(id) != space && !is_control(symbol)
        };
        let ids = Prefixes::new(list.iter().filter(plain));
        let symbols = list.symbols().to_vec();
        let hash = fingerprint(symbols.iter().map(|symbol| symbol.as_deref().unwrap_or_default()));
        Ok(Self { ids, symbols, space, size, bos, eos, unk, hash })
    }
}

impl Vocab for Characters {
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
        ids.extend(self.space);
        self.encode_first(word, ids)
    }

    fn encode_first(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        if is_unknown(word) {
            ids.push(self.unk);
            return Known::No;
        }
        let mut known = Known::Yes;
        let mut push = |id: Option<u32>| {
            ids.push(id.unwrap_or(self.unk));
            if id.is_none() {
                known = Known::No;
            }
        };
        for chunk in word.utf8_chunks() {
            chunk.valid().chars().for_each(|c| push(self.ids.find(c.encode_utf8(&mut [0; 4]).as_bytes())));
            if !chunk.invalid().is_empty() {
                push(None);
            }
        }
        known
    }

    fn first_differs(&self) -> bool {
        self.space.is_some()
    }

    fn starts_word(&self, token: u32) -> bool {
        match self.space {
            Some(space) => token == space,
            // Any character may.
            None => token != self.eos && token != self.bos,
        }
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

/// White space, as toolkits write it.
const SPACES: [&str; 4] = ["<space>", "\u{2581}", " ", "|"];

#[cfg(test)]
mod tests {
    use super::*;

    fn load(list: &str) -> Characters {
        let list = List::parse(list.as_bytes(), 20).unwrap();
        let specials = list.specials();
        Characters::new(&list, 20, specials.bos.unwrap(), specials.eos.unwrap(), None).unwrap()
    }

    fn encode(vocab: &Characters, text: &str) -> (Vec<u32>, bool) {
        let (mut ids, mut known) = (Vec::new(), true);
        for (at, word) in text.split(' ').enumerate() {
            let word = word.as_bytes();
            known &= Known::Yes
                == if at == 0 { vocab.encode_first(word, &mut ids) } else { vocab.encode(word, &mut ids) };
        }
        (ids, known)
    }

    /// ESPnet's CharTokenizer: a symbol between words, none before the first.
    #[test]
    fn words_apart() {
        let vocab = load("<blank>\n<unk>\n<space>\nA\nB\n\u{e9}\n<sos/eos>\n");
        assert_eq!(encode(&vocab, "AB \u{e9}A"), (vec![3, 4, 2, 5, 3], true));
        assert_eq!(encode(&vocab, "aB"), (vec![1, 4], false));
        assert!(vocab.first_differs() && vocab.starts_word(2) && !vocab.starts_word(3));
        assert_eq!(vocab.bos(), 6);
        let mut ids = Vec::new();
        assert_eq!(vocab.encode_first(b"A\xff\xfeB", &mut ids), Known::No);
        assert_eq!(ids, [3, 1, 1, 4]);
    }

    #[test]
    fn words_together() {
        let vocab = load("<blk> 0\n<sos/eos> 1\n<unk> 2\n\u{4f60} 3\n\u{597d} 4\n#0 5\n");
        assert_eq!(encode(&vocab, "\u{4f60}\u{597d} \u{4f60}"), (vec![3, 4, 3], true));
        assert_eq!(encode(&vocab, "<sos/eos>"), (vec![2; 9], false));
        assert!(!vocab.first_differs() && vocab.starts_word(4) && !vocab.starts_word(1));
    }
}
