//! Neural models through ONNX Runtime.

pub mod graph;
mod proto;
pub mod signature;
