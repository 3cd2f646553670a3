//! KenLM binaries of type 3.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secondpass_fuzz::kenlm(3, data));
