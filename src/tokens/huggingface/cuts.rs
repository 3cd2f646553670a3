//! Pre-tokenisers: how a text is cut into the parts that the model spells one by one.

use serde_json::Value;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use super::split::Split;
use super::{kind, other};

/// One way of cutting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cut {
    /// By the pattern of a byte-level vocabulary.
    Pattern(Split),
    /// White space goes.
    WhitespaceSplit,
    /// White space goes, and letters are apart from what is neither letter nor space.
    Whitespace,
    /// White space goes, and each punctuation mark is apart.
    Bert,
    Punctuation,
    /// Numbers are apart; `each` digit of them, or all together.
    Digits {
        each: bool,
    },
    /// Blanks become a mark, which every part starts with.
    Metaspace {
        mark: String,
        prepend: Prepend,
        split: bool,
    },
}

/// Where a mark is put that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepend {
    Always,
    /// At the beginning of the text only.
    First,
    Never,
}

/// How texts are cut.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    pub cuts: Vec<Cut>,
    /// Parts are spelled byte by byte.
    pub bytes: bool,
    /// Whether byte-level vocabularies mark the first word as the others.
    pub marked: bool,
    /// The normaliser leaves no blanks.
    pub no_blanks: bool,
}

impl Cuts {
    /// Reads a `pre_tokenizer`.
    ///
    /// # Errors
    /// If there is one that is not read.
    pub fn read(&mut self, json: &Value) -> Result<(), String> {
        match kind(json) {
            "" if json.is_null() => {}
            "Sequence" => {
                let inner = json["pretokenizers"].as_array().ok_or_else(|| other("pre_tokenizer", json))?;
                inner.iter().try_for_each(|json| self.read(json))?;
            }
            "ByteLevel" => {
                self.bytes = true;
                self.marked |= json["add_prefix_space"].as_bool() == Some(true);
                if json["use_regex"].as_bool() != Some(false) {
                    if !self.cuts.is_empty() {
                        return Err("its pre_tokenizer cuts twice, which is not read".into());
                    }
                    self.cuts.push(Cut::Pattern(Split::Gpt2));
                }
            }
            // Gemma's: there is nothing left to cut.
            "Split" if self.no_blanks && json["pattern"]["String"].as_str() == Some(" ") => {}
            "Split" => {
                let isolated =
                    json["behavior"].as_str() == Some("Isolated") && json["invert"].as_bool() != Some(true);
                let pattern = json["pattern"]["Regex"].as_str().unwrap_or_default();
                let known = Split::of(pattern).filter(|_| self.cuts.is_empty() && !self.bytes && isolated);
                let split = known.ok_or_else(|| {
                    format!("its pre_tokenizer cuts by the pattern {pattern:?}, which is not read")
                })?;
                self.cuts.push(Cut::Pattern(split));
            }
            "WhitespaceSplit" => self.cuts.push(Cut::WhitespaceSplit),
            "Whitespace" => self.cuts.push(Cut::Whitespace),
            "BertPreTokenizer" => self.cuts.push(Cut::Bert),
            "Punctuation" if matches!(json["behavior"].as_str(), None | Some("Isolated")) => {
                self.cuts.push(Cut::Punctuation);
            }
            "Digits" => {
                self.cuts.push(Cut::Digits { each: json["individual_digits"].as_bool() == Some(true) });
            }
            "Metaspace" => {
                let mark = json["replacement"].as_str().unwrap_or("\u{2581}").to_owned();
                let prepend = match (json["prepend_scheme"].as_str(), json["add_prefix_space"].as_bool()) {
                    (Some("never"), _) | (None, Some(false)) => Prepend::Never,
                    (Some("first"), _) => Prepend::First,
                    _ => Prepend::Always,
                };
                let split = json["split"].as_bool() != Some(false);
                self.cuts.push(Cut::Metaspace { mark, prepend, split });
            }
            _ => return Err(other("pre_tokenizer", json)),
        }
        Ok(())
    }

    /// The mark that words start with, and whether the first does.
    pub fn mark(&self) -> Option<(&str, bool)> {
        self.cuts.iter().find_map(|cut| match cut {
            Cut::Metaspace { mark, prepend, .. } => Some((&**mark, *prepend != Prepend::Never)),
            _ => None,
        })
    }

    /// Calls `each` with the parts of a text, which is the `first` of its sentence or not.
    pub fn parts(&self, text: &str, first: bool, each: &mut dyn FnMut(&str)) {
        parts(&self.cuts, text, first, each);
    }
}

fn parts(cuts: &[Cut], text: &str, first: bool, each: &mut dyn FnMut(&str)) {
    if text.is_empty() {
        return;
    }
    let Some((cut, rest)) = cuts.split_first() else { return each(text) };
    // Only the part at the beginning of the text is its first.
    let mut start = 0;
    let mut next = |part: &str, at: usize| parts(rest, part, first && at == 0, each);
    match cut {
        Cut::Pattern(split) => split.parts(text, |part| {
            next(part, start);
            start += part.len();
        }),
        Cut::WhitespaceSplit => isolate(text, |c| class(c, char::is_whitespace, |_| false), &mut next),
        Cut::Whitespace => {
            isolate(
                text,
                |c| match c {
                    c if c.is_whitespace() => Class::Gone,
                    c if is_word(c) => Class::Run(0),
                    _ => Class::Run(1),
                },
                &mut next,
            );
        }
        Cut::Bert => isolate(text, |c| class(c, char::is_whitespace, is_punctuation), &mut next),
        Cut::Punctuation => isolate(text, |c| class(c, |_| false, is_punctuation), &mut next),
        Cut::Digits { each: true } => isolate(text, |c| class(c, |_| false, char::is_numeric), &mut next),
        Cut::Digits { each: false } => {
            isolate(text, |c| Class::Run(u8::from(c.is_numeric())), &mut next);
        }
        Cut::Metaspace { mark, prepend, split } => {
            let mut text = text.replace(' ', mark);
            let wanted = *prepend == Prepend::Always || *prepend == Prepend::First && first;
            if wanted && !text.starts_with(&**mark) {
                text.insert_str(0, mark);
            }
            if !split {
                return next(&text, 0);
            }
            while start < text.len() {
                // From one mark to the next.
                let from = start + text[start..].chars().next().map_or(1, char::len_utf8);
                let end = text[from..].find(&**mark).map_or(text.len(), |at| from + at);
                next(&text[start..end], start);
                start = end;
            }
        }
    }
}

/// What becomes of a character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Gone,
    Alone,
    /// With its neighbours of the same number.
    Run(u8),
}

fn class(c: char, gone: impl Fn(char) -> bool, alone: impl Fn(char) -> bool) -> Class {
    match c {
        c if gone(c) => Class::Gone,
        c if alone(c) => Class::Alone,
        _ => Class::Run(0),
    }
}

fn isolate(text: &str, class: impl Fn(char) -> Class, next: &mut dyn FnMut(&str, usize)) {
    let mut start = None;
    let mut last = Class::Gone;
    for (at, c) in text.char_indices() {
        let this = class(c);
        if let (Some(from), true) = (start, this != last || this == Class::Alone) {
            next(&text[from..at], from);
            start = None;
        }
        if this != Class::Gone {
            start.get_or_insert(at);
        }
        last = this;
    }
    if let Some(from) = start {
        next(&text[from..], from);
    }
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// `\w` of Unicode's regular expressions.
fn is_word(c: char) -> bool {
    let mark = || c.general_category_group() == GeneralCategoryGroup::Mark;
    let category = || {
        matches!(c.general_category(), GeneralCategory::DecimalNumber | GeneralCategory::ConnectorPunctuation)
    };
    c.is_alphabetic() || matches!(c, '\u{200c}' | '\u{200d}') || category() || mark()
}
