//! Layers run here: which models, and the same scores as by ONNX Runtime.

use super::foreign::cases;
use super::*;
use crate::lm::onnx::cell;

fn both(path: &Path) -> (OnnxLm, OnnxLm) {
    let open = |own| {
        let options = OnnxOptions { cell: Some(own), ..OnnxOptions::default() };
        let lm = OnnxLm::open_by(path, "lm", &options, None, |_, signature| {
            Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
        });
        lm.unwrap()
    };
    (open(true), open(false))
}

/// What every kind of exporter writes is recognised; what is computed differently is not.
#[test]
fn layers_of_every_exporter_are_run_here_and_no_others() {
    if !runtime_or_skip("layers_of_every_exporter_are_run_here_and_no_others") {
        return;
    }
    let mut own = Vec::new();
    let all = cases();
    for case in all.iter().filter(|case| case.run() == "step") {
        let lm = open(&case.path).unwrap();
        let told = lm.signature().findings.iter().find(|finding| finding.what == "layers");
        assert_eq!(
            lm.stack.is_some(),
            told.is_some_and(|told| told.value.contains("run here")),
            "{}",
            case.name
        );
        assert!(
            lm.stack.is_some() || lm.alone || !cell::pays() || told.is_some(),
            "{}: no reason",
            case.name
        );
        eprintln!(
            "{}: {}",
            case.name,
            told.map_or("", |told| if lm.stack.is_some() { "own" } else { &told.why })
        );
        if lm.stack.is_some() {
            // No session is kept that nobody needs.
            assert!(lm.spare.lock().unwrap().is_none());
            own.push(&*case.name);
        }
    }
    if !cell::pays() {
        return;
    }
    for name in [
        "icefall-with-state",
        "icefall-no-state",
        "legacy-lstm",
        "dynamo-lstm",
        "wlm-gru",
        "legacy-gru-no-state",
        "legacy-rnn-relu-no-state",
        "keras-lstm",
    ] {
        assert!(own.contains(&name), "{name} is not run here");
    }
    assert!(!own.contains(&"lstm-fp16") && !own.contains(&"espnet-transformer"));
}

/// Weights stored in fewer bits run here as any others: against float64 arithmetic on what is left of them.
#[test]
fn models_stored_in_fewer_bits_are_run_here() {
    if !runtime_or_skip("models_stored_in_fewer_bits_are_run_here") || !cell::pays() {
        return;
    }
    for name in ["tiny-lstm-fp16", "tiny-lstm-int8", "tiny-bpe-fp16", "tiny-bpe-int8"] {
        let (own, runtime) = both(&fixture(name));
        assert!(own.stack.is_some() && runtime.stack.is_none(), "{name}: {:?}", own.signature().findings);
        let cases = expected(name);
        let sentences: Vec<&[u32]> = cases.iter().map(|(ids, _)| &ids[..]).collect();
        let bos = own.signature().bos;
        for lm in [&own, &runtime] {
            let scores = score(&mut *lm.kernel(1).unwrap(), bos, &sentences);
            for (ln, expected) in scores.iter().flatten().zip(cases.iter().flat_map(|(_, logs)| logs)) {
                let near = 2e-6 * (1.0 + expected.abs() / 10.0);
                assert!((f64::from(*ln) - expected).abs() <= near, "{name}: {ln}, not {expected}");
            }
        }
        // An output matrix that is the embedding is no second copy here either.
        let (plain, _) = both(&fixture(&name[..name.len() - 5]));
        let bytes = [&own, &plain].map(|lm| lm.stack.as_ref().unwrap().bytes());
        assert_eq!(bytes[0], bytes[1], "{name}");
    }
}

#[test]
fn here_or_in_onnx_runtime_steps_give_the_same() {
    if !runtime_or_skip("here_or_in_onnx_runtime_steps_give_the_same") {
        return;
    }
    for name in ["tiny-lstm", "tiny-bpe", "foreign/wlm-gru", "foreign/dynamo-lstm"] {
        let (own, runtime) = both(&fixture(name));
        assert!(own.stack.is_some() && runtime.stack.is_none(), "{name}");
        let size = own.signature().vocab_size as u32;
        let run = |lm: &OnnxLm, threads: usize| {
            let mut kernel = lm.kernel(threads).unwrap();
            kernel.reserve(100).unwrap();
            (0..100).for_each(|state| kernel.reset(state));
            let mut all = Vec::new();
            for step in 0..6 {
                // To and fro between two halves, several rows from one state.
                let tokens: Vec<u32> = (0..50).map(|row| (row * 17 + step * 5) % size).collect();
                let here = step % 2 * 50;
                let from: Vec<u32> = (0..50).map(|row| here + row / 2).collect();
                let to: Vec<u32> = (0..50).map(|row| 50 - here + row).collect();
                let wanted: Vec<u32> =
                    (0..50).flat_map(|row| [row * 3 % size, (row * 7 + 1) % size, BOUNDARY]).collect();
                let offsets: Vec<u32> = (0..=50).map(|row| row * 3).collect();
                let mut out = vec![f32::NAN; wanted.len()];
                let rows = Rows { tokens: &tokens, from: &from, to: &to };
                let wanted = Wanted { tokens: &wanted, offsets: &offsets };
                kernel.run(rows, wanted, &mut out).unwrap();
                let mut again = vec![f32::NAN; out.len()];
                match kernel.again(&to, wanted, &mut again) {
                    Some(result) => result.unwrap(),
                    None => again.clone_from(&out),
                }
                assert!(again.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()));
                all.append(&mut out);
            }
            all
        };
        let (ours, theirs) = (run(&own, 1), run(&runtime, 1));
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() <= 2e-6 * (1.0 + a.abs() / 10.0), "{name}: {a} here, {b} by ONNX Runtime");
        }
        assert!(run(&own, 2).iter().zip(&ours).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn states_that_do_not_exist_are_errors_when_asked_again() {
    if !runtime_or_skip("states_that_do_not_exist_are_errors_when_asked_again") {
        return;
    }
    let (lm, _) = both(&fixture("tiny-lstm"));
    let mut kernel = lm.kernel(1).unwrap();
    kernel.reserve(2).unwrap();
    kernel.reset(0);
    let mut again = |states: &[u32], tokens: &[u32], offsets: &[u32]| {
        let mut out = [0.0; 2];
        let wanted = Wanted { tokens, offsets };
        kernel.again(states, wanted, &mut out).unwrap().map(|()| out)
    };
    assert!(again(&[], &[], &[0]).is_ok());
    // Before its first token a state has no answer.
    assert!(again(&[0], &[1, BOUNDARY], &[0, 2]).unwrap().iter().all(|ln| ln.is_nan()));
    assert!(again(&[2], &[1], &[0, 1]).is_err());
    assert!(again(&[0], &[1], &[0, 2]).is_err());
    assert!(again(&[0], &[1 << 30], &[0, 1]).is_err());
}
