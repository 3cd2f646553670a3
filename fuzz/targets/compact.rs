//! Compact files of both forms.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| secondpass_fuzz::compact(data));
