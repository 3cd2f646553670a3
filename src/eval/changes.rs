//! What a change of system corrected, and what it broke, word by word.

use std::collections::HashMap;

use super::wer::Edit;

/// Words that changed between two systems, over any number of utterances.
///
/// ```
/// use secondpass::eval::{Changes, Scorer};
/// let scorer = Scorer::words();
/// let mut changes = Changes::default();
/// let reference = b"a cat sat down";
/// changes.add(&scorer.align(reference, b"a cat sad down"), &scorer.align(reference, b"the cat sat down"));
/// assert_eq!((changes.corrected, changes.broken), (1, 1));
/// assert_eq!(changes.most(true, 1)[0].heard, b"sad");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Words of the reference that were wrong and are right.
    pub corrected: u64,
    /// Words of the reference that were right and are wrong.
    pub broken: u64,
    /// Inserted words that went.
    pub removed: u64,
    /// Inserted words that came.
    pub added: u64,
    /// Utterances with fewer errors than before.
    pub better: u64,
    /// Utterances with more errors than before.
    pub worse: u64,
    /// Utterances with as many errors as before, and others.
    pub other: u64,
    words: HashMap<(bool, Vec<u8>, Vec<u8>), u64>,
}

/// A word and what was heard for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// How often.
    pub count: u64,
    /// What was said.
    pub said: Vec<u8>,
    /// What was heard where it was wrong; empty for nothing.
    pub heard: Vec<u8>,
}

impl Changes {
    /// Adds an utterance: the alignments of both systems with the same reference.
    pub fn add(&mut self, before: &[Edit], after: &[Edit]) {
        let errors = |edits: &[Edit]| edits.iter().filter(|edit| !matches!(edit, Edit::Correct(_))).count();
        match errors(after).cmp(&errors(before)) {
            std::cmp::Ordering::Less => self.better += 1,
            std::cmp::Ordering::Greater => self.worse += 1,
            std::cmp::Ordering::Equal => self.other += u64::from(before != after),
        }
        let inserted =
            |edits: &[Edit]| edits.iter().filter(|edit| matches!(edit, Edit::Insertion(_))).count() as u64;
        self.removed += inserted(before).saturating_sub(inserted(after));
        self.added += inserted(after).saturating_sub(inserted(before));
        for (before, after) in said(before).zip(said(after)) {
            let (corrected, heard) = match (before, after) {
                ((_, Some(heard)), (_, None)) => (true, heard),
                ((_, None), (_, Some(heard))) => (false, heard),
                _ => continue,
            };
            self.corrected += u64::from(corrected);
            self.broken += u64::from(!corrected);
            *self.words.entry((corrected, before.0.to_vec(), heard.to_vec())).or_default() += 1;
        }
    }

    /// The most frequent changes: corrected or broken. On equal counts in the order of the bytes.
    pub fn most(&self, corrected: bool, count: usize) -> Vec<Change> {
        let all = self.words.iter().filter(|((which, ..), _)| *which == corrected);
        let change = |((_, said, heard), &count): (&(bool, Vec<u8>, Vec<u8>), &u64)| Change {
            count,
            said: said.clone(),
            heard: heard.clone(),
        };
        let mut all: Vec<Change> = all.map(change).collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.cmp(b)));
        all.truncate(count);
        all
    }
}

/// The words of the reference, each with what was heard for it if that is wrong.
fn said(edits: &[Edit]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    edits.iter().filter_map(|edit| match edit {
        Edit::Correct(word) => Some((&word[..], None)),
        Edit::Substitution { reference, hypothesis } => Some((&reference[..], Some(&hypothesis[..]))),
        Edit::Deletion(word) => Some((&word[..], Some(&b""[..]))),
        Edit::Insertion(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::wer::Scorer;
    use super::*;

    #[test]
    fn words_and_utterances_are_counted() {
        let scorer = Scorer::words();
        let mut changes = Changes::default();
        for [reference, before, after] in [
            ["a b c", "a x c", "a b c"],
            ["a b c", "a x c", "a b c"],
            ["a b", "a b", "a"],
            ["a", "a z", "a"],
            ["a b", "x b", "y b"],
            ["a", "a", "a"],
        ] {
            let [reference, before, after] = [reference, before, after].map(str::as_bytes);
            changes.add(&scorer.align(reference, before), &scorer.align(reference, after));
        }
        let Changes { corrected, broken, removed, added, better, worse, other, .. } = changes;
        assert_eq!((corrected, broken, removed, added, better, worse, other), (2, 1, 1, 0, 3, 1, 1));
        let word = |count, said: &str, heard: &str| Change { count, said: said.into(), heard: heard.into() };
        assert_eq!(changes.most(true, 9), [word(2, "b", "x")]);
        assert_eq!(changes.most(false, 9), [word(1, "b", "")]);
        assert!(changes.most(true, 0).is_empty());
    }
}
