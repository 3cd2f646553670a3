//! Winners by scores that are a little off, confirmed: those that exact scores of everything give.

use std::collections::HashMap;

use proptest::prelude::*;

use super::best::{NetModel, Recipe, builder_of, lists, net, recipes, utterances};
use super::*;

/// A network whose answers are off by so much at most.
fn blurred(words: bool, blur: f32) -> Arc<NetModel> {
    Arc::new(NetModel { spec: table(words).spec, fault: None, blur })
}

/// Everything in flight at once, in the order it came.
fn run(rescorer: &Rescorer, lists: &[Vec<(String, f64)>]) -> Vec<Finished> {
    let mut worker = rescorer.worker().unwrap();
    let mut done = Vec::new();
    for (utterance, ticket) in utterances(lists).into_iter().zip(0..) {
        worker.submit(Request { ticket, utterance, ..Request::default() });
    }
    while !worker.is_idle() {
        worker.step(&mut done).unwrap();
    }
    done.sort_by_key(|finished| finished.ticket);
    done
}

fn totals(finished: &Finished) -> HashMap<u32, f64> {
    finished.utterance.hypotheses.iter().map(|hypothesis| (hypothesis.rank, hypothesis.total)).collect()
}

fn first(finished: &Finished) -> Option<(u32, f64)> {
    finished.utterance.best().map(|best| (best.rank, best.total))
}

fn confirmed(recipe: &Recipe, blur: f32, margin: f64) -> Builder {
    builder_of(recipe, blurred(recipe.words, blur)).exact("net", net(recipe.words)).confirm(Some(margin))
}

proptest! {
    /// Where no total is off by half of the margin, the winner is that of exact scores of everything, and
    /// so is its total if it had a rival. Everybody else has the one total or the other.
    #[test]
    fn the_winner_is_that_of_exact_scores(
        recipe in recipes(), lists in lists(), blur in 0.0..0.6f32, only in prop::option::of(1usize..5),
        spare in prop_oneof![Just(1.001), 1.0..4.0f64],
    ) {
        let exact = run(&builder_of(&recipe, net(recipe.words)).build().unwrap(), &lists);
        let inexact = run(&builder_of(&recipe, blurred(recipe.words, blur)).build().unwrap(), &lists);
        let pairs = exact.iter().zip(&inexact);
        let errors = pairs.flat_map(|(exact, inexact)| {
            let exact = totals(exact);
            totals(inexact).into_iter().map(move |(rank, total)| (total - exact[&rank]).abs())
        });
        let margin = 2.0 * spare * errors.fold(1e-6, f64::max);
        let best = only.map(|width| BestOnly { width, ..BestOnly::default() });
        let some = run(&confirmed(&recipe, blur, margin).best_only(best).build().unwrap(), &lists);
        for ((exact, inexact), some) in exact.iter().zip(&inexact).zip(&some) {
            prop_assert_eq!(&exact.utterance.status, &some.utterance.status);
            prop_assert_eq!(first(exact).map(|first| first.0), first(some).map(|first| first.0));
            let (right, before, after) = (totals(exact), totals(inexact), totals(some));
            let changed = after.iter().filter(|(rank, total)| **total != before[*rank] && !total.is_nan());
            for (rank, total) in changed.clone() {
                prop_assert_eq!(*total, right[rank]);
            }
            prop_assert!(changed.count() <= some.confirmed);
            if some.confirmed > 0 {
                prop_assert!(some.confirmed > 1);
                prop_assert_eq!(first(exact), first(some));
            } else if let Some(winner) = some.utterance.best() {
                let rival = inexact.utterance.hypotheses.iter().find(|other| {
                    other.bytes != winner.bytes && other.total >= before[&winner.rank] - margin
                });
                let weighs = recipe.mix.map_or(recipe.weights[0] != 0.0, |_| recipe.weights[0] != 0.0);
                prop_assert!(rival.is_none() || !weighs, "{:?} was no rival", rival);
            }
        }
    }

    /// Whatever the errors: who wins against a rival has an exact total, and the greatest one.
    #[test]
    fn the_winner_has_an_exact_total(
        recipe in recipes(), lists in lists(), blur in 0.0..3.0f32, margin in 0.0..3.0f64,
    ) {
        let exact = run(&builder_of(&recipe, net(recipe.words)).build().unwrap(), &lists);
        let some = run(&confirmed(&recipe, blur, margin).build().unwrap(), &lists);
        for (exact, some) in exact.iter().zip(&some) {
            let Some((rank, total)) = first(some) else { continue };
            prop_assert!(some.utterance.hypotheses.iter().all(|other| other.total <= total));
            if some.confirmed > 0 {
                prop_assert_eq!(total, totals(exact)[&rank]);
            }
        }
    }
}

fn list(texts: &[(&str, f64)]) -> Vec<Vec<(String, f64)>> {
    vec![texts.iter().map(|&(text, score)| (text.to_owned(), score)).collect()]
}

const SUM: Recipe = Recipe { mix: None, words: true, weights: [1.0, 0.5], eos: true };

#[test]
fn a_winner_without_rivals_costs_nothing() {
    let rescorer = confirmed(&SUM, 0.1, 1.0).build().unwrap();
    // The others are far behind, or of the same words.
    let mut worker = rescorer.worker().unwrap();
    let lists = list(&[("a cat", -1.0), ("a cat", -1.2), ("cat cats", -50.0)]);
    worker.rescore(&mut utterances(&lists)[0]).unwrap();
    let work = worker.work();
    assert_eq!(work.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["net", "table", "net.exact"]);
    assert_eq!((work[0].1.rows > 0, work[2].1.rows), (true, 0));
    // Two rivals, of whom the exact model runs the histories: `<s>`, `a`, `cat` and `cats`.
    let lists = list(&[("a cat", -1.0), ("a cats", -1.1), ("cat cats", -50.0)]);
    let mut far = utterances(&lists).remove(0);
    let rescorer = confirmed(&SUM, 0.1, 20.0).build().unwrap();
    let mut worker = rescorer.worker().unwrap();
    worker.rescore(&mut far).unwrap();
    assert_eq!(worker.work()[2].1.rows, 4);
}

/// As when everything is scored exactly, what fails costs the list; but only if it is scored again.
#[test]
fn exact_scores_that_are_none_cost_the_list() {
    let mut faulty = Vec::new();
    table(true).spec.vocab.encode(b"cats", &mut faulty);
    let token = *faulty.last().unwrap();
    for (answer, best) in [0.0, f32::NAN, f32::NEG_INFINITY]
        .into_iter()
        .flat_map(|answer| [(answer, None), (answer, Some(BestOnly::default()))])
    {
        let fault = NetModel { fault: Some((token, answer)), spec: table(true).spec, blur: 0.0 };
        let rescorer = builder_of(&SUM, blurred(true, 0.05))
            .exact("net", Arc::new(fault))
            .confirm(Some(2.0))
            .best_only(best)
            .build()
            .unwrap();
        let near = run(&rescorer, &list(&[("a cat", -1.0), ("a cats", -1.1), ("cats", -1.2)]));
        assert!(matches!(near[0].utterance.status, Status::Passed(_)), "{answer}");
        let ranks: Vec<u32> = near[0].utterance.hypotheses.iter().map(|h| h.rank).collect();
        assert_eq!(ranks, [1, 2, 3], "first-pass order");
        let far = run(&rescorer, &list(&[("a cat", -1.0), ("a a", -1.1), ("cats", -90.0)]));
        assert_eq!(far[0].utterance.status, Status::Ok, "{answer}");
    }
}

#[test]
fn at_the_deadline_the_unconfirmed_answer_stands_and_says_so() {
    let slow = Table { pause: Duration::from_millis(10), ..table(true) };
    let inexact = builder_of(&SUM, blurred(true, 0.1)).build().unwrap();
    let rescorer = builder_of(&SUM, blurred(true, 0.1))
        .exact("net", Arc::new(slow))
        .confirm(Some(100.0))
        .build()
        .unwrap();
    let texts: Vec<String> = (0..40).map(|at| format!("a cat{}", " cats".repeat(at + 1))).collect();
    let lists = list(&texts.iter().map(|text| (text.as_str(), -1.0)).collect::<Vec<_>>());
    let mut worker = rescorer.worker().unwrap();
    // The others answer at once; a list of more than forty words takes the exact model much longer.
    let deadline = Some(Instant::now() + Duration::from_millis(400));
    worker.submit(Request { utterance: utterances(&lists).remove(0), deadline, ..Request::default() });
    let mut done = Vec::new();
    while done.is_empty() {
        worker.step(&mut done).unwrap();
    }
    assert_eq!(done[0].utterance.status, Status::Partial(vec!["net.exact".into()]));
    assert_eq!(done[0].confirmed, 0);
    assert_eq!(totals(&done[0]), totals(&run(&inexact, &lists)[0]));
    // Who has time gets the exact answer, from the same worker.
    let two = list(&[("a cat", -1.0), ("a cats", -1.1)]);
    let mut utterance = utterances(&two).remove(0);
    worker.rescore(&mut utterance).unwrap();
    assert_eq!(utterance.status, Status::Ok);
}

#[test]
fn a_conversation_goes_on_from_exact_states() {
    let exact = builder_of(&SUM, net(true)).build().unwrap();
    let some = confirmed(&SUM, 0.2, 4.0).build().unwrap();
    let turns = [
        list(&[("a cat", -1.0), ("a cats", -1.1), ("cat a", -1.3)]),
        list(&[("cats", -1.0), ("cat a a cat a", -60.0)]),
        list(&[("cat cat a", -1.0), ("cats cat a", -1.1), ("a", -2.0)]),
    ];
    let follow = |rescorer: &Rescorer| {
        let mut worker = rescorer.worker().unwrap();
        let mut starts = Vec::new();
        let mut winners = Vec::new();
        for turn in &turns {
            let utterance = utterances(turn).remove(0);
            worker.submit(Request { utterance, starts, keep: true, ..Request::default() });
            let mut done = Vec::new();
            while done.is_empty() {
                worker.step(&mut done).unwrap();
            }
            let finished = done.remove(0);
            winners.push(first(&finished));
            starts = finished.carries;
        }
        (winners, starts.len())
    };
    let ((right, two), (got, three)) = (follow(&exact), follow(&some));
    // Winners without rivals are confirmed, too: their states are carried.
    assert_eq!((right, two, three), (got, 2, 4));
}

#[test]
fn growing_lists_are_confirmed_as_each_alone() {
    let rescorer = confirmed(&SUM, 0.3, 20.0).cache(0).build().unwrap();
    let partial = [
        list(&[("a", -1.0), ("cat", -1.1)]),
        list(&[("a cat", -1.0), ("cat cats", -1.1), ("a cats", -1.2)]),
        list(&[("a cat a", -1.0), ("cat cats a", -1.1), ("a cats cat", -1.2)]),
    ];
    let mut worker = rescorer.worker().unwrap();
    let mut session = worker.session();
    for lists in &partial {
        let mut grown = utterances(lists).remove(0);
        session.update(&mut grown).unwrap();
        let alone = run(&rescorer, lists).remove(0);
        let all = |utterance: &Utterance| {
            utterance.hypotheses.iter().map(|h| (h.rank, h.total, h.features.clone())).collect::<Vec<_>>()
        };
        assert_eq!(all(&grown), all(&alone.utterance));
        assert!(alone.confirmed > 1);
    }
    session.finish();
    // Everything is given back.
    worker.rescore(&mut utterances(&partial[2])[0]).unwrap();
}

#[test]
fn what_cannot_confirm_is_refused() {
    let build = |builder: Builder| builder.build().err().map(|error| error.to_string()).unwrap_or_default();
    let one = || builder_of(&SUM, blurred(true, 0.1));
    assert!(build(one().confirm(Some(1.0))).contains("no model's scores are inexact"));
    for margin in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(build(one().exact("net", net(true)).confirm(Some(margin))).contains("distance"));
    }
    assert!(build(one().exact("worm", net(true)).confirm(Some(1.0))).contains("`worm`"));
    let backward = NetModel { spec: Spec { backward: true, ..table(true).spec }, fault: None, blur: 0.0 };
    assert!(build(one().exact("net", Arc::new(backward)).confirm(Some(1.0))).contains("in two precisions"));
    // Not asked for, it is not even run.
    let rescorer = one().exact("net", net(true)).build().unwrap();
    assert_eq!(rescorer.worker().unwrap().work().len(), 2);
}

/// Two hypotheses of the same words are rivals where a model reads token ids that differ.
#[test]
fn the_same_words_of_other_token_ids_are_rivals() {
    let spell = |words: &[&str]| {
        let mut ids = Vec::new();
        for word in words {
            assert_eq!(table(true).spec.vocab.encode(word.as_bytes(), &mut ids), Known::Yes, "{word}");
        }
        ids
    };
    let one = &list(&[("a cat", -1.0), ("a cat", -1.0)]);
    let read = |builder: Builder, ids: [Vec<u32>; 2]| {
        let mut utterance = utterances(one).remove(0);
        utterance.vocabulary = Some(table(true).spec.vocab.hash());
        for (hypothesis, ids) in utterance.hypotheses.iter_mut().zip(ids) {
            hypothesis.ids = Some(ids.into());
        }
        let mut worker = builder.ids("net", None).build().unwrap().worker().unwrap();
        worker.submit(Request { utterance, ..Request::default() });
        let mut done = Vec::new();
        while done.is_empty() {
            worker.step(&mut done).unwrap();
        }
        done.remove(0)
    };
    let other = || [spell(&["a", "cat"]), spell(&["a", "cats"])];
    let exact = read(builder_of(&SUM, net(true)), other());
    let some = read(confirmed(&SUM, 0.3, 50.0), other());
    assert_eq!((some.confirmed, first(&some), totals(&some)), (2, first(&exact), totals(&exact)));
    let same = read(confirmed(&SUM, 0.3, 50.0), [spell(&["a", "cat"]), spell(&["a", "cat"])]);
    assert_eq!(same.confirmed, 0);
}

/// A scorer that always has so many rows ready.
struct Ready(usize, Arc<std::sync::atomic::AtomicUsize>);

impl Scorer for Ready {
    fn submit(&mut self, _: Job) -> Result<Slot> {
        Err(Error::record("nothing is scored here"))
    }
    fn demand(&self) -> Demand {
        Demand { ready: self.0, wanted: 10 }
    }
    fn step(&mut self) -> Result<()> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
    fn take(&mut self, _: Slot) -> Poll<Result<Scores>> {
        Poll::Pending
    }
    fn cancel(&mut self, _: Slot) {}
    fn carry(&mut self, _: Slot, _: u32) -> Result<Option<Carry>> {
        Ok(None)
    }
    fn release(&mut self, _: Slot) {}
    fn work(&self) -> crate::lm::Work {
        crate::lm::Work::default()
    }
}

/// An exact model with few rows has its turn, too, where another one has many all the time.
#[test]
fn no_exact_model_waits_for_long() {
    let mut worker = confirmed(&SUM, 0.1, 1.0).build().unwrap().worker().unwrap();
    let steps: Vec<_> = (0..4).map(|_| Arc::default()).collect();
    let scorer = |ready: usize, at: usize| Box::new(Ready(ready, Arc::clone(&steps[at])));
    worker.members =
        vec![Member::new(scorer(9, 0), Some(scorer(5, 1))), Member::new(scorer(9, 2), Some(scorer(1, 3)))];
    (0..12).for_each(|_| worker.run().unwrap());
    let steps: Vec<_> = steps.iter().map(|steps| steps.load(std::sync::atomic::Ordering::Relaxed)).collect();
    assert_eq!(steps, [12, 12, 12, 3]);
}
