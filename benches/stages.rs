//! What the stages between a line of input and a line of output cost for each hypothesis.
//!
//!     cargo bench --bench stages
//!
//! measures time. `benches/instructions` counts instructions instead, by
//! `stages --count STAGE TIMES` under callgrind: figures that do not depend on what else the machine does.
//!
//! The lists are `SECONDPASS_DATA/nbest/flite-librispeech.dev.jsonl` (100 hypotheses each) where that is
//! set, else the fixture's (50). "overhead" is everything that happens to a list but a model's arithmetic:
//! a network that computes nothing stands in for it.

use std::cell::RefCell;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use secondpass::formats::jsonl::{Reader, Record, write};
use secondpass::formats::{Gained, OwnNames};
use secondpass::lm::ngram::{Ngram, Options};
use secondpass::lm::onnx::{OnnxLm, OnnxOptions};
use secondpass::lm::schedule::Scheduler;
use secondpass::lm::{Carry, Grain, Job, LanguageModel, Limits, Rows, Scorer, Spec, StepKernel, Wanted};
use secondpass::tokens::{Markers, Pieces, TextMap, Vocab, WordCache};
use secondpass::trie::{Builder, Trie};
use secondpass::{Rescorer, Utterance};

/// One stage: what `run` does is measured, what `prepare` does is not.
struct Stage {
    name: &'static str,
    /// What one run works on.
    units: u64,
    unit: &'static str,
    prepare: Box<dyn FnMut()>,
    run: Box<dyn FnMut()>,
}

impl Stage {
    fn new(name: &'static str, (units, unit): (u64, &'static str), run: impl FnMut() + 'static) -> Self {
        Self { name, units, unit, prepare: Box::new(|| ()), run: Box::new(run) }
    }
}

/// A network whose steps cost nothing.
struct Nothing;

impl StepKernel for Nothing {
    fn window(&self) -> Option<usize> {
        None
    }
    fn reserve(&mut self, _count: usize) -> secondpass::Result<()> {
        Ok(())
    }
    fn reset(&mut self, _state: u32) {}
    fn load(&mut self, _state: u32, _carry: &Carry) -> secondpass::Result<()> {
        Ok(())
    }
    fn save(&self, _state: u32) -> Carry {
        Carry(Arc::new(()))
    }
    fn run(&mut self, _rows: Rows<'_>, wanted: Wanted<'_>, out: &mut [f32]) -> secondpass::Result<()> {
        // Not all the same, so that ranking has something to do.
        out.iter_mut().zip(wanted.tokens).for_each(|(out, &token)| *out = -1.0 - (token % 7) as f32);
        Ok(())
    }
}

struct NoArithmetic(Spec);

impl LanguageModel for NoArithmetic {
    fn spec(&self) -> &Spec {
        &self.0
    }
    fn scorer(&self, limits: &Limits) -> secondpass::Result<Box<dyn Scorer>> {
        Ok(Box::new(Scheduler::new(Nothing, "lm", limits)))
    }
}

fn stages() -> Vec<Stage> {
    let lines = lines();
    let mut reader = Reader::new(OwnNames::new(["lm"]));
    let utterances: Vec<Utterance> =
        lines.iter().map(|line| reader.read(line).expect("a list").utterance).collect();
    let hypotheses = utterances.iter().map(|utterance| utterance.hypotheses.len() as u64).sum();
    let each = (hypotheses, "hypothesis");
    let vocab: Arc<dyn Vocab> = Arc::new(pieces());
    let ngram =
        Ngram::open(path("models/en/4gram.compact"), &Options::default()).expect("the shipped n-gram");
    let mut stages = vec![reading(&lines, each), spelling(&utterances, &vocab, each)];
    stages.push(trie_building(&utterances, &vocab, each));
    let tries = tries(&utterances, &vocab);
    stages.push(scheduling(&tries));
    stages.push(lookups(&ngram, &utterances));
    stages.extend([1, 32, 128].map(network).into_iter().flatten());
    let rescorer = rescorer(&vocab);
    stages.push(combining(&utterances, each));
    stages.push(writing(&lines, &rescorer, each));
    stages.push(overhead(&lines, &rescorer, each));
    stages
}

fn reading(lines: &[Vec<u8>], each: (u64, &'static str)) -> Stage {
    let lines = lines.to_vec();
    let mut reader = Reader::new(OwnNames::new(["lm"]));
    Stage::new("read", each, move || {
        for line in &lines {
            black_box(reader.read(line).expect("a list"));
        }
    })
}

/// Words found and spelled; the cache knows them all, as it does after some lists.
fn spelling(utterances: &[Utterance], vocab: &Arc<dyn Vocab>, each: (u64, &'static str)) -> Stage {
    let texts = texts(utterances);
    let (vocab, markers, map) = (vocab.clone(), Markers::default(), TextMap::default());
    let mut cache = WordCache::default();
    let mut ids = Vec::new();
    Stage::new("spell", each, move || {
        for text in texts.iter().flatten() {
            ids.clear();
            for word in markers.words(text) {
                ids.extend_from_slice(cache.encode(&*vocab, &map, word).ids);
            }
            black_box(&ids);
        }
    })
}

fn trie_building(utterances: &[Utterance], vocab: &Arc<dyn Vocab>, each: (u64, &'static str)) -> Stage {
    let lists = spelled(utterances, vocab);
    let (bos, mut builder) = (vocab.bos(), Builder::default());
    Stage::new("trie", each, move || {
        for list in &lists {
            black_box(build(&mut builder, bos, list));
        }
    })
}

fn scheduling(tries: &[Arc<Trie>]) -> Stage {
    let tries = tries.to_vec();
    let units = (tries.iter().map(|trie| trie.len() as u64).sum(), "history");
    let mut scheduler = Scheduler::new(Nothing, "lm", &limits());
    Stage::new("schedule", units, move || score(&mut scheduler, &tries))
}

fn lookups(model: &Ngram, utterances: &[Utterance]) -> Stage {
    let tries = tries(utterances, &model.spec().vocab);
    let mut scorer = model.scorer(&limits()).expect("a scorer");
    let units = (tries.iter().map(|trie| trie.len() as u64).sum(), "history");
    Stage::new("n-gram", units, move || score(&mut *scorer, &tries))
}

/// A step of the shipped LSTM with its output layer; none where ONNX Runtime cannot be had.
fn network(rows: u32) -> Option<Stage> {
    let model = path("models/en/lstm/model.onnx");
    let lm = OnnxLm::open(&model, "lm", &OnnxOptions::default());
    let lm = lm.inspect_err(|error| eprintln!("no network: {error}")).ok()?;
    let mut kernel = lm.kernel(1).expect("a session");
    kernel.reserve(rows as usize).expect("memory");
    let states: Vec<u32> = (0..rows).collect();
    let tokens: Vec<u32> = states.iter().map(|row| row * 37 % 4_000).collect();
    let wanted: Vec<u32> = (0..2 * rows).map(|i| i * 11 % 4_000).collect();
    let offsets: Vec<u32> = (0..=rows).map(|row| 2 * row).collect();
    let mut out = vec![0.0; wanted.len()];
    states.iter().for_each(|&state| kernel.reset(state));
    let name = match rows {
        1 => "network, 1 row",
        32 => "network, 32 rows",
        _ => "network, 128 rows",
    };
    Some(Stage::new(name, (u64::from(rows), "history"), move || {
        let rows = Rows { tokens: &tokens, from: &states, to: &states };
        kernel.run(rows, Wanted { tokens: &wanted, offsets: &offsets }, &mut out).expect("a step");
        black_box(&out);
    }))
}

/// Words counted, features weighed, ranked.
fn combining(utterances: &[Utterance], each: (u64, &'static str)) -> Stage {
    let mut worker =
        Rescorer::builder().weight("score", 1.0).build().expect("weights").worker().expect("a worker");
    let utterances = utterances.to_vec();
    let fresh = Rc::new(RefCell::new(Vec::new()));
    let used = fresh.clone();
    let mut stage = Stage::new("combine", each, move || {
        worker.rescore_batch(&mut used.borrow_mut()).expect("no model fails");
    });
    stage.prepare = Box::new(move || fresh.borrow_mut().clone_from(&utterances));
    stage
}

fn writing(lines: &[Vec<u8>], rescorer: &Rescorer, each: (u64, &'static str)) -> Stage {
    let mut reader = Reader::new(OwnNames::new(["lm"]));
    let mut worker = rescorer.worker().expect("a worker");
    let read = |line: &Vec<u8>| {
        let mut record = reader.read(line).expect("a list");
        worker.rescore(&mut record.utterance).expect("a list");
        (line.clone(), record)
    };
    let records: Vec<(Vec<u8>, Record)> = lines.iter().map(read).collect();
    let rescorer = rescorer.clone();
    let mut out = Vec::new();
    Stage::new("write", each, move || {
        for (line, record) in &records {
            out.clear();
            put(record, line, &rescorer, &mut out);
        }
    })
}

/// A line in, a line out, on one thread.
fn overhead(lines: &[Vec<u8>], rescorer: &Rescorer, each: (u64, &'static str)) -> Stage {
    let lines = lines.to_vec();
    let mut reader = Reader::new(OwnNames::new(["lm"]));
    let mut worker = rescorer.worker().expect("a worker");
    let rescorer = rescorer.clone();
    let mut out = Vec::new();
    Stage::new("overhead", each, move || {
        for line in &lines {
            let mut record = reader.read(line).expect("a list");
            worker.rescore(&mut record.utterance).expect("a list");
            out.clear();
            put(&record, line, &rescorer, &mut out);
        }
    })
}

fn put(record: &Record, line: &[u8], rescorer: &Rescorer, out: &mut Vec<u8>) {
    let order: Vec<usize> = (0..record.utterance.hypotheses.len()).collect();
    let gained = Gained { order: &order, features: rescorer.gained(), ..Gained::default() };
    write(record, line, &gained, out).expect("its own line");
    black_box(out.len());
}

fn score(scorer: &mut dyn Scorer, tries: &[Arc<Trie>]) {
    for trie in tries {
        let slot = scorer.submit(job(trie)).expect("a trie");
        let scores = loop {
            scorer.step().expect("a step");
            if let std::task::Poll::Ready(scores) = scorer.take(slot) {
                break scores;
            }
        };
        black_box(scores.expect("scores"));
        scorer.release(slot);
    }
}

fn job(trie: &Arc<Trie>) -> Job {
    Job {
        trie: trie.clone(),
        start: None,
        context: Arc::new([]),
        deadline: None,
        boundaries: false,
        keep: false,
    }
}

fn limits() -> Limits {
    Limits { rows: 128, step_time: None, alone: false, threads: 1 }
}

fn rescorer(vocab: &Arc<dyn Vocab>) -> Rescorer {
    let spec = Spec {
        vocab: vocab.clone(),
        grain: Grain::Token,
        backward: false,
        carries: false,
        carries_bos: false,
        context: Vec::new(),
        warnings: Vec::new(),
    };
    let lm = Arc::new(NoArithmetic(spec));
    Rescorer::builder().lm("lm", lm, TextMap::default()).weight("lm", 5.0).build().expect("weights")
}

/// Token ids of each hypothesis of each list, `</s>` last, and the word each belongs to.
type Spelled = Vec<Vec<(Vec<u32>, Vec<u32>)>>;

fn spelled(utterances: &[Utterance], vocab: &Arc<dyn Vocab>) -> Spelled {
    let (markers, map) = (Markers::default(), TextMap::default());
    let mut cache = WordCache::default();
    let mut spell = |text: &Vec<u8>| {
        let (mut ids, mut words) = (Vec::new(), Vec::new());
        for (word, at) in markers.words(text).into_iter().zip(0..) {
            ids.extend_from_slice(cache.encode(&**vocab, &map, word).ids);
            words.resize(ids.len(), at);
        }
        ids.push(vocab.eos());
        words.push(u32::MAX);
        (ids, words)
    };
    texts(utterances).iter().map(|list| list.iter().map(&mut spell).collect()).collect()
}

fn build(builder: &mut Builder, bos: u32, list: &[(Vec<u32>, Vec<u32>)]) -> Trie {
    builder.start(bos);
    for (ids, words) in list {
        builder.push(ids, words);
    }
    builder.finish()
}

fn tries(utterances: &[Utterance], vocab: &Arc<dyn Vocab>) -> Vec<Arc<Trie>> {
    let mut builder = Builder::default();
    let lists = spelled(utterances, vocab);
    lists.iter().map(|list| Arc::new(build(&mut builder, vocab.bos(), list))).collect()
}

fn texts(utterances: &[Utterance]) -> Vec<Vec<Vec<u8>>> {
    let texts = |utterance: &Utterance| utterance.hypotheses.iter().map(|each| each.bytes.clone()).collect();
    utterances.iter().map(texts).collect()
}

fn pieces() -> Pieces {
    Pieces::open(&path("models/en/lstm/bpe.model"), 1 << 20, 1, 2, None).expect("the shipped pieces")
}

/// The first lists: enough that no list's peculiarity counts.
fn lines() -> Vec<Vec<u8>> {
    let data = std::env::var_os("SECONDPASS_DATA").map(PathBuf::from);
    let bytes = match data.filter(|_| std::env::var_os("SECONDPASS_BENCH_FIXTURE").is_none()) {
        Some(data) => std::fs::read(data.join("nbest/flite-librispeech.dev.jsonl")).expect("SECONDPASS_DATA"),
        None => {
            let packed = std::fs::read(path("fixtures/speech/nbest.jsonl.gz")).expect("the fixture");
            let mut bytes = Vec::new();
            flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("the fixture");
            bytes
        }
    };
    bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .take(LISTS)
        .map(<[u8]>::to_vec)
        .collect()
}

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The function callgrind counts in.
#[inline(never)]
fn counted(stage: &mut Stage) {
    (stage.run)();
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let mut stages = stages();
    if let Some(at) = arguments.iter().position(|argument| argument == "--names") {
        assert_eq!(at, 1, "--names stands alone");
        stages.iter().for_each(|stage| println!("{}\t{}\t{}", stage.name, stage.units, stage.unit));
        return;
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--count") {
        let times: u32 = arguments[at + 2].parse().expect("--count STAGE TIMES");
        let stage = stages.iter_mut().find(|stage| stage.name == arguments[at + 1]).expect("a stage");
        (stage.prepare)();
        (stage.run)();
        for _ in 0..times {
            (stage.prepare)();
            counted(stage);
        }
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("stages");
    for stage in &mut stages {
        group.throughput(Throughput::Elements(stage.units));
        group.bench_function(stage.name, |bencher| {
            bencher.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    (stage.prepare)();
                    let begun = Instant::now();
                    counted(stage);
                    took += begun.elapsed();
                }
                took
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

const LISTS: usize = 20;
