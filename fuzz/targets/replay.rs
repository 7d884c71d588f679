//! libFuzzer's way into `fuzz::replay`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::replay(data));
