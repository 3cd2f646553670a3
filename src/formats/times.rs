//! When words were said, where a list tells: for ctm.

use serde_json::Value;

use super::chunk::Chunk;
use super::known::Format;
use super::srilm;

/// A word and its time, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timed {
    pub word: Vec<u8>,
    pub start: f64,
    pub end: f64,
}

/// The times of the hypothesis that lies here in the chunk. Known are the words of an
/// NBestList2.0, and objects `{"word":..,"start":..,"end":..}` under `result` (Vosk), `words` or
/// `word_offsets` of a JSON hypothesis.
pub(super) fn times(chunk: &Chunk, hypothesis: &[u8]) -> Option<Vec<Timed>> {
    if chunk.format == Format::Nbest2 {
        return srilm::times(hypothesis);
    }
    let object: Value = serde_json::from_slice(hypothesis).ok()?;
    let words = ["result", "words", "word_offsets"].iter().find_map(|key| object.get(key)?.as_array())?;
    words.iter().map(word).collect()
}

fn word(value: &Value) -> Option<Timed> {
    let number = |keys: [&str; 2]| keys.iter().find_map(|key| value.get(key)?.as_f64());
    let word = ["word", "text"].iter().find_map(|key| value.get(key)?.as_str())?;
    let start = number(["start", "start_time"])?;
    let end = number(["end", "end_time"])?;
    Some(Timed { word: word.trim().as_bytes().to_vec(), start, end })
}
