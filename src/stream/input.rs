//! Reading lines on a thread of their own, so that a signal can end a stream that waits.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam::channel::{Receiver, bounded};

use crate::lines::{Decoded, Ending, Line, Lines};

/// Asks a stream to end: it stops reading, finishes what it has read, and returns.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    /// Whether the reading thread waits for input right now.
    waiting: Arc<AtomicBool>,
}

/// A line and when it was read: deadlines count from there.
pub(super) struct Read_ {
    pub line: Line,
    pub at: Instant,
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

    pub(super) fn waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// Starts reading. The channel holds nothing, so at most one line and one buffer are read ahead
/// of what is asked for. The thread is left behind when the receiver goes while it waits.
pub(super) fn lines(
    input: Box<dyn Read + Send>,
    max_line_bytes: usize,
    stop: Stop,
) -> io::Result<Receiver<io::Result<Read_>>> {
    let (sender, receiver) = bounded(0);
    let read = move || {
        let source = Stoppable { input, stop: stop.clone() };
        let lines = match Decoded::open(source) {
            Ok(source) => Lines::new(source, max_line_bytes),
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        for line in lines {
            // What a signal cut off is no record, and no damaged gzip file.
            if stop.asked() && line.as_ref().map_or(true, |line| line.ending == Ending::None) {
                return;
            }
            if sender.send(line.map(|line| Read_ { line, at: Instant::now() })).is_err() {
                return;
            }
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
