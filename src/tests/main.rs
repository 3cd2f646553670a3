//! The promises of `reference/reliability.md`, kept by the program as people run it. Small numbers
//! by default; `SECONDPASS_FULL=1` runs the long forms.

mod arithmetic;
mod build;
mod bytes;
mod carry;
mod commands;
mod confirm;
mod data;
mod evaluate;
mod flags;
mod formats;
mod formula;
mod guide;
mod harness;
mod hostile;
mod kill;
mod korean;
mod limits;
mod live;
mod memory;
mod models;
mod ngram;
mod numbers;
mod onnx;
mod order;
mod pipes;
mod refusals;
mod runtime;
mod signals;
mod skip;
mod system;
mod train;
