//! What [`sync`](super::super::sync) gives under shuttle: its own locks and threads, and a
//! bounded channel over them that behaves as crossbeam's does, so that what is tried is the
//! pool, not the channel.

pub(in crate::pool) use shuttle::sync::{Condvar, Mutex, MutexGuard, atomic};
pub(in crate::pool) use shuttle::thread;

use std::convert::Infallible;

use channel::{Receiver, TryRecvError};

/// The next message; `None` when `messages` or `stop` has ended.
pub(in crate::pool) fn recv_unless<T>(messages: &Receiver<T>, stop: &Receiver<Infallible>) -> Option<T> {
    loop {
        match messages.try_recv() {
            Ok(message) => return Some(message),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        if stop.try_recv() == Err(TryRecvError::Disconnected) {
            return None;
        }
        // A wait that nothing ends runs into shuttle's limit of steps.
        thread::yield_now();
    }
}

pub(in crate::pool) mod channel {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    pub(in crate::pool) use crossbeam::channel::{RecvError, RecvTimeoutError, SendError, TryRecvError};

    use super::{Condvar, Mutex, thread};

    pub(in crate::pool) struct Sender<T>(Arc<Shared<T>>);
    pub(in crate::pool) struct Receiver<T>(Arc<Shared<T>>);

    struct Shared<T> {
        state: Mutex<State<T>>,
        changed: Condvar,
    }

    struct State<T> {
        queue: VecDeque<T>,
        capacity: usize,
        senders: usize,
        receivers: usize,
    }

    pub(in crate::pool) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let state = State { queue: VecDeque::new(), capacity, senders: 1, receivers: 1 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        (Sender(shared.clone()), Receiver(shared))
    }

    impl<T> Sender<T> {
        pub(in crate::pool) fn send(&self, message: T) -> Result<(), SendError<T>> {
            let mut state = self.0.state.lock().unwrap();
            // The pool never sends more than its window, which the channels have room for.
            assert!(state.queue.len() < state.capacity, "the sender would wait");
            if state.receivers == 0 {
                return Err(SendError(message));
            }
            state.queue.push_back(message);
            drop(state);
            self.0.changed.notify_all();
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        pub(in crate::pool) fn len(&self) -> usize {
            self.0.state.lock().unwrap().queue.len()
        }

        pub(in crate::pool) fn try_recv(&self) -> Result<T, TryRecvError> {
            let mut state = self.0.state.lock().unwrap();
            match state.queue.pop_front() {
                Some(message) => Ok(message),
                None if state.senders == 0 => Err(TryRecvError::Disconnected),
                None => Err(TryRecvError::Empty),
            }
        }

        pub(in crate::pool) fn recv(&self) -> Result<T, RecvError> {
            let mut state = self.0.state.lock().unwrap();
            loop {
                if let Some(message) = state.queue.pop_front() {
                    return Ok(message);
                }
                if state.senders == 0 {
                    return Err(RecvError);
                }
                state = self.0.changed.wait(state).unwrap();
            }
        }

        /// Time passes as the scheduler likes: nothing there is a time-out, after others ran.
        pub(in crate::pool) fn recv_timeout(&self, _: Duration) -> Result<T, RecvTimeoutError> {
            thread::yield_now();
            self.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        }

        pub(in crate::pool) fn recv_deadline(&self, _: Instant) -> Result<T, RecvTimeoutError> {
            self.recv_timeout(Duration::ZERO)
        }

        pub(in crate::pool) fn iter(&self) -> impl Iterator<Item = T> {
            std::iter::from_fn(|| self.recv().ok())
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            self.0.state.lock().unwrap().senders += 1;
            Self(self.0.clone())
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Self {
            self.0.state.lock().unwrap().receivers += 1;
            Self(self.0.clone())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.state.lock().unwrap().senders -= 1;
            self.0.changed.notify_all();
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let mut state = self.0.state.lock().unwrap();
            state.receivers -= 1;
            // As crossbeam's: what nobody can receive is dropped now, outside the lock.
            let rest = if state.receivers == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
            drop(state);
            drop(rest);
        }
    }
}
