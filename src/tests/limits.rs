//! What happens where there is not enough of something, and where ONNX Runtime is missing (M9, F3).

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::data::{count, fixture, records};
use crate::harness::{Dir, Output};

/// Without anything that would help to find the library.
fn neural(dir: &Dir) -> crate::harness::TestCommand {
    let mut command = dir.secondpass(["rescore", "--rnnlm"]).arg(fixture("models/tiny-lstm/model.onnx"));
    for name in ["ORT_DYLIB_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"] {
        command.command.env_remove(name);
    }
    command.env("HOME", dir.path("nobody"))
}

#[track_caller]
fn one_clear_line(output: Output, what: &str) {
    let output = output.code(2);
    let said: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("secondpass: ") && said[0].contains(what), "{said:?}");
    assert!(said[0].contains("secondpass doctor --install"), "no way out: {said:?}");
    assert!(output.stdout.is_empty());
    // A second, on a machine that does other things too.
    assert!(output.took < Duration::from_secs(10), "{:?}", output.took);
}

#[test]
fn m9_a_runtime_that_is_not_there() {
    let dir = Dir::new();
    let input = records(3, 81);
    for _ in 0..count(5, 100) {
        let missing = neural(&dir).env("ORT_DYLIB_PATH", "/nonexistent/libonnxruntime.so");
        one_clear_line(missing.stdin(input.clone()).run(), "/nonexistent/libonnxruntime.so");
        let flag = neural(&dir).args(["--onnxruntime", "/nonexistent/libonnxruntime.so"]);
        one_clear_line(flag.stdin(input.clone()).run(), "/nonexistent/libonnxruntime.so");
    }
}

#[test]
fn m9_a_runtime_that_is_another_library() {
    let dir = Dir::new();
    let folders = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"];
    let libm =
        folders.iter().map(|folder| PathBuf::from(folder).join("libm.so.6")).find(|path| path.exists());
    let Some(libm) = libm else {
        crate::skip!("m9_a_runtime_that_is_another_library", "no libm.so.6");
    };
    let text = dir.write("libonnxruntime.so", "no library at all");
    let empty = dir.write("libonnxruntime.so.1.30.0", "");
    for wrong in [libm, text, empty, PathBuf::from("/dev/null")] {
        let output = neural(&dir).env("ORT_DYLIB_PATH", &wrong).stdin(records(3, 82)).run();
        one_clear_line(output, &wrong.display().to_string());
    }
}

#[test]
fn m9_no_runtime_at_all() {
    let dir = Dir::new();
    let output = neural(&dir).stdin(records(3, 83)).run();
    if output.status.code() == Some(0) {
        crate::skip!("m9_no_runtime_at_all", "the system has one");
    }
    one_clear_line(output, "not found");
}

#[test]
fn m9_an_ngram_alone_never_loads_it() {
    let library = crate::runtime!("m9_an_ngram_alone_never_loads_it");
    let dir = Dir::ngram();
    let maps = |mut running: crate::harness::Running| {
        running.write(&records(1, 84));
        running.line();
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", running.child.id())).expect("/proc");
        drop(running.stdin.take());
        assert_eq!(running.end().code(), Some(0));
        maps
    };
    assert!(!maps(dir.rescore().ort(library).start()).contains("onnxruntime"));
    let model = fixture("models/tiny-lstm/model.onnx");
    // The same look at a run that needs it finds it.
    assert!(maps(dir.rescore().arg("--rnnlm").arg(model).ort(library).start()).contains("onnxruntime"));
}

#[test]
fn m9_doctor_tells_the_same() {
    let library = crate::runtime!("m9_doctor_tells_the_same");
    let dir = Dir::new();
    let text = dir.secondpass(["doctor"]).ort(library).run().code(0).text();
    assert!(text.contains(&library.display().to_string()) && text.contains("loads          yes"), "{text}");
    let missing = dir.secondpass(["doctor"]).env("ORT_DYLIB_PATH", "/nonexistent").run().code(2);
    assert!(missing.text().contains("no such file"), "{}", missing.text());
    assert!(missing.stderr.contains("secondpass doctor --install"), "{}", missing.stderr);
}

/// `cuda` is an error, `auto` says why it falls back; `doctor` knows before.
#[test]
fn m9_a_gpu_that_is_not_there() {
    let library = crate::runtime!("m9_a_gpu_that_is_not_there");
    let dir = Dir::new();
    let doctor = dir.secondpass(["doctor", "--cuda"]).ort(library).run();
    if doctor.status.code() == Some(0) {
        crate::skip!("m9_a_gpu_that_is_not_there", "models can run on a GPU here");
    }
    let doctor = doctor.code(2);
    assert!(doctor.text().contains("loads          yes"), "{}", doctor.text());
    assert!(
        doctor.stderr.contains("--install --cuda") || doctor.text().contains("advice  "),
        "{}",
        doctor.stderr
    );
    let input = records(3, 81);
    let model = fixture("models/tiny-lstm/model.onnx");
    let on = |device: &str| {
        let command = dir.secondpass(["rescore", "--device", device, "--rnnlm"]).arg(&model).ort(library);
        command.stdin(input.clone()).run()
    };
    for device in ["cuda", "cuda:1"] {
        one_clear_line(on(device), "cannot be used");
    }
    // One worker, said before anything fails.
    let four = dir.secondpass(["rescore", "-j4", "--device", "cuda", "--rnnlm"]).arg(&model).ort(library);
    let four = four.stdin(input.clone()).run().code(2).stderr;
    assert!(four.contains("--jobs 4: on a GPU one worker") && four.lines().count() == 2, "{four}");
    let (auto, cpu) = (on("auto").code(0), on("cpu").code(0));
    assert_eq!(auto.stdout, cpu.stdout);
    assert!(auto.stderr.contains("runs on the processor: CUDA device 0 cannot be used"), "{}", auto.stderr);
    assert!(!cpu.stderr.contains("CUDA"), "{}", cpu.stderr);
}

#[test]
fn m9_it_exits_normally_with_it() {
    let library = crate::runtime!("m9_it_exits_normally_with_it");
    let dir = Dir::new();
    for run in 0..count(20, 200) {
        let model = fixture("models/tiny-lstm/model.onnx");
        let jobs = ["-j1", "-j4"][run % 2];
        let output = dir
            .secondpass(["rescore", jobs, "--rnnlm"])
            .arg(model)
            .ort(library)
            .stdin(records(run, 85))
            .run();
        assert_eq!(output.signal(), None, "{}", output.stderr);
        output.code(0);
    }
}

/// More and more address space: it works, or it fails with exit code 2; never a signal, and whatever
/// is written by then is right.
#[test]
fn f3_too_little_memory_gives_no_wrong_answer() {
    let dir = Dir::ngram();
    let input = records(300, 86);
    let want = dir.rescore().arg("-j2").stdin(input.clone()).run().code(0).stdout;
    let steps = count(12, 50) as u64;
    let (mut worked, mut failed) = (0, 0);
    for step in 1..=steps {
        let kib = (14 + 140 * step / steps) << 10;
        let within = |arguments: &str| {
            let mut command = Command::new("sh");
            let script = format!("ulimit -v {kib}; exec \"$PROGRAM\" {arguments}");
            command.args(["-c", &script]).env("PROGRAM", env!("CARGO_BIN_EXE_secondpass"));
            dir.other(command)
        };
        let output = within("rescore --ngram lm.arpa -j2").stdin(input.clone()).run();
        match output.status.code() {
            Some(0) => {
                assert!(output.stdout == want);
                worked += 1;
            }
            // 127: the system's loader found no room for the program itself.
            Some(2 | 126 | 127) => {
                assert!(want.starts_with(&output.stdout), "{kib} KiB: lines were lost");
                failed += 1;
            }
            // Nor can it do anything at all: it ended before its own first line.
            None if !within("--version").run().status.success() => failed += 1,
            _ => panic!("{kib} KiB: {:?} {}", output.status, output.stderr),
        }
    }
    assert!(worked > 0, "{failed} of {steps} failed");
}
