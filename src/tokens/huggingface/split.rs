//! How texts are cut before byte pair encoding: the patterns of the models in the field, by hand.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// A pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// GPT-2's.
    Gpt2,
    /// That of cl100k and its kin, with at most so many digits in a number.
    Cl100k(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

impl Split {
    /// The pattern spelled out in a `tokenizer.json`, if it is one of these.
    pub fn of(pattern: &str) -> Option<Self> {
        let kin = |digits: &str| {
            format!(
                "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{{L}}\\p{{N}}]?\\p{{L}}+|{digits}| ?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n]*|\
                 \\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
            )
        };
        let gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
        match pattern {
            _ if pattern == gpt2 => Some(Self::Gpt2),
            _ if pattern == kin(r"\p{N}{1,3}") => Some(Self::Cl100k(3)),
            _ if pattern == kin(r"\p{N}") => Some(Self::Cl100k(1)),
            _ => None,
        }
    }

    /// Calls `each` with the parts of a text without line ends.
    pub fn parts<'a>(self, text: &'a str, mut each: impl FnMut(&'a str)) {
        let mut rest = text;
        while !rest.is_empty() {
            let len = match self {
                Self::Gpt2 => gpt2(rest),
                Self::Cl100k(digits) => cl100k(rest, digits),
            };
            // A match is never empty.
            let (part, tail) = rest.split_at(len.max(1));
            each(part);
            rest = tail;
        }
    }
}

fn gpt2(text: &str) -> usize {
    if let Some(len) = contraction(text, false) {
        return len;
    }
    let inner = text.strip_prefix(' ').unwrap_or(text);
    match inner.chars().next().map(class) {
        Some(class) if class != Class::Space => text.len() - inner.len() + run(inner, class, usize::MAX),
        _ => spaces(text),
    }
}

fn cl100k(text: &str, digits: usize) -> usize {
    if let Some(len) = contraction(text, true) {
        return len;
    }
    let mut chars = text.chars();
    let (Some(first), second) = (chars.next(), chars.next()) else { return 0 };
    let letter = |c: Option<char>| c.is_some_and(|c| class(c) == Class::Letter);
    match class(first) {
        Class::Letter => run(text, Class::Letter, usize::MAX),
        Class::Number => run(text, Class::Number, digits),
        _ if letter(second) => first.len_utf8() + run(&text[first.len_utf8()..], Class::Letter, usize::MAX),
        Class::Other => run(text, Class::Other, usize::MAX),
        Class::Space if first == ' ' && second.is_some_and(|c| class(c) == Class::Other) => {
            1 + run(&text[1..], Class::Other, usize::MAX)
        }
        Class::Space => spaces(text),
    }
}

/// The length of `'s`, `'re` and so on.
fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let matches = |ending: &str| {
        let mut given = rest.chars();
        ending.chars().all(|wanted| {
            given.next().is_some_and(|c| {
                // The long s is an s in another case.
                c == wanted
                    || any_case && (c.eq_ignore_ascii_case(&wanted) || c == '\u{17f}' && wanted == 's')
            })
        })
    };
    let ending = ["s", "t", "re", "ve", "m", "ll", "d"].into_iter().find(|ending| matches(ending))?;
    Some(1 + rest.chars().take(ending.len()).map(char::len_utf8).sum::<usize>())
}

/// White space, but for the last if something follows it.
fn spaces(text: &str) -> usize {
    let all = run(text, Class::Space, usize::MAX);
    match text[..all].chars().next_back() {
        Some(last) if all < text.len() && all > last.len_utf8() => all - last.len_utf8(),
        _ => all,
    }
}

fn run(text: &str, wanted: Class, most: usize) -> usize {
    text.chars().take_while(|&c| class(c) == wanted).take(most).map(char::len_utf8).sum()
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Number,
        c if c.is_whitespace() => Class::Space,
        c => match c.general_category_group() {
            GeneralCategoryGroup::Letter => Class::Letter,
            GeneralCategoryGroup::Number => Class::Number,
            _ => Class::Other,
        },
    }
}
