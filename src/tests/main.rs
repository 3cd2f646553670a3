//! The promises of `reference/reliability.md`, kept by the program as people run it. Small numbers
//! by default; `SECONDPASS_FULL=1` runs the long forms.

mod bytes;
mod carry;
mod commands;
mod data;
mod flags;
mod formula;
mod harness;
mod kill;
mod korean;
mod limits;
mod memory;
mod models;
mod numbers;
mod order;
mod pipes;
mod runtime;
mod signals;
mod skip;
mod system;
