//! The output layer split off: the same scores as by an independent evaluation, also of word starts.

use super::*;

fn open_split(name: &str, split: bool) -> OnnxLm {
    let options = OnnxOptions { split: Some(split), cell: Some(false), ..OnnxOptions::default() };
    let lm = OnnxLm::open_by(&fixture(name), "lm", &options, None, |_, signature| {
        Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
    });
    lm.unwrap()
}

#[test]
fn a_model_that_is_split_scores_as_an_independent_evaluation() {
    if !runtime_or_skip("a_model_that_is_split_scores_as_an_independent_evaluation") {
        return;
    }
    for name in ["tiny-lstm", "tiny-bpe"] {
        let lm = open_split(name, true);
        assert!(lm.cut.is_some(), "{name} was not split");
        assert!(lm.signature().findings.iter().any(|finding| finding.value.starts_with("split off")));
        scores_as_numpy_does(&lm, name);
    }
}

#[test]
fn split_or_whole_large_steps_give_the_same() {
    if !runtime_or_skip("split_or_whole_large_steps_give_the_same") {
        return;
    }
    let run = |split: bool, chunk: Option<usize>| {
        let lm = open_split("tiny-bpe", split);
        assert_eq!(lm.cut.is_some(), split);
        let size = lm.signature().vocab_size as u32;
        let mut kernel = lm.session(1).unwrap();
        if let Some(rows) = chunk {
            kernel.set_chunk(rows);
        }
        let states: Vec<u32> = (0..50).collect();
        kernel.reserve(50).unwrap();
        states.iter().for_each(|&state| kernel.reset(state));
        let tokens: Vec<u32> = states.iter().map(|row| row * 17 % size).collect();
        // Rows that want nothing, one token, or some and the word starts.
        let mut wanted = Vec::new();
        let mut offsets = vec![0];
        for row in 0..50 {
            wanted.extend((0..row % 4).map(|at| (row * 31 + at * 7) % size));
            wanted.extend((row % 4 == 3).then_some(BOUNDARY));
            offsets.push(wanted.len() as u32);
        }
        let mut out = vec![f32::NAN; wanted.len()];
        for _ in 0..3 {
            let rows = Rows { tokens: &tokens, from: &states, to: &states };
            kernel.run(rows, Wanted { tokens: &wanted, offsets: &offsets }, &mut out).unwrap();
        }
        out
    };
    let whole = run(false, None);
    for chunk in [None, Some(1), Some(7)] {
        for (a, b) in run(true, chunk).iter().zip(&whole) {
            assert!((a - b).abs() <= 2e-6, "{a} split, {b} whole, {chunk:?}");
        }
    }
}
