//! Stages that panic, lose inputs or cannot be made: every input still has one outcome.

use std::sync::atomic::AtomicBool;

use super::*;

/// Runs inputs with these deeds; returns the outcomes and the statistics.
fn run(workers: usize, most: usize, deeds: Vec<Deed>, drops_panic: bool) -> (Vec<Outcome<u64>>, Statistics) {
    within(60, move || {
        let (pool, diary) = jugglers(options(workers, 32), most, 11);
        diary.panic_in_drop.store(drops_panic, Ordering::SeqCst);
        let Pool { mut submitter, mut outputs } = pool;
        let count = deeds.len() as u64;
        let producer = thread::spawn(move || {
            for (number, deed) in deeds.into_iter().enumerate() {
                let number = number as u64;
                submitter.submit(Input { number, key: None, deed }, 1, None).unwrap();
            }
        });
        let mut outcomes = Vec::new();
        for (ticket, outcome) in outputs.by_ref() {
            assert_eq!(ticket.0, outcomes.len() as u64);
            outcomes.push(outcome);
        }
        producer.join().unwrap();
        assert_eq!(outcomes.len() as u64, count);
        (outcomes, outputs.statistics())
    })
}

/// A deed for every tenth input, the others work; `check` sees the outcomes of the tenths.
fn every_tenth(deed: Deed, drops_panic: bool, check: impl Fn(u64, &Outcome<u64>)) {
    for workers in [1, 3] {
        let deeds = (0..500).map(|n| if n % 10 == 3 { deed } else { Deed::Work }).collect();
        let (outcomes, statistics) = run(workers, 6, deeds, drops_panic);
        assert!(deed == Deed::Repeat || statistics.remade > 0);
        for (number, outcome) in (0..).zip(&outcomes) {
            match number % 10 {
                3 => check(number, outcome),
                _ => assert_eq!(*outcome, Outcome::Done(number * 2)),
            }
        }
    }
}

fn done(number: u64, outcome: &Outcome<u64>) {
    assert_eq!(*outcome, Outcome::Done(number * 2));
}

#[test]
fn a_panic_costs_one_input() {
    every_tenth(Deed::PanicInStep, false, |number, outcome| {
        assert_eq!(*outcome, Outcome::Panicked(format!("planned: step of {number}")));
    });
    every_tenth(Deed::PanicInSubmit, false, |number, outcome| {
        assert_eq!(*outcome, Outcome::Panicked(format!("planned: submit of {number}")));
    });
}

#[test]
fn a_panic_in_company_costs_nothing() {
    every_tenth(Deed::PanicInCompany, false, done);
}

#[test]
fn outputs_before_a_panic_count() {
    every_tenth(Deed::PanicAfterDone, false, done);
}

#[test]
fn a_panic_in_drop_is_contained() {
    every_tenth(Deed::PanicInCompany, true, done);
    every_tenth(Deed::PanicInStep, true, |number, outcome| {
        assert_eq!(*outcome, Outcome::Panicked(format!("planned: step of {number}")));
    });
}

#[test]
fn a_lost_input_fails_and_its_company_does_not() {
    every_tenth(Deed::Lose, false, |_, outcome| {
        assert!(matches!(outcome, Outcome::Failed(why) if why.contains("lost")));
    });
}

#[test]
fn a_repeated_or_unknown_ticket_is_ignored() {
    every_tenth(Deed::Repeat, false, done);
}

#[test]
fn one_panic_in_a_thousand_costs_one_in_a_thousand() {
    let deeds = (0..10_000).map(|n| if n % 1000 == 500 { Deed::PanicInStep } else { Deed::Work });
    let (outcomes, _) = run(2, 8, deeds.collect(), false);
    let lost = outcomes.iter().filter(|outcome| !matches!(outcome, Outcome::Done(_))).count();
    assert_eq!(lost, 10);
}

#[test]
fn keys_go_on_after_a_panic() {
    within(60, || {
        let (pool, diary) = jugglers(options(3, 32), 6, 12);
        let Pool { mut submitter, outputs } = pool;
        let producer = thread::spawn(move || {
            let mut chance = Chance(13);
            for number in 0..2_000 {
                let key = chance.below(8);
                let deed = match number % 20 {
                    3 => Deed::PanicInStep,
                    7 => Deed::PanicInSubmit,
                    11 => Deed::PanicInCompany,
                    15 => Deed::Lose,
                    _ => Deed::Work,
                };
                let input = Input { number, key: Some(key), deed };
                submitter.submit(input, 1, Some(vec![key as u8])).unwrap();
            }
        });
        let good = outputs.filter(|(_, outcome)| matches!(outcome, Outcome::Done(_))).count();
        producer.join().unwrap();
        assert_eq!(good, 2_000 - 300);
        // `Lose` forgets what it had, so the diary sees those keys as busy for ever: only
        // the order within a key is looked at.
        let wrong = diary.wrong.lock().unwrap();
        assert!(wrong.iter().all(|line| line.contains("busy true")), "{wrong:?}");
    });
}

#[test]
fn a_stage_that_cannot_be_made_fails_the_start() {
    quiet();
    within(60, || {
        let diary = Arc::new(Diary::default());
        let of_stages = diary.clone();
        let make = move |index| match index {
            1 => Err(Error::config("no such model")),
            2 => panic!("planned: make"),
            _ => Ok(Juggler::new(1, 0, &of_stages)),
        };
        let error = Pool::new(options(4, 8), make).unwrap_err();
        assert_eq!(error.to_string(), "no such model");
        assert_eq!(Arc::strong_count(&diary), 1, "threads are joined");
        let make = |_| -> Result<Juggler> { panic!("planned: make") };
        let error = Pool::new(options(1, 8), make).unwrap_err().to_string();
        assert!(error.contains("worker 0 panicked at its start: planned: make"), "{error}");
    });
}

#[test]
fn everything_drains_when_no_stage_can_be_made_again() {
    quiet();
    for workers in [1, 3] {
        within(60, move || {
            let diary = Arc::new(Diary::default());
            let broken = Arc::new(AtomicBool::new(false));
            let (of_stages, of_make) = (diary.clone(), broken.clone());
            let make = move |index: usize| match of_make.load(Ordering::SeqCst) {
                true if index.is_multiple_of(2) => Err(Error::config("out of memory")),
                true => panic!("planned: make"),
                false => Ok(Juggler::new(4, index as u64, &of_stages)),
            };
            let Pool { mut submitter, mut outputs } = Pool::new(options(workers, 16), make).unwrap();
            broken.store(true, Ordering::SeqCst);
            let repair = broken.clone();
            let producer = thread::spawn(move || {
                for number in 0..200 {
                    let deed = if number % 4 == 0 { Deed::PanicInStep } else { Deed::Work };
                    let key = (number % 3 == 0).then(|| vec![number as u8 % 2]);
                    submitter.submit(Input { number, key: None, deed }, 1, key).unwrap();
                }
                // Once stages can be made again, the last worker comes back.
                repair.store(false, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1_100));
                submitter.submit(Input::work(200), 1, None).unwrap();
            });
            let mut failed = 0;
            for number in 0..200 {
                let (ticket, outcome) = outputs.recv().unwrap();
                assert_eq!(ticket, Ticket(number));
                match outcome {
                    Outcome::Done(output) => assert_eq!(output, number * 2),
                    Outcome::Failed(why) => {
                        assert!(why.contains("no worker could be made"), "{why}");
                        failed += 1;
                    }
                    Outcome::Panicked(why) => panic!("{why}"),
                }
            }
            assert!(failed >= 150, "{failed}");
            assert_eq!(outputs.recv(), Some((Ticket(200), Outcome::Done(400))));
            producer.join().unwrap();
            assert_eq!(outputs.recv(), None);
        });
    }
}

/// Its inputs and outputs panic when they are dropped.
struct Sour(bool);

impl Drop for Sour {
    fn drop(&mut self) {
        if self.0 && !thread::panicking() {
            panic!("planned: sour");
        }
    }
}

struct Taster(Vec<Ticket>);

impl Stage for Taster {
    type In = Sour;
    type Out = ();

    fn room(&self) -> bool {
        panic!("planned: room");
    }

    fn submit(&mut self, ticket: Ticket, input: Arc<Sour>) {
        self.0.push(ticket);
        drop(input);
    }

    fn step(&mut self, done: &mut Vec<(Ticket, ())>) -> bool {
        done.extend(self.0.drain(..).map(|ticket| (ticket, ())));
        false
    }
}

#[test]
fn inputs_that_panic_when_dropped_and_a_room_that_panics_cost_nothing() {
    quiet();
    within(60, || {
        let make = |_| Ok(Taster(Vec::new()));
        let Pool { mut submitter, outputs } = Pool::new(options(2, 16), make).unwrap();
        let producer = thread::spawn(move || {
            for number in 0..100 {
                assert!(submitter.submit(Sour(number % 2 == 0), 1, None).is_ok());
            }
        });
        assert!(outputs.map(|(_, outcome)| outcome).eq((0..100).map(|_| Outcome::Done(()))));
        producer.join().unwrap();
    });
}
