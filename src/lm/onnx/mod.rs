//! Neural models through ONNX Runtime, whatever exported them.
//!
//! A file is first read by [`graph`] and understood by [`signature`], then loaded and tried on a few
//! tokens, which settles what its scores are. Where that makes it cheaper to run, its graph is changed
//! ([`graph::rewrite`]), and kept only if the scores stay. Kernels then run it: steps from states, windows
//! or growing histories under the scheduler, or whole sentences. Recurrent layers that are nothing unusual,
//! and large output layers, are run in this program, again only if the scores stay. On a GPU, states and
//! scores stay in its memory (`bound`).

mod bands;
mod bound;
mod cell;
pub mod cuda;
mod cut;
mod device;
pub mod graph;
pub mod head;
pub mod install;
mod kernel;
mod open;
mod placement;
mod prefix;
mod probe;
mod product;
mod proto;
pub mod runtime;
mod scores;
mod sentence;
mod session;
pub mod signature;
mod trial;
mod typical;
mod window;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use device::Device;
pub use kernel::OnnxKernel;
pub use product::Precision;

use self::bound::{Bound, BoundKernel};
use self::cell::{CellKernel, Stack};
use self::cut::Cut;
use self::graph::Graph;
use self::open::{Opened, Way};
use self::prefix::PrefixKernel;
use self::sentence::SentenceScorer;
use self::session::{Plan, Runner, Source};
use self::signature::{Finding, Layout, Run, Signature};
use self::window::WindowKernel;
use super::schedule::Scheduler;
use super::{Grain, LanguageModel, Limits, Scorer, Spec, StepKernel};
use crate::tokens::{self, Vocab};
use crate::{Error, Result};

/// How to run a model.
#[derive(Debug, Clone, Default)]
pub struct OnnxOptions {
    /// Where.
    pub device: Device,
    /// The ONNX Runtime library, instead of searching for one.
    pub runtime: Option<PathBuf>,
    /// Whether to run the output layer here rather than in ONNX Runtime ([`head`]), where that is
    /// possible; by itself, where it pays.
    pub split: Option<bool>,
    /// Whether to run recurrent layers, and the output layer above them, here rather than in ONNX Runtime,
    /// where that is possible; by itself, where it pays.
    pub cell: Option<bool>,
    /// Whether to keep states in the device's memory from step to step and to pick the scores that are wanted
    /// there, where that is possible; by itself, on a GPU. On the processor the same is run over ordinary
    /// memory, which is slower than what is done by itself, but shows that it works.
    pub bound: Option<bool>,
    /// In how many bits products are made, where layers or the output layer are run here. A model that
    /// cannot be run in fewer is run in f32, and says so in its warnings.
    pub precision: Precision,
    /// Preview all logits from so many dimensions of a hidden state, and make exact only those that count
    /// ([`head`]): faster at large vocabularies, within an error that `bench` measures. By itself, all are
    /// exact. A model that cannot be run so is refused.
    pub rank: Option<usize>,
    /// The vocabulary, where it is not as the model says.
    pub tokens: tokens::Choice,
}

/// A causal language model in an ONNX file.
pub struct OnnxLm {
    name: Arc<str>,
    graph: Graph,
    source: Source,
    signature: Arc<Signature>,
    spec: Spec,
    device: Device,
    starts: Arc<[u32]>,
    /// The model as it is run, where its output layer was split off.
    cut: Option<Cut>,
    /// The model as it is run, where its states stay on the device.
    bound: Option<Arc<Bound>>,
    /// Its layers, where they are run here.
    stack: Option<Arc<Stack>>,
    /// Scores depend on what is in the batch, so that a batch is one utterance.
    alone: bool,
    half: bool,
    /// Whether its scores are a little off, as was asked for.
    inexact: bool,
    /// The session that the trial made, for the first scorer.
    spare: Mutex<Option<(Plan, Runner)>>,
}

impl OnnxLm {
    /// Opens the model at `path`, called `name` in errors, with the vocabulary beside it.
    ///
    /// Loads ONNX Runtime if this is the first model, and tries the model on a few tokens.
    ///
    /// # Errors
    /// If the file is damaged or no model that can be scored, the vocabulary does not fit, or
    /// there is no ONNX Runtime.
    pub fn open(path: &Path, name: &str, options: &OnnxOptions) -> Result<Self> {
        Self::open_by(path, name, options, None, |folder, signature| {
            let Signature { tokenizer, vocab_size, bos, eos, unk, .. } = signature;
            let specials = tokens::Specials { bos: Some(*bos), eos: Some(*eos), unk: *unk };
            tokens::open(folder, &options.tokens, tokenizer, *vocab_size, specials)
        })
    }

    /// As [`OnnxLm::open`], with a vocabulary at hand. It also says which tokens start and end a
    /// sentence, where the model does not.
    ///
    /// # Errors
    /// As [`OnnxLm::open`].
    pub fn open_with(path: &Path, name: &str, vocab: Arc<dyn Vocab>, options: &OnnxOptions) -> Result<Self> {
        let ends = Some((vocab.bos(), vocab.eos()));
        Self::open_by(path, name, options, ends, |_, _| Ok(vocab))
    }

    fn open_by(
        path: &Path,
        name: &str,
        options: &OnnxOptions,
        ends: Option<(u32, u32)>,
        vocab: impl FnOnce(&Path, &Signature) -> Result<Arc<dyn Vocab>>,
    ) -> Result<Self> {
        if options.runtime.is_some() {
            runtime::configure(options.runtime.as_deref());
        }
        let cells = options.bound != Some(true) && options.cell.unwrap_or_else(cell::pays);
        let Opened { graph, run, source, signature, runner, plan, alone, rewrite, mut warnings } =
            open::open(path, options.device, ends, cells)?;
        let vocab = vocab(path.parent().unwrap_or(Path::new("")), &signature)?;
        check_vocab(&graph, &signature, &*vocab)?;
        let whole = signature.layout == Layout::Sentence && signature.run == Run::Sentences;
        // One token at a time is asked for: the mass of all word starts would take all of them.
        let targets = signature.targets.is_some() || matches!(signature.layout, Layout::Targets { .. });
        let single = targets && !vocab.words();
        if signature.run == Run::Sentences && signature.context.is_empty() {
            warnings.extend(open::slow(&signature));
        }
        let mut spec = Spec {
            grain: if whole || single { Grain::Sentence } else { Grain::Token },
            backward: false,
            carries: signature.run == Run::Steps,
            carries_bos: true,
            context: signature.context.iter().map(|context| context.ids.name.clone()).collect(),
            warnings,
            vocab,
        };
        let starts = starts(&*spec.vocab, &signature);
        let model = open::Whole { graph: &run, source: source.clone(), signature, plan };
        let (signature, way) = match rewrite && !alone {
            true => model.best(runner, &starts, options)?,
            false => match options.rank {
                Some(rank) => return Err(open::refused(&graph, rank, "it is to be run as it is")),
                None => (model.signature, Way::Whole(runner)),
            },
        };
        spec.warnings.extend(reduced(&way, options.precision, &signature));
        spec.warnings.extend(options.rank.map(|rank| previewed(rank, &signature)));
        let inexact = options.rank.is_some()
            || options.precision != Precision::F32
                && match &way {
                    Way::Own(_) | Way::Cut(..) => true,
                    Way::Bound(bound, _) => bound.plan.tf32,
                    Way::Whole(_) => false,
                };
        // It was for the trial.
        let source = Source { mapped: false, ..source };
        let (stack, cut, bound, runner) = match way {
            Way::Own(stack) => (Some(stack), None, None, None),
            Way::Bound(bound, runner) => (None, None, Some(bound), Some(runner)),
            Way::Cut(cut, runner) => (None, Some(cut), None, Some(runner)),
            Way::Whole(runner) => (None, None, None, Some(runner)),
        };
        let made = bound.as_ref().map_or(plan, |bound| bound.plan);
        Ok(Self {
            name: name.into(),
            starts,
            cut,
            bound,
            stack,
            half: plan.half,
            inexact,
            device: plan.device,
            graph,
            source,
            signature,
            spec,
            alone,
            spare: Mutex::new(runner.map(|runner| (made, runner))),
        })
    }

    /// A step kernel that divides a step among so many threads.
    ///
    /// # Errors
    /// If the model is not run in steps from states ([`Signature::run`]), or there is no memory for another
    /// session or no more threads.
    pub fn kernel(&self, threads: usize) -> Result<Box<dyn StepKernel>> {
        Ok(match (self.own(threads)?, self.bound(threads)?) {
            (Some(kernel), _) => Box::new(kernel),
            (None, Some(kernel)) => Box::new(kernel),
            (None, None) => Box::new(self.session(threads)?),
        })
    }

    /// A kernel that runs the model's layers, where they are run here.
    fn own(&self, threads: usize) -> Result<Option<CellKernel>> {
        let kernel = |stack: &Arc<Stack>| {
            CellKernel::new(self.name.clone(), self.signature.clone(), stack.clone(), threads)
        };
        self.stack.as_ref().map(kernel).transpose()
    }

    /// A kernel with its states on the device, where that is how the model is run.
    fn bound(&self, threads: usize) -> Result<Option<BoundKernel>> {
        let kernel =
            |bound: &Arc<Bound>| BoundKernel::new(self.name.clone(), bound.clone(), self.runner(threads)?);
        self.bound.as_ref().map(kernel).transpose()
    }

    /// A step kernel with an ONNX Runtime session of its own.
    fn session(&self, threads: usize) -> Result<OnnxKernel> {
        if self.signature.run != Run::Steps {
            return Err(Error::model(&self.graph.path, "is not run in steps from states"));
        }
        let runner = self.runner(threads)?;
        let (signature, starts) = (self.signature.clone(), self.starts.clone());
        Ok(OnnxKernel::new(self.name.clone(), signature, runner, self.cut.clone(), starts))
    }

    fn runner(&self, threads: usize) -> Result<Runner> {
        let tf32 = self.bound.as_ref().is_some_and(|bound| bound.plan.tf32);
        // On a GPU threads have nothing to do, and the session of the trial is the one there is.
        let threads = if self.device == Device::Cpu { threads.max(1) } else { 1 };
        let plan = Plan { device: self.device, threads, half: self.half, tf32 };
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        match spare {
            Some((made, runner)) if made == plan => Ok(runner),
            _ => {
                let cut = self.cut.as_ref().map(|cut| &cut.source);
                let bound = self.bound.as_ref().map(|bound| &bound.source);
                Runner::new(cut.or(bound).unwrap_or(&self.source), plan)
            }
        }
    }

    /// What the file says about itself.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Which tensor is what, in the graph as it is run.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Where it runs; never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether scores are a little off, as was asked for ([`OnnxOptions::precision`], [`OnnxOptions::rank`]).
    pub fn is_inexact(&self) -> bool {
        self.inexact
    }

    /// What stays on the processor although the model runs on a GPU, one line each.
    pub fn on_processor(&self) -> Vec<String> {
        let plan = Plan { device: self.device, threads: 1, half: self.half, tf32: false };
        placement::on_processor(&self.graph, &self.source, plan)
    }
}

impl LanguageModel for OnnxLm {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn scorer(&self, limits: &Limits) -> Result<Box<dyn Scorer>> {
        let alone = Limits { alone: limits.alone || self.alone, ..limits.clone() };
        if let Some(kernel) = self.own(limits.threads)? {
            return Ok(Box::new(Scheduler::new(kernel, &self.name, &alone)));
        }
        if let Some(kernel) = self.bound(limits.threads)? {
            return Ok(Box::new(Scheduler::new(kernel, &self.name, &alone)));
        }
        let runner = self.runner(limits.threads)?;
        let parts = Parts {
            name: self.name.clone(),
            signature: self.signature.clone(),
            starts: self.starts.clone(),
            cut: self.cut.clone(),
            alone: self.alone,
        };
        Ok(parts.scorer(runner, limits))
    }
}

/// What a scorer is made of, beside a session.
struct Parts {
    name: Arc<str>,
    signature: Arc<Signature>,
    starts: Arc<[u32]>,
    cut: Option<Cut>,
    alone: bool,
}

impl Parts {
    fn scorer(self, runner: Runner, limits: &Limits) -> Box<dyn Scorer> {
        let Self { name, signature, starts, cut, alone } = self;
        let limits = Limits { alone: limits.alone || alone, ..limits.clone() };
        let lm = name.clone();
        match signature.run {
            Run::Steps => {
                let kernel = OnnxKernel::new(name, signature, runner, cut, starts);
                Box::new(Scheduler::new(kernel, &lm, &limits))
            }
            Run::Window(length) => {
                let kernel = WindowKernel::new(name, signature, runner, starts, length);
                Box::new(Scheduler::new(kernel, &lm, &limits))
            }
            Run::Prefixes => {
                let last_only = signature.continues();
                let kernel = PrefixKernel::new(name, signature, runner, starts, last_only);
                Box::new(Scheduler::new(kernel, &lm, &limits))
            }
            Run::Sentences => Box::new(SentenceScorer::new(name, signature, runner, starts, limits, alone)),
        }
    }
}

/// What a user should know who asked for fewer bits.
fn reduced(way: &Way, precision: Precision, signature: &Signature) -> Option<String> {
    if precision == Precision::F32 {
        return None;
    }
    let why = |what| {
        let finding = signature.findings.iter().rfind(|finding| finding.what == what);
        finding.map(|finding| &*finding.why)
    };
    let said = |what| why(what).unwrap_or_default();
    Some(match way {
        Way::Bound(bound, _) if bound.plan.tf32 => {
            format!("runs in tf32 as asked: {} in a trial; `bench` measures it", said("states"))
        }
        _ if precision == Precision::Tf32 => {
            "runs in f32, not in tf32 as asked: only steps on a GPU do".to_owned()
        }
        Way::Own(_) => {
            format!("runs in {precision} as asked: {} in a trial; `bench` measures it", said("layers"))
        }
        Way::Cut(..) => format!(
            "only its output layer runs in {precision}, the rest in f32: {} in a trial; `bench` measures it",
            said("output layer")
        ),
        Way::Bound(..) => format!("runs in f32, not in {precision} as asked: a GPU has tf32"),
        Way::Whole(_) => {
            // Last is tried the output layer alone.
            let why = why("output layer").or_else(|| why("layers"));
            let why = why.unwrap_or("the options leave all of it to ONNX Runtime");
            format!("runs in f32, not in {precision} as asked: {why}")
        }
    })
}

/// What a user should know who asked for previews.
fn previewed(rank: usize, signature: &Signature) -> String {
    let layers = |finding: &&Finding| ["layers", "output layer"].contains(&finding.what);
    let why = signature.findings.iter().rfind(layers).map_or("", |finding| &*finding.why);
    format!("its logits are previewed from {rank} dimensions as asked: {why} in a trial; `bench` measures it")
}

fn check_vocab(graph: &Graph, signature: &Signature, vocab: &dyn Vocab) -> Result<()> {
    let size = signature.vocab_size;
    let fail = |what: String| Err(Error::model(&graph.path, what));
    if vocab.size() > size {
        return fail(format!(
            "its vocabulary file has {} tokens, the model {size}; they belong apart",
            vocab.size()
        ));
    }
    for (name, id) in [("start", Some(vocab.bos())), ("end", Some(vocab.eos())), ("unknown", vocab.unk())] {
        if id.is_some_and(|id| id as usize >= size) {
            return fail(format!(
                "the {name} token of its vocabulary file is outside the model's {size} tokens"
            ));
        }
    }
    if (vocab.bos(), vocab.eos()) != (signature.bos, signature.eos) {
        return fail("its vocabulary file has other start and end tokens than the model".to_owned());
    }
    Ok(())
}

/// Tokens after which a word boundary is behind: those that start a word, and `</s>`.
fn starts(vocab: &dyn Vocab, signature: &Signature) -> Arc<[u32]> {
    let eos = vocab.eos();
    (0..signature.vocab_size as u32)
        .filter(|&token| token == eos || ((token as usize) < vocab.size() && vocab.starts_word(token)))
        .collect()
}

#[cfg(test)]
mod tests;
