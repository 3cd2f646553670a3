//! Which vocabulary files a model has, and what they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Characters, HuggingFace, List, Pieces, Specials, Symbols, Vocab};
use crate::{Error, Result};

/// What a configuration says about a model's vocabulary; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// `words`, `characters`, `sentencepiece` or `huggingface`; `auto` or none: by what is in the files.
    pub kind: Option<String>,
    /// The files, instead of those beside the model: a SentencePiece model, a list of symbols, or both; or
    /// a `tokenizer.json`.
    pub files: Vec<PathBuf>,
}

/// The vocabulary of the model in `folder`.
///
/// `declared` is what the model says it is, `auto` if it says nothing; `choice` goes before it.
/// Where the model names no special tokens, those that the files name count. Of the files beside a
/// model the usual names are looked for: `bpe.model` and other names of SentencePiece models;
/// `tokens.txt`, `units.txt`, `lang_char.txt`, `token_list.txt`, `words.txt`, and ESPnet's
/// `config.yaml`; `tokenizer.json`, which counts before them. Where a SentencePiece model and a list of pieces lie there, ids are the list's.
///
/// # Errors
/// If the kind is unknown, a file is missing or damaged, or an id is not below `size`.
pub fn open(
    folder: &Path,
    choice: &Choice,
    declared: &str,
    size: usize,
    specials: Specials,
) -> Result<Arc<dyn Vocab>> {
    let given = choice.kind.as_deref();
    let declared = match declared {
        "chars" => "characters",
        "" => "auto",
        declared => declared,
    };
    let kind = given.unwrap_or(if choice.files.is_empty() { declared } else { "auto" });
    let files = Files::find(folder, &choice.files)?;
    match kind {
        "words" => {
            let path = files.list_or(folder, &["tokens.txt", "words.txt"])?;
            let specials = specials.or(|| List::open(path, size))?;
            let (bos, eos) = specials.ends(path)?;
            Ok(Arc::new(Symbols::open(path, size, bos, eos, specials.unk)?))
        }
        "characters" => characters(files.list_or(folder, &["tokens.txt", "units.txt"])?, size, specials),
        "sentencepiece" => {
            let path = files.model.as_deref().ok_or_else(|| missing(folder, &["bpe.model"]))?;
            // A list beside it that is not meant for it has words.
            let list = match files.list.as_deref() {
                Some(path) => match List::open(path, size) {
                    Ok(list) if !choice.files.is_empty() || list.has_pieces() || list.has_characters() => {
                        Some(list)
                    }
                    Ok(_) => None,
                    Err(error) if !choice.files.is_empty() => return Err(error),
                    Err(_) => None,
                },
                None => None,
            };
            pieces(path, list.as_ref(), size, specials)
        }
        "huggingface" => {
            let path = files.json.as_deref().ok_or_else(|| missing(folder, &["tokenizer.json"]))?;
            Ok(Arc::new(HuggingFace::open(path, size, specials)?))
        }
        "auto" => auto(folder, &files, size, specials),
        _ => Err(Error::model(
            folder,
            format!(
                "unknown tokenizer {kind:?}; secondpass.tokenizer is \"words\" or \"sentencepiece\", \"characters\" or \"huggingface\""
            ),
        )),
    }
}

/// As [`open`], of the kind that a model names, from the files beside it.
///
/// # Errors
/// As [`open`].
pub fn beside(
    folder: &Path,
    kind: &str,
    size: usize,
    bos: u32,
    eos: u32,
    unk: Option<u32>,
) -> Result<Arc<dyn Vocab>> {
    open(folder, &Choice::default(), kind, size, Specials { bos: Some(bos), eos: Some(eos), unk })
}

/// By what is in the files.
fn auto(folder: &Path, files: &Files, size: usize, specials: Specials) -> Result<Arc<dyn Vocab>> {
    if let Some(path) = &files.json {
        match HuggingFace::open(path, size, specials) {
            // One that cannot be read may have a SentencePiece model beside it.
            Err(_) if files.model.is_some() => {}
            opened => return Ok(Arc::new(opened?)),
        }
    }
    let list = files.list.as_deref().map(|path| List::open(path, size).map(|list| (path, list)));
    let words = |path: &Path| -> Result<Arc<dyn Vocab>> {
        let specials = specials.or(|| List::open(path, size))?;
        let (bos, eos) = specials.ends(path)?;
        Ok(Arc::new(Symbols::open(path, size, bos, eos, specials.unk)?))
    };
    // Folders of icefall and Kaldi hold words and pieces side by side: the list that fills the model's
    // outputs is the one it was trained with.
    if let (Some(path), Some(Ok((_, pieces)))) = (files.words.as_deref(), &list)
        && let Ok(table) = List::open(path, size)
        && table.symbols().len() > pieces.symbols().len()
    {
        return words(path);
    }
    match (files.model.as_deref(), list) {
        (Some(model), Some(Ok((_, list)))) if list.has_pieces() || list.has_characters() => {
            pieces(model, Some(&list), size, specials)
        }
        (Some(_), Some(Err(error))) | (None, Some(Err(error))) => match files.words.as_deref() {
            Some(path) if List::open(path, size).is_ok() => words(path),
            _ => Err(error),
        },
        (Some(model), _) => match pieces(model, None, size, specials) {
            // The pieces are too many for it: a model of words beside them.
            Err(_) if files.words.as_deref().is_some_and(|path| List::open(path, size).is_ok()) => {
                words(files.words.as_deref().unwrap_or(folder))
            }
            opened => opened,
        },
        (None, Some(Ok((path, list)))) if list.has_characters() && !list.has_pieces() => {
            characters(path, size, specials)
        }
        (None, Some(Ok((path, _)))) => words(path),
        (None, None) => match files.words.as_deref() {
            Some(path) => words(path),
            None => Err(missing(folder, &["bpe.model", "tokens.txt", "units.txt", "words.txt"])),
        },
    }
}

fn characters(path: &Path, size: usize, specials: Specials) -> Result<Arc<dyn Vocab>> {
    let list = List::open(path, size)?;
    let specials = specials.or(|| Ok(list.clone()))?;
    let (bos, eos) = specials.ends(path)?;
    let vocab =
        Characters::new(&list, size, bos, eos, specials.unk).map_err(|what| Error::model(path, what))?;
    Ok(Arc::new(vocab))
}

fn pieces(path: &Path, list: Option<&List>, size: usize, specials: Specials) -> Result<Arc<dyn Vocab>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let specials = match list {
        Some(list) => specials.or(|| Ok(list.clone()))?,
        None => specials.or(|| Pieces::symbols_of(path, &bytes, size))?,
    };
    let (bos, eos) = specials.ends(path)?;
    Ok(Arc::new(match list {
        Some(list) => Pieces::with_list(path, &bytes, list, size, bos, eos, specials.unk)?,
        None => Pieces::parse(path, &bytes, size, bos, eos, specials.unk)?,
    }))
}

impl Specials {
    /// What is not known yet, from a list.
    fn or(self, list: impl FnOnce() -> Result<List>) -> Result<Self> {
        if self.bos.is_some() && self.eos.is_some() {
            return Ok(self);
        }
        let named = list()?.specials();
        Ok(Self { bos: self.bos.or(named.bos), eos: self.eos.or(named.eos), unk: self.unk.or(named.unk) })
    }

    /// Where sentences start and end.
    fn ends(self, path: &Path) -> Result<(u32, u32)> {
        self.bos.zip(self.eos).ok_or_else(|| {
            Error::model(
                path,
                "neither it nor the model names the tokens that start and end a sentence; set bos and eos",
            )
        })
    }
}

/// The files there are.
#[derive(Debug, Default)]
struct Files {
    /// A SentencePiece model.
    model: Option<PathBuf>,
    /// A list of pieces or characters, or of whatever the only list there is has.
    list: Option<PathBuf>,
    /// Hugging Face's `tokenizer.json`.
    json: Option<PathBuf>,
    /// Kaldi's and icefall's `words.txt`.
    words: Option<PathBuf>,
}

impl Files {
    fn find(folder: &Path, named: &[PathBuf]) -> Result<Self> {
        if named.is_empty() {
            let find =
                |names: &[&str]| names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
            let espnet = folder.join("config.yaml");
            let lists = |bytes: &[u8]| {
                bytes
                    .split(|&b| b == b'\n')
                    .any(|line| matches!(line.trim_ascii(), b"token_list:" | b"token:"))
            };
            let list = find(&LISTS)
                .or_else(|| std::fs::read(&espnet).ok().filter(|bytes| lists(bytes)).map(|_| espnet));
            let (json, words) = (find(&["tokenizer.json"]), find(&["words.txt"]));
            return Ok(Self { model: find(&MODELS), list, json, words });
        }
        let mut files = Self::default();
        for path in named {
            let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
            // A SentencePiece model is no text: it has the types of its pieces as control characters.
            let model = bytes.contains(&0)
                || bytes.first() == Some(&0x0a) && bytes.iter().take(64).any(|&b| b < 0x09);
            let place = match model {
                true => &mut files.model,
                false if bytes.trim_ascii_start().first() == Some(&b'{') => &mut files.json,
                false => &mut files.list,
            };
            if place.replace(path.clone()).is_some() {
                return Err(Error::Config(format!(
                    "{}: a second vocabulary file of its kind; name one list and one SentencePiece model at most",
                    path.display()
                )));
            }
        }
        Ok(files)
    }

    /// The list, whichever there is.
    fn list_or(&self, folder: &Path, names: &[&str]) -> Result<&Path> {
        self.list.as_deref().or(self.words.as_deref()).ok_or_else(|| missing(folder, names))
    }
}

fn missing(folder: &Path, names: &[&str]) -> Error {
    Error::model(folder, format!("no {} in it; put the model's vocabulary there", names.join(" or ")))
}

const MODELS: [&str; 8] = [
    "bpe.model",
    "bbpe.model",
    "spm.model",
    "unigram.model",
    "sentencepiece.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
];
const LISTS: [&str; 5] = ["tokens.txt", "units.txt", "lang_char.txt", "token_list.txt", "bpe.vocab"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Known;
    use std::fs::{copy, write};

    fn fixture(name: &str) -> PathBuf {
        crate::testing::fixture("tokens").join(name)
    }

    fn encode(vocab: &dyn Vocab, word: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        assert_eq!(vocab.encode(word.as_bytes(), &mut ids), Known::Yes, "{word}");
        ids
    }

    #[test]
    fn of_the_kind_named() {
        let folder = tempfile::tempdir().unwrap();
        let load = |kind| beside(folder.path(), kind, 4, 0, 1, Some(2));
        let error = |kind| load(kind).err().unwrap().to_string();
        assert!(error("words").contains("tokens.txt or words.txt"));
        assert!(error("sentencepiece").contains("bpe.model"));
        assert!(error("characters").contains("units.txt"));
        assert!(error("hieroglyphs").contains("\"words\" or \"sentencepiece\""));
        assert!(error("auto").contains("no bpe.model or tokens.txt"));
        write(folder.path().join("words.txt"), "<s>\n</s>\n<unk>\na\n").unwrap();
        assert_eq!(load("words").unwrap().symbol(3), Some(b"a".to_vec()));
        assert!(load("characters").unwrap().starts_word(3));
        assert!(beside(folder.path(), "words", 4, 4, 1, None).is_err());
    }

    /// A folder like icefall's `lang_bpe_N`: words, pieces and the model of the pieces.
    #[test]
    fn by_what_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let open = |size| open(folder.path(), &Choice::default(), "auto", size, Specials::default());
        copy(fixture("unigram.model"), at("bpe.model")).unwrap();
        let plain = Pieces::open(&at("bpe.model"), 120, 1, 1, Some(2)).unwrap();
        // The model alone knows <sos/eos> too.
        let alone = open(120).unwrap();
        assert_eq!((alone.bos(), alone.eos(), alone.unk()), (1, 1, Some(2)));
        let symbol = |id| String::from_utf8(plain.symbol(id).unwrap()).unwrap();
        let tokens: String = (0..120).map(|id| format!("{} {id}\n", symbol(id))).collect();
        write(at("tokens.txt"), tokens + "#0 120\n#1 121\n").unwrap();
        let words: String = (0..500).map(|id| format!("w{id} {id}\n")).collect();
        write(at("words.txt"), words.replace("w0 ", "<eps> ") + "<unk> 500\n<s> 501\n</s> 502\n").unwrap();
        let listed = open(120).unwrap();
        assert_eq!((listed.bos(), listed.eos(), listed.unk()), (1, 1, Some(2)));
        assert_eq!((encode(&*listed, "walking"), listed.hash()), (encode(&plain, "walking"), plain.hash()));
        let worded = open(503).unwrap();
        assert_eq!((worded.bos(), worded.eos(), worded.unk(), worded.words()), (501, 502, Some(500), true));
        assert_eq!(encode(&*worded, "w7"), [7]);
        // Another model's files are refused in one line.
        let error = open(100).err().unwrap().to_string();
        assert!(error.contains("the model has 100 tokens") && !error.contains('\n'), "{error}");
        // WeNet: the same pieces under other numbers.
        std::fs::remove_file(at("words.txt")).unwrap();
        std::fs::remove_file(at("tokens.txt")).unwrap();
        let units: String = (3..120).map(|id| format!("{} {}\n", symbol(id), id)).collect();
        write(at("units.txt"), format!("<blank> 0\n<unk> 1\n<sos/eos> 2\n{units}")).unwrap();
        let wenet = open(120).unwrap();
        assert_eq!((wenet.bos(), wenet.eos(), wenet.unk()), (2, 2, Some(1)));
        assert_eq!(encode(&*wenet, "walking"), encode(&plain, "walking"));
        // Files elsewhere, by name.
        let choice = Choice { kind: None, files: vec![at("units.txt"), fixture("unigram.model")] };
        let named = super::open(Path::new("nowhere"), &choice, "words", 120, Specials::default()).unwrap();
        assert_eq!(named.hash(), wenet.hash());
    }

    #[test]
    fn espnet_characters() {
        let folder = tempfile::tempdir().unwrap();
        let yaml = "lm: seq_rnn\ntoken_list:\n- <blank>\n- <unk>\n- <space>\n- A\n- B\n- ''''\n- <sos/eos>\ninit: null\n";
        write(folder.path().join("config.yaml"), yaml).unwrap();
        let vocab = open(folder.path(), &Choice::default(), "auto", 7, Specials::default()).unwrap();
        assert_eq!((vocab.bos(), vocab.eos(), vocab.unk(), vocab.first_differs()), (6, 6, Some(1), true));
        assert_eq!(encode(&*vocab, "B'A"), [2, 4, 5, 3]);
    }
}
