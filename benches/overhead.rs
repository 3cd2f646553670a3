//! What the filter itself takes for a list of 100 hypotheses: reading the record, spelling, the prefix
//! tree, its plan and steps, features, ranking and writing, around a network that costs nothing.

use std::collections::HashMap;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use secondpass::formats::jsonl::{Reader, write};
use secondpass::formats::{Gained, OwnNames};
use secondpass::lm::schedule::Scheduler;
use secondpass::lm::{Carry, Grain, LanguageModel, Limits, Rows, Scorer, Spec, StepKernel, Wanted};
use secondpass::rescorer::BestOnly;
use secondpass::tokens::{Known, TextMap, Vocab};
use secondpass::{Error, Rescorer, Result, Utterance};

criterion_group!(benches, overhead);
criterion_main!(benches);

fn overhead(criterion: &mut Criterion) {
    let line = line();
    let mut reader = Reader::new(OwnNames::new(["rnnlm"]));
    let utterance = reader.read(&line).unwrap().utterance;
    let builder = || Rescorer::builder().lm("rnnlm", Arc::new(Model::new(&utterance)), TextMap::default());
    let rescorer = builder().build().unwrap();
    let mut worker = rescorer.worker().unwrap();
    let mut group = criterion.benchmark_group("overhead");
    group.bench_function("record in, record out", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            let mut record = reader.read(black_box(&line)).unwrap();
            worker.rescore(&mut record.utterance).unwrap();
            let order: Vec<usize> = (0..record.utterance.hypotheses.len()).collect();
            let gained = Gained { order: &order, features: rescorer.gained(), ..Gained::default() };
            write(&record, &line, &gained, &mut out).unwrap();
            black_box(out.len())
        });
    });
    // Where a filter left that out.
    worker.rescore(&mut utterance.clone()).unwrap();
    let rows: u64 = worker.work().iter().map(|(_, work)| work.rows).sum();
    assert!(rows > 0, "the network was not asked");
    for (name, rescorer) in [
        ("rescore", builder().cache(0).build().unwrap()),
        ("rescore, histories kept", rescorer),
        (
            "rescore, only the winner",
            builder().cache(0).best_only(Some(BestOnly::default())).build().unwrap(),
        ),
    ] {
        let mut worker = rescorer.worker().unwrap();
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || utterance.clone(),
                |utterance| worker.rescore(utterance).unwrap(),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Says -1 to everything.
struct Free;

impl StepKernel for Free {
    fn window(&self) -> Option<usize> {
        None
    }
    fn state_bytes(&self) -> usize {
        4
    }
    fn reserve(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
    fn reset(&mut self, _: u32) {}
    fn load(&mut self, _: u32, _: &Carry) -> Result<()> {
        Err(Error::Internal("nothing is carried".into()))
    }
    fn save(&self, _: u32) -> Carry {
        Carry(Arc::new(()))
    }
    fn run(&mut self, _: Rows<'_>, _: Wanted<'_>, out: &mut [f32]) -> Result<()> {
        out.fill(-1.0);
        Ok(())
    }
    fn again(&mut self, _: &[u32], _: Wanted<'_>, out: &mut [f32]) -> Option<Result<()>> {
        out.fill(-1.0);
        Some(Ok(()))
    }
}

struct Model {
    spec: Spec,
}

impl Model {
    /// With the words of a list.
    fn new(utterance: &Utterance) -> Self {
        let mut ids = HashMap::new();
        for hypothesis in &utterance.hypotheses {
            for word in hypothesis.bytes.split(|&byte| byte == b' ') {
                let id = ids.len() as u32 + 3;
                ids.entry(word.to_vec()).or_insert(id);
            }
        }
        let spec = Spec {
            vocab: Arc::new(Words(ids)),
            grain: Grain::Token,
            backward: false,
            carries: false,
            carries_bos: false,
            context: Vec::new(),
            warnings: Vec::new(),
        };
        Self { spec }
    }
}

impl LanguageModel for Model {
    fn spec(&self) -> &Spec {
        &self.spec
    }
    fn scorer(&self, limits: &Limits) -> Result<Box<dyn Scorer>> {
        Ok(Box::new(Scheduler::new(Free, "free", limits)))
    }
}

struct Words(HashMap<Vec<u8>, u32>);

impl Vocab for Words {
    fn size(&self) -> usize {
        self.0.len() + 3
    }
    fn bos(&self) -> u32 {
        0
    }
    fn eos(&self) -> u32 {
        1
    }
    fn unk(&self) -> Option<u32> {
        Some(2)
    }
    fn encode(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        let id = self.0.get(word);
        ids.push(id.copied().unwrap_or(2));
        if id.is_some() { Known::Yes } else { Known::No }
    }
    fn starts_word(&self, _: u32) -> bool {
        true
    }
    fn words(&self) -> bool {
        true
    }
    fn symbol(&self, _: u32) -> Option<Vec<u8>> {
        None
    }
    fn hash(&self) -> u64 {
        0
    }
}

/// 100 hypotheses of 19 to 21 words that differ in a few places early and late: about 500 histories.
fn line() -> Vec<u8> {
    let mut line = r#"{"id":"1272-128104-0000","ref":"mister quilter","hyps":["#.to_owned();
    for i in 0..100usize {
        let _ = write!(
            line,
            r#"{}{{"text":"{} quilter is the apostle of {} middle class and we are glad to {} his {} {} my friends","score":-{}.{:06}}}"#,
            if i > 0 { "," } else { "" },
            ["mister", "mr"][i % 2],
            ["the", "a", "their"][i / 2 % 3],
            ["welcome", "well come"][i / 6 % 2],
            ["gospel", "gossip", "costs"][i / 12 % 3],
            ["here", "hear", "there"][i / 36 % 3],
            310 + i,
            i * 7919 % 1_000_000,
        );
    }
    line.push_str("]}");
    line.into_bytes()
}
