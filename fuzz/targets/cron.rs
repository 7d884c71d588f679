//! libFuzzer's way into `fuzz::cron`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::cron(data));
