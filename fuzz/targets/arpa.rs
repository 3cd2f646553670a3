//! ARPA text, packed or not, and whatever else a file may be.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secondpass_fuzz::any(data.to_vec()));
