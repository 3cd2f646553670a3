//! KenLM binaries of type 5.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secondpass_fuzz::kenlm(5, data));
