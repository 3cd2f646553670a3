//! Many short lives of small pools, each with its own seed for the sizes, the deeds, the
//! keys, the order of drops and the delays at the named points; with the feature `shuttle`
//! also for the order in which the threads take turns.

use super::*;

#[cfg(not(feature = "shuttle"))]
#[test]
fn any_interleaving_keeps_the_promises() {
    let schedules = std::env::var_os("SECONDPASS_FULL").map_or(10_000, |_| 100_000);
    within(schedules / 10, move || {
        for seed in 1..=schedules {
            SEED.store(seed, Ordering::Relaxed);
            live(seed);
        }
        SEED.store(0, Ordering::Relaxed);
    });
}

/// Each life under several schedules: chosen evenly, and with a few chosen changes of turn
/// (Burckhardt et al. 2010, which finds what needs few of them).
#[cfg(feature = "shuttle")]
#[test]
fn any_schedule_keeps_the_promises() {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    use shuttle::{Config, Runner};
    const PER_LIFE: usize = 4;
    let schedules = std::env::var_os("SECONDPASS_FULL").map_or(10_000, |_| 100_000);
    quiet();
    for seed in 1..=(schedules / PER_LIFE) as u64 {
        let half = PER_LIFE / 2;
        Runner::new(RandomScheduler::new_from_seed(seed, half), Config::new()).run(move || live(seed));
        Runner::new(PctScheduler::new_from_seed(seed, 3, half), Config::new()).run(move || live(seed));
    }
}

fn live(seed: u64) {
    let mut chance = Chance(seed);
    let workers = 1 + chance.below(3) as usize;
    let window = 1 + chance.below(6) as usize;
    let most = 1 + chance.below(3) as usize;
    let count = chance.below(14);
    let faults = chance.below(4) == 0;
    let taken = if chance.below(4) == 0 { chance.below(count + 1) } else { u64::MAX };
    let (pool, diary) = jugglers(options(workers, window), most, seed);
    let Pool { mut submitter, mut outputs } = pool;
    let producer = thread::spawn(move || {
        for number in 0..count {
            let key = chance.below(4).checked_sub(1);
            let deed = match chance.below(8) {
                0 if faults => Deed::PanicInCompany,
                1 if faults => Deed::PanicInStep,
                _ => Deed::Work,
            };
            let name = key.map(|key| vec![key as u8]);
            if submitter.submit(Input { number, key, deed }, 1, name).is_err() {
                return false;
            }
        }
        true
    });
    let mut next = 0;
    while next < taken {
        let Some((ticket, outcome)) = outputs.recv() else {
            break;
        };
        assert_eq!(ticket, Ticket(next), "seed {seed}");
        match outcome {
            Outcome::Done(output) => assert_eq!(output, next * 2, "seed {seed}"),
            Outcome::Panicked(why) => assert!(why.contains("step of"), "seed {seed}: {why}"),
            Outcome::Failed(why) => panic!("seed {seed}: {why}"),
        }
        next += 1;
        assert!(outputs.statistics().submitted - next <= window as u64 + 1, "seed {seed}");
    }
    let stages = |diary: &Diary| diary.stages.load(Ordering::SeqCst);
    drop(outputs);
    assert_eq!(stages(&diary), diary.dropped.load(Ordering::SeqCst), "seed {seed}");
    let complete = producer.join().unwrap();
    assert!(taken != u64::MAX || (complete && next == count), "seed {seed}: {next} of {count}");
    diary.check();
}
