//! libFuzzer's way into `fuzz::letter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::letter(data));
