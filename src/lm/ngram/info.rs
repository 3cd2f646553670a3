//! What a model file is.

use std::ops::Range;

use super::kenlm::Kenlm;
use super::{Engine, Ngram, compact};

/// What a model file is and what is where in it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Info {
    /// The file's kind: `ARPA`, one of KenLM's six, or `secondpass compact, for size` or `.., for speed`.
    pub kind: String,
    /// Number of n-grams for each order from 1, as [`Ngram::counts`] gives them.
    pub counts: Vec<u64>,
    /// Number of word ids, `<unk>` included.
    pub words: usize,
    /// Parts of the file in their order; none for ARPA.
    pub sections: Vec<Section>,
    /// What else the file says about itself: name and value.
    pub properties: Vec<(&'static str, String)>,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Section {
    /// What it holds.
    pub name: String,
    /// Its bytes.
    pub bytes: Range<usize>,
}

impl Ngram {
    /// What the model's file is.
    pub fn info(&self) -> Info {
        let mut info = Info {
            kind: "ARPA".into(),
            counts: self.counts(),
            words: self.words().len(),
            sections: Vec::new(),
            properties: Vec::new(),
        };
        match &self.core.engine {
            Engine::Hashed(_) => {}
            Engine::Kenlm(model) => describe(model, &mut info),
            Engine::Compact(model) => describe_compact("size", model.bytes(), &mut info),
            Engine::Tables(model) => describe_compact("speed", model.bytes(), &mut info),
        }
        info
    }

    /// Looks at everything in the model's file that opening it did not: at every n-gram, whether it
    /// is where lookups find it, in order, with finite values, and at every word's spelling.
    ///
    /// Gives what is wrong, one line each; nothing if all is well. An ARPA file was looked at as a
    /// whole when it was opened. Takes about as long as building the file took.
    pub fn verify(&self) -> Vec<String> {
        match &self.core.engine {
            Engine::Hashed(_) => Vec::new(),
            Engine::Kenlm(model) => model.verify(self.words()),
            Engine::Compact(model) => model.verify().into_iter().collect(),
            Engine::Tables(model) => model.verify().into_iter().collect(),
        }
    }
}

fn describe_compact(prefer: &str, bytes: &[u8], info: &mut Info) {
    info.kind = format!("secondpass compact, for {prefer}");
    let part = |(name, start, length): (String, usize, u64)| Section {
        name,
        bytes: start..start.saturating_add(length as usize),
    };
    info.sections = compact::sections(bytes).into_iter().map(part).collect();
}

fn describe(model: &Kenlm, info: &mut Info) {
    let header = &model.header;
    info.kind = format!("KenLM {}", header.kind.name());
    info.sections = model
        .sections
        .parts
        .iter()
        .map(|(name, bytes)| Section { name: name.clone(), bytes: bytes.clone() })
        .collect();
    let end = model.sections.end();
    if header.spelled {
        info.sections.push(Section { name: "words".into(), bytes: end..model.bytes().len() });
    }
    if !header.kind.is_trie() {
        info.properties.push(("multiplier", header.multiplier.to_string()));
    }
    if let Some((probs, backoffs)) = model.quantiser {
        info.properties.push(("probabilities", format!("quantised to {probs} bits")));
        info.properties.push(("backoffs", format!("quantised to {backoffs} bits")));
    }
    if let Some(limit) = model.array_limit() {
        info.properties.push(("pointers", format!("compressed, at most {limit} bits in the array")));
    }
    info.properties.push(("spellings", if header.spelled { "yes" } else { "no" }.into()));
}
