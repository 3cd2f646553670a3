//! JSON Lines: the native format, and the JSON that recognisers and toolkits write.
//!
//! A record is one object per line. It is read without being taken apart: the layout keeps
//! where things lie, and writing splices the input's own bytes, so that `1.0` stays `1.0` and
//! unknown members survive. What is read, first name first:
//!
//! | of | names | rule |
//! |---|---|---|
//! | record | `id` `utt_id` `utt` `uttid` `key` `audio_filepath` `wav` | a string, or a number as it is written |
//! | record | `session` `session_id` `conversation` | likewise |
//! | record | `ref` `reference` `text` `output` | a string. `text` only where it cannot be a recogniser's best: not beside `hypotheses`, `tokens`, `timestamps` or `segments` (sherpa-onnx, Whisper) |
//! | record | `hyps` `nbest` `n_best` `NBest` `hypotheses` `alternatives` `candidates` `input` | the list: of objects, of strings, or of both |
//! | record | `text` `transcript` `hyp` `sentence` `pred_text` as a list of strings; or a list as above, all strings, beside a list named as a feature or `scores` | *parallel lists* (Hugging Face, pyctcdecode): every member that is a list of that length belongs to the hypotheses and is reordered with them |
//! | hypothesis | `text` `Lexical` `transcript` `sentence` `hyp` `pred_text` | a string; required |
//! | hypothesis | `scores` | an object: each member that is a number or null is a feature of that name; or one number, `score` |
//! | hypothesis | `feat` `features` | an object of numbers or lists of numbers (Moses): the list `lm` of two is `lm0` and `lm1`, of one `lm` |
//! | hypothesis | feature names | flat numbers; every other flat member is unknown, never a feature |
//! | hypothesis | `token_ids` `tokenid` `rec_tokenid` `token_int` `ids` `tokens` | the recogniser's token ids: a list of whole numbers, or a string of them. Of strings: unknown |
//! | record | `vocab_hash` `vocabulary_hash` `tokens_hash` | whose ids they are: 16 or more hexadecimal digits, the beginning of the SHA-256 of the symbols in the order of their ids, a line feed after each |
//! | record | `tensors` | an object of tensors, or a list of them with a `name` each: nested lists of numbers, or an object of `data` (or `base64`: float32, little-endian) and its `shape`, or of `file`: the name of a `.npy` file in the folder of tensors |
//! | record | `encoder_out` | one such tensor |
//! | features | `am` `am_score` `ac_score` `acoustic_score` `logit_score` | `am` |
//! | features | `lm` `lm_score` | `lm` |
//! | features | `score` `total` `total_score` `logprob` `confidence` `Confidence` | `score` |
//!
//! - All values are natural logarithms, higher is better. Two flat members are probabilities
//!   if they lie from 0 to 1, and their logarithm is taken: `Confidence` (Azure), and
//!   `confidence` beside `transcript` (Google, Deepgram); both kinds in one list are an error.
//!   `confidence` beside `text` (Vosk) is a logarithm always.
//! - `lm_score` beside `logit_score` (pyctcdecode) is the sum of both models: `score`.
//! - Several names of one feature: the first in its row counts, then `scores` before
//!   `feat`, `features` and flat members. The others stay as they are.
//! - `null`, or a number that is not finite as `1e999`, is a missing value: `NaN`. A string
//!   or boolean under the name of a score is an error.
//! - The same key twice is an error where the key is one of these, and kept otherwise.
//! - A lone surrogate (`"\ud800"`) becomes its three bytes as WTF-8 has them, but in a
//!   text it is an error.
//!
//! A record with a member `secondpass` is *our own*, unless its status is `passed`: in its
//! `scores` the names that rescoring computes ([`OwnNames`](super::OwnNames)) and `total` are
//! passed over, and `rank` gives the first-pass order. What else `secondpass` may say is in [`Answer`]. Elsewhere such a name is a clash
//! ([`Record::clash`]), a `total` in `scores` is the first-pass score, renamed `score` on
//! writing, and a foreign `rank` is replaced by ours.

mod answer;
mod features;
mod names;
mod npy;
mod read;
pub(in crate::formats) mod span;
mod tensors;
mod top;
mod values;
mod write;

pub use answer::{Answer, AnswerWord, scores};
pub use read::{Reader, Record};
pub(in crate::formats) use write::secondpass;
pub use write::{over, passed, write};

#[cfg(test)]
mod tests;
