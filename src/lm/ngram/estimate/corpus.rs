//! Texts as word ids: read once, kept on disk in about two bytes a word.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::temporary::{self, Folder, Stored, Writer};
use super::watch::Watch;
use crate::lm::ngram::input;
use crate::lm::ngram::vocab::Words;
use crate::{Error, Result};

/// The id of `<s>`.
pub(super) const BOS: u32 = 1;
/// The id of `</s>`.
pub(super) const EOS: u32 = 2;

/// Which words a model keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Vocabulary {
    /// Every word of the text.
    #[default]
    All,
    /// Those of a list that occur in the text.
    Listed(HashSet<Vec<u8>>),
    /// The most frequent ones, this many (those that come first in the text, among equals), besides
    /// `<s>`, `</s>` and `<unk>`.
    MostFrequent(usize),
}

/// Words and what they say.
pub(super) struct Corpus {
    /// `<unk>`, `<s>`, `</s>`, then every word in the order in which they come.
    pub words: Words,
    frequencies: Vec<u64>,
    ids: Writer,
    /// Words, `</s>` after each sentence included.
    pub tokens: u64,
    pub sentences: u64,
    /// Bytes of all words.
    letters: u64,
    skip_symbols: bool,
    /// The beginning of a word whose end is in the next block.
    partial: Vec<u8>,
    line: u64,
    /// Whether the line has words.
    open: bool,
}

impl Vocabulary {
    /// A list of words separated by white space.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn listed(mut reader: impl Read) -> io::Result<Self> {
        let mut text = Vec::new();
        reader.read_to_end(&mut text)?;
        let words = text.split(|&byte| separates(byte)).filter(|word| !word.is_empty());
        Ok(Self::Listed(words.map(<[u8]>::to_vec).collect()))
    }
}

impl Corpus {
    /// No text yet. With `skip_symbols`, `<s>`, `</s>` and `<unk>` in texts are left out.
    pub fn new(folder: &Folder, skip_symbols: bool) -> Self {
        let mut words = Words::new();
        words.insert(b"<s>");
        words.insert(b"</s>");
        Self {
            words,
            frequencies: vec![0; 3],
            ids: Writer::new(folder),
            tokens: 0,
            sentences: 0,
            letters: 0,
            skip_symbols,
            partial: Vec::new(),
            line: 1,
            open: false,
        }
    }

    /// Adds a text: a sentence a line, words separated by white space; plain, or packed with gzip,
    /// bzip2, xz or zstd.
    ///
    /// # Errors
    /// If it cannot be read, or holds what is no word.
    pub fn read(
        &mut self,
        name: &str,
        reader: impl Read + Send + 'static,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let unreadable = |source| Error::Io { what: name.to_owned(), source };
        let taken = Arc::new(AtomicU64::new(0));
        let (blocks, received) = bounded(4);
        let counted = Counted { inner: reader, taken: taken.clone() };
        // Not joined: it may wait for input that never comes, and holds nothing that matters.
        let thread = std::thread::Builder::new().name("secondpass-read".into());
        thread.spawn(move || unpack(counted, &blocks)).map_err(unreadable)?;
        (self.line, self.open) = (1, false);
        let mut seen = 0;
        let mut first = true;
        while let Some(block) = next(&received, watch)? {
            let mut block = &block.map_err(unreadable)?[..];
            if std::mem::take(&mut first) {
                block = text_of(name, block)?;
            }
            self.feed(name, block)?;
            let now = taken.load(Ordering::Relaxed);
            watch.advance(now - seen)?;
            seen = now;
        }
        if !self.partial.is_empty() {
            self.feed(name, b" ")?;
        }
        if self.open {
            self.end_sentence()?;
        }
        Ok(())
    }

    /// Bytes that the vocabulary takes at most, what later steps keep for each word included.
    pub fn memory(&self) -> u64 {
        let words = self.words.len() as u64;
        // Vectors double: twice the letters, twice the ends; four hash slots while they grow to
        // twice as many; frequencies, counts and flags.
        2 * self.letters + words * (2 * 8 + 6 * 8 + 2 * 8 + 8 + 1)
    }

    /// The ids of all sentences, each followed by [`EOS`].
    pub fn take_ids(&mut self, folder: &Folder) -> Stored {
        std::mem::replace(&mut self.ids, Writer::new(folder)).finish()
    }

    /// Which ids the model keeps; `None`: all.
    pub fn kept(&self, vocabulary: &Vocabulary) -> Option<Vec<bool>> {
        let ids = 0..self.words.len() as u32;
        let mut kept: Vec<bool> = match vocabulary {
            Vocabulary::All => return None,
            Vocabulary::Listed(list) => {
                ids.map(|id| self.words.word(id).is_some_and(|word| list.contains(word))).collect()
            }
            Vocabulary::MostFrequent(count) => {
                let mut ranked: Vec<u32> = ids.skip(3).collect();
                ranked.sort_by_key(|&id| std::cmp::Reverse(self.frequencies[id as usize]));
                let mut kept = vec![false; self.words.len()];
                ranked.iter().take(*count).for_each(|&id| kept[id as usize] = true);
                kept
            }
        };
        kept[..3].fill(true);
        Some(kept)
    }

    fn feed(&mut self, name: &str, mut rest: &[u8]) -> Result<()> {
        while let Some(at) = rest.iter().position(|&byte| separates(byte)) {
            if self.partial.is_empty() {
                if at > 0 {
                    self.word(name, &rest[..at])?;
                }
            } else {
                let mut word = std::mem::take(&mut self.partial);
                word.extend_from_slice(&rest[..at]);
                self.word(name, &word)?;
                word.clear();
                self.partial = word;
            }
            if rest[at] == b'\n' {
                self.end_sentence()?;
            }
            rest = &rest[at + 1..];
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() > LONGEST_WORD {
            return Err(
                self.refused(name, "a word is longer than 64 KiB: this is no text with a sentence a line")
            );
        }
        Ok(())
    }

    fn word(&mut self, name: &str, word: &[u8]) -> Result<()> {
        if word[0] == b'<' && matches!(word, b"<s>" | b"</s>" | b"<unk>" | b"<UNK>") {
            if self.skip_symbols {
                return Ok(());
            }
            let symbol = String::from_utf8_lossy(word);
            return Err(self.refused(
                name,
                &format!("`{symbol}` is a symbol of the model, not a word; remove it, or leave such symbols out with --skip-symbols"),
            ));
        }
        let id = match self.words.find(word) {
            Some(id) => id,
            None => {
                self.frequencies.push(0);
                self.letters += word.len() as u64;
                let id = self.words.insert(word);
                id.ok_or_else(|| self.refused(name, "more than 4 thousand million different words"))?
            }
        };
        self.frequencies[id as usize] += 1;
        self.open = true;
        self.put(id)
    }

    fn end_sentence(&mut self) -> Result<()> {
        self.open = false;
        self.line += 1;
        self.sentences += 1;
        self.put(EOS)
    }

    fn put(&mut self, id: u32) -> Result<()> {
        self.tokens += 1;
        temporary::put_number(u64::from(id), self.ids.buffer());
        self.ids.relieve()
    }

    fn refused(&self, name: &str, what: &str) -> Error {
        Error::model(name, format!("line {}: {what}", self.line))
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Sends the text in blocks until its end, an error, or nobody listens.
fn unpack(mut reader: impl Read, blocks: &Sender<io::Result<Vec<u8>>>) {
    let mut head = Vec::new();
    if let Err(error) = reader.by_ref().take(MAGIC_BYTES).read_to_end(&mut head) {
        let _ = blocks.send(Err(error));
        return;
    }
    let (packing, whole) = input::unpack(head, reader);
    send(whole, packing.name(), blocks);
}

fn send(mut reader: impl Read, packing: Option<&str>, blocks: &Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut block = vec![0; BLOCK];
        let sent = match reader.read(&mut block) {
            Ok(0) => return,
            Ok(read) => {
                block.truncate(read);
                blocks.send(Ok(block))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => {
                // A disk that fails has a number from the system; a decoder that fails has none.
                let error = match packing.filter(|_| error.raw_os_error().is_none()) {
                    Some(packing) => io::Error::other(format!(
                        "the {packing} data is damaged or cut short ({error}); copy or download the file again"
                    )),
                    None => error,
                };
                let _ = blocks.send(Err(error));
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The next block; asks now and then whether to go on.
fn next(
    blocks: &Receiver<io::Result<Vec<u8>>>,
    watch: &mut Watch<'_>,
) -> Result<Option<io::Result<Vec<u8>>>> {
    loop {
        match blocks.recv_timeout(Duration::from_millis(100)) {
            Ok(block) => return Ok(Some(block)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => watch.show()?,
        }
    }
}

/// The text without a byte order mark.
fn text_of<'a>(name: &str, block: &'a [u8]) -> Result<&'a [u8]> {
    let foreign = [
        (&b"\xff\xfe"[..], "is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"),
        (b"\xfe\xff", "is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"),
        (b"PK\x03\x04", "is a zip archive; unpack the text inside"),
        (b"\\data\\\n", "is an ARPA model, not text"),
    ];
    match foreign.iter().find(|(magic, _)| block.starts_with(magic)) {
        Some((_, what)) => Err(Error::model(name, *what)),
        None => Ok(block.strip_prefix(b"\xef\xbb\xbf").unwrap_or(block)),
    }
}

/// White space, and NUL: what lmplz splits words at.
fn separates(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'\r' | 0)
}

const MAGIC_BYTES: u64 = 8;
const BLOCK: usize = 1 << 18;
const LONGEST_WORD: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::ngram::estimate::watch::Phase;
    use crate::testing::fixture;
    use std::io::Write;

    fn read(texts: &[&[u8]], skip: bool) -> Result<Corpus> {
        let folder = Folder::new(&std::env::temp_dir());
        let mut corpus = Corpus::new(&folder, skip);
        let mut on = |_| std::ops::ControlFlow::Continue(());
        let mut watch = Watch::new(&mut on, Phase::Reading, 0);
        for text in texts {
            corpus.read("text", io::Cursor::new(text.to_vec()), &mut watch)?;
        }
        Ok(corpus)
    }

    fn sentences(corpus: &mut Corpus) -> Vec<String> {
        let mut reader = corpus.take_ids(&Folder::new(&std::env::temp_dir())).read(4096).unwrap();
        let mut out = vec![String::new()];
        for _ in 0..corpus.tokens {
            match reader.number().unwrap() as u32 {
                EOS => out.push(String::new()),
                id => {
                    let word = String::from_utf8_lossy(corpus.words.word(id).unwrap()).into_owned();
                    *out.last_mut().unwrap() += &format!("[{word}]");
                }
            }
        }
        assert_eq!(out.pop().as_deref(), Some(""), "the last sentence has an end");
        out
    }

    #[test]
    fn lines_are_sentences_and_white_space_separates() {
        let mut corpus = read(
            &[b"\xef\xbb\xbfa  b\ta\r\n\n \t\nc\0d\x0be\n  ", b"last line", b"next \xff\xfe text\n"],
            false,
        )
        .unwrap();
        let want = ["[a][b][a]", "", "", "[c][d\u{b}e]", "[last][line]", "[next][\u{fffd}\u{fffd}][text]"];
        assert_eq!(corpus.sentences, 6);
        assert_eq!(sentences(&mut corpus), want);
    }

    #[test]
    fn packed_texts_are_recognised_and_words_go_over_blocks() {
        let text: String = (0..60_000).map(|at| format!("w{at} {}\n", at % 7)).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(text.as_bytes()).unwrap();
        let want = sentences(&mut read(&[text.as_bytes()], false).unwrap());
        assert_eq!(want.len(), 60_000);
        assert_eq!(want[59_999], "[w59999][2]");
        for packed in [&gzip, &bzip2.finish().unwrap()] {
            assert!(sentences(&mut read(&[packed], false).unwrap()) == want);
        }
        let second = |packing| std::fs::read(fixture(&format!("kenlm/halves/second.{packing}"))).unwrap();
        // As `xz -dc` and `zstd -dc` give it.
        let plain = "125\n-0.875\tb\t-0.375\n\n\\2-grams:\n-0.5\t<s> a\t-0.0625\n-0.25\ta b\t-0.1875\n\
                     -0.3\tb </s>\n-0.7\tb a\t0\n\n\\3-grams:\n-0.1\t<s> a b\n-0.2\ta b </s>\n\n\\end\\\n";
        let want = sentences(&mut read(&[plain.as_bytes()], true).unwrap());
        for packing in ["xz", "zstd"] {
            assert_eq!(sentences(&mut read(&[&second(packing)], true).unwrap()), want, "{packing}");
        }
        let cut = read(&[&gzip[..gzip.len() / 2]], false).err().unwrap().to_string();
        assert!(cut.contains("gzip data is damaged or cut short"), "{cut}");
    }

    #[test]
    fn symbols_of_the_model_are_no_words() {
        for symbol in ["<s>", "</s>", "<unk>", "<UNK>"] {
            let text = format!("a b\nc {symbol} d\n");
            let error = read(&[text.as_bytes()], false).err().unwrap().to_string();
            assert!(error.contains("line 2") && error.contains("--skip-symbols"), "{error}");
            assert_eq!(sentences(&mut read(&[text.as_bytes()], true).unwrap()), ["[a][b]", "[c][d]"]);
        }
        assert_eq!(sentences(&mut read(&[b"<Unk> <s\n"], false).unwrap()), ["[<Unk>][<s]"]);
    }

    #[test]
    fn what_is_no_text_is_refused_with_advice() {
        let long = vec![b'x'; LONGEST_WORD + BLOCK];
        for (bytes, advice) in [
            (&b"\xff\xfea\0"[..], "UTF-8"),
            (b"PK\x03\x04rest", "unpack"),
            (b"\\data\\\nngram 1=1\n", "not text"),
            (&long, "sentence a line"),
        ] {
            let error = read(&[bytes], false).err().unwrap().to_string();
            assert!(error.contains(advice), "{error}");
        }
    }

    #[test]
    fn the_most_frequent_words_are_kept_the_first_among_equals() {
        let corpus = read(&[b"d a b b c c c\n"], false).unwrap();
        let kept = |vocabulary| {
            let kept = corpus.kept(&vocabulary).unwrap();
            let words = (0..).zip(kept).filter(|(_, kept)| *kept).skip(3);
            words.map(|(id, _)| corpus.words.word(id).unwrap()[0] as char).collect::<String>()
        };
        assert_eq!(kept(Vocabulary::MostFrequent(3)), "dbc");
        assert_eq!(kept(Vocabulary::MostFrequent(9)), "dabc");
        assert_eq!(kept(Vocabulary::listed(&b"c\nzz \t a"[..]).unwrap()), "ac");
        assert_eq!(corpus.kept(&Vocabulary::All), None);
    }

    #[test]
    fn a_stop_ends_reading_even_when_no_input_comes() {
        let (_open, silent) = io::pipe().map(|(reader, writer)| (writer, reader)).unwrap();
        let mut corpus = Corpus::new(&Folder::new(&std::env::temp_dir()), false);
        let mut on = |_| std::ops::ControlFlow::Break(());
        let mut watch = Watch::new(&mut on, Phase::Reading, 0);
        assert!(corpus.read("pipe", silent, &mut watch).is_err());
    }
}
