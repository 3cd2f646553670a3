//! The ARPA format: n-grams with log10 probabilities and backoffs as text.
//!
//! Accepts what KenLM accepts, and besides: models of single words only, text before `\data\`, a
//! byte order mark, blanks at line ends. Refuses what KenLM takes but nobody means: words or
//! n-grams listed twice, negative counts, NUL inside words, text glued to a number, an n-gram
//! spread over several lines.

use std::path::Path;

use super::input::{Lines, foreign};
pub(crate) use super::line::shown;
use super::line::{Last, backoff, is_blank, probability, skip_blanks, split_word, word_at};
use super::list::Key;
use super::vocab::{Words, is_unk};
use crate::{Error, Result};

/// Orders above this are refused; none was ever seen.
pub(crate) const MAX_ORDER: usize = 32;

/// Takes an ARPA file's n-grams in the order of the file. Values are log10.
pub(crate) trait Sink {
    /// The counts that the file claims, per order. Nothing may be allocated on their word alone:
    /// `bytes` is the size of the file, where known.
    fn counts(&mut self, counts: &[u64], bytes: Option<u64>);

    /// A word. Ids come in order, but 0 (`<unk>`) anywhere, any number of times or not at all.
    fn unigram(&mut self, id: u32, prob: f32, backoff: f32);

    /// An n-gram of two or more words, the predicted one last, from a line of the file.
    ///
    /// # Errors
    /// What is wrong with it, or with one before it: a sink may take a while to look.
    fn ngram(&mut self, line: u64, words: &[u32], prob: f32, backoff: f32) -> Result<(), Fault>;

    /// The n-grams of one order are complete.
    ///
    /// # Errors
    /// As [`Sink::ngram`].
    fn settle(&mut self) -> Result<(), Fault>;
}

/// What is wrong with a line that was passed already.
pub(crate) struct Fault {
    pub(crate) line: u64,
    pub(crate) what: String,
}

/// Reads a whole file; returns how often the unknown word was listed (`<unk>` and `<UNK>` are one).
///
/// # Errors
/// At the first line that is not as it should be; the message names the line.
pub(crate) fn read(lines: &mut Lines, words: &mut Words, sink: &mut impl Sink) -> Result<u32> {
    let counts = head(lines)?;
    sink.counts(&counts, lines.size());
    body(lines, &counts, words, sink)
}

/// Calls `each` with every n-gram of an ARPA file, plain or packed, in the order of the file: the ids of
/// its words, the predicted one last, its log10 probability and its log10 backoff (0 where it has
/// none). Returns the words, which ids are of. Takes memory for the words alone.
///
/// # Errors
/// If the file cannot be read or is not as it should be; the message says where. Words that n-grams have
/// and the file does not list are found out, n-grams that are listed twice and missing contexts are
/// not: [`Ngram::open`](super::Ngram::open) finds those.
///
/// # Examples
/// ```
/// # let file = tempfile::NamedTempFile::new()?;
/// # std::fs::write(&file, "\\data\\\nngram 1=3\n\n\\1-grams:\n-99\t<s>\n-0.5\t</s>\n-0.25\ta\n\n\\end\\\n")?;
/// let mut likely = Vec::new();
/// let words = secondpass::lm::ngram::read_arpa(file.path(), |ids, log10, _backoff| {
///     if log10 > -1.0 {
///         likely.push(ids.to_vec());
///     }
/// })?;
/// assert_eq!(words.word(likely[1][0]), Some(&b"a"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_arpa(path: impl AsRef<Path>, each: impl FnMut(&[u32], f32, f32)) -> Result<Words> {
    let mut words = Words::new();
    read(&mut Lines::open(path.as_ref())?, &mut words, &mut Visitor(each))?;
    Ok(words)
}

struct Visitor<F>(F);

impl<F: FnMut(&[u32], f32, f32)> Sink for Visitor<F> {
    fn counts(&mut self, _counts: &[u64], _bytes: Option<u64>) {}

    fn unigram(&mut self, id: u32, prob: f32, backoff: f32) {
        self.0(&[id], prob, backoff);
    }

    fn ngram(&mut self, _line: u64, words: &[u32], prob: f32, backoff: f32) -> Result<(), Fault> {
        self.0(words, prob, backoff);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Reads the counts alone, which stand at the beginning.
///
/// # Errors
/// As [`read`].
pub(crate) fn head(lines: &mut Lines) -> Result<Vec<u64>> {
    find_data(lines)?;
    read_counts(lines)
}

/// Reads the rest; [`Sink::counts`] is not called. Returns what [`read`] returns.
///
/// # Errors
/// As [`read`].
pub(crate) fn body(
    lines: &mut Lines,
    counts: &[u64],
    words: &mut Words,
    sink: &mut impl Sink,
) -> Result<u32> {
    let unknowns = read_unigrams(lines, counts, words, sink)?;
    for order in 2..=counts.len() {
        read_ngrams(lines, order, counts, words, sink)?;
    }
    read_end(lines)?;
    Ok(unknowns)
}

/// The counts per order that a file claims.
///
/// # Errors
/// As [`read`].
pub(crate) fn counts(lines: &mut Lines) -> Result<Vec<u64>> {
    find_data(lines)?;
    read_counts(lines)
}

/// Skips to the line `\data\`; what comes before it is comment, as SRILM has it.
fn find_data(lines: &mut Lines) -> Result<()> {
    let mut skipped = 0;
    let mut first = true;
    while lines.advance()? {
        let mut line = lines.line();
        if first {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
            // Also here, because the file may have been packed.
            if let Some(what) = foreign(line) {
                return Err(lines.fail_whole(what));
            }
        }
        if line.trim_ascii_end() == b"\\data\\" {
            return Ok(());
        }
        skipped += line.len() + 1;
        if skipped > MAX_PREAMBLE {
            break;
        }
        first = false;
    }
    Err(lines.fail_whole(match skipped {
        0 => "is empty; check the path, or how the file was made",
        _ => "is not an ARPA file: there is no line \\data\\ near its beginning; check the path",
    }))
}

/// The lines `ngram N=COUNT`, up to a blank one.
fn read_counts(lines: &mut Lines) -> Result<Vec<u64>> {
    let mut counts = Vec::new();
    loop {
        if !lines.advance()? {
            return Err(ended(lines, "the counts"));
        }
        let line = lines.line();
        if is_blank(line) {
            break;
        }
        let expected = counts.len() + 1;
        counts.push(count(line, expected).map_err(|what| lines.fail(what))?);
        if counts.len() > MAX_ORDER {
            return Err(lines.fail(format!("the order is above {MAX_ORDER}; use a model of a lower order")));
        }
    }
    match counts.first() {
        None => Err(lines.fail("no `ngram 1=COUNT` follows \\data\\; check how the file was made")),
        Some(&words) if words >= u64::from(u32::MAX) - 1 => {
            Err(lines.fail(format!("{words} words are more than 32-bit ids can number")))
        }
        Some(_) => Ok(counts),
    }
}

fn count(line: &[u8], order: usize) -> Result<u64, String> {
    let wanted = || format!("expected `ngram {order}=COUNT` or a blank line, found {}", shown(line));
    let rest = line.strip_prefix(b"ngram ").ok_or_else(wanted)?.trim_ascii_start();
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = rest.split_at(digits);
    if ascii_number(number) != Some(order as u64) {
        return Err(wanted());
    }
    let rest = rest.strip_prefix(b"=").ok_or_else(wanted)?.trim_ascii_start();
    if rest.starts_with(b"-") {
        return Err(format!("a count cannot be negative: {}", shown(line)));
    }
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return Err(wanted());
    }
    ascii_number(&rest[..digits]).ok_or_else(|| format!("the count is too large: {}", shown(line)))
}

fn read_unigrams(lines: &mut Lines, counts: &[u64], words: &mut Words, sink: &mut impl Sink) -> Result<u32> {
    let highest = counts.len() == 1;
    let mut unknowns = 0;
    let mut unknown = Vec::new();
    header(lines, 1)?;
    for at in 0..counts[0] {
        next_entry(lines, 1, at, counts)?;
        let line = lines.line();
        let (prob, rest) = probability(line, 1, at, counts).map_err(|what| lines.fail(what))?;
        let rest = rest.strip_prefix(b"\t").unwrap_or_default();
        let (word, rest) = split_word(rest);
        if word.is_empty() {
            return Err(lines.fail(format!("expected a number, one tab and a word, found {}", shown(line))));
        }
        let backoff = backoff(rest, highest).map_err(|what| lines.fail(what))?;
        let id = if is_unk(word) {
            // The two spellings may both be there (the later line counts); the same one may not.
            if unknown == word {
                return Err(twice(lines, word));
            }
            unknown = word.to_vec();
            unknowns += 1;
            0
        } else if memchr::memchr(0, word).is_some() {
            return Err(lines.fail(format!("a NUL byte inside the word {}; clean the text", shown(word))));
        } else {
            words.insert(word).ok_or_else(|| twice(lines, word))?
        };
        sink.unigram(id, prob, backoff);
    }
    for special in ["<s>", "</s>"] {
        if words.find(special.as_bytes()).is_none() {
            return Err(
                lines.fail(format!("the 1-grams end without {special}; train the model with sentence ends"))
            );
        }
    }
    Ok(unknowns)
}

fn read_ngrams(
    lines: &mut Lines,
    order: usize,
    counts: &[u64],
    words: &Words,
    sink: &mut impl Sink,
) -> Result<()> {
    let mut block = Block::new(order);
    header(lines, order)?;
    for at in 0..counts[order - 1] {
        if !step_filled(lines) {
            block.settle(lines, words, sink)?;
            next_entry(lines, order, at, counts)?;
        }
        if let Err(what) = block.take(lines, at, counts, words) {
            // What is wrong in lines before it comes first.
            block.settle(lines, words, sink)?;
            return Err(lines.fail(what));
        }
        if block.entries.len() == BLOCK {
            block.settle(lines, words, sink)?;
        }
    }
    block.settle(lines, words, sink)?;
    sink.settle().map_err(|fault| lines.fail_at(fault.line, fault.what))
}

/// Lines whose words were not looked up yet: where these are in memory is random, so all are asked for
/// before the first is read.
struct Block {
    order: usize,
    entries: Vec<Entry>,
    /// Those of `entries`, and then those of a line that is no n-gram up to what is wrong with it.
    words: Vec<Sought>,
    last: [Last; MAX_ORDER],
    ids: [u32; MAX_ORDER],
}

struct Entry {
    line: u64,
    prob: f32,
    backoff: f32,
}

struct Sought {
    key: Key,
    start: usize,
    /// 0 if it is the word in the same place of the line before.
    length: usize,
}

impl Block {
    fn new(order: usize) -> Self {
        Self {
            order,
            entries: Vec::with_capacity(BLOCK),
            words: Vec::with_capacity(BLOCK * order),
            last: [Last::default(); MAX_ORDER],
            ids: [0; MAX_ORDER],
        }
    }

    /// Takes the current line. If something is wrong with it, [`Block::settle`] tells whether it is
    /// with a word before.
    fn take(&mut self, lines: &Lines, at: u64, counts: &[u64], words: &Words) -> Result<(), String> {
        let (line, padded) = (lines.line(), lines.padded());
        let (prob, mut rest) = probability(line, self.order, at, counts)?;
        for last in &mut self.last[..self.order] {
            let begin = line.len() - skip_blanks(rest).len();
            let (word, head) = word_at(padded, line.len(), begin);
            rest = &line[begin + word.len()..];
            if last.is(word, head) {
                self.words.push(Sought { key: Key::default(), start: 0, length: 0 });
                continue;
            }
            if word.is_empty() {
                return Err(format!("expected {} words, found {}", self.order, shown(line)));
            }
            *last = Last::new(word, head);
            let start = lines.start() + begin;
            self.words.push(Sought { key: words.seek(word, head), start, length: word.len() });
        }
        let backoff = backoff(rest, self.order == counts.len())?;
        self.entries.push(Entry { line: lines.number(), prob, backoff });
        Ok(())
    }

    /// Finds the words and gives the n-grams to `sink`.
    fn settle(&mut self, lines: &Lines, words: &Words, sink: &mut impl Sink) -> Result<()> {
        let ids = &mut self.ids[..self.order];
        let mut sought = self.words.iter();
        let find = |id: &mut u32, sought: &Sought, line: u64| {
            if sought.length == 0 {
                return Ok(());
            }
            let word = lines.bytes(sought.start..sought.start + sought.length);
            *id = words.find_by(&sought.key, word).ok_or_else(|| {
                let what = "is not among the 1-grams, which must list every word";
                lines.fail_at(line, format!("the word {} {what}", shown(word)))
            })?;
            Ok(())
        };
        for &Entry { line, prob, backoff } in &self.entries {
            for (id, sought) in ids.iter_mut().zip(&mut sought) {
                find(id, sought, line)?;
            }
            sink.ngram(line, ids, prob, backoff).map_err(|fault| lines.fail_at(fault.line, fault.what))?;
        }
        for (id, sought) in ids.iter_mut().zip(sought) {
            find(id, sought, lines.number())?;
        }
        self.entries.clear();
        self.words.clear();
        Ok(())
    }
}

/// The line `\N-grams:`.
fn header(lines: &mut Lines, order: usize) -> Result<()> {
    if !next_filled(lines)? {
        return Err(ended(lines, &format!("\\{order}-grams:")));
    }
    let line = lines.line();
    if line.trim_ascii_end() == format!("\\{order}-grams:").as_bytes() {
        return Ok(());
    }
    let hint = if order > 1 { "; are there more n-grams than \\data\\ says?" } else { "" };
    Err(lines.fail(format!("expected \\{order}-grams:, found {}{hint}", shown(line))))
}

fn read_end(lines: &mut Lines) -> Result<()> {
    if !next_filled(lines)? {
        return Err(ended(lines, "\\end\\"));
    }
    if lines.line().trim_ascii_end() != b"\\end\\" {
        let line = shown(lines.line());
        return Err(
            lines.fail(format!("expected \\end\\, found {line}; are there more n-grams than \\data\\ says?"))
        );
    }
    // To the end of the file, so that the checksums of packed ones are looked at.
    if next_filled(lines)? {
        return Err(lines.fail(format!("nothing may follow \\end\\, found {}", shown(lines.line()))));
    }
    Ok(())
}

fn next_entry(lines: &mut Lines, order: usize, at: u64, counts: &[u64]) -> Result<()> {
    if next_filled(lines)? {
        return Ok(());
    }
    let count = counts[order - 1];
    Err(ended(lines, &format!("{order}-gram {} of {count}", at + 1)))
}

/// Moves to the next line that is not blank.
fn next_filled(lines: &mut Lines) -> Result<bool> {
    while lines.advance()? {
        if !is_blank(lines.line()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The same if all of it is in memory; `false` as well if there is none.
fn step_filled(lines: &mut Lines) -> bool {
    while lines.step() {
        if !is_blank(lines.line()) {
            return true;
        }
    }
    false
}

fn ascii_number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn ended(lines: &Lines, wanted: &str) -> Error {
    lines.fail(format!("the file ends where {wanted} should come; it was cut short, copy or make it again"))
}

fn twice(lines: &Lines, word: &[u8]) -> Error {
    lines.fail(format!("the word {} is listed twice; remove one of them", shown(word)))
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const MAX_PREAMBLE: usize = 1 << 20;
/// More lines than a processor can have reads underway for.
const BLOCK: usize = 32;
