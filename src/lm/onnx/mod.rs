//! Neural models through ONNX Runtime.

pub mod graph;
pub mod install;
mod proto;
pub mod runtime;
pub mod signature;
