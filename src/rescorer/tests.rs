//! The rescorer with models of our own: mixing against arithmetic by hand, failures, deadlines,
//! carried states.

mod best;
mod confirm;
mod intake;

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::*;
use crate::combine::MIX;
use crate::lm::{Carry, Demand, Grain, Job, LanguageModel, Scorer, Scores, Slot, Spec};
use crate::nbest::Hypothesis;
use crate::tokens::{Known, Vocab};

/// A vocabulary of pieces: words are cut into letters, the first marked, unless they are listed.
struct Pieces {
    pieces: Vec<&'static str>,
    words: bool,
}

impl Vocab for Pieces {
    fn size(&self) -> usize {
        self.pieces.len()
    }
    fn bos(&self) -> u32 {
        0
    }
    fn eos(&self) -> u32 {
        1
    }
    fn unk(&self) -> Option<u32> {
        Some(2)
    }
    fn encode(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        let id = |piece: &str| self.pieces.iter().position(|other| *other == piece).map(|at| at as u32);
        let text = std::str::from_utf8(word).unwrap_or("?");
        if let Some(whole) = id(&format!("_{text}")) {
            ids.push(whole);
            return Known::Yes;
        }
        let cut = (1..text.len())
            .find_map(|at| Some((id(&format!("_{}", text.get(..at)?))?, id(text.get(at..)?)?)));
        match cut {
            Some((head, tail)) => ids.extend([head, tail]),
            None => {
                ids.push(2);
                return Known::No;
            }
        }
        Known::Yes
    }
    fn starts_word(&self, token: u32) -> bool {
        token == 2 || self.pieces[token as usize].starts_with('_')
    }
    fn words(&self) -> bool {
        self.words
    }
    fn symbol(&self, token: u32) -> Option<Vec<u8>> {
        self.pieces.get(token as usize).map(|piece| piece.as_bytes().to_vec())
    }
    fn hash(&self) -> u64 {
        0
    }
}

/// A model whose probabilities depend on the last token alone, as a table of rows that sum to 1.
struct Table {
    spec: Spec,
    /// A job takes as long as this, one node a step.
    pause: Duration,
    /// Jobs with this token fail.
    poison: Option<u32>,
    /// No step succeeds.
    broken: bool,
}

struct TableScorer {
    vocab: Arc<dyn Vocab>,
    pause: Duration,
    poison: Option<u32>,
    broken: bool,
    jobs: Vec<Option<(Job, usize)>>,
    work: crate::lm::Work,
}

/// ln p(token | previous, seed of the carried state), by softmax over a made-up row.
fn ln(vocab: &dyn Vocab, seed: u32, previous: u32, token: u32) -> f32 {
    let logit = |t: u32| f64::from((previous * 7 + t * 13 + seed * 5) % 11) / 3.0;
    // `<s>` is never said.
    let sum: f64 = (1..vocab.size() as u32).map(|t| logit(t).exp()).sum();
    (logit(token) - sum.ln()) as f32
}

fn boundary(vocab: &dyn Vocab, seed: u32, previous: u32) -> f32 {
    let starts = (1..vocab.size() as u32).filter(|&t| t == vocab.eos() || vocab.starts_word(t));
    starts.map(|t| f64::from(ln(vocab, seed, previous, t)).exp()).sum::<f64>().ln() as f32
}

impl LanguageModel for Table {
    fn spec(&self) -> &Spec {
        &self.spec
    }
    fn scorer(&self, _: &Limits) -> Result<Box<dyn Scorer>> {
        Ok(Box::new(TableScorer {
            vocab: self.spec.vocab.clone(),
            pause: self.pause,
            poison: self.poison,
            broken: self.broken,
            jobs: Vec::new(),
            work: Work::default(),
        }))
    }
}

impl TableScorer {
    fn seed(job: &Job) -> u32 {
        let carried = job.start.as_ref().and_then(|carry| carry.0.downcast_ref::<u32>().copied());
        // Of a tensor that came with the utterance: the sum of its values.
        let tensor = job.context.iter().find(|tensor| tensor.name == "encoder_out");
        carried.or(tensor.map(|tensor| tensor.values.iter().sum::<f32>() as u32)).unwrap_or(0)
    }
}

impl Scorer for TableScorer {
    fn submit(&mut self, job: Job) -> Result<Slot> {
        self.jobs.push(Some((job, 1)));
        Ok(Slot(self.jobs.len() - 1))
    }
    fn demand(&self) -> Demand {
        Demand { ready: 0, wanted: 2 }
    }
    fn step(&mut self) -> Result<()> {
        if self.broken {
            return Err(Error::Internal("broken".into()));
        }
        for (job, at) in self.jobs.iter_mut().flatten().filter(|(job, at)| *at < job.trie.len()) {
            std::thread::sleep(self.pause);
            *at = if self.pause.is_zero() { job.trie.len() } else { *at + 1 };
        }
        self.work.steps += 1;
        Ok(())
    }
    fn take(&mut self, slot: Slot) -> Poll<Result<Scores>> {
        let Some((job, at)) = &self.jobs[slot.0] else { panic!("no such job") };
        let trie = &job.trie;
        if self.poison.is_some_and(|poison| trie.token.contains(&poison)) {
            return Poll::Ready(Err(Error::Inference { lm: "table".into(), what: "poisoned".into() }));
        }
        if *at < trie.len() {
            return Poll::Pending;
        }
        let seed = Self::seed(job);
        let at = |node: usize| trie.token[node];
        let nodes = 1..trie.len();
        let mut scores: Vec<f32> = vec![0.0];
        scores.extend(nodes.map(|node| ln(&*self.vocab, seed, at(trie.parent[node] as usize), at(node))));
        let masses = (0..trie.len()).map(|node| boundary(&*self.vocab, seed, at(node)));
        let boundary = if job.boundaries { masses.collect() } else { Vec::new() };
        Poll::Ready(Ok(Scores::Nodes { ln: scores, boundary, order: Vec::new() }))
    }
    fn cancel(&mut self, _: Slot) {}
    fn carry(&mut self, slot: Slot, node: u32) -> Result<Option<Carry>> {
        let Some((job, _)) = &self.jobs[slot.0] else { panic!("no such job") };
        // A state that tells how often and through which node it was carried.
        Ok(Some(Carry(Arc::new(Self::seed(job) * 31 + job.trie.path(node).count() as u32))))
    }
    fn release(&mut self, slot: Slot) {
        self.jobs[slot.0] = None;
    }
    fn work(&self) -> Work {
        self.work
    }
}

fn pieces(words: bool) -> Arc<dyn Vocab> {
    let pieces = if words {
        vec!["<s>", "</s>", "<unk>", "_a", "_cat", "_cats"]
    } else {
        vec!["<s>", "</s>", "<unk>", "_a", "_cat", "s"]
    };
    Arc::new(Pieces { pieces, words })
}

fn table(words: bool) -> Table {
    let spec = Spec {
        vocab: pieces(words),
        grain: Grain::Token,
        backward: false,
        carries: true,
        carries_bos: true,
        context: Vec::new(),
        warnings: Vec::new(),
    };
    Table { spec, pause: Duration::ZERO, poison: None, broken: false }
}

fn linear(share: f64, fast: bool) -> Rescorer {
    let lambdas = vec![("sub".to_owned(), share), ("word".to_owned(), 1.0 - share)];
    Rescorer::builder()
        .lm("sub", Arc::new(table(false)), TextMap::default())
        .lm("word", Arc::new(table(true)), TextMap::default())
        .interpolation(Interpolation::Linear { lambdas, fast })
        .unk_penalty(-2.0)
        .build()
        .unwrap()
}

fn mixed(rescorer: &Rescorer, text: &str) -> f64 {
    let mut utterance = Utterance::new("u", [(text, 0.0)]);
    rescorer.worker().unwrap().rescore(&mut utterance).unwrap();
    utterance.hypotheses[0].feature(MIX).unwrap()
}

#[test]
fn a_mixture_is_the_sum_of_word_probabilities_across_tokenisations() {
    let rescorer = linear(0.4, false);
    let words = ["a", "cat", "cats"];
    let vocab = pieces(false);
    let p = |seed: &[u32]| -> f64 { seed.windows(2).map(|w| f64::from(ln(&*vocab, 0, w[0], w[1]))).sum() };
    // The subword model alone, by the definition: product of pieces, times boundary after over before.
    let alone = linear(1.0, false);
    for (text, ids) in [("a", &[0, 3][..]), ("cat", &[0, 4]), ("cats", &[0, 4, 5])] {
        let last = *ids.last().unwrap();
        let word = p(ids) + f64::from(boundary(&*vocab, 0, last)) - f64::from(boundary(&*vocab, 0, 0));
        let end = f64::from(ln(&*vocab, 0, last, 1)) - f64::from(boundary(&*vocab, 0, last));
        assert!((mixed(&alone, text) - word - end).abs() < 1e-5, "{text}");
    }
    // `cat` must not contain `cats`: without the factor a mixture is another.
    assert!((mixed(&linear(0.4, true), "cat") - mixed(&rescorer, "cat")).abs() > 1e-3);
    // A mixture of one word and its end, by hand.
    let word_vocab = pieces(true);
    for (text, sub, word) in [("a", &[0u32, 3][..], &[0u32, 3][..]), ("cats", &[0, 4, 5], &[0, 5])] {
        let last = *sub.last().unwrap();
        let s = p(sub) + f64::from(boundary(&*vocab, 0, last)) - f64::from(boundary(&*vocab, 0, 0));
        let w = f64::from(ln(&*word_vocab, 0, 0, word[1]));
        let s_end = f64::from(ln(&*vocab, 0, last, 1)) - f64::from(boundary(&*vocab, 0, last));
        let w_end = f64::from(ln(&*word_vocab, 0, word[1], 1));
        let expected = (0.4 * s.exp() + 0.6 * w.exp()).ln() + (0.4 * s_end.exp() + 0.6 * w_end.exp()).ln();
        assert!((mixed(&rescorer, text) - expected).abs() < 1e-5, "{text}");
    }
    assert!(words.iter().all(|word| mixed(&rescorer, word) < 0.0));
}

#[test]
fn a_word_known_to_one_member_is_scored_by_that_one_alone() {
    let (vocab, sub) = (pieces(true), pieces(false));
    // `as` is `_a` + `s` to the one and unknown to the other.
    let rescorer = linear(0.3, false);
    let b = |token| f64::from(boundary(&*sub, 0, token));
    let word = f64::from(ln(&*sub, 0, 0, 3)) + f64::from(ln(&*sub, 0, 3, 5)) + b(5) - b(0);
    let end =
        0.3 * (f64::from(ln(&*sub, 0, 5, 1)) - b(5)).exp() + 0.7 * f64::from(ln(&*vocab, 0, 2, 1)).exp();
    assert!((mixed(&rescorer, "as") - word - end.ln()).abs() < 1e-5);
    // What nobody knows is scored by all, with the penalty once.
    let unknown = f64::from(ln(&*sub, 0, 0, 2)) + b(2) - b(0);
    let both = 0.3 * unknown.exp() + 0.7 * f64::from(ln(&*vocab, 0, 0, 2)).exp();
    let end =
        0.3 * (f64::from(ln(&*sub, 0, 2, 1)) - b(2)).exp() + 0.7 * f64::from(ln(&*vocab, 0, 2, 1)).exp();
    assert!((mixed(&rescorer, "zebra") - (both.ln() - 2.0) - end.ln()).abs() < 1e-5);
}

#[test]
fn log_linear_features_are_sentence_sums_with_counts() {
    let rescorer = Rescorer::builder()
        .lm("sub", Arc::new(table(false)), TextMap::default())
        .weight("sub", 2.0)
        .weight("words", 0.5)
        .weight("sub.oov", -1.0)
        .unk_penalty(-3.0)
        .build()
        .unwrap();
    let mut utterance = Utterance::new("u", [("<s> a zebra </s>", -1.0), ("", -2.0)]);
    rescorer.worker().unwrap().rescore(&mut utterance).unwrap();
    let vocab = pieces(false);
    let ln = |a, b| f64::from(ln(&*vocab, 0, a, b));
    let of = |rank: u32| utterance.hypotheses.iter().find(|h| h.rank == rank).unwrap();
    let (first, empty) = (of(1), of(2));
    let expected = ln(0, 3) + ln(3, 2) + ln(2, 1) - 3.0;
    assert!((first.feature("sub").unwrap() - expected).abs() < 1e-5);
    assert_eq!((first.feature("words"), first.feature("sub.oov")), (Some(2.0), Some(1.0)));
    assert!((first.total - (-1.0 + 2.0 * expected + 0.5 * 2.0 - 1.0)).abs() < 1e-5);
    assert!((empty.feature("sub").unwrap() - ln(0, 1)).abs() < 1e-6, "the empty sentence is </s> alone");
    assert_eq!(empty.feature("words"), Some(0.0));
    assert_eq!(utterance.status, Status::Ok);
}

#[test]
fn a_model_that_fails_costs_only_the_list_it_fails_on() {
    let rescorer = Rescorer::builder()
        .lm("sub", Arc::new(Table { poison: Some(5), ..table(false) }), TextMap::default())
        .weight("sub", 1.0)
        .build()
        .unwrap();
    let mut lists = [
        Utterance::new("good", [("a", -5.0), ("cat", -1.0)]),
        Utterance::new("bad", [("cats", -5.0), ("a", -1.0)]),
        Utterance::new("good too", [("a", -1.0)]),
        Utterance::new("empty", Vec::<(String, f64)>::new()),
    ];
    rescorer.worker().unwrap().rescore_batch(&mut lists).unwrap();
    assert_eq!(lists[0].status, Status::Ok);
    assert!(matches!(&lists[1].status, Status::Passed(reason) if reason.contains("poisoned")));
    let ranks: Vec<u32> = lists[1].hypotheses.iter().map(|h| h.rank).collect();
    assert_eq!(ranks, [1, 2], "first-pass order");
    assert_eq!(lists[2].status, Status::Ok);
    assert_eq!(lists[3].status, Status::Ok);
}

#[test]
fn at_the_deadline_an_unfinished_model_is_left_out_of_the_whole_list() {
    let slow = Table { pause: Duration::from_millis(3), ..table(false) };
    let rescorer = Rescorer::builder()
        .lm("slow", Arc::new(slow), TextMap::default())
        .lm("quick", Arc::new(table(true)), TextMap::default())
        .weight("slow", 1.0)
        .weight("quick", 0.0)
        .build()
        .unwrap();
    let mut worker = rescorer.worker().unwrap();
    let utterance = Utterance::new("u", (0..40).map(|at| ("a cat ".repeat(at + 1), -f64::from(at as u32))));
    let started = Instant::now();
    let deadline = Some(started + Duration::from_millis(20));
    worker.submit(Request { utterance: utterance.clone(), deadline, ..Request::default() });
    let mut done = Vec::new();
    while done.is_empty() {
        worker.step(&mut done).unwrap();
    }
    let finished = &done[0].utterance;
    assert_eq!(finished.status, Status::Partial(vec!["slow".into()]));
    assert!(finished.hypotheses.iter().all(|h| h.feature("slow").is_none() && h.feature("quick").is_some()));
    assert_eq!(finished.best().unwrap().rank, 1, "the first pass decides");
    // A deadline that passed while the record waited leaves every model out.
    worker.submit(Request { utterance, deadline: Some(started), ..Request::default() });
    done.clear();
    worker.step(&mut done).unwrap();
    assert_eq!(done[0].utterance.status, Status::Partial(vec!["slow".into(), "quick".into()]));
}

#[test]
fn the_state_carried_is_the_winners() {
    let rescorer = Rescorer::builder()
        .lm("sub", Arc::new(table(false)), TextMap::default())
        .weight("sub", 0.0)
        .build()
        .unwrap();
    let mut worker = rescorer.worker().unwrap();
    let mut run = |starts: Carries| -> Finished {
        let utterance = Utterance::new("u", [("a a a", 0.0), ("a", -1.0)]);
        worker.submit(Request { utterance, starts, keep: true, ..Request::default() });
        let mut done = Vec::new();
        while done.is_empty() {
            worker.step(&mut done).unwrap();
        }
        done.remove(0)
    };
    let state = |finished: &Finished| finished.carries[0].as_ref().unwrap().0.downcast_ref::<u32>().copied();
    let first = run(Vec::new());
    assert_eq!(state(&first), Some(4), "three words and </s>");
    let carries = first.carries.clone();
    let second = run(first.carries);
    assert_eq!(state(&second), Some(4 * 31 + 4));
    // An empty list changes nothing: the conversation is where it was.
    let utterance = Utterance::new("silence", Vec::<(String, f64)>::new());
    worker.submit(Request { utterance, starts: carries, keep: true, ..Request::default() });
    let mut done = Vec::new();
    worker.step(&mut done).unwrap();
    assert_eq!(state(&done[0]), Some(4));
}

#[test]
fn a_model_that_cannot_go_on_gives_the_lists_back() {
    let broken = Table { broken: true, ..table(false) };
    let rescorer = Rescorer::builder().lm("sub", Arc::new(broken), TextMap::default()).build().unwrap();
    let mut worker = rescorer.worker().unwrap();
    for _ in 0..2 {
        let mut lists =
            [Utterance::new("u", [("a", -5.0), ("cat", -1.0)]), Utterance::new("v", [("a", -5.0)])];
        assert!(worker.rescore_batch(&mut lists).unwrap_err().to_string().contains("broken"));
        assert_eq!((&lists[0].id[..], lists[0].hypotheses.len()), (&b"u"[..], 2));
        assert!(worker.is_idle());
    }
}

#[test]
fn word_scores_of_a_backward_model_stand_in_the_order_of_the_text() {
    let backward = Table { spec: Spec { backward: true, ..table(false).spec }, ..table(false) };
    let rescorer = Rescorer::builder()
        .lm("back", Arc::new(backward), TextMap::default())
        .weight("back", 1.0)
        .build()
        .unwrap();
    let mut worker = rescorer.worker().unwrap();
    let utterance = Utterance::new("u", [("a cats", 0.0)]);
    worker.submit(Request { utterance, detail: true, ..Request::default() });
    let mut done = Vec::new();
    while done.is_empty() {
        worker.step(&mut done).unwrap();
    }
    // Read as `s`, `_cat`, `_a`, `</s>`.
    let vocab = pieces(false);
    let ln = |a, b| f64::from(ln(&*vocab, 0, a, b));
    let expected = [ln(4, 3), ln(0, 5) + ln(5, 4), ln(3, 1)];
    let got: Vec<f64> = done[0].details[0].iter().map(|word| word.ln).collect();
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{got:?}");
}

#[test]
fn parts_that_do_not_fit_are_refused_before_any_list() {
    let build = |builder: Builder| builder.build().err().map(|error| error.to_string()).unwrap_or_default();
    let one = || Rescorer::builder().lm("sub", Arc::new(table(false)), TextMap::default());
    let two = || one().lm("word", Arc::new(table(true)), TextMap::default());
    let linear = |lambdas: &[(&str, f64)]| Interpolation::Linear {
        lambdas: lambdas.iter().map(|&(name, share)| (name.to_owned(), share)).collect(),
        fast: false,
    };
    assert!(build(one().lm("sub", Arc::new(table(true)), TextMap::default())).contains("two models"));
    assert!(
        build(Rescorer::builder().lm("mix", Arc::new(table(true)), TextMap::default())).contains("`mix`")
    );
    assert!(build(one().weight("sub", f64::NAN)).contains("finite"));
    assert!(build(one().unk_penalty(1.0)).contains("at most 0"));
    assert!(build(two().interpolation(linear(&[("sub", 0.5), ("word", 0.6)]))).contains("sum to 1"));
    assert!(build(two().interpolation(linear(&[("sub", 0.5), ("worm", 0.5)]))).contains("`worm`"));
    let mixed = two().interpolation(linear(&[("sub", 0.5), ("word", 0.5)]));
    assert!(build(mixed.weight("sub", 1.0)).contains("inside `mix`"));
    let backward = Table { spec: Spec { backward: true, ..table(true).spec }, ..table(true) };
    let mixed = one().lm("back", Arc::new(backward), TextMap::default());
    assert!(build(mixed.interpolation(linear(&[("sub", 0.5), ("back", 0.5)]))).contains("left-to-right"));
}

#[test]
fn duplicates_are_kept_and_ties_go_to_the_first_pass() {
    let rescorer = Rescorer::builder()
        .lm("sub", Arc::new(table(false)), TextMap::default())
        .weight("sub", 1.0)
        .build()
        .unwrap();
    let mut utterance = Utterance {
        hypotheses: (1..=4)
            .map(|rank| Hypothesis {
                features: vec![("score".into(), -1.0)],
                ..Hypothesis::new("a cat", rank)
            })
            .collect(),
        ..Utterance::default()
    };
    rescorer.worker().unwrap().rescore(&mut utterance).unwrap();
    assert_eq!(utterance.hypotheses.iter().map(|h| h.rank).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// Lists with the recogniser's token ids.
fn with_ids(ids: &[&[u32]], vocabulary: Option<u64>) -> Utterance {
    let hypotheses = ids.iter().zip(1..).map(|(ids, rank)| Hypothesis {
        features: vec![("score".into(), 0.0)],
        ids: Some((*ids).into()),
        ..Hypothesis::new("a cats", rank)
    });
    Utterance { hypotheses: hypotheses.collect(), vocabulary, ..Utterance::default() }
}

#[test]
fn token_ids_are_read_by_the_model_whose_vocabulary_they_are() {
    let vocab = pieces(false);
    let path = |ids: &[u32]| ids.windows(2).map(|w| f64::from(ln(&*vocab, 0, w[0], w[1]))).sum::<f64>();
    // `a cats` as it is spelled, otherwise than any text would be, and with something unknown.
    let (text, odd, unknown) = (path(&[0, 3, 4, 5, 1]), path(&[0, 3, 5, 5, 1]), path(&[0, 4, 3, 2, 1]));
    let own = vocab.hash();
    let run = |ids: Option<Option<u64>>, list: Option<u64>| {
        let mut builder = Rescorer::builder().lm("sub", Arc::new(table(false)), TextMap::default());
        if let Some(hash) = ids {
            builder = builder.ids("sub", hash);
        }
        let mut utterance = with_ids(&[&[3, 5, 5], &[0, 3, 5, 5, 1], &[4, 3, 2]], list);
        builder.build().unwrap().worker().unwrap().rescore(&mut utterance).unwrap();
        utterance.hypotheses.sort_by_key(|h| h.rank);
        let scores = utterance.hypotheses.iter().map(|h| h.feature("sub").unwrap()).collect::<Vec<_>>();
        let oov = utterance.hypotheses[2].feature("sub.oov").unwrap();
        assert!(oov == f64::from(u8::from(scores[0] == scores[1] && scores[1] != scores[2])));
        scores
    };
    let near = |got: &[f64], expected: &[f64]| got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(near(&run(Some(None), Some(own)), &[odd, odd, unknown]));
    assert!(near(&run(Some(Some(own)), None), &[odd, odd, unknown]));
    // Whose ids they are is not said, or they are another's, or the model reads none.
    for scores in [run(Some(None), None), run(Some(Some(own)), Some(own + 1)), run(None, Some(own))] {
        assert!(near(&scores, &[text; 3]), "{scores:?}");
    }
    let error =
        Rescorer::builder().lm("sub", Arc::new(table(false)), TextMap::default()).ids("sub", Some(own + 1));
    assert!(
        error.build().err().unwrap().to_string().contains("said to be of the vocabulary 0000000000000001")
    );
}

#[test]
fn ids_that_are_no_tokens_cost_the_record() {
    let rescorer = Rescorer::builder()
        .lm("sub", Arc::new(table(false)), TextMap::default())
        .ids("sub", Some(pieces(false).hash()))
        .build()
        .unwrap();
    let mut worker = rescorer.worker().unwrap();
    let mut lists =
        [with_ids(&[&[3, 4], &[3, 6]], None), with_ids(&[&[3]], None), with_ids(&[&[u32::MAX]], None)];
    worker.rescore_batch(&mut lists).unwrap();
    let reason = |list: &Utterance| match &list.status {
        Status::Passed(reason) => reason.clone(),
        _ => String::new(),
    };
    assert_eq!(reason(&lists[0]), "sub: hypothesis 2: among its token ids is 6, and the model has 6 tokens");
    assert_eq!(lists[1].status, Status::Ok);
    assert!(reason(&lists[2]).contains("something that is none"));
}

#[test]
fn token_ids_can_be_mixed_where_they_are_as_many_words_as_the_text() {
    let lambdas = vec![("sub".to_owned(), 0.4), ("word".to_owned(), 0.6)];
    let rescorer = Rescorer::builder()
        .lm("sub", Arc::new(table(false)), TextMap::default())
        .lm("word", Arc::new(table(true)), TextMap::default())
        .interpolation(Interpolation::Linear { lambdas, fast: false })
        .ids("sub", Some(pieces(false).hash()))
        .build()
        .unwrap();
    let plain = linear(0.4, false);
    let mut lists = [with_ids(&[&[3, 4, 5]], None), with_ids(&[&[3, 5, 5]], None)];
    rescorer.worker().unwrap().rescore_batch(&mut lists).unwrap();
    let mix = lists[0].hypotheses[0].feature(MIX).unwrap();
    assert!((mix - mixed(&plain, "a cats")).abs() < 1e-6);
    assert!(matches!(&lists[1].status, Status::Passed(reason) if reason.contains("are 1 words, its text 2")));
}

#[test]
fn tensors_reach_the_model_that_needs_them() {
    let needs =
        Table { spec: Spec { context: vec!["encoder_out".into()], ..table(false).spec }, ..table(false) };
    let rescorer = Rescorer::builder().lm("las", Arc::new(needs), TextMap::default()).build().unwrap();
    let mut worker = rescorer.worker().unwrap();
    let tensor =
        |name: &str| crate::Tensor { name: name.into(), shape: vec![1, 2], values: [0.5, 1.5].into() };
    let list = |tensors: Vec<crate::Tensor>| Utterance {
        context: tensors.into(),
        ..Utterance::new("u", [("a", -5.0), ("cat", -1.0)])
    };
    let mut lists = [list(vec![tensor("other"), tensor("encoder_out")]), list(vec![tensor("other")])];
    worker.rescore_batch(&mut lists).unwrap();
    // The model's own start depends on the tensor.
    let vocab = pieces(false);
    let expected = f64::from(ln(&*vocab, 2, 0, 3) + ln(&*vocab, 2, 3, 1));
    let cat = lists[0].hypotheses.iter().find(|h| h.rank == 1).unwrap();
    assert!((cat.feature("las").unwrap() - expected).abs() < 1e-6);
    assert!(
        matches!(&lists[1].status, Status::Passed(reason) if reason.contains("las needs the tensor `encoder_out`"))
    );
}
