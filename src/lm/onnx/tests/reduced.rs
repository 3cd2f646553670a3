//! Models in fewer bits: how near they stay to an independent evaluation, and that they say so.

use super::*;

fn open_in(name: &str, precision: Precision, cell: bool) -> OnnxLm {
    let options = OnnxOptions { precision, cell: Some(cell), ..OnnxOptions::default() };
    let lm = OnnxLm::open_by(&fixture(name), "lm", &options, None, |_, signature| {
        Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
    });
    lm.unwrap()
}

#[test]
fn in_fewer_bits_a_model_stays_near_an_independent_evaluation() {
    if !runtime_or_skip("in_fewer_bits_a_model_stays_near_an_independent_evaluation") {
        return;
    }
    for name in ["tiny-lstm", "tiny-bpe"] {
        for (precision, near) in [(Precision::Int8, 0.03), (Precision::Bf16, 0.03)] {
            for cell in [true, false] {
                let lm = open_in(name, precision, cell);
                let warning = lm.spec().warnings.last().cloned().unwrap_or_default();
                if crate::lm::onnx::product::Tiles::of(precision, 64).is_none() {
                    assert!(warning.contains("f32, not in"), "{warning}");
                    continue;
                }
                assert_eq!(lm.stack.is_some(), cell, "{name}");
                let says = if cell { "runs in" } else { "only its output layer runs in" };
                assert!(warning.starts_with(&format!("{says} {precision}")), "{warning}");
                let cases = expected(name);
                let sentences: Vec<&[u32]> = cases.iter().map(|(ids, _)| &ids[..]).collect();
                let bos = lm.signature().bos;
                let together = score(&mut *lm.kernel(1).unwrap(), bos, &sentences);
                let mut moved = false;
                for ((ids, logs), scores) in cases.iter().zip(&together) {
                    for (&ln, &expected) in scores.iter().zip(logs) {
                        let apart = (f64::from(ln) - expected).abs();
                        assert!(apart <= near, "{name} in {precision}: {ln}, not {expected}");
                        moved |= apart > 1e-5;
                    }
                    // Batch mates change nothing.
                    let alone = score(&mut *lm.kernel(1).unwrap(), bos, &[ids]);
                    if cell {
                        assert_eq!(alone[0], *scores, "{name} in {precision}");
                    }
                }
                assert!(moved, "{name} is not in {precision}");
            }
        }
    }
}

#[test]
fn states_asked_again_give_the_same_bits_in_fewer_bits() {
    if !runtime_or_skip("states_asked_again_give_the_same_bits_in_fewer_bits") {
        return;
    }
    for precision in [Precision::Int8, Precision::Bf16] {
        let lm = open_in("tiny-bpe", precision, true);
        let Some(mut kernel) = lm.own(1).unwrap() else { continue };
        kernel.reserve(3).unwrap();
        (0..3).for_each(|state| kernel.reset(state));
        let wanted = Wanted { tokens: &[3, 5, BOUNDARY, 7, 4, BOUNDARY], offsets: &[0, 3, 4, 6] };
        let (mut out, mut again) = ([f32::NAN; 6], [f32::NAN; 6]);
        let states = [0, 1, 2];
        kernel.run(Rows { tokens: &[1, 6, 9], from: &states, to: &states }, wanted, &mut out).unwrap();
        kernel.again(&states, wanted, &mut again).unwrap().unwrap();
        assert_eq!(out.map(f32::to_bits), again.map(f32::to_bits), "{precision}");
    }
}

#[test]
fn a_model_that_cannot_says_that_it_runs_in_f32() {
    if !runtime_or_skip("a_model_that_cannot_says_that_it_runs_in_f32") {
        return;
    }
    let options = OnnxOptions {
        precision: Precision::Int8,
        cell: Some(false),
        split: Some(false),
        ..OnnxOptions::default()
    };
    let lm = OnnxLm::open_by(&fixture("tiny-lstm"), "lm", &options, None, |_, signature| {
        Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
    });
    let lm = lm.unwrap();
    assert!(
        lm.spec().warnings.iter().any(|warning| warning.starts_with("runs in f32, not in int8 as asked"))
    );
}

/// On the processor there is no TensorFloat-32: it runs as it would without being asked, and says so.
#[test]
fn tf32_is_for_gpus() {
    if !runtime_or_skip("tf32_is_for_gpus") {
        return;
    }
    for bound in [None, Some(true)] {
        let open = |precision| {
            let options = OnnxOptions { precision, bound, ..OnnxOptions::default() };
            let lm = OnnxLm::open_by(&fixture("tiny-lstm"), "lm", &options, None, |_, signature| {
                Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
            });
            lm.unwrap()
        };
        let [exact, asked] = ["f32", "tf32"].map(|text| open(text.parse().unwrap()));
        assert_eq!(asked.stack.is_some(), exact.stack.is_some());
        assert_eq!(asked.bound.is_some(), bound.is_some());
        let more = &asked.spec().warnings[exact.spec().warnings.len()..];
        assert_eq!(more, ["runs in f32, not in tf32 as asked: only steps on a GPU do"]);
        let scores = [&exact, &asked].map(|lm| score(&mut *lm.kernel(1).unwrap(), 0, &[&[1, 2, 3, 4]]));
        assert_eq!(scores[0], scores[1]);
    }
}

#[test]
fn a_model_whose_output_layer_stays_where_it_is_says_why() {
    if !runtime_or_skip("a_model_whose_output_layer_stays_where_it_is_says_why") {
        return;
    }
    let options = OnnxOptions { precision: Precision::Int8, split: Some(true), ..OnnxOptions::default() };
    let lm = OnnxLm::open_by(&fixture("foreign/hf-gpt"), "lm", &options, None, |_, signature| {
        Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
    });
    let lm = lm.unwrap();
    let finding = lm.signature().findings.iter().find(|finding| finding.what == "output layer").unwrap();
    assert_eq!(finding.value, "run by ONNX Runtime");
    assert!(finding.why.contains("steps"), "{}", finding.why);
    let told = format!("runs in f32, not in int8 as asked: {}", finding.why);
    assert!(lm.spec().warnings.contains(&told), "{:?}", lm.spec().warnings);
}
