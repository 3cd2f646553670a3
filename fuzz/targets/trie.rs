//! KenLM binaries of type 2.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secondpass_fuzz::kenlm(2, data));
