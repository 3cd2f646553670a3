//! Aligned examples: what was said, what was heard before and after.

use std::fmt::Write;

use super::Example;
use super::svg::escape;
use crate::eval::Edit;

/// One row of an alignment: what stands in each column, and how it is to look.
struct Column {
    said: Option<Vec<u8>>,
    /// What was heard before and after; `None` for nothing.
    heard: [Option<Vec<u8>>; 2],
    wrong: [bool; 2],
}

/// The examples as figures with aligned columns.
pub fn list(examples: &[Example]) -> String {
    examples.iter().map(one).collect()
}

fn one(example: &Example) -> String {
    let errors = |edits: &[Edit]| edits.iter().filter(|edit| !matches!(edit, Edit::Correct(_))).count();
    let (before, after) = (errors(&example.before), errors(&example.after));
    let (class, word) = match after.cmp(&before) {
        std::cmp::Ordering::Less => ("win", "better"),
        std::cmp::Ordering::Greater => ("loss", "worse"),
        std::cmp::Ordering::Equal => ("even", "as many errors"),
    };
    let mut out = String::new();
    let rank = example.rank.map(|rank| format!(", rank {rank} of the first pass")).unwrap_or_default();
    let plural = |n: usize| if n == 1 { "error" } else { "errors" };
    let _ = write!(
        out,
        "<article class=\"example {class}\"><h4><span class=\"badge\">{word}</span> \
         <code>{}</code> <small>{before} {} \u{2192} {after}{rank}</small></h4><div class=\"words\">",
        escape(&example.id),
        plural(before)
    );
    // Each column stands alone, so that long sentences wrap with all three rows together.
    out.push_str("<span class=\"col head\"><b>said</b><b>before</b><b>after</b></span>");
    for column in columns(&example.before, &example.after) {
        let cell = |word: &Option<Vec<u8>>, wrong: bool, other: bool| {
            let class = match (wrong, other) {
                (true, false) => " class=\"lost\"",
                (true, true) => " class=\"wrong\"",
                (false, true) => " class=\"won\"",
                (false, false) => "",
            };
            match word {
                Some(word) => format!("<i{class}>{}</i>", escape(word)),
                None if wrong => format!("<i{class}>\u{2205}</i>"),
                // What was inserted is gone.
                None if other => "<i class=\"won none\">\u{b7}</i>".to_owned(),
                None => "<i class=\"none\">\u{b7}</i>".to_owned(),
            }
        };
        let said = match &column.said {
            Some(word) => format!("<i>{}</i>", escape(word)),
            None => "<i class=\"none\">\u{b7}</i>".to_owned(),
        };
        let [before, after] = column.wrong;
        // Before: wrong and mended later is a plain error; the colour of change is for the row after.
        let first = cell(&column.heard[0], before, before);
        let second = cell(&column.heard[1], after, before);
        let changed = if before != after { " changed" } else { "" };
        let _ = write!(out, "<span class=\"col{changed}\">{said}{first}{second}</span>");
    }
    out.push_str("</div></article>");
    out
}

/// Both alignments side by side: one column for each word of the reference, and for words inserted
/// before it by either.
fn columns(before: &[Edit], after: &[Edit]) -> Vec<Column> {
    let mut out = Vec::new();
    let (mut a, mut b) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let inserted = |edits: &mut std::iter::Peekable<std::slice::Iter<'_, Edit>>| match edits
            .next_if(|edit| matches!(edit, Edit::Insertion(_)))
        {
            Some(Edit::Insertion(word)) => Some(word.clone()),
            _ => None,
        };
        let heard = [inserted(&mut a), inserted(&mut b)];
        if heard.iter().any(Option::is_some) {
            let wrong = [heard[0].is_some(), heard[1].is_some()];
            out.push(Column { said: None, heard, wrong });
            continue;
        }
        let (Some(x), Some(y)) = (a.next(), b.next()) else { return out };
        let heard = |edit: &Edit| match edit {
            Edit::Correct(word) | Edit::Substitution { hypothesis: word, .. } => Some(word.clone()),
            Edit::Deletion(_) | Edit::Insertion(_) => None,
        };
        let said = match x {
            Edit::Correct(word) | Edit::Deletion(word) | Edit::Substitution { reference: word, .. } => word,
            Edit::Insertion(word) => word,
        };
        let wrong = [x, y].map(|edit| !matches!(edit, Edit::Correct(_)));
        out.push(Column { said: Some(said.clone()), heard: [heard(x), heard(y)], wrong });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{Alignment, Scorer};

    #[test]
    fn columns_hold_both_alignments() {
        let scorer = Scorer::words().alignment(Alignment::Sclite);
        let reference = b"a b c";
        let columns = columns(&scorer.align(reference, b"x a c"), &scorer.align(reference, b"a b c y z"));
        let shown: Vec<String> = columns
            .iter()
            .map(|column| {
                let text = |word: &Option<Vec<u8>>| {
                    word.as_ref().map_or("-".into(), |word| String::from_utf8_lossy(word).into_owned())
                };
                format!("{}{}{}", text(&column.said), text(&column.heard[0]), text(&column.heard[1]))
            })
            .collect();
        assert_eq!(shown, ["-x-", "aaa", "b-b", "ccc", "--y", "--z"]);
        assert_eq!(columns[2].wrong, [true, false]);
    }
}
