//! Small steps compute states only, and are answered together.

use std::time::{Duration, Instant};

use super::*;

/// A small step computes states only; what is asked after it is answered with what is asked after others.
#[test]
fn small_steps_are_answered_together() {
    // Two histories a step, forty steps deep.
    let lists: Vec<Vec<u32>> = (0..2).map(|list| (0..40).map(|at| 200 + list * 50 + at).collect()).collect();
    let trie = trie(&lists);
    let mut scheduler = with_answers(128, false, None, true);
    let slot = scheduler.submit(job(&trie)).unwrap();
    assert_eq!(finish(&mut scheduler, slot), plain(&trie, 1, None));
    // One pass for all 79 histories.
    assert_eq!((scheduler.kernel.rows, scheduler.kernel.passes), (79, 1));
    scheduler.release(slot);
    assert!(all_given_back(&scheduler));

    // Bounded: no more wait than a step may have rows.
    let long: Vec<u32> = (0..300).map(|at| 500 + at).collect();
    let deep = self::trie(&[long]);
    let slot = scheduler.submit(job(&deep)).unwrap();
    assert_eq!(finish(&mut scheduler, slot), plain(&deep, 1, None));
    assert_eq!(scheduler.kernel.passes, 1 + 300usize.div_ceil(128));
}

/// What small steps lead to is run with them, as long as it is little and all together no more than a step
/// may have.
#[test]
fn small_steps_are_one_call_of_the_kernel() {
    let trie = trie(&[(200..240).collect(), (250..290).collect()]);
    // 79 histories: the start, then two a step; sixteen steps a call at most. Of 25 rows the thirteenth has no room.
    for (rows, calls) in [(200, 3), (128, 3), (79, 3), (32, 3), (25, 4), (3, 79 - 39), (1, 79)] {
        let mut scheduler = with_answers(rows, false, None, true);
        let slot = scheduler.submit(job(&trie)).unwrap();
        assert_eq!(finish(&mut scheduler, slot), plain(&trie, 1, None));
        let Work { steps, rows: run, .. } = scheduler.work();
        assert_eq!((scheduler.kernel.calls, run), (calls, 79), "{rows} rows a step");
        assert_eq!(steps, if rows == 1 { 79 } else { 40 });
    }
    // A large step among small ones is one by itself: it is answered at once.
    let wide: Vec<Vec<u32>> = (0..70).map(|at| vec![1, 2, 100 + at, 3]).collect();
    let trie = self::trie(&wide);
    let mut scheduler = with_answers(128, false, None, true);
    let slot = scheduler.submit(job(&trie)).unwrap();
    assert_eq!(finish(&mut scheduler, slot), plain(&trie, 1, None));
    assert_eq!((scheduler.kernel.calls, scheduler.kernel.passes), (2, 2));
}

/// A start that cannot be loaded is its job's failure alone.
#[test]
fn a_start_of_another_model_takes_no_other_job_with_it() {
    let tries = [trie(&[vec![1, 2, 3, 4]]), trie(&[vec![5, 6]]), trie(&[vec![7, 1, 2], vec![1, 2, 5]])];
    for kept in [0, 1 << 20] {
        let mut scheduler = with_answers(64, false, None, true);
        scheduler.remember(kept);
        let foreign = Some(Carry(Arc::new("another model's")));
        let starts = [None, foreign, None];
        let submit = |(trie, start)| scheduler.submit(Job { start, ..job(trie) }).unwrap();
        let slots: Vec<_> = tries.iter().zip(starts).map(submit).collect();
        for _ in 0..10 {
            scheduler.step().unwrap();
        }
        for (at, &slot) in slots.iter().enumerate() {
            match take(&mut scheduler, slot).unwrap() {
                Ok((ln, _)) => assert_eq!((at != 1, ln), (true, plain(&tries[at], 1, None))),
                Err(error) => assert!(at == 1 && error.to_string().contains("carry")),
            }
        }
        slots.into_iter().for_each(|slot| scheduler.release(slot));
        assert!(all_given_back(&scheduler));
    }
}

/// Each step is answered by itself where somebody counts on that.
#[test]
fn answers_do_not_wait_where_time_is_short_or_jobs_are_kept_apart() {
    let trie = trie(&[(200..240).collect(), (250..290).collect()]);
    let minute = Duration::from_secs(60);
    for case in ["step time", "deadline", "alone", "focus"] {
        let mut scheduler = with_answers(128, case == "alone", None, true);
        scheduler.limits.step_time = (case == "step time").then_some(minute);
        let deadline = (case == "deadline").then(|| Instant::now() + minute);
        let slot = scheduler.submit(Job { deadline, ..job(&trie) }).unwrap();
        if case == "focus" {
            scheduler.focus(slot, &[true, true]);
        }
        assert_eq!(finish(&mut scheduler, slot), plain(&trie, 1, None));
        assert_eq!(scheduler.kernel.passes, 40, "{case}");
    }
}

/// Who moves the focus by what came last would come too late if answers waited.
#[test]
fn a_step_of_a_focused_job_is_answered_before_the_focus_moves() {
    let trie = trie(&[vec![1, 2, 0], vec![3, 4, 5, 0], vec![6, 7, 0]]);
    let mut scheduler = with_answers(64, false, None, true);
    let slot = scheduler.submit(job(&trie)).unwrap();
    // The first words of all are asked for: one history answers them.
    scheduler.focus(slot, &[true; 3]);
    scheduler.step().unwrap();
    let known = scheduler.known(slot).unwrap();
    let all = plain(&trie, 1, None);
    let first = |node: &usize| trie.parent[*node] == 0;
    assert!((1..trie.len()).filter(first).all(|node| known.ln[node] == all[node]));
    // By them, only one can win.
    scheduler.focus(slot, &[true, false, false]);
    (0..9).for_each(|_| scheduler.step().unwrap());
    assert!(scheduler.known(slot).unwrap().idle);
    assert_eq!(scheduler.kernel.rows, 3, "the start, `1` and `1 2`");
}

/// Rows that fail are tried alone, and so are answers.
#[test]
fn a_question_that_fails_takes_no_other_job_with_it() {
    let good = [trie(&[vec![1, 2, 3, 4]]), trie(&[vec![5, 6, 7, 8, 9]])];
    let bad = trie(&[vec![7, 1, UNKNOWN], vec![7, 2, 3, 4]]);
    let mut scheduler = with_answers(64, false, None, true);
    let slots = [&good[0], &bad, &good[1]].map(|trie| scheduler.submit(job(trie)).unwrap());
    for _ in 0..10 {
        scheduler.step().unwrap();
    }
    assert_eq!(take(&mut scheduler, slots[0]).unwrap().unwrap().0, plain(&good[0], 1, None));
    assert!(take(&mut scheduler, slots[1]).unwrap().unwrap_err().to_string().contains("poison"));
    assert_eq!(take(&mut scheduler, slots[2]).unwrap().unwrap().0, plain(&good[1], 1, None));
    slots.into_iter().for_each(|slot| scheduler.release(slot));
    assert!(all_given_back(&scheduler));
}

/// Who leaves while it waits for answers is forgotten, also when another has its slot.
#[test]
fn a_job_cancelled_before_its_answers_leaves_nothing() {
    let lists = [vec![1, 2, 3, 4], vec![1, 5, 6, 7]];
    let (first, second) = (trie(&lists), trie(&[vec![8, 9, 3]]));
    for released in [false, true] {
        let mut scheduler = with_answers(128, false, None, true);
        let slot = scheduler.submit(job(&first)).unwrap();
        scheduler.step().unwrap();
        scheduler.step().unwrap();
        scheduler.cancel(slot);
        if released {
            scheduler.release(slot);
        }
        let next = scheduler.submit(job(&second)).unwrap();
        assert_eq!(next == slot, released);
        assert_eq!(finish(&mut scheduler, next), plain(&second, 1, None));
        scheduler.release(next);
        scheduler.release(slot);
        assert!(all_given_back(&scheduler));
    }
}

/// One utterance of the random test.
#[derive(Debug, Clone)]
struct Plan {
    list: Vec<Vec<u32>>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Boundaries,
    Carried(u64),
    Kept,
    Held,
    Deadline,
    /// A token in it fails: where it is fed, or where it is asked for.
    Fails(u32),
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let list = || prop::collection::vec(prop::collection::vec(0u32..4, 0..9), 0..9);
    let kind = prop_oneof![
        6 => Just(Kind::Plain),
        1 => Just(Kind::Boundaries),
        1 => (2u64..4).prop_map(Kind::Carried),
        1 => Just(Kind::Kept),
        1 => Just(Kind::Held),
        1 => Just(Kind::Deadline),
        1 => prop_oneof![Just(POISON), Just(UNKNOWN)].prop_map(Kind::Fails),
    ];
    let plan = (list(), kind).prop_map(|(mut list, kind)| {
        if let Kind::Fails(token) = kind {
            // After a word that no other has: a row is asked for all who share it.
            list.push(vec![7, 1, token, 2]);
        }
        Plan { list, kind }
    });
    prop::collection::vec(plan, 1..14)
}

/// Mass of word starts after each history at which a word ends.
fn boundaries(trie: &Trie) -> Vec<f32> {
    let mut mass = vec![0.0; trie.len()];
    for node in 1..trie.len() as u32 {
        let parent = trie.parent[node as usize];
        if parent == 0 || trie.word[node as usize] != trie.word[parent as usize] {
            mass[parent as usize] = answer(after(trie, parent, 1), BOUNDARY);
        }
    }
    mass
}

/// The state after a node.
fn after(trie: &Trie, node: u32, start: u64) -> u64 {
    let mut path: Vec<u32> = trie.path(node).map(|at| trie.token[at as usize]).collect();
    path.push(BOS);
    path.iter().rev().fold(start, |state, &token| feed(state, token))
}

/// Distinct histories of those lists that begin with the model's own start, and of each other start.
fn histories(plans: &[Plan]) -> u64 {
    let start = |plan: &Plan| if let Kind::Carried(start) = plan.kind { start } else { 1 };
    let of = |number| {
        let lists = plans.iter().filter(|plan| start(plan) == number).map(|plan| plan.list.clone());
        distinct(&lists.collect::<Vec<_>>())
    };
    (1..4).map(of).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Small and large steps, jobs of all kinds that come and go, cancelled, failing and focused: each has
    /// the plain loop's scores or its own failure, no history is run twice for nothing, and nothing stays.
    #[test]
    fn deferred_answers_are_the_plain_loops(
        plans in plans(),
        moves in prop::collection::vec((0u8..16, any::<u64>()), 0..80),
        rows in prop_oneof![1usize..9, 9usize..60],
        kept in prop_oneof![Just(0usize), 1..20usize, Just(1 << 20)],
        at_once in any::<bool>(),
    ) {
        let tries: Vec<_> = plans.iter().map(|plan| trie(&plan.list)).collect();
        let carries: Vec<_> = (0..4u64).map(|state| Carry(Arc::new(state))).collect();
        let mut scheduler = with_answers(rows, false, None, true);
        scheduler.remember(kept * (8 + super::super::ENTRY_BYTES));
        let submit = |scheduler: &mut Scheduler<Hash>, at: usize| {
            let mut job = job(&tries[at]);
            match plans[at].kind {
                Kind::Boundaries => job.boundaries = true,
                Kind::Carried(start) => job.start = Some(carries[start as usize].clone()),
                Kind::Kept => job.keep = true,
                Kind::Deadline => job.deadline = Some(Instant::now() + Duration::from_secs(600)),
                Kind::Plain | Kind::Held | Kind::Fails(_) => {}
            }
            let held = plans[at].kind == Kind::Held;
            (if held { scheduler.submit_held(job) } else { scheduler.submit(job) }.unwrap(), at)
        };
        let mut waiting: Vec<usize> = (0..tries.len()).rev().collect();
        let mut flying = Vec::new();
        if at_once {
            flying.extend(waiting.drain(..).map(|at| submit(&mut scheduler, at)));
        }
        let (mut cancelled, mut focused, mut failed, mut carried) = (false, false, false, 0);
        let mut moves = moves.into_iter();
        let mut idle = 0;
        while !waiting.is_empty() || !flying.is_empty() {
            let (what, chance) = moves.next().unwrap_or((15, 0));
            let one = (chance % flying.len().max(1) as u64) as usize;
            match what {
                0..4 if !waiting.is_empty() => {
                    let at = waiting.pop().unwrap();
                    flying.push(submit(&mut scheduler, at));
                }
                4 if flying.len() > 1 => {
                    let (slot, _) = flying.swap_remove(one);
                    scheduler.cancel(slot);
                    if chance % 3 == 0 {
                        scheduler.step().unwrap();
                    }
                    scheduler.release(slot);
                    cancelled = true;
                }
                5 if !flying.is_empty() => {
                    let (slot, at) = flying[one];
                    let ends: Vec<bool> = (0..tries[at].ends.len()).map(|end| chance >> end & 1 == 1).collect();
                    scheduler.focus(slot, &ends);
                    focused = true;
                }
                _ => {
                    if flying.is_empty() {
                        let at = waiting.pop().unwrap();
                        flying.push(submit(&mut scheduler, at));
                    }
                    if moves.len() == 0 && focused {
                        for &(slot, at) in &flying {
                            scheduler.focus(slot, &vec![true; tries[at].ends.len()]);
                        }
                    }
                    scheduler.step().unwrap();
                    idle += usize::from(moves.len() == 0);
                    prop_assert!(idle < 2000, "jobs do not come to an end");
                }
            }
            let mut index = 0;
            while index < flying.len() {
                let (slot, at) = flying[index];
                let Some(scores) = take(&mut scheduler, slot) else {
                    index += 1;
                    continue;
                };
                let kind = plans[at].kind;
                if matches!(kind, Kind::Fails(_)) {
                    prop_assert!(scores.is_err());
                    failed = true;
                } else {
                    let (ln, mass) = scores.unwrap();
                    let start = if let Kind::Carried(start) = kind { start } else { 1 };
                    prop_assert_eq!(ln, plain(&tries[at], start, None));
                    if kind == Kind::Boundaries {
                        prop_assert_eq!(mass, boundaries(&tries[at]));
                    }
                    if let (Kind::Kept, Some(&end), true) = (kind, tries[at].ends.last(), tries[at].len() > 1) {
                        let before = scheduler.kernel.rows;
                        let carry = scheduler.carry(slot, end).unwrap().unwrap();
                        prop_assert_eq!(carry.0.downcast_ref::<u64>(), Some(&after(&tries[at], end, 1)));
                        carried += scheduler.kernel.rows - before;
                    }
                }
                scheduler.release(slot);
                flying.swap_remove(index);
            }
        }
        prop_assert!(scheduler.kernel.largest <= rows);
        prop_assert!(all_given_back(&scheduler));
        let Work { rows, shared, hits, .. } = scheduler.work();
        if !cancelled && !failed {
            let units = |trie: &Arc<Trie>| {
                trie.parent.iter().skip(1).collect::<std::collections::HashSet<_>>().len() as u64
            };
            let units: u64 = tries.iter().map(units).sum();
            prop_assert_eq!(rows - carried + shared + hits, units, "each is run, shared or found");
            let own = plans.iter().all(|plan| !matches!(plan.kind, Kind::Carried(_)));
            // Who starts with the others goes with them, so that nothing need be remembered.
            if !focused && at_once || own && kept == 1 << 20 {
                prop_assert_eq!(rows - carried, histories(&plans));
            }
        }
    }
}
