//! ARPA text: formatted, and compressed where asked, on several threads; written in order.

use std::collections::BTreeMap;
use std::io::Write;
use std::thread::{self, Scope, ScopedJoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::key::{Key, Packing};
use crate::lm::ngram::vocab::Words;
use crate::{Error, Result};

/// What ARPA text is made from.
#[derive(Clone, Copy)]
pub(super) struct Format<'a> {
    pub words: &'a Words,
    pub packing: Packing,
    pub gzip: bool,
    pub threads: usize,
}

/// An n-gram and its numbers, log10.
#[derive(Debug, Clone, Copy)]
struct Gram<const L: usize> {
    key: Key<L>,
    probability: f32,
    backoff: Option<f32>,
}

/// Some lines of one section.
enum Batch<const L: usize> {
    Text(String),
    Grams(usize, Vec<Gram<L>>),
}

/// Takes n-grams and writes lines.
pub(super) struct Output<'a, const L: usize> {
    sink: &'a mut dyn Write,
    work: Sender<(u64, Batch<L>)>,
    done: Receiver<(u64, Vec<u8>)>,
    /// Finished batches that wait for others.
    waiting: BTreeMap<u64, Vec<u8>>,
    sent: u64,
    written: u64,
    most: u64,
    n: usize,
    grams: Vec<Gram<L>>,
    bytes: u64,
}

/// Lets `produce` write n-grams; returns what it returns, and the bytes written.
pub(super) fn write<const L: usize, T>(
    sink: &mut dyn Write,
    format: Format<'_>,
    produce: impl FnOnce(&mut Output<'_, L>) -> Result<T>,
) -> Result<(T, u64)> {
    thread::scope(|scope| {
        let threads = format.threads.max(1);
        let most = 2 * threads as u64 + 2;
        let (work, jobs) = bounded(most as usize);
        let (results, done) = bounded(most as usize);
        let mut workers = Vec::new();
        for _ in 0..threads {
            workers.push(worker(scope, format, jobs.clone(), results.clone())?);
        }
        drop((jobs, results));
        let mut output = Output {
            sink,
            work,
            done,
            waiting: BTreeMap::new(),
            sent: 0,
            written: 0,
            most,
            n: 0,
            grams: Vec::with_capacity(BATCH),
            bytes: 0,
        };
        let result = produce(&mut output).and_then(|value| Ok((value, output.finish()?)));
        drop(output);
        for worker in workers {
            // A panic here would otherwise become one of this thread.
            worker.join().map_err(|_| Error::Internal("a writing thread panicked".into()))?;
        }
        result
    })
}

fn worker<'scope, const L: usize>(
    scope: &'scope Scope<'scope, '_>,
    format: Format<'scope>,
    jobs: Receiver<(u64, Batch<L>)>,
    results: Sender<(u64, Vec<u8>)>,
) -> Result<ScopedJoinHandle<'scope, ()>> {
    let run = move || {
        for (number, batch) in jobs {
            let mut bytes = Vec::new();
            // Writing to memory does not fail.
            let made = batch.lines(format, &mut bytes).and_then(|()| pack(format, bytes));
            if results.send((number, made.unwrap_or_default())).is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("secondpass-write".into());
    thread
        .spawn_scoped(scope, run)
        .map_err(|source| Error::Io { what: "a thread that writes".into(), source })
}

impl<const L: usize> Output<'_, L> {
    /// Adds text between sections.
    pub fn text(&mut self, text: String) -> Result<()> {
        self.flush()?;
        self.send(Batch::Text(text))
    }

    /// Adds an n-gram of `n` words in suffix order; numbers are log10.
    pub fn gram(&mut self, n: usize, key: Key<L>, probability: f32, backoff: Option<f32>) -> Result<()> {
        if self.grams.len() == BATCH || self.n != n {
            self.flush()?;
            self.n = n;
        }
        self.grams.push(Gram { key, probability, backoff });
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.grams.is_empty() {
            return Ok(());
        }
        let grams = std::mem::replace(&mut self.grams, Vec::with_capacity(BATCH));
        self.send(Batch::Grams(self.n, grams))
    }

    fn finish(&mut self) -> Result<u64> {
        self.flush()?;
        while self.written < self.sent {
            self.receive()?;
        }
        self.sink.flush().map_err(unwritten)?;
        Ok(self.bytes)
    }

    fn send(&mut self, batch: Batch<L>) -> Result<()> {
        while self.sent - self.written >= self.most {
            self.receive()?;
        }
        self.work.send((self.sent, batch)).map_err(|_| gone())?;
        self.sent += 1;
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let (number, bytes) = self.done.recv().map_err(|_| gone())?;
        self.waiting.insert(number, bytes);
        while let Some(bytes) = self.waiting.remove(&self.written) {
            self.sink.write_all(&bytes).map_err(unwritten)?;
            self.bytes += bytes.len() as u64;
            self.written += 1;
        }
        Ok(())
    }
}

impl<const L: usize> Batch<L> {
    fn lines(&self, format: Format<'_>, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Text(text) => out.write_all(text.as_bytes()),
            Self::Grams(n, grams) => grams.iter().try_for_each(|gram| gram.line(*n, format, out)),
        }
    }
}

impl<const L: usize> Gram<L> {
    fn line(&self, n: usize, format: Format<'_>, out: &mut Vec<u8>) -> std::io::Result<()> {
        number(self.probability, out)?;
        for at in 0..n {
            out.push(if at == 0 { b'\t' } else { b' ' });
            out.extend_from_slice(format.words.word(format.packing.word(self.key, at)).unwrap_or_default());
        }
        if let Some(backoff) = self.backoff {
            out.push(b'\t');
            number(backoff, out)?;
        }
        out.push(b'\n');
        Ok(())
    }
}

/// The shortest decimal that is this number.
fn number(value: f32, out: &mut Vec<u8>) -> std::io::Result<()> {
    if value == 0.0 {
        out.push(b'0');
        return Ok(());
    }
    write!(out, "{value}")
}

/// Each batch is a gzip member of its own, so that threads can pack them side by side.
fn pack(format: Format<'_>, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    if !format.gzip {
        return Ok(bytes);
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 3), Compression::default());
    encoder.write_all(&bytes)?;
    encoder.finish()
}

fn unwritten(source: std::io::Error) -> Error {
    Error::Io { what: "the model".into(), source }
}

fn gone() -> Error {
    Error::Internal("the threads that write are gone".into())
}

/// n-grams that are formatted at once.
const BATCH: usize = 8192;
