//! libFuzzer's way into `fuzz::dates`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::dates(data));
