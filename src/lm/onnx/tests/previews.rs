//! Output layers previewed from a few dimensions: how near they stay to an independent evaluation, that a
//! score depends on its history alone, and what is refused.

use super::*;

fn open_with(name: &str, options: OnnxOptions) -> Result<OnnxLm> {
    OnnxLm::open_by(&fixture(name), "lm", &options, None, |_, signature| {
        Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
    })
}

fn previewed(cell: bool, precision: Precision) -> OnnxLm {
    let options = OnnxOptions { rank: Some(16), cell: Some(cell), precision, ..OnnxOptions::default() };
    open_with("wide-lstm", options).unwrap()
}

#[test]
fn previewed_a_model_stays_near_an_independent_evaluation() {
    if !runtime_or_skip("previewed_a_model_stays_near_an_independent_evaluation") {
        return;
    }
    let cases = expected("wide-lstm");
    let sentences: Vec<&[u32]> = cases.iter().map(|(ids, _)| &ids[..]).collect();
    for cell in [true, false] {
        for precision in [Precision::F32, Precision::Int8] {
            if product::Tiles::of(precision, 64).is_none() {
                continue;
            }
            let lm = previewed(cell, precision);
            assert_eq!((lm.stack.is_some(), lm.cut.is_some()), (cell, !cell));
            let warning = lm.spec().warnings.last().cloned().unwrap_or_default();
            assert!(warning.contains("previewed from 16 dimensions as asked: scores stay"), "{warning}");
            let bos = lm.signature().bos;
            let together = score(&mut *lm.kernel(1).unwrap(), bos, &sentences);
            let mut moved = false;
            for ((ids, logs), scores) in cases.iter().zip(&together) {
                for (&ln, &expected) in scores.iter().zip(logs) {
                    let apart = (f64::from(ln) - expected).abs();
                    let near = if precision == Precision::F32 { 0.03 } else { 0.08 };
                    assert!(apart <= near, "{cell} {precision}: {ln}, not {expected}");
                    moved |= apart > 1e-5;
                }
                if cell {
                    let alone = score(&mut *lm.kernel(2).unwrap(), bos, &[ids]);
                    assert_eq!(alone[0], *scores, "{precision}: other rows change a score");
                }
            }
            assert!(moved, "nothing was previewed");
        }
    }
}

#[test]
fn previews_asked_again_give_the_same_bits() {
    if !runtime_or_skip("previews_asked_again_give_the_same_bits") {
        return;
    }
    let lm = previewed(true, Precision::F32);
    let mut kernel = lm.own(1).unwrap().unwrap();
    kernel.reserve(3).unwrap();
    (0..3).for_each(|state| kernel.reset(state));
    let wanted = Wanted { tokens: &[3, 2_000, BOUNDARY, 700, 4, BOUNDARY], offsets: &[0, 3, 4, 6] };
    let (mut out, mut again) = ([f32::NAN; 6], [f32::NAN; 6]);
    let states = [0, 1, 2];
    kernel.run(Rows { tokens: &[1, 600, 9], from: &states, to: &states }, wanted, &mut out).unwrap();
    kernel.again(&states, wanted, &mut again).unwrap().unwrap();
    assert_eq!(out.map(f32::to_bits), again.map(f32::to_bits));
    // The mass of word starts, beside all of them one by one.
    let starts: Vec<u32> = lm.starts.to_vec();
    let mut each = vec![f32::NAN; starts.len()];
    let offsets = [0, starts.len() as u32];
    kernel.again(&[0], Wanted { tokens: &starts, offsets: &offsets }, &mut each).unwrap().unwrap();
    let mass: f64 = each.iter().map(|&ln| f64::from(ln).exp()).sum();
    assert!((mass.ln() - f64::from(out[2])).abs() < 0.01, "{mass} and {}", out[2].exp());
}

#[test]
fn a_model_that_cannot_is_refused() {
    if !runtime_or_skip("a_model_that_cannot_is_refused") {
        return;
    }
    let refused = |name: &str, options: OnnxOptions| {
        let error = open_with(name, options).err().unwrap_or_else(|| panic!("{name} was not refused"));
        error.to_string()
    };
    let asked = |rank| OnnxOptions { rank: Some(rank), ..OnnxOptions::default() };
    for (error, why) in [
        (refused("tiny-lstm", asked(8)), "tokens most would be exact anyway"),
        (refused("foreign/hf-gpt", asked(8)), "not in steps from states"),
        (refused("wide-lstm", asked(17)), "give 1 to 16"),
        (refused("wide-lstm", asked(0)), "give 1 to 16"),
        (refused("wide-lstm", OnnxOptions { bound: Some(true), ..asked(8) }), "GPU"),
        (refused("wide-lstm", OnnxOptions { split: Some(false), ..asked(8) }), "left to ONNX Runtime"),
        (
            refused("wide-lstm", OnnxOptions { split: Some(false), cell: Some(false), ..asked(8) }),
            "left to ONNX Runtime",
        ),
    ] {
        assert!(error.contains(why), "{error}");
        assert!(error.contains("drop the output rank"), "{error}");
    }
}
