//! n-gram models over subword pieces: they know every word, and no vocabulary is too large.

use std::path::Path;
use std::sync::Arc;

use super::scorer::TrieScorer;
use super::{Ngram, Words};
use crate::lm::{LanguageModel, Limits, Scorer, Spec};
use crate::tokens::{Known, Pieces, Vocab};
use crate::{Error, Result};

/// An n-gram model whose words are the pieces of a SentencePiece model.
///
/// It was trained on text cut into pieces with white space between them. Where words are
/// compounds (Korean, Finnish, Turkish) it is much better than a model of whole words, and the same
/// size. A word's probability is the product over its pieces, as with a neural model over pieces.
pub struct PieceNgram {
    ngram: Ngram,
    spec: Spec,
    /// Pieces that start a word, and `</s>`.
    starts: Arc<[u32]>,
}

/// The pieces' ids in the n-gram model.
struct Subwords {
    pieces: Pieces,
    words: Arc<Words>,
    /// By piece: its id in the n-gram model, 0 if it is not listed there.
    ids: Vec<u32>,
    starts: Vec<bool>,
}

impl PieceNgram {
    /// An n-gram model over the pieces of the SentencePiece model at `path`.
    ///
    /// # Errors
    /// If that file cannot be read, is no SentencePiece model, or shares hardly a piece with the
    /// n-gram model.
    pub fn new(ngram: Ngram, path: &Path) -> Result<Self> {
        // Sentence marks are the n-gram model's own; the file's need not be known.
        const NONE: u32 = u32::MAX - 1;
        let pieces = Pieces::open(path, u32::MAX as usize, NONE, NONE, None)?;
        let words = ngram.words().clone();
        let mut starts = vec![false; words.len()];
        starts[words.eos() as usize] = true;
        let mut ids = Vec::new();
        while let Some(symbol) = pieces.symbol(ids.len() as u32) {
            let id = words.id(&symbol);
            // `<unk>` stands for unknown pieces of both kinds; it starts no word.
            starts[id as usize] |= id != 0 && pieces.starts_word(ids.len() as u32);
            ids.push(id);
        }
        let listed = ids.iter().filter(|&&id| id != 0).count();
        if 2 * listed < ids.len() {
            return Err(Error::model(
                path,
                format!(
                    "only {listed} of its {} pieces are in the n-gram model; train that on text cut by this file",
                    ids.len()
                ),
            ));
        }
        let list = (0..words.len() as u32).filter(|&id| starts[id as usize]).collect();
        let vocab = Arc::new(Subwords { pieces, words, ids, starts });
        let spec = Spec { vocab, ..ngram.spec().clone() };
        Ok(Self { ngram, spec, starts: list })
    }
}

impl LanguageModel for PieceNgram {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn scorer(&self, limits: &Limits) -> Result<Box<dyn Scorer>> {
        Ok(Box::new(TrieScorer::new(&self.ngram, self.starts.clone(), limits)))
    }
}

impl Vocab for Subwords {
    fn size(&self) -> usize {
        self.words.size()
    }

    fn bos(&self) -> u32 {
        self.words.bos()
    }

    fn eos(&self) -> u32 {
        self.words.eos()
    }

    fn unk(&self) -> Option<u32> {
        self.words.unk()
    }

    fn encode(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        let before = ids.len();
        let known = self.pieces.encode(word, ids);
        for id in &mut ids[before..] {
            *id = self.ids.get(*id as usize).copied().unwrap_or(0);
        }
        if ids[before..].contains(&0) { Known::No } else { known }
    }

    fn starts_word(&self, token: u32) -> bool {
        self.starts.get(token as usize).copied().unwrap_or(false)
    }

    fn words(&self) -> bool {
        false
    }

    fn symbol(&self, token: u32) -> Option<Vec<u8>> {
        self.words.symbol(token)
    }

    fn hash(&self) -> u64 {
        self.words.hash()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::ngram::Options;
    use crate::rescorer::{Interpolation, Rescorer};
    use crate::testing::fixture;
    use crate::tokens::TextMap;
    use crate::{Hypothesis, Utterance};

    /// Every piece of the file, equally likely; `<s>`, two pieces of "walking" follow each other.
    fn arpa(file: &Path) -> String {
        let pieces = Pieces::open(file, 200, 1, 2, Some(0)).unwrap();
        let symbols: Vec<String> =
            (3..200).filter_map(|id| String::from_utf8(pieces.symbol(id)?).ok()).collect();
        let mut text = format!("\\data\\\nngram 1={}\nngram 2=1\n\n\\1-grams:\n", symbols.len() + 3);
        text += "-4\t<unk>\n-99\t<s>\t-0.25\n-1\t</s>\n";
        for symbol in &symbols {
            text += &format!("-2.5\t{symbol}\t0\n");
        }
        text + &format!("\n\\2-grams:\n-0.125\t<s> {}\n\n\\end\\\n", "\u{2581}a")
    }

    fn open() -> PieceNgram {
        let file = fixture("tokens/bpe.model");
        let ngram = Ngram::from_reader("pieces", std::io::Cursor::new(arpa(&file)), &Options::default());
        PieceNgram::new(ngram.unwrap(), &file).unwrap()
    }

    fn score(rescorer: &Rescorer, text: &str, name: &str) -> f64 {
        let hypotheses = vec![Hypothesis::new(text, 1)];
        let mut utterance = Utterance { hypotheses, ..Utterance::default() };
        rescorer.worker().unwrap().rescore(&mut utterance).unwrap();
        utterance.hypotheses[0].feature(name).unwrap()
    }

    #[test]
    fn a_word_is_the_product_of_its_pieces() {
        let file = fixture("tokens/bpe.model");
        let pieces = Pieces::open(&file, 200, 1, 2, Some(0)).unwrap();
        let mut ids = Vec::new();
        pieces.encode(b"walking", &mut ids);
        let rescorer =
            Rescorer::builder().lm("ngram", Arc::new(open()), TextMap::default()).weight("ngram", 1.0);
        let rescorer = rescorer.build().unwrap();
        let ln10 = std::f64::consts::LN_10;
        // <s> backs off once; then each piece, then the end.
        let expected = ln10 * (-0.25 - 2.5 * ids.len() as f64 - 1.0);
        assert!((score(&rescorer, "walking", "ngram") - expected).abs() < 1e-4);
        assert!((score(&rescorer, "", "ngram") - ln10 * -1.25).abs() < 1e-4);
    }

    /// With itself, a mixture is the word probability that boundaries make of the pieces: over the
    /// whole sentence they cancel out but for the first.
    #[test]
    fn boundaries_hold_the_mass_of_word_starts() {
        let model = open();
        let starts = model.starts.len() as f64;
        let mass =
            |backoff: f64, rest: f64| (backoff * ((starts - 2.0) * 10f64.powf(-2.5) + 0.1) + rest).ln();
        let first = mass(10f64.powf(-0.25), 10f64.powf(-0.125));
        let both = || Arc::new(open());
        let lambdas = vec![("a".to_owned(), 0.5), ("b".to_owned(), 0.5)];
        let rescorer = Rescorer::builder()
            .lm("a", both(), TextMap::default())
            .lm("b", both(), TextMap::default())
            .interpolation(Interpolation::Linear { lambdas, fast: false })
            .weight("mix", 1.0)
            .build()
            .unwrap();
        let (mix, alone) = (score(&rescorer, "walking", "mix"), score(&rescorer, "walking", "a"));
        assert!((mix - (alone - first)).abs() < 1e-3, "{mix} {alone} {first}");
    }

    #[test]
    fn a_model_of_words_is_refused() {
        let arpa = "\\data\\\nngram 1=3\n\n\\1-grams:\n-99\t<s>\n-0.5\t</s>\n-0.25\ta\n\n\\end\\\n";
        let ngram = Ngram::from_reader("words", arpa.as_bytes(), &Options::default()).unwrap();
        let error = PieceNgram::new(ngram, &fixture("tokens/bpe.model")).err().unwrap().to_string();
        assert!(error.contains("pieces are in the n-gram model"), "{error}");
    }
}
