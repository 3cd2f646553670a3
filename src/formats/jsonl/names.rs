//! What the field calls things: the alias tables, first name first.

/// Of the record.
pub(super) const ID: &[&str] = &["id", "utt_id", "utt", "uttid", "key", "audio_filepath", "wav"];
pub(super) const SESSION: &[&str] = &["session", "session_id", "conversation"];
pub(super) const REFERENCE: &[&str] = &["ref", "reference", "text", "output"];
pub(super) const LIST: &[&str] =
    &["hyps", "nbest", "n_best", "NBest", "hypotheses", "alternatives", "candidates", "input"];
/// Beside these a record's `text` is the recogniser's best, not the reference.
pub(super) const RECOGNISED: &[&str] = &["hypotheses", "tokens", "timestamps", "segments"];

/// Whose token ids the hypotheses have.
pub(super) const VOCABULARY: &[&str] = &["vocab_hash", "vocabulary_hash", "tokens_hash"];
/// Tensors of conditional scorers, and one that has a member of its own.
pub(super) const TENSORS: &str = "tensors";
pub(super) const ENCODER_OUT: &str = "encoder_out";

/// Of a hypothesis.
pub(super) const TEXT: &[&str] = &["text", "Lexical", "transcript", "sentence", "hyp", "pred_text"];

/// Token ids: lists of whole numbers, or these written in a string (ESPnet). `tokens` is a list of
/// strings elsewhere, and then no such thing.
pub(super) const IDS: &[&str] = &["token_ids", "tokenid", "rec_tokenid", "token_int", "ids", "tokens"];

/// The features that have aliases; the first is the name used.
const FEATURES: [&[&str]; 3] = [
    &["am", "am_score", "ac_score", "acoustic_score", "logit_score"],
    &["lm", "lm_score"],
    &["score", "total", "total_score", "logprob", "confidence", "Confidence"],
];

/// Where `key` stands in a table.
pub(super) fn place(table: &[&str], key: &[u8]) -> Option<u8> {
    let at = table.iter().position(|name| name.as_bytes() == key)?;
    u8::try_from(at).ok()
}

/// The feature that `key` is a name of, and which of its names it is.
pub(super) fn feature(key: &[u8]) -> Option<(&'static str, u8)> {
    // Most members are none of these; their first letters tell.
    if !matches!(key.first(), Some(b'a' | b'l' | b's' | b't' | b'c' | b'C')) {
        return None;
    }
    FEATURES.iter().find_map(|names| Some((names[0], place(names, key)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_is_found() {
        for names in FEATURES {
            for (at, name) in names.iter().enumerate() {
                assert_eq!(feature(name.as_bytes()), Some((names[0], at as u8)));
            }
        }
        assert_eq!(feature(b"likelihood"), None);
    }
}
