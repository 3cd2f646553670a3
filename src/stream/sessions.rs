//! States carried over the utterances of each session.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::rescorer::Carries;

/// The last state of each of the sessions used most recently.
pub struct Sessions {
    kept: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    states: HashMap<Vec<u8>, (u64, Carries)>,
    /// Sessions by when they were last used.
    used: BTreeMap<u64, Vec<u8>>,
    clock: u64,
}

impl Sessions {
    /// Keeps at most `kept` sessions; the one unused the longest is dropped for a new one.
    pub fn new(kept: usize) -> Self {
        Self { kept: kept.max(1), inner: Mutex::default() }
    }

    /// The states to start the session's next utterance from; empty for a fresh start.
    pub fn start(&self, session: &[u8]) -> Carries {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.states.get(session).map(|(_, carries)| carries.clone()).unwrap_or_default()
    }

    /// Remembers the states after the session's last winner.
    pub fn put(&self, session: &[u8], carries: Carries) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        if let Some((before, _)) = inner.states.insert(session.to_vec(), (now, carries)) {
            inner.used.remove(&before);
        }
        inner.used.insert(now, session.to_vec());
        if inner.states.len() > self.kept
            && let Some((_, oldest)) = inner.used.pop_first()
        {
            inner.states.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_unused_the_longest_is_dropped() {
        let sessions = Sessions::new(2);
        let state = || vec![None, None, None];
        sessions.put(b"a", state());
        sessions.put(b"b", state());
        sessions.put(b"a", state());
        sessions.put(b"c", state());
        let known = [b"a", b"b", b"c"].map(|session| sessions.start(session).len());
        assert_eq!(known, [3, 0, 3]);
    }
}
