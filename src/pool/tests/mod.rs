//! What the tests share: a stage that can be told to do anything, seeded chance, and named
//! points at which threads are made to give way.

// Under shuttle there is no time to wait for and no thread outside its runs.
#[cfg(not(feature = "shuttle"))]
mod faults;
#[cfg(not(feature = "shuttle"))]
mod flow;
#[cfg(feature = "shuttle")]
pub(super) mod modelled;
mod schedules;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use sync::thread;

use super::*;

/// What a [`Juggler`] does with an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Deed {
    Work,
    PanicInStep,
    PanicInSubmit,
    /// Panics only while another input is in flight.
    PanicInCompany,
    /// Pushes everything that is in flight, then panics.
    PanicAfterDone,
    Lose,
    /// Gives its output twice, and one nobody asked for.
    Repeat,
}

#[derive(Debug)]
struct Input {
    number: u64,
    key: Option<u64>,
    deed: Deed,
}

/// Holds up to `most` inputs and finishes them in random order, after random delays.
struct Juggler {
    most: usize,
    chance: Chance,
    flight: Vec<(Ticket, Arc<Input>)>,
    diary: Arc<Diary>,
}

/// What the stages of a test saw.
#[derive(Default)]
struct Diary {
    /// Keys in flight and the last number of each.
    keys: Mutex<std::collections::HashMap<u64, (bool, u64)>>,
    wrong: Mutex<Vec<String>>,
    stages: AtomicU64,
    dropped: AtomicU64,
    panic_in_drop: std::sync::atomic::AtomicBool,
}

impl Juggler {
    fn new(most: usize, seed: u64, diary: &Arc<Diary>) -> Self {
        diary.stages.fetch_add(1, Ordering::SeqCst);
        Self { most, chance: Chance(seed), flight: Vec::new(), diary: diary.clone() }
    }
}

impl Stage for Juggler {
    type In = Input;
    type Out = u64;

    fn room(&self) -> bool {
        self.flight.len() < self.most
    }

    fn submit(&mut self, ticket: Ticket, input: Arc<Input>) {
        assert!(input.deed != Deed::PanicInSubmit, "planned: submit of {}", input.number);
        if let Some(key) = input.key {
            self.diary.begin(key, input.number);
        }
        self.flight.push((ticket, input));
    }

    fn step(&mut self, done: &mut Vec<(Ticket, u64)>) -> bool {
        match self.chance.below(64) {
            0 => thread::sleep(Duration::from_micros(self.chance.below(50))),
            1..8 => thread::yield_now(),
            _ => {}
        }
        for at in 0..self.flight.len() {
            let (ticket, input) = self.flight[at].clone();
            match input.deed {
                Deed::PanicInCompany if self.flight.len() > 1 => panic!("planned: company"),
                Deed::PanicInStep => panic!("planned: step of {}", input.number),
                Deed::PanicAfterDone => {
                    done.extend(self.flight.drain(..).map(|(t, i)| (t, i.number * 2)));
                    panic!("planned: after done");
                }
                Deed::Lose => {
                    self.flight.clear();
                    return false;
                }
                Deed::Repeat => {
                    done.push((ticket, input.number * 2));
                    done.push((Ticket(ticket.0 + 1_000_000), 7));
                }
                _ => {}
            }
        }
        for _ in 0..1 + self.chance.below(self.most as u64) {
            if !self.flight.is_empty() {
                let at = self.chance.below(self.flight.len() as u64) as usize;
                let (ticket, input) = self.flight.swap_remove(at);
                if let Some(key) = input.key {
                    self.diary.end(key);
                }
                done.push((ticket, input.number * 2));
            }
        }
        !self.flight.is_empty()
    }
}

impl Drop for Juggler {
    fn drop(&mut self) {
        self.diary.dropped.fetch_add(1, Ordering::SeqCst);
        // What is dropped unfinished (after a panic) is begun again later.
        for (_, input) in &self.flight {
            if let Some(key) = input.key {
                self.diary.end(key);
            }
        }
        if self.diary.panic_in_drop.load(Ordering::SeqCst) {
            panic!("planned: drop");
        }
    }
}

impl Diary {
    fn begin(&self, key: u64, number: u64) {
        let mut keys = self.keys.lock().unwrap();
        let (busy, last) = keys.entry(key).or_insert((false, 0));
        if *busy || number < *last {
            let wrong = format!("key {key}: {number} began, busy {busy}, after {last}");
            self.wrong.lock().unwrap().push(wrong);
        }
        (*busy, *last) = (true, number);
    }

    fn end(&self, key: u64) {
        self.keys.lock().unwrap().get_mut(&key).unwrap().0 = false;
    }

    fn check(&self) {
        assert_eq!(*self.wrong.lock().unwrap(), Vec::<String>::new());
    }
}

impl Input {
    fn work(number: u64) -> Self {
        Self { number, key: None, deed: Deed::Work }
    }
}

/// A pool of jugglers.
fn jugglers(options: PoolOptions, most: usize, seed: u64) -> (Pool<Input, u64>, Arc<Diary>) {
    quiet();
    let diary = Arc::new(Diary::default());
    let of_stages = diary.clone();
    let make = move |index| Ok(Juggler::new(most, seed + index as u64, &of_stages));
    (Pool::new(options, make).unwrap(), diary)
}

fn options(workers: usize, window_items: usize) -> PoolOptions {
    PoolOptions { window_items, ..PoolOptions::new(workers) }
}

/// Seeded chance (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Fails instead of hanging.
fn within<T: Send + 'static>(seconds: u64, test: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = channel::bounded(1);
    let thread = thread::spawn(move || send.send(test()));
    match receive.recv_timeout(Duration::from_secs(seconds)) {
        Ok(value) => value,
        Err(channel::RecvTimeoutError::Timeout) => panic!("hangs"),
        Err(_) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// Keeps planned panics out of the tests' output.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.starts_with("planned")) {
                usual(info);
            }
        }));
    });
}

/// What [`point`] follows; 0 does nothing.
static SEED: AtomicU64 = AtomicU64::new(0);

/// A place where another thread may come in between.
pub(super) fn point(name: &'static str) {
    let seed = SEED.load(Ordering::Relaxed);
    if seed == 0 {
        return;
    }
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let passed = PASSED.fetch_add(1, Ordering::Relaxed);
    let name = name.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
    match Chance(seed ^ passed.rotate_left(32) ^ name).below(32) {
        0..8 => thread::yield_now(),
        8 => thread::sleep(Duration::from_micros(1)),
        9..12 => (0..name % 400).for_each(|_| std::hint::spin_loop()),
        _ => {}
    }
}
