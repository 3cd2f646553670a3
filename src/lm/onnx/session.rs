//! One ONNX Runtime session of a model, in the terms of its [`Signature`].

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use ort::ep;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorRef};

use super::device::Device;
use super::graph::{self, Dtype, Edit, apply};
use super::signature::{Context, Fill, Ids, Layout, Signature, With};
use super::{cuda, runtime};
use crate::nbest;
use crate::{Error, Result};

/// How a session is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub device: Device,
    pub threads: usize,
    /// The graph holds 16-bit floating point.
    pub half: bool,
    /// Products on a GPU in TensorFloat-32.
    pub tf32: bool,
}

/// A model file with what is changed in it before it is run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    pub path: PathBuf,
    /// Changes of the file, then changes of what that gave, and so on.
    pub edits: Vec<Arc<[Edit]>>,
    /// Whether weights lie in other files.
    pub external: bool,
    /// Whether large weights are mapped from the file, and used as they lie there: slower, for a trial that
    /// should take no memory for copies of them. The file must not become shorter meanwhile.
    pub mapped: bool,
}

impl Source {
    /// The model with all changes made; `None` if there are none and nothing is mapped.
    ///
    /// # Errors
    /// If the file cannot be read or changed.
    pub fn changed(&self) -> Result<Option<Vec<u8>>> {
        if self.mapped {
            return self.outline().map(Some);
        }
        if self.edits.is_empty() {
            return Ok(None);
        }
        graph::filled(&self.path, &self.outline()?).map(Some)
    }

    /// The model with all changes made, its large weights left in the file.
    ///
    /// # Errors
    /// If the file cannot be read or changed.
    pub fn outline(&self) -> Result<Vec<u8>> {
        let bytes = graph::outline(&self.path)?;
        let all = self.edits.iter().try_fold(bytes, |bytes, edits| apply(&bytes, edits));
        all.map_err(|what| Error::model(&self.path, format!("cannot be rewritten: {what}")))
    }
}

/// A session that runs batches of token rows. Not shared: each worker has its own.
pub(super) struct Runner {
    pub session: Session,
}

/// Rows of tokens, and what goes with them.
#[derive(Default, Clone, Copy)]
pub(super) struct Batch<'a> {
    /// `rows * length` ids, row by row.
    pub ids: &'a [i64],
    pub rows: usize,
    pub length: usize,
    /// How many tokens of each row count; all of them if there are none here.
    pub lengths: &'a [i64],
    /// As `ids`, where the model wants targets.
    pub targets: &'a [i64],
    /// Tokens that the growing states hold already.
    pub past: usize,
    /// Shaped as the signature says.
    pub states: &'a [Vec<f32>],
    pub context: &'a [nbest::Tensor],
}

/// What a run gave, still in ONNX Runtime's memory.
pub(super) struct Outputs<'a> {
    /// As the model has it.
    pub shape: &'a [i64],
    pub scores: &'a [f32],
    /// Shape and numbers, in the order of the signature.
    pub states: &'a [(&'a [i64], &'a [f32])],
    rows: usize,
    length: usize,
    layout: Layout,
    size: usize,
}

impl Outputs<'_> {
    /// The scores of all tokens after position `at` of `row`, of the only position there is, or the
    /// one score of the row.
    pub fn row(&self, row: usize, at: usize) -> &[f32] {
        let (index, size) = match self.layout {
            Layout::Each { time_major: false, .. } => (row * self.length + at, self.size),
            Layout::Each { time_major: true, .. } => (at * self.rows + row, self.size),
            Layout::Last | Layout::First => (row, self.size),
            Layout::Sentence => (row, 1),
            Layout::Targets { time_major: false, .. } => (row * self.length + at, 1),
            Layout::Targets { time_major: true, .. } => (at * self.rows + row, 1),
        };
        &self.scores[index * size..(index + 1) * size]
    }

    /// The scores' shape must be what the signature promises.
    fn check(&self, output: &str) -> Result<(), String> {
        let (rows, length, size) = (self.rows as i64, self.length as i64, self.size as i64);
        let expected = match self.layout {
            Layout::Each { flat: true, .. } => vec![rows * length, size],
            Layout::Each { time_major: false, .. } => vec![rows, length, size],
            Layout::Each { time_major: true, .. } => vec![length, rows, size],
            Layout::Last | Layout::First => vec![rows, size],
            Layout::Sentence => vec![rows],
            Layout::Targets { flat: true, .. } => vec![rows * length],
            Layout::Targets { time_major: false, .. } => vec![rows, length],
            Layout::Targets { time_major: true, .. } => vec![length, rows],
        };
        // One score for each row may come as [N, 1], or without a shape for a single row.
        let sentences = self.layout == Layout::Sentence && self.shape.iter().product::<i64>() == rows;
        if self.shape != expected && !sentences {
            return Err(format!("gave {output} of shape {:?}, expected {expected:?}", self.shape));
        }
        Ok(())
    }
}

impl Runner {
    /// Loads the model. [`Device::Auto`] must have been decided before.
    ///
    /// # Errors
    /// If there is no ONNX Runtime or it refuses the model or the device.
    pub fn new(source: &Source, plan: Plan) -> Result<Self> {
        let environment = runtime::environment()?;
        let changed = source.changed()?;
        let session = session(environment, source, changed.as_deref(), plan).map_err(|e| match plan.device {
            Device::Cuda(n) => Error::Runtime(format!(
                "CUDA device {n} cannot be used ({}); `secondpass doctor --install --cuda` brings what it can and says \
                 what is missing, or use --device cpu",
                cuda::short(&one_line(e.message()))
            )),
            _ => Error::model(
                &source.path,
                format!("ONNX Runtime cannot load it: {}", one_line(e.message())),
            ),
        })?;
        Ok(Self { session })
    }

    /// Whether no node stays on the processor.
    ///
    /// # Errors
    /// If one does, or the model cannot be loaded.
    pub fn all_on_device(source: &Source, plan: Plan) -> Result<()> {
        let environment = runtime::environment()?;
        let changed = source.changed()?;
        let fail = |e: ort::Error| Error::model(&source.path, one_line(e.message()));
        let builder = options(environment, plan).map_err(fail)?;
        let builder =
            builder.with_disable_cpu_fallback().map_err(|e| Error::Runtime(one_line(e.message())))?;
        commit(builder, source, changed.as_deref()).map(drop).map_err(fail)
    }

    /// Runs a batch and hands what comes out, in the shape promised, to `read`.
    ///
    /// # Errors
    /// The reason, if the run fails or gives another shape than the signature says.
    pub fn run<T>(
        &mut self,
        signature: &Signature,
        batch: Batch<'_>,
        read: impl FnOnce(Outputs<'_>) -> T,
    ) -> Result<T, String> {
        if let Some(error) = crate::faults::io("onnx::run") {
            return Err(error.to_string());
        }
        self.run_raw(signature, batch, None, |outputs| {
            outputs.check(&signature.output)?;
            for (state, (shape, _)) in signature.states.iter().zip(outputs.states) {
                let expected = state.shape(batch.rows, batch.past + 1);
                // How far a state grows is the kernels' business.
                let fits = shape.len() == expected.len()
                    && (0..shape.len()).all(|at| Some(at) == state.grows || shape[at] == expected[at]);
                if !fits {
                    return Err(format!("gave {} of shape {shape:?}, expected {expected:?}", state.output));
                }
            }
            Ok(read(outputs))
        })?
    }

    /// As [`Runner::run`], whatever the shape; gives up after `limit`.
    ///
    /// # Errors
    /// The reason, if the run fails.
    pub fn run_raw<T>(
        &mut self,
        signature: &Signature,
        batch: Batch<'_>,
        limit: Option<Duration>,
        read: impl FnOnce(Outputs<'_>) -> T,
    ) -> Result<T, String> {
        let fail = |e: ort::Error| one_line(e.message());
        let inputs = inputs(signature, batch)?;
        let watch = match limit {
            Some(limit) => Some(Watch::start(limit).map_err(fail)?),
            None => None,
        };
        let result = match &watch {
            Some(watch) => self.session.run_with_options(inputs, &*watch.options),
            None => self.session.run(inputs),
        };
        let outputs = match result {
            Ok(outputs) => outputs,
            Err(_) if watch.as_ref().is_some_and(Watch::over) => {
                return Err(format!("no answer within {} s", limit.unwrap_or_default().as_secs()));
            }
            Err(error) => return Err(fail(error)),
        };
        let (shape, scores) = extract(outputs.get(&signature.output), &signature.output)?;
        let states: Vec<(&[i64], &[f32])> = signature
            .states
            .iter()
            .map(|state| extract(outputs.get(&state.output), &state.output))
            .collect::<Result<_, _>>()?;
        let (rows, length) = (batch.rows, signature.positions(batch.length));
        let (layout, size) = (signature.layout, signature.vocab_size);
        Ok(read(Outputs { shape, scores, states: &states, rows, length, layout, size }))
    }
}

/// Ends a run that takes too long.
struct Watch {
    options: Arc<RunOptions>,
    /// Whether the run is done, and whether it was ended.
    state: Arc<(Mutex<(bool, bool)>, Condvar)>,
}

impl Watch {
    fn start(limit: Duration) -> ort::Result<Self> {
        let options = Arc::new(RunOptions::new()?);
        let state = Arc::new((Mutex::new((false, false)), Condvar::new()));
        let (run, shared) = (options.clone(), state.clone());
        // Where no thread can be had, nothing is watched.
        let _ = std::thread::Builder::new().name("watch".into()).spawn(move || {
            let (mutex, done) = &*shared;
            let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut guard, _) = done
                .wait_timeout_while(guard, limit, |state| !state.0)
                .unwrap_or_else(PoisonError::into_inner);
            if !guard.0 {
                guard.1 = run.terminate().is_ok();
            }
        });
        Ok(Self { options, state })
    }

    fn over(&self) -> bool {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
        self.state.1.notify_all();
    }
}

type Inputs<'a> = Vec<(Cow<'a, str>, SessionInputValue<'a>)>;

fn inputs<'a>(signature: &'a Signature, batch: Batch<'a>) -> Result<Inputs<'a>, String> {
    let fail = |e: ort::Error| one_line(e.message());
    let (rows, length) = (batch.rows, batch.length);
    let mut inputs: Inputs<'a> = Vec::with_capacity(1 + signature.states.len());
    let tokens = &signature.tokens;
    let grid = if tokens.time_major { [length, rows] } else { [rows, length] };
    let turned = |ids: &[i64]| -> Vec<i64> {
        (0..length).flat_map(|at| (0..rows).map(move |row| row * length + at)).map(|at| ids[at]).collect()
    };
    let arranged = |ids: &'a [i64]| match tokens.time_major && rows > 1 && length > 1 {
        true => Cow::Owned(turned(ids)),
        false => Cow::Borrowed(ids),
    };
    inputs.push((tokens.ids.name.as_str().into(), integers(&tokens.ids, &grid, arranged(batch.ids))?));
    if let Some(targets) = &signature.targets {
        inputs.push((targets.name.as_str().into(), integers(targets, &grid, arranged(batch.targets))?));
    }
    let counts = |row: usize| batch.lengths.get(row).copied().unwrap_or(length as i64);
    if let Some(lengths) = &signature.lengths {
        let values = (0..rows).map(counts).collect();
        inputs.push((lengths.name.as_str().into(), integers(lengths, &[rows], Cow::Owned(values))?));
    }
    for Fill { ids, with } in &signature.fills {
        let (past, all) = (batch.past as i64, (batch.past + length) as i64);
        let each = |positions: i64, value: &dyn Fn(usize, i64) -> i64| -> Vec<i64> {
            (0..rows)
                .flat_map(|row| (0..positions).map(move |at| (row, at)))
                .map(|(row, at)| value(row, at))
                .collect()
        };
        let (shape, values) = match with {
            With::Mask => {
                (vec![rows, all as usize], each(all, &|row, at| i64::from(at < past + counts(row))))
            }
            With::Positions => (vec![rows, length], each(length as i64, &|_, at| past + at)),
            With::Zeros => (vec![rows, length], vec![0; rows * length]),
            With::Zero => (vec![1], vec![0]),
        };
        inputs.push((ids.name.as_str().into(), integers(ids, &shape, Cow::Owned(values))?));
    }
    for (state, values) in signature.states.iter().zip(batch.states) {
        let tensor =
            TensorRef::from_array_view((state.shape(rows, batch.past), &values[..])).map_err(fail)?;
        inputs.push((state.input.as_str().into(), tensor.into()));
    }
    for Context { ids, each_row } in &signature.context {
        let tensor = batch.context.iter().find(|tensor| tensor.name == ids.name);
        let tensor = tensor.ok_or_else(|| format!("the record brings no tensor `{}`", ids.name))?;
        let mut shape = tensor.shape.clone();
        let mut values = Cow::Borrowed(&tensor.values[..]);
        if *each_row && rows > 1 && shape.first() == Some(&1) {
            shape[0] = rows;
            values = Cow::Owned(tensor.values.repeat(rows));
        }
        let value = if ids.dtype.is_float() {
            match values {
                Cow::Borrowed(values) => TensorRef::from_array_view((shape, values)).map_err(fail)?.into(),
                Cow::Owned(values) => Tensor::from_array((shape, values)).map_err(fail)?.into(),
            }
        } else {
            let values = values.iter().map(|&value| value as i64).collect();
            integers(ids, &shape, Cow::Owned(values))?
        };
        inputs.push((ids.name.as_str().into(), value));
    }
    Ok(inputs)
}

/// A tensor of whole numbers in the type that the model wants.
fn integers<'a>(ids: &Ids, shape: &[usize], values: Cow<'a, [i64]>) -> Result<SessionInputValue<'a>, String> {
    let fail = |e: ort::Error| one_line(e.message());
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Ok(match ids.dtype {
        Dtype::INT64 => match values {
            Cow::Borrowed(values) => TensorRef::from_array_view((shape, values)).map_err(fail)?.into(),
            Cow::Owned(values) => Tensor::from_array((shape, values)).map_err(fail)?.into(),
        },
        Dtype::INT32 => {
            let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
            Tensor::from_array((shape, values)).map_err(fail)?.into()
        }
        Dtype::FLOAT => {
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            Tensor::from_array((shape, values)).map_err(fail)?.into()
        }
        Dtype::BOOL => {
            let values: Vec<bool> = values.iter().map(|&value| value != 0).collect();
            Tensor::from_array((shape, values)).map_err(fail)?.into()
        }
        other => return Err(format!("its input {} is {other}, which nothing here fills", ids.name)),
    })
}

/// The values of outputs that no input changes.
///
/// # Errors
/// If there is no ONNX Runtime, or it cannot make them.
pub(super) fn constants(source: &Source, names: &[String]) -> Result<Vec<Vec<f32>>> {
    let environment = runtime::environment()?;
    let changed = source.changed()?;
    let fail = |what: String| Error::model(&source.path, format!("its weights cannot be read: {what}"));
    let plan = Plan { device: Device::Cpu, threads: 1, half: false, tf32: false };
    let mut session =
        session(environment, source, changed.as_deref(), plan).map_err(|e| fail(one_line(e.message())))?;
    let outputs = session.run(Inputs::new()).map_err(|e| fail(one_line(e.message())))?;
    let values = names.iter().map(|name| extract(outputs.get(name), name).map(|(_, values)| values.to_vec()));
    values.collect::<Result<_, _>>().map_err(fail)
}

fn session(
    environment: &ort::environment::Environment,
    source: &Source,
    changed: Option<&[u8]>,
    plan: Plan,
) -> ort::Result<Session> {
    commit(options(environment, plan)?, source, changed)
}

fn commit(
    mut builder: ort::session::builder::SessionBuilder,
    source: &Source,
    changed: Option<&[u8]>,
) -> ort::Result<Session> {
    let Some(bytes) = changed else { return builder.commit_from_file(&source.path) };
    if source.mapped {
        let place = graph::place(&source.path);
        let folder = place.parent().unwrap_or(Path::new("."));
        builder = builder
            .with_config_entry(WEIGHTS_FOLDER, folder.to_string_lossy())?
            .with_config_entry("session.disable_prepacking", "1")?
            .with_config_entry("optimization.disable_specified_optimizers", "ConstantFolding")?;
    } else if source.external {
        let folder =
            source.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        builder = builder.with_config_entry(WEIGHTS_FOLDER, folder.to_string_lossy())?;
    }
    builder.commit_from_memory(bytes)
}

pub(super) fn options(
    environment: &ort::environment::Environment,
    plan: Plan,
) -> ort::Result<ort::session::builder::SessionBuilder> {
    // Level 3 of ONNX Runtime 1.32 crashes on some graphs that hold float16.
    let level = if plan.half { GraphOptimizationLevel::Level2 } else { GraphOptimizationLevel::All };
    let builder = Session::builder(environment)?
        .with_log_level(LogLevel::Warning)?
        .with_optimization_level(level)?
        .with_intra_threads(plan.threads.max(1))?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        // Threads that spin take the processor from the other workers.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // Batches differ in size from step to step: patterns would be kept for each.
        .with_memory_pattern(false)?;
    let provider = match plan.device {
        // The arena would keep the largest batch for ever.
        Device::Cpu | Device::Auto => ep::CPU::default().with_arena_allocator(false).build(),
        Device::Cuda(n) => ep::CUDA::default()
            .with_device_id(i32::try_from(n).unwrap_or(i32::MAX))
            .with_tf32(plan.tf32)
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
            .build()
            .error_on_failure(),
    };
    Ok(builder.with_execution_providers([provider])?)
}

fn extract<'a>(value: Option<&'a DynValue>, name: &str) -> Result<(&'a [i64], &'a [f32]), String> {
    let value = value.ok_or_else(|| format!("gave no {name}"))?;
    let (shape, values) = value.try_extract_tensor::<f32>().map_err(|e| one_line(e.message()))?;
    Ok((&shape[..], values))
}

/// Messages of ONNX Runtime may have many lines.
pub(super) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Where ONNX Runtime looks for weights of a model that it is given as bytes.
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";
