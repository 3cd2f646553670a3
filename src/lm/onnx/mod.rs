//! Neural models through ONNX Runtime.
//!
//! A file is first read by [`graph`] and understood by [`signature`], then loaded, tried on a few
//! tokens, and run by [`OnnxKernel`] under the scheduler.

pub mod graph;
pub mod install;
mod kernel;
mod proto;
pub mod runtime;
mod session;
pub mod signature;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use kernel::OnnxKernel;
pub use session::Device;

use self::graph::Graph;
use self::session::{Plan, Runner};
use self::signature::Signature;
use super::schedule::Scheduler;
use super::{Grain, LanguageModel, Limits, Scorer, Spec};
use crate::tokens::{self, Vocab};
use crate::{Error, Result};

/// How to run a model.
#[derive(Debug, Clone, Default)]
pub struct OnnxOptions {
    /// Where.
    pub device: Device,
    /// The ONNX Runtime library, instead of searching for one.
    pub runtime: Option<PathBuf>,
    /// The vocabulary, where it is not as the model says.
    pub tokens: tokens::Choice,
}

/// A recurrent language model in an ONNX file.
pub struct OnnxLm {
    name: Arc<str>,
    path: PathBuf,
    graph: Graph,
    signature: Arc<Signature>,
    spec: Spec,
    device: Device,
    starts: Arc<[u32]>,
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
        Self::open_by(path, name, options, |folder, signature| {
            let Signature { tokenizer, vocab_size, bos, eos, unk, .. } = signature;
            let specials = tokens::Specials { bos: Some(*bos), eos: Some(*eos), unk: *unk };
            tokens::open(folder, &options.tokens, tokenizer, *vocab_size, specials)
        })
    }

    fn open_by(
        path: &Path,
        name: &str,
        options: &OnnxOptions,
        vocab: impl FnOnce(&Path, &Signature) -> Result<Arc<dyn Vocab>>,
    ) -> Result<Self> {
        let graph = Graph::read(path)?;
        let signature = Arc::new(Signature::detect(&graph)?);
        let vocab = vocab(path.parent().unwrap_or(Path::new("")), &signature)?;
        check_vocab(&graph, &signature, &*vocab)?;
        if options.runtime.is_some() {
            runtime::configure(options.runtime.as_deref());
        }
        let device = options.device.decide()?;
        let starts = starts(&*vocab, &signature);
        let plan = Plan { device, threads: 1, half: graph.half };
        let mut runner = Runner::new(path, &signature, plan)?;
        try_out(&mut runner, &signature).map_err(|what| Error::model(path, what))?;
        let spec = Spec {
            vocab,
            grain: Grain::Token,
            backward: false,
            carries: true,
            carries_bos: true,
            context: Vec::new(),
            warnings: warnings(&graph),
        };
        Ok(Self {
            name: name.into(),
            path: path.to_path_buf(),
            graph,
            signature,
            spec,
            device,
            starts,
            spare: Mutex::new(Some((plan, runner))),
        })
    }

    /// As [`OnnxLm::open`], with a vocabulary at hand.
    ///
    /// # Errors
    /// As [`OnnxLm::open`].
    pub fn open_with(path: &Path, name: &str, vocab: Arc<dyn Vocab>, options: &OnnxOptions) -> Result<Self> {
        Self::open_by(path, name, options, |_, _| Ok(vocab))
    }

    /// A kernel with a session of its own.
    ///
    /// # Errors
    /// If ONNX Runtime has no memory for another session.
    pub fn kernel(&self, threads: usize) -> Result<OnnxKernel> {
        let plan = Plan { device: self.device, threads: threads.max(1), half: self.graph.half };
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let runner = match spare {
            Some((made, runner)) if made == plan => runner,
            _ => Runner::new(&self.path, &self.signature, plan)?,
        };
        Ok(OnnxKernel::new(self.name.clone(), self.signature.clone(), runner, self.starts.clone()))
    }

    /// What the file says about itself.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Which tensor is what.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Where it runs; never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.device
    }
}

impl LanguageModel for OnnxLm {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn scorer(&self, limits: &Limits) -> Result<Box<dyn Scorer>> {
        let kernel = self.kernel(limits.threads)?;
        Ok(Box::new(Scheduler::new(kernel, &self.name, limits)))
    }
}

fn warnings(graph: &Graph) -> Vec<String> {
    let dynamic = ["DynamicQuantizeLinear", "com.microsoft::DynamicQuantizeLSTM"];
    let found = dynamic.iter().any(|&op| graph.ops.contains_key(op));
    found
        .then(|| {
            "dynamically quantised: a score depends on what it is batched with; use the float32 model for equal \
             results"
                .to_owned()
        })
        .into_iter()
        .collect()
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

/// Runs a model on two rows of two tokens: what comes out must be log probabilities, and two
/// steps of one token must give what one step of two gives.
fn try_out(runner: &mut Runner, signature: &Signature) -> Result<(), String> {
    let size = signature.vocab_size;
    let token = |k: usize| ((k * 7919 + 1) % size) as i64;
    let bos = i64::from(signature.bos);
    let tokens = [bos, token(1), token(2), token(3)];
    let zeros: Vec<Vec<f32>> = signature.states.iter().map(|state| vec![0.0; 2 * state.size()]).collect();
    let failed = |what: String| format!("it failed when it was tried on four tokens: {what}");
    let whole = runner.run(&tokens, 2, 2, &zeros, |o| o.log_probs.to_vec()).map_err(failed)?;
    for row in whole.chunks_exact(size) {
        if let Some(value) = row.iter().find(|value| value.is_nan() || **value == f32::INFINITY) {
            return Err(format!("its log_probs are not numbers ({value}); train or export it again"));
        }
        let sum: f64 = row.iter().map(|&value| f64::from(value).exp()).sum();
        if (sum - 1.0).abs() > 1e-3 {
            return Err(format!(
                "its log_probs are not normalised (they sum to {sum:.4}); end the graph in LogSoftmax"
            ));
        }
    }
    let copy = |o: session::Outputs<'_>| {
        (o.log_probs.to_vec(), o.states.iter().map(|state| state.to_vec()).collect::<Vec<_>>())
    };
    let (first, states) = runner.run(&[tokens[0], tokens[2]], 2, 1, &zeros, copy).map_err(failed)?;
    let (second, _) = runner.run(&[tokens[1], tokens[3]], 2, 1, &states, copy).map_err(failed)?;
    for row in 0..2 {
        for (step, scores) in [&first, &second].into_iter().enumerate() {
            let stepped = &scores[row * size..(row + 1) * size];
            let at = (row * 2 + step) * size;
            let apart = |(a, b): (&f32, &f32)| a != b && ((a - b).abs() > 1e-4 || (a - b).is_nan());
            if stepped.iter().zip(&whole[at..at + size]).any(apart) {
                return Err(
                    "token by token it gives other scores than in one run; its states or length are not \
                     what they should be, export it again"
                        .to_owned(),
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
