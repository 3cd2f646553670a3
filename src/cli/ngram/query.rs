//! `secondpass ngram query`: scores of text, printed as KenLM's `query` prints them.

use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;

use super::output;
use crate::cli::End;
use crate::cli::files;
use crate::cli::load::Loading;
use crate::lm::ngram::{Ngram, State};
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
    /// An ARPA file or KenLM binary
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
    state: State,
    next: State,
    /// What came of the word that a chunk ended in.
    word: Vec<u8>,
    /// Whether the line has begun.
    begun: bool,
    line: Line,
    total: f64,
    unknown_total: f64,
    unknown: u64,
    tokens: u64,
    out: Vec<u8>,
}

#[derive(Default)]
struct Line {
    total: f32,
    unknown: u64,
}

impl<'a> Query<'a> {
    fn new(model: &'a Ngram, sentences: bool, verbosity: Verbosity) -> Self {
        let start = if sentences { model.begin() } else { State::default() };
        Self {
            model,
            sentences,
            verbosity,
            state: start.clone(),
            start,
            next: State::default(),
            word: Vec::new(),
            begun: false,
            line: Line::default(),
            total: 0.0,
            unknown_total: 0.0,
            unknown: 0,
            tokens: 0,
            out: Vec::new(),
        }
    }

    /// Scores what is complete of the text so far.
    fn feed(&mut self, mut text: &[u8]) -> Result<()> {
        while let Some(end) = text.iter().position(|&byte| separates(byte)) {
            let (word, rest) = text.split_at(end);
            if self.word.is_empty() {
                self.word(word);
            } else {
                let mut whole = std::mem::take(&mut self.word);
                whole.extend_from_slice(word);
                self.word(&whole);
                whole.clear();
                self.word = whole;
            }
            if rest[0] == b'\n' {
                self.end_line();
            }
            text = &rest[1..];
        }
        self.word.extend_from_slice(text);
        if self.word.len() > MOST_WORD_BYTES {
            let got = self.word.len() as u64;
            return Err(Error::Limit { what: "a word's bytes".into(), limit: MOST_WORD_BYTES as u64, got });
        }
        Ok(())
    }

    fn finish(&mut self) {
        let last = std::mem::take(&mut self.word);
        self.word(&last);
        if self.begun {
            self.end_line();
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

    fn word(&mut self, word: &[u8]) {
        if !word.is_empty() {
            self.begun = true;
            self.score(word, self.model.words().id(word));
        }
    }

    fn score(&mut self, word: &[u8], id: u32) {
        let full = self.model.full_score(&self.state, id, &mut self.next);
        std::mem::swap(&mut self.state, &mut self.next);
        self.tokens += 1;
        self.line.total += full.log10;
        if id == 0 {
            self.line.unknown += 1;
            self.unknown_total += f64::from(full.log10);
        }
        if self.verbosity == Verbosity::Word {
            self.out.extend_from_slice(word);
            // Writing to memory does not fail.
            let _ = write!(self.out, "={id} {} ", full.length);
            number(&mut self.out, format_args!("{:e}", full.log10));
            self.out.push(b'\t');
        }
    }

    fn end_line(&mut self) {
        if self.sentences {
            self.score(b"</s>", self.model.words().eos());
        }
        let line = std::mem::take(&mut self.line);
        if self.verbosity >= Verbosity::Sentence {
            self.out.extend_from_slice(b"Total: ");
            number(&mut self.out, format_args!("{:e}", line.total));
            let _ = writeln!(self.out, " OOV: {}", line.unknown);
        }
        self.total += f64::from(line.total);
        self.unknown += line.unknown;
        self.state.clone_from(&self.start);
        self.begun = false;
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

const MOST_WORD_BYTES: usize = 16 << 20;

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
