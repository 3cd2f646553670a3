//! KenLM binaries of type 1.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secondpass_fuzz::kenlm(1, data));
