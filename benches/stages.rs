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
    /// What one run works on.
    units: u64,
    unit: &'static str,
    prepare: Box<dyn FnMut()>,
    run: Box<dyn FnMut()>,
}

impl Stage {
    fn new((units, unit): (u64, &'static str), run: impl FnMut() + 'static) -> Self {
        Self { units, unit, prepare: Box::new(|| ()), run: Box::new(run) }
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

/// A stage's maker, by name: callgrind needs only the one that it counts.
const STAGES: [(&str, Make); 11] = [
    ("read", |lists| Some(reading(lists))),
    ("spell", |lists| Some(spelling(lists))),
    ("trie", |lists| Some(trie_building(lists))),
    ("schedule", |lists| Some(scheduling(lists))),
    ("n-gram", |lists| Some(lookups(lists))),
    ("network, 1 row", |_| network(1)),
    ("network, 32 rows", |_| network(32)),
    ("network, 128 rows", |_| network(128)),
    ("combine", |lists| Some(combining(lists))),
    ("write", |lists| Some(writing(lists))),
    ("overhead", |lists| Some(overhead(lists))),
];

/// None where what it needs cannot be had.
type Make = fn(&Lists) -> Option<Stage>;

/// What the stages work on.
struct Lists {
    lines: Vec<Vec<u8>>,
    utterances: Vec<Utterance>,
    vocab: Arc<dyn Vocab>,
}

impl Lists {
    fn new() -> Self {
        let lines = lines();
        let mut reader = Reader::new(OwnNames::new(["lm"]));
        let utterances = lines.iter().map(|line| reader.read(line).expect("a list").utterance).collect();
        Self { lines, utterances, vocab: Arc::new(pieces()) }
    }

    fn each(&self) -> (u64, &'static str) {
        (self.utterances.iter().map(|utterance| utterance.hypotheses.len() as u64).sum(), "hypothesis")
    }
}

fn reading(lists: &Lists) -> Stage {
    let lines = lists.lines.clone();
    let mut reader = Reader::new(OwnNames::new(["lm"]));
    Stage::new(lists.each(), move || {
        for line in &lines {
            black_box(reader.read(line).expect("a list"));
        }
    })
}

/// Words found and spelled; the cache knows them all, as it does after some lists.
fn spelling(lists: &Lists) -> Stage {
    let texts = texts(&lists.utterances);
    let (vocab, markers, map) = (lists.vocab.clone(), Markers::default(), TextMap::default());
    let mut cache = WordCache::default();
    let mut ids = Vec::new();
    Stage::new(lists.each(), move || {
        for text in texts.iter().flatten() {
            ids.clear();
            for word in markers.words(text) {
                ids.extend_from_slice(cache.encode(&*vocab, &map, word).ids);
            }
            black_box(&ids);
        }
    })
}

fn trie_building(lists: &Lists) -> Stage {
    let spelled = spelled(&lists.utterances, &lists.vocab);
    let (bos, mut builder) = (lists.vocab.bos(), Builder::default());
    Stage::new(lists.each(), move || {
        for list in &spelled {
            black_box(build(&mut builder, bos, list));
        }
    })
}

fn scheduling(lists: &Lists) -> Stage {
    let tries = tries(&lists.utterances, &lists.vocab);
    let units = (tries.iter().map(|trie| trie.len() as u64).sum(), "history");
    let mut scheduler = Scheduler::new(Nothing, "lm", &limits());
    Stage::new(units, move || score(&mut scheduler, &tries))
}

fn lookups(lists: &Lists) -> Stage {
    let model =
        Ngram::open(path("models/en/4gram.compact"), &Options::default()).expect("the shipped n-gram");
    let tries = tries(&lists.utterances, &model.spec().vocab);
    let mut scorer = model.scorer(&limits()).expect("a scorer");
    let units = (tries.iter().map(|trie| trie.len() as u64).sum(), "history");
    Stage::new(units, move || score(&mut *scorer, &tries))
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
    Some(Stage::new((u64::from(rows), "history"), move || {
        let rows = Rows { tokens: &tokens, from: &states, to: &states };
        kernel.run(rows, Wanted { tokens: &wanted, offsets: &offsets }, &mut out).expect("a step");
        black_box(&out);
    }))
}

/// Words counted, features weighed, ranked.
fn combining(lists: &Lists) -> Stage {
    let mut worker =
        Rescorer::builder().weight("score", 1.0).build().expect("weights").worker().expect("a worker");
    let utterances = lists.utterances.clone();
    let fresh = Rc::new(RefCell::new(Vec::new()));
    let used = fresh.clone();
    let mut stage = Stage::new(lists.each(), move || {
        worker.rescore_batch(&mut used.borrow_mut()).expect("no model fails");
    });
    stage.prepare = Box::new(move || fresh.borrow_mut().clone_from(&utterances));
    stage
}

fn writing(lists: &Lists) -> Stage {
    let rescorer = rescorer(&lists.vocab);
    let mut reader = Reader::new(OwnNames::new(["lm"]));
    let mut worker = rescorer.worker().expect("a worker");
    let read = |line: &Vec<u8>| {
        let mut record = reader.read(line).expect("a list");
        worker.rescore(&mut record.utterance).expect("a list");
        (line.clone(), record)
    };
    let records: Vec<(Vec<u8>, Record)> = lists.lines.iter().map(read).collect();
    let mut out = Vec::new();
    Stage::new(lists.each(), move || {
        for (line, record) in &records {
            out.clear();
            put(record, line, &rescorer, &mut out);
        }
    })
}

/// A line in, a line out, on one thread.
fn overhead(lists: &Lists) -> Stage {
    let (lines, rescorer) = (lists.lines.clone(), rescorer(&lists.vocab));
    let mut reader = Reader::new(OwnNames::new(["lm"]));
    let mut worker = rescorer.worker().expect("a worker");
    let mut out = Vec::new();
    Stage::new(lists.each(), move || {
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
    // Something left to do, or the call above would become a jump out of what is counted.
    black_box(stage.units);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let lists = Lists::new();
    let mut made = STAGES.iter().filter_map(|(name, make)| Some((*name, make(&lists)?)));
    match arguments.get(1).map(String::as_str) {
        Some("--names") => made.for_each(|(name, stage)| println!("{name}\t{}\t{}", stage.units, stage.unit)),
        Some("--count") => {
            let times: u32 = arguments[3].parse().expect("--count STAGE TIMES");
            let named = STAGES.iter().find(|(name, _)| *name == arguments[2]).expect("a stage");
            let mut stage = (named.1)(&lists).expect("a network");
            (stage.prepare)();
            (stage.run)();
            for _ in 0..times {
                (stage.prepare)();
                counted(&mut stage);
            }
        }
        _ => time(&mut made),
    }
}

fn time(made: &mut dyn Iterator<Item = (&str, Stage)>) {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("stages");
    for (name, mut stage) in made {
        group.throughput(Throughput::Elements(stage.units));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    (stage.prepare)();
                    let begun = Instant::now();
                    counted(&mut stage);
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
