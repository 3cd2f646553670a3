//! Order, window, keys and the ends of a pool whose stages behave.

use std::time::Instant;

use super::*;

#[test]
fn order_is_kept_for_any_number_of_workers() {
    for workers in [1, 2, 3, 4, 8, 16] {
        within(60, move || {
            let (pool, _) = jugglers(options(workers, 64), 8, 1);
            let Pool { mut submitter, mut outputs } = pool;
            let producer = thread::spawn(move || {
                for number in 0..10_000 {
                    let ticket = submitter.submit(Input::work(number), 1, None).unwrap();
                    assert_eq!(ticket, Ticket(number));
                }
            });
            for number in 0..10_000 {
                assert_eq!(outputs.recv(), Some((Ticket(number), Outcome::Done(number * 2))));
            }
            assert_eq!(outputs.recv(), None);
            assert_eq!(outputs.try_recv(), Err(RecvError::Ended));
            producer.join().unwrap();
            let statistics = outputs.statistics();
            let all = Statistics { submitted: 10_000, finished: 10_000, taken: 10_000, remade: 0 };
            assert_eq!(statistics, all);
            assert_eq!(statistics.in_flight(), 0);
        });
    }
}

#[test]
fn window_is_never_exceeded() {
    within(60, || {
        let mut chance = Chance(3);
        let weights: Arc<Vec<u64>> = Arc::new((0..5_000).map(|_| chance.below(30)).collect());
        let (pool, _) = jugglers(PoolOptions { window_bytes: 100, ..options(3, 10) }, 4, 2);
        let Pool { mut submitter, mut outputs } = pool;
        let of_producer = weights.clone();
        let (items, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (most_items, most_bytes) = (items.clone(), bytes.clone());
        let producer = thread::spawn(move || {
            let mut sum = 0;
            for number in 0..5_000 {
                let weight = of_producer[number];
                sum += weight;
                submitter.submit(Input::work(number as u64), weight as usize, None).unwrap();
                // All that had come out by now, or later: the window holds no less than this.
                let taken = submitter.statistics().taken as usize;
                let out: u64 = of_producer[..taken].iter().sum();
                items.fetch_max((number + 1 - taken) as u64, Ordering::SeqCst);
                bytes.fetch_max(sum - out, Ordering::SeqCst);
            }
        });
        while outputs.recv().is_some() {
            assert!(outputs.early.len() <= 10);
        }
        producer.join().unwrap();
        assert!((2..=10).contains(&most_items.load(Ordering::SeqCst)));
        assert!((30..=100).contains(&most_bytes.load(Ordering::SeqCst)));
    });
}

#[test]
fn a_consumer_that_stops_stops_the_producer() {
    within(60, || {
        let (pool, _) = jugglers(options(2, 7), 4, 3);
        let Pool { mut submitter, mut outputs } = pool;
        for number in 0..7 {
            submitter.submit(Input::work(number), 1, None).unwrap();
        }
        let error = submitter.try_submit(Input::work(7), 1, None).unwrap_err();
        assert!(matches!(&error, SubmitError::Full(input) if input.number == 7));
        let before = Instant::now();
        let wait = Duration::from_millis(20);
        assert!(submitter.submit_timeout(error.into_inner(), 1, None, wait).is_err());
        assert!(before.elapsed() >= wait);
        // All are finished, and still the window is full until one is taken.
        while outputs.statistics().finished < 7 {
            thread::yield_now();
        }
        assert!(submitter.try_submit(Input::work(7), 1, None).is_err());
        assert!(!outputs.idle());
        assert_eq!(outputs.try_recv().unwrap().0, Ticket(0));
        assert_eq!(submitter.try_submit(Input::work(7), 1, None).unwrap(), Ticket(7));
        for number in 1..8 {
            assert_eq!(outputs.recv(), Some((Ticket(number), Outcome::Done(number * 2))));
        }
        assert!(outputs.idle());
        assert_eq!(outputs.try_recv(), Err(RecvError::Empty));
        assert_eq!(outputs.recv_timeout(Duration::from_millis(5)), Err(RecvError::Empty));
    });
}

#[test]
fn a_heavy_input_is_let_in_alone() {
    within(60, || {
        let (pool, _) = jugglers(PoolOptions { window_bytes: 10, ..options(1, 8) }, 4, 4);
        let Pool { mut submitter, mut outputs } = pool;
        submitter.try_submit(Input::work(0), 1000, None).unwrap();
        assert!(submitter.try_submit(Input::work(1), 1, None).is_err());
        outputs.recv().unwrap();
        submitter.try_submit(Input::work(1), 1, None).unwrap();
        assert!(submitter.try_submit(Input::work(2), usize::MAX, None).is_err());
        outputs.recv().unwrap();
        submitter.try_submit(Input::work(2), usize::MAX, None).unwrap();
        outputs.recv().unwrap();
    });
}

#[test]
fn equal_keys_run_one_after_another() {
    for workers in [1, 2, 4] {
        within(60, move || {
            let (pool, diary) = jugglers(options(workers, 64), 8, 5);
            let Pool { mut submitter, mut outputs } = pool;
            let producer = thread::spawn(move || {
                let mut chance = Chance(6);
                for number in 0..10_000 {
                    let key = chance.below(51).checked_sub(1);
                    let input = Input { number, key, deed: Deed::Work };
                    let key = key.map(|key| key.to_le_bytes().to_vec());
                    submitter.submit(input, 1, key).unwrap();
                }
            });
            for number in 0..10_000 {
                assert_eq!(outputs.recv(), Some((Ticket(number), Outcome::Done(number * 2))));
            }
            assert_eq!(outputs.recv(), None);
            producer.join().unwrap();
            diary.check();
        });
    }
}

/// Finishes an input when the test says so.
struct Gate(Vec<(Ticket, Arc<u64>)>, channel::Sender<u64>, channel::Receiver<()>);

impl Stage for Gate {
    type In = u64;
    type Out = u64;

    fn room(&self) -> bool {
        false
    }

    fn submit(&mut self, ticket: Ticket, input: Arc<u64>) {
        self.1.send(*input).unwrap();
        self.0.push((ticket, input));
    }

    fn step(&mut self, done: &mut Vec<(Ticket, u64)>) -> bool {
        let (ticket, input) = self.0.pop().unwrap();
        if *input < 100 {
            let _ = self.2.recv();
        }
        done.push((ticket, *input));
        false
    }
}

#[test]
fn a_long_run_of_one_key_does_not_block_others() {
    within(60, || {
        let (begun, begins) = channel::bounded(100);
        let (open, gate) = channel::bounded(100);
        let make = move |_| Ok(Gate(Vec::new(), begun.clone(), gate.clone()));
        let Pool { mut submitter, mut outputs } = Pool::new(options(2, 10), make).unwrap();
        let one = Some(b"one".to_vec());
        for number in 0..8 {
            submitter.submit(number, 1, one.clone()).unwrap();
        }
        submitter.submit(100, 1, Some(b"two".to_vec())).unwrap();
        submitter.submit(101, 1, None).unwrap();
        assert!(submitter.try_submit(102, 1, None).is_err(), "waiting inputs fill the window");
        let mut seen: Vec<u64> = begins.iter().take(3).collect();
        seen.sort();
        assert_eq!(seen, [0, 100, 101]);
        // The end of input with a chain of waiting inputs.
        drop(submitter);
        for _ in 0..8 {
            open.send(()).unwrap();
        }
        let all: Vec<u64> = outputs.by_ref().map(|(ticket, _)| ticket.0).collect();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn one_thread_may_use_both_ends() {
    within(60, || {
        let (pool, _) = jugglers(options(2, 4), 3, 7);
        let Pool { mut submitter, mut outputs } = pool;
        let mut next = 0;
        for number in 0..1_000 {
            let mut input = Input::work(number);
            while let Err(error) = submitter.try_submit(input, 1, None) {
                input = error.into_inner();
                assert_eq!(outputs.recv().unwrap().0, Ticket(next));
                next += 1;
            }
        }
        drop(submitter);
        assert_eq!(outputs.count() as u64 + next, 1_000);
    });
}

#[test]
fn ends_may_be_dropped_in_any_order() {
    within(60, || {
        for round in 0..200 {
            let (pool, diary) = jugglers(options(1 + round % 3, 4), 3, round as u64);
            let stages = 1 + round % 3;
            let Pool { mut submitter, mut outputs } = pool;
            for number in 0..(round % 5) as u64 {
                let key = (number % 2 == 0).then(|| b"k".to_vec());
                let _ = submitter.try_submit(Input::work(number), 1, key);
            }
            match round % 4 {
                0 => drop(outputs),
                1 => {
                    drop(submitter);
                    drop(outputs);
                }
                2 => {
                    drop(submitter);
                    outputs.by_ref().for_each(drop);
                    drop(outputs);
                }
                _ => {
                    // A submitter that waits learns that nobody will take outputs.
                    let waiting = thread::spawn(move || {
                        loop {
                            if let Err(error) = submitter.submit(Input::work(0), 1, None) {
                                break error;
                            }
                        }
                    });
                    thread::sleep(Duration::from_micros(200));
                    drop(outputs);
                    assert!(matches!(waiting.join().unwrap(), SubmitError::Stopped(_)));
                }
            }
            assert_eq!(diary.dropped.load(Ordering::SeqCst), stages as u64, "threads are joined");
        }
    });
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let make = |_| Ok(Juggler::new(1, 0, &Arc::default()));
    assert!(matches!(Pool::new(options(0, 1), make), Err(Error::Config(_))));
    assert!(matches!(Pool::new(options(1, 0), make), Err(Error::Config(_))));
    assert!(matches!(Pool::new(options(1, usize::MAX), make), Err(Error::Config(_))));
    assert_eq!(PoolOptions::new(1).window_items, 64);
    assert_eq!(PoolOptions::new(8).window_items, 128);
}
