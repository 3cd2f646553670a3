//! A bounded line reader: memory stays within the limit whatever comes, every byte string is a
//! line, and a line is handed on as soon as its newline has been read.

use std::io::{self, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// The line limit where none is given: 16 MiB.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Splits a byte stream into lines, which are not necessarily UTF-8.
///
/// A byte order mark at the very start of the stream is dropped. A line over the limit is
/// counted, not kept ([`Line::over`]), and reading goes on after its newline. A read error is
/// given once, in place of the line it cut short; then the iterator ends.
///
/// ```
/// use secondpass::lines::{Ending, Lines};
/// let lines: Vec<_> = Lines::new(&b"a\r\n\nc"[..], 10).collect::<Result<_, _>>()?;
/// assert_eq!(lines[0].bytes, b"a");
/// assert_eq!(lines[0].ending, Ending::CrLf);
/// assert!(lines[1].is_blank());
/// assert_eq!((lines[2].number, lines[2].ending), (3, Ending::None));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    max_line_bytes: usize,
    /// What was read and not yet split: `buffer[start..end]`.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    number: u64,
    done: bool,
}

/// One line, without its ending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// Its number in the stream, from 1.
    pub number: u64,
    /// Its content; empty if it was over the limit.
    pub bytes: Vec<u8>,
    /// How it ended, to be written back so.
    pub ending: Ending,
    /// For a line over the limit, its length in bytes.
    pub over: Option<u64>,
}

/// What ends a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// `\n`.
    #[default]
    Lf,
    /// `\r\n`.
    CrLf,
    /// The end of the stream.
    None,
}

impl<R: Read> Lines<R> {
    /// Lines of `reader`, of which the longest kept has `max_line_bytes` bytes
    /// (see [`MAX_LINE_BYTES`]).
    pub fn new(reader: R, max_line_bytes: usize) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self { reader, max_line_bytes, buffer, start: 0, end: 0, number: 0, done: false }
    }

    /// Whether the next line has been read whole already, so that asking for it cannot block.
    pub fn ready(&self) -> bool {
        memchr::memchr(b'\n', &self.buffer[self.start..self.end]).is_some()
    }

    /// Lines given so far.
    pub fn read(&self) -> u64 {
        self.number
    }

    /// Reads once into the empty buffer; `false` at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            match self.reader.read(&mut self.buffer) {
                Ok(n) => {
                    (self.start, self.end) = (0, n.min(self.buffer.len()));
                    return Ok(n > 0);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Kept { bytes: Vec::new(), total: 0, last: 0, max: self.max_line_bytes };
        let mut ending = Ending::None;
        while self.start < self.end || self.fill()? {
            let rest = &self.buffer[self.start..self.end];
            let newline = memchr::memchr(b'\n', rest);
            bytes.push(&rest[..newline.unwrap_or(rest.len())]);
            self.start += newline.map_or(rest.len(), |at| at + 1);
            if newline.is_some() {
                ending = Ending::Lf;
                break;
            }
        }
        if ending == Ending::None && bytes.total == 0 {
            return Ok(None);
        }
        if ending == Ending::Lf && bytes.last == b'\r' && bytes.total > 0 {
            ending = Ending::CrLf;
            bytes.total -= 1;
            bytes.bytes.truncate(usize::try_from(bytes.total).unwrap_or(usize::MAX));
        }
        self.number += 1;
        let over = bytes.over().then_some(bytes.total);
        let mut bytes = if over.is_some() { Vec::new() } else { bytes.bytes };
        if self.number == 1 && bytes.starts_with(BOM) {
            bytes.drain(..BOM.len());
            if ending == Ending::None && bytes.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(Line { number: self.number, bytes, ending, over }))
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let line = self.line().transpose();
        self.done = !matches!(line, Some(Ok(_)));
        line
    }
}

impl Line {
    /// Whether there is nothing but white space in it.
    pub fn is_blank(&self) -> bool {
        self.over.is_none() && self.bytes.trim_ascii().is_empty()
    }
}

impl Ending {
    /// Its bytes.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::CrLf => b"\r\n",
            Self::None => b"",
        }
    }
}

/// A stream that is decompressed if it starts as gzip does, and read as it is otherwise.
///
/// It never waits for more than it hands on: a line that came through a pipe is there at once.
#[derive(Debug)]
pub enum Decoded<R: Read> {
    /// Read as it is.
    Plain(Chain<Cursor<Vec<u8>>, R>),
    /// gzip, of one member or many.
    Gzip(Box<MultiGzDecoder<Chain<Cursor<Vec<u8>>, R>>>),
}

impl<R: Read> Decoded<R> {
    /// Looks at the first byte, and at the second only if the first is gzip's.
    ///
    /// # Errors
    ///
    /// Reading failed.
    pub fn open(mut reader: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(GZIP.len());
        while head.len() < GZIP.len() && GZIP.starts_with(&head) {
            let mut byte = [0];
            match reader.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => head.push(byte[0]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let gzip = head == GZIP;
        let whole = Cursor::new(head).chain(reader);
        Ok(if gzip { Self::Gzip(Box::new(MultiGzDecoder::new(whole))) } else { Self::Plain(whole) })
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
        }
    }
}

/// A line while it is read.
struct Kept {
    bytes: Vec<u8>,
    total: u64,
    last: u8,
    max: usize,
}

impl Kept {
    fn push(&mut self, part: &[u8]) {
        let Some(&last) = part.last() else { return };
        self.last = last;
        self.total += part.len() as u64;
        // One byte more than the limit: it may be the `\r` of the ending.
        let cap = self.max.saturating_add(1);
        if self.total > cap as u64 {
            self.bytes = Vec::new();
            return;
        }
        let needed = self.bytes.len() + part.len();
        if needed > self.bytes.capacity() && !self.bytes.is_empty() {
            // Doubling would go beyond the limit.
            let capacity = needed.max(self.bytes.capacity() * 2).min(cap);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
    }

    fn over(&self) -> bool {
        self.total > self.max as u64
    }
}

const BUFFER_BYTES: usize = 64 << 10;
const BOM: &[u8] = b"\xEF\xBB\xBF";
const GZIP: &[u8] = b"\x1f\x8b";

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn texts(bytes: &[u8], max: usize) -> Vec<Line> {
        Lines::new(bytes, max).collect::<io::Result<_>>().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// One byte at a time, interrupted in between.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let n = self.0.len().min(1);
            self.0.read(&mut buffer[..n])
        }
    }

    #[test]
    fn endings_change_nothing_else() {
        for content in [&["a", "", "b\0c", "\rd", " x "][..], &["", ""], &["é"]] {
            let plain = content.iter().map(|s| s.as_bytes().to_vec()).collect::<Vec<_>>();
            for ending in ["\n", "\r\n"] {
                for bom in ["", "\u{feff}"] {
                    for last in [ending, ""] {
                        let text = format!("{bom}{}{last}", content.join(ending));
                        let mut want = plain.clone();
                        if last.is_empty() && want.last().unwrap().is_empty() {
                            want.pop(); // an end, not an empty line
                        }
                        for lines in [
                            texts(text.as_bytes(), 100),
                            Lines::new(Slow(text.as_bytes(), false), 100).collect::<io::Result<_>>().unwrap(),
                        ] {
                            let got: Vec<_> = lines.iter().map(|l| l.bytes.clone()).collect();
                            assert_eq!(got, want, "{text:?}");
                            let back: Vec<u8> =
                                lines.iter().flat_map(|l| [&l.bytes, l.ending.bytes()].concat()).collect();
                            assert_eq!(bom.to_owned() + std::str::from_utf8(&back).unwrap(), text);
                        }
                    }
                }
            }
        }
        assert!(texts(b"", 9).is_empty());
        assert!(texts(BOM, 9).is_empty());
        assert_eq!(texts(b"a\n\xEF\xBB\xBFb", 9)[1].bytes, b"\xEF\xBB\xBFb");
    }

    #[test]
    fn the_limit_is_exact() {
        for (text, over) in
            [("abc", None), ("abcd", Some(4)), ("abc\r", None), ("abcd\r", Some(4)), ("abcdefg", Some(7))]
        {
            let lines = texts(format!("{text}\nok\n").as_bytes(), 3);
            assert_eq!(lines[0].over, over, "{text:?}");
            assert_eq!(lines[0].bytes.is_empty(), over.is_some());
            assert_eq!((lines[1].number, &lines[1].bytes[..]), (2, &b"ok"[..]));
        }
    }

    #[test]
    fn r_s10_a_huge_line_is_counted_not_kept() {
        let huge = io::repeat(b'x').take(64 << 20).chain(&b"\ngood\n"[..]);
        let mut lines = Lines::new(huge, 1 << 20);
        let line = lines.next().unwrap().unwrap();
        assert_eq!((line.over, line.bytes.capacity()), (Some(64 << 20), 0));
        assert_eq!(lines.next().unwrap().unwrap().bytes, b"good");
        assert!(lines.next().is_none());

        let mut kept = Kept { bytes: Vec::new(), total: 0, last: 0, max: 1 << 20 };
        let mut most = 0;
        for _ in 0..1024 {
            kept.push(&[b'x'; BUFFER_BYTES]);
            most = most.max(kept.bytes.capacity());
        }
        assert!(most <= (1 << 20) + 1, "{most}");
    }

    #[test]
    fn an_error_comes_once() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut lines = Lines::new((&b"a\nb"[..]).chain(Broken), 9);
        assert_eq!(lines.next().unwrap().unwrap().bytes, b"a");
        assert!(lines.next().unwrap().is_err());
        assert!(lines.next().is_none());
    }

    #[test]
    fn gzip_is_seen_by_its_magic() {
        for bytes in [&b""[..], b"\x1f", b"\n", b"\x1f\n", b"ab\n"] {
            let mut got = Vec::new();
            Decoded::open(bytes).unwrap().read_to_end(&mut got).unwrap();
            assert_eq!(got, bytes);
        }
        let two = [gzip(b"a\nb"), gzip(b"c\nd\n")].concat();
        let lines = Lines::new(Decoded::open(Slow(&two, false)).unwrap(), 9);
        let got: Vec<_> = lines.map(|l| l.unwrap().bytes).collect();
        assert_eq!(got, [&b"a"[..], b"bc", b"d"]);
        let cut = &two[..two.len() - 4];
        assert!(Lines::new(Decoded::open(cut).unwrap(), 9).any(|l| l.is_err()));
    }

    #[test]
    fn a_line_is_there_as_soon_as_it_was_written() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"one\n").unwrap();
        encoder.flush().unwrap();
        for sent in [b"one\n".to_vec(), encoder.get_ref().clone()] {
            let (reader, mut writer) = io::pipe().unwrap();
            writer.write_all(&sent).unwrap();
            // The writer stays open: whoever waits for more hangs here.
            let mut lines = Lines::new(Decoded::open(reader).unwrap(), 9);
            assert_eq!(lines.next().unwrap().unwrap().bytes, b"one");
            assert!(!lines.ready());
            drop(writer);
        }
    }
}
