//! States on the device, with the processor as the device: the same graph, arena and output layer in tiles
//! as on a GPU, against scores computed without any of it.

use super::foreign::{cases, job, trie as trie_of, worst};
use super::*;
use crate::lm::onnx::bound::TILE;
use crate::lm::onnx::session::{self, Runner};

pub(super) fn open_bound(path: &Path) -> OnnxLm {
    let options = OnnxOptions { bound: Some(true), ..OnnxOptions::default() };
    let lm = OnnxLm::open_by(path, "lm", &options, None, |_, signature| {
        Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
    });
    lm.unwrap()
}

/// As [`open_bound`], for models that are known to be.
fn bound(name: &str) -> OnnxLm {
    let lm = open_bound(&fixture(name));
    assert!(lm.bound.is_some() && lm.stack.is_none() && lm.cut.is_none(), "{:?}", lm.signature().findings);
    lm
}

fn in_tiles(lm: &OnnxLm, tile: usize) -> Result<Arc<Bound>, String> {
    let mut source = lm.source.clone();
    let bytes = source.changed().unwrap().unwrap_or_else(|| std::fs::read(&source.path).unwrap());
    let graph = Graph::parse(&source.path, &bytes).unwrap();
    let plan = Plan { device: Device::Cpu, threads: 1, half: lm.half, tf32: false };
    source.path.clone_from(&graph.path);
    Bound::new(&source, &graph, &lm.signature, plan, &lm.starts, tile).map(Arc::new)
}

fn kernel_in_tiles(lm: &OnnxLm, tile: usize) -> BoundKernel {
    let bound = in_tiles(lm, tile).unwrap();
    let runner = bound.runner(1).unwrap();
    BoundKernel::new("lm".into(), bound, runner).unwrap()
}

/// Steps of many rows, of which some want nothing, some one token, some many, some the word starts too.
fn many(kernel: &mut dyn StepKernel, size: u32, rows: u32) -> Vec<f32> {
    let states: Vec<u32> = (0..rows).collect();
    kernel.reserve(rows as usize).unwrap();
    states.iter().for_each(|&state| kernel.reset(state));
    let mut all = Vec::new();
    for step in 0..3 {
        let tokens: Vec<u32> = states.iter().map(|row| (row * 17 + step) % size).collect();
        let (mut wanted, mut offsets) = (Vec::new(), vec![0]);
        for row in 0..rows {
            wanted.extend((0..row % 4).map(|at| (row * 31 + at * 7 + step) % size));
            wanted.extend((row % 4 == 3).then_some(BOUNDARY));
            offsets.push(wanted.len() as u32);
        }
        let mut out = vec![f32::NAN; wanted.len()];
        let rows = Rows { tokens: &tokens, from: &states, to: &states };
        kernel.run(rows, Wanted { tokens: &wanted, offsets: &offsets }, &mut out).unwrap();
        all.extend(out);
    }
    all
}

fn near(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len());
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-5 * (b.abs() / 10.0).max(1.0), "{what}: {a}, not {b}");
    }
}

#[test]
fn bound_models_of_every_exporter_score_as_numpy_does() {
    if !runtime_or_skip("bound_models_of_every_exporter_score_as_numpy_does") {
        return;
    }
    let mut found = Vec::new();
    for case in cases().iter().filter(|case| case.run() == "step") {
        let lm = open_bound(&case.path);
        let told = lm.signature().findings.iter().find(|finding| finding.what == "states");
        assert!(lm.alone || told.is_some(), "{}: nothing is said", case.name);
        eprintln!("{}: {}", case.name, told.map_or("batched by utterance", |told| &told.why));
        if lm.bound.is_none() {
            continue;
        }
        for rows in [64, 3] {
            let worst = worst(&lm, case, rows);
            assert!(worst <= case.tolerance().max(1e-5), "{}: {worst:e}", case.name);
        }
        found.push(case.name.clone());
    }
    for name in [
        "dynamo-lstm",
        "espnet-gru",
        "espnet-lstm",
        "icefall-no-state",
        "icefall-with-state",
        "keras-lstm",
        "legacy-lstm",
        "legacy-rnn",
        "lstm-fp16",
        "plain-batch-first-states",
        "plain-float-probabilities",
        "plain-int32-log-probs",
        "plain-time-major",
        "wlm-gru",
        "wlm-legacy",
    ] {
        assert!(found.iter().any(|found| found == name), "{name} is not among {found:?}");
    }
    for name in ["tiny-lstm", "tiny-bpe"] {
        scores_as_numpy_does(&bound(name), name);
    }
}

#[test]
fn an_output_layer_in_tiles_gives_the_scores_of_a_whole_one() {
    if !runtime_or_skip("an_output_layer_in_tiles_gives_the_scores_of_a_whole_one") {
        return;
    }
    let foreign = cases();
    let named = |name: &str| foreign.iter().find(|case| case.name == name).unwrap().path.clone();
    let (mut by_token, mut tiled) = ([false; 2], 0);
    let paths = ["tiny-lstm", "tiny-bpe"].map(fixture).into_iter().chain(
        ["legacy-lstm", "espnet-gru", "icefall-with-state", "dynamo-lstm", "legacy-rnn", "plain-time-major"]
            .map(named),
    );
    for path in paths {
        let options = OnnxOptions { cell: Some(false), split: Some(false), ..OnnxOptions::default() };
        let lm = OnnxLm::open_by(&path, "lm", &options, None, |_, signature| {
            Ok(Arc::new(Ids { size: signature.vocab_size, bos: signature.bos, eos: signature.eos }))
        });
        let lm = lm.unwrap();
        let size = lm.signature().vocab_size;
        let expected = many(&mut lm.session(1).unwrap(), size as u32, 50);
        near(&many(&mut kernel_in_tiles(&lm, TILE), size as u32, 50), &expected, "whole");
        let layer = graph::Walk::new(&lm.graph).projection(&lm.signature().output);
        // One token in the last tile; tiles without a token that starts a word; one tile a token.
        for tile in [size - 1, size / 3, 2, 1].into_iter().filter(|&tile| size / tile < 70) {
            let what = format!("{} in tiles of {tile} of {size}", path.display());
            let bound = match in_tiles(&lm, tile) {
                Ok(bound) => bound,
                Err(why) => panic!("{what}: {why}"),
            };
            assert_eq!(bound.tiles, size.div_ceil(tile));
            let runner = bound.runner(1).unwrap();
            let mut kernel = BoundKernel::new("lm".into(), bound, runner).unwrap();
            near(&many(&mut kernel, size as u32, 50), &expected, &what);
            tiled += 1;
        }
        by_token[usize::from(layer.is_some_and(|layer| layer.by_token))] = true;
    }
    assert!(by_token == [true; 2] && tiled > 12, "{by_token:?}, {tiled}");
}

/// The weights of the tiles are cut once, when the model is loaded, and not at every step.
#[test]
fn tiles_are_cut_at_load() {
    if !runtime_or_skip("tiles_are_cut_at_load") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let lm = open_by_runtime("tiny-bpe");
    let bound = in_tiles(&lm, lm.signature().vocab_size / 3).unwrap();
    let bytes = bound.source.changed().unwrap().unwrap();
    let before = Graph::parse(&bound.source.path, &bytes).unwrap();
    assert!(before.ops["Slice"] >= 3);
    let path = folder.path().join("as_run.onnx");
    let plan = Plan { device: Device::Cpu, threads: 1, half: false, tf32: false };
    let builder = session::options(runtime::environment().unwrap(), plan).unwrap();
    let mut builder = builder.with_optimized_model_path(&path).unwrap();
    builder.commit_from_memory(&bytes).unwrap();
    let after = Graph::read(&path).unwrap();
    assert!(after.ops.contains_key("ScatterElements"));
    assert!(!after.ops.contains_key("Slice"), "{:?}", after.ops);
}

/// A tile is done with before the next is made: else all of them would be in memory together.
#[test]
fn one_tile_is_in_memory_at_a_time() {
    if !runtime_or_skip("one_tile_is_in_memory_at_a_time") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let lm = open_by_runtime("tiny-bpe");
    let size = lm.signature().vocab_size;
    let bound = in_tiles(&lm, size.div_ceil(5)).unwrap();
    let plan = Plan { device: Device::Cpu, threads: 1, half: false, tf32: false };
    let builder = session::options(runtime::environment().unwrap(), plan).unwrap();
    let mut builder = builder.with_profiling(folder.path().join("run")).unwrap();
    let session = builder.commit_from_memory(&bound.source.changed().unwrap().unwrap()).unwrap();
    let mut kernel = BoundKernel::new("lm".into(), bound, Runner { session }).unwrap();
    many(&mut kernel, size as u32, 10);
    let profile = kernel.into_runner().session.end_profiling().unwrap();
    let events: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(profile).unwrap()).unwrap();
    let mut order: Vec<(u64, char)> = Vec::new();
    for event in &events {
        let name = event["name"].as_str().unwrap_or_default();
        let tile = name.split("secondpass.tile_").nth(1).filter(|_| name.ends_with("_kernel_time"));
        if let Some(tile) = tile.and_then(|rest| rest.chars().next()).filter(char::is_ascii_digit) {
            order.push((event["ts"].as_u64().unwrap(), tile));
        }
    }
    order.sort();
    let mut tiles: Vec<char> = order.into_iter().map(|(_, tile)| tile).collect();
    // Some nodes each, in three steps.
    assert!(tiles.len() >= 3 * 5 * 4, "{tiles:?}");
    tiles.dedup();
    assert_eq!(tiles.len(), 3 * 5, "{tiles:?}");
}

#[test]
fn states_of_earlier_sentences_are_found_again_on_the_device() {
    if !runtime_or_skip("states_of_earlier_sentences_are_found_again_on_the_device") {
        return;
    }
    let lm = bound("tiny-bpe");
    let sentences = expected("tiny-bpe");
    let trie = trie_of(lm.signature().bos, &sentences);
    let limits = Limits { rows: 7, step_time: None, alone: false, threads: 1 };
    let mut scorer = lm.scorer(&limits).unwrap();
    scorer.remember(1 << 20);
    let mut rows = 0;
    for round in 0..5 {
        let slot = scorer.submit(job(&trie, Arc::new([]))).unwrap();
        let scores = loop {
            if let std::task::Poll::Ready(scores) = scorer.take(slot) {
                break scores.unwrap();
            }
            scorer.step().unwrap();
        };
        scorer.release(slot);
        let Scores::Nodes { ln, .. } = scores else { panic!("no token scores") };
        for ((_, logs), &end) in sentences.iter().zip(&trie.ends) {
            for (node, &expected) in trie.path(end).zip(logs.iter().rev()) {
                assert!((f64::from(ln[node as usize]) - expected).abs() <= 2e-6, "round {round}");
            }
        }
        rows = if round == 0 { scorer.work().rows } else { rows };
    }
    let work = scorer.work();
    assert!(work.hits > 0 && work.rows < 5 * rows, "{work:?}");
}

#[test]
fn carried_states_growing_arenas_and_large_steps_on_the_device() {
    if !runtime_or_skip("carried_states_growing_arenas_and_large_steps_on_the_device") {
        return;
    }
    let whole = open_by_runtime("tiny-lstm");
    let lm = bound("tiny-lstm");
    let size = lm.signature().vocab_size as u32;
    // More rows than one run takes, in an arena that grows between.
    let (mut kernel, mut plain) = (lm.kernel(1).unwrap(), whole.kernel(1).unwrap());
    for rows in [3, 200, 1500] {
        near(&many(&mut *kernel, size, rows), &many(&mut *plain, size, rows), "large");
    }
    let next = |kernel: &mut dyn StepKernel, from: u32, to: u32| {
        let mut out = [0.0];
        let rows = Rows { tokens: &[5], from: &[from], to: &[to] };
        kernel.run(rows, Wanted { tokens: &[7], offsets: &[0, 1] }, &mut out).unwrap();
        out[0]
    };
    // Growing keeps what is there; nothing else is written by a step.
    let carried = kernel.save(13);
    let here = next(&mut *kernel, 13, 2);
    kernel.reserve(5000).unwrap();
    assert_eq!(next(&mut *kernel, 13, 4999), here);
    assert_eq!(next(&mut *kernel, 4999, 3), next(&mut *kernel, 2, 1));
    near(&[here], &[next(&mut *plain, 13, 2)], "after three steps");
    // A reset state is the model's start, wherever its row writes to.
    kernel.reset(13);
    plain.reset(13);
    near(&[next(&mut *kernel, 13, 13)], &[next(&mut *plain, 13, 13)], "reset");
    near(&[next(&mut *kernel, 13, 13)], &[next(&mut *plain, 13, 13)], "and after it");
    // To another worker, and back to this one.
    let mut other = lm.kernel(1).unwrap();
    other.reserve(2).unwrap();
    other.load(1, &carried).unwrap();
    assert_eq!(next(&mut *other, 1, 0), here);
    kernel.load(13, &carried).unwrap();
    assert_eq!(next(&mut *kernel, 13, 13), here);
    // The start can be carried too.
    kernel.reset(9);
    other.load(0, &kernel.save(9)).unwrap();
    kernel.reset(8);
    assert_eq!(next(&mut *other, 0, 0), next(&mut *kernel, 8, 8));
    let mut stranger = bound("tiny-bpe").kernel(1).unwrap();
    stranger.reserve(1).unwrap();
    assert!(stranger.load(0, &carried).is_err());
}

#[test]
fn steps_have_few_shapes() {
    if !runtime_or_skip("steps_have_few_shapes") {
        return;
    }
    let lm = open_by_runtime("tiny-bpe");
    let mut kernel = kernel_in_tiles(&lm, 10);
    let mut shapes = std::collections::BTreeSet::new();
    for rows in 1..150 {
        many(&mut kernel, lm.signature().vocab_size as u32, rows);
        let sizes = kernel.sizes();
        shapes.insert((sizes.rows, sizes.pairs, sizes.bounds));
    }
    assert!(shapes.len() <= 20, "{shapes:?}");
}

/// What a thousand steps leave behind, in a process of its own: others would be measured with it.
#[test]
fn a_thousand_steps_take_no_more_memory() {
    if !runtime_or_skip("a_thousand_steps_take_no_more_memory") || cfg!(not(target_os = "linux")) {
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--ignored", "--nocapture", "lm::onnx::tests::bound::child_of_a_thousand_steps"]);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by a_thousand_steps_take_no_more_memory"]
fn child_of_a_thousand_steps() {
    let lm = bound("tiny-lstm");
    let size = lm.signature().vocab_size as u32;
    let mut kernel = lm.kernel(1).unwrap();
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let mut after = Vec::new();
    for round in 0..5 {
        // Three steps each, of every size up to 100 rows.
        for rows in 1..=100 {
            many(&mut *kernel, size, rows);
            let carried = kernel.save(0);
            kernel.load(0, &carried).unwrap();
        }
        after.push(resident());
        eprintln!("after {} steps {} KiB", (round + 1) * 300, after[round]);
    }
    assert!(after[4] <= after[1] + 1024, "{after:?} KiB");
}

/// A session of the changed model can be had by itself, and what it lacks is said.
#[test]
fn a_model_that_cannot_be_bound_says_why() {
    if !runtime_or_skip("a_model_that_cannot_be_bound_says_why") {
        return;
    }
    let lm = open_by_runtime("tiny-lstm");
    let (source, plan) =
        (lm.source.clone(), Plan { device: Device::Cpu, threads: 1, half: false, tf32: false });
    let refused = |change: &dyn Fn(&mut Signature, &mut Graph), starts: &[u32], tile: usize| {
        let (mut signature, mut graph) = ((*lm.signature).clone(), lm.graph.clone());
        change(&mut signature, &mut graph);
        Bound::new(&source, &graph, &Arc::new(signature), plan, starts, tile).unwrap_err()
    };
    let said = [
        (refused(&|signature, _| signature.run = Run::Sentences, &[1], TILE), "does not run in steps"),
        (
            refused(&|signature, _| signature.lengths = Some(signature.tokens.ids.clone()), &[1], TILE),
            "more than tokens and states",
        ),
        (refused(&|signature, _| signature.tokens.batch = Some(4), &[1], TILE), "fixed size"),
        (refused(&|signature, _| signature.states.swap(0, 1), &[], TILE), "starts a word"),
        (refused(&|_, graph| graph.opsets = vec![(String::new(), 9)], &[1], TILE), "version 9"),
        (
            refused(&|signature, _| signature.kind = signature::Kind::Probabilities, &[1], 2),
            "one matrix product",
        ),
    ];
    for (said, what) in said {
        assert!(said.contains(what), "{said}");
    }
    let Err(error) = Runner::new(&source, Plan { device: Device::Cuda(0), ..plan }) else { return };
    assert!(error.to_string().contains("--device cpu"), "{error}");
}
