//! States in the device's memory, and the two small graphs that move them.
//!
//! Nothing outside ONNX Runtime can copy to and from a GPU here, so that whatever is not a step is a run of
//! a graph too: one takes places out (to grow, and to save a state), one puts a state in (to load one).

use std::cell::RefCell;

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::Tensor;
use prost::Message;

use super::super::device::Device;
use super::super::graph::{Dtype, Edit, apply};
use super::super::session::{Plan, one_line, options};
use super::super::signature::State;
use super::super::{proto, runtime};
use super::graph::{arena, kept, places};
use super::nodes::Nodes;

/// All states of one worker, a tensor for each state of the model. Place [`ZEROS`] holds the model's start,
/// [`WASTE`] what nobody wants; the others are the scheduler's.
pub(super) struct Arena {
    states: Vec<State>,
    tensors: Vec<Tensor<f32>>,
    count: usize,
    plan: Plan,
    allocator: Allocator,
    // Saving leaves the arena as it is, but a session is changed by every run.
    take: RefCell<Mover>,
    /// Made when a state is first loaded.
    put: Option<Mover>,
}

/// A small graph.
struct Mover {
    binding: IoBinding,
    session: Session,
}

/// The place of zeros.
pub(super) const ZEROS: usize = 0;
/// Where rows write that only fill a batch up.
pub(super) const WASTE: usize = 1;
/// The first place of a history.
pub(super) const FIRST: usize = 2;

impl Arena {
    /// An arena without a place.
    ///
    /// # Errors
    /// If the device cannot be used.
    pub fn new(states: &[State], plan: Plan) -> Result<Self, String> {
        let take = Mover::new(&taking(states), plan)?;
        let allocator = memory(plan.device).and_then(|memory| Allocator::new(&take.session, memory));
        Ok(Self {
            states: states.to_vec(),
            tensors: Vec::new(),
            count: 0,
            plan,
            allocator: allocator.map_err(text)?,
            take: RefCell::new(take),
            put: None,
        })
    }

    /// Places there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Makes the arena larger, to `count` places; new ones hold zeros.
    ///
    /// # Errors
    /// If the device has no memory for it beside the old one; that then stays.
    pub fn grow(&mut self, count: usize) -> Result<(), String> {
        let make = |state: &State| Tensor::<f32>::new(&self.allocator, shape(state, count));
        let mut larger = self.states.iter().map(make).collect::<ort::Result<Vec<_>>>().map_err(text)?;
        let seed = |state: &State| Tensor::from_array((shape(state, 1), vec![0f32; state.size()]));
        let seeds: Vec<Tensor<f32>> = match self.count {
            0 => self.states.iter().map(seed).collect::<ort::Result<_>>().map_err(text)?,
            _ => Vec::new(),
        };
        let old = if self.count == 0 { &seeds } else { &self.tensors };
        let from: Vec<i64> =
            (0..self.count).chain(std::iter::repeat(ZEROS)).map(|at| at as i64).take(count).collect();
        let mover = self.take.get_mut();
        let result = (|| {
            mover.bind(old, from)?;
            for (number, tensor) in larger.iter_mut().enumerate() {
                mover.binding.bind_output(kept(number), tensor)?;
            }
            mover.run(|_| ())
        })();
        mover.binding.clear();
        result.map_err(text)?;
        (self.tensors, self.count) = (larger, count);
        Ok(())
    }

    /// Binds the arena to a step's graph: what is scattered goes where it was gathered from.
    ///
    /// # Errors
    /// If ONNX Runtime refuses.
    pub fn bind(&mut self, binding: &mut IoBinding) -> ort::Result<()> {
        for (number, tensor) in self.tensors.iter_mut().enumerate() {
            binding.bind_input(arena(number), tensor)?;
            binding.bind_output(kept(number), tensor)?;
        }
        Ok(())
    }

    /// The state at a place, its tensors one after the other.
    ///
    /// # Errors
    /// If the copy fails.
    pub fn save(&self, place: usize) -> Result<Vec<Vec<f32>>, String> {
        let mut mover = self.take.borrow_mut();
        let host = MemoryInfo::default();
        let result = (|| {
            mover.bind(&self.tensors, vec![place as i64])?;
            for number in 0..self.states.len() {
                mover.binding.bind_output_to_device(kept(number), &host)?;
            }
            mover.run(|outputs| {
                let values = (0..self.states.len()).map(|number| {
                    let (_, values) = outputs[&*kept(number)].try_extract_tensor::<f32>()?;
                    Ok(values.to_vec())
                });
                values.collect::<ort::Result<Vec<_>>>()
            })?
        })();
        mover.binding.clear();
        result.map_err(text)
    }

    /// Puts a state into a place.
    ///
    /// # Errors
    /// If the copy fails.
    pub fn load(&mut self, place: usize, values: &[Vec<f32>]) -> Result<(), String> {
        let mut mover = match self.put.take() {
            Some(mover) => mover,
            None => Mover::new(&putting(&self.states), self.plan)?,
        };
        let result = (|| {
            for (number, (state, values)) in self.states.iter().zip(values).enumerate() {
                let tensor = Tensor::from_array((shape(state, 1), values.clone()))?;
                mover.binding.bind_input(given(number), &tensor)?;
            }
            mover.bind(&self.tensors, vec![place as i64])?;
            for (number, tensor) in self.tensors.iter_mut().enumerate() {
                mover.binding.bind_output(kept(number), tensor)?;
            }
            mover.run(|_| ())
        })();
        mover.binding.clear();
        self.put = Some(mover);
        result.map_err(text)
    }
}

impl Mover {
    fn new(edits: &[Edit], plan: Plan) -> Result<Self, String> {
        let opset = proto::Opset { domain: String::new(), version: OPSET };
        let graph = proto::GraphProto { name: "states".into(), ..proto::GraphProto::default() };
        let empty = proto::Model {
            ir_version: 8,
            graph: Some(graph),
            opset_import: vec![opset],
            ..proto::Model::default()
        };
        let model = apply(&empty.encode_to_vec(), edits)?;
        let environment = runtime::environment().map_err(|error| error.to_string())?;
        let plan = Plan { half: false, ..plan };
        let session = options(environment, plan).and_then(|mut builder| builder.commit_from_memory(&model));
        let session = session.map_err(text)?;
        Ok(Self { binding: session.create_binding().map_err(text)?, session })
    }

    fn bind(&mut self, arenas: &[Tensor<f32>], at: Vec<i64>) -> ort::Result<()> {
        for (number, tensor) in arenas.iter().enumerate() {
            self.binding.bind_input(arena(number), tensor)?;
        }
        self.binding.bind_input(PLACES, &Tensor::from_array(([at.len()], at))?)
    }

    fn run<T>(&mut self, read: impl FnOnce(ort::session::SessionOutputs<'_>) -> T) -> ort::Result<T> {
        Ok(read(self.session.run_binding(&self.binding)?))
    }
}

/// The graph that takes places out.
fn taking(states: &[State]) -> Vec<Edit> {
    let mut nodes = Nodes::new(OPSET);
    nodes.input(PLACES, Dtype::INT64, &[None]);
    for (number, state) in states.iter().enumerate() {
        let (from, to, axis) = (arena(number), kept(number), state.batch);
        nodes.input(&from, Dtype::FLOAT, &places(state, None));
        nodes.then("Gather", &[&from, PLACES], &to, &[("axis", axis as i64)]);
        nodes.output(&to, &places(state, None));
    }
    nodes.edits
}

/// The graph that puts states in.
fn putting(states: &[State]) -> Vec<Edit> {
    let mut nodes = Nodes::new(OPSET);
    nodes.input(PLACES, Dtype::INT64, &[None]);
    for (number, state) in states.iter().enumerate() {
        let (old, new, to) = (arena(number), given(number), kept(number));
        nodes.input(&old, Dtype::FLOAT, &places(state, None));
        nodes.input(&new, Dtype::FLOAT, &places(state, None));
        nodes.scatter(&old, PLACES, &new, &to, state.batch, state.dims.len());
        nodes.output(&to, &places(state, None));
    }
    nodes.edits
}

/// The state that is put in.
fn given(number: usize) -> String {
    format!("secondpass.given_{number}")
}

fn shape(state: &State, count: usize) -> Vec<i64> {
    places(state, Some(count)).into_iter().map(|size| size.unwrap_or(count) as i64).collect()
}

/// The memory that arenas lie in.
fn memory(device: Device) -> ort::Result<MemoryInfo<'static>> {
    match device {
        Device::Cpu | Device::Auto => Ok(MemoryInfo::default()),
        Device::Cuda(number) => MemoryInfo::new(
            AllocationDevice::CUDA,
            i32::try_from(number).unwrap_or(i32::MAX),
            AllocatorType::Device,
            MemoryType::Default,
        ),
    }
}

pub(super) fn text(error: ort::Error) -> String {
    one_line(error.message())
}

const PLACES: &str = "secondpass.places";
/// Of the standard operators; every ONNX Runtime that is used has it.
const OPSET: i64 = 13;
