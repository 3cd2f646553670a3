//! Models run for real. Without ONNX Runtime each test says that it was skipped.

mod bound;
mod cuda;
mod foreign;
mod own;
mod previews;
mod reduced;
mod rewritten;
mod split;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::proto;
use super::*;
use crate::lm::{BOUNDARY, Job, Rows, Scores, StepKernel, Wanted};
use crate::testing::runtime_or_skip;
use crate::tokens::Known;
use crate::trie;

/// Only the numbers that a kernel asks for: what a word is does not matter here.
struct Ids {
    size: usize,
    bos: u32,
    eos: u32,
}

impl Vocab for Ids {
    fn size(&self) -> usize {
        self.size
    }
    fn bos(&self) -> u32 {
        self.bos
    }
    fn eos(&self) -> u32 {
        self.eos
    }
    fn unk(&self) -> Option<u32> {
        None
    }
    fn encode(&self, _word: &[u8], _ids: &mut Vec<u32>) -> Known {
        Known::No
    }
    fn starts_word(&self, token: u32) -> bool {
        token.is_multiple_of(3)
    }
    fn words(&self) -> bool {
        false
    }
    fn symbol(&self, _token: u32) -> Option<Vec<u8>> {
        None
    }
    fn hash(&self) -> u64 {
        0
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(name).join("model.onnx")
}

fn open(path: &Path) -> Result<OnnxLm> {
    OnnxLm::open_by(path, "lm", &OnnxOptions::default(), None, |_, signature| {
        Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
    })
}

/// With all layers run by ONNX Runtime.
fn open_by_runtime(name: &str) -> OnnxLm {
    let options = OnnxOptions { cell: Some(false), ..OnnxOptions::default() };
    let lm = OnnxLm::open_by(&fixture(name), "lm", &options, None, |_, signature| {
        Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
    });
    lm.unwrap()
}

fn expected(name: &str) -> Vec<(Vec<u32>, Vec<f64>)> {
    let text = std::fs::read(fixture(name).with_file_name("expected.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let sentences = json["sentences"].as_array().unwrap();
    sentences
        .iter()
        .map(|sentence| {
            let ids = sentence["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32);
            let logs = sentence["log_probs"].as_array().unwrap().iter().map(|ln| ln.as_f64().unwrap());
            (ids.collect(), logs.collect())
        })
        .collect()
}

/// Holds every token of a tiny model against its expected scores.
fn scores_as_numpy_does(lm: &OnnxLm, name: &str) {
    let cases = expected(name);
    let sentences: Vec<&[u32]> = cases.iter().map(|(ids, _)| &ids[..]).collect();
    let scores = score(&mut *lm.kernel(1).unwrap(), lm.signature().bos, &sentences);
    for ((_, logs), scores) in cases.iter().zip(&scores) {
        for (&ln, &expected) in scores.iter().zip(logs) {
            assert!((f64::from(ln) - expected).abs() <= 2e-6, "{name}: {ln}, not {expected}");
        }
    }
}

/// Scores all sentences side by side, each in the state of its own number.
fn score(kernel: &mut dyn StepKernel, bos: u32, sentences: &[&[u32]]) -> Vec<Vec<f32>> {
    kernel.reserve(sentences.len()).unwrap();
    let mut scores = vec![Vec::new(); sentences.len()];
    (0..sentences.len() as u32).for_each(|state| kernel.reset(state));
    for step in 0..sentences.iter().map(|ids| ids.len()).max().unwrap_or(0) {
        let live: Vec<u32> =
            (0..sentences.len() as u32).filter(|&s| step < sentences[s as usize].len()).collect();
        let tokens: Vec<u32> =
            live.iter().map(|&s| if step == 0 { bos } else { sentences[s as usize][step - 1] }).collect();
        let wanted: Vec<u32> = live.iter().map(|&s| sentences[s as usize][step]).collect();
        let offsets: Vec<u32> = (0..=live.len() as u32).collect();
        let mut out = vec![0.0; live.len()];
        let rows = Rows { tokens: &tokens, from: &live, to: &live };
        kernel.run(rows, Wanted { tokens: &wanted, offsets: &offsets }, &mut out).unwrap();
        for (&state, ln) in live.iter().zip(out) {
            scores[state as usize].push(ln);
        }
    }
    scores
}

#[test]
fn scores_are_those_of_an_independent_evaluation() {
    if !runtime_or_skip("scores_are_those_of_an_independent_evaluation") {
        return;
    }
    let both = ["tiny-lstm", "tiny-bpe", "wide-lstm"]
        .map(|name| [(name, open(&fixture(name)).unwrap()), (name, open_by_runtime(name))]);
    for (name, lm) in both.into_iter().flatten() {
        let cases = expected(name);
        let mut kernel = lm.kernel(1).unwrap();
        let sentences: Vec<&[u32]> = cases.iter().map(|(ids, _)| &ids[..]).collect();
        let together = score(&mut *kernel, lm.signature().bos, &sentences);
        let mut worst = 0f64;
        for ((ids, logs), scores) in cases.iter().zip(&together) {
            for (&ln, &expected) in scores.iter().zip(logs) {
                worst = worst.max((f64::from(ln) - expected).abs());
            }
            let alone = score(&mut *kernel, lm.signature().bos, &[ids]);
            for (a, b) in alone[0].iter().zip(scores) {
                assert!((a - b).abs() <= 1e-6, "{name}: {a} alone, {b} with others");
            }
        }
        eprintln!("{name}: largest difference from the reference {worst:.1e}");
        // Half an ulp of an f32 near 8 is 4.8e-7; the sums add their own.
        assert!(worst <= 2e-6, "{name}: {worst:e}");
    }
}

/// Promise N5 on the real runtime: utterances that join and leave at random, in steps of any size,
/// get the scores of a plain loop over each alone.
#[test]
fn batch_mates_change_nothing() {
    if !runtime_or_skip("batch_mates_change_nothing") {
        return;
    }
    let lm = open(&fixture("tiny-bpe")).unwrap();
    let bos = lm.signature().bos;
    let mut plain = lm.kernel(1).unwrap();
    let mut seed = 1u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    for rows in [1, 3, 8, 64] {
        let limits = Limits { rows, step_time: None, alone: false, threads: 1 };
        let mut scheduler = lm.scorer(&limits).unwrap();
        let mut waiting: Vec<Vec<Vec<u32>>> = (0..25)
            .map(|_| {
                (0..1 + random(12))
                    .map(|_| (0..random(10)).map(|_| random(12) as u32 + 2).collect())
                    .collect()
            })
            .collect();
        let mut flying: Vec<(crate::lm::Slot, Vec<Vec<u32>>, Arc<trie::Trie>)> = Vec::new();
        while !waiting.is_empty() || !flying.is_empty() {
            if random(2) == 0
                && let Some(list) = waiting.pop()
            {
                let mut builder = trie::Builder::default();
                builder.start(bos);
                for ids in &list {
                    builder.push(ids, &vec![0; ids.len()]);
                }
                let trie = Arc::new(builder.finish());
                let job = Job {
                    trie: trie.clone(),
                    start: None,
                    context: Arc::new([]),
                    deadline: None,
                    boundaries: false,
                    keep: false,
                };
                flying.push((scheduler.submit(job).unwrap(), list, trie));
            }
            scheduler.step().unwrap();
            flying.retain(|(slot, list, trie)| {
                let std::task::Poll::Ready(scores) = scheduler.take(*slot) else { return true };
                let Scores::Nodes { ln, .. } = scores.unwrap() else { panic!("node scores") };
                for (ids, &end) in list.iter().zip(&trie.ends) {
                    let mut got: Vec<f32> = trie.path(end).map(|node| ln[node as usize]).collect();
                    got.reverse();
                    for (got, expected) in got.iter().zip(&score(&mut *plain, bos, &[ids])[0]) {
                        assert!((got - expected).abs() <= 1e-6, "{got} in company, {expected} alone");
                    }
                }
                scheduler.release(*slot);
                false
            });
        }
    }
}

#[test]
fn the_scheduler_gives_what_the_reference_gives() {
    if !runtime_or_skip("the_scheduler_gives_what_the_reference_gives") {
        return;
    }
    let lm = open(&fixture("tiny-bpe")).unwrap();
    let cases = expected("tiny-bpe");
    let mut builder = trie::Builder::default();
    builder.start(lm.signature().bos);
    for (ids, _) in &cases {
        builder.push(ids, &(0..ids.len() as u32).collect::<Vec<_>>());
    }
    let trie = Arc::new(builder.finish());
    let limits = Limits { rows: 5, step_time: None, alone: false, threads: 1 };
    let mut scorer = lm.scorer(&limits).unwrap();
    let job = Job {
        trie: trie.clone(),
        start: None,
        context: Arc::new([]),
        deadline: None,
        boundaries: false,
        keep: false,
    };
    let slot = scorer.submit(job).unwrap();
    let scores = loop {
        scorer.step().unwrap();
        if let std::task::Poll::Ready(scores) = scorer.take(slot) {
            break scores.unwrap();
        }
    };
    let Scores::Nodes { ln, .. } = scores else { panic!("no token scores") };
    for ((_, logs), &end) in cases.iter().zip(&trie.ends) {
        for (node, &expected) in trie.path(end).zip(logs.iter().rev()) {
            assert!((f64::from(ln[node as usize]) - expected).abs() <= 2e-6);
        }
    }
    assert!(scorer.work().rows < trie.raw);
}

#[test]
fn large_steps_in_parts_boundaries_and_carried_states() {
    if !runtime_or_skip("large_steps_in_parts_boundaries_and_carried_states") {
        return;
    }
    let lm = open_by_runtime("tiny-lstm");
    let size = lm.signature().vocab_size as u32;
    let mut kernel = lm.session(1).unwrap();
    kernel.reserve(20).unwrap();
    (0..10).for_each(|state| kernel.reset(state));
    let from: Vec<u32> = (0..10).collect();
    let to: Vec<u32> = (10..20).collect();
    let tokens: Vec<u32> = (0..10).map(|row| row % size).collect();
    // Every token and the boundary, so that the boundary can be added up by hand.
    let row: Vec<u32> = (0..size).chain([BOUNDARY]).collect();
    let wanted = row.repeat(10);
    let offsets: Vec<u32> = (0..=10).map(|r| r * row.len() as u32).collect();
    let rows = Rows { tokens: &tokens, from: &from, to: &to };
    let wanted = Wanted { tokens: &wanted, offsets: &offsets };
    let mut whole = vec![0.0; wanted.tokens.len()];
    kernel.run(rows, wanted, &mut whole).unwrap();
    for scores in whole.chunks(row.len()) {
        let eos = lm.signature().eos;
        let starts = (0..size).filter(|&token| token % 3 == 0 || token == eos);
        let mass: f64 = starts.map(|token| f64::from(scores[token as usize]).exp()).sum();
        assert!((f64::from(scores[size as usize]) - mass.ln()).abs() < 1e-6);
    }
    let carried = kernel.save(13);
    kernel.set_chunk(3);
    let mut parts = vec![0.0; whole.len()];
    kernel.run(rows, wanted, &mut parts).unwrap();
    assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() <= 1e-6));

    // A state goes to another worker of the same model, and to no other model.
    let mut other = lm.kernel(1).unwrap();
    other.reserve(1).unwrap();
    other.load(0, &carried).unwrap();
    let next = |kernel: &mut dyn StepKernel, state: u32| {
        let mut out = [0.0];
        let rows = Rows { tokens: &[5], from: &[state], to: &[state] };
        kernel.run(rows, Wanted { tokens: &[7], offsets: &[0, 1] }, &mut out).unwrap();
        out[0]
    };
    assert!((next(&mut *other, 0) - next(&mut kernel, 13)).abs() <= 1e-6);
    let mut stranger = open(&fixture("tiny-bpe")).unwrap().kernel(1).unwrap();
    stranger.reserve(1).unwrap();
    assert!(stranger.load(0, &carried).is_err());
}

#[test]
fn rows_that_make_no_sense_are_errors() {
    if !runtime_or_skip("rows_that_make_no_sense_are_errors") {
        return;
    }
    let mut kernel = open(&fixture("tiny-lstm")).unwrap().kernel(1).unwrap();
    kernel.reserve(2).unwrap();
    let mut run = |tokens: &[u32], from: &[u32], to: &[u32], wanted: &[u32], offsets: &[u32]| {
        kernel.run(Rows { tokens, from, to }, Wanted { tokens: wanted, offsets }, &mut [0.0; 2]).is_err()
    };
    assert!(!run(&[], &[], &[], &[], &[0]));
    assert!(!run(&[1], &[0], &[1], &[2], &[0, 1]));
    assert!(run(&[1], &[0], &[2], &[2], &[0, 1]));
    assert!(run(&[1], &[0], &[], &[2], &[0, 1]));
    assert!(run(&[1], &[0], &[1], &[2], &[0, 2]));
    assert!(run(&[1], &[0], &[1], &[2], &[]));
    assert!(run(&[1 << 30], &[0], &[1], &[2], &[0, 1]));
    assert!(run(&[1], &[0], &[1], &[u32::MAX - 1], &[0, 1]));
}

#[test]
fn a_vocabulary_must_belong_to_the_model() {
    let open = |size, bos, eos| {
        let vocab = Arc::new(Ids { size, bos, eos });
        OnnxLm::open_with(&fixture("tiny-lstm"), "lm", vocab, &OnnxOptions::default())
            .err()
            .unwrap()
            .to_string()
    };
    assert!(open(1000, 0, 1).contains("1000 tokens"));
    assert!(open(10, 0, 4).contains("other start and end"));
    assert!(open(10, 4000, 1).contains("outside"));
}
