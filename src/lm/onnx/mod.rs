//! Neural models through ONNX Runtime.
