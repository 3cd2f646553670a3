//! Models on a GPU. The library is loaded once for a process, and here one with CUDA is wanted: a process of
//! its own.

use std::path::Path;
use std::sync::Arc;

use super::Ids;
use super::foreign::{cases, worst};
use crate::lm::LanguageModel;
use crate::lm::onnx::{Device, OnnxLm, OnnxOptions, Precision, cuda, runtime};
use crate::testing::skipped;

const NAME: &str = "on_a_gpu_as_on_the_processor";

/// How far a token's score may be from float64 on a GPU, or ten times what it is on the processor. TF32,
/// which is faster and off unless asked for, has 10 bits: errors of 1e-3.
const NEAR: f64 = 1e-4;

#[test]
fn on_a_gpu_as_on_the_processor() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--ignored", "--nocapture", "lm::onnx::tests::cuda::child_on_a_gpu"]);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by on_a_gpu_as_on_the_processor"]
fn child_on_a_gpu() {
    runtime::prefer_cuda();
    if let Err(error) = cuda::usable(0) {
        return skipped(NAME, &error.to_string());
    }
    let on = |path: &Path, device| open_in(path, device, Precision::F32);
    fn open_in(path: &Path, device: Device, precision: Precision) -> crate::Result<OnnxLm> {
        OnnxLm::open_by(
            path,
            "lm",
            &OnnxOptions { device, precision, ..OnnxOptions::default() },
            None,
            |_, signature| {
                Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
            },
        )
    }
    let mut compared = 0;
    let cases = cases();
    for case in cases.iter().filter(|case| case.run() != "refused" && !case.name.contains("int8")) {
        let [cpu, gpu] = [Device::Cpu, Device::Cuda(0)].map(|device| on(&case.path, device).unwrap());
        assert_eq!((cpu.device(), gpu.device()), (Device::Cpu, Device::Cuda(0)));
        assert!(cpu.on_processor().is_empty());
        // States stay there wherever they can, as on the processor when it stands in.
        let says = |lm: &OnnxLm| lm.signature().findings.iter().any(|finding| finding.what == "states");
        assert!(!says(&cpu) && says(&gpu) == (case.run() == "step"), "{}", case.name);
        let stay = super::bound::open_bound(&case.path).bound.is_some();
        assert_eq!(gpu.bound.is_some(), stay, "{}: {:?}", case.name, gpu.signature().findings);
        for rows in [64, 3] {
            let [here, there] = [&cpu, &gpu].map(|lm| worst(lm, case, rows));
            eprintln!("{:<28} {here:.1e} on the processor, {there:.1e} on the GPU", case.name);
            let near = NEAR.max(10.0 * here);
            assert!(there <= near, "{}: {there:e} on the GPU, {here:e} on the processor", case.name);
        }
        for node in gpu.on_processor() {
            eprintln!("    on the processor: {node}");
        }
        compared += 1;
    }
    assert!(compared > 25, "only {compared} models");
    // TensorFloat-32 is another thing, and said to be.
    let lstm = cases.iter().find(|case| case.name == "legacy-lstm").unwrap();
    let rough = open_in(&lstm.path, Device::Cuda(0), Precision::Tf32).unwrap();
    let apart = worst(&rough, lstm, 64);
    eprintln!("{:<28} {apart:.1e} on the GPU in tf32", lstm.name);
    assert!(apart <= 0.03 && rough.spec().warnings.iter().any(|warning| warning.starts_with("runs in tf32")));
    // Where cuDNN has no such cell, that is said.
    let relu = cases.iter().find(|case| case.name == "legacy-rnn-relu-no-state").unwrap();
    let nodes = on(&relu.path, Device::Cuda(0)).unwrap().on_processor();
    assert!(nodes.iter().any(|node| node.contains("RNN") && node.contains("other activations")), "{nodes:?}");
}
