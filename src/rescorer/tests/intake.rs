//! How many lists a worker has at a time.

use super::best::net;
use super::*;

/// Each list in flight keeps states and tries: no more are taken than fill the steps, and those are full.
#[test]
fn lists_are_taken_as_steps_need_them() {
    const ROWS: usize = 16;
    const LISTS: usize = 200;
    let rescorer =
        Rescorer::builder().lm("net", net(true), TextMap::default()).rows(ROWS).cache(0).build().unwrap();
    let list = |id: usize| {
        let word = |n: usize| ["a", "cat", "cats", "as", "zebra"][n % 5];
        let text = |n: usize| [1, 2, 3, 5, 7, 11].map(|every| word(id * every + n / every)).join(" ");
        let hypotheses: Vec<_> = (0..40).map(|n| (text(n), -1.0 - n as f64)).collect();
        Utterance::new(format!("u{id}"), hypotheses)
    };
    let mut worker = rescorer.worker().unwrap();
    let (mut next, mut flying, mut most, mut done) = (0, 0, 0, Vec::new());
    while next < LISTS || flying > 0 {
        while next < LISTS && worker.room() {
            worker.submit(Request { ticket: next as u64, utterance: list(next), ..Request::default() });
            (next, flying) = (next + 1, flying + 1);
        }
        most = most.max(flying);
        let before = done.len();
        worker.step(&mut done).unwrap();
        flying -= done.len() - before;
    }
    let work = worker.work()[0].1;
    let filled = work.rows as f64 / (work.steps * ROWS as u64) as f64;
    assert!(most <= 4, "{most} at a time");
    assert!(filled > 0.9, "{filled}");
    for finished in done.iter().step_by(40) {
        let mut alone = list(finished.ticket as usize);
        rescorer.worker().unwrap().rescore(&mut alone).unwrap();
        let scores = |list: &Utterance| -> Vec<_> {
            list.hypotheses.iter().map(|one| (one.rank, one.feature("net"))).collect()
        };
        assert_eq!(scores(&finished.utterance), scores(&alone));
    }
}
