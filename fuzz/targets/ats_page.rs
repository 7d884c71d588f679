//! libFuzzer's way into `fuzz::ats_page`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::ats_page(data));
