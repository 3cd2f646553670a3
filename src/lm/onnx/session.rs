//! One ONNX Runtime session of a model, in the terms of its [`Signature`].

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use ort::ep::{self, ExecutionProvider};
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, TensorRef};

use super::runtime;
use super::signature::Signature;
use crate::{Error, Result};

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA device of that number.
    Cuda(u32),
    /// CUDA device 0 if it works, else the processor.
    Auto,
}

impl Device {
    /// The device that [`Device::Auto`] means here; any other is itself.
    ///
    /// # Errors
    /// If `Auto` must be decided and there is no ONNX Runtime.
    pub fn decide(self) -> Result<Self> {
        if self != Self::Auto {
            return Ok(self);
        }
        let environment = runtime::environment()?;
        // Compiled in does not mean that a device or its libraries are there: register it to know.
        let works = ep::CUDA::is_available().unwrap_or(false)
            && options(environment, Plan { device: Self::Cuda(0), threads: 1, half: false }).is_ok();
        Ok(if works { Self::Cuda(0) } else { Self::Cpu })
    }
}

impl std::str::FromStr for Device {
    type Err = Error;

    /// Reads `cpu`, `cuda`, `cuda:N` or `auto`.
    fn from_str(text: &str) -> Result<Self> {
        let number = |n: &str| n.parse().ok().filter(|&n| n <= i32::MAX as u32);
        match text.split_once(':') {
            None if text == "cpu" => Some(Self::Cpu),
            None if text == "cuda" => Some(Self::Cuda(0)),
            None if text == "auto" => Some(Self::Auto),
            Some(("cuda", n)) => number(n).map(Self::Cuda),
            _ => None,
        }
        .ok_or_else(|| Error::config(format!("device `{text}` is unknown; use cpu, cuda, cuda:N or auto")))
    }
}

/// How a session is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub device: Device,
    pub threads: usize,
    /// The graph holds 16-bit floating point.
    pub half: bool,
}

/// A session that runs batches of token rows. Not shared: each worker has its own.
pub(super) struct Runner {
    session: Session,
    signature: Arc<Signature>,
}

/// What a run gave, still in ONNX Runtime's memory.
pub(super) struct Outputs<'a> {
    /// [rows * length, V], natural logs.
    pub log_probs: &'a [f32],
    /// As the inputs, in the order of the signature.
    pub states: &'a [&'a [f32]],
}

impl Runner {
    /// Loads the model at `path`. [`Device::Auto`] must have been decided before.
    ///
    /// # Errors
    /// If there is no ONNX Runtime or it refuses the model or the device.
    pub fn new(path: &Path, signature: &Arc<Signature>, plan: Plan) -> Result<Self> {
        let environment = runtime::environment()?;
        let session = session(environment, path, plan).map_err(|e| match plan.device {
            Device::Cuda(n) => Error::Runtime(format!(
                "CUDA device {n} cannot be used ({}); install onnxruntime-gpu with CUDA and cuDNN, or use --device cpu",
                one_line(e.message())
            )),
            _ => Error::model(path, format!("ONNX Runtime cannot load it: {}", one_line(e.message()))),
        })?;
        Ok(Self { session, signature: signature.clone() })
    }

    /// Feeds `rows` rows of `length` tokens from `states` (shaped as the signature says) and
    /// hands what comes out to `read`.
    ///
    /// # Errors
    /// The reason, if the run fails or gives another shape than promised.
    pub fn run<T>(
        &mut self,
        tokens: &[i64],
        rows: usize,
        length: usize,
        states: &[Vec<f32>],
        read: impl FnOnce(Outputs<'_>) -> T,
    ) -> Result<T, String> {
        let signature = &*self.signature;
        let fail = |e: ort::Error| one_line(e.message());
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(1 + states.len());
        let ids = TensorRef::from_array_view(([rows as i64, length as i64], tokens)).map_err(fail)?;
        inputs.push((signature.tokens.as_str().into(), ids.into()));
        for (state, values) in signature.states.iter().zip(states) {
            let tensor = TensorRef::from_array_view((state.shape(rows), &values[..])).map_err(fail)?;
            inputs.push((state.input.as_str().into(), tensor.into()));
        }
        if let Some(error) = crate::faults::io("onnx::run") {
            return Err(error.to_string());
        }
        let outputs = self.session.run(inputs).map_err(fail)?;
        let size = signature.vocab_size as i64;
        let log_probs =
            extract(outputs.get(&signature.output), &signature.output, &[rows as i64, length as i64, size])?;
        let states: Vec<&[f32]> = signature
            .states
            .iter()
            .map(|state| extract(outputs.get(&state.output), &state.output, &state.shape(rows)))
            .collect::<Result<_, _>>()?;
        Ok(read(Outputs { log_probs, states: &states }))
    }
}

fn session(environment: &ort::environment::Environment, path: &Path, plan: Plan) -> ort::Result<Session> {
    options(environment, plan)?.commit_from_file(path)
}

fn options(
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
            .with_tf32(false)
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
            .build()
            .error_on_failure(),
    };
    Ok(builder.with_execution_providers([provider])?)
}

fn extract<'a>(value: Option<&'a DynValue>, name: &str, expected: &[i64]) -> Result<&'a [f32], String> {
    let value = value.ok_or_else(|| format!("gave no {name}"))?;
    let (shape, values) = value.try_extract_tensor::<f32>().map_err(|e| one_line(e.message()))?;
    if shape[..] != *expected || values.len() as i64 != expected.iter().product::<i64>() {
        return Err(format!("gave {name} of shape {:?}, expected {expected:?}", &shape[..]));
    }
    Ok(values)
}

/// Messages of ONNX Runtime may have many lines.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
            ("auto", Device::Auto),
        ] {
            assert_eq!(text.parse::<Device>().unwrap(), device);
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:1", "cuda:99999999999"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
