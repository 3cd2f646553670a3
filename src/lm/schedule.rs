//! One scheduler for all step kernels.
