//! KenLM binaries of type 4.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secondpass_fuzz::kenlm(4, data));
