//! Rewritten graphs, by themselves.
