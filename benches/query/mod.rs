//! What the n-gram benches share: `ngram query`'s way from text to scores, and KenLM's.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use secondpass::lm::ngram::Ngram;
use secondpass::tokens::Vocab;

/// Text in pieces as `ngram query` takes it: words, ids, scores.
pub fn from_text(model: &Ngram, text: &[u8]) -> f64 {
    let mut total = 0.0;
    let eos = model.words().eos();
    let begin = model.begin();
    let mut ids = Vec::new();
    let lines: Vec<&[u8]> = lines(text).collect();
    for piece in lines.chunks(512) {
        ids.clear();
        let mut spans: Vec<&[u8]> = Vec::new();
        let mut ends = Vec::new();
        for line in piece {
            spans.extend(words(line));
            spans.push(b"");
            ends.push(spans.len());
        }
        model.words().ids(spans.iter().copied(), &mut ids);
        ends.iter().for_each(|&end| ids[end - 1] = eos);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let sentences: Vec<&[u32]> = starts.zip(&ends).map(|(start, &end)| &ids[start..end]).collect();
        model.score_batch(&begin, &sentences, |_, _, full| total += f64::from(full.log10));
    }
    black_box(total)
}

pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n").unwrap_or(text).split(|&byte| byte == b'\n')
}

pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, 9..=13 | 32)).filter(|word| !word.is_empty())
}

/// What KenLM's module takes: nanoseconds a token. `load` is how it gets the model into memory: "READ", or
/// its default "POPULATE_OR_READ", which maps the file and is slower.
pub fn peer(python: &Path, model: &Path, text: &Path, load: &str) -> Option<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/kenlm_score.py");
    let output = Command::new(python).arg(script).arg(model).arg(text).args(["1", load]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).split(' ').next()?.parse().ok()
}
