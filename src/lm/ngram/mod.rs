//! The n-gram engine.
