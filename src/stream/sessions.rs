//! States carried over the utterances of each session.
//!
//! Which sessions are remembered is decided in the order of the input, so that it does not depend
//! on which worker is done first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rescorer::Carries;

/// The last state of each of the sessions used most recently.
pub struct Sessions {
    kept: usize,
    inner: Mutex<Inner>,
}

/// One stay of a session in memory: it gets another when it was dropped and comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stay(u64);

#[derive(Default)]
struct Inner {
    stays: HashMap<Stay, Entry>,
    by_name: HashMap<Vec<u8>, Stay>,
    /// Names by when they were last used.
    used: BTreeMap<u64, Vec<u8>>,
    clock: u64,
}

#[derive(Default)]
struct Entry {
    carries: Carries,
    used: u64,
    /// Its records between reading and writing.
    open: u64,
    /// Dropped, and kept only until its last record is written.
    dropped: bool,
}

impl Sessions {
    /// Keeps at most `kept` sessions; the one unused the longest is dropped for a new one.
    pub fn new(kept: usize) -> Self {
        Self { kept: kept.max(1), inner: Mutex::default() }
    }

    /// A record of this session was read: to be called in the order of the input, and
    /// [`Sessions::leave`] when it was written.
    pub fn enter(&self, session: &[u8]) -> Stay {
        let inner = &mut *self.lock();
        inner.clock += 1;
        let now = inner.clock;
        let stay = *inner.by_name.entry(session.to_vec()).or_insert(Stay(now));
        let entry = inner.stays.entry(stay).or_default();
        inner.used.remove(&entry.used);
        inner.used.insert(now, session.to_vec());
        (entry.used, entry.open) = (now, entry.open + 1);
        if inner.by_name.len() > self.kept
            && let Some((_, oldest)) = inner.used.pop_first()
            && let Some(stay) = inner.by_name.remove(&oldest)
            && let Some(entry) = inner.stays.get_mut(&stay)
        {
            entry.dropped = true;
            if entry.open == 0 {
                inner.stays.remove(&stay);
            }
        }
        stay
    }

    /// A record of this stay was written, or will never be.
    pub fn leave(&self, stay: Stay) {
        let inner = &mut *self.lock();
        if let Some(entry) = inner.stays.get_mut(&stay) {
            entry.open = entry.open.saturating_sub(1);
            if entry.dropped && entry.open == 0 {
                inner.stays.remove(&stay);
            }
        }
    }

    /// The states to start the stay's next utterance from; empty for a fresh start.
    pub fn start(&self, stay: Stay) -> Carries {
        self.lock().stays.get(&stay).map(|entry| entry.carries.clone()).unwrap_or_default()
    }

    /// Remembers the states after the stay's last winner.
    pub fn put(&self, stay: Stay, carries: Carries) {
        if let Some(entry) = self.lock().stays.get_mut(&stay) {
            entry.carries = carries;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(sessions: &Sessions, name: &[u8]) -> Stay {
        let stay = sessions.enter(name);
        sessions.put(stay, vec![None, None, None]);
        sessions.leave(stay);
        stay
    }

    #[test]
    fn the_session_unused_the_longest_is_dropped() {
        let sessions = Sessions::new(2);
        for name in [b"a", b"b", b"a", b"c"] {
            used(&sessions, name);
        }
        let known = [b"a", b"c", b"b"].map(|name| sessions.start(sessions.enter(name)).len());
        assert_eq!(known, [3, 3, 0]);
    }

    #[test]
    fn a_dropped_session_serves_the_records_that_were_read_before() {
        let sessions = Sessions::new(1);
        let (first, second) = (sessions.enter(b"a"), sessions.enter(b"a"));
        used(&sessions, b"b");
        sessions.put(first, vec![None]);
        sessions.leave(first);
        assert_eq!(sessions.start(second).len(), 1, "read before it was dropped");
        assert_ne!(sessions.enter(b"a"), second, "read after: a new start");
        sessions.leave(second);
        assert!(sessions.start(second).is_empty());
        let inner = sessions.lock();
        assert!(inner.stays.len() <= 2 && inner.by_name.len() == 1 && inner.used.len() == 1);
    }
}
