//! From a file to a session that is ready to score: what the model is, and the best way to run it.

mod improve;

use std::path::Path;
use std::sync::Arc;

use super::OnnxOptions;
use super::bound::{self, Bound, BoundKernel};
use super::cell::{self, CellKernel, Recognised, Stack};
use super::cuda;
use super::cut::Cut;
use super::device::Device;
use super::graph::{Edit, Graph, rewrite};
use super::head::{self, Head, Typical};
use super::kernel::OnnxKernel;
use super::probe::{self, Facts};
use super::product::Precision;
use super::session::{Plan, Runner, Source};
use super::signature::{Draft, Finding, Run, Signature};
use super::trial::{ROUGH, trial, worst};
use super::typical::{self, Drawn, Shows};
use crate::{Error, Result};

/// A model that is ready.
pub(super) struct Opened {
    /// The file as it is.
    pub graph: Graph,
    /// The graph as it is run.
    pub run: Graph,
    /// The file as it is run.
    pub source: Source,
    pub signature: Arc<Signature>,
    pub runner: Runner,
    pub plan: Plan,
    /// Scores depend on batch mates.
    pub alone: bool,
    /// Whether it may be changed to be faster.
    pub rewrite: bool,
    pub warnings: Vec<String>,
}

/// A model that can be run whole.
pub(super) struct Whole<'a> {
    /// As it is run.
    pub graph: &'a Graph,
    pub source: Source,
    pub signature: Arc<Signature>,
    pub plan: Plan,
}

/// A model on the way: a file with changes, understood and loaded.
struct Candidate {
    source: Source,
    graph: Graph,
    draft: Draft,
    signature: Signature,
    runner: Runner,
    plan: Plan,
}

/// Opens the model at `path`. `ends` are the tokens before and after a sentence, where the caller knows
/// them and the model need not; `cells` says that layers will be run here where they can, so that ONNX
/// Runtime need not be made fast.
///
/// # Errors
/// If the file is damaged or no model that can be scored, or there is no ONNX Runtime.
pub(super) fn open(path: &Path, device: Device, ends: Option<(u32, u32)>, cells: bool) -> Result<Opened> {
    let graph = Graph::read(path)?;
    let mut draft = Signature::detect(&graph)?;
    if let Some((bos, eos)) = ends {
        draft.specials.bos = draft.specials.bos.or(Some((bos, "the vocabulary")));
        draft.specials.eos = draft.specials.eos.or(Some((eos, "the vocabulary")));
    }
    let plan = Plan { device: device.decide()?, threads: 1, half: graph.half, tf32: false };
    let alone = is_dynamic(&graph);
    let external = !graph.external.is_empty();
    let recurrent = RECURRENT.iter().any(|&op| graph.ops.contains_key(op));
    let rewritten = draft.sidecar.rewrite != Some(false) && !alone;
    let mapped =
        cells && plan.device == Device::Cpu && rewritten && recurrent && !external && graph.bytes >= LARGE;
    let source = Source { path: path.to_path_buf(), edits: Vec::new(), external, mapped };
    let mut found = load(source, graph.clone(), draft, plan, alone)?;
    if found.draft.sidecar.rewrite != Some(false) && !found.draft.own && !alone {
        found = improve::improved(found);
    }
    let mut warnings = Vec::new();
    if let (Device::Auto, Device::Cpu, Err(why)) = (device, plan.device, cuda::usable(0)) {
        warnings.push(format!("runs on the processor: {why}"));
    }
    if alone {
        warnings.push(
            "dynamically quantised: a score depends on what it is batched with, so that each batch holds one \
             utterance; use the float32 model for the same scores everywhere"
                .to_owned(),
        );
    }
    let rewrite = found.draft.sidecar.rewrite != Some(false);
    let Candidate { source, graph: run, signature, runner, .. } = found;
    Ok(Opened { graph, run, source, signature: Arc::new(signature), runner, plan, alone, rewrite, warnings })
}

/// What a user should know of a model that is run sentence by sentence although it need not be.
pub(super) fn slow(signature: &Signature) -> Option<String> {
    let recurrent = signature
        .cell
        .as_deref()
        .is_some_and(|cell| ["LSTM", "GRU", "RNN"].iter().any(|name| cell.starts_with(name)));
    recurrent.then(|| {
        "its states could not be reached, so that every hypothesis is run from its beginning; export it with its \
         states as inputs and outputs and free sizes to be faster"
            .to_owned()
    })
}

/// Loads a model with floating point of other sizes at its ends made float32, and tries it.
fn load(
    mut source: Source,
    mut graph: Graph,
    mut draft: Draft,
    plan: Plan,
    dynamic: bool,
) -> Result<Candidate> {
    let edits = rewrite::float_ends(&graph, &draft.signature.tokens.ids.name);
    if !edits.is_empty() {
        let changed;
        (source, changed) = stage(&source, edits)?;
        let specials = draft.specials;
        draft = Signature::detect_with(&changed, draft.sidecar)
            .map_err(|what| Error::model(&graph.path, what))?;
        draft.specials = specials;
        // Sums of 16-bit numbers are as coarse inside as they were.
        graph = Graph { half: graph.half, ..changed };
    }
    let mut runner = Runner::new(&source, plan)?;
    let facts = Facts { graph: &graph, dynamic };
    let signature =
        probe::settle(&mut runner, &draft, facts).map_err(|what| Error::model(&graph.path, what))?;
    Ok(Candidate { source, graph, draft, signature, runner, plan })
}

/// The source with one more stage of changes, and the graph it then has.
fn stage(source: &Source, edits: Vec<Edit>) -> Result<(Source, Graph)> {
    let mut stages = source.edits.clone();
    stages.push(edits.into());
    let source = Source { edits: stages, ..source.clone() };
    let graph = Graph::parse(&source.path, &source.outline()?)?;
    let bytes = std::fs::metadata(&source.path).map_or(graph.bytes, |facts| facts.len());
    Ok((source, Graph { bytes, ..graph }))
}

/// How a model is run, and with what.
pub(super) enum Way {
    /// Layers and output layer here.
    Own(Arc<Stack>),
    /// All of it by ONNX Runtime, with its states on the device.
    Bound(Arc<Bound>, Runner),
    /// The output layer here, the rest by ONNX Runtime.
    Cut(Cut, Runner),
    /// All of it by ONNX Runtime.
    Whole(Runner),
}

impl Whole<'_> {
    /// The best way to run the model, where that keeps its scores and as far as `options` leave it open.
    ///
    /// # Errors
    /// If the whole model fails.
    pub fn best(
        mut self,
        mut runner: Runner,
        starts: &Arc<[u32]>,
        options: &OnnxOptions,
    ) -> Result<(Arc<Signature>, Way)> {
        let cpu = self.plan.device == Device::Cpu;
        if let Some(rank) = options.rank {
            self.previews(options).map_err(|why| refused(self.graph, rank, &why))?;
        }
        if options.bound.unwrap_or(!cpu) && self.signature.run == Run::Steps {
            // What a model is was found out in f32.
            let plan = Plan { tf32: !cpu && options.precision == Precision::Tf32, ..self.plan };
            match Bound::new(&self.source, self.graph, &self.signature, plan, starts, bound::TILE) {
                Err(why) => self.signature = self.told(Bound::none(why)),
                Ok(bound) => {
                    let expected = trial(&mut self.kernel(runner, None, starts), &self.signature)?;
                    match self.bound(Arc::new(bound), &expected) {
                        Ok((bound, runner, finding)) => {
                            return Ok((self.told(finding), Way::Bound(bound, runner)));
                        }
                        Err(why) => {
                            runner = Runner::new(&self.source, self.plan)?;
                            self.signature = self.told(Bound::none(why));
                        }
                    }
                }
            }
        }
        let precision = match options.precision {
            Precision::Tf32 => Precision::F32,
            others => others,
        };
        let wanted = options.cell.unwrap_or(cpu && cell::pays()) && self.signature.run == Run::Steps;
        if wanted {
            let why = match cell::recognise(self.graph, &self.signature) {
                Err(why) => why,
                Ok(model) => {
                    let expected = trial(&mut self.kernel(runner, None, starts), &self.signature)?;
                    // No two copies of the weights more than there must be.
                    match self.own(&model, &expected, starts, precision, options.rank) {
                        Ok((stack, finding)) => {
                            return Ok((self.told(finding), Way::Own(Arc::new(stack))));
                        }
                        Err(why) => {
                            self.source.mapped = false;
                            runner = Runner::new(&self.source, self.plan)?;
                            why
                        }
                    }
                }
            };
            let value = "run by ONNX Runtime".to_owned();
            self.signature = self.told(Finding { what: "layers", value, why });
        }
        if std::mem::take(&mut self.source.mapped) {
            drop(runner);
            runner = Runner::new(&self.source, self.plan)?;
        }
        let pays =
            Head::pays(self.signature.vocab_size) || precision != Precision::F32 || options.rank.is_some();
        if !options.split.unwrap_or(cpu && pays) {
            if let Some(rank) = options.rank {
                return Err(refused(self.graph, rank, "its output layer is left to ONNX Runtime"));
            }
            return Ok((self.signature, Way::Whole(runner)));
        }
        let (signature, way) = self.cut(runner, starts, precision, options.rank)?;
        if let (Some(rank), Way::Whole(_)) = (options.rank, &way) {
            let why = signature.findings.last().map_or("it cannot be split off", |finding| &*finding.why);
            return Err(refused(self.graph, rank, why));
        }
        Ok((signature, way))
    }

    /// Whether an output layer of rank `rank` can be had at all.
    fn previews(&self, options: &OnnxOptions) -> Result<(), String> {
        let size = self.signature.vocab_size;
        if self.plan.device != Device::Cpu || options.bound == Some(true) {
            return Err("its states stay on a GPU, where all logits are made".into());
        }
        if options.split == Some(false) && options.cell != Some(true) {
            return Err("its output layer is left to ONNX Runtime".into());
        }
        if self.signature.run != Run::Steps {
            return Err(format!("it runs as {}, not in steps from states", self.signature.run));
        }
        if size < head::LEAST {
            return Err(format!("of its {size} tokens most would be exact anyway: it takes {}", head::LEAST));
        }
        Ok(())
    }

    fn kernel(&self, runner: Runner, cut: Option<Cut>, starts: &Arc<[u32]>) -> OnnxKernel {
        OnnxKernel::new("trial".into(), self.signature.clone(), runner, cut, starts.clone())
    }

    fn told(&self, finding: Finding) -> Arc<Signature> {
        let mut signature = (*self.signature).clone();
        signature.findings.push(finding);
        Arc::new(signature)
    }

    /// Loads the model with its states on the device and holds it against what it gave without.
    fn bound(&self, bound: Arc<Bound>, expected: &[f32]) -> Result<(Arc<Bound>, Runner, Finding), String> {
        let runner = bound.runner(self.plan.threads).map_err(text)?;
        let mut kernel = BoundKernel::new("trial".into(), bound.clone(), runner).map_err(text)?;
        let got = trial(&mut kernel, &self.signature).map_err(text)?;
        let precision = if bound.plan.tf32 { Precision::Tf32 } else { Precision::F32 };
        let rough = precision != Precision::F32;
        let worst = worst(expected, &got, rough).ok_or("its scores would not stay the same")?;
        let finding = bound.finding(worst);
        Ok((bound, kernel.into_runner(), finding))
    }

    /// Packs the layers of a recognised model and holds them against what ONNX Runtime gave.
    fn own(
        &self,
        model: &Recognised,
        expected: &[f32],
        starts: &Arc<[u32]>,
        precision: Precision,
        rank: Option<usize>,
    ) -> Result<(Stack, Finding), String> {
        let packed = |precision, typical: Option<&Typical<'_>>| {
            let stack =
                cell::pack(&self.source, self.graph, model, &self.signature, starts, precision, typical)?;
            let kernel = CellKernel::new("trial".into(), self.signature.clone(), Arc::new(stack), 1);
            let mut kernel = kernel.map_err(text)?;
            let got = trial(&mut kernel, &self.signature).map_err(text)?;
            let rough = precision != Precision::F32 || typical.is_some();
            let worst = worst(expected, &got, rough).ok_or("its scores would not stay the same")?;
            Ok::<_, String>((kernel, worst))
        };
        // That the layers are understood is seen in f32 only.
        let exact = || packed(Precision::F32, None);
        let (kernel, worst) = match rank {
            None if precision == Precision::F32 => exact()?,
            None => {
                drop(exact()?);
                packed(precision, None)?
            }
            Some(rank) => {
                let (mut kernel, _) = exact()?;
                let width = model.layers.last().map_or(0, |layer| layer.size);
                let Drawn { states, shares } = drawn(&mut kernel, &self.signature, rank, width)?;
                drop(kernel);
                packed(precision, Some(&Typical { states: &states, shares: &shares, rank }))?
            }
        };
        let stack = kernel.into_stack().ok_or("it is in use")?;
        let finding = cell::finding(&stack, precision, rank, worst);
        Ok((stack, finding))
    }

    /// Splits the output layer off where that can be done and keeps the scores.
    fn cut(
        &self,
        runner: Runner,
        starts: &Arc<[u32]>,
        precision: Precision,
        rank: Option<usize>,
    ) -> Result<(Arc<Signature>, Way)> {
        let new = |precision, typical: Option<&Typical<'_>>| {
            Cut::new(&self.source, self.graph, &self.signature, self.plan, starts, precision, typical)
        };
        let cut = match rank {
            None => new(precision, None),
            Some(rank) => new(Precision::F32, None).and_then(|(cut, hidden)| {
                let width = cut.signature.vocab_size;
                let mut kernel = self.kernel(hidden, Some(cut), starts).showing(typical::SEQUENCES as usize);
                let Drawn { states, shares } = drawn(&mut kernel, &self.signature, rank, width)?;
                drop(kernel);
                new(precision, Some(&Typical { states: &states, shares: &shares, rank }))
            }),
        };
        let (cut, hidden) = match cut {
            Ok(cut) => cut,
            Err(why) => return Ok((self.told(Cut::none(why)), Way::Whole(runner))),
        };
        let mut whole = self.kernel(runner, None, starts);
        let mut split = self.kernel(hidden, Some(cut.clone()), starts);
        let expected = trial(&mut whole, &self.signature)?;
        let got = trial(&mut split, &self.signature).unwrap_or_default();
        match worst(&expected, &got, precision != Precision::F32 || rank.is_some()) {
            None => {
                let why = match rank {
                    None => "split off, its scores would not stay the same".to_owned(),
                    Some(_) => {
                        format!("its scores would move by more than {ROUGH} a token, less at a higher rank")
                    }
                };
                Ok((self.told(Cut::none(why)), Way::Whole(whole.into_runner())))
            }
            Some(worst) => {
                Ok((self.told(Cut::finding(precision, rank, worst)), Way::Cut(cut, split.into_runner())))
            }
        }
    }
}

/// Draws what an output layer `width` wide is to be previewed by.
fn drawn(kernel: &mut impl Shows, signature: &Signature, rank: usize, width: usize) -> Result<Drawn, String> {
    if rank == 0 || rank > width / 2 {
        return Err(format!("its output layer reads {width} numbers: give 1 to {} of them", width / 2));
    }
    typical::draw(kernel, signature).map_err(text)
}

/// What to tell of a model whose output layer cannot be previewed as asked.
pub(super) fn refused(graph: &Graph, rank: usize, why: &str) -> Error {
    Error::model(&graph.path, format!("has no output layer of rank {rank}: {why}; drop the output rank"))
}

fn text(error: Error) -> String {
    error.to_string()
}

/// Whether activations are quantised by the range they have in a batch.
fn is_dynamic(graph: &Graph) -> bool {
    ["DynamicQuantizeLinear", "com.microsoft::DynamicQuantizeLSTM", "com.microsoft::DynamicQuantizeMatMul"]
        .iter()
        .any(|&op| graph.ops.contains_key(op))
}

/// Operators of layers that may be run here.
const RECURRENT: [&str; 3] = ["LSTM", "GRU", "RNN"];
/// From so many bytes on, copies of a model's weights are worth avoiding.
const LARGE: u64 = 8 << 20;
