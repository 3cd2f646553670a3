//! Reading records on a thread of their own, so that a signal can end a stream that waits.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crossbeam::channel::{Receiver, bounded};

use crate::Result;
use crate::formats::{Chunk, Format, Given, Kept, Names, Seat, Source};
use crate::lines::Ending;

/// Asks a stream to end: it stops reading, finishes what it has read, and returns.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    /// Whether the reading thread waits for input right now.
    waiting: Arc<AtomicBool>,
    /// The record that it has read a part of meanwhile, of several lines.
    seat: Seat,
}

/// Where the lists come from.
pub enum Lists {
    /// A stream, plain or gzip.
    Stream {
        /// Its bytes.
        input: Box<dyn Read + Send>,
        /// Its format; if none is given, its first bytes tell.
        format: Option<Format>,
        /// What it does not say itself.
        given: Arc<Given>,
        /// What it is called.
        names: Names,
    },
    /// A folder that has been opened.
    Folder(Source),
}

/// What the reading thread says.
pub(super) enum Read_ {
    /// A chunk and when it was read: deadlines count from there.
    Chunk(Chunk, Instant),
    /// At the end: what belonged to no record.
    Orphans(Vec<String>),
}

impl Stop {
    /// Ends the stream.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    /// Whether the end was asked for.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// What was read of a record whose end has not come.
    pub(super) fn unfinished(&self) -> Option<Chunk> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// Starts reading. The channel holds nothing, so at most one record and one buffer are read ahead
/// of what is asked for. The thread is left behind when the receiver goes while it waits.
pub(super) fn chunks(lists: Lists, kept: Kept, stop: Stop) -> io::Result<Receiver<Result<Read_>>> {
    let (sender, receiver) = bounded(0);
    let read = move || {
        let folder = matches!(lists, Lists::Folder(_));
        let opened = match lists {
            Lists::Folder(source) => Ok(source),
            Lists::Stream { input, format, given, names } => {
                let input = Box::new(Stoppable { input, stop: stop.clone() });
                Source::open(input, format, &given, &names, kept)
            }
        };
        let mut source = match opened {
            Ok(source) => source,
            Err(error) => {
                // A document that a signal cut off is no damaged one.
                if !stop.asked() {
                    let _ = sender.send(Err(error));
                }
                return;
            }
        };
        source.share(stop.seat.clone());
        for chunk in source.by_ref() {
            // What a signal cut off is no record, and no damaged gzip file. A document was read whole.
            let cut = |chunk: &Chunk| folder || chunk.ending == Ending::None && !chunk.format.is_document();
            if stop.asked() && chunk.as_ref().map_or(true, cut) {
                return;
            }
            if sender.send(chunk.map(|chunk| Read_::Chunk(chunk, Instant::now()))).is_err() {
                return;
            }
        }
        let orphans = source.orphans();
        if !orphans.is_empty() {
            let _ = sender.send(Ok(Read_::Orphans(orphans)));
        }
    };
    std::thread::Builder::new().name("secondpass-reader".into()).spawn(read)?;
    Ok(receiver)
}

/// Input that ends when it is asked to.
struct Stoppable {
    input: Box<dyn Read + Send>,
    stop: Stop,
}

impl Read for Stoppable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = crate::faults::io("stream::read") {
            return Err(error);
        }
        if self.stop.asked() {
            return Ok(0);
        }
        self.stop.waiting.store(true, Ordering::SeqCst);
        let read = self.input.read(buffer);
        self.stop.waiting.store(false, Ordering::SeqCst);
        // What came while the signal did is read: its whole lines are answered.
        read
    }
}
