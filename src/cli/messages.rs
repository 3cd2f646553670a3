//! What people read: everything on standard error goes through here.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Mutex;

/// Messages of one kind that are printed before they are only counted.
const SHOWN: u64 = 10;

/// Standard error with a prefix, a switch, and a limit per kind of message.
pub struct Messages {
    quiet: bool,
    counts: Mutex<HashMap<&'static str, u64>>,
}

impl Messages {
    /// Messages, or silence.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, counts: Mutex::default() }
    }

    /// Prints one line.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            // A closed standard error is no reason to stop.
            let _ = writeln!(std::io::stderr().lock(), "secondpass: {text}");
        }
    }

    /// Prints one line of a kind of which there may be many: the first ten, then a count at the end.
    pub fn repeated(&self, kind: &'static str, text: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = counts.entry(kind).or_default();
        *count += 1;
        let count = *count;
        drop(counts);
        if count <= SHOWN {
            self.say(text);
        }
        if count == SHOWN {
            self.say(&format!("more {kind} will only be counted"));
        }
    }

    /// Says how many messages were not printed.
    pub fn finish(&self) {
        let counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut kinds: Vec<_> = counts.iter().filter(|(_, count)| **count > SHOWN).collect();
        kinds.sort();
        for (kind, count) in kinds {
            self.say(&format!("{count} {kind} in all"));
        }
    }
}
