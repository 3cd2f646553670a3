//! `secondpass ngram query`: scores of text, printed as KenLM's `query` prints them.

use std::io::{BufWriter, Read, Write};
use std::ops::Range;
use std::path::PathBuf;

use super::output;
use crate::cli::End;
use crate::cli::files;
use crate::cli::load::Loading;
use crate::lm::ngram::{Full, Ngram, State};
use crate::tokens::Vocab;
use crate::{Error, Result};

/// Print the log10 probabilities of text, as KenLM's `query` does
///
/// Each word as WORD=ID LENGTH LOG10, a tab after it; each line's total and its number of unknown
/// words; perplexities at the end. LENGTH is that of the n-gram that matched. Words are split at
/// white space. A last line without its end counts like the others (in KenLM's `query` it has no
/// total).
#[derive(clap::Args, Debug)]
pub struct Args {
    /// An ARPA, KenLM or compact file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Text, one sentence a line; - for standard input
    #[arg(value_name = "TEXT", default_value = "-")]
    text: PathBuf,
    /// Lines are no sentences: neither <s> nor </s>
    #[arg(short, long)]
    no_sentence: bool,
    /// How much is printed; each of the three includes the next
    #[arg(short, long, value_name = "HOW", default_value = "word")]
    verbosity: Verbosity,
    /// How KenLM's binaries come into memory
    #[arg(short, long, value_name = "HOW", default_value = "read")]
    load: Loading,
}

/// `--verbosity`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Verbosity {
    /// Perplexities and counts
    #[value(alias = "0")]
    Summary,
    /// Totals of lines
    #[value(alias = "1")]
    Sentence,
    /// Each word
    #[value(alias = "2")]
    Word,
}

/// Scores the text.
pub fn run(arguments: &Args) -> Result<End> {
    let model = Ngram::open(&arguments.model, &arguments.load.options())?;
    let mut text = files::input(&arguments.text)?;
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut query = Query::new(&model, !arguments.no_sentence, arguments.verbosity);
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = match text.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io(&arguments.text, error)),
        };
        if read == 0 {
            break;
        }
        query.feed(&chunk[..read])?;
        out.write_all(&query.out).and_then(|()| out.flush()).map_err(output)?;
        query.out.clear();
    }
    query.finish();
    out.write_all(&query.out).and_then(|()| out.flush()).map_err(output)?;
    Ok(End::Done)
}

/// A text in the middle of being scored.
struct Query<'a> {
    model: &'a Ngram,
    sentences: bool,
    verbosity: Verbosity,
    start: State,
    /// The line that the text so far ends in.
    rest: Vec<u8>,
    batch: Batch,
    total: f64,
    unknown_total: f64,
    unknown: u64,
    tokens: u64,
    out: Vec<u8>,
}

/// Lines that are scored together.
#[derive(Default)]
struct Batch {
    /// All their words, `</s>` among them.
    ids: Vec<u32>,
    spans: Vec<Range<usize>>,
    /// Where each line's words end.
    ends: Vec<usize>,
    scores: Vec<Full>,
}

impl<'a> Query<'a> {
    fn new(model: &'a Ngram, sentences: bool, verbosity: Verbosity) -> Self {
        Self {
            model,
            sentences,
            verbosity,
            start: if sentences { model.begin() } else { State::default() },
            rest: Vec::new(),
            batch: Batch::default(),
            total: 0.0,
            unknown_total: 0.0,
            unknown: 0,
            tokens: 0,
            out: Vec::new(),
        }
    }

    /// Scores the lines that are complete.
    fn feed(&mut self, text: &[u8]) -> Result<()> {
        let Some(end) = memchr::memrchr(b'\n', text) else {
            self.rest.extend_from_slice(text);
            let got = self.rest.len() as u64;
            if got > MOST_LINE_BYTES {
                let what = "a line's bytes".into();
                return Err(Error::Limit { what, limit: MOST_LINE_BYTES, got });
            }
            return Ok(());
        };
        let (lines, rest) = text.split_at(end + 1);
        if self.rest.is_empty() {
            self.lines(lines);
        } else {
            let mut whole = std::mem::take(&mut self.rest);
            whole.extend_from_slice(lines);
            self.lines(&whole);
        }
        self.rest.extend_from_slice(rest);
        Ok(())
    }

    fn finish(&mut self) {
        let mut last = std::mem::take(&mut self.rest);
        if last.iter().any(|&byte| !separates(byte)) {
            last.push(b'\n');
            self.lines(&last);
        }
        let perplexity = |total: f64, tokens: u64| 10f64.powf(-(total / tokens as f64));
        let including = perplexity(self.total, self.tokens);
        let excluding = perplexity(self.total - self.unknown_total, self.tokens - self.unknown);
        self.out.extend_from_slice(b"Perplexity including OOVs:\t");
        number(&mut self.out, format_args!("{including:e}"));
        self.out.extend_from_slice(b"\nPerplexity excluding OOVs:\t");
        number(&mut self.out, format_args!("{excluding:e}"));
        let counts = format!("\nOOVs:\t{}\nTokens:\t{}\n", self.unknown, self.tokens);
        self.out.extend_from_slice(counts.as_bytes());
    }

    /// Scores whole lines.
    fn lines(&mut self, text: &[u8]) {
        let mut batch = std::mem::take(&mut self.batch);
        batch.fill(text, self.model, self.sentences);
        batch.score(self.model, &self.start);
        let mut first = 0;
        for &end in &batch.ends {
            self.line(text, &batch, first..end);
            first = end;
        }
        self.batch = batch;
    }

    fn line(&mut self, text: &[u8], batch: &Batch, words: Range<usize>) {
        let mut total = 0.0f32;
        let mut unknown = 0;
        self.tokens += words.len() as u64;
        for at in words {
            let (id, full) = (batch.ids[at], &batch.scores[at]);
            total += full.log10;
            if id == 0 {
                unknown += 1;
                self.unknown_total += f64::from(full.log10);
            }
            if self.verbosity == Verbosity::Word {
                let span = batch.spans[at].clone();
                self.out.extend_from_slice(if span.is_empty() { b"</s>" } else { &text[span] });
                // Writing to memory does not fail.
                let _ = write!(self.out, "={id} {} ", full.length);
                number(&mut self.out, format_args!("{:e}", full.log10));
                self.out.push(b'\t');
            }
        }
        if self.verbosity >= Verbosity::Sentence {
            self.out.extend_from_slice(b"Total: ");
            number(&mut self.out, format_args!("{total:e}"));
            let _ = writeln!(self.out, " OOV: {unknown}");
        }
        self.total += f64::from(total);
        self.unknown += unknown;
    }
}

impl Batch {
    /// The words of lines; those that end a sentence have an empty span.
    fn fill(&mut self, text: &[u8], model: &Ngram, sentences: bool) {
        self.ids.clear();
        self.spans.clear();
        self.ends.clear();
        let mut start = 0;
        for (end, &byte) in text.iter().enumerate().filter(|(_, byte)| separates(**byte)) {
            if start < end {
                self.spans.push(start..end);
            }
            start = end + 1;
            if byte == b'\n' {
                if sentences {
                    self.spans.push(end..end);
                }
                self.ends.push(self.spans.len());
            }
        }
        let words = self.spans.iter().map(|span| &text[span.clone()]);
        model.words().ids(words, &mut self.ids);
        if sentences {
            let eos = model.words().eos();
            self.ends.iter().for_each(|&end| self.ids[end - 1] = eos);
        }
    }

    fn score(&mut self, model: &Ngram, start: &State) {
        let nothing = Full { log10: 0.0, length: 0, rest: 0.0, independent_left: false };
        self.scores.clear();
        self.scores.resize(self.ids.len(), nothing);
        let starts: Vec<usize> = std::iter::once(0).chain(self.ends.iter().copied()).collect();
        let lines: Vec<&[u32]> =
            starts.iter().zip(&self.ends).map(|(&start, &end)| &self.ids[start..end]).collect();
        let scores = &mut self.scores;
        model.score_batch(start, &lines, |line, word, full| scores[starts[line] + word] = full);
    }
}

fn separates(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | b' ')
}

/// The shortest digits that read back as the same number, given as `{:e}` writes them; with an
/// exponent below 1e-6 and from 1e21 on.
fn number(out: &mut Vec<u8>, scientific: std::fmt::Arguments<'_>) {
    let start = out.len();
    let _ = write!(out, "{scientific}");
    let Some(e) = out[start..].iter().position(|&byte| byte == b'e') else { return };
    let text = out.split_off(start);
    let (mantissa, exponent) = (&text[..e], &text[e + 1..]);
    let exponent: i32 = std::str::from_utf8(exponent).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    if !(-6..21).contains(&exponent) {
        return out.extend_from_slice(&text);
    }
    let digits = mantissa.strip_prefix(b"-").unwrap_or(mantissa);
    out.extend_from_slice(&mantissa[..mantissa.len() - digits.len()]);
    let digits: Vec<u8> = digits.iter().copied().filter(|&byte| byte != b'.').collect();
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        return out.extend_from_slice(&digits);
    }
    let whole = exponent as usize + 1;
    let (before, after) = digits.split_at(whole.min(digits.len()));
    out.extend_from_slice(before);
    out.extend(std::iter::repeat_n(b'0', whole - before.len()));
    if !after.is_empty() {
        out.push(b'.');
        out.extend_from_slice(after);
    }
}

const MOST_LINE_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_kenlms_do() {
        let shown = |value: f32| {
            let mut out = Vec::new();
            number(&mut out, format_args!("{value:e}"));
            String::from_utf8(out).unwrap()
        };
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (-20.0, "-20"),
            (-100.0, "-100"),
            (-2.1028454, "-2.1028454"),
            (-0.01552657, "-0.01552657"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (-1.5e-7, "-1.5e-7"),
            (1e20, "100000000000000000000"),
            (1e21, "1e21"),
            (123456.78, "123456.78"),
            (f32::INFINITY, "inf"),
            (f32::NEG_INFINITY, "-inf"),
            (f32::NAN, "NaN"),
        ] {
            assert_eq!(shown(value), expected);
        }
    }
}
