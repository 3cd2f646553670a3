//! Normalisers: what is done to a text before it is cut.

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};
use unicode_segmentation::UnicodeSegmentation;

use super::{kind, other};
use crate::tokens::charsmap::Charsmap;

/// A step of normalisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    StripAccents,
    Replace(String, String),
    /// Runs of at least so many blanks, or of `any` white space, become this.
    Spaces {
        least: usize,
        any: bool,
        content: String,
    },
    /// Before the first word only.
    Prepend(String),
    /// SentencePiece's table.
    Precompiled(Charsmap),
    Bert {
        clean: bool,
        chinese: bool,
        accents: bool,
        lowercase: bool,
    },
}

impl Step {
    /// Does the step to a text, which is the `first` of its sentence or not.
    pub fn apply(&self, text: String, first: bool) -> String {
        match self {
            Self::Nfc => text.nfc().collect(),
            Self::Nfd => text.nfd().collect(),
            Self::Nfkc => text.nfkc().collect(),
            Self::Nfkd => text.nfkd().collect(),
            Self::Lowercase => lower(&text),
            Self::StripAccents => text.chars().filter(|&c| !is_combining_mark(c)).collect(),
            Self::Replace(from, to) => text.replace(from, to),
            Self::Spaces { least, any, content } => spaces(&text, *least, *any, content),
            Self::Prepend(mark) if first && !text.is_empty() => [mark, &*text].concat(),
            Self::Prepend(_) => text,
            Self::Precompiled(charsmap) => precompiled(charsmap, &text),
            Self::Bert { clean, chinese, accents, lowercase } => {
                let mut text = text;
                if *clean {
                    let keep = |c: &char| !matches!(*c, '\0' | '\u{fffd}') && !is_control(*c);
                    text =
                        text.chars().filter(keep).map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
                }
                if *chinese {
                    let space = |c: char| is_chinese(c).then_some(' ');
                    text =
                        text.chars().flat_map(|c| space(c).into_iter().chain([c]).chain(space(c))).collect();
                }
                if *accents {
                    let mark = |c: &char| c.general_category() == GeneralCategory::NonspacingMark;
                    text = text.nfd().filter(|c| !mark(c)).collect();
                }
                if *lowercase { lower(&text) } else { text }
            }
        }
    }

    /// Whether white space beside other is gone after it.
    pub fn joins_spaces(&self) -> bool {
        matches!(self, Self::Spaces { .. })
    }

    /// Whether white space may come out that did not go in.
    pub fn makes_spaces(&self) -> bool {
        !matches!(self, Self::Nfc | Self::Nfd | Self::Lowercase | Self::StripAccents)
    }
}

/// Reads the steps of a `normalizer`.
///
/// # Errors
/// If there is one that is not read.
pub(super) fn steps(json: &Value, steps: &mut Vec<Step>) -> Result<(), String> {
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    let flag = |name: &str| json[name].as_bool();
    steps.push(match kind(json) {
        "" if json.is_null() => return Ok(()),
        "Sequence" => {
            let inner = json["normalizers"].as_array().ok_or_else(|| other("normalizer", json))?;
            return inner.iter().try_for_each(|json| self::steps(json, steps));
        }
        // Words have no white space at their ends.
        "Strip" => return Ok(()),
        "NFC" => Step::Nfc,
        "NFD" => Step::Nfd,
        "NFKC" => Step::Nfkc,
        "NFKD" => Step::Nfkd,
        "Lowercase" => Step::Lowercase,
        "StripAccents" => Step::StripAccents,
        "Prepend" => Step::Prepend(text("prepend")),
        "Replace" => match (json["pattern"]["String"].as_str(), json["pattern"]["Regex"].as_str()) {
            (Some(pattern), _) if !pattern.is_empty() => Step::Replace(pattern.to_owned(), text("content")),
            (_, Some(" {2,}")) => Step::Spaces { least: 2, any: false, content: text("content") },
            (_, Some(" +")) => Step::Spaces { least: 1, any: false, content: text("content") },
            (_, Some(r"\s+")) => Step::Spaces { least: 1, any: true, content: text("content") },
            (_, Some(pattern)) => {
                return Err(format!("its normalizer replaces the pattern {pattern:?}, which is not read"));
            }
            _ => return Err(other("normalizer", json)),
        },
        "Precompiled" => {
            let table = base64(json["precompiled_charsmap"].as_str().unwrap_or_default())
                .ok_or("its normalisation table is not Base64; save it again")?;
            Step::Precompiled(Charsmap::parse(&table)?)
        }
        "BertNormalizer" => {
            let lowercase = flag("lowercase") == Some(true);
            Step::Bert {
                clean: flag("clean_text") == Some(true),
                chinese: flag("handle_chinese_chars") == Some(true),
                accents: flag("strip_accents").unwrap_or(lowercase),
                lowercase,
            }
        }
        _ => return Err(other("normalizer", json)),
    });
    Ok(())
}

fn lower(text: &str) -> String {
    // Not `str::to_lowercase`, which knows of the last sigma.
    text.chars().flat_map(char::to_lowercase).collect()
}

/// As the library has it: whole graphemes by the shortest rule that fits, others by characters.
fn precompiled(charsmap: &Charsmap, text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    for grapheme in text.graphemes(true) {
        if grapheme.len() < 6
            && let Some(made) = charsmap.shortest(grapheme.as_bytes())
        {
            out.extend_from_slice(made);
            continue;
        }
        for c in grapheme.chars() {
            let mut buffer = [0; 4];
            let c = c.encode_utf8(&mut buffer).as_bytes();
            out.extend_from_slice(charsmap.shortest(c).unwrap_or(c));
        }
    }
    // A damaged table may spell anything.
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn spaces(text: &str, least: usize, any: bool, content: &str) -> String {
    let is_space = |c: char| if any { c.is_whitespace() } else { c == ' ' };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_space) {
        out += &rest[..start];
        let run = &rest[start..];
        let end = run.find(|c| !is_space(c)).unwrap_or(run.len());
        out += if run[..end].chars().count() >= least { content } else { &run[..end] };
        rest = &run[end..];
    }
    out + rest
}

/// What BERT takes out; not what has no meaning yet.
fn is_control(c: char) -> bool {
    let other = || c.general_category_group() == GeneralCategoryGroup::Other;
    !matches!(c, '\t' | '\n' | '\r') && other() && c.general_category() != GeneralCategory::Unassigned
}

/// The blocks of Han characters that BERT sets apart.
fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff
            | 0x2f800..=0x2fa1f
    )
}

/// The bytes of a Base64 text (RFC 4648).
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for four in text.chunks(4) {
        let mut bits = 0u32;
        for &digit in four {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let spare = 4 - four.len();
        if spare > 2 {
            return None;
        }
        bytes.extend_from_slice(&(bits << (6 * spare)).to_be_bytes()[1..4 - spare]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_rfc_4648() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(base64("+/8=").unwrap(), [0xfb, 0xff]);
        for damaged in ["Z", "Zm9vY", "Zm 9", "Zm\u{e9}"] {
            assert_eq!(base64(damaged), None);
        }
    }

    #[test]
    fn runs_of_spaces() {
        assert_eq!(spaces("a  b c   ", 2, false, " "), "a b c ");
        assert_eq!(spaces("a\u{a0} b", 1, true, "_"), "a_b");
        assert_eq!(spaces("", 1, true, "_"), "");
    }
}
