//! The numbers of a model that its tensors do not show: special tokens, and the size of its vocabulary.

use std::io::Read;
use std::path::Path;

use super::super::graph::{Dim, Graph, Walk};
use super::{MAX_VOCAB, Sidecar, Signature};

/// Numbers found beside the tensors, and from what.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Specials {
    /// Size of the vocabulary and where that stands.
    pub vocab_size: Option<(usize, &'static str)>,
    /// The token before a sentence.
    pub bos: Option<(u32, &'static str)>,
    /// The token after a sentence.
    pub eos: Option<(u32, &'static str)>,
    /// The token of unknown words.
    pub unk: Option<(u32, &'static str)>,
    /// The kind of vocabulary.
    pub tokenizer: Option<String>,
    /// Both ends are the last token of the vocabulary, as ESPnet and WeNet have it.
    pub last: bool,
    /// Rows of the table that looks tokens up.
    pub embedded: Option<usize>,
}

impl Specials {
    /// Collects them from the sidecar, the metadata, the files of the model's folder and the graph.
    ///
    /// # Errors
    /// If the metadata contradict themselves.
    pub(super) fn read(graph: &Graph, signature: &Signature, sidecar: &Sidecar) -> Result<Self, String> {
        let folder = graph.path.parent().unwrap_or(Path::new(""));
        let own = |name: &str| number(graph, &format!("secondpass.{name}"));
        if let Some(version) = own("version")?
            && version > VERSION
        {
            return Err(format!(
                "written for version {version} of the contract, this program knows {VERSION}; update secondpass"
            ));
        }
        let config = folder.join("config.json");
        let config: serde_json::Value = std::fs::File::open(config)
            .ok()
            .and_then(|file| serde_json::from_reader(std::io::BufReader::new(file.take(MOST_BYTES))).ok())
            .unwrap_or_default();
        let symbols = symbols(folder);
        let find = |told: Option<u32>, name: &str, keys: [&str; 2], json: &str, spellings: &[&str]| {
            if let Some(id) = told {
                return Ok(Some((id, "the file beside it")));
            }
            for key in [&*format!("secondpass.{name}"), name, keys[0], keys[1]] {
                if let Some(id) = number(graph, key)? {
                    return Ok(Some((id, "metadata")));
                }
            }
            if let Some(id) = config.get(json).and_then(serde_json::Value::as_u64) {
                return Ok(u32::try_from(id).ok().map(|id| (id, "config.json")));
            }
            let spelled = spellings.iter().find_map(|&spelling| {
                symbols
                    .iter()
                    .find(|(symbol, _)| symbol == spelling)
                    .map(|&(_, id)| (id, "the vocabulary file"))
            });
            Ok::<_, String>(spelled)
        };
        let last = signature.family.starts_with("espnet") || signature.family.starts_with("WeNet");
        let mut found = Self {
            bos: find(sidecar.bos, "bos_id", ["sos_id", "sos_symbol"], "bos_token_id", &STARTS)?,
            eos: find(sidecar.eos, "eos_id", ["eos_id", "eos_symbol"], "eos_token_id", &ENDS)?,
            unk: find(sidecar.unk, "unk_id", ["unk_id", "unk_symbol"], "unk_token_id", &[])?,
            tokenizer: sidecar.tokenizer.clone().or_else(|| {
                let own = graph.metadata.get("secondpass.tokenizer").cloned();
                own.or_else(|| folder.join("bpe.model").is_file().then(|| "sentencepiece".to_owned()))
            }),
            last,
            embedded: Walk::new(graph)
                .embedding(&signature.tokens.ids.name)
                .and_then(|(_, weight)| usize::try_from(weight.dims[0]).ok()),
            ..Self::default()
        };
        // A closing token alone also opens: the end of one line is the context of the next.
        found.bos = found.bos.or(found.eos);
        found.eos = found.eos.or(found.bos);
        found.vocab_size = vocab_size(graph, signature, sidecar, found.embedded)?;
        Ok(found)
    }
}

fn vocab_size(
    graph: &Graph,
    signature: &Signature,
    sidecar: &Sidecar,
    embedded: Option<usize>,
) -> Result<Option<(usize, &'static str)>, String> {
    let output = graph.output(&signature.output).and_then(|output| output.dims.as_deref());
    let declared = match output {
        Some([.., Dim::Fixed(size)]) if output.is_some_and(|dims| dims.len() > 1) => Some(*size),
        _ => None,
    };
    let named = match number(graph, "secondpass.vocab_size")? {
        Some(size) => Some(size),
        None => number(graph, "vocab_size")?,
    };
    let found = match (sidecar.vocab_size, named, declared) {
        (Some(size), _, _) => Some((size as usize, "the file beside it")),
        (None, Some(named), Some(size)) if named as usize != size => {
            return Err(format!(
                "its metadata say vocab_size {named}, but {} has {size} scores; export it again",
                signature.output
            ));
        }
        (None, Some(named), _) => Some((named as usize, "metadata")),
        (None, None, Some(size)) => Some((size, "the output's last size")),
        (None, None, None) => embedded.map(|rows| (rows, "the table of embeddings")),
    };
    if let Some((size, _)) = found
        && (size == 0 || size > MAX_VOCAB)
    {
        return Err(format!("a vocabulary of {size} tokens; 1 to {MAX_VOCAB} make sense"));
    }
    Ok(found)
}

fn number(graph: &Graph, key: &str) -> Result<Option<u32>, String> {
    graph.metadata.get(key).map_or(Ok(None), |text| {
        text.trim().parse().map(Some).map_err(|_| {
            format!("metadata {key} is `{}`, not a number; export it again", text.escape_debug())
        })
    })
}

/// Symbols in angle brackets and their numbers, from the list of symbols in `folder`.
fn symbols(folder: &Path) -> Vec<(String, u32)> {
    let text = ["tokens.txt", "words.txt", "units.txt"].iter().find_map(|name| {
        let path = folder.join(name);
        let short = path.metadata().is_ok_and(|file| file.is_file() && file.len() <= MOST_BYTES);
        short.then(|| std::fs::read(path).ok()).flatten()
    });
    let text = String::from_utf8_lossy(text.as_deref().unwrap_or_default()).into_owned();
    let mut found = Vec::new();
    for (number, line) in (0..).zip(text.lines()) {
        let mut fields = line.split_whitespace();
        let Some(symbol) = fields.next().filter(|symbol| symbol.starts_with(['<', '['])) else { continue };
        let id = fields.next().map_or(Some(number), |id| id.parse().ok());
        found.extend(id.map(|id| (symbol.to_owned(), id)));
    }
    found
}

/// The newest version of the contract that is known.
const VERSION: u32 = 1;
const STARTS: [&str; 6] = ["<s>", "<sos>", "<bos>", "<sos/eos>", "<|startoftext|>", "[BOS]"];
const ENDS: [&str; 6] = ["</s>", "<eos>", "<sos/eos>", "<|endoftext|>", "<end>", "[EOS]"];
/// A list of symbols has a few megabytes, a configuration less.
const MOST_BYTES: u64 = 64 << 20;
